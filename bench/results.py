# SPDX-License-Identifier: GPL-2.0
"""What the benches have in common: ratios with their spread, the files of results, the goals.

A row of results is a dict with at least

    bed      where it was measured
    ours     what of this project was measured
    against  what was measured beside it, sample by sample in turn
    ratio    the median, over the rounds, of ours divided by the other
    low      and
    high     the ends of a 95 % confidence interval of that median
    samples  how many rounds
    goal     what the ratio is to reach, or None where there is no goal

and with the parameters of the cell that it is of. Where lower is better the goal is the most that the
ratio may be, else the least.
"""

import csv
import json
import random
import statistics

NATIVE = "user-mode Linux, native"  # a bed
RESAMPLES = 400


def interval(values, rng):
    """A 95 % confidence interval of the median, by bootstrap."""
    medians = sorted(
        statistics.median(rng.choices(values, k=len(values))) for _ in range(RESAMPLES)
    )
    return medians[int(0.025 * RESAMPLES)], medians[int(0.975 * RESAMPLES) - 1]


def spread(values):
    """The median, and the ends of its interval."""
    return statistics.median(values), *interval(values, random.Random(1))


def compare(ours, its):
    """The fields ratio, low, high and samples, of two lists of samples, round by round."""
    ratios = [a / b for a, b in zip(ours, its, strict=True)]
    ratio, low, high = spread(ratios)
    return {"ratio": ratio, "low": low, "high": high, "samples": len(ratios)}


def write(prefix, rows):
    """Writes PREFIX.json and PREFIX.csv."""
    rows = list(rows)
    if not rows:
        raise SystemExit(f"{prefix}: no samples")
    with open(f"{prefix}.json", "w", encoding="ascii") as file:
        json.dump(rows, file, indent=1)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with open(f"{prefix}.csv", "w", encoding="ascii", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def is_met(row, lower_is_better):
    """Whether the median is at its goal or better."""
    return row["ratio"] <= row["goal"] if lower_is_better else row["ratio"] >= row["goal"]


def goals_table(rows, parameters, lower_is_better):
    """The lines of a table of those rows that have a goal, PARAMETERS being the columns before."""
    rows = [row for row in rows if row["goal"] is not None]
    widths = [max(len(name), *(len(str(row[name])) for row in rows), 0) for name in parameters]
    yield (
        "  ".join(f"{name:<{width}}" for name, width in zip(parameters, widths))
        + f"  {'goal':>6} {'ratio':>6}  {'95 %':<12}"
    )
    for row in rows:
        yield (
            "  ".join(f"{row[name]!s:<{width}}" for name, width in zip(parameters, widths))
            + f"  {'≤' if lower_is_better else '≥'} {row['goal']:.2f} {row['ratio']:6.2f}"
            + f"  {row['low']:.2f} to {row['high']:.2f}"
            + f"  {'met' if is_met(row, lower_is_better) else 'missed'}"
        )
