"""Images and panels with sliders, shown in a notebook or saved as PNG files.

A file keeps every colour; a notebook keeps 96 of a drawn picture, or photographs as a JPEG, and stays light.

The only module that imports ipywidgets, and it does so late.
Left out on purpose: animation, figures that you can zoom.
"""
import io
import sys
import time
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from .tiles import few_colours, grid, strip


def show_grid(images: Tensor, captions=None, *, title=None, path=None, **options):
    """Show all images in rows; arguments as in `grid`. With path: save a PNG instead."""
    show(grid(images, captions, title=title, **options), title, path=path)


def film_strip(frames, labels=None, *, title=None, path=None, **options):
    """Show how a batch changes over time; arguments as in `strip`. With path: save a PNG instead."""
    show(strip(frames, labels, title=title, **options), title, path=path)


def show(picture, title=None, *, path=None):
    """Show a pillow image, or images [B 3 H W] in [-1, 1], in the notebook; with path, save it as a PNG.

    The file has all colours, the notebook 96 (`few_colours`, which may be called before with another
    number).  Elsewhere it does nothing."""
    if path is not None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(_encoded(_pillow(picture), "png", optimize=True))
    elif in_notebook():
        _display({"image/png": _light_png(picture)}, f"<picture: {title}>" if title else "<picture>")


def show_photographs(picture: Image.Image, title=None):
    """Show a pillow image in the notebook as a JPEG: right for photographs, at half the size of a PNG.

    Not for drawn shapes and plots, whose edges it blurs."""
    if in_notebook():
        photographs = _encoded(picture.convert("RGB"), "jpeg", quality=80)
        _display({"image/jpeg": photographs}, f"<photographs: {title}>" if title else "<photographs>")


def in_notebook() -> bool:
    """True inside a Jupyter or Colab kernel; False in a script, under pytest and in plain IPython."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


def _pillow(picture):
    return grid(picture) if torch.is_tensor(picture) else picture


def _light_png(picture):
    picture = _pillow(picture)
    return _encoded(picture if picture.mode == "P" else few_colours(picture), "png", optimize=True)


def _encoded(picture, kind, **options):
    file = io.BytesIO()
    picture.save(file, format=kind, **options)
    return file.getvalue()


def _display(data, text):
    """Show in the notebook, under a text that never changes: notebook tests compare it, not the image."""
    from IPython.display import display
    display({**data, "text/plain": text}, raw=True)


# Things that move

class Panel:
    """Sliders and boxes over an image.  .controls: label -> widget, whose .value you may set in code.

    .picture: what draw returned last.  .message: what was wrong with the last values, or ""."""

    def __init__(self, name: str, draw, controls: dict):
        import ipywidgets as widgets
        self.name, self.draw, self.picture = name, draw, None
        self.image, self.label = widgets.Image(format="png"), widgets.Label()
        self.controls = {label: _control(label, given) for label, given in controls.items()}
        self.box = widgets.VBox([*self.controls.values(), self.label, self.image])
        self._draw()
        for control in self.controls.values():
            control.observe(self.redraw, names="value")

    @property
    def message(self) -> str:
        return self.label.value

    def redraw(self, change=None):
        """Draw anew.  What draw refuses, such as a word that the model has never read, is said below
        the controls, and the last picture stays."""
        try:
            self._draw()
        except ValueError as error:
            self.label.value = str(error)

    def _draw(self):
        self.picture = self.draw(*(control.value for control in self.controls.values()))
        self.image.value, self.label.value = _light_png(self.picture), ""

    def __repr__(self):
        return f"<panel {self.name}>"


def panel(name: str, draw, controls: dict) -> Panel:
    """An image that you change by moving sliders or typing a text, shown in the notebook.

    draw(*values) returns a pillow image or images [B 3 H W] in [-1, 1]; a ValueError is shown as a line.
    controls: label -> the values to choose from, starting at the first: numbers become a slider, words
    a menu. A single string becomes a box to type in: {"caption": "a red circle", "t": range(0, 1000, 50)}.
    Where nothing runs, as on GitHub, the first picture stands in its place.
    Lesson: notebooks/02_noising.ipynb"""
    made = Panel(name, draw, controls)
    _display_widget(made.box, repr(made), picture=_light_png(made.picture))
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


def _control(label, given):
    import ipywidgets as widgets
    if isinstance(given, str):
        box = widgets.Layout(width="36em")
        return widgets.Text(value=given, description=label, continuous_update=False, layout=box)
    options = [(str(value), value) for value in given]
    if isinstance(options[0][1], str):
        return widgets.Dropdown(options=options, description=label)
    return widgets.SelectionSlider(options=options, description=label, continuous_update=False)


def _display_widget(widget, text, picture=None):
    """Show a widget, and where there is none to talk to, its picture (PNG bytes) or text."""
    if in_notebook():
        view = {"version_major": 2, "version_minor": 0, "model_id": widget.model_id}
        data = {"application/vnd.jupyter.widget-view+json": view}
        _display(data | ({"image/png": picture} if picture else {}), text)
