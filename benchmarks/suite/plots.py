"""The report's plots as SVG text. The only file of the suite that needs matplotlib."""

import io
import re

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams.update({"svg.fonttype": "none", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False,
                            "svg.hashsalt": "netd"})
from matplotlib import pyplot  # noqa: E402

from .rows import BY_NAME  # noqa: E402

GOOD, BAD, NEUTRAL = "#2b8a4b", "#c0573f", "#6b7f99"


def svg(figure, name):
    """The figure as an element of the page; ids are made unique, several plots share one document."""
    text = io.StringIO()
    figure.savefig(text, format="svg", bbox_inches="tight", metadata={"Date": None})
    pyplot.close(figure)
    drawing = text.getvalue()
    drawing = drawing[drawing.index("<svg"):]
    tag = re.sub(r"\W", "_", name)
    return re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{tag}-", drawing)


def part_of_goal(goal, value):
    return value / goal.bound if goal.sign == ">=" else goal.bound / value if value else 0.0


def ratio_bars(rows):
    """Value over goal for every ratio that has one, with the spread; None if there is none."""
    rows = [one for one in rows if BY_NAME[one["name"]].sign and BY_NAME[one["name"]].bound]
    if not rows:
        return None
    figure, axes = pyplot.subplots(figsize=(8, 0.6 + 0.32 * len(rows)))
    for place, one in enumerate(reversed(rows)):
        goal = BY_NAME[one["name"]]
        value, low, high = (part_of_goal(goal, one[which]) for which in ("value", "low", "high"))
        axes.barh(place, value, height=0.62, color=GOOD if one["reached"] else BAD)
        axes.plot([min(low, high), max(low, high)], [place, place], color="#222", linewidth=1)
        axes.text(max(value, low, high) + 0.03, place, f"{one['value']:.3g} (goal {goal.sign} {goal.bound:g})", va="center")
    axes.axvline(1, color="#222", linewidth=1, linestyle="--")
    axes.set_yticks(range(len(rows)), [one["name"] for one in reversed(rows)])
    axes.set_xlabel("value / goal")
    return svg(figure, "ratios")


def curve(series):
    figure, axes = pyplot.subplots(figsize=(7.2, 3.4))
    for line in series["lines"]:
        points = sorted(line["points"])
        x, y = [point[0] for point in points], [point[1] for point in points]
        drawn, = axes.plot(x, y, marker="o", markersize=3.5, label=line["name"], linestyle="none" if series.get("ticks") else "-")
        spread = [point for point in points if len(point) > 3]
        if spread:
            axes.vlines([point[0] for point in spread], [point[2] for point in spread], [point[3] for point in spread],
                        color=drawn.get_color(), linewidth=1)
    if series.get("log_x"):
        axes.set_xscale("log")
    if series.get("log_y"):
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    if series.get("ticks"):
        axes.set_xticks(range(len(series["ticks"])), series["ticks"])
    axes.set_xlabel(series["x"])
    axes.set_ylabel(series["y"])
    axes.grid(alpha=0.25)
    if len(series["lines"]) > 1 or series["lines"][0]["name"]:
        axes.legend(frameon=False, fontsize=8)
    return svg(figure, series["name"])
