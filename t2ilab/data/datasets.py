"""Every data set by its name, and the one function that opens them all."""
import logging
import numpy as np
import os
from pathlib import Path

from .decode import Fit
from .image_check import Bad, check
from .image_set import ImageSet
from .sets.cifar10 import cifar10
from .sets.coco import coco
from .sets.cub import cub
from .sets.dogs import dogs
from .sets.flowers102 import flowers102
from .sets.folder import folder
from .sets.imagenet import imagenet
from .sets.listing import Listing, first_few
from .sets.sbu import sbu
from .shapes import Scenes


log = logging.getLogger(__name__)
LAYOUTS = {"cifar10": cifar10, "flowers102": flowers102, "sbu": sbu, "dogs": dogs, "coco": coco, "cub": cub, "imagenet": imagenet,
           "folder": folder}                                            # (root, split, download) -> Listing
NAMES = ("shapes", *LAYOUTS)


def open_data(name: str, root=None, *, size: int, split: str = "train", crop: str = "centre", flip: bool = False,
              limit: int | None = None, download: bool = False, max_broken: float = 0.01):
    """A data set by name: shapes (drawn, endless), cifar10, flowers102, sbu (photographs with captions from
    the web), dogs (120 breeds), coco (scenes, five captions each), cub (200 kinds of birds, ten captions each), imagenet (1,000 classes), or folder
    (any pictures of yours).  Which files each expects: data/sets/, one file each.

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
