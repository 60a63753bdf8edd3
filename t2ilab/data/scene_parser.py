"""Scene parser: image -> Scene, by connected components, colour, moments and template matching.

Nothing here is learned, so nothing here can be fooled in the way a network is: every object that
it reads is rendered again, and a rendering that does not explain the pixels makes the whole image
unread (None). It abstains rather than guess.
Left out on purpose: touching or overlapping objects, other backgrounds, specks (overlooked: no
scene holds an object that small), and any score: alignment.py turns readings into numbers.
"""
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import ndimage
from torch import Tensor

from .shapes import BACKGROUNDS, COLOURS, SHAPES, SIZES, Object, Scene, coverage

# Least distance in [-1, 1]: 1.15 of a colour from a background, 1.31 of two colours.
EDGE = 0.55             # a pixel this far from the background is part of something
NEAR = 0.5              # a colour further than this from every palette colour has no name
# Components under this share of the image are dust: 3 pixels of 32 x 32. The least object of a scene
# shows in 21 pixels there, and in 10 of 24 x 24.
SPECK = 0.003
REACH = 3               # pixels around a component that still belong to it: its soft edge
GHOST = 0.25            # smoothed pixels this far from the background show
LITTER = 0.02           # a larger share of such pixels beside the objects makes the image unread
BLURS = (0.0, 0.6, 1.2)         # pixels: how soft a rendering's edge may be
RAGGED = 0.045          # a rendering that leaves a larger share of the colour unexplained is wrong
# The best shape must leave at most this share of what the second best leaves, or neither is read.
DOUBT = 0.5
SIZE_DOUBT = 0.08       # a radius this close (in log) to halfway between small and large is neither


def parse(image: Tensor) -> Scene | None:
    """The scene in an image, or None if it cannot be read for certain.

    image: [3 H W] in [-1, 1], H and W at least 24.
    Objects come in reading order (left to right, or top to bottom if they stand more above than
    beside each other), with centres in [0, 1].
    None: unknown background or colour, a ragged shape, a size in between, nothing there, more than
    two objects, or objects that touch.
    Raises ValueError for an image of another shape.  Lesson: notebooks/04_faster_sampling.ipynb"""
    if image.ndim != 3 or image.shape[0] != 3 or min(image.shape[1:]) < 24:
        raise ValueError(f"image of shape {list(image.shape)}: "
                         "parse reads one picture [3 H W] with H and W at least 24")
    pixels = image.detach().cpu().double().permute(1, 2, 0).numpy()                 # [H W 3]
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    ground = np.median(border, axis=0)                                              # [3]
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
    """Name of the nearest palette colour; None if every one is further than NEAR.

    colour: [3] in [-1, 1]."""
    distance = {name: np.linalg.norm(colour - unit(rgb)) for name, rgb in palette.items()}
    name = min(distance, key=distance.get)
    return name if distance[name] <= NEAR else None


@dataclass(frozen=True)
class Blob:
    """One connected component of an image."""
    difference: np.ndarray      # [H W 3] from the background
    window: np.ndarray          # [H W] bool: the pixels that are its own, soft edge included
    noise: float                # per pixel: mean squared difference where there is only background


def components(difference: np.ndarray) -> list[Blob]:
    """Connected components of what differs from the background [H W 3], without dust.

    An empty list if more than dust is left beside them."""
    labels, n = ndimage.label(np.linalg.norm(difference, axis=2) > EDGE)            # [H W]
    counts = np.bincount(labels.ravel(), minlength=n + 1)
    labels[counts[labels] < SPECK * labels.size] = 0
    distance, (row, column) = ndimage.distance_transform_edt(labels == 0, return_indices=True)
    owner = np.where(distance <= REACH, labels[row, column], 0)     # between two: the nearer's
    beside = owner == 0
    smooth = ndimage.gaussian_filter(difference, (1, 1, 0))
    shows = np.linalg.norm(smooth, axis=2) > GHOST
    if not labels.any() or not beside.any() or (shows & beside).mean() > LITTER:
        return []
    median = np.median((difference[beside] ** 2).sum(axis=1))
    noise = 1.27 * median                       # chi^2 of 3 channels: mean = 1.27 medians
    return [Blob(difference, owner == k, noise) for k in np.unique(owner) if k]


