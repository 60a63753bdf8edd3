"""Synthetic captioned images: one or two coloured shapes, with captions true by construction.

A text-to-image data set that needs no download, never runs out, and can be scored exactly:
scene_parser.py reads an image back. Some (colour, shape) pairs never appear in training, so that
compositional generalisation ("can it draw what it was never shown?") has a number for an answer.
Left out on purpose: three or more objects, rotation, overlap, texture, free English.
"""
import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from torch import Tensor

from ..tensors import generator as seeded
from .example import ENDLESS, Example

# A shape is its half width at height v, from -1 (top) to 1 (bottom), in units of its radius:
# each fills the box [-1, 1] x [-1, 1].
SHAPES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "circle": lambda v: np.sqrt(1 - v**2),
    "square": np.ones_like,
    "triangle": lambda v: (1 + v) / 2,
}
# Far from each other and from every background: at least 147 of 255 apart, so a slight drift never
# turns one into another.
COLOURS = {"red": (225, 20, 30), "green": (0, 155, 60), "blue": (20, 50, 255),
           "yellow": (255, 220, 0), "purple": (165, 0, 190), "cyan": (0, 215, 240)}
BACKGROUNDS = {"white": (255, 255, 255), "grey": (128, 128, 128), "black": (0, 0, 0)}
SIZES = {"small": 0.11, "large": 0.20}          # radius: half the object's width, in image widths
# Pairs that are never in split="train"; every colour and every shape still is.
HELD_OUT = (("green", "circle"), ("purple", "square"), ("yellow", "triangle"))

# All in image widths.
MARGIN = 0.03                                   # free border
GAP = 0.08                                      # least gap between two objects
OFFSET = 0.12                                   # most they differ across the relation's axis

# Where the centre lies when a caption says so: (x from, x to, y from, y to).
POSITIONS = {
    "left": (0.0, 0.32, 0.4, 0.6),
    "right": (0.68, 1.0, 0.4, 0.6),
    "top": (0.4, 0.6, 0.0, 0.32),
    "bottom": (0.4, 0.6, 0.68, 1.0),
    "centre": (0.42, 0.58, 0.42, 0.58),
}
# (axis, +1 if the subject comes first along it)
RELATIONS = {"left of": (0, 1), "right of": (0, -1), "above": (1, 1), "below": (1, -1)}


@dataclass(frozen=True)
class Object:
    """One shape. x, y: centre of its bounding box in [0, 1], y downwards; None if not stated."""
    shape: str
    colour: str
    size: str
    x: float | None = None
    y: float | None = None


@dataclass(frozen=True)
class Scene:
    """What an image shows. Of two objects the first is the caption's subject.

    That is the order of "<first> left of <second>"."""
    objects: tuple[Object, ...]
    background: str


@dataclass(frozen=True)
class CaptionFacts:
    """What a caption states, and nothing else.

    The objects have no centres; a position or relation that is not mentioned is None."""
    objects: tuple[Object, ...]
    background: str
    position: str | None = None
    relation: str | None = None


# ---- drawing ----

def coverage(shape: str, centre: tuple[float, float], radius: float,
             size: tuple[int, int]) -> np.ndarray:
    """Pixel coverage of a shape (antialiased mask). [H W] in [0, 1].

    centre: (x, y).  radius: in image widths and heights.  size: (H, W).
    The shape is cut into thin level slices. A slice is a rectangle, and what a rectangle covers is
    an outer product: covered part of each row times covered part of each column. Summed over the
    slices that is one matrix product, and edges come out antialiased."""
    (x, y), (H, W) = centre, size
    edges = np.linspace(-1, 1, 2 * max(H, 32) + 1)                          # [slices + 1]
    half = SHAPES[shape]((edges[:-1] + edges[1:]) / 2) * radius             # [slices]
    rows = _overlap(y + edges[:-1] * radius, y + edges[1:] * radius, H)     # [slices H]
    columns = _overlap(x - half, x + half, W)                               # [slices W]
    return rows.T @ columns                                                 # [H W]


def _overlap(start: np.ndarray, end: np.ndarray, n: int) -> np.ndarray:
    """[N n]: the part of each of n equal cells of [0, 1] that lies in [start, end], in cells."""
    cell = np.arange(n)
    last = np.minimum(end[:, None] * n, cell + 1)
    first = np.maximum(start[:, None] * n, cell)
    return np.clip(last - first, 0, None)


