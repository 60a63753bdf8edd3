"""Reads a picture of a scene back into the scene, by arithmetic alone: nearest colour, connected components,
moments, and a drawing to compare with.

Nothing here is learned, so nothing here can be fooled in the way a network is: every object that it reads is
drawn again, and a drawing that does not explain the pixels makes the whole picture unread (None). It abstains
rather than guess. Left out on purpose: touching or overlapping objects, other backgrounds, and any score:
alignment.py turns readings into numbers.
"""
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import ndimage
from torch import Tensor

from .shapes import BACKGROUNDS, COLOURS, SHAPES, SIZES, Object, Scene, coverage

# a pixel this far from the background is part of something: half the least contrast in the palette (1.15)
EDGE = 0.55
# a colour further than this from every palette colour has no name (the closest two are 1.15 apart)
NEAR = 0.5
# components under this share of the picture are dust: 3 pixels of 32 x 32, an eighth of the smallest object
SPECK = 0.003
REACH = 3               # pixels around a component that still belong to it: its soft edge
# smoothed pixels this far from the background show; this share of them beside the objects is too much
GHOST, LITTER = 0.25, 0.02
BLURS = (0.0, 0.6, 1.2)                         # pixels: how soft a drawing's edge may be
# a drawing that leaves more than this share of the colour unexplained is not what is in the picture
RAGGED = 0.045
# the best shape must leave at most this much of what the second best leaves, or the two are not told apart
DOUBT = 0.5
SIZE_DOUBT = 0.08       # a radius this close (in log) to halfway between small and large is neither


def parse(image: Tensor) -> Scene | None:
    """The scene in a picture, or None if it cannot be read for certain.  image: [3 H W] in [-1, 1],
    H and W at least 24.

    Objects come in reading order (left to right, or top to bottom if they stand more above than beside each
    other), with centres in [0, 1].
    None: unknown background or colour, a ragged shape, a size in between, nothing there, more than two
    objects, or objects that touch.
    Raises ValueError for a picture of another shape.  Lesson: notebooks/04_faster_sampling.ipynb"""
    if image.ndim != 3 or image.shape[0] != 3 or min(image.shape[1:]) < 24:
        raise ValueError(
            f"image of shape {list(image.shape)}: parse reads one picture [3 H W] with H and W at least 24"
        )
    pixels = image.detach().cpu().double().permute(1, 2, 0).numpy()                     # [H W 3]
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    ground = np.median(border, axis=0)                                                  # [3]
    background = nearest(ground, BACKGROUNDS)
    blobs = components(pixels - ground) if background else []
    if not 1 <= len(blobs) <= 2:
        return None
    objects = [read_object(blob, ground, background) for blob in blobs]
    return None if None in objects else Scene(reading_order(objects), background)


def unit(colour: tuple[int, int, int]) -> np.ndarray:
    """A palette colour 0..255 as [3] in [-1, 1]."""
    return np.array(colour) / 127.5 - 1


def nearest(colour: np.ndarray, palette: dict) -> str | None:
    """The palette's name for a colour [3] in [-1, 1],
    or None if every palette colour is further than NEAR."""
    distance = {name: np.linalg.norm(colour - unit(rgb)) for name, rgb in palette.items()}
    name = min(distance, key=distance.get)
    return name if distance[name] <= NEAR else None


@dataclass(frozen=True)
class Blob:
    """One connected thing: its difference from the background [H W 3], the pixels that are its own, soft edge
    included ([H W] bool), and the noise per pixel: the usual squared difference where there is only
    background."""
    difference: np.ndarray
    window: np.ndarray
    noise: float


def components(difference: np.ndarray) -> list[Blob]:
    """The connected regions that differ from the background [H W 3], without dust. None at all if more is
    left beside them than dust."""
    labels, n = ndimage.label(np.linalg.norm(difference, axis=2) > EDGE)
    counts = np.bincount(labels.ravel(), minlength=n + 1)
    labels[counts[labels] < SPECK * labels.size] = 0
    distance, (row, column) = ndimage.distance_transform_edt(labels == 0, return_indices=True)
    owner = np.where(distance <= REACH, labels[row, column], 0)  # a pixel between two belongs to the nearer
    beside = owner == 0
    shows = np.linalg.norm(ndimage.gaussian_filter(difference, (1, 1, 0)), axis=2) > GHOST
    if not labels.any() or not beside.any() or (shows & beside).mean() > LITTER:
        return []
    # chi^2 of 3 channels: mean = 1.27 medians
    noise = 1.27 * np.median((difference[beside] ** 2).sum(axis=1))
    return [Blob(difference, owner == k, noise) for k in np.unique(owner) if k]


