"""Images and panels with sliders, shown in a notebook or saved as PNG files.

The only module that imports ipywidgets, and it does so late.
Left out on purpose: animation, figures that you can zoom.
"""
import io
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

from .tiles import grid, strip


def show_grid(images: Tensor, captions=None, *, title=None, path=None, **options):
    """Show all images in rows; arguments as in `grid`. With path: save a PNG instead."""
    show(grid(images, captions, title=title, **options), title, path=path)


def film_strip(frames, labels=None, *, title=None, path=None, **options):
    """Show how a batch changes over time; arguments as in `strip`. With path: save a PNG instead.

    In 256 colours: noise does not compress, and a notebook full of it would weigh too much for git.
    `show(strip(...))` keeps them all."""
    show(strip(frames, labels, title=title, **options).quantize(256), title, path=path)


def show(picture, title=None, *, path=None):
    """Show a pillow image, or images [B 3 H W] in [-1, 1], in the notebook; with path, save it as a PNG.

    Elsewhere it does nothing."""
    if path is not None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(_png(picture))
    elif in_notebook():
        _display({"image/png": _png(picture)}, f"<picture: {title}>" if title else "<picture>")


def in_notebook() -> bool:
    """True inside a Jupyter or Colab kernel; False in a script, under pytest and in plain IPython."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


def _png(picture):
    picture = grid(picture) if torch.is_tensor(picture) else picture
    file = io.BytesIO()
    picture.save(file, format="png", optimize=True)
    return file.getvalue()


def _display(data, text):
    """Show in the notebook, under a text that never changes: notebook tests compare it, not the image."""
    from IPython.display import display
    display({**data, "text/plain": text}, raw=True)


# Things that move

class Panel:
    """Sliders over an image.  .sliders: label -> widget, whose .value you may set in code.

    .picture: what draw returned last."""

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
    """An image that you change by moving sliders, shown in the notebook.

    draw(*values) returns a pillow image or images [B 3 H W] in [-1, 1].
    sliders: label -> the values to choose from, starting at the first; words become a menu.
    The next cell tests it without a mouse: `p.sliders["t"].value = 500`, then look at `p.picture`.
    Lesson: notebooks/02_noising.ipynb"""
    made = Panel(name, draw, sliders)
    _display_widget(made.box, repr(made))
    return made


def progress(iterable, total: int, name: str):
    """The same items, one by one, under a progress bar in the notebook; in a script, only the items."""
    if not in_notebook():
        yield from iterable
        return
    import ipywidgets as widgets
    bar, text = widgets.IntProgress(max=total, description=name), widgets.Label()
    _display_widget(widgets.HBox([bar, text]), f"<progress {name}>")
    drawn = 0.0
    for n, item in enumerate(iterable, 1):
        yield item
        # at most two updates per second
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
