"""IPv6 against the kernel over TAP: ping of all sizes, neighbours, routers, unmodified programs in all directions."""

import json
import socket
import struct
import sys

from harness import SystemTest, main, process, workload

HTTP, IPERF, REDIS = 8000, 5201, 6379

# The peer as a router: one advertisement, by hand, since no router program is needed for it.
ADVERTISE = """
import socket, struct, sys
device, source, preference, life, options = sys.argv[1:6]
index = socket.if_nametoindex(device)
message = struct.pack("!BBHBBHII", 134, 0, 0, 64, int(preference) << 3, int(life), 0, 0) + bytes.fromhex(options)
with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as s:
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
    if source:
        s.bind((source, 0, 0, index))
    s.sendto(message, ("ff02::1", 0, 0, index))
"""
LOW, MEDIUM, HIGH = 3, 0, 1


def octets(address):
    return socket.inet_pton(socket.AF_INET6, address)


def prefix_option(prefix):
    return struct.pack("!BBBBIII", 3, 4, 64, 0xc0, 7200, 3600, 0) + octets(prefix)


def route_option(prefix, length):
    return struct.pack("!BBBBI", 24, 3, length, 0, 1800) + octets(prefix)


AUTOMATIC = """\
socket = "{socket}"
cpus = "{cpus}"

[[interface]]
driver = "{driver}"
name = "{tap}"
address = "{addr}"
slaac = true
"""


class Ipv6(SystemTest):
    def six_directions(self):
        netd, peer = workload.on_netd(self.bed, six=True), workload.on_peer(self.bed, six=True)
        share = workload.on_netd(self.bed, "--share", "one", six=True)
        return [(netd, peer), (peer, netd), (netd, netd), (share, share)]

    def each(self, make_command, port, action):
        for server, client in self.six_directions():
            with self.subTest(server=server.name, client=client.name):
                with self.serving(server, make_command(server), port, client):
                    action(server, client)

    def test_ping_of_all_sizes(self):
        for size in (0, 56, 1452, 1453, 4000, 20000, 60000):
            with self.subTest(size=size):
                self.peer.run(["ping", "-6", "-n", "-q", "-c3", "-i0.2", "-W2", "-s", size, self.bed.netd_address6])

    def test_link_local_ping(self):
        lines = json.loads(process.run(self.bed.netctl("addr", "--json")).stdout)["addresses"]
        own = [line["address"].split("/")[0] for line in lines if line["address"].startswith("fe80:") and line["state"] == "valid"]
        self.assertEqual(len(own), 1, lines)
        self.peer.run(["ping", "-6", "-n", "-q", "-c2", "-W2", f"{own[0]}%nd0"])

    def test_http(self):
        files = self.folder("files")
        (files / "small").write_text("x" * 612)
        digest = workload.random_file(files / "big", 16 << 20)

        def fetch(server, client):
            base = f"http://[{server.address}]:{HTTP}"
            self.assertEqual(client.run(["curl", "-6", "-gsSf", base + "/small"]).stdout, "x" * 612)
            self.assertEqual(workload.fetch(client, base + "/big")[:2], (digest, 16 << 20))

        self.each(lambda place: workload.http_server(place, HTTP, files), HTTP, fetch)

    def test_redis(self):
        self.each(lambda place: workload.redis_server(place, REDIS, self.folder("redis")), REDIS, lambda server, client:
                  workload.redis_benchmark(client, server.address, REDIS, requests=10000))

    def test_iperf(self):
        for server, client in self.six_directions():
            for reverse in (False, True):
                for udp in (False, True):
                    with self.subTest(server=server.name, client=client.name, reverse=reverse, udp=udp):
                        with self.serving(server, workload.iperf3_server(server, IPERF), IPERF, client):
                            result = workload.iperf3(client, server.address, IPERF, seconds=1, reverse=reverse, udp=udp,
                                                     **({"rate": "20M"} if udp else {}))
                            if udp:
                                self.assertGreater(result[0], 0)
                                self.assertLess(result[1], 5)


class Autoconfiguration(SystemTest):
    @classmethod
    def start_bed(cls):
        super().start_bed(AUTOMATIC)

    def test_an_advertised_prefix_gives_an_address_that_answers(self):
        prefix = "fd00:abcd::"
        self.peer.run(["ip", "-6", "address", "add", f"{prefix}1/64", "dev", "nd0", "nodad"])

        def own():
            # Again and again: the router's own link-local address is tentative for a second or two.
            self.peer.run([sys.executable, "-c", ADVERTISE, "nd0", "", MEDIUM, 1800, prefix_option(prefix).hex()], check=False)
            lines = json.loads(process.run(self.bed.netctl("addr", "--json")).stdout)["addresses"]
            return [line["address"].split("/")[0] for line in lines
                    if line["address"].startswith("fd00:abcd:") and line["state"] == "valid"]

        self.assertTrue(process.wait_until(own, 15, step=1))
        self.peer.run(["ping", "-6", "-n", "-q", "-c2", "-W2", own()[0]])


class Routers(SystemTest):
    """Of two routers one is not there, so netd had better not ask for it."""

    @classmethod
    def start_bed(cls):
        super().start_bed(AUTOMATIC)

    def advertise(self, source, preference, life, options):
        self.peer.run([sys.executable, "-c", ADVERTISE, "nd0", source, preference, life, options.hex()])

    def own(self):
        lines = json.loads(process.run(self.bed.netctl("addr", "--json")).stdout)["addresses"]
        return [line["address"].split("/")[0] for line in lines
                if line["address"].startswith("fd00:abcd:") and line["state"] == "valid"]

    def ip(self, *arguments):
        self.peer.run(["ip", "-6", *arguments])

    def test_the_route_to_a_prefix_and_the_preferred_router_are_taken(self):
        self.peer.run(["sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/nd0/forwarding"])
        self.ip("address", "add", "fd00:abcd::1/64", "dev", "nd0", "nodad")
        for address in ("fe80::a/64", "fe80::b/64"):
            self.ip("address", "add", address, "dev", "nd0", "nodad")
        for address in ("2001:db8:aaaa::1", "2001:db8:bbbb::1"):
            self.ip("address", "add", address, "dev", "lo", "nodad")
        self.advertise("fe80::a", MEDIUM, 1800, prefix_option("fd00:abcd::"))
        self.ip("address", "del", "fe80::a/64", "dev", "nd0")
        self.assertTrue(process.wait_until(self.own, 15))
        self.advertise("fe80::b", LOW, 0, route_option("2001:db8:aaaa::", 48))
        ping = ["ping", "-6", "-n", "-q", "-c1", "-W10"]
        self.peer.run([*ping, "-I", "2001:db8:aaaa::1", self.own()[0]])
        self.advertise("fe80::b", HIGH, 1800, prefix_option("fd00:abcd::"))  # else its preference is no matter (RFC 8028)
        self.peer.run([*ping, "-I", "2001:db8:bbbb::1", self.own()[0]])
        counters = json.loads(process.run(self.bed.netctl("stat", "--json")).stdout)["counters"]
        self.assertEqual(counters["neighbor.failed"]["total"], 0)


if __name__ == "__main__":
    main()
