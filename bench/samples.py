# SPDX-License-Identifier: GPL-2.0
"""Reads the samples of bench/streams/in-guest, and compares variants in them."""

import collections
import re
import statistics

from results import compare

# Per second, in /proc/stat.
TICKS = 100


def wall_time(before, after):
    """Returns the seconds between two readings of /proc/stat, from the ticks of its first CPU."""

    def ticks(text):
        line = next(line for line in text.splitlines() if line.startswith("cpu0 "))
        return sum(int(field) for field in line.split()[1:9])

    return max(ticks(after) - ticks(before), 1) / TICKS


def counted(before, after, name):
    """Returns the increase of a counter of tuntap_ring; 0 without the module."""
    texts = (re.search(rf"/{name}:(\d+)$", text, re.MULTILINE) for text in (before, after))
    old, new = (int(match[1]) if match else 0 for match in texts)
    return new - old


def percentile(values, share):
    """Returns the percentile of SHARE, from 0 to 1; None without values."""
    values = sorted(values)
    return values[min(int(len(values) * share), len(values) - 1)] if values else None


def cells_of(samples, fields):
    """Groups the plain samples by cell, which has these fields, and variant."""
    cells = collections.defaultdict(lambda: collections.defaultdict(list))
    for sample in samples:
        if sample["kind"] == "plain":
            cells[tuple(sample[field] for field in fields)][sample["variant"]].append(sample)
    return cells


def comparison(cell_fields, names, variants, compared, goal):
    """Returns the row that compares two variants, NAMES, by COMPARED: key, name, and whether lower is better."""
    key, measure, lower_is_better = compared
    values = [[sample[key] for sample in variants[name]] for name in names]
    return {
        **cell_fields,
        "measure": measure,
        "measured": names[0],
        "against": names[1],
        "measured_median": statistics.median(values[0]),
        "against_median": statistics.median(values[1]),
        **compare(*values),
        "goal": goal,
        "better": "lower" if lower_is_better else "higher",
    }


def lost_row(cell_fields, measured, samples):
    """Returns a row of the goal that no packet is lost; its ratio is the number of lost packets."""
    lost = sum(sample["lost"] for sample in samples)
    return {
        **cell_fields,
        "measure": "packets lost",
        "measured": measured,
        "against": "none",
        "ratio": lost,
        "low": lost,
        "high": lost,
        "samples": len(samples),
        "goal": 0,
        "better": "lower",
    }