def read_object(blob: Blob, ground: np.ndarray, background: str) -> Object | None:
    """The object in a blob, or None: the shape whose rendering explains it best.

    Area and centroid say how large and where each shape would be."""
    colour = nearest(ground + brightest(blob), COLOURS)
    if colour is None:
        return None
    contrast = unit(COLOURS[colour]) - unit(BACKGROUNDS[background])
    covered = blob.difference @ contrast / (contrast @ contrast)                    # [H W]
    alpha = np.where(blob.window, covered, 0)
    fits = [fit(blob, alpha, shape) for shape in SHAPES]
    best, second = sorted(fits, key=lambda f: f.unexplained)[:2]
    size = size_name(best.radius)
    certain = size and best.unexplained < min(RAGGED, DOUBT * second.unexplained)
    return Object(best.shape, colour, size, *best.centre) if certain else None


def brightest(blob: Blob) -> np.ndarray:
    """Colour of a blob without its edge: mean difference [3] of its strongest quarter of pixels."""
    solid = blob.difference[blob.window]                                            # [pixels 3]
    size = np.linalg.norm(solid, axis=1)
    return solid[size >= np.quantile(size[size > EDGE], 0.75)].mean(axis=0)


@dataclass(frozen=True)
class Fit:
    """A shape rendered with a blob's area and centroid, and how well that explains the blob."""
    shape: str
    centre: tuple[float, float]
    radius: float
    unexplained: float          # share of the blob's colour; 0: all explained


def fit(blob: Blob, alpha: np.ndarray, shape: str) -> Fit:
    """Render `shape` where the moments of alpha [H W] say it is, as sharp or soft as fits best."""
    H, W = alpha.shape
    area, drop = moments(shape)
    total = max(alpha.sum(), 1.0)
    radius = np.sqrt(total / (area * H * W))
    x = float(alpha.sum(0) @ (np.arange(W) + 0.5) / (total * W))
    y = float(alpha.sum(1) @ (np.arange(H) + 0.5) / (total * H) - drop * radius)
    drawing = coverage(shape, (x, y), radius, (H, W))
    blurred = (ndimage.gaussian_filter(drawing, blur) if blur else drawing for blur in BLURS)
    return Fit(shape, (x, y), radius, min(unexplained(blob, soft) for soft in blurred))


@cache
def moments(shape: str) -> tuple[float, float]:
    """Area, and height of the centroid (downwards from the middle), of a shape of radius 1."""
    v = np.linspace(-1, 1, 1001)
    width = 2 * SHAPES[shape](v)
    area = np.trapezoid(width, v)
    return area, np.trapezoid(v * width, v) / area


def unexplained(blob: Blob, drawing: np.ndarray) -> float:
    """Residual of the best single colour times the drawing [H W], as a share of the blob's energy.

    Both without the noise. 0 is a perfect fit, 1 none at all."""
    D = blob.difference[blob.window]                                                # [pixels 3]
    t = drawing[blob.window]                                                        # [pixels]
    noise, total = len(D) * blob.noise, (D * D).sum()
    along = t @ D                                                                   # [3]
    if total <= noise or not t.any():
        return 1.0
    return max(0.0, total - noise - along @ along / (t @ t)) / (total - noise)


def size_name(radius: float) -> str | None:
    """The nearest size in log, or None if the radius is about halfway or far from both."""
    off = {name: abs(np.log(radius / r)) for name, r in SIZES.items()}
    name = min(off, key=off.get)
    halfway = np.log(SIZES["large"] / SIZES["small"]) / 2                           # 0.30
    return name if off[name] <= halfway - SIZE_DOUBT else None


def reading_order(objects: Sequence[Object]) -> tuple[Object, ...]:
    """Left to right, or top to bottom where the objects stand more above than beside each other."""
    xs, ys = [o.x for o in objects], [o.y for o in objects]
    upright = max(ys) - min(ys) > max(xs) - min(xs)
    return tuple(sorted(objects, key=lambda o: o.y if upright else o.x))


def agree(scene: Scene, reading: Scene | None, *, tolerance: float = 0.02) -> bool:
    """Whether a reading equals the scene, its objects in any order.

    tolerance: how far a centre may be off along x or y, in image widths."""
    if reading is None or reading.background != scene.background:
        return False
    if len(reading.objects) != len(scene.objects):
        return False
    pairs = zip(reading_order(scene.objects), reading_order(reading.objects))
    return all(_alike(a, b, tolerance) for a, b in pairs)


def _alike(a: Object, b: Object, tolerance: float) -> bool:
    same = (a.shape, a.colour, a.size) == (b.shape, b.colour, b.size)
    return same and max(abs(a.x - b.x), abs(a.y - b.y)) <= tolerance
