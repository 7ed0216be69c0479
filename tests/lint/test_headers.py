"""Every header compiles alone: whoever includes it needs to know nothing else.

A header whose .cpp includes it before anything else is proven by the build; the others are compiled here.
"""

import concurrent.futures
import os
import re
import shlex
import subprocess
import sys

from lint import TOP, finish, sources, text_of

FLAGS = ["-std=c++20", "-fsyntax-only", "-x", "c++", "-D_GNU_SOURCE", "-I.", "-Wall", "-Wextra"]


def compile_alone(compiler, path):
    source = f'#include "{path}"\n#include "{path}"\n'
    done = subprocess.run([*compiler, *FLAGS, "-"], input=source, cwd=TOP, capture_output=True, text=True)
    if done.returncode == 0:
        return None
    first = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr.strip())
    return f"{path}: does not compile alone: {first}"


def is_first_include(header):
    twin = header.with_suffix(".cpp")
    if twin not in sources(".cpp"):
        return False
    first = re.search(r'^#\s*include\s+(\S+)', text_of(twin), re.MULTILINE)
    return first is not None and first.group(1).strip('"') == header.as_posix()


def main():
    compiler = [word for word in shlex.split(os.environ.get("CXX", "g++")) if word != "ccache"]
    headers = [path for path in sources(".hpp", ".h") if path.parts[0] != "tests"]
    if not headers:
        print("no headers found")
        sys.exit(1)
    left = [path for path in headers if not is_first_include(path)]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        findings = [finding for finding in pool.map(lambda path: compile_alone(compiler, path), left) if finding]
    print(f"{len(headers)} headers, {len(left)} of them compiled here")
    finish(findings)


if __name__ == "__main__":
    main()
