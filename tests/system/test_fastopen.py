"""TCP Fast Open between netd and the kernel, both ways and over both families: the first connections bring a cookie,
later ones carry their text in the SYN, and both ends say so in TCP_INFO."""

import sys

from harness import SystemTest, main, workload

from netdtools import testbed

PORT = 7413
ROUNDS = 8  # a client remembers per CPU: one of these many finds what another learned

SERVER = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
s = socket.socket(family)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.setsockopt(socket.IPPROTO_TCP, 23, 16)  # TCP_FASTOPEN
s.bind((sys.argv[1], int(sys.argv[2])))
s.listen(16)
while True:
    c, _ = s.accept()
    text = c.recv(100)
    taken = c.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)[5] & 32  # TCPI_OPT_SYN_DATA
    c.sendall(text.upper() + (b"+" if taken else b"-"))
    c.close()
"""

CLIENT = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
for i in range(int(sys.argv[3])):
    c = socket.socket(family)
    assert c.sendto(b"hello", 0x20000000, (sys.argv[1], int(sys.argv[2]))) == 5  # MSG_FASTOPEN
    text = b""
    while (piece := c.recv(100)):
        text += piece
    assert text[:-1] == b"HELLO", text
    taken = c.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)[5] & 32
    print("client", "+" if taken else "-", "server", text[-1:].decode())
"""


class FastOpen(SystemTest):
    @classmethod
    def start_bed(cls):
        super().start_bed(testbed.CONFIG + testbed.ROUTES + "\n[tcp]\nfastopen = 3\n")
        cls.peer.run(["sysctl", "-qw", "net.ipv4.tcp_fastopen=3"])

    def rounds(self, server, client):
        with self.serving(server, [sys.executable, "-c", SERVER, server.address, PORT], PORT, client):
            done = client.run([sys.executable, "-c", CLIENT, server.address, PORT, ROUNDS])
        said = done.stdout.splitlines()
        self.assertEqual(len(said), ROUNDS)
        self.assertEqual(said[0], "client - server -")  # nobody has a cookie yet
        self.assertIn("client + server +", said)

    def test_the_kernel_opens_fast_to_netd(self):
        self.rounds(self.netd, self.peer)

    def test_netd_opens_fast_to_the_kernel(self):
        self.rounds(self.peer, self.netd)

    def test_over_ipv6(self):
        netd, peer = workload.on_netd(self.bed, six=True), workload.on_peer(self.bed, six=True)
        self.rounds(netd, peer)
        self.rounds(peer, netd)


if __name__ == "__main__":
    main()
