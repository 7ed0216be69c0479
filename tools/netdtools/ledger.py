"""The ledger of standards: docs/rfc/rfcNNNN.toml (clauses), docs/rfc/mutants.toml, and the page that is made of them.

A clause is `done` (code and a test that would fail without it), `exception` (deliberately otherwise) or `open` (missing,
or not shown). check() returns findings; nothing here writes.
"""

import dataclasses
import pathlib
import re
import tomllib

FOLDER = "docs/rfc"
PAGE = "README.md"
MUTANTS = "mutants.toml"
STATUSES = ("done", "exception", "open")
LEVELS = ("MUST", "SHOULD", "MAY")
FIELDS = {"id", "section", "level", "text", "status", "code", "test", "reason"}
MUTANT_FIELDS = {"name", "clause", "file", "before", "after", "test"}


@dataclasses.dataclass
class Clause:
    rfc: int
    source: str  # the file that holds it
    id: str
    section: str
    level: str
    text: str
    status: str
    code: list
    test: list
    reason: str = ""


@dataclasses.dataclass
class Mutant:
    name: str
    clause: str  # "9293 MUST-3"
    file: str
    before: str
    after: str
    test: str
    family: int = 4  # 6: the test is one of IPv6 alone (NETD_FAMILY, tests/family.hpp)

    def program(self, holders):
        """The meson target that holds the test, and how to run the one test of it: (target, arguments, environment).
        `holders` says of each source file in which test program it is."""
        path, title = split_citation(self.test)
        path = pathlib.PurePosixPath(path)
        environment = {"NETD_FAMILY": str(self.family)}
        if path.suffix == ".pkt":
            return "test-tcp-scripts", [], {"NETD_TCP_SCRIPT": title, **environment}
        escaped = re.sub(r"([,\[\]\\])", r"\\\1", title)
        return holders[str(path)], [escaped], environment


def split_citation(citation):
    """'path: title' or 'path:symbol' as a pair."""
    path, _, rest = citation.partition(":")
    return path, rest.strip()


