"""Pictures of pictures: grids, film strips, plots, and panels with sliders, in a notebook or as PNG files.

Functions named after a thing (`grid`, `lines`) return a pillow image; functions named after an act (`show_grid`, `plot_lines`) show it in
the notebook, or save it when `path` is given. Left out on purpose: colour themes, animation, figures that you can zoom.
The only module that imports matplotlib and ipywidgets, and it does so late: `import t2ilab.viz` costs nothing.
"""
import io
import logging
import sys
import time
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .tensors import to_uint8

GAP, TEXT, WIDTH = 6, 12, 96                    # pixels: between tiles, height of letters, smallest width of a tile


# Grids and film strips

def grid(images: Tensor, captions=None, *, columns=8, scale=None, title=None) -> Image.Image:
    """One picture with all images in rows, each with its caption below.

    images: [B 3 H W], shown as [-1, 1]; what lies outside is clamped.  captions: B strings or None.
    scale: whole-number enlargement, nearest neighbour (None: tiles become about 100 pixels wide).
    ValueError on any other shape, on NaN, and where captions and images differ in number."""
    tiles = _tiles(images, scale)
    if captions is not None and len(captions) != len(tiles):
        raise ValueError(f"{len(captions)} captions for {len(tiles)} images: give one each, or None")
    columns = min(columns, len(tiles))
    return _sheet([tiles[i:i + columns] for i in range(0, len(tiles), columns)], below=captions, title=title)


def strip(frames, labels=None, *, captions=None, scale=None, title=None) -> Image.Image:
    """One row per image, one column per moment: how a batch changes over time.

    frames: F tensors [B 3 H W], shown as [-1, 1].  labels: F headings, or None.  captions: B strings, one below each row, or None.
    ValueError where frames, labels and captions do not fit together."""
    columns = [_tiles(frame, scale) for frame in frames]
    for what, texts, number in (("labels", labels, len(columns)), ("captions", captions, len(columns[0]))):
        if texts is not None and len(texts) != number:
            raise ValueError(f"{len(texts)} {what} for {number}: give one each, or None")
    return _sheet([list(row) for row in zip(*columns, strict=True)], heads=labels, below=captions, span=len(columns), title=title)


def show_grid(images: Tensor, captions=None, *, columns=8, scale=None, title=None, path=None):
    """Show all images in rows; arguments as in `grid`. With path: save a PNG instead."""
    show(grid(images, captions, columns=columns, scale=scale, title=title), title, path=path)


def film_strip(frames, labels=None, *, captions=None, scale=None, title=None, path=None):
    """Show how a batch changes over time; arguments as in `strip`. With path: save a PNG instead.
    In 256 colours: noise does not compress, and a notebook full of it would weigh too much for git. `show(strip(...))` keeps them all."""
    show(strip(frames, labels, captions=captions, scale=scale, title=title).quantize(256), title, path=path)


def _tiles(images, scale):
    """[B 3 H W] in [-1, 1] -> B pillow images, enlarged."""
    if not (torch.is_tensor(images) and images.ndim == 4 and images.shape[1] == 3 and len(images) and images.is_floating_point()):
        given = f"{images.dtype} {list(images.shape)}" if torch.is_tensor(images) else type(images).__name__
        raise ValueError(f"images: {given}: give floats [B 3 H W] in [-1, 1], B >= 1")
    if images.isnan().any():
        raise ValueError("images: some values are NaN, which no colour can show")
    scale = scale or max(1, round(WIDTH / images.shape[-1]))
    pixels = to_uint8(images.detach()).repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    return [Image.fromarray(p) for p in pixels.permute(0, 2, 3, 1).cpu().numpy()]


