"""Line plots, scatter plots and bars as pillow images.

Only this module and diagram.py import matplotlib, and they do so late.
"""
import io
import logging

import torch
from PIL import Image

from .notebook import show
from .tiles import few_colours

COLOURS = ("red", "green", "blue")              # curves and bars of these names are drawn in them


def lines(curves: dict, *, xlabel="", ylabel="", title=None, log=(), marker="",
          dashed=()) -> Image.Image:
    """A line plot.  curves: name -> (x, y) or (x, y, error), sequences or tensors.

    error: half the height of an error bar at each point.  Curves named red, green and blue are drawn
    so.  log: logarithmic axes, e.g. ("y",).  dashed: names of curves to draw with dashes, so that a
    curve below can be seen."""
    figure, axes = _axes(xlabel, ylabel, title, log)
    for name, (x, y, *error) in curves.items():
        colour, style = name if name in COLOURS else None, "--" if name in dashed else "-"
        axes.errorbar(_numbers(x), _numbers(y), *map(_numbers, error), label=name, marker=marker,
                      color=colour, linestyle=style, capsize=3 if error else 0)
    return _render(figure, axes, legend=len(curves) > 1)


def points(clouds: dict, *, xlabel="", ylabel="", title=None, log=()) -> Image.Image:
    """A scatter plot.  clouds: name -> (x, y), sequences or tensors.

    log: logarithmic axes, e.g. ("x", "y")."""
    figure, axes = _axes(xlabel, ylabel, title, log)
    for name, (x, y) in clouds.items():
        axes.plot(_numbers(x), _numbers(y), ".", label=name, alpha=0.5)
    return _render(figure, axes, legend=len(clouds) > 1)


def bars(series: dict, *, xlabel="", ylabel="", title=None, log=()) -> Image.Image:
    """Bars side by side.  series: name -> {label: number}; every series has the labels of the first.

    Series named red, green and blue are drawn so.  log: ("y",) or ()."""
    figure, axes = _axes(xlabel, ylabel, title, log)
    labels = list(next(iter(series.values())))
    width = 0.8 / len(series)
    for k, (name, values) in enumerate(series.items()):
        offset = (k - (len(series) - 1) / 2) * width
        x = [i + offset for i in range(len(labels))]
        colour = name if name in COLOURS else None
        axes.bar(x, [float(values[label]) for label in labels], width, label=name, color=colour)
    names = [str(label) for label in labels]
    broken = [name.replace(" ", "\n") for name in names]
    fitting = next((texts for texts in (names, broken) if _fit(texts)), None)
    axes.set_xticks(range(len(names)), fitting or names, rotation=0 if fitting else 90)
    if len(series) > 1:
        # bars may be of full height: no room among them
        columns = len(series) if _fit(list(series), handle=6) else 2
        figure.legend(loc="outside upper center", ncols=columns)
    return _render(figure, axes)


def _fit(names, handle=0):
    """Whether texts of one or more lines have room side by side.  handle: letters that each takes more."""
    return len(names) * (handle + max(len(line) for name in names for line in name.split("\n"))) <= 72


def heatmap(values, *, rows, columns, xlabel="", ylabel="", title=None) -> Image.Image:
    """A table of numbers as shades, each number written in its cell, or in a large table a scale beside it.

    values: [R C], a tensor or lists.  rows, columns: R and C names.  ValueError if they do not fit."""
    values = torch.as_tensor(values, dtype=torch.float64).cpu()
    if values.shape != (len(rows), len(columns)):
        raise ValueError(f"values {list(values.shape)} for {len(rows)} rows and {len(columns)} columns")
    is_large = values.numel() > 100
    figure, axes = _axes(xlabel, ylabel, title, ())
    margin = 0.4 + 0.08 * max(len(str(name)) for name in rows)
    figure.set_size_inches(max(5, margin + (0.3 if is_large else 0.55) * len(columns)),
                           max(2, 1 + (0.22 if is_large else 0.32) * len(rows)))
    axes.grid(False)
    shades = axes.imshow(values.numpy(), aspect="auto", cmap="Greys")
    letters = len(columns) * max(len(str(name)) for name in columns)
    axes.set_xticks(range(len(columns)), columns, rotation=90 if letters > 60 else 0)
    axes.set_yticks(range(len(rows)), rows)
    if is_large:
        figure.colorbar(shades)
    else:
        _write_numbers(axes, values)
    return _render(figure, axes)


def _write_numbers(axes, values):
    middle = (values.min() + values.max()) / 2
    for i, row in enumerate(values):
        for j, value in enumerate(row):
            axes.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=8,
                      color="white" if value > middle else "black")


def plot_lines(curves: dict, *, title=None, path=None, **options):
    """Show a line plot; arguments as in `lines`. With path: save a PNG instead."""
    show(lines(curves, title=title, **options), title, path=path)


def plot_points(clouds: dict, *, title=None, path=None, **options):
    """Show a scatter plot; arguments as in `points`. With path: save a PNG instead."""
    show(points(clouds, title=title, **options), title, path=path)


def plot_bars(series: dict, *, title=None, path=None, **options):
    """Show bars; arguments as in `bars`. With path: save a PNG instead."""
    show(bars(series, title=title, **options), title, path=path)


def _axes(xlabel, ylabel, title, log):
    # without this a first run says on stderr that it looks for fonts
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    from matplotlib.figure import Figure  # no pyplot: no global state, no backend
    figure = Figure(figsize=(6, 3.2), dpi=80, layout="constrained")
    axes = figure.subplots()
    axes.set(xlabel=xlabel, ylabel=ylabel, title=title or "", **{f"{axis}scale": "log" for axis in log})
    axes.grid(alpha=0.3)
    return figure, axes


def _numbers(values):
    return values.detach().cpu().numpy() if torch.is_tensor(values) else list(values)


def _render(figure, axes, legend=False):
    if legend:
        axes.legend()
    file = io.BytesIO()
    figure.savefig(file, format="png")
    # a plot has few colours, and weighs a third like this; with fewer its grid would fade
    return few_colours(Image.open(file), 48)
