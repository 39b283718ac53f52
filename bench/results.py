# SPDX-License-Identifier: GPL-2.0
"""What the benches have in common: ratios with their spread, the files of results, the goals.

A row of results is a dict with at least

    bed      where it was measured
    measured the variant or consumer that the row is about
    against  the one that it is compared with, sample by sample in turn
    ratio    the median, over the rounds, of the first divided by the second
    low      and
    high     the ends of a 95 % confidence interval of that median
    samples  how many rounds
    goal     what the ratio is to reach, or None where there is no goal

and, before the ratio, with the parameters of the cell that it is of. Figures that belong to a row, but
do not say which it is, are named measured_*, against_*, or come later. Where lower is better the row has
the field better = "lower", and the goal is the most that the ratio may be, else the least.
"""

import csv
import json
import random
import statistics

NATIVE = "user-mode Linux, native"  # a bed
FIELDS = ("bed", "measured", "against", "ratio", "low", "high", "samples", "goal", "better")
VERDICT = f"{'goal':>6} {'ratio':>6}  {'95 %':<12}"
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


def compare(values, others):
    """The fields ratio, low, high and samples, of two lists of samples, round by round."""
    ratios = [a / b for a, b in zip(values, others, strict=True)]
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
    with open(f"{prefix}.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def is_met(row, lower_is_better):
    """Whether the median is at its goal or better."""
    return row["ratio"] <= row["goal"] if lower_is_better else row["ratio"] >= row["goal"]


def is_open(row, lower_is_better):
    """Whether the goal is missed by the median, but within the interval: by chance, it may be."""
    return not is_met(row, lower_is_better) and row["low"] <= row["goal"] <= row["high"]


def verdict(row, lower_is_better):
    """The goal of a row, what was measured, and whether that is enough: the columns of VERDICT."""
    met = "met" if is_met(row, lower_is_better) else "missed"
    return (
        f"{'≤' if lower_is_better else '≥'} {row['goal']:.2f} {row['ratio']:6.2f}"
        f"  {row['low']:.2f} to {row['high']:.2f}"
        f"  {met}{', within the interval' if is_open(row, lower_is_better) else ''}"
    )


def table(lines):
    """Lines of a table, out of tuples of cells: the last of each is not filled up."""
    lines = [[str(text) for text in line] for line in lines]
    widths = [max(map(len, column)) for column in list(zip(*lines))[:-1]]
    for *cells, last in lines:
        yield "  ".join([*(f"{text:<{width}}" for text, width in zip(cells, widths)), last])


def ratios_table(rows, cell_fields):
    """Yields the lines of the table of all ratios."""
    columns = (*cell_fields, "measure", "measured", "against")
    lines = [(*columns, "ratio", "95 %")]
    for row in rows:
        ends = f"{row['low']:.3f} to {row['high']:.3f}"
        lines.append((*(row[column] for column in columns), f"{row['ratio']:.3f}", ends))
    yield from table(lines)


def cell(row):
    """The parameters of a row, in words."""
    names = list(row)
    return ", ".join(
        f"{name} {row[name]}"
        for name in names[: names.index("ratio")]
        if name not in FIELDS and not name.startswith(("measured_", "against_"))
    )


def goals_table(rows, parameters, lower_is_better):
    """The lines of a table of those rows that have a goal, PARAMETERS being the columns before."""
    yield from table(
        [(*parameters, VERDICT)]
        + [
            (*(row[name] for name in parameters), verdict(row, lower_is_better))
            for row in rows
            if row["goal"] is not None
        ]
    )


def summary(benches):
    """The lines of one table of all goals: BENCHES maps a name to the rows of that bench."""
    lines = [("bench", "bed", "cell", "against", VERDICT)]
    met = within = 0
    for name, rows in benches.items():
        for row in rows:
            if row["goal"] is not None:
                lower_is_better = row.get("better") == "lower"
                met += is_met(row, lower_is_better)
                within += is_open(row, lower_is_better)
                lines.append(
                    (name, row["bed"], cell(row), row["against"], verdict(row, lower_is_better))
                )
    yield from table(lines)
    yield f"\n{met} of {len(lines) - 1} goals met, {within} missed within the interval"
