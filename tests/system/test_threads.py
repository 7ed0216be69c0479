"""Threads that come and go: a thread for each connection on the server, one client that talks to all of them in turn. Who is
woken by the other end directly (joined pairs) has another pipe each time, at the place of one that is gone."""

import sys

from harness import SystemTest, main

PORT = 7300

SERVE = """
import signal, socketserver, sys
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(64):
            self.request.sendall(data)
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
Server((sys.argv[1], int(sys.argv[2])), Echo).serve_forever()
"""

ASK = """
import os, signal, socket, sys, time
signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # which Python ignores
for turn in range(200):
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), 10) as s:
        for _ in range(turn % 4):
            time.sleep(0.002)  # the other end sleeps by then
            data = os.urandom(64)
            s.sendall(data)
            got = b""
            while len(got) < 64:
                piece = s.recv(64 - len(got))
                assert piece, f"end of file after {len(got)} bytes of turn {turn}"
                got += piece
            assert got == data, turn
"""


class Threads(SystemTest):
    def test_a_thread_for_each_connection(self):
        for server, client in self.directions():
            with self.subTest(server=server.name, client=client.name):
                command = [sys.executable, "-c", SERVE, server.address, PORT]
                with self.serving(server, command, PORT, client):
                    client.run([sys.executable, "-c", ASK, server.address, PORT])


if __name__ == "__main__":
    main()