def render(scene: Scene, size: int = 32) -> Tensor:
    """The image of a scene, antialiased; the same scene at any size.  [3 size size] uint8, 0..255.
    Lesson: notebooks/01_data_analysis.ipynb"""
    image = np.full((size, size, 3), BACKGROUNDS[scene.background], np.float64)     # [S S 3]
    for o in scene.objects:
        alpha = coverage(o.shape, (o.x, o.y), SIZES[o.size], (size, size))          # [S S]
        image += alpha[:, :, None] * (np.array(COLOURS[o.colour]) - image)
    pixels = image.round().clip(0, 255).astype(np.uint8)
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()                   # [3 S S]


# ---- words ----

def position(o: Object, slack: float = 0.0) -> str | None:
    """Position word of an object: "left", "right", "top", "bottom", "centre"; None elsewhere.

    Corners and in-betweens have no word.  slack: widens every zone, for measured centres."""
    for word, (x0, x1, y0, y1) in POSITIONS.items():
        if x0 - slack <= o.x <= x1 + slack and y0 - slack <= o.y <= y1 + slack:
            return word
    return None


def relation(a: Object, b: Object) -> str | None:
    """Relation word, a seen from b: "left of", "right of", "above", "below"; None if diagonal."""
    gap = (b.x - a.x, b.y - a.y)
    for word, (axis, sign) in RELATIONS.items():
        if sign * gap[axis] >= 2 * abs(gap[1 - axis]) and sign * gap[axis] > 0:
            return word
    return None


def describe(scene: Scene, *, state_position: bool = True) -> str:
    """The caption of a scene: the relation of two objects, or the position of one.

    A position is stated if it has a word and state_position is true.
    Raises ValueError where the grammar has no words: more than two objects, or two that stand
    diagonally.  Lesson: notebooks/01_data_analysis.ipynb"""
    noun = [f"a {o.size} {o.colour} {o.shape}" for o in scene.objects]
    end = f"on a {scene.background} background"
    if len(noun) == 1:
        place = position(scene.objects[0]) if state_position else None
        return f"{noun[0]} at the {place} {end}" if place else f"{noun[0]} {end}"
    word = relation(*scene.objects) if len(noun) == 2 else None
    if word is None:
        raise ValueError(f"no words for {len(noun)} objects standing like this: one object, "
                         "or two side by side or one above the other")
    return f"{noun[0]} {word} {noun[1]} {end}"


def _pattern() -> re.Pattern:
    """The whole grammar as one regular expression."""
    lists = (SIZES, COLOURS, SHAPES, POSITIONS, RELATIONS, BACKGROUNDS)
    sizes, colours, shapes, positions, relations, grounds = ("|".join(words) for words in lists)
    noun = f"a ({sizes}) ({colours}) ({shapes})"
    middle = f"(?: at the ({positions})| ({relations}) {noun})?"
    return re.compile(f"{noun}{middle} on a ({grounds}) background")


PATTERN = _pattern()


def parse_caption(caption: str) -> CaptionFacts:
    """What a caption states.  Raises ValueError for words outside the grammar.
    Lesson: notebooks/01_data_analysis.ipynb"""
    found = PATTERN.fullmatch(caption)
    if not found:
        raise ValueError(f"caption {caption!r} is outside the grammar; write for example "
                         "'a large red circle at the top on a white background' "
                         "or 'a small red circle left of a large blue square on a grey background'")
    size, colour, shape, place, word, size2, colour2, shape2, background = found.groups()
    first = Object(shape, colour, size)
    objects = (first, Object(shape2, colour2, size2)) if word else (first,)
    return CaptionFacts(objects, background, place, word)


# ---- the data set ----

def _pick(options, generator: torch.Generator):
    return options[int(torch.randint(len(options), (), generator=generator))]


def _between(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator, dtype=torch.float64))


