# SPDX-License-Identifier: GPL-2.0
"""Plots of results, as SVG (or PNG, by the end of the path).

Each plot shows values with their interval as error bars. Colours can be distinguished with red-green colour
blindness; markers, lines and hatches can be distinguished without colours. The same values make the same
file.
"""

import collections

import matplotlib

matplotlib.use("Agg")
# pylint: disable=wrong-import-position
from matplotlib import pyplot, ticker

# The colours of Okabe and Ito, without yellow, which is faint on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))
HATCHES = ("", "//", "..", "xx", "\\\\", "oo", "++")
WIDE_TICKS = tuple(2.0**power for power in range(-10, 11))
NARROW_TICKS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 1.75, 2, 2.5, 3, 4, 5)
STYLE = {
    "svg.hashsalt": "tuntap-ring",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "hatch.linewidth": 0.5,
}


def errors(points):
    """Returns the lengths of error bars, below and above, of (value, low, high)."""
    return [
        [max(0.0, value - low) for value, low, _ in points],
        [max(0.0, high - value) for value, _, high in points],
    ]


def new_figure(title, rows, columns, size, sharey=False):
    """Returns a figure of ROWS by COLUMNS panels of SIZE inches each."""
    figure, axes = pyplot.subplots(
        rows,
        columns,
        sharey=sharey,
        squeeze=False,
        figsize=(size[0] * columns, size[1] * rows + 1),
        layout="constrained",
    )
    figure.suptitle(title)
    return figure, axes


def save(figure, path):
    """Writes a figure, with its legend below the panels, in the format of the end of the path."""
    labels = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels()):
            labels.setdefault(label, handle)
    if len(labels) > 1:
        figure.legend(
            labels.values(), labels, loc="outside lower center", ncols=min(4, len(labels))
        )
    figure.savefig(path, metadata={"Date": None} if str(path).endswith(".svg") else None)
    pyplot.close(figure)


def ratio_scale(axes, points, text):
    """Sets up a logarithmic axis for these (ratio, low, high), on which 2 is as far from 1 as 1/2."""
    low = min(0.8, *(0.95 * low for _, low, _ in points))
    high = max(1.25, *(1.05 * high for _, _, high in points))
    wide = high > 6 * low
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    axes.set_yticks(
        [tick for tick in (WIDE_TICKS if wide else NARROW_TICKS) if low <= tick <= high],
        minor=False,
    )
    axes.yaxis.set_minor_locator(ticker.NullLocator())
    axes.yaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
    axes.axhline(1, color="black", linewidth=1)
    axes.set_ylabel(text)


def interval(row):
    """Returns the point of a row of results: (ratio, low, high)."""
    return row["ratio"], row["low"], row["high"]


def line(axes, index, name, places, points):
    """Draws one line with error bars, in the style of that index."""
    axes.errorbar(
        places,
        [value for value, _, _ in points],
        yerr=errors(points),
        label=name,
        color=COLOURS[index % len(COLOURS)],
        marker=MARKERS[index % len(MARKERS)],
        linestyle=LINES[index % len(LINES)],
        markersize=4,
        linewidth=1.2,
        capsize=2,
    )


def grouped(rows, *fields):
    """Groups rows by the values of some fields, in the order of the rows."""
    groups = collections.defaultdict(list)
    for row in rows:
        groups[tuple(row[field] for field in fields)].append(row)
    return groups


def ratios(path, rows, *, x, series, panel, band=None, title, better):
    """Plots the ratios of rows of results over the field X (a number of few values).

    There is a line for each value of the field SERIES, a panel for each value of PANEL, and a row of
    panels for each value of BAND. BETTER is "higher" or "lower".
    """
    with matplotlib.rc_context(STYLE):
        bands = grouped(rows, *([band] if band else []))
        columns = list(grouped(rows, panel))
        names = list(grouped(rows, series))
        values = sorted({row[x] for row in rows})
        figure, axes = new_figure(title, len(bands), len(columns), (2.2, 2.4), "row")
        for of_band, (key, banded) in zip(axes, bands.items()):
            text = "".join(f"{band} {value}\n" for value in key) + f"ratio ({better} is better)"
            panels = grouped(banded, panel)
            for here, column in zip(of_band, columns):
                for (name,), points in grouped(panels[column], series).items():
                    line(
                        here,
                        names.index((name,)),
                        str(name),
                        [values.index(row[x]) for row in points],
                        [interval(row) for row in points],
                    )
                here.set_title(f"{panel} {column[0]}", fontsize="medium")
                here.set_xticks(range(len(values)), values)
                here.set_xlabel(x)
                ratio_scale(
                    here, [interval(row) for row in banded], text if here is of_band[0] else ""
                )
        save(figure, path)


