"""Bad use gets one clear line and a useful exit code, never a silent fallback and never a stack trace."""

import os
import shutil
import socket
import stat
import subprocess
import sys

from harness import SystemTest, Testbed, ToolError, main, process
from netdtools import paths

ECHO = ["echo", "ran"]


class BadUse(SystemTest):
    def refused(self, argv, *words, **options):
        """The command fails, says each of the words on stderr, and does so in few lines."""
        done = process.run(argv, check=False, **options)
        self.assertNotEqual(done.returncode, 0, done)
        self.assertGreater(done.returncode, 0, f"died of a signal: {done}")
        for word in words:
            self.assertIn(word, done.stderr)
        self.assertNotIn("terminate called", done.stderr)
        self.assertNotIn("Traceback", done.stderr)
        self.assertLessEqual(len(done.stderr.strip().splitlines()), 6, done.stderr)
        return done

    def config(self, text):
        path = self.scratch / "bad.toml"
        path.write_text(text)
        return path

    def netd_with(self, text, *words):
        return self.refused([paths.program("netd"), "--config", self.config(text), "--socket", self.scratch / "no.sock"], *words)

    # netd -----------------------------------------------------------------------------------------------------------

    def test_configuration_is_not_there(self):
        self.refused([paths.program("netd"), "--config", self.scratch / "absent.toml"], "absent.toml")

    def test_configuration_is_no_toml(self):
        self.netd_with("socket = \"/x\"\ncpus = = 1\n", "bad.toml", "2")

    def test_configuration_has_an_unknown_key(self):
        self.netd_with("socket = \"/x\"\n\nspeed = 3\n", "bad.toml", "3", "speed")

    def test_configuration_has_a_value_of_the_wrong_type(self):
        self.netd_with("[[interface]]\ndriver = \"tap\"\nname = \"nd9\"\naddress = \"10.1.1.1/24\"\nmtu = \"large\"\n",
                       "bad.toml", "5", "mtu")

    def test_configuration_has_a_bad_address(self):
        self.netd_with("[[interface]]\ndriver = \"tap\"\nname = \"nd9\"\naddress = \"10.1.1.999/24\"\n",
                       "bad.toml", "4", "10.1.1.999")

    def test_unknown_driver(self):
        self.netd_with("[[interface]]\ndriver = \"warp\"\nname = \"nd9\"\naddress = \"10.1.1.1/24\"\n", "warp")

    def test_cpus_that_are_no_list(self):
        for cpus in ("x", "0-", "99999"):
            with self.subTest(cpus=cpus):
                self.refused([paths.program("netd"), "--cpus", cpus, "--socket", self.scratch / "no.sock"], "cpus")

    def test_socket_is_taken_by_a_running_netd(self):
        self.refused([paths.program("netd"), "--socket", self.bed.socket], self.bed.socket)
        self.assertTrue(self.bed.answers())

    def test_socket_path_cannot_be_made(self):
        self.refused([paths.program("netd"), "--socket", "/nonexistent-folder/netd.sock"], "/nonexistent-folder/netd.sock")

    def test_unknown_option(self):
        for name, *before in (["netd"], ["netctl", "ss"], ["netrun"]):
            with self.subTest(program=name):
                self.refused([paths.program(name), *before, "--no-such-option"], "no-such-option")

    def test_tap_without_the_privilege(self):
        if os.geteuid() != 0:
            self.skipTest("needs root to give it up")
        text = "[[interface]]\ndriver = \"tap\"\nname = \"nd9\"\naddress = \"10.1.1.1/24\"\n"
        folder = self.folder("unprivileged")
        for path in (self.scratch, folder):
            path.chmod(0o777)
        (folder / "c.toml").write_text(text)
        shutil.copy(paths.program("netd"), folder / "netd")
        self.refused(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", folder / "netd", "--config",
                      folder / "c.toml", "--socket", folder / "s"], "tun")

    # netrun and netctl ----------------------------------------------------------------------------------------------

    def test_netd_is_not_running(self):
        gone = str(self.scratch / "gone.sock")
        done = self.refused([paths.program("netrun"), "--socket", gone, *ECHO], gone)
        self.assertNotIn("ran", done.stdout)
        self.refused([paths.program("netctl"), "--socket", gone, "ss"], gone)

    def test_socket_of_something_else(self):
        path = str(self.scratch / "other.sock")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
            other.bind(path)
            other.listen()
            self.refused([paths.program("netrun"), "--socket", path, *ECHO], path)
            self.refused([paths.program("netctl"), "--socket", path, "ss"], path)

    def test_program_is_not_there(self):
        done = self.refused(self.bed.netrun("no-such-program"), "no-such-program")
        self.assertEqual(done.returncode, 127)

    def test_program_is_not_executable(self):
        path = self.scratch / "plain"
        path.write_text("text")
        self.assertEqual(self.refused(self.bed.netrun(str(path)), "plain").returncode, 126)

    def test_option_that_netrun_does_not_have(self):
        done = self.refused(self.bed.netrun("--bogus", *ECHO), "--bogus", "no such option")
        self.assertEqual(done.returncode, 64)
        self.assertNotIn("ran", done.stdout)

    def test_environment_of_a_testbed_is_enough_for_netrun(self):
        tool = paths.TOP / "tools" / "testbed"
        done = process.run(["sh", "-c", f'eval "$({tool} env --name {self.tag})"; exec $NETRUN echo ran'], check=False)
        self.assertEqual((done.returncode, done.stdout.strip()), (0, "ran"), done)

    def test_no_program(self):
        self.refused(self.bed.netrun())

    def test_static_program(self):
        source = self.scratch / "static.c"
        source.write_text("int main(void) { return 0; }\n")
        program = self.scratch / "static"
        compiled = subprocess.run(["cc", "-static", "-o", program, source], capture_output=True)
        if compiled.returncode != 0:
            self.skipTest("no static C library")
        self.refused(self.bed.netrun(str(program)), "statically linked")

    def test_setuid_program(self):
        program = self.scratch / "setuid"
        shutil.copy("/bin/true", program)
        program.chmod(0o755 | stat.S_ISUID)
        if os.geteuid() == 0:
            os.chown(program, 65534, 65534)
            program.chmod(0o755 | stat.S_ISUID)
        else:
            self.skipTest("needs root to make a program of another user")
        self.refused(self.bed.netrun(str(program)), "set-user-ID")

    def test_exit_code_of_the_program_comes_through(self):
        for code in (0, 1, 42):
            self.assertEqual(process.run(self.bed.netrun("sh", "-c", f"exit {code}"), check=False).returncode, code)

    def test_port_in_use(self):
        script = ("import socket, sys\na = socket.create_server((sys.argv[1], 5555))\n"
                  "try:\n    socket.create_server((sys.argv[1], 5555))\nexcept OSError as e:\n    print(e.errno)\n")
        said = process.run([*self.netd.prefix, sys.executable, "-c", script, self.netd.address]).stdout
        self.assertEqual(said.strip(), "98")

    def test_why_names_sockets_of_both_kinds(self):
        script = ("import socket, sys\nsocket.create_server((sys.argv[1], 0)).close()\n"
                  "socket.socket(socket.AF_UNIX).close()\nsocket.create_server(('127.0.0.1', 0)).close()\n")
        done = process.run([*self.bed.netrun("--why"), sys.executable, "-c", script, self.netd.address])
        self.assertIn("netd", done.stderr)
        self.assertIn("kernel", done.stderr)

    # testbed --------------------------------------------------------------------------------------------------------

    def test_testbed_twice(self):
        with self.assertRaisesRegex(ToolError, "already up"):
            Testbed.up(self.tag)
        self.assertTrue(self.bed.answers())

    def test_testbed_with_a_bad_name(self):
        with self.assertRaisesRegex(ToolError, "bad name"):
            Testbed.up("../x")

    def test_testbed_with_a_bad_configuration_cleans_up(self):
        with self.assertRaisesRegex(ToolError, "netd ended with exit code"):
            Testbed.up(f"{self.tag}b", config=self.config("nonsense = 1\n"))
        self.assertFalse(Testbed.down(f"{self.tag}b"))

    def test_testbed_on_loopback(self):
        other = Testbed.up(f"{self.tag}d", driver="loopback")
        try:
            said = process.run([*other.netrun("--strict"), sys.executable, "-c", "import socket, sys\nsocket.create_server((sys.argv[1], 5555))",
                                other.netd_address], check=False)
            self.assertEqual(said.returncode, 0, said.stderr)
        finally:
            Testbed.down(f"{self.tag}d")

    def test_second_testbed_beside_the_first(self):
        other = Testbed.up(f"{self.tag}c")
        try:
            self.assertNotEqual(other.netd_address, self.bed.netd_address)
            self.assertTrue(self.bed.answers() and other.answers())
        finally:
            Testbed.down(f"{self.tag}c")


if __name__ == "__main__":
    main()
