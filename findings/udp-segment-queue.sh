#!/usr/bin/env bash
# Linux (seen with 6.18 and iproute2 6.1): htb, bfifo and a device's counters take a packet of UDP_SEGMENT whole.
# One would guess that 20 datagrams sent with one call and UDP_SEGMENT (as QUIC libraries do) meet a traffic shaper as
# 20 sendto() do: what fits the buffer is sent, the rest lost. All are lost or none: 28 kB never fit a buffer of 15 kB.
# tbf in front of the queue splits them. On a link without limit the device counts one header for the 20 frames
# (tx_bytes), the queue one for each. Needs ip, tc and user namespaces, or root.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
cat > send.py <<'PY'
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
if sys.argv[1] == "segments":
    sock.setsockopt(socket.IPPROTO_UDP, 103, 1400)  # UDP_SEGMENT
    sock.sendto(bytes(20 * 1400), ("10.9.0.2", 9))
else:
    for _ in range(20):
        sock.sendto(bytes(1400), ("10.9.0.2", 9))
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
queue() { tc -s qdisc show dev sender | grep -A 1 "^qdisc $1 " | grep -oP "Sent \d+ bytes \d+ pkt \(dropped \d+"; }
shaped() {  # how it is sent, and what stands in front of the token bucket
  tc qdisc del dev sender root 2>/dev/null || true
  local above=root
  if [ "$2" = tbf ]; then
    tc qdisc add dev sender root handle 3: tbf rate 1000gbit burst 1514 limit 1514
    above="parent 3:1"
  fi
  tc qdisc add dev sender $above handle 1: htb default 1
  tc class add dev sender parent 1: classid 1:1 htb rate 1mbit burst 3028 cburst 3028 quantum 1514
  tc qdisc add dev sender parent 1:1 handle 2: bfifo limit 15140
  python3 send.py "$1"
  sleep 1
  queue bfifo
}
echo "one by one:                  $(shaped singly no)"
echo "UDP_SEGMENT:                 $(shaped segments no)"
echo "UDP_SEGMENT, tbf in front:   $(shaped segments tbf)"
[[ $(shaped segments no) == "Sent 0 bytes 0 pkt"* ]]
[[ $(shaped segments tbf) == "Sent 14420 bytes 10 pkt"* ]]
tc qdisc del dev sender root
tc qdisc add dev sender root handle 3: tbf rate 100gbit burst 100k limit 1m
before=$(awk '$1 == "sender:" {print $10}' /proc/net/dev)
python3 send.py segments
device=$(($(awk '$1 == "sender:" {print $10}' /proc/net/dev) - before))
echo "without limit: the device counts $device bytes, the queue: $(queue tbf)"
[ "$device" = 28042 ]
[[ $(queue tbf) == "Sent 28840 bytes 20 pkt"* ]]
SH
unshare --user --map-root-user --net bash inside.sh
