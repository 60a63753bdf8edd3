"""CUB-200-2011, photographs of 200 kinds of birds (Wah et al. 2011), with ten captions each (Reed et al.
2016), as text-to-image models read it.

Which pictures belong to a split is published as a pickle. A pickle is a program: ours is read by a machine
that knows lists and strings alone. Left out on purpose: bounding boxes, attributes,
the captions' own embeddings.
"""
import json
import pickle
from pathlib import Path

from ..captions import clean, cleaned, lines, read_text, warn_guessed
from .listing import Listing, choose, first_few
from .places import is_data
from .safe_pickle import text_only

# what may say which pictures a split has, first found
LISTS = ("filenames.txt", "filenames.json", "filenames.pickle")


def cub(root: Path, split: str, download: bool) -> Listing:
    """CUB-200: root/images/001.Black_footed_Albatross/*.jpg (or root/CUB_200_2011/images/...),
    root/text/001.Black_footed_Albatross/*.txt with one caption a line (or root/text/text/...), and
    root/train/filenames.pickle, .json or .txt; all of it may lie in root/birds.

    split: train, test or all. A picture that is listed and not there counts as broken; one without captions
    is called by its kind. Classes: the kinds of birds. Errors: see open_data."""
    parts = choose(split, {"train": ["train"], "test": ["test"], "all": ["train", "test"]})
    if download:
        raise ValueError(
            "download=True: fetch CUB_200_2011.tgz from data.caltech.edu and the captions that go with it, "
            "and unpack them in the root"
        )
    home = root / "birds" if (root / "birds").is_dir() else root
    images, texts = _first(home, "images", "CUB_200_2011/images"), _first(home, "text/text", "text")
    names = [name for part in parts for name in _names(home / part)]
    folders = {path.name for path in images.iterdir() if path.is_dir() and is_data(path.name)}
    kinds = sorted(folders | {name.split("/")[0] for name in names})
    guessed: list[Path] = []
    captions = [_captions(texts / f"{name}.txt", guessed) or (_kind(name.split("/")[0]),) for name in names]
    warn_guessed(guessed, texts)
    return Listing(tuple(map(_kind, kinds)), [images / f"{name}.jpg" for name in names], captions,
                   [kinds.index(name.split("/")[0]) for name in names])


def _first(home: Path, *places: str) -> Path:
    """The first of some folders that is there."""
    for place in places:
        if (home / place).is_dir():
            return home / place
    raise FileNotFoundError(f"{home}: needs a folder {' or '.join(places)}, as CUB-200 is published")


def _names(folder: Path) -> list[str]:
    """The pictures of a split, as "001.Black_footed_Albatross/Black_Footed_Albatross_0001_796111".
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
    except (pickle.UnpicklingError, ValueError, TypeError, EOFError, IndexError, KeyError,
            AttributeError) as error:
        raise ValueError(f"{path}: no list of pictures ({error})") from error
    if odd := [name for name in names if len(Path(name).parts) != 2 or ".." in name
               or Path(name).is_absolute()]:
        raise ValueError(f"{path}: these are no pictures of CUB-200: "
                         f"{first_few([repr(name[:60]) for name in odd], 2)}")
    return names


def _kind(folder: str) -> str:
    """001.Black_footed_Albatross -> Black footed Albatross"""
    return clean(folder.split(".", 1)[-1].replace("_", " "))


def _captions(path: Path, guessed: list[Path]) -> tuple[str, ...]:
    """One a line, in single blanks; a few published files have other bytes where blanks should be."""
    if not path.is_file():
        return ()
    return cleaned(lines(read_text(path, guessed).replace("\N{REPLACEMENT CHARACTER}", " ").lower()))
