# Sourced by Tools/rxe-fabric: the two ends in this machine's own kernel.

# run_on_host COMMAND...: never returns.
run_on_host() {
    source "$tools/rxe/ends.bash"
    ((EUID == 0)) || fail "only root may make interfaces on this machine; --where vm needs no privilege"
    # Addresses, rules and devices are one of a kind: one run at a time.
    exec 8>/run/lock/sluice-rxe && flock 8 || fail "/run/lock/sluice-rxe cannot be locked"
    modprobe -a rdma_rxe ib_uverbs rdma_ucm veth || fail "the kernel modules cannot be loaded"
    local child='' dump='' status
    undo() {
        [[ -z $dump ]] || { kill "$dump"; wait "$dump"; } 2>/dev/null
        rdma link delete rxe0 2>/dev/null
        rdma link delete rxe1 2>/dev/null
        pair_down
    }
    trap undo EXIT
    trap : HUP INT TERM
    pair_up || fail "the interfaces could not be made"
    if [[ $ends == rxe ]]; then
        rxe_up rxe0 veth0 && rxe_up rxe1 veth1 || fail "the RDMA devices could not be made"
    fi
    if [[ -n $capture ]]; then
        tcpdump -q -i veth0 -U -w "$capture" 'udp port 4791' 8>&- 2>/dev/null &
        dump=$!
        sleep 0.5
    fi
    export SLUICE_RXE=host
    if ((limit)); then set -- timeout -k 5 "$limit" "$@"; fi
    setpriv --pdeathsig TERM -- "$@" <&0 8>&- &
    child=$!
    local name
    for name in HUP INT TERM; do
        # shellcheck disable=SC2064
        trap "kill -$name $child 2>/dev/null" $name
    done
    while wait "$child"; status=$?; kill -0 "$child" 2>/dev/null; do :; done
    exit "$status"
}
