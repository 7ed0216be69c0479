"""The reader of packetdrill scripts, and the packets it is compared by."""

import struct
import unittest

import pd_packet
from pd_script import ELLIPSIS, Call, IcmpPacket, ScriptError, TcpPacket, UdpPacket, parse
from pd_syscalls import tcp_info


def one(text):
    """The only event of a script."""
    (event,) = parse(text).events
    return event


class Times(unittest.TestCase):
    def test_forms(self):
        for text, kind, start, end, blocking in [
                ("0 ", "absolute", 0, None, False), ("1.5 ", "absolute", 1.5, None, False), ("+.01 ", "relative", 0.01, None, False),
                ("+0...0.2 ", "relative", 0, 0.2, True), (".1...1.5 ", "absolute", 0.1, 1.5, True),
                ("+.2~+.3 ", "relative", 0.2, 0.3, False), ("* ", "any", 0, None, False), ("+1e-3 ", "relative", 0.001, None, False)]:
            when = one(text + "close(3) = 0").when
            self.assertEqual((when.kind, when.start, when.end, when.blocking), (kind, start, end, blocking), text)


class Packets(unittest.TestCase):
    def test_segment(self):
        event = one("+0 > SEW. 0:0(0) ack 1 win 29200 <mss 1460,sackOK,TS val 100 ecr 700,nop,wscale 8>")
        self.assertEqual(event.kind, "out")
        self.assertEqual(event.body, TcpPacket(".ESW", 0, 0, 1, 29200, [
            ("mss", 1460), ("sackOK",), ("TS", 100, 700), ("nop",), ("wscale", 8)]))

    def test_sack_urgent_and_ecn(self):
        body = one("+0 < [ect0] PU. 1:11(10) ack 5 win 7 urg 3 <nop,nop,sack 3:4 1:2>").body
        self.assertEqual(body, TcpPacket(".PU", 1, 10, 5, 7, [("nop",), ("nop",), ("sack", (3, 4), (1, 2))], 3, "ect0"))

    def test_any_options(self):
        self.assertTrue(one("+0 > . 1:1(0) ack 1 <...>").body.any_options)
        self.assertEqual(one("+0 > R 1:1(0)").body.options, [])

    def test_others(self):
        self.assertEqual(one("+0 < udp (100)").body, UdpPacket(100))
        self.assertEqual(one("+0 < [1:1001(1000)] icmp unreachable frag_needed mtu 600").body, IcmpPacket(3, 4, 600, 1, 1000))
        self.assertEqual(one("+0 < [udp (10)] icmp unreachable port_unreachable").body, IcmpPacket(3, 3, 0, None, 0, 10))

    def test_refused(self):
        for text in ("+0 > . 1:10(10) ack 1", "+0 > . 1:1(0)", "+0 > S 0:0(0) ack 1", "+0 < . 1:1(0) ack 1 <...>",
                     "+0 > . 1:1(0) ack 1 <mss>", "+0 > . 1:1(0) ack 1 <md5>", "+0 < icmp nonsense", "+0 > something"):
            with self.assertRaises(ScriptError, msg=text):
                parse(text)


class Calls(unittest.TestCase):
    def test_plain(self):
        self.assertEqual(one("+0 socket(..., SOCK_STREAM|SOCK_NONBLOCK, IPPROTO_TCP) = 3").body,
                         Call("socket", [ELLIPSIS, 1 | 0o4000, 6], 3, None))

    def test_errno_and_remark(self):
        body = one("+0 connect(3, ..., ...) = -1 EINPROGRESS (Operation now in progress)").body
        self.assertEqual((body.result, body.errno), (-1, "EINPROGRESS"))

    def test_structures(self):
        body = one("+0 poll([{fd=4, events=POLLIN|POLLOUT, revents=0}], 1, 0) = 0").body
        self.assertEqual(body.arguments[0], [{"fd": 4, "events": 5, "revents": 0}])
        body = one("+0 sendmsg(4, {msg_name(...)=..., msg_iov(2)=[{..., 10}, {..., 20}], msg_flags=0}, 0) = 30").body
        self.assertEqual(body.arguments[1]["msg_iov"], [[ELLIPSIS, 10], [ELLIPSIS, 20]])
        self.assertEqual(one('+0 setsockopt(4, SOL_TCP, TCP_CONGESTION, "cubic", 5) = 0').body.arguments[3], "cubic")

    def test_continued(self):
        self.assertEqual(one("+0 setsockopt(4, SOL_TCP,\n      TCP_NODELAY, [1], 4) = 0").body.arguments, [4, 6, 1, [1], 4])

    def test_refused(self):
        for text in ("+0 close(3)", "+0 close(UNHEARD_OF) = 0", "+0 close(3) = -1 ENOSUCH", "+0 close(3) = 0 and more", "+0 close 3"):
            with self.assertRaises(ScriptError, msg=text):
                parse(text)


