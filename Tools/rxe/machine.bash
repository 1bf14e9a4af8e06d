# Sourced by Tools/rxe-fabric: one or two virtual machines, and what passes between them and here.

# start_machine NODE: sets pid[NODE]. Its directory says what to run.
start_machine() {
    local node=$1 place=$run/$1 arguments name hard=0
    local words="console=ttyS0 quiet panic=-1 mitigations=off nokaslr tsc=reliable clocksource=tsc"
    words+=" nowatchdog random.trust_cpu=on audit=0 8250.nr_uarts=1 rxe.run=$place"
    arguments=(-M q35 -accel "tcg,thread=multi,tb-size=512" -cpu max -smp "$cpus" -m "$memory"
        -nodefaults -no-reboot -display none -kernel "$kernel/vmlinux" -initrd "$kernel/initramfs"
        -append "$words" -serial "file:$place/console" -device virtio-rng-pci
        -fsdev "local,id=host,path=/,security_model=none,readonly=on,multidevs=remap"
        -device "virtio-9p-pci,fsdev=host,mount_tag=host"
        -fsdev "local,id=back,path=$place/back,security_model=none"
        -device "virtio-9p-pci,fsdev=back,mount_tag=back"
        -device virtio-serial-pci
        -chardev "stdio,id=in,signal=off" -chardev "file,id=out,path=$place/out"
        -chardev "file,id=err,path=$place/err" -chardev "file,id=status,path=$place/status"
        -chardev "pipe,id=signal,path=$place/signal")
    for name in in out err status signal; do
        arguments+=(-device "virtserialport,chardev=$name,name=$name")
    done
    if [[ -n $output ]]; then
        arguments+=(-fsdev "local,id=output,path=${output//,/,,},security_model=none,multidevs=remap"
            -device "virtio-9p-pci,fsdev=output,mount_tag=output")
    fi
    if ((nodes == 2)); then
        arguments+=(-netdev "dgram,id=cable,local.type=unix,local.path=$run/cable$node,remote.type=unix,remote.path=$run/cable$((3 - node))"
            -device "virtio-net-pci,netdev=cable,host_mtu=4200,mac=52:54:00:77:00:0$node")
    fi
    # The guest keeps the time; this is for one that hangs, or never gets so far.
    ((limit == 0)) || hard=$((limit + 90))
    # A session of its own: a signal to this command's group is not the machine's. And whatever ends
    # this command, the machine ends with it.
    setpriv --pdeathsig KILL -- setsid timeout --foreground -s KILL "$hard" \
        setpriv --pdeathsig KILL -- qemu-system-x86_64 "${arguments[@]}" \
        <"$place/in" >/dev/null 2>"$place/emulator" &
    pid[node]=$!
}

# write_orders NODE COMMAND...: what the guest reads when it is up.
write_orders() {
    local node=$1 place=$run/$1 fabric=vm
    shift
    ((nodes == 1)) || fabric=vm2
    mkdir "$place" "$place/back" && mkfifo "$place"/{in,out,err,signal.in,signal.out} || return 1
    : >"$place/status"
    printf '%s' "$tools/rxe/guest" >"$place/guest"
    printf '%s\0' "$@" >"$place/command"
    printf '%s' "$PWD" >"$place/directory"
    { env -0; printf 'SLUICE_RXE=%s\0' "$fabric"; } >"$place/environment"
    printf '%s=%q\n' node "$node" nodes "$nodes" ends "$ends" limit "$limit" output "$output" \
        capture "$capture" >"$place/settings"
}

# pass FIFO: its bytes to standard output. Where nobody reads them any more, the command is told.
pass() {
    cat 2>/dev/null || { echo PIPE >&6; cat >/dev/null; }
} <"$1"

# The first signal is the command's; a second one is meant for this.
forward() {
    [[ -z ${signalled:-} ]] || exit "$2"
    signalled=$1
    echo "$1" >&6
}

# run_in_machines COMMAND...: never returns.
run_in_machines() {
    local node status died name passing=() reading=''
    pid=()
    # A socket's path may have 107 bytes, so not in a deep TMPDIR.
    run=$(mktemp -d /tmp/sluice-rxe.XXXXXX) || fail "/tmp takes no directory"
    clean() {
        local one
        for one in "${pid[@]}" $reading; do kill -KILL "$one" 2>/dev/null; done
        rm -rf "$run"
    }
    trap clean EXIT
    { exec 7<&0; } 2>/dev/null || exec 7</dev/null
    for ((node = 1; node <= nodes; node++)); do
        if ((node == 1)); then write_orders 1 "$@"; else write_orders "$node" true; fi ||
            fail "$run cannot be written"
    done
    exec 6<>"$run/1/signal.in"
    trap 'forward HUP 129' HUP
    trap 'forward INT 130' INT
    trap 'forward TERM 143' TERM
    # Children of a script that is no terminal's shell ignore INT; what is passed on ends by itself.
    for ((node = 1; node <= nodes; node++)); do
        pass "$run/$node/out" & passing+=($!)
        pass "$run/$node/err" >&2 & passing+=($!)
        start_machine "$node"
        if ((node == 1)); then
            cat <&7 >"$run/1/in" 2>/dev/null &
            reading=$!
        else
            : >"$run/$node/in" &
        fi
    done
    while wait "${pid[1]}"; died=$?; kill -0 "${pid[1]}" 2>/dev/null; do :; done
    if ((nodes == 2)); then kill -KILL "${pid[2]}" 2>/dev/null; wait "${pid[2]}" 2>/dev/null; fi
    # A reader whose machine never opened the other end would wait for ever.
    for ((node = 1; node <= nodes; node++)); do
        for name in out err; do : 1<>"$run/$node/$name"; done
    done
    wait "${passing[@]}" 2>/dev/null
    if [[ -n $capture && -f $run/1/back/capture ]]; then
        cp "$run/1/back/capture" "$capture" || say "rxe-fabric: $capture could not be written"
    fi
    status=$(<"$run/1/status")
    if [[ $status =~ ^[0-9]+$ ]]; then exit "$status"; fi
    if ((died == 137 && limit && SECONDS >= limit)); then exit 124; fi
    say "rxe-fabric: the virtual machine ended without a status (its own: $died)"
    tail -n 15 "$run/1/emulator" "$run/1/console" >&2
    exit 125
}
