"""The HTML report of a run: one file that needs nothing else. What was reached, on which machine, with plots."""

import html
import importlib.util
import os
import pathlib
import subprocess
import sys

from netdtools.process import ToolError

from .rows import BY_NAME, GROUPS

TITLES = {
    "micro": "The parts by themselves", "stack": "The stack without a device", "compare": "Against the Linux kernel",
    "apps": "Unmodified programs", "starve": "What happens in time under a flood", "scale": "More CPUs than this machine has",
}
STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 70em; margin: 2em auto; padding: 0 1em; color: #222; }
h1 { font-size: 1.6em; } h2 { font-size: 1.25em; margin-top: 2em; border-bottom: 1px solid #ccc; }
table { border-collapse: collapse; width: 100%; } th, td { text-align: left; padding: .3em .6em; vertical-align: top; }
tr { border-bottom: 1px solid #e4e4e4; } td.figure { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.reached { color: #176f2c; } .missed { color: #a3341f; } .absent { color: #777; } .why { color: #555; font-size: .87em; }
code { font-size: .92em; } figure { margin: 1.2em 0; } figcaption { color: #555; font-size: .87em; } svg { max-width: 100%; height: auto; }
"""


DEBIAN_PYTHON = "/usr/bin/python3"


def require_plots():
    """Before a run of 46 minutes, not after it. Where another Python comes first in PATH, Debian's takes over."""
    if importlib.util.find_spec("matplotlib"):
        return
    has = [DEBIAN_PYTHON, "-c", "import matplotlib"]
    if os.path.realpath(sys.executable) != os.path.realpath(DEBIAN_PYTHON) and os.path.exists(DEBIAN_PYTHON) and \
            subprocess.run(has, stderr=subprocess.DEVNULL).returncode == 0:
        os.execv(DEBIAN_PYTHON, [DEBIAN_PYTHON, *sys.argv])
    raise ToolError("the HTML report draws with python3-matplotlib, which is not installed; run tools/install-deps "
                    "(--json works without it, and benchmarks/report makes the page from that later)")


def number(value):
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def verdict(one):
    """(class, words)."""
    if one["value"] is None:
        return "absent", "not measured"
    if one.get("reached") is None:
        return "", "stated"
    return ("reached", "reached") if one["reached"] else ("missed", "not reached")


def cell(text, kind=""):
    return f'<td class="{kind}">{text}</td>' if kind else f"<td>{text}</td>"


def table(rows):
    out = ["<table><tr><th>row</th><th>value</th><th>spread</th><th>goal</th><th>verdict</th><th>what, and why</th></tr>"]
    for one in rows:
        kind, words = verdict(one)
        spread = f"{number(one['low'])} to {number(one['high'])}, {one['runs']} runs" if one.get("low") is not None else ""
        compares = BY_NAME[one["name"]].compares if one["name"] in BY_NAME else ""
        why = "<br>".join(html.escape(text) for text in (compares,) if text)
        why += f'<div class="why">{html.escape(one.get("why") or "")}</div>'
        out.append("<tr>" + cell(f"<code>{html.escape(one['name'])}</code>")
                   + cell(f"{number(one['value'])} {html.escape(one['unit'])}" if one["value"] is not None else "-", "figure")
                   + cell(spread, "figure") + cell(html.escape(one.get("goal") or ""), "figure")
                   + cell(f'<span class="{kind}">{words}</span>') + cell(why) + "</tr>")
    return "\n".join([*out, "</table>"])


def machine_table(machine):
    def text(value):
        if isinstance(value, dict):
            return "; ".join(f"{key}: {inner}" for key, inner in value.items())
        if isinstance(value, (list, tuple)):
            return " / ".join(map(str, value))
        return {True: "yes", False: "no", None: "not known here"}.get(value, str(value)) if not isinstance(value, (int, float)) or \
            isinstance(value, bool) else str(value)

    names = {"cpus": "CPUs usable", "cores": "cores", "memory_gib": "memory in GiB", "governor": "frequency governor",
             "congestion_default": "kernel's default congestion control (every compared route says CUBIC)",
             "spin_ratio": "two bare spinning processes : one (median / low / high)", "load_before": "load average before",
             "load_after": "load average after", "quick": "quick run (a look, not a figure to quote)", "minutes": "minutes it took", "guided_by_profile": "guided by a profile", "command": "made by", "interrupted": "interrupted before its end"}
    return "<table>" + "".join(f"<tr><td>{names.get(key, key)}</td><td>{html.escape(text(value))}</td></tr>"
                               for key, value in machine.items()) + "</table>"


def summary(rows):
    goals = [one for one in rows if one["name"] in BY_NAME]
    counts = {words: sum(verdict(one)[1] == words for one in goals) for words in ("reached", "not reached", "stated", "not measured")}
    return ", ".join(f"{count} {words}" for words, count in counts.items() if count) + f", of {len(goals)} rows of the goals table"


def page(result):
    from . import plots  # needs matplotlib
    rows, machine, series = result["rows"], result["machine"], result.get("series", [])
    out = ['<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>netd benchmarks</title>', f"<style>{STYLE}</style></head><body>",
           "<h1>netd: benchmark report</h1>",
           f"<p>{html.escape(str(machine.get('date', '')))}, commit {html.escape(str(machine.get('commit')))}"
           f"{', build ' + html.escape(machine['build']) if machine.get('build') else ''}: {summary(rows)}.</p>",
           "<p>A ratio compares two sides that took turns within this run; its value is the median of the rounds' ratios, its spread "
           "the lowest and the highest of them. Absolute figures describe this machine and are no verdict.</p>"]
    bars = plots.ratio_bars([one for one in rows if one["name"] in BY_NAME and one["value"] is not None and one["unit"] == "ratio"])
    if bars:
        out.append(f"<figure>{bars}<figcaption>Every measured ratio as a part of its goal: the line at 1 is the goal. The thin line is the "
                   "spread over the rounds. Where less is better the part is inverted, so right of the line is always reached."
                   "</figcaption></figure>")
    out.append("<h2>The goals</h2>")
    for group in GROUPS:
        goals = [one for one in rows if one["name"] in BY_NAME and one["group"] == group]
        if goals:
            out.append(f"<h3>{TITLES[group]}</h3>" + table(goals))
    out.append("<h2>The machine</h2>" + machine_table(machine))
    for group in GROUPS:
        of_group = [one for one in rows if one.get("group") == group and one["name"] not in BY_NAME]
        drawn = [one for one in series if one["group"] == group]
        if of_group or drawn:
            out.append(f"<h2>{TITLES[group]}</h2>")
        out += [f"<figure>{plots.curve(one)}<figcaption>{html.escape(one['title'])}. Measured by: {html.escape(one['how'])}."
                "</figcaption></figure>" for one in drawn]
        if of_group:
            out.append(table(of_group))
    return "\n".join([*out, "</body></html>"]) + "\n"


def write(result, path):
    text = page(result)
    try:
        pathlib.Path(path).write_text(text)
    except OSError as error:
        raise ToolError(f"{path}: {error.strerror}") from None
