"""memcached (threads that share an epoll set each) and socat (forks, half-close, UDP)."""

import hashlib
import subprocess
import sys

from harness import SystemTest, main, workload

MEMCACHED, SOCAT = 11211, 7000

ASK_MEMCACHED = """
import os, socket, sys, threading
address, port = sys.argv[1], int(sys.argv[2])
def session(number):
    with socket.create_connection((address, port), 10) as s:
        file = s.makefile("rwb")
        for turn in range(200):
            value = os.urandom(1 + turn * 97).hex().encode()
            key = f"k{number}-{turn}".encode()
            file.write(b"set %s 0 0 %d\\r\\n%s\\r\\nget %s\\r\\n" % (key, len(value), value, key))
            file.flush()
            assert file.readline() == b"STORED\\r\\n"
            assert file.readline() == b"VALUE %s 0 %d\\r\\n" % (key, len(value))
            assert file.read(len(value) + 2) == value + b"\\r\\n"
            assert file.readline() == b"END\\r\\n"
    done.append(number)
done = []
threads = [threading.Thread(target=session, args=(number,)) for number in range(16)]
for thread in threads: thread.start()
for thread in threads: thread.join()
sys.exit(0 if len(done) == 16 else 1)
"""

# A datagram may be lost while the server starts; the echo of one that arrives must be equal.
ASK_UDP = """
import os, socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    s.connect((sys.argv[1], int(sys.argv[2])))
    s.settimeout(0.5)
    for size in (1, 100, 1400, 4000):
        for attempt in range(20):
            data = os.urandom(size)
            try:
                s.send(data)
                answer = s.recv(65536)
            except (TimeoutError, ConnectionRefusedError):
                continue
            assert answer == data, (size, len(answer))
            break
        else:
            sys.exit(f"no echo of {size} bytes")
"""


class MemcachedAndSocat(SystemTest):
    def test_memcached(self):
        for server, client in self.directions():
            with self.subTest(server=server.name, client=client.name):
                with self.serving(server, workload.memcached(server, MEMCACHED), MEMCACHED, client):
                    client.run([sys.executable, "-c", ASK_MEMCACHED, server.address, MEMCACHED])

    def test_socat_echo_with_half_close(self):
        data = self.scratch / "data"
        digest = workload.random_file(data, 8 << 20)
        for server, client in self.directions():
            with self.subTest(server=server.name, client=client.name):
                listen = ["socat", f"TCP4-LISTEN:{SOCAT},bind={server.address},reuseaddr,fork", "EXEC:cat"]
                with self.serving(server, listen, SOCAT, client):
                    back = self.scratch / "back"
                    with open(data, "rb") as source, open(back, "wb") as sink:
                        subprocess.run(client.argv(["socat", "-t", "10", "-", f"TCP4:{server.address}:{SOCAT}"]), stdin=source,
                                       stdout=sink, timeout=60, check=True, env=client.environment)
                    self.assertEqual(hashlib.sha256(back.read_bytes()).hexdigest(), digest)

    def test_socat_udp_echo(self):
        for server, client in self.directions():
            with self.subTest(server=server.name, client=client.name):
                listen = ["socat", f"UDP4-RECVFROM:{SOCAT},bind={server.address},reuseaddr,fork", "EXEC:cat"]
                with self.serving(server, listen, None, client):
                    client.run([sys.executable, "-c", ASK_UDP, server.address, SOCAT])


if __name__ == "__main__":
    main()
