"""C++ is formatted as .clang-format says; tools/format does it."""

import shutil
import subprocess
import sys

from lint import TOP, finish, sources


def main():
    if not shutil.which("clang-format"):
        print("clang-format is not installed")
        sys.exit(77)
    done = subprocess.run(["clang-format", "--dry-run", "--ferror-limit=1", *sources()], cwd=TOP, capture_output=True, text=True)
    wrong = sorted({line.split(":")[0] for line in done.stderr.splitlines() if ": warning:" in line or ": error:" in line})
    if done.returncode != 0 and not wrong:
        wrong = [done.stderr.strip()]
    finish([f"{path}: not formatted; run tools/format" for path in wrong])


if __name__ == "__main__":
    main()
