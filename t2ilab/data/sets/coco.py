"""MS COCO captions: everyday photographs with five or more captions each (Chen et al., arXiv 1504.00325).

The editions of 2014 and 2017 hold the same 123,287 images under other file names, and divide them
differently between train and val. Left out on purpose: objects, masks and key points, the test images (their
captions were never published), and splits made by others.
"""
import json
import logging
import os
from pathlib import Path, PureWindowsPath
from reprlib import repr as short

from ..captions import clean, read_text
from .listing import Listing, choose

log = logging.getLogger(__name__)
EDITIONS = ("2017", "2014")                     # newest first
IMAGE = {"id": int, "file_name": str}           # what is read of each entry, and its type
ANNOTATION = {"image_id": int, "caption": str}


def coco(root: Path, split: str, download: bool) -> Listing:
    """MS COCO captions: root/annotations/captions_train2017.json and root/train2017/000000000009.jpg.

    Or the same in root/coco. The images may also lie in train2017/train2017, in images/train2017, in images,
    or in the root itself. Those that are missing count as broken. No classes.
    Only one edition is read, because val of one is part of train of the other: 2017, or 2014 where only 2014
    has captions or has images.
    split: train, val, or all, which is both or the one that is there. Order: by image id, train first.
    Errors: see open_data."""
    parts = choose(split, {"train": ["train"], "val": ["val"], "all": ["train", "val"]})
    if download:
        raise ValueError("download=True: fetch train2017.zip, val2017.zip and annotations_trainval2017.zip "
                         "from cocodataset.org and unpack them in the root")
    home = root / "coco" if (root / "coco").is_dir() else root
    edition = _edition(home)
    names = [part + edition for part in parts if _captions_file(home, part + edition).is_file()]
    if not names:
        needed = f"annotations/captions_{parts[0]}{edition}.json"
        raise FileNotFoundError(f"split={split!r}: no {needed} in {home}")
    rows = [row for name in names for row in _rows(home, name, _captions_file(home, name))]
    paths = [path for path, _ in rows]
    captions = [texts for _, texts in rows]
    return Listing((), paths, captions, [-1] * len(rows))


def _captions_file(home, name):
    return home / "annotations" / f"captions_{name}.json"


def _edition(home):
    """The edition to read: one with captions; of two, the one with folders of images.

    Of two whole ones it is the newest, with a warning."""
    splits = {edition: [f"train{edition}", f"val{edition}"] for edition in EDITIONS}
    there = [edition for edition, names in splits.items()
             if any(_captions_file(home, name).is_file() for name in names)]
    if not there:
        raise FileNotFoundError(f"no annotations/captions_train2017.json in {home}: "
                                "unpack annotations_trainval2017.zip of MS COCO there (or that of 2014)")
    whole = [edition for edition in there
             if any(place.is_dir() for name in splits[edition]
                    for place in (home / name, home / "images" / name))]
    if len(whole) > 1:
        log.warning("%s holds the editions %s of MS COCO: reads %s alone",
                    home, " and ".join(whole), whole[0])
    return (whole or there)[0]


def _rows(home, name, path):
    """(path, captions) of each image that a captions file lists, in the order of their ids."""
    data = _json(path)
    images = _entries(path, data, "images", IMAGE)
    files = {number: _inside(path, file) for number, file in images}
    if len(files) < len(images):
        raise ValueError(f"{path}: {len(images) - len(files)} of its images have the id of another")
    said = {number: [] for number in files}
    for number, caption in _entries(path, data, "annotations", ANNOTATION):
        if number not in said:
            raise ValueError(f"{path}: a caption of image {short(number)}, which it does not list: "
                             f"{short(caption)}")
        said[number].append(clean(caption))
    folder = _folder(home, name, path, files.values())
    captions = {number: tuple(filter(None, texts)) or ("",) for number, texts in said.items()}
    return [(folder / files[number], captions[number]) for number in sorted(files)]


def _json(path):
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as error:       # the latter: thousands of nested brackets
        raise ValueError(f"{path}: not JSON: {error}") from error


def _entries(path, data, key, types):
    """The values of some keys from each entry of a list of the file, each of its type; a bool is no int."""
    entries = data.get(key) if isinstance(data, dict) else None
    if not isinstance(entries, list):
        raise ValueError(f"{path}: not in COCO's layout: no list {key!r}")
    for k, entry in enumerate(entries):
        fits = isinstance(entry, dict) and all(type(entry.get(name)) is kind for name, kind in types.items())
        if not fits:
            needed = " and ".join(f"{name} ({kind.__name__})" for name, kind in types.items())
            raise ValueError(f"{path}: {key}[{k}] needs {needed}: {short(entry)}")
    return [tuple(entry[name] for name in types) for entry in entries]


def _inside(path, name):
    """The file name, if it stays in the folder of images on every system.

    Windows also knows drives and backslashes."""
    where = PureWindowsPath(name)
    if not where.parts or where.anchor or ".." in where.parts or not name.isprintable():
        raise ValueError(f"{path}: file_name {short(name)} is no file below the folder of pictures")
    return name


def _folder(home, name, path, files):
    """The first folder that holds any of the listed images."""
    places = (home / name, home / name / name, home / "images" / name, home / "images", home)
    for place in places:
        if any(os.path.isfile(place / file) for file in files):
            return place
    raise FileNotFoundError(f"{path} lists {len(files):,} pictures, and none is in {name}, images/{name}, "
                            f"images or the folder {home} itself")
