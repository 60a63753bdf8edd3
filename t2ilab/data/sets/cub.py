"""CUB-200-2011: photographs of 200 bird species (Wah et al. 2011) with ten captions each (Reed et al. 2016).

Which images belong to a split is published as a pickle. A pickle is a program, so it is read by an unpickler
that knows lists and strings alone.
Left out on purpose: bounding boxes, attributes, the captions' own embeddings.
"""
import json
import pickle
from pathlib import Path

from ..captions import clean, cleaned, lines, read_text, warn_guessed
from .listing import Listing, choose, first_few
from .places import is_data, is_in_a_class
from .safe_pickle import text_only

# What may say which images a split has, first found.
LISTS = ("filenames.txt", "filenames.json", "filenames.pickle")
# What a damaged list or pickle raises.
DAMAGED = (pickle.UnpicklingError, ValueError, TypeError, EOFError, IndexError, KeyError, AttributeError)


def cub(root: Path, split: str, download: bool) -> Listing:
    """CUB-200: root/images/001.Black_footed_Albatross/*.jpg, their captions and lists of splits.

    The images may lie in root/CUB_200_2011/images, too. Captions: root/text/001.Black_footed_Albatross/*.txt
    (or root/text/text/...), one per line. Lists: root/train/filenames.pickle, .json or .txt. All of it may
    lie in root/birds.
    split: train, test or all. An image that is listed and not there counts as broken; one without captions is
    called by its species. Classes: the species. Errors: see open_data."""
    parts = choose(split, {"train": ["train"], "test": ["test"], "all": ["train", "test"]})
    if download:
        raise ValueError("download=True: fetch CUB_200_2011.tgz from data.caltech.edu and the captions "
                         "that go with it, and unpack them in the root")
    home = root / "birds" if (root / "birds").is_dir() else root
    images = _first(home, "images", "CUB_200_2011/images")
    texts = _first(home, "text/text", "text")
    names = [name for part in parts for name in _names(home / part)]
    kind_of = [name.split("/")[0] for name in names]
    folders = {path.name for path in images.iterdir() if path.is_dir() and is_data(path.name)}
    kinds = sorted(folders | set(kind_of))
    guessed: list[Path] = []
    captions = [_captions(texts / f"{name}.txt", guessed) or (_kind(kind),)
                for name, kind in zip(names, kind_of)]
    warn_guessed(guessed, texts)
    pictures = [images / f"{name}.jpg" for name in names]
    return Listing(tuple(map(_kind, kinds)), pictures, captions, [kinds.index(kind) for kind in kind_of])


def _first(home: Path, *places: str) -> Path:
    """The first of some folders that is there."""
    for place in places:
        if (home / place).is_dir():
            return home / place
    raise FileNotFoundError(f"{home}: needs a folder {' or '.join(places)}, as CUB-200 is published")


def _names(folder: Path) -> list[str]:
    """The images of a split, as "001.Black_footed_Albatross/Black_Footed_Albatross_0001_796111".

    ValueError for anything else in the list."""
    path = next((folder / name for name in LISTS if (folder / name).is_file()), None)
    if path is None:
        raise FileNotFoundError(f"{folder}: needs one of {', '.join(LISTS)}")
    try:
        if path.suffix == ".pickle":
            names = text_only(path)
        else:
            text = read_text(path)
            names = json.loads(text) if path.suffix == ".json" else lines(text)
        names = [str(name).strip().removesuffix(".jpg") for name in names if str(name).strip()]
    except DAMAGED as error:
        raise ValueError(f"{path}: no list of pictures ({error})") from error
    if odd := [repr(name[:60]) for name in names if not is_in_a_class(name)]:
        raise ValueError(f"{path}: these are no pictures of CUB-200: {first_few(odd, 2)}")
    return names


def _kind(folder: str) -> str:
    """001.Black_footed_Albatross -> Black footed Albatross"""
    return clean(folder.split(".", 1)[-1].replace("_", " "))


def _captions(path: Path, guessed: list[Path]) -> tuple[str, ...]:
    """One per line, in single blanks; a few published files have other bytes where blanks should be."""
    if not path.is_file():
        return ()
    text = read_text(path, guessed).replace("\N{REPLACEMENT CHARACTER}", " ")
    return cleaned(lines(text.lower()))