def _sheet(rows, *, heads=None, below=None, span=1, title=None):
    """Rows of equal tiles on white. heads: texts above the columns. below: one text under every `span` tiles."""
    w, h = rows[0][0].size
    wide = GAP + len(rows[0]) * (w + GAP)
    heads, below = [_wrap(t, w) for t in heads or []], [_wrap(t, span * w) for t in below or []]
    head, foot = _height(heads), _height(below)
    title = _wrap(title, wide) if title else ""
    top = GAP + _height([title]) + head
    sheet = Image.new("RGB", (wide, top + len(rows) * (h + foot + GAP)), "white")
    write = ImageDraw.Draw(sheet)
    if title:
        write.text((GAP, GAP), title, fill="black", font=_font())
    for j, text in enumerate(heads):
        write.text((GAP + j * (w + GAP), top - head), text, fill="black", font=_font())
    for n, tile in enumerate(t for row in rows for t in row):
        i, j = divmod(n, len(rows[0]))
        x, y = GAP + j * (w + GAP), top + i * (h + foot + GAP)
        write.rectangle((x - 1, y - 1, x + w, y + h), outline="lightgrey")       # a white picture has edges too
        sheet.paste(tile, (x, y))
        if below and n % span == 0:
            write.text((x, y + h), below[n // span], fill="black", font=_font())
    return sheet


def _font():
    return ImageFont.load_default(TEXT)


def _height(texts):
    """Pixels that the tallest of some wrapped texts needs."""
    return max((4 + (TEXT + 4) * (1 + t.count("\n")) for t in texts if t), default=0)


def _wrap(text, width):
    """Break a text into lines that fit into so many pixels, at blanks."""
    lines = [""]
    for word in str(text).split():
        longer = f"{lines[-1]} {word}".strip()
        fits = not lines[-1] or _font().getlength(longer) <= width
        lines = [*lines[:-1], longer] if fits else [*lines, word]
    return "\n".join(lines)


# Plots

def lines(curves: dict, *, xlabel="", ylabel="", title=None, log=(), marker="") -> Image.Image:
    """A line plot. curves: name -> (x, y), sequences or tensors; red, green and blue are drawn so.  log: logarithmic axes, e.g. ("y",)."""
    figure, axes = _axes(xlabel, ylabel, title, log)
    for name, (x, y) in curves.items():
        axes.plot(_numbers(x), _numbers(y), label=name, marker=marker, color=name if name in ("red", "green", "blue") else None)
    return _render(figure, axes, legend=len(curves) > 1)


def points(clouds: dict, *, xlabel="", ylabel="", title=None, log=()) -> Image.Image:
    """A scatter plot. clouds: name -> (x, y), sequences or tensors.  log: which axes are logarithmic, e.g. ("x", "y")."""
    figure, axes = _axes(xlabel, ylabel, title, log)
    for name, (x, y) in clouds.items():
        axes.plot(_numbers(x), _numbers(y), ".", label=name, alpha=0.5)
    return _render(figure, axes, legend=len(clouds) > 1)


def bars(series: dict, *, xlabel="", ylabel="", title=None, log=()) -> Image.Image:
    """Bars side by side. series: name -> {label: number}; every series has the labels of the first.  log: ("y",) or ()."""
    figure, axes = _axes(xlabel, ylabel, title, log)
    labels = list(next(iter(series.values())))
    width = 0.8 / len(series)
    for k, (name, values) in enumerate(series.items()):
        x = [i + (k - (len(series) - 1) / 2) * width for i in range(len(labels))]
        axes.bar(x, [float(values[label]) for label in labels], width, label=name)
    crowded = len(labels) * max(len(str(label)) for label in labels) > 75          # letters side by side in one row
    axes.set_xticks(range(len(labels)), labels, rotation=90 if crowded else 0)
    if len(series) > 1:
        figure.legend(loc="outside upper center", ncols=len(series))                # bars may be of full height: no room among them
    return _render(figure, axes)


def plot_lines(curves: dict, *, xlabel="", ylabel="", title=None, log=(), marker="", path=None):
    """Show a line plot; arguments as in `lines`. With path: save a PNG instead."""
    show(lines(curves, xlabel=xlabel, ylabel=ylabel, title=title, log=log, marker=marker), title, path=path)


def plot_points(clouds: dict, *, xlabel="", ylabel="", title=None, log=(), path=None):
    """Show a scatter plot; arguments as in `points`. With path: save a PNG instead."""
    show(points(clouds, xlabel=xlabel, ylabel=ylabel, title=title, log=log), title, path=path)


def plot_bars(series: dict, *, xlabel="", ylabel="", title=None, log=(), path=None):
    """Show bars; arguments as in `bars`. With path: save a PNG instead."""
    show(bars(series, xlabel=xlabel, ylabel=ylabel, title=title, log=log), title, path=path)


def _axes(xlabel, ylabel, title, log):
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)   # a first run says on stderr that it looks for fonts
    from matplotlib.figure import Figure                                  # no pyplot: no global state, no backend
    figure = Figure(figsize=(7, 3.6), dpi=80, layout="constrained")
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
    return Image.open(file).convert("RGB").quantize(64)         # a plot has few colours, and weighs a third like this


# Showing

def beside(*pictures: Image.Image) -> Image.Image:
    """Pillow images next to each other on white, top-aligned."""
    sheet = Image.new("RGB", (sum(p.width for p in pictures), max(p.height for p in pictures)), "white")
    for k, picture in enumerate(pictures):
        sheet.paste(picture, (sum(p.width for p in pictures[:k]), 0))
    return sheet


def show(picture, title=None, *, path=None):
    """Show a pillow image, or images [B 3 H W] in [-1, 1], in the notebook; with path, save it as a PNG. Elsewhere it does nothing."""
    if path is not None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(_png(picture))
    elif in_notebook():
        _display({"image/png": _png(picture)}, f"<picture: {title}>" if title else "<picture>")


def in_notebook() -> bool:
    """True inside a Jupyter or Colab kernel; False in a script, under pytest and in a plain IPython terminal."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


def _png(picture):
    picture = grid(picture) if torch.is_tensor(picture) else picture
    file = io.BytesIO()
    picture.save(file, format="png", optimize=True)
    return file.getvalue()


def _display(data, text):
    """Show in the notebook under a text that never changes, because notebook tests compare the text and not the picture."""
    from IPython.display import display
    display({**data, "text/plain": text}, raw=True)


# Things that move

class Panel:
    """Sliders over a picture.  .sliders: label -> widget, whose .value you may set in code.  .picture: what draw returned last."""

    def __init__(self, name: str, draw, sliders: dict):
        import ipywidgets as widgets
        self.name, self.draw, self.picture = name, draw, None
        self.image = widgets.Image(format="png")
        self.sliders = {label: _slider(label, options) for label, options in sliders.items()}
        self.box = widgets.VBox([*self.sliders.values(), self.image])
        for slider in self.sliders.values():
            slider.observe(self.redraw, names="value")
        self.redraw()

    def redraw(self, change=None):
        self.picture = self.draw(*(slider.value for slider in self.sliders.values()))
        self.image.value = _png(self.picture)

    def __repr__(self):
        return f"<panel {self.name}>"


def panel(name: str, draw, sliders: dict) -> Panel:
    """A picture that you change by moving sliders, shown in the notebook.

    draw(*values) returns a pillow image or images [B 3 H W] in [-1, 1].  sliders: label -> the values to choose from, starting at the first;
    words become a menu.  The next cell tests it without a mouse: `p.sliders["t"].value = 500`, then look at `p.picture`.
    Lesson: notebooks/02_noising.ipynb"""
    made = Panel(name, draw, sliders)
    _display_widget(made.box, repr(made))
    return made


def progress(iterable, total: int, name: str):
    """The same items, one by one, under a progress bar in the notebook (at most two updates a second). In a script: only the items."""
    if not in_notebook():
        yield from iterable
        return
    import ipywidgets as widgets
    bar, text = widgets.IntProgress(max=total, description=name), widgets.Label()
    _display_widget(widgets.HBox([bar, text]), f"<progress {name}>")
    drawn = 0.0
    for n, item in enumerate(iterable, 1):
        yield item
        if n == total or time.monotonic() - drawn >= 0.5:
            bar.value, text.value, drawn = n, f"{n} / {total}", time.monotonic()


def _slider(label, options):
    import ipywidgets as widgets
    options = [(str(value), value) for value in options]
    if isinstance(options[0][1], str):
        return widgets.Dropdown(options=options, description=label)
    return widgets.SelectionSlider(options=options, description=label, continuous_update=False)


def _display_widget(widget, text):
    if in_notebook():
        view = {"version_major": 2, "version_minor": 0, "model_id": widget.model_id}
        _display({"application/vnd.jupyter.widget-view+json": view}, text)
