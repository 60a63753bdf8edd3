"""Boxes and arrows as pillow images: how the parts of a model hang together.

Coordinates are in units of one box's height, y grows upwards; what is drawn is said in words.
"""
import io
import logging
from typing import NamedTuple

from PIL import Image

from .tiles import few_colours

SHADES = {"image": "#dbe9f6", "net": "#fde4c8", "text": "#dff0d8", "noise": "#e6e0ef", "plain": "#f4f4f4"}


class Box(NamedTuple):
    """A labelled rectangle.  x, y: its centre; kind: one of SHADES, which says what flows there."""
    text: str
    x: float
    y: float
    width: float = 2.0
    height: float = 0.8
    kind: str = "net"


class Arrow(NamedTuple):
    """An arrow between two boxes, by their names.  bend: how far it curves; dashed: a skip, or words."""
    start: str
    end: str
    text: str = ""
    bend: float = 0.0
    dashed: bool = False


def diagram(boxes: dict[str, Box], arrows=(), *, room: float = 0.0, scale: float = 0.62) -> Image.Image:
    """Boxes and arrows.  boxes: name -> Box.  arrows: Arrows between these names.

    room: units left above for arrows that bend; scale: inches per unit.
    KeyError for an arrow between boxes that are not there."""
    # without this a first run says on stderr that it looks for fonts
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    from matplotlib.figure import Figure
    from matplotlib.patches import FancyBboxPatch
    left = min(b.x - b.width / 2 for b in boxes.values()) - 0.3
    right = max(b.x + b.width / 2 for b in boxes.values()) + 0.3
    low = min(b.y - b.height / 2 for b in boxes.values()) - 0.3
    high = max(b.y + b.height / 2 for b in boxes.values()) + 0.3 + room
    figure = Figure(figsize=(scale * (right - left), scale * (high - low)), dpi=80)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(left, right), ylim=(low, high))
    axes.axis("off")
    patches = {}
    for name, b in boxes.items():
        corner = (b.x - b.width / 2, b.y - b.height / 2)
        patches[name] = FancyBboxPatch(corner, b.width, b.height, boxstyle="round,pad=0,rounding_size=0.1",
                                       facecolor=SHADES[b.kind], edgecolor="#555555")
        axes.add_patch(patches[name])
        axes.text(b.x, b.y, b.text, ha="center", va="center", fontsize=9)
    for arrow in arrows:
        _draw(axes, arrow, boxes, patches)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return few_colours(Image.open(file), 48)


def _draw(axes, arrow: Arrow, boxes: dict[str, Box], patches: dict) -> None:
    """One arrow from border to border, and its text beside its middle."""
    a, b = boxes[arrow.start], boxes[arrow.end]
    axes.annotate("", xy=(b.x, b.y), xytext=(a.x, a.y),
                  arrowprops={"arrowstyle": "-|>", "color": "#555555", "shrinkA": 1, "shrinkB": 1,
                              "patchA": patches[arrow.start], "patchB": patches[arrow.end],
                              "linestyle": "--" if arrow.dashed else "-",
                              "connectionstyle": f"arc3,rad={arrow.bend}"})
    if arrow.text:
        x, y = (a.x + b.x) / 2, (a.y + b.y) / 2
        x, y = x + arrow.bend * (b.y - a.y) / 2, y - arrow.bend * (b.x - a.x) / 2
        axes.text(x, y, arrow.text, ha="center", va="center", fontsize=8,
                  bbox={"facecolor": "white", "edgecolor": "none", "pad": 1})
