"""Group micro: bench-micro, the parts by themselves. Figures in ns belong to the machine; the two ratios are goals."""

from .figures import plot
from .printed import printing


def curves(objects):
    """Figures that bench-micro prints per size ("at" = how many timers or connections) as curves."""
    lines = {}
    for one in objects:
        if one.get("value") is not None and "at" in one:
            lines.setdefault(one["of"], []).append([one["at"], one["value"], one["low"], one["high"]])
    titles = {"wheel": ("Timer wheel", "timers in the wheel"), "pcb": ("PCB lookup", "connections in the table")}
    found = []
    for prefix, (title, x) in titles.items():
        of_prefix = {name: points for name, points in lines.items() if name.startswith(prefix)}
        if of_prefix:
            found.append(plot(f"micro.{prefix}", title, x, "ns per operation", of_prefix,
                              "bench-micro: median of its rounds, with the lowest and the highest", log_x=True))
    return found


def tasks():
    return [printing("micro", "rings, calls, doorbells, wheel, pools, checksum, tables", "bench-micro",
                     ("ratio.ring64", "ratio.call_rtt"), 240, 35, "micro.", curves)]
