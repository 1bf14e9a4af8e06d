# Sourced where there is a kernel with soft-RoCE: two ends and the cable between them.

# A pair of interfaces in one kernel. Both addresses are local, and yet what goes from one to the
# other must take the cable, for rdma_cm finds its device by ordinary routing: so the rule that lets
# the table `local` win comes after rules that send each address the other way. Both ends stay in the
# initial network namespace, since soft-RoCE's UDP socket exists only there.
pair_up() {
    ip link add veth0 mtu 4200 type veth peer name veth1 mtu 4200 || return 1
    local end host
    for end in 0 1; do
        echo 1 >/proc/sys/net/ipv4/conf/veth$end/accept_local
        echo 0 >/proc/sys/net/ipv4/conf/veth$end/rp_filter
        # Further addresses for clusters, whose nodes have one each: end E has 10.77.E+1.1 to .250.
        {
            echo "address add 10.77.0.$((end + 1))/24 dev veth$end"
            for host in {1..250}; do echo "address add 10.77.$((end + 1)).$host/24 dev veth$end"; done
            echo "link set veth$end up"
        } | ip -batch - || return 1
    done
    # The strictest of the interface's filter and this one counts.
    rp_filter_all=$(cat /proc/sys/net/ipv4/conf/all/rp_filter)
    echo 0 >/proc/sys/net/ipv4/conf/all/rp_filter
    {
        echo "route add 10.77.0.2/32 dev veth0 src 10.77.0.1 table 7702"
        echo "route add 10.77.2.0/24 dev veth0 src 10.77.0.1 table 7702"
        echo "route add 10.77.0.1/32 dev veth1 src 10.77.0.2 table 7701"
        echo "route add 10.77.1.0/24 dev veth1 src 10.77.0.2 table 7701"
        echo "rule add pref 10 iif veth0 lookup local"
        echo "rule add pref 11 iif veth1 lookup local"
        for here in 10.77.0.1 10.77.1.0/24; do
            # Within one end: no cable.
            for near in 10.77.0.1 10.77.1.0/24; do echo "rule add pref 20 from $here to $near lookup local"; done
            # The kernel checks the way back to whoever connects without an incoming interface.
            for there in 10.77.0.2 10.77.2.0/24; do
                echo "rule add pref 30 from $here to $there lookup 7702"
                echo "rule add pref 31 from $there to $here lookup 7701"
            done
        done
        for there in 10.77.0.2 10.77.2.0/24; do
            for near in 10.77.0.2 10.77.2.0/24; do echo "rule add pref 21 from $there to $near lookup local"; done
            echo "rule add pref 40 iif lo to $there lookup 7702"
        done
        for here in 10.77.0.1 10.77.1.0/24; do echo "rule add pref 41 iif lo to $here lookup 7701"; done
        echo "rule add pref 100 lookup local"
        echo "rule delete pref 0 lookup local"
    } | ip -batch -
}

pair_down() {
    ip rule add pref 0 lookup local 2>/dev/null
    local pref
    for pref in 10 11 20 21 30 31 40 41 100; do
        while ip rule delete pref $pref 2>/dev/null; do :; done
    done
    [[ -z ${rp_filter_all:-} ]] || echo "$rp_filter_all" >/proc/sys/net/ipv4/conf/all/rp_filter
    ip link delete veth0 2>/dev/null
    true
}

# rxe_up DEVICE INTERFACE, and waits until its port is active and every IPv4 address has its GID.
rxe_up() {
    rdma link add "$1" type rxe netdev "$2" || return 1
    local try count
    # Index 0 is the link-local one; the others come in order, from the kernel's work queue.
    count=$(ip -4 -oneline address show dev "$2" | wc -l)
    for try in {1..500}; do
        if grep -q ACTIVE "/sys/class/infiniband/$1/ports/1/state" 2>/dev/null &&
            grep -q '0000:0000:0000:0000:0000:ffff:' "/sys/class/infiniband/$1/ports/1/gids/$count" 2>/dev/null; then
            return 0
        fi
        sleep 0.02
    done
    say "$1 did not become active with a GID of its IPv4 addresses"
    return 1
}
