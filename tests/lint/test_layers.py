"""A folder includes only what stands below it (docs/ARCHITECTURE.md): the table here is the rule."""

import re

from lint import finish, lines_of, sources

# Folder -> the folders it may include, itself apart.
ALLOWED = {
    "base": [],
    "lwkt": ["base"],
    "netmsg": ["lwkt", "base"],
    "sockbuf": ["base"],
    "protocols": ["netmsg", "sockbuf", "lwkt", "base"],
    "drivers": ["netmsg", "lwkt", "base"],
    "gateway": ["protocols", "netmsg", "sockbuf", "lwkt", "base"],
    "client": ["sockbuf", "base"],
    "embed": ["gateway", "client", "drivers", "protocols", "netmsg", "sockbuf", "lwkt", "base"],
    "netd": ["gateway", "drivers", "protocols", "netmsg", "sockbuf", "lwkt", "base"],
}
# Pure parse and emit: no state, no clock, nothing but the ground and itself.
WIRE = "protocols/wire"
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"')


def main():
    findings = []
    for path in sources():
        folder = path.parts[0]
        if folder not in ALLOWED:
            continue
        for number, line in lines_of(path):
            match = INCLUDE.match(line)
            if not match:
                continue
            target = match.group(1)
            if "/" not in target or target.startswith("."):
                findings.append(f'{path}:{number}: "{target}": include from the root, as in "{folder}/{target}"')
                continue
            other = target.split("/")[0]
            if other != folder and other not in ALLOWED[folder]:
                findings.append(f'{path}:{number}: {folder}/ may not include {other}/ ("{target}"); it may: '
                                + (", ".join(ALLOWED[folder]) or "nothing"))
            in_wire = path.as_posix().startswith((WIRE + "/", WIRE + "_"))
            if in_wire and other not in ("base",) and not target.startswith((WIRE + "/", WIRE + "_")):
                findings.append(f'{path}:{number}: {WIRE} is pure: base/ and itself only, not "{target}"')
    finish(findings)


if __name__ == "__main__":
    main()
