"""Captioned scenes: one or two coloured shapes on a plain background, drawn from a grammar, with a caption
that is true by construction.

They are a text-to-image data set that needs no download, never runs out, and can be marked exactly:
scene_parser.py reads a picture back. Some (colour, shape) pairs never appear in training, so that "can it
draw what it was never shown?" is a question with a number for an answer. Left out on purpose: three or more
objects, rotation, overlap, texture, free English.
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

# A shape is its half width at height v, from -1 (top) to 1 (bottom), in units of its radius: each fills the
# box [-1, 1] x [-1, 1].
SHAPES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "circle": lambda v: np.sqrt(1 - v**2),
    "square": np.ones_like,
    "triangle": lambda v: (1 + v) / 2,
}
# Far from each other and from every background: at least 147 of 255 apart, so a slight drift never turns one
# into another.
COLOURS = {"red": (225, 20, 30), "green": (0, 155, 60), "blue": (20, 50, 255),
           "yellow": (255, 220, 0), "purple": (165, 0, 190), "cyan": (0, 215, 240)}
BACKGROUNDS = {"white": (255, 255, 255), "grey": (128, 128, 128), "black": (0, 0, 0)}
# radius: half the object's width and half its height, in picture widths
SIZES = {"small": 0.11, "large": 0.20}
# never in split="train"; every colour and shape still is
HELD_OUT = (("green", "circle"), ("purple", "square"), ("yellow", "triangle"))
# free border; least gap between two objects; most they differ across the relation's axis
MARGIN, GAP, OFFSET = 0.03, 0.08, 0.12

POSITIONS = {  # where the centre lies when a caption says so: (x from, x to, y from, y to)
    "left": (0.0, 0.32, 0.4, 0.6), "right": (0.68, 1.0, 0.4, 0.6), "top": (0.4, 0.6, 0.0, 0.32),
    "bottom": (0.4, 0.6, 0.68, 1.0),
    "centre": (0.42, 0.58, 0.42, 0.58)}
# (axis, +1 if the subject comes first along it)
RELATIONS = {"left of": (0, 1), "right of": (0, -1), "above": (1, 1), "below": (1, -1)}


@dataclass(frozen=True)
class Object:
    """One shape. x, y: the middle of its box in [0, 1], y downwards; None where a caption does not say."""
    shape: str
    colour: str
    size: str
    x: float | None = None
    y: float | None = None


@dataclass(frozen=True)
class Scene:
    """What a picture shows. Of two objects the first is the one the caption speaks about:
    "<first> left of <second>"."""
    objects: tuple[Object, ...]
    background: str


@dataclass(frozen=True)
class CaptionFacts:
    """What a caption states, and nothing else: objects without centres,
    and None for a position or relation it does not mention."""
    objects: tuple[Object, ...]
    background: str
    position: str | None = None
    relation: str | None = None


# ---- drawing ----

def coverage(shape: str, centre: tuple[float, float], radius: float, size: tuple[int, int]) -> np.ndarray:
    """How much of each pixel a shape covers. [H W] in [0, 1]; centre = (x, y) and radius in picture widths
    and heights, size = (H, W).

    The shape is cut into thin level slices. A slice is a rectangle, and what a rectangle covers is an outer
    product: covered part of each row times covered part of each column. Summed over the slices that is one
    matrix product, and edges come out antialiased."""
    (x, y), (H, W) = centre, size
    edges = np.linspace(-1, 1, 2 * max(H, 32) + 1)                                      # [slices + 1]
    half = SHAPES[shape]((edges[:-1] + edges[1:]) / 2) * radius                         # [slices]
    rows = _overlap(y + edges[:-1] * radius, y + edges[1:] * radius, H)                 # [slices H]
    columns = _overlap(x - half, x + half, W)                                           # [slices W]
    return rows.T @ columns                                                             # [H W]


def _overlap(start: np.ndarray, end: np.ndarray, n: int) -> np.ndarray:
    """[N n]: the part of each of n equal cells of [0, 1] that lies in [start, end], in cells."""
    cell = np.arange(n)
    return np.clip(np.minimum(end[:, None] * n, cell + 1) - np.maximum(start[:, None] * n, cell), 0, None)


def render(scene: Scene, size: int = 32) -> Tensor:
    """The picture of a scene, antialiased; the same picture at any size.  [3 size size] uint8, 0..255.
    Lesson: notebooks/01_data_analysis.ipynb"""
    image = np.full((size, size, 3), BACKGROUNDS[scene.background], np.float64)         # [S S 3]
    for o in scene.objects:
        alpha = coverage(o.shape, (o.x, o.y), SIZES[o.size], (size, size))[:, :, None]  # [S S 1]
        image += alpha * (np.array(COLOURS[o.colour]) - image)
    return torch.from_numpy(image.round().clip(0, 255).astype(np.uint8)).permute(2, 0, 1).contiguous()


# ---- words ----

def position(o: Object, slack: float = 0.0) -> str | None:
    """The word for where a centre clearly lies ("left", "right", "top", "bottom", "centre"), or None: corners
    and in-betweens have no word. slack widens every zone by that much, for centres that were measured."""
    for word, (x0, x1, y0, y1) in POSITIONS.items():
        if x0 - slack <= o.x <= x1 + slack and y0 - slack <= o.y <= y1 + slack:
            return word
    return None


def relation(a: Object, b: Object) -> str | None:
    """The word for where a lies seen from b ("left of", "right of", "above", "below"),
    or None where the two stand diagonally."""
    gap = (b.x - a.x, b.y - a.y)
    for word, (axis, sign) in RELATIONS.items():
        if sign * gap[axis] >= 2 * abs(gap[1 - axis]) and sign * gap[axis] > 0:
            return word
    return None


def describe(scene: Scene, *, state_position: bool = True) -> str:
    """The caption of a scene. One object: its place is named if it is clear and state_position;
    two objects: their relation.
    Raises ValueError where the grammar has no words: more than two objects, or two that stand diagonally.
    Lesson: notebooks/01_data_analysis.ipynb"""
    noun = [f"a {o.size} {o.colour} {o.shape}" for o in scene.objects]
    end = f"on a {scene.background} background"
    if len(noun) == 1:
        place = position(scene.objects[0]) if state_position else None
        return f"{noun[0]} at the {place} {end}" if place else f"{noun[0]} {end}"
    word = relation(*scene.objects) if len(noun) == 2 else None
    if word is None:
        raise ValueError(
            f"no words for {len(noun)} objects standing like this: one object, or two side by side or one "
            "above the other"
        )
    return f"{noun[0]} {word} {noun[1]} {end}"


def _pattern() -> re.Pattern:
    """The whole grammar as one regular expression."""
    lists = dict(size=SIZES, colour=COLOURS, shape=SHAPES, relation=RELATIONS, position=POSITIONS,
                 ground=BACKGROUNDS)
    word = {k: "|".join(v) for k, v in lists.items()}
    noun = f"a ({word['size']}) ({word['colour']}) ({word['shape']})"
    return re.compile(f"{noun}(?: at the ({word['position']})| ({word['relation']}) {noun})? on a "
                      f"({word['ground']}) background")


PATTERN = _pattern()


def parse_caption(caption: str) -> CaptionFacts:
    """What a caption states.  Raises ValueError for words outside the grammar.
    Lesson: notebooks/01_data_analysis.ipynb"""
    found = PATTERN.fullmatch(caption)
    if not found:
        raise ValueError(f"caption {caption!r} is outside the grammar; write for example 'a large red circle "
                         "at the top on a white background' "
                         "or 'a small red circle left of a large blue square on a grey background'")
    size, colour, shape, place, word, size2, colour2, shape2, background = found.groups()
    objects = (Object(shape, colour, size),) + ((Object(shape2, colour2, size2),) if word else ())
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
    return _between(max(x0, edge), min(x1, 1 - edge),
                    generator), _between(max(y0, edge), min(y1, 1 - edge), generator)


def _place_two(sizes: tuple[str, str], word: str, generator: torch.Generator) -> list[tuple[float, float]]:
    """Centres of subject and other so that `word` is plainly true: along its axis a clear gap,
    across it a modest offset."""
    axis, sign = RELATIONS[word]
    first, second = (SIZES[s] for s in sizes[::sign])  # in their order along the axis
    free = 1 - 2 * MARGIN - GAP - 2 * first - 2 * second
    a, b = sorted(_between(0, free, generator) for _ in range(2))
    along = MARGIN + first + a, MARGIN + 2 * first + GAP + second + b
    low, high = MARGIN + first, MARGIN + second
    start = _between(low, 1 - low, generator)
    across = start, min(max(start + _between(-OFFSET, OFFSET, generator), high), 1 - high)
    centres = list(zip(along, across) if axis == 0 else zip(across, along))
    return centres[::sign]


@dataclass(frozen=True)
class Scenes:
    """The captioned scenes as an endless data set: example(index, generator)
    is a pure function of the generator.

    split="train" never shows a pair in HELD_OUT; split="held_out" shows one in every scene.
    classes are the 18 (colour, shape) names; a scene of two objects has label -1.
    Raises ValueError for a split or a number of objects it does not know.
    Lesson: notebooks/01_data_analysis.ipynb"""
    size: int = 32                              # pixels
    objects: tuple[int, ...] = (1, 2)           # how many objects a scene may have, all equally likely
    split: str = "train"                        # or "held_out"
    classes = tuple(f"{colour} {shape}" for colour, shape in product(COLOURS, SHAPES))

    def __post_init__(self):
        if self.split not in ("train", "held_out"):
            raise ValueError(f"split={self.split!r}: choose 'train' or 'held_out'")
        if not self.objects or not set(self.objects) <= {1, 2}:
            raise ValueError(
                f"objects={self.objects}: a scene has 1 or 2 objects, so choose (1,), (2,) or (1, 2)"
            )

    def __len__(self) -> int:
        return ENDLESS

    def pairs(self, n: int, generator: torch.Generator) -> list[tuple[str, str]]:
        """n different (colour, shape) pairs; in split="held_out" exactly one of them is held out."""
        known = [pair for pair in product(COLOURS, SHAPES) if pair not in HELD_OUT]
        chosen = [known[i] for i in torch.randperm(len(known), generator=generator)[:n].tolist()]
        if self.split == "held_out":
            chosen[_pick(range(n), generator)] = _pick(HELD_OUT, generator)
        return chosen

    def draw(self, generator: torch.Generator) -> tuple[Scene, str]:
        """A scene and its caption. With one object, half the captions state its position and it was placed
        there; the others do not say."""
        pairs = self.pairs(_pick(self.objects, generator), generator)
        sizes = tuple(_pick(list(SIZES), generator) for _ in pairs)
        background = _pick(list(BACKGROUNDS), generator)
        if len(pairs) == 2:
            word = _pick(list(RELATIONS), generator)
            centres = _place_two(sizes, word, generator)
        else:
            word = _pick([None, _pick(list(POSITIONS), generator)], generator)
            centres = [_place_one(sizes[0], word, generator)]
        scene = Scene(tuple(Object(s, c, z, x, y) for (c, s), z, (x, y) in zip(pairs, sizes, centres)),
                      background)
        return scene, describe(scene, state_position=word is not None)

    def texts(self, n: int = 2000) -> list[str]:
        """Some captions, the same every time: what a vocabulary is learned from."""
        return [self.draw(seeded(7, k))[1] for k in range(n)]

    def example(self, index: int, generator: torch.Generator) -> Example:
        """One captioned picture. The index plays no part: an endless set has no rows."""
        scene, caption = self.draw(generator)
        label = (
            self.classes.index(f"{scene.objects[0].colour} {scene.objects[0].shape}")
            if len(scene.objects) == 1
            else -1
        )
        return Example(render(scene, self.size), caption, label)
