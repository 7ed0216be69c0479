"""The kernel as oracle: socket_script.py on the kernel and on netd must observe the same, case by case."""

import errno
import json
import pathlib
import sys

from harness import SystemTest, main, process

SCRIPT = pathlib.Path(__file__).with_name("socket_script.py")


# What netd does not do yet, each with the work it waits for. A case that has come to agree must leave this list.
NOT_YET = {
    "exec_inherits_descriptor": "the process model: sockets that live on over exec",
    "passed_over_unix_socket": "the process model: SCM_RIGHTS of netd sockets",
}


class Differential(SystemTest):
    needs_veth = True

    def observe(self, prefix, address):
        """Case name -> what the script saw there. The script bounds each case; this bounds the whole."""
        done = process.run([*prefix, sys.executable, SCRIPT, address], timeout=400, check=False)
        seen = {}
        for line in done.stdout.splitlines():
            name, value = json.loads(line)
            seen[name] = value
        if done.returncode != 0:
            seen["exit code"] = [done.returncode, process.tail_of(done.stderr)]
        return seen

    def test_same_results_and_errnos(self):
        self.compare(self.pair.a_address, self.bed.netd_address)

    def test_same_results_and_errnos_over_ipv6(self):
        self.compare(self.pair.a_address6, self.bed.netd_address6)

    def test_io_uring_is_not_there(self):
        code = "import ctypes; l = ctypes.CDLL(None, use_errno=True); print(l.syscall(425, 1, None), ctypes.get_errno())"
        done = process.run([*self.netd.prefix, sys.executable, "-c", code])
        self.assertEqual(done.stdout.split(), ["-1", str(errno.ENOSYS)])

    def compare(self, kernels, netds):
        on_kernel = self.observe(self.pair.a.prefix, kernels)
        self.assertGreater(len(on_kernel), 60, on_kernel)
        on_netd = self.observe(self.netd.prefix, netds)
        for name, wanted in on_kernel.items():
            with self.subTest(case=name):
                if name in NOT_YET:
                    self.assertNotEqual(on_netd.get(name, "did not run"), wanted, "agrees now: take it off NOT_YET")
                else:
                    self.assertEqual(on_netd.get(name, "did not run"), wanted)


if __name__ == "__main__":
    main()