def bars(path, groups, series, *, title, ylabel, base=None, wide=1.6):
    """Plots grouped bars.

    GROUPS are labels; SERIES maps a name to a list with (value, low, high), or None without a value,
    for each group. Bars start at BASE, where a line is drawn, such as 1 for ratios. WIDE is the width of
    a group, in inches.
    """
    with matplotlib.rc_context(STYLE):
        figure, [[axes]] = new_figure(title, 1, 1, (max(5, 1 + wide * len(groups)), 3))
        width = 0.8 / len(series)
        for index, (name, points) in enumerate(series.items()):
            placed = [
                (place + width * (index - (len(series) - 1) / 2), point)
                for place, point in enumerate(points)
                if point is not None
            ]
            axes.bar(
                [place for place, _ in placed],
                [point[0] - (base or 0) for _, point in placed],
                width * 0.92,
                bottom=base or 0,
                yerr=errors([point for _, point in placed]),
                label=name,
                color=COLOURS[index % len(COLOURS)],
                hatch=HATCHES[index % len(HATCHES)],
                edgecolor="white",
                linewidth=0,
                error_kw={"capsize": 2, "linewidth": 1},
            )
        if base is not None:
            axes.axhline(base, color="black", linewidth=1)
        axes.set_xticks(range(len(groups)), groups)
        axes.grid(axis="x", visible=False)
        axes.set_ylabel(ylabel)
        save(figure, path)


def curve(path, panels, *, title, ylabel):
    """Plots curves over powers of two.

    PANELS maps the name of an x axis to its curves: a name to a list of (x, value, low, high).
    """
    with matplotlib.rc_context(STYLE):
        names = list(dict.fromkeys(name for curves in panels.values() for name in curves))
        figure, [axes] = new_figure(title, 1, len(panels), (4, 3.2))
        for here, (text, curves) in zip(axes, panels.items()):
            for name, points in curves.items():
                line(
                    here,
                    names.index(name),
                    name,
                    [point[0] for point in points],
                    [point[1:] for point in points],
                )
            here.set_xscale("log", base=2)
            here.set_xticks(sorted({point[0] for points in curves.values() for point in points}))
            here.xaxis.set_major_formatter(ticker.FormatStrFormatter("%d"))
            here.xaxis.set_minor_locator(ticker.NullLocator())
            here.tick_params(axis="x", labelrotation=45 if len(here.get_xticks()) > 6 else 0)
            here.set_xlabel(text)
            tops = [point[3] for points in curves.values() for point in points]
            if max(tops) > 10 * min(tops):
                here.set_yscale("log")
                here.yaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
            else:
                here.set_ylim(0, 1.05 * max(tops))
        axes[0].set_ylabel(ylabel)
        save(figure, path)


def over_time(path, panels, *, title, ylabel, every):
    """Plots steps over time, on a logarithmic scale.

    PANELS maps the name of a panel to its runs: lists of values, one each EVERY seconds.
    """
    with matplotlib.rc_context(STYLE):
        figure, [axes] = new_figure(title, 1, len(panels), (2.4, 2.2), "row")
        for here, (name, runs) in zip(axes, panels.items()):
            for index, values in enumerate(runs):
                here.step(
                    [every * number for number in range(len(values))],
                    values,
                    where="post",
                    color=COLOURS[index % len(COLOURS)],
                    linewidth=1,
                )
            here.set_yscale("log", base=2)
            here.yaxis.set_major_formatter(ticker.FormatStrFormatter("%d"))
            here.yaxis.set_minor_locator(ticker.NullLocator())
            here.set_xlabel(f"{name}\nseconds")
        axes[0].set_ylabel(ylabel)
        save(figure, path)
