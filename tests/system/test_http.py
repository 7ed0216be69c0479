"""HTTP: nginx with a master and two workers, python's http.server, Node.js, wrk and curl, with checksums of what is fetched."""

import shutil
import unittest

from harness import SystemTest, main, workload

NGINX, HTTP, NODE = 8080, 8000, 8001
BIG = 64 << 20


class Http(SystemTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.files = cls.scratch / "files"
        cls.files.mkdir()
        (cls.files / "small").write_text("x" * 612)
        cls.digest = workload.random_file(cls.files / "big", BIG)

    def each_direction(self, make_command, port, action):
        for server, client in self.directions():
            with self.subTest(server=server.name, client=client.name):
                with self.serving(server, make_command(server), port, client):
                    action(server, client)

    def nginx(self, place):
        return workload.nginx(place, NGINX, self.folder(f"nginx-{place.name.replace(' ', '-')}"), self.files)

    def fetch_checked(self, client, server, port):
        digest, length, _ = workload.fetch(client, f"http://{server.address}:{port}/big")
        self.assertEqual((length, digest), (BIG, self.digest))

    def test_nginx_keep_alive(self):
        self.each_direction(self.nginx, NGINX, lambda server, client: workload.wrk(
            client, server.address, NGINX, "small", connections=64))

    def test_nginx_connection_each(self):
        self.each_direction(self.nginx, NGINX, lambda server, client: workload.wrk(
            client, server.address, NGINX, "small", connections=64, close=True))

    def test_nginx_large_file(self):
        self.each_direction(self.nginx, NGINX, lambda server, client: self.fetch_checked(client, server, NGINX))

    def test_nginx_many_requests_of_one_curl(self):
        def many(server, client):
            url = f"http://{server.address}:{NGINX}/small?[1-200]"
            for extra in ([], ["-H", "Connection: close"]):
                text = client.run(["curl", "-sSf", *extra, url]).stdout
                self.assertEqual(text, "x" * 612 * 200)

        self.each_direction(self.nginx, NGINX, many)

    @unittest.skipUnless(shutil.which("node"), "no Node.js here")
    def test_node(self):
        """libuv hands epoll_ctl to the kernel by io_uring where there is one."""
        script = "require('http').createServer((_, answer) => answer.end('x'.repeat(612))).listen({}, '{}')"

        def many(server, client):
            text = client.run(["curl", "-sSf", f"http://{server.address}:{NODE}/[1-50]"]).stdout
            self.assertEqual(text, "x" * 612 * 50)

        rest = "; const begin = process.cpuUsage(); setTimeout(() => {{ const used = process.cpuUsage(begin);" \
               " console.log(used.user + used.system); process.exit() }}, 2000)"
        command = ["env", "UV_USE_IO_URING=1", "node", "-e", (script + rest).format(NODE, self.netd.address)]
        self.assertLess(int(self.netd.run(command).stdout), 400_000, "microseconds of CPU while nothing happens")
        self.each_direction(lambda place: ["env", "UV_USE_IO_URING=1", "node", "-e", script.format(NODE, place.address)], NODE, many)

    def test_http_server(self):
        self.each_direction(lambda place: workload.http_server(place, HTTP, self.files), HTTP,
                            lambda server, client: self.fetch_checked(client, server, HTTP))

    def test_curl_upload_is_refused_cleanly(self):
        def refused(server, client):
            done = client.run(["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-T", str(self.files / "big"),
                               f"http://{server.address}:{HTTP}/up"], check=False)
            # The server answers 501 without reading the body; what curl makes of the reset is its own matter.
            self.assertIn(done.returncode, (0, 55, 56))

        self.each_direction(lambda place: workload.http_server(place, HTTP, self.files), HTTP, refused)


if __name__ == "__main__":
    main()