def read_object(blob: Blob, ground: np.ndarray, background: str) -> Object | None:
    """The object a blob is, or None. Its area and centroid say how large and where each shape would be; the
    drawing that fits says which it is."""
    colour = nearest(ground + brightest(blob), COLOURS)
    if colour is None:
        return None
    contrast = unit(COLOURS[colour]) - unit(BACKGROUNDS[background])
    # [H W] how much of each pixel is covered
    alpha = np.where(blob.window, blob.difference @ contrast / (contrast @ contrast), 0)
    fits = sorted((fit(blob, alpha, shape) for shape in SHAPES), key=lambda f: f.unexplained)
    best, second = fits[:2]
    size = size_name(best.radius)
    certain = size and best.unexplained < min(RAGGED, DOUBT * second.unexplained)
    return Object(best.shape, colour, size, *best.centre) if certain else None


def brightest(blob: Blob) -> np.ndarray:
    """The mean difference [3] over the quarter of a blob's solid pixels that differ most:
    its colour without its edge."""
    solid = blob.difference[blob.window]                                                # [pixels 3]
    size = np.linalg.norm(solid, axis=1)
    return solid[size >= np.quantile(size[size > EDGE], 0.75)].mean(axis=0)


@dataclass(frozen=True)
class Fit:
    """A shape drawn with a blob's area and centroid, and the share of the blob's colour that this drawing
    does not explain (0: all explained)."""
    shape: str
    centre: tuple[float, float]
    radius: float
    unexplained: float


def fit(blob: Blob, alpha: np.ndarray, shape: str) -> Fit:
    """Draw `shape` where the moments of alpha [H W] say it must be, as sharp or soft as fits best."""
    H, W = alpha.shape
    area, drop = moments(shape)
    total = max(alpha.sum(), 1.0)
    radius = np.sqrt(total / (area * H * W))
    x = float(alpha.sum(0) @ (np.arange(W) + 0.5) / (total * W))
    y = float(alpha.sum(1) @ (np.arange(H) + 0.5) / (total * H) - drop * radius)
    drawing = coverage(shape, (x, y), radius, (H, W))
    return Fit(shape, (x, y), radius, min(unexplained(blob,
                                                      ndimage.gaussian_filter(drawing, b) if b else drawing)
                                                      for b in BLURS))


@cache
def moments(shape: str) -> tuple[float, float]:
    """Area and height of the centroid (downwards from the middle) of a shape of radius 1."""
    v = np.linspace(-1, 1, 1001)
    width = 2 * SHAPES[shape](v)
    return np.trapezoid(width, v), np.trapezoid(v * width, v) / np.trapezoid(width, v)


def unexplained(blob: Blob, drawing: np.ndarray) -> float:
    """The share of a blob's squared difference, beyond the noise, that no single colour times the drawing [H
    W] accounts for. 0 is a perfect fit, 1 none at all."""
    D, t = blob.difference[blob.window], drawing[blob.window]                           # [pixels 3], [pixels]
    noise, total, along = len(D) * blob.noise, (D * D).sum(), t @ D                     # along: [3]
    if total <= noise or not t.any():
        return 1.0
    return max(0.0, total - noise - along @ along / (t @ t)) / (total - noise)


def size_name(radius: float) -> str | None:
    """The nearest size in log, or None if the radius is about halfway or far from both."""
    off = {name: abs(np.log(radius / r)) for name, r in SIZES.items()}
    name = min(off, key=off.get)
    halfway = np.log(SIZES["large"] / SIZES["small"]) / 2                               # 0.30
    return name if off[name] <= halfway - SIZE_DOUBT else None


def reading_order(objects: Sequence[Object]) -> tuple[Object, ...]:
    """Left to right, or top to bottom where the objects stand more above than beside each other."""
    xs, ys = [o.x for o in objects], [o.y for o in objects]
    upright = max(ys) - min(ys) > max(xs) - min(xs)
    return tuple(sorted(objects, key=lambda o: o.y if upright else o.x))


def agree(scene: Scene, reading: Scene | None, *, tolerance: float = 0.02) -> bool:
    """Whether a reading is the scene: the same objects in any order, every centre within tolerance (in
    picture widths), the same background."""
    if (
        reading is None
        or len(reading.objects) != len(scene.objects)
        or reading.background != scene.background
    ):
        return False
    pairs = list(zip(reading_order(scene.objects), reading_order(reading.objects)))
    return all((a.shape, a.colour, a.size) == (b.shape, b.colour, b.size)
               and max(abs(a.x - b.x), abs(a.y - b.y)) <= tolerance for a, b in pairs)
