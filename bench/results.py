# SPDX-License-Identifier: GPL-2.0
"""Functions of all benches: ratios with their spread, files of results, goals.

A row of results is a dict with at least

    bed      the environment of the measurement
    measured the measured variant or consumer
    against  the variant or consumer for comparison; samples alternate
    ratio    the median, over the rounds, of the first divided by the second
    low      and
    high     the ends of a 95 % confidence interval of that median
    samples  the number of rounds
    goal     the goal of the ratio, or None without a goal

The parameters of the cell come before the ratio. Other values are named measured_*, against_*, or come later.
If lower is better, the row has the field better = "lower", and the goal is an upper limit of the ratio, else
a lower limit.
"""

import csv
import json
import random
import statistics

NATIVE = "user-mode Linux, native"  # an environment
FIELDS = ("bed", "measured", "against", "ratio", "low", "high", "samples", "goal", "better")
VERDICT = f"{'goal':>6} {'ratio':>6}  {'95 %':<12}"
RESAMPLES = 400


def interval(values, rng):
    """Returns a 95 % confidence interval of the median, by bootstrap."""
    medians = sorted(
        statistics.median(rng.choices(values, k=len(values))) for _ in range(RESAMPLES)
    )
    return medians[int(0.025 * RESAMPLES)], medians[int(0.975 * RESAMPLES) - 1]


def spread(values):
    """Returns the median, and the ends of its interval."""
    return statistics.median(values), *interval(values, random.Random(1))


def compare(values, others):
    """Compares two lists of samples round by round; returns the fields ratio, low, high and samples."""
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
    """Checks whether the median is at its goal or better."""
    return row["ratio"] <= row["goal"] if lower_is_better else row["ratio"] >= row["goal"]


def is_open(row, lower_is_better):
    """Checks whether the median misses the goal, but the goal is within the interval."""
    return not is_met(row, lower_is_better) and row["low"] <= row["goal"] <= row["high"]


def verdict(row, lower_is_better):
    """Returns the columns of VERDICT: the goal of a row, its ratio, and whether the goal is met."""
    met = "met" if is_met(row, lower_is_better) else "missed"
    return (
        f"{'≤' if lower_is_better else '≥'} {row['goal']:.2f} {row['ratio']:6.2f}"
        f"  {row['low']:.2f} to {row['high']:.2f}"
        f"  {met}{', within the interval' if is_open(row, lower_is_better) else ''}"
    )


def table(lines):
    """Yields the lines of a table from tuples of cells. The last cell of a line is not padded."""
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
    """Returns the parameters of a row as text."""
    names = list(row)
    return ", ".join(
        f"{name} {row[name]}"
        for name in names[: names.index("ratio")]
        if name not in FIELDS and not name.startswith(("measured_", "against_"))
    )


def goals_table(rows, parameters, lower_is_better):
    """Yields the lines of a table of the rows with a goal, with PARAMETERS as the first columns."""
    yield from table(
        [(*parameters, VERDICT)]
        + [
            (*(row[name] for name in parameters), verdict(row, lower_is_better))
            for row in rows
            if row["goal"] is not None
        ]
    )


def summary(benches):
    """Yields the lines of one table of all goals. BENCHES maps a name to the rows of that bench."""
    lines = [("bench", "environment", "cell", "against", VERDICT)]
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