class Ledger:
    def __init__(self, top):
        self.top = pathlib.Path(top)
        self.findings = []
        self.rfcs = {}  # number -> (title, [Clause])
        self.mutants = []
        for path in sorted((self.top / FOLDER).glob("rfc*.toml")):
            self._read(path)
        path = self.top / FOLDER / MUTANTS
        if path.exists():
            self._read_mutants(path)

    def clauses(self):
        return [clause for _, clauses in self.rfcs.values() for clause in clauses]

    def _parse(self, path):
        try:
            return tomllib.loads(path.read_text())
        except tomllib.TOMLDecodeError as error:
            self.findings.append(f"{path.relative_to(self.top)}: {error}")
            return {}

    def _read(self, path):
        name = str(path.relative_to(self.top))
        data = self._parse(path)
        clauses = []
        for entry in data.get("clause", []):
            unknown = set(entry) - FIELDS
            missing = FIELDS - {"code", "test", "reason"} - set(entry)
            if unknown or missing:
                words = ", ".join(sorted(unknown | missing))
                self.findings.append(f"{name}: clause {entry.get('id', '?')}: fields unknown or missing: {words}")
                continue
            clauses.append(Clause(rfc=data.get("rfc", 0), source=name, **{"code": [], "test": [], **entry}))
        self.rfcs[data.get("rfc", 0)] = (data.get("title", ""), clauses)
        if f"rfc{data.get('rfc')}.toml" != path.name:
            self.findings.append(f"{name}: 'rfc' must be the number in the file's name")

    def _read_mutants(self, path):
        for entry in self._parse(path).get("mutant", []):
            if set(entry) - {"family"} != MUTANT_FIELDS:
                words = ", ".join(sorted(set(entry) ^ MUTANT_FIELDS))
                self.findings.append(f"{FOLDER}/{MUTANTS}: {entry.get('name', '?')}: fields unknown or missing: {words}")
                continue
            self.mutants.append(Mutant(**entry))

    # --- checks

    def _text(self, path):
        try:
            return (self.top / path).read_text(errors="replace")
        except OSError:
            return None

    def _code_leads_nowhere(self, citation):
        path, symbol = split_citation(citation)
        text = self._text(path)
        return not symbol or text is None or not re.search(rf"(?<!\w){re.escape(symbol)}(?!\w)", text)

    def _test_leads_nowhere(self, citation):
        path, title = split_citation(citation)
        text = self._text(path)
        if text is None or not title:
            return True
        if path.endswith(".pkt"):
            return f"== {title}" not in text.splitlines()
        if path.endswith(".py"):
            return not re.search(rf"^\s*(def|class) {re.escape(title)}\b", text, re.MULTILINE)
        return not re.search(rf'TEST_CASE\(\s*"{re.escape(title)}"', text)

    def _check_clause(self, c):
        where = f"{c.source}: {c.id}"
        if c.level not in LEVELS:
            yield f"{where}: the level is one of {', '.join(LEVELS)}"
        if c.status not in STATUSES:
            yield f"{where}: the status is one of {', '.join(STATUSES)}"
        if c.status == "done" and not c.code:
            yield f"{where}: done, but no code is cited"
        if c.status == "done" and not c.test:
            yield f"{where}: done, but no test is cited; write one or say 'open'"
        if c.status != "done" and not c.reason:
            yield f"{where}: {c.status} without a reason"
        for citation in c.code:
            if self._code_leads_nowhere(citation):
                yield f"{where}: the code citation '{citation}' leads nowhere"
        for citation in c.test:
            if self._test_leads_nowhere(citation):
                yield f"{where}: the test citation '{citation}' leads nowhere"

    def _check_mutant(self, m, clauses):
        where = f"{FOLDER}/{MUTANTS}: {m.name}"
        clause = clauses.get(m.clause)
        if clause is None or clause.status != "done" or clause.level != "MUST":
            yield f"{where}: '{m.clause}' is no MUST of the ledger that is done"
        elif m.test not in clause.test:
            yield f"{where}: {m.clause} does not cite the test '{m.test}'"
        if m.before == m.after:
            yield f"{where}: changes nothing"
        count = (self._text(m.file) or "").count(m.before)
        if count != 1:
            yield f"{where}: its 'before' is found {count} times in {m.file}, not once"

    def check(self):
        findings = list(self.findings)
        seen = {}
        for c in self.clauses():
            key = f"{c.rfc} {c.id}"
            if key in seen:
                findings.append(f"{c.source}: {c.id} is there twice")
            seen[key] = c
            findings += self._check_clause(c)
        names = set()
        for m in self.mutants:
            if m.name in names:
                findings.append(f"{FOLDER}/{MUTANTS}: {m.name} is there twice")
            names.add(m.name)
            findings += self._check_mutant(m, seen)
        if self.rfcs and self._text(f"{FOLDER}/{PAGE}") != self.page():
            findings.append(f"{FOLDER}/{PAGE}: is not what the ledger says; run tools/rfc-ledger")
        return findings

    # --- the page

    def page(self):
        lines = [
            "# What the standards ask for, and what is there",
            "",
            "Made by `tools/rfc-ledger` from the files beside it; do not edit. *done*: the code does it and the named test fails",
            "without it. *exception*: deliberately otherwise. *open*: missing, or not shown by a test yet. A mutant is a change of",
            "one line that the test was seen to notice (`tools/mutants`). The clauses are in our words; the RFC has the last one.",
            "",
            "| RFC | | MUST done | exception | open | SHOULD done | exception | open | MAY done | other | mutants |",
            "|---|---|---|---|---|---|---|---|---|---|---|",
        ]
        total = []
        for number, (title, clauses) in sorted(self.rfcs.items()):
            anchor = f"[{number}](#rfc-{number})"
            lines.append(self._row(anchor, title, clauses, [m for m in self.mutants if m.clause.split()[0] == str(number)]))
            total += clauses
        lines.append(self._row("all", "", total, self.mutants))
        for number, (title, clauses) in sorted(self.rfcs.items()):
            lines += ["", f"## RFC {number}", "", f"{title}.", "", "| clause | section | | what | status | code | test |",
                      "|---|---|---|---|---|---|---|"]
            lines += [self._clause_row(c) for c in clauses]
        return "\n".join(lines) + "\n"

    def _row(self, anchor, title, clauses, mutants):
        def count(level, status):
            return str(sum(c.level == level and c.status == status for c in clauses))

        other = str(sum(c.level == "MAY" and c.status != "done" for c in clauses))
        cells = [anchor, title] + [count(level, s) for level in LEVELS[:2] for s in STATUSES]
        return "| " + " | ".join(cells + [count("MAY", "done"), other, str(len(mutants))]) + " |"

    def _clause_row(self, c):
        mutants = [m.name for m in self.mutants if m.clause == f"{c.rfc} {c.id}"]
        tests = c.test + ([f"mutants: {', '.join(mutants)}"] if mutants else [])
        text = c.text + (f" *{c.reason}*" if c.reason else "")
        cells = [c.id, c.section, c.level, text, c.status, "<br>".join(f"`{x}`" for x in c.code), "<br>".join(tests)]
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
