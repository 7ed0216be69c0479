"""The lint tests can fail: each rule finds what is planted in a copy of a small tree."""

import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
LEDGER = HERE.parents[1] / "tools/netdtools/ledger.py"


def clause(**fields):
    """A ledger of one clause, sound but for `fields` (and for the page that is not there)."""
    sound = {"id": "MUST-1", "section": "1", "level": "MUST", "text": "t", "status": "done", "code": ["lwkt/good.hpp:good"],
             "test": ["tests/a.pkt: title"], "reason": ""}
    lines = [f"{key} = {value!r}" for key, value in {**sound, **fields}.items()]
    return "\n".join(["rfc = 1", "title = 'T'", "[[clause]]", *lines]) + "\n"


def mutant(before):
    return "\n".join(["[[mutant]]", "name = 'm'", "clause = '1 MUST-1'", "file = 'lwkt/good.hpp'", f"before = '{before}'",
                      "after = ''", "test = 'tests/a.pkt: title'"]) + "\n"


# (test, file to plant, its text, what the finding says)
PLANTS = [
    ("test_layers.py", "base/b.hpp", '// b\n#pragma once\n#include "lwkt/cpu.hpp"\n', "base/ may not include lwkt/"),
    ("test_layers.py", "drivers/d.cpp", '// d\n#include "protocols/stack.hpp"\n', "drivers/ may not include protocols/"),
    ("test_layers.py", "protocols/wire/w.hpp", '// w\n#pragma once\n#include "netmsg/packet.hpp"\n', "is pure"),
    ("test_layers.py", "client/c.cpp", '// c\n#include "sock.hpp"\n', "include from the root"),
    ("test_house.py", "base/same.cpp", "// a\n", "has the same name"),
    ("test_house.py", "base/guard.hpp", "// a\n", "#pragma once is missing"),
    ("test_house.py", "base/silent.cpp", "int x;\n", "open with what the file is for"),
    ("test_house.py", "base/long.cpp", "// long\n" * 700, "700 lines"),
    ("test_house.py", "base/late.cpp", "// late\n// TO" "DO: later\n", "unfinished work"),
    ("test_house.py", "base/sent.cpp", "// as lost.md has it\n", "'lost.md' is no file"),
    ("test_house.py", "base/path.cpp", '// path\nconst char* p = "/wo' 'rk/main/x";\n', "a path of one machine"),
    ("test_house.py", "protocols/tcp/tcp_ack.cpp", "// ack\nvoid f() { tcb.state = State::closed; }\n", "transition function"),
    ("test_house.py", "base/blank.cpp", "// blank \n", "trailing blank"),
    ("test_house.py", "docs/decisions/0001-lost.md", "# 0001 A page nobody finds\n", "0001-lost.md is missing"),
    ("test_ledger.py", "docs/rfc/rfc1.toml", clause(code=["lwkt/good.hpp:bad"]), "'lwkt/good.hpp:bad' leads nowhere"),
    ("test_ledger.py", "docs/rfc/rfc1.toml", clause(test=["tests/a.pkt: titl"]), "'tests/a.pkt: titl' leads nowhere"),
    ("test_ledger.py", "docs/rfc/rfc1.toml", clause(test=[]), "no test is cited"),
    ("test_ledger.py", "docs/rfc/rfc1.toml", clause(code=[]), "no code is cited"),
    ("test_ledger.py", "docs/rfc/rfc1.toml", clause(status="exception"), "exception without a reason"),
    ("test_ledger.py", "docs/rfc/rfc1.toml", clause() + clause().partition("'T'")[2], "MUST-1 is there twice"),
    ("test_ledger.py", "docs/rfc/rfc1.toml", clause(), "run tools/rfc-ledger"),
    ("test_ledger.py", "docs/rfc/mutants.toml", mutant("gone"), "found 0 times"),
    ("test_ledger.py", "docs/rfc/mutants.toml", mutant("good"), "is no MUST of the ledger"),
    ("test_format.py", "base/form.cpp", "// form\nint  main( ){return 0;}\n", "not formatted"),
    ("test_headers.py", "base/alone.hpp", "// alone\n#pragma once\nstd::size_t x();\n", "does not compile alone"),
]


def run(test, plant=None):
    with tempfile.TemporaryDirectory() as name:
        top = pathlib.Path(name)
        (top / "tests/lint").mkdir(parents=True)
        (top / "lwkt").mkdir()
        (top / "lwkt/same.cpp").write_text("// same\n")
        (top / "lwkt/good.hpp").write_text("// good\n#pragma once\n")
        (top / "tests/a.pkt").write_text("== title\n")
        (top / "tools/netdtools").mkdir(parents=True)
        (top / "tools/netdtools/ledger.py").write_text(LEDGER.read_text())
        (top / ".clang-format").write_text("BasedOnStyle: LLVM\n")
        for script in ("lint.py", test):
            (top / "tests/lint" / script).write_text((HERE / script).read_text())
        if plant:
            path = top / plant[0]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(plant[1])
        return subprocess.run([sys.executable, top / "tests/lint" / test], capture_output=True, text=True)


def main():
    wrong = []
    for test in sorted({plant[0] for plant in PLANTS}):
        clean = run(test)
        if clean.returncode != 0:
            wrong.append(f"{test} complains about a clean tree: {clean.stdout}{clean.stderr}")
    for test, path, text, words in PLANTS:
        done = run(test, (path, text))
        if done.returncode not in (1, 77) or (done.returncode == 1 and words not in done.stdout):
            wrong.append(f"{test} did not find '{words}' in {path}: {done.stdout}{done.stderr}")
    print("\n".join(wrong) or f"{len(PLANTS)} planted findings found")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
