"""Group micro: bench-micro, the parts by themselves. Figures in ns belong to the machine; the two ratios are goals."""

from .figures import plot
from .printed import printing


def curves(objects):
    """Figures that bench-micro prints per size ("at" = how many timers or connections) as curves."""
    lines = {}
    for one in objects:
        if one.get("value") is not None and "at" in one:
            lines.setdefault(one["of"], []).append([one["at"], one["value"], one["low"], one["high"]])
    titles = {"wheel": ("Timer wheel", "timers in the wheel"), "pcb": ("Connection table", "connections in the table")}
    found = []
    for prefix, (title, x) in titles.items():
        of_prefix = {name: points for name, points in lines.items() if name.startswith(prefix)}
        if of_prefix:
            found.append(plot(f"micro.{prefix}", title, x, "ns per operation", of_prefix,
                              "bench-micro, CPU time: median of its rounds, with the lowest and the highest", log_x=True))
    return found


FAMILIES = {  # family: title, goals, seconds, seconds when quick
    "ring": ("rings and queues between two CPUs", ("ratio.ring64",), 35, 6),
    "call": ("call and reply", ("ratio.call_rtt",), 12, 3),
    "message": ("messages without replies", (), 15, 3),
    "doorbell": ("doorbell of a sleeping CPU", (), 15, 3),
    "wheel": ("timer wheel, 1,000 to 10 million timers", (), 45, 5),
    "pool": ("pools, memory that goes home", (), 15, 3),
    "checksum": ("checksum and copy", (), 10, 3),
    "copy": ("copies whose places alias", (), 3, 1),
    "toeplitz": ("steering hash", (), 5, 2),
    "pcb": ("connection table, 1,000 to 10 million connections", (), 50, 6),
}


def tasks():
    return [printing("micro", title, "bench-micro", goals, seconds, seconds_quick,
                     (f"micro.{family}", *(goal.replace("ratio.", "bound.") for goal in goals)), curves, [family])
            for family, (title, goals, seconds, seconds_quick) in FAMILIES.items()]
