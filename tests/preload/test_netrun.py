"""netrun itself: what it hands to the program, and what it refuses. netd is a socket that somebody listens on."""

import contextlib
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import unittest

NETRUN, LIBRARY = (pathlib.Path(argument).resolve() for argument in sys.argv[1:3])
SAY_SOCKET = ("sh", "-c", "echo $NETD_SOCKET")


class NetrunTest(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = pathlib.Path(directory.name).resolve()
        self.listen(self.directory)

    def listen(self, directory):
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.addCleanup(listener.close)
        with contextlib.chdir(directory):
            listener.bind("s")
        listener.listen()

    def netrun(self, *arguments, program=NETRUN, directory=None, **environment):
        done = subprocess.run([program, *arguments], cwd=directory or self.directory, env={**os.environ, **environment},
                              capture_output=True, text=True, timeout=20)
        return done.returncode, done.stdout, done.stderr

    def test_a_program_that_changes_its_folder_finds_the_socket(self):
        everywhere = f"{self.directory}/s\n"
        self.assertEqual(self.netrun("--socket", "s", *SAY_SOCKET), (0, everywhere, ""))
        self.assertEqual(self.netrun(*SAY_SOCKET, NETD_SOCKET="s"), (0, everywhere, ""))
        self.assertEqual(self.netrun("--socket", f"{self.directory}/s", *SAY_SOCKET), (0, everywhere, ""))

    def test_a_name_that_is_short_enough_only_from_here_stays(self):
        deep = self.directory / ("x" * 100)
        deep.mkdir()
        self.listen(deep)
        self.assertEqual(self.netrun("--socket", "s", *SAY_SOCKET, directory=deep), (0, "s\n", ""))

    def test_a_library_that_the_loader_would_not_find_is_refused(self):
        for name in ("with space", "with:colon"):
            folder = self.directory / name
            folder.mkdir()
            for file in (NETRUN, LIBRARY):
                shutil.copy(file, folder)
            code, out, error = self.netrun("--socket", "s", "echo", "ran", program=folder / NETRUN.name)
            self.assertEqual((code, out), (70, ""), error)
            self.assertIn("LD_PRELOAD", error)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
