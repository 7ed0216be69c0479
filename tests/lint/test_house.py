"""House rules that a text search can see: one idea per file, its size, its guard, words that must not be there, files that
are named and not there, who may change the state of a connection, and that the index of decisions leaves none out."""

import re
from pathlib import Path

from lint import finish, lines_of, sources, text_of, tracked

MAX_LINES = 600
MARKERS = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b")
# Absolute paths of some developer's machine.
MACHINE_PATHS = re.compile(r"(?<![\w.])/(wo" r"rk|fa" r"rm|ho" r"me/\w+|tmp/w)/")
STATE_ASSIGNMENT = re.compile(r"(?:\.|->)state\s*=(?!=)\s*(?:\w+::)*State::")
STATE_FILES = re.compile(r"^protocols/tcp/(tcp_)?state")
TEXT = (".cpp", ".hpp", ".h", ".c", ".py", ".md", ".build", ".txt", ".toml", ".sh", "")
# A file that a comment or a page names. Other systems' sources have names as well, but theirs end in .c and .h.
FILE_NAME = re.compile(r"(?<![\w./*{}-])(?:\.\./)*([\w-][\w./-]*\.(?:md|hpp|cpp))\b")
# Pages about how something once was.
HISTORY = ("CHANGELOG.md", "docs/decisions/", "docs/performance", "docs/results/", "docs/rfc/README.md")
# Names that stand for a role in their folder, not for an idea.
COMMON_NAMES = {"meson.build", "README.md", "__init__.py", "main.cpp"}


def base_names():
    """Backtraces and build logs name a .cpp without its folder; two of one name mislead. (Includes name the folder.)"""
    seen = {}
    for path in sources(".cpp", ".c"):
        if path.name not in COMMON_NAMES and path.name in seen:
            yield f"{path}: {seen[path.name]} has the same name; say which area it is, as in area_{path.name}"
        seen.setdefault(path.name, path)


def sizes():
    for path in sources(".cpp", ".hpp", ".h", ".c", ".py"):
        count = text_of(path).count("\n")
        if count > MAX_LINES:
            yield f"{path}: {count} lines, the most is {MAX_LINES}; cut it by concern"


def opening():
    """A .cpp beside the header of its name is described there."""
    headers = set(sources(".hpp"))
    for path in sources(".cpp", ".hpp", ".h"):
        text = text_of(path)
        described = path.suffix == ".cpp" and path.with_suffix(".hpp") in headers
        if not text.startswith(("//", "/*")) and not described:
            yield f"{path}:1: open with what the file is for, whose thread runs it and what holds (at most ten lines)"
        if path.suffix != ".cpp" and not re.search(r"^#pragma once$", text, re.MULTILINE):
            yield f"{path}: #pragma once is missing"


def words():
    for path in tracked():
        if path.suffix not in TEXT or path.name == "LICENSE":
            continue
        for number, line in lines_of(path):
            if MARKERS.search(line):
                yield f"{path}:{number}: a marker of unfinished work; finish it or file an issue"
            if MACHINE_PATHS.search(line):
                yield f"{path}:{number}: a path of one machine"


def mentions():
    """A reader who is sent somewhere finds a file there."""
    known = {"/".join(path.parts[start:]) for path in tracked() for start in range(len(path.parts))}
    for path in sources(".cpp", ".hpp", ".h", ".c", ".md"):
        if path.parts[:2] == ("tests", "lint") or path.as_posix().startswith(HISTORY):
            continue
        for number, line in lines_of(path):
            text = line if path.suffix == ".md" else line.partition("//")[2]
            for name in FILE_NAME.findall(text):
                if name not in known:
                    yield f"{path}:{number}: '{name}' is no file here"


def tcp_state():
    """The state machine is a table; a state set elsewhere would be a transition that the table does not show."""
    for path in sources(".cpp", ".hpp"):
        if path.parts[0] != "protocols" or STATE_FILES.match(path.as_posix()):
            continue
        for number, line in lines_of(path):
            if STATE_ASSIGNMENT.search(line):
                yield f"{path}:{number}: TCP states change through the transition function only"


def formatting_of_text():
    for path in tracked():
        if path.suffix in TEXT and path.name != "LICENSE":
            for number, line in lines_of(path):
                if line != line.rstrip() or "\t" in line:
                    yield f"{path}:{number}: trailing blank or tabulator"


def decisions():
    """docs/decisions/README.md names each page by the title that the page has."""
    index_page = Path("docs/decisions/README.md")
    index = text_of(index_page) if index_page in tracked() else ""
    for path in tracked():
        if not path.match("docs/decisions/0*.md"):
            continue
        number, _, title = text_of(path).splitlines()[0].removeprefix("# ").partition(" ")
        if f"- [{number}]({path.name}) {title}\n" not in index:
            yield f"{index_page}: {path.name} is missing or has another title there"


def main():
    finish([finding for rule in (base_names, sizes, opening, words, mentions, tcp_state, formatting_of_text, decisions) for finding in rule()])


if __name__ == "__main__":
    main()
