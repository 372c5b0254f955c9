"""Packets of many kinds, by plain sockets: which of them cross a link, and how long each takes. No code of ours.

kinds_tool.py listen ADDRESS                  print {kind: [one-way ms, …]} of all that has arrived until `stop`
kinds_tool.py stop                            say so on the same node
kinds_tool.py send ADDRESS PEER PEER_MAC N    send N packets of every kind to PEER; ADDRESS is this node's own

Every packet holds its kind and when it was sent. `from a stranger` has a source address that no node has, and
`for another node` is for an Ethernet address that nobody has, which a bridge floods. Packet sockets for one protocol
get a frame behind the ingress hook of its device, so that they see what an ordinary protocol would.
"""

import contextlib
import json
import selectors
import socket
import struct
import sys
import time

DEVICE, PORT, GROUP, GROUP6 = "mesh0", 9900, "239.7.7.7", "ff02::7777"
ETHERTYPES = {"ARP": 0x0806, "LLDP": 0x88CC, "experimental ethertype": 0x88B5, "MPLS": 0x8847}
PROTOCOLS = {"ICMP": 1, "GRE": 47, "experimental protocol": 253}
IPV4 = {"UDP", "TCP", "multicast", "broadcast", "subnet broadcast", "fragments", *PROTOCOLS}
OTHERS = {"UDP over IPv6", "multicast over IPv6", "VLAN", "from a stranger", "for another node", *ETHERTYPES}


def stamped(kind, size=0):
    return f"<packet {kind}|{time.monotonic_ns()}>".encode().ljust(size, b".")


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def ipv4(source, target, protocol, payload):
    head = struct.pack(
        "!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 1, 0, 64, protocol, 0, socket.inet_aton(source),
        socket.inet_aton(target),
    )  # fmt: skip
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def udp(payload):
    return struct.pack("!HHHH", PORT, PORT, 8 + len(payload), 0) + payload


def listen(address):
    waiting, found, index = selectors.DefaultSelector(), {}, socket.if_nametoindex(DEVICE)
    v4 = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    v4.bind(("", PORT))
    member = socket.inet_aton(GROUP) + socket.inet_aton(address)
    v4.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
    v6 = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    v6.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    v6.bind(("::", PORT))
    v6.setsockopt(
        socket.IPPROTO_IPV6,
        socket.IPV6_JOIN_GROUP,
        socket.inet_pton(socket.AF_INET6, GROUP6) + struct.pack("=I", index),
    )
    server = socket.create_server((address, PORT))
    sockets = [v4, v6, server]
    sockets += [socket.socket(socket.AF_INET, socket.SOCK_RAW, number) for number in PROTOCOLS.values()]
    for number in (*ETHERTYPES.values(), 0x8100, 0x0800):
        packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(number))
        packets.bind((DEVICE, number))
        sockets.append(packets)
    for each in sockets:
        waiting.register(each, selectors.EVENT_READ)
    print("ready", flush=True)
    stopped = False
    while not stopped:
        for key, _ in waiting.select():
            if key.fileobj is server:
                waiting.register(server.accept()[0], selectors.EVENT_READ)
                continue
            data, now = key.fileobj.recv(65536), time.monotonic_ns()
            stopped = stopped or data == b"stop"
            if not data:
                waiting.unregister(key.fileobj)
            for part in data.split(b"<packet ")[1:]:
                kind, _, sent = part.partition(b">")[0].decode().partition("|")
                seen = key.fileobj.family == socket.AF_PACKET
                # What an ordinary socket gets must not be judged by a packet socket, which gets it earlier.
                if seen != (kind in ("VLAN", "for another node", *ETHERTYPES)):
                    continue
                found.setdefault(kind, []).append((now - int(sent)) / 1e6)
    for each in sockets:  # before the answer: the next one to listen begins while this process is still ending
        each.close()
    print(json.dumps(found), flush=True)


def send(address, peer, peer_mac, count):
    mac = bytes.fromhex(peer_mac.replace(":", ""))
    index = socket.if_nametoindex(DEVICE)
    frames = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    frames.bind((DEVICE, 0))
    own = frames.getsockname()[4]
    v4 = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    v4.bind((address, 0))
    v4.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    v4.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, DEVICE.encode())
    v4.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(address))
    v6 = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    raw = {kind: socket.socket(socket.AF_INET, socket.SOCK_RAW, number) for kind, number in PROTOCOLS.items()}
    eui = bytes([mac[0] ^ 2, *mac[1:3], 0xFF, 0xFE, *mac[3:]])
    link_local = socket.inet_ntop(socket.AF_INET6, bytes.fromhex("fe80000000000000") + eui)
    try:
        stream = socket.create_connection((peer, PORT), 1)
    except OSError:
        stream = None

    def frame(kind, ethertype, payload=None, to=mac):
        frames.send(to + own + struct.pack("!H", ethertype) + (payload or stamped(kind, 60)))

    for _ in range(count):
        v4.sendto(stamped("UDP"), (peer, PORT))
        v4.sendto(stamped("fragments", 4000), (peer, PORT))
        v4.sendto(stamped("multicast"), (GROUP, PORT))
        v4.sendto(stamped("broadcast"), ("255.255.255.255", PORT))
        v4.sendto(stamped("subnet broadcast"), (peer.rsplit(".", 2)[0] + ".255.255", PORT))
        for kind, sock in raw.items():
            head = struct.pack("!BBHI", 0, 0, 0, 0) if kind == "ICMP" else b""
            sock.sendto(head + stamped(kind), (peer, 0))
        for kind, ethertype in ETHERTYPES.items():
            frame(kind, ethertype)
        for kind, host in (("UDP over IPv6", link_local), ("multicast over IPv6", GROUP6)):
            with contextlib.suppress(OSError):  # no IPv6 here
                v6.sendto(stamped(kind), (host, PORT, 0, index))
        frame("VLAN", 0x8100, struct.pack("!HH", 5, 0x0800) + ipv4(address, peer, 17, udp(stamped("VLAN"))))
        stranger = address.rsplit(".", 2)[0] + ".99.99"
        frame("from a stranger", 0x0800, ipv4(stranger, peer, 17, udp(stamped("from a stranger"))))
        other = bytes.fromhex("02deadbeef00")
        frame("for another node", 0x0800, ipv4(address, peer, 17, udp(stamped("for another node"))), other)
        if stream is not None:
            stream.send(stamped("TCP"))
        time.sleep(0.01)


if __name__ == "__main__":
    if sys.argv[1] == "listen":
        listen(sys.argv[2])
    elif sys.argv[1] == "stop":
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"stop", ("127.0.0.1", PORT))
    else:
        send(*sys.argv[2:5], int(sys.argv[5]))