class Whole(unittest.TestCase):
    def test_parts(self):
        script = parse("""// a remark
--tolerance_usecs=10000
`sysctl -q a=1
 sysctl -q b=2`
0 close(3) = 0 // behind
/* more
   lines */
+0 %{
assert True
}%
""")
        self.assertEqual(script.options, {"tolerance_usecs": "10000"})
        self.assertEqual([(e.line, e.kind) for e in script.events], [(3, "shell"), (5, "call"), (8, "code")])
        self.assertEqual(script.events[0].body, "sysctl -q a=1\n sysctl -q b=2")

    def test_line_of_an_error(self):
        with self.assertRaisesRegex(ScriptError, "^2: "):
            parse("0 close(3) = 0\n+0 > nonsense\n")

    def test_without_end(self):
        for text in ("+0 %{ assert True", "`sysctl"):
            with self.assertRaises(ScriptError):
                parse(text)


class Wire(unittest.TestCase):
    ADDRESSES = ("192.168.0.1", "192.0.2.1")
    OPTIONS = [("mss", 1460), ("nop",), ("wscale", 7), ("sackOK",), ("TS", 1, 2), ("sack", (1, 2))]

    def packet(self, payload=b"x" * 10, options=None):
        body = pd_packet.tcp((1, 2), 5, 6, ".P", 7, options or [], payload, 0, self.ADDRESSES)
        return pd_packet.ipv4(*self.ADDRESSES, pd_packet.TCP, body)

    def test_there_and_back(self):
        p = pd_packet.Outbound(self.packet(options=self.OPTIONS[:5]), 1500)
        self.assertEqual((p.ports, p.seq, p.ack, p.flags, p.window, p.payload), ((1, 2), 5, 6, ".P", 7, b"x" * 10))
        self.assertEqual(p.options[:5], self.OPTIONS[:5])
        self.assertEqual(pd_packet.parse_options(pd_packet.emit_options(self.OPTIONS[5:]))[0], ("sack", (1, 2)))

    def test_every_flipped_bit_of_the_segment_is_found(self):
        good = self.packet()
        for at in range(20, len(good)):
            bad = bytearray(good)
            bad[at] ^= 1
            with self.assertRaises(pd_packet.PacketError, msg=at):
                pd_packet.Outbound(bytes(bad), 1500)

    def test_lengths(self):
        with self.assertRaises(pd_packet.PacketError):
            pd_packet.Outbound(self.packet(b"x" * 1461), 1500)
        with self.assertRaises(pd_packet.PacketError):
            pd_packet.Outbound(self.packet() + b"x", 1500)
        with self.assertRaises(pd_packet.PacketError):
            pd_packet.parse_options(b"\x02\x05\x00")

    def test_info_layout(self):
        """The kernel's header: offsets of some members of struct tcp_info."""
        data = bytearray(240)
        for name, offset, letter in [("rtt", 68, "I"), ("snd_cwnd", 80, "I"), ("total_retrans", 100, "I"), ("bytes_acked", 120, "Q"),
                                     ("delivered", 192, "I"), ("snd_wnd", 228, "I")]:
            struct.pack_into("<" + letter, data, offset, offset)
            self.assertEqual(tcp_info(bytes(data))["tcpi_" + name], offset)


if __name__ == "__main__":
    unittest.main()
