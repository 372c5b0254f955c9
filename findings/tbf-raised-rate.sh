#!/usr/bin/env bash
# Linux (seen with 6.18 and iproute2 6.1): packets that wait in a tbf stay there when its rate is raised.
# One would guess that `tc qdisc change` to 100 Mbit/s lets what has waited at 8 bit/s leave at once: a script that
# plays a trace of a mobile network does just that after an outage. tbf set its timer by the old rate, and the change
# does not set it again: the packets stay for minutes, or until any other packet is queued behind them.
# Needs ip, tc, python3 and user namespaces, or root.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
cat > send.py <<'PY'
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range(int(sys.argv[1])):
    sock.sendto(bytes(1000), ("10.9.0.2", 9))
PY
cat > inside.sh <<'SH'
set -euo pipefail
ip link add sender type veth peer name receiver
ip link set sender addrgenmode none
ip link set receiver addrgenmode none
ip address add 10.9.0.1/24 dev sender
ip link set sender up
ip link set receiver up
ip neigh replace 10.9.0.2 lladdr 02:00:00:00:00:02 dev sender
waiting() { tc -s qdisc show dev sender root | grep -oP "backlog \S+ \K\d+(?=p)"; }
tc qdisc add dev sender root tbf rate 8bit burst 1500 limit 100000
python3 send.py 20
at_8=$(waiting)
tc qdisc change dev sender root tbf rate 100mbit burst 1500 limit 100000
sleep 5
raised=$(waiting)
python3 send.py 1
sleep 0.2
after=$(waiting)
echo "waiting at 8 bit/s: $at_8, five seconds after the change to 100 Mbit/s: $raised, after one more packet: $after"
[ "$at_8" -ge 18 ]
[ "$raised" -ge "$((at_8 - 1))" ]
[ "$after" = 0 ]
SH
unshare --user --map-root-user --net bash inside.sh
