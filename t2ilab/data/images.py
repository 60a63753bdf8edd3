"""Photographs for training: any data set on disk, every broken file found before the first step, and one function that opens them all.

All files are decoded once up front and the good ones numbered, so example number n is the same picture for the whole run and for every
resumed run. The result is remembered per file (path, time of change, bytes), so the next start takes seconds.
Left out on purpose: caching decoded pixels, sizes other than square.
"""
import hashlib
import json
import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from ..shipped import cache_root
from .coco import coco
from .cub import cub
from .decode import Fit, measure, open_rgb, read_image
from .example import Example
from .folders import dogs, folder, sbu
from .imagenet import imagenet
from .layouts import Listing, cifar10, first_few, flowers102
from .shapes import Scenes

__all__ = ["LAYOUTS", "NAMES", "Bad", "Fit", "ImageSet", "open_data", "read_image"]

log = logging.getLogger(__name__)
LAYOUTS = {"cifar10": cifar10, "flowers102": flowers102, "sbu": sbu, "dogs": dogs, "coco": coco, "cub": cub, "imagenet": imagenet,
           "folder": folder}                                            # (root, split, download) -> Listing
NAMES = ("shapes", *LAYOUTS)


class Bad(NamedTuple):
    """A file that is no usable picture, and why."""
    name: str
    reason: str


@dataclass(frozen=True)
class ImageSet:
    """Pictures on disk as a data set: example(index, generator) crops, flips and picks a caption with the generator alone."""
    listing: Listing                            # of good pictures only
    fit: Fit
    sizes: Sequence[tuple[int, int]]            # true (width, height) of each, before it is fitted
    bad: tuple[Bad, ...] = ()                   # what was left out

    @property
    def classes(self) -> tuple[str, ...]:
        return self.listing.classes

    @property
    def size(self) -> int:
        return self.fit.size

    def __len__(self) -> int:
        return len(self.listing.pictures)

    def texts(self) -> list[str]:
        """Every caption: what a vocabulary is learned from."""
        return [caption for captions in self.listing.captions for caption in captions]

    def example(self, index: int, generator: torch.Generator) -> Example:
        """Picture number index, fitted to [3 S S] uint8, with one of its captions. A file that broke after the check is a ValueError."""
        picture, captions = self.listing.pictures[index], self.listing.captions[index]
        image = open_rgb(picture, self.size)[0] if isinstance(picture, Path) else Image.fromarray(picture)
        image = self.fit(image, generator)
        caption = captions[int(torch.randint(len(captions), (), generator=generator))]
        return Example(image, caption, int(self.listing.labels[index]))


def open_data(name: str, root=None, *, size: int, split: str = "train", crop: str = "centre", flip: bool = False,
              limit: int | None = None, download: bool = False, max_broken: float = 0.01):
    """A data set by name: shapes (drawn, endless), cifar10, flowers102, sbu (photographs with captions from
    the web), dogs (120 breeds), coco (scenes, five captions each), cub (200 kinds of birds, ten captions each), imagenet (1,000 classes), or folder
    (any pictures of yours).  Which files each expects: layouts.py, folders.py, coco.py, cub.py and imagenet.py.

    root: the folder that holds it (default: $T2ILAB_DATA or ./data).  size: S, pictures become [3 S S].  crop, flip: see decode.Fit.
    limit: only so many pictures, evenly spaced.  Nothing is downloaded unless download=True.  max_broken: share of broken files allowed.
    Raises FileNotFoundError where nothing is, ValueError for an unknown name or option, no pictures, or too many broken ones.
    Lesson: notebooks/01_data_analysis.ipynb"""
    if name not in NAMES:
        raise ValueError(f"data={name!r}: choose one of {', '.join(NAMES)}")
    fit = Fit(size, crop, flip)
    if name == "shapes":
        if (root, crop, flip, limit, download) != (None, "centre", False, None, False):
            raise ValueError("shapes are drawn, not read: root, crop, flip, limit and download do not apply")
        return Scenes(size=size, split=split)
    if name == "folder" and root is None:
        raise ValueError("data='folder': say which folder with root")
    root = Path(root if root is not None else os.environ.get("T2ILAB_DATA", "data")).expanduser()
    return _usable(_thinned(LAYOUTS[name](root, split, download), limit), root, fit, max_broken)


