# Sourced by Tools/rxe-fabric: Debian's kernel and an initial memory disk, made once and kept.

# Loaded in this order. crc32_generic is soft-RoCE's checksum, found by name only when a link is made.
modules=(crc32_generic virtio_pci virtio_console virtio-rng 9pnet_virtio 9p overlay veth virtio_net
    dummy sch_netem rdma_rxe ib_uverbs ib_umad rdma_cm rdma_ucm af_packet)

# As root, or with sudo that asks nothing where nobody can type.
as_root() {
    if ((EUID == 0)); then "$@"; else sudo -n "$@"; fi
}

kernel_package() {
    apt-cache depends linux-image-amd64 2>/dev/null |
        sed -n 's/^ *Depends: \(linux-image-[0-9].*-amd64\)$/\1/p' | head -n 1
}

# Sets `kernel` to a directory with vmlinux and initramfs.
prepare_kernel() {
    local cache=${XDG_CACHE_HOME:-$HOME/.cache}/sluice/rxe recipe
    [[ $(uname -m) == x86_64 ]] || { say "The virtual machine is an x86-64 one; this is $(uname -m)."; return 1; }
    # What goes into the memory disk decides its name: another recipe makes another.
    recipe=$(printf '%s\n' "${modules[@]}" | cat - "$tools/rxe/init" | sha256sum | cut -c 1-12)
    mkdir -p "$cache" || return 1
    kernel=$(find "$cache" -mindepth 1 -maxdepth 1 -name "*-$recipe" | sort -V | tail -n 1)
    [[ -z $kernel ]] || return 0
    # One of several that start at once prepares; the others wait for it.
    (
        flock 9 || exit 1
        [[ -z $(find "$cache" -mindepth 1 -maxdepth 1 -name "*-$recipe") ]] || exit 0
        work=$(mktemp -d "$cache/.work.XXXXXX") || exit 1
        trap 'rm -rf "$work"' EXIT
        unpack_kernel "$work" "$cache" "$recipe"
    ) 9>"$cache/lock" || return 1
    kernel=$(find "$cache" -mindepth 1 -maxdepth 1 -name "*-$recipe" | sort -V | tail -n 1)
    [[ -n $kernel ]]
}

# unpack_kernel WORK CACHE RECIPE
unpack_kernel() {
    local work=$1 package version offset list path
    package=$(kernel_package)
    if [[ -z $package ]] || ! (cd "$work" && fetch "$package"); then
        say "Asking Debian's archive for its list of packages ..."
        as_root apt-get update -qq || return 1
        package=$(kernel_package)
        [[ -n $package ]] || { say "apt knows no linux-image-amd64."; return 1; }
        (cd "$work" && fetch "$package") || return 1
    fi
    version=${package#linux-image-}
    [[ $version == 6.1.* ]] || say "Seen to work with Debian 12's kernel 6.1; this is $version."
    say "Unpacking $package for the virtual machine ..."
    dpkg -x "$work"/linux-image-*.deb "$work/tree" || return 1
    rm "$work"/linux-image-*.deb
    # The bare ELF image starts seconds sooner than one that unpacks itself.
    mkdir "$work/kernel" "$work/disk"
    offset=$(LC_ALL=C grep -aobP '\xFD7zXZ\x00' "$work/tree/boot/vmlinuz-$version" | head -n 1 | cut -d : -f 1)
    [[ -n $offset ]] || { say "No xz stream in $package's vmlinuz."; return 1; }
    tail -c "+$((offset + 1))" "$work/tree/boot/vmlinuz-$version" |
        xz -dc --single-stream >"$work/kernel/vmlinux" 2>/dev/null
    readelf -h "$work/kernel/vmlinux" >/dev/null 2>&1 || { say "$package holds no ELF kernel."; return 1; }

    mkdir -p "$work/disk"/{bin,modules,proc,sys,dev,host,upper,root}
    cp "$(command -v busybox)" "$work/disk/bin/busybox" || return 1
    install -m 755 "$tools/rxe/init" "$work/disk/init" || return 1
    depmod -b "$work/tree" "$version" || return 1
    list=$(for path in "${modules[@]}"; do
        modprobe -d "$work/tree" -S "$version" --show-depends "$path" || exit 1
    done) || { say "A module is missing in $package."; return 1; }
    # A module may be built in; one that several need is loaded once.
    sed -n 's/^insmod \([^ ]*\).*/\1/p' <<<"$list" | awk '!seen[$0]++' |
        while read -r path; do
            cp "$path" "$work/disk/modules/" && basename "$path"
        done >"$work/disk/modules/order" || return 1
    (cd "$work/disk" && find . -print0 | cpio --null -o -H newc -R 0:0 --quiet) >"$work/kernel/initramfs" || return 1
    mv "$work/kernel" "$2/$version-$3"
}

# fetch PACKAGE: its archive, into the working directory.
fetch() {
    # apt drops its privileges for a download only where its own user could write; that is no loss.
    apt-get download -qq -o APT::Sandbox::User=root "$1" >&2
}
