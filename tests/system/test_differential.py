"""The kernel as oracle: socket_script.py on the kernel and on netd must observe the same, case by case."""

import json
import pathlib
import sys

from harness import SystemTest, main, process

SCRIPT = pathlib.Path(__file__).with_name("socket_script.py")


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
        on_kernel = self.observe(self.pair.a.prefix, self.pair.a_address)
        self.assertGreater(len(on_kernel), 60, on_kernel)
        on_netd = self.observe(self.netd.prefix, self.netd.address)
        for name, wanted in on_kernel.items():
            with self.subTest(case=name):
                self.assertEqual(on_netd.get(name, "did not run"), wanted)


if __name__ == "__main__":
    main()
