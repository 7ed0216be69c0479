"""redis-server and redis-benchmark, unmodified: netd serves, netd asks, both on netd."""

import hashlib
import os

from harness import SystemTest, main, process, workload

PORT = 6379


class Redis(SystemTest):
    def each_direction(self, action):
        for server, client in self.directions():
            with self.subTest(server=server.name, client=client.name):
                command = workload.redis_server(server, PORT, self.folder("redis"))
                with self.serving(server, command, PORT, client):
                    action(server, client)

    def test_benchmark(self):
        self.each_direction(lambda server, client: workload.redis_benchmark(
            client, server.address, PORT, tests="ping_mbulk,set,get,incr,lpush,lrange_100,mset", requests=5000))

    def test_pipelined(self):
        self.each_direction(lambda server, client: workload.redis_benchmark(
            client, server.address, PORT, requests=100000, pipeline=16))

    def test_two_hundred_clients(self):
        self.each_direction(lambda server, client: workload.redis_benchmark(
            client, server.address, PORT, requests=20000, clients=200))

    def test_large_value_comes_back(self):
        value = os.urandom(3 << 20).hex().encode()
        path = self.scratch / "value"
        path.write_bytes(value)

        def set_and_get(server, client):
            ask = ["redis-cli", "-h", server.address, "-p", PORT, "--raw"]
            with open(path, "rb") as file:
                process.run(client.argv([*ask, "-x", "SET", "large"]), stdin=file)
            answer = client.run([*ask, "GET", "large"]).stdout.strip().encode()
            self.assertEqual(hashlib.sha256(answer).hexdigest(), hashlib.sha256(value).hexdigest())

        self.each_direction(set_and_get)


if __name__ == "__main__":
    main()
