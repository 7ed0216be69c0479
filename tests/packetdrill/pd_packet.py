"""IPv4 packets: built from what a script says, taken apart and checked where the stack sends them."""

import socket
import struct

FLAGS = {"F": 0x01, "S": 0x02, "R": 0x04, "P": 0x08, ".": 0x10, "U": 0x20, "E": 0x40, "W": 0x80}
ECN = {"noecn": 0, "ect1": 1, "ect0": 2, "ce": 3}
TCP, UDP, ICMP = 6, 17, 1


class PacketError(Exception):
    """The stack sent something that is no good packet."""


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def pseudo(source, destination, protocol, size):
    return socket.inet_aton(source) + socket.inet_aton(destination) + struct.pack(">BBH", 0, protocol, size)


def ipv4(source, destination, protocol, payload, tos=0):
    head = struct.pack(">BBHHHBBH", 0x45, tos, 20 + len(payload), 0, 0x4000, 255, protocol, 0)
    head += socket.inet_aton(source) + socket.inet_aton(destination)
    return head[:10] + struct.pack(">H", checksum(head)) + head[12:] + payload


def emit_options(options):
    """Bytes of [(name, ...)], padded with EOL to words."""
    out = b""
    for name, *values in options:
        match name:
            case "mss":
                out += struct.pack(">BBH", 2, 4, values[0])
            case "wscale":
                out += struct.pack(">BBB", 3, 3, values[0])
            case "sackOK":
                out += b"\x04\x02"
            case "nop":
                out += b"\x01"
            case "eol":
                out += b"\x00"
            case "TS":
                out += struct.pack(">BBII", 8, 10, values[0] & 0xFFFFFFFF, values[1] & 0xFFFFFFFF)
            case "FO":
                out += struct.pack(">BB", 34, 2 + len(values[0]) // 2) + bytes.fromhex(values[0])
            case "sack":
                out += struct.pack(">BB", 5, 2 + 8 * len(values))
                out += b"".join(struct.pack(">II", a & 0xFFFFFFFF, b & 0xFFFFFFFF) for a, b in values)
    return out + b"\0" * (-len(out) % 4)


def parse_options(data):
    found = []
    at = 0
    while at < len(data):
        kind = data[at]
        if kind in (0, 1):
            found.append(("nop",) if kind else ("eol",))
            at += 1
            continue
        if at + 1 >= len(data) or data[at + 1] < 2 or at + data[at + 1] > len(data):
            raise PacketError(f"an option without its end: {data.hex()}")
        body = data[at + 2:at + data[at + 1]]
        match (kind, len(body)):
            case (2, 2):
                found.append(("mss", struct.unpack(">H", body)[0]))
            case (3, 1):
                found.append(("wscale", body[0]))
            case (4, 0):
                found.append(("sackOK",))
            case (8, 8):
                found.append(("TS", *struct.unpack(">II", body)))
            case (34, _):
                found.append(("FO", body.hex()))
            case (5, n) if n and n % 8 == 0:
                found.append(("sack", *(struct.unpack(">II", body[i:i + 8]) for i in range(0, n, 8))))
            case _:
                found.append((f"kind-{kind}", body.hex()))
        at += data[at + 1]
    return found


def tcp(ports, seq, ack, flags, window, options, payload, urgent, addresses):
    """A TCP segment with its checksum; ports and addresses are (source, destination)."""
    tail = emit_options(options)
    bits = sum(FLAGS[f] for f in flags)
    head = struct.pack(">HHIIBBHHH", *ports, seq & 0xFFFFFFFF, ack & 0xFFFFFFFF, (20 + len(tail)) << 2, bits, window, 0, urgent)
    whole = head + tail + payload
    total = checksum(pseudo(*addresses, TCP, len(whole)) + whole)
    return whole[:16] + struct.pack(">H", total) + whole[18:]


def udp(ports, payload, addresses):
    whole = struct.pack(">HHHH", *ports, 8 + len(payload), 0) + payload
    total = checksum(pseudo(*addresses, UDP, len(whole)) + whole) or 0xFFFF
    return whole[:6] + struct.pack(">H", total) + whole[8:]


def icmp_error(kind, code, mtu, quoted):
    whole = struct.pack(">BBHHH", kind, code, 0, 0, mtu) + quoted
    return whole[:2] + struct.pack(">H", checksum(whole)) + whole[4:]


class Outbound:
    """A packet of the stack, checked to the bit: lengths, checksums, and no fragment."""

    def __init__(self, data, mtu):
        if len(data) < 20 or data[0] != 0x45:
            raise PacketError(f"no IPv4 header of 20 bytes: {data[:20].hex()}")
        self.data = data
        self.tos, total = data[1], struct.unpack(">H", data[2:4])[0]
        fragment = struct.unpack(">H", data[6:8])[0]
        self.dont_fragment = bool(fragment & 0x4000)
        self.ttl, self.protocol = data[8], data[9]
        self.source, self.destination = socket.inet_ntoa(data[12:16]), socket.inet_ntoa(data[16:20])
        if total != len(data) or total > mtu:
            raise PacketError(f"{len(data)} bytes that say they are {total}, where the MTU is {mtu}")
        if checksum(data[:20]) != 0:
            raise PacketError("the IP checksum is wrong")
        if fragment & 0x3FFF:
            raise PacketError("a fragment")
        body = data[20:]
        if self.protocol == TCP:
            self._tcp(body)
        elif self.protocol == UDP:
            self._udp(body)

    def _sum(self, body):
        if checksum(pseudo(self.source, self.destination, self.protocol, len(body)) + body) != 0:
            raise PacketError("the transport checksum is wrong")

    def _tcp(self, body):
        if len(body) < 20 or (body[12] >> 4) * 4 > len(body):
            raise PacketError("a TCP header that is too short")
        self._sum(body)
        head = (body[12] >> 4) * 4
        self.ports = struct.unpack(">HH", body[:4])
        self.seq, self.ack = struct.unpack(">II", body[4:12])
        self.window = struct.unpack(">H", body[14:16])[0]
        self.urgent = struct.unpack(">H", body[18:20])[0]
        self.flags = "".join(sorted(f for f, bit in FLAGS.items() if body[13] & bit))
        self.options = parse_options(body[20:head])
        self.payload = body[head:]

    def _udp(self, body):
        self.ports = struct.unpack(">HH", body[:4])
        if struct.unpack(">H", body[4:6])[0] != len(body):
            raise PacketError("the UDP length is wrong")
        if body[6:8] != b"\0\0":
            self._sum(body)
        self.payload = body[8:]

    def text(self):
        if self.protocol == TCP:
            return (f"{self.flags} {self.seq}({len(self.payload)}) ack {self.ack} win {self.window} urg {self.urgent} "
                    f"{options_text(self.options)}")
        return f"protocol {self.protocol}, {len(self.data)} bytes"


def options_text(options):
    words = {"TS": lambda v: f"TS val {v[0]} ecr {v[1]}", "sack": lambda v: "sack " + " ".join(f"{a}:{b}" for a, b in v)}
    return "<" + ",".join(words.get(o[0], lambda v: " ".join([o[0], *map(str, v)]))(o[1:]) for o in options) + ">"