def _place_one(size: str, word: str | None, generator: torch.Generator) -> tuple[float, float]:
    """A centre anywhere the object fits, or in the zone of `word`."""
    x0, x1, y0, y1 = POSITIONS[word] if word else (0, 1, 0, 1)
    edge = MARGIN + SIZES[size]
    x = _between(max(x0, edge), min(x1, 1 - edge), generator)
    y = _between(max(y0, edge), min(y1, 1 - edge), generator)
    return x, y


def _place_two(sizes: tuple[str, str], word: str,
               generator: torch.Generator) -> list[tuple[float, float]]:
    """Centres of subject and other so that `word` is plainly true.

    Along its axis they leave a clear gap, across it they have a modest offset."""
    axis, sign = RELATIONS[word]
    first, second = (SIZES[s] for s in sizes[::sign])           # in their order along the axis
    free = 1 - 2 * MARGIN - GAP - 2 * first - 2 * second
    a, b = sorted(_between(0, free, generator) for _ in range(2))
    along = MARGIN + first + a, MARGIN + 2 * first + GAP + second + b
    low, high = MARGIN + first, MARGIN + second
    start = _between(low, 1 - low, generator)
    end = start + _between(-OFFSET, OFFSET, generator)
    across = start, min(max(end, high), 1 - high)
    centres = list(zip(along, across) if axis == 0 else zip(across, along))
    return centres[::sign]


@dataclass(frozen=True)
class Scenes:
    """Endless data set of captioned scenes: an example is a pure function of its generator.

    split="train" never shows a pair in HELD_OUT; split="held_out" shows one in every scene.
    classes are the 18 (colour, shape) names; a scene of two objects has label -1.
    Raises ValueError for a split or a number of objects it does not know.
    Lesson: notebooks/01_data_analysis.ipynb"""
    size: int = 32                              # pixels
    objects: tuple[int, ...] = (1, 2)           # numbers of objects per scene, equally likely
    split: str = "train"                        # or "held_out"
    classes = tuple(f"{colour} {shape}" for colour, shape in product(COLOURS, SHAPES))

    def __post_init__(self):
        if self.split not in ("train", "held_out"):
            raise ValueError(f"split={self.split!r}: choose 'train' or 'held_out'")
        if not self.objects or not set(self.objects) <= {1, 2}:
            raise ValueError(f"objects={self.objects}: a scene has 1 or 2 objects, "
                             "so choose (1,), (2,) or (1, 2)")

    def __len__(self) -> int:
        return ENDLESS

    def pairs(self, n: int, generator: torch.Generator) -> list[tuple[str, str]]:
        """n different (colour, shape) pairs; in split="held_out" exactly one is held out."""
        known = [pair for pair in product(COLOURS, SHAPES) if pair not in HELD_OUT]
        order = torch.randperm(len(known), generator=generator)
        chosen = [known[i] for i in order[:n].tolist()]
        if self.split == "held_out":
            chosen[_pick(range(n), generator)] = _pick(HELD_OUT, generator)
        return chosen

    def draw(self, generator: torch.Generator) -> tuple[Scene, str]:
        """A random scene and its caption.

        One object: half the captions state its position, in which it was placed."""
        pairs = self.pairs(_pick(self.objects, generator), generator)
        sizes = tuple(_pick(list(SIZES), generator) for _ in pairs)
        background = _pick(list(BACKGROUNDS), generator)
        if len(pairs) == 2:
            word = _pick(list(RELATIONS), generator)
            centres = _place_two(sizes, word, generator)
        else:
            stated = _pick(list(POSITIONS), generator)
            word = _pick([None, stated], generator)
            centres = [_place_one(sizes[0], word, generator)]
        objects = tuple(Object(shape, colour, size, x, y)
                        for (colour, shape), size, (x, y) in zip(pairs, sizes, centres))
        scene = Scene(objects, background)
        return scene, describe(scene, state_position=word is not None)

    def texts(self, n: int = 2000) -> list[str]:
        """n captions, the same at every call: what a vocabulary is learned from."""
        return [self.draw(seeded(7, k))[1] for k in range(n)]

    def example(self, index: int, generator: torch.Generator) -> Example:
        """One captioned image. The index plays no part: an endless set has no rows."""
        scene, caption = self.draw(generator)
        first, *others = scene.objects
        label = -1 if others else self.classes.index(f"{first.colour} {first.shape}")
        return Example(render(scene, self.size), caption, label)