def _thinned(listing, limit):
    """The same listing with at most `limit` pictures, evenly spaced, because folders are sorted by class."""
    if limit is None or limit >= len(listing.pictures):
        return listing
    if limit < 1:
        raise ValueError(f"limit={limit}: at least 1 picture")
    return _only(listing, [k * len(listing.pictures) // limit for k in range(limit)])


def _only(listing, keep):
    pictures = listing.pictures[keep] if isinstance(listing.pictures, np.ndarray) else [listing.pictures[i] for i in keep]
    return Listing(listing.classes, pictures, [listing.captions[i] for i in keep], [listing.labels[i] for i in keep])


def _usable(listing, root, fit, max_broken):
    """The data set of the pictures that decode; names the others in one line, or raises if they are too many."""
    if isinstance(listing.pictures, np.ndarray):                        # pixels already: nothing left to decode
        return ImageSet(listing, fit, [listing.pictures.shape[2:0:-1]] * len(listing.pictures))
    seen = check(listing.pictures, root)
    good = [i for i, what in enumerate(seen) if not isinstance(what, str)]
    bad = tuple(Bad(path.relative_to(root).as_posix(), what) for path, what in zip(listing.pictures, seen) if isinstance(what, str))
    examples = first_few([f"{b.name}: {b.reason}" for b in bad])
    if len(bad) > max_broken * len(seen) or not good:
        raise ValueError(f"{root}: {len(bad)} of {len(seen)} pictures are broken, more than {max_broken:.0%}: {examples}")
    if bad:
        log.warning("%s: skipped %d broken of %d pictures: %s", root, len(bad), len(seen), examples)
    return ImageSet(_only(listing, good), fit, [seen[i] for i in good], bad)


# The check

def check(paths: Sequence[Path], root: Path) -> list:
    """For each file below root its true (width, height), or a string that says why it is no picture.

    Decodes whatever is new, changed, or was broken the last time."""
    from tqdm import tqdm
    names, stamps = [path.relative_to(root).as_posix() for path in paths], [_stamp(path) for path in paths]
    memory = _memory(root)
    known = _recall(memory)                                             # name -> [time of change, bytes, width, height]
    fresh = [k for k, (name, stamp) in enumerate(zip(names, stamps)) if known.get(name, [])[:2] != stamp]
    with ThreadPoolExecutor(os.cpu_count()) as pool:                    # Pillow decodes outside Python's lock
        looks = pool.map(_look, [paths[k] for k in fresh])
        found = dict(zip(fresh, tqdm(looks, total=len(fresh), desc="checking pictures", delay=10, mininterval=0.5, leave=False)))
    seen = [found[k] if k in found else tuple(known[name][2:]) for k, name in enumerate(names)]
    if fresh:
        _remember(memory, known | {names[k]: [*stamps[k], *size] for k, size in found.items() if not isinstance(size, str)})
    return seen


def _look(path):
    try:
        return measure(path)
    except FileNotFoundError:
        return "no such file"
    except ValueError as error:
        return str(error).removeprefix(f"{path}: ")


def _stamp(path):
    """[time of change, bytes], which changes whenever the file does; None if there is no file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return [status.st_mtime_ns, status.st_size]


def _memory(root):
    """Where the last check of a folder is kept, in the user's cache."""
    return cache_root() / "checked" / f"{hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]}.json"


def _recall(memory):
    with suppress(OSError, ValueError):                                 # no memory, or a damaged one: look at everything again
        return json.loads(memory.read_text("utf-8"))
    return {}


def _remember(memory, known):
    with suppress(OSError):                                             # a read-only home costs time at the next start, nothing else
        memory.parent.mkdir(parents=True, exist_ok=True)
        part = memory.with_suffix(f".{os.getpid()}")
        part.write_text(json.dumps(known), "utf-8")
        os.replace(part, memory)
