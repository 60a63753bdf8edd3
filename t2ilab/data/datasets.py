"""Registry of data sets by name, and open_data, the one function that opens them all.

A new data set is one file and one row:
  1. data/sets/NAME.py: a function (root, split, download) -> Listing; its captions through captions.cleaned,
     its files through places.files_below
  2. a row in DATASETS below; help texts, the report and the errors follow from it
  3. a fixture in its published layout in tests/tiny_data.py, and a test of what is read, missing and damaged
  4. its name in README's list of data sets (a test looks)
"""
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .decode import Fit
from .image_check import BrokenFile, check
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


class DataSet(NamedTuple):
    """What a row of DATASETS says."""
    read: Callable[[Path, str, bool], Listing] | None       # (root, split, download); None: it is drawn
    about: str                                              # one line
    source: str                                             # where to get it
    published: int | None = None                            # images in all splits, if it was published


DATASETS = {
    "shapes": DataSet(None, "captioned scenes, drawn afresh for ever", "nothing to get"),
    "shapes-one": DataSet(None, "those of one object alone, which are learned soonest", "nothing to get"),
    "cifar10": DataSet(cifar10, "ten classes at 32 pixels", "--download", 60_000),
    "flowers102": DataSet(flowers102, "102 kinds of flowers, by name or in ten captions each",
                          "--download; captions: Reed et al. 2016", 8_189),
    "sbu": DataSet(sbu, "captioned photographs from the web",
                   "t2ilab data fetch, or img2dataset --output_format files", 1_000_000),
    "dogs": DataSet(dogs, "Stanford Dogs, 120 breeds",
                    "images.tar and lists.tar from vision.stanford.edu/aditya86/ImageNetDogs", 20_580),
    "coco": DataSet(coco, "MS COCO: scenes, five captions each",
                    "train2017.zip, val2017.zip, annotations_trainval2017.zip from cocodataset.org", 123_287),
    "cub": DataSet(cub, "CUB-200: birds, ten captions each",
                   "CUB_200_2011.tgz from data.caltech.edu, and the captions that go with it", 11_788),
    "imagenet": DataSet(imagenet, "1,000 classes of photographs", "image-net.org", 1_331_167),
    "folder": DataSet(folder, "any pictures of yours; FFHQ and Flickr8k as they unpack", "your own disk")}

OBJECTS = {"shapes": (1, 2), "shapes-one": (1,)}        # numbers of objects in a drawn scene


def is_drawn(name: str) -> bool:
    """Whether a data set is of drawn scenes, which the scene parser can read back."""
    return name in OBJECTS


def names_of_datasets() -> str:
    """All names in a row, as help texts list them: "shapes, cifar10, ... or folder"."""
    *most, last = DATASETS
    return f"{', '.join(most)} or {last}"


def open_data(name: str, root=None, *, size: int, split: str = "train", crop: str = "centre",
              flip: bool = False, limit: int | None = None, download: bool = False, max_broken: float = 0.01):
    """A data set by its name, one of DATASETS. Which files each expects: data/sets/, one file each.

    root: the folder that holds it (default: $T2ILAB_DATA or ./data).
    size: S, images become [3 S S].  crop, flip: see decode.Fit.
    limit: only so many images, evenly spaced.  Nothing is downloaded unless download=True.
    max_broken: share of the images that may be broken or missing.
    Raises FileNotFoundError where nothing is, ValueError for an unknown name or option, no images, or too
    many broken ones.
    Lesson: notebooks/01_data_analysis.ipynb"""
    if name not in DATASETS:
        raise ValueError(f"data={name!r}: choose one of {', '.join(DATASETS)}")
    fit = Fit(size, crop, flip)
    if (read := DATASETS[name].read) is None:
        if (root, crop, flip, limit, download) != (None, "centre", False, None, False):
            raise ValueError(f"{name} are drawn, not read: root, crop, flip, limit and download do not apply")
        return Scenes(size=size, split=split, objects=OBJECTS[name])
    if name == "folder" and root is None:
        raise ValueError("data='folder': say which folder with root")
    root = Path(root if root is not None else os.environ.get("T2ILAB_DATA", "data")).expanduser()
    listing = read(root, split, download)
    return _usable(_thinned(listing, limit), root, fit, max_broken)


def _thinned(listing, limit):
    """The same listing with at most `limit` images, evenly spaced, because folders are sorted by class."""
    total = len(listing.pictures)
    if limit is None or limit >= total:
        return listing
    if limit < 1:
        raise ValueError(f"limit={limit}: at least 1 picture")
    return _only(listing, [k * total // limit for k in range(limit)])


def _only(listing, keep):
    """The listing of some of its images. keep: their indices."""
    def kept(values):
        return values[keep] if isinstance(values, np.ndarray) else [values[i] for i in keep]
    pictures, captions, labels = map(kept, listing[1:4])
    return listing._replace(pictures=pictures, captions=captions, labels=labels)


def _usable(listing, root, fit, max_broken):
    """The data set of the images that decode; warns of the others, or raises if they are too many."""
    pictures = listing.pictures
    if isinstance(pictures, np.ndarray):        # pixels already: nothing left to decode
        return ImageSet(listing, fit, [pictures.shape[2:0:-1]] * len(pictures))
    seen = check(pictures, root)
    good = [i for i, what in enumerate(seen) if not isinstance(what, str)]
    bad = tuple(BrokenFile(path.relative_to(root).as_posix(), what)
                for path, what in zip(pictures, seen) if isinstance(what, str))
    kinds = " or ".join(sorted({"missing" if b.missing else "broken" for b in bad}))
    examples = first_few([f"{b.name}: {b.reason}" for b in bad])
    if len(bad) > max_broken * len(seen) or not good:
        share = (100 * len(bad) // len(seen) + 1) / 100
        hint = f"; --max-broken {share:.2f} takes the others" if good else ""
        raise ValueError(f"{root}: {len(bad):,} of {len(seen):,} pictures are {kinds}, "
                         f"more than {max_broken:.0%}: {examples}{hint}")
    if bad:
        log.warning("%s: skipped %d %s of %d pictures: %s", root, len(bad), kinds, len(seen), examples)
    return ImageSet(_only(listing, good), fit, [seen[i] for i in good], bad)
