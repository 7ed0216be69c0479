"""CPython's own tests of sockets, as Debian packages them, on netd: what a large program's authors take for granted of every
call. Written by people who never heard of netd, so that nothing in them is fitted to it."""

import subprocess
import sys

from harness import SystemTest, leaks, main

CONFIG = """\
socket = "{socket}"
cpus = "{cpus}"

[[interface]]
driver = "{driver}"
name = "{tap}"
address = "{addr}"

[[interface]]
driver = "loopback"
name = "lo1"
address = ["127.0.0.1/8", "::1/128"]
announce = true
"""
PYTHON = "/usr/bin/python3"  # the one that the package's tests are of
SUITES = ["test_socket", "test_epoll", "test_socketserver", "test_asyncore", "test_asynchat", "test_ftplib", "test_httplib", "test_smtplib", "test_ssl",
          "test_asyncio.test_sock_lowlevel", "test_asyncio.test_sendfile", "test_asyncio.test_streams", "test_asyncio.test_server"]
# Not of netd's sockets: virtual machine sockets, which hang on the kernel too where there is no hypervisor's end.
IGNORED = ["*VSOCK*"]


class PythonSuite(SystemTest):
    @classmethod
    def start_bed(cls):
        if subprocess.run([PYTHON, "-c", "import test.test_socket"], stderr=subprocess.DEVNULL, check=False).returncode != 0:
            print(f"{PYTHON} has no package 'test' (libpython3.11-testsuite)")
            sys.exit(77)
        super().start_bed(CONFIG)

    def test_suites(self):
        for name in SUITES:
            with self.subTest(suite=name):
                ignored = [word for pattern in IGNORED for word in ("-i", pattern)]
                before = leaks.counters(self.bed)["tcp.accepts"]
                self.netd.run([PYTHON, "-m", "test", "-u", "network", "--timeout", 100, *ignored, name], timeout=240)
                self.assertGreater(leaks.counters(self.bed)["tcp.accepts"], before, "it was the kernel that was tested")


if __name__ == "__main__":
    main()
