"""Your own folder of images, with captions, classes and splits as they lie there.

Nothing is opened here but lists and captions; decode.py opens the images.
"""
import logging
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from ..captions import clean, cleaned, lines, read_text, warn_guessed
from ..decode import OTHER_SUFFIXES, SUFFIXES
from .listing import Listing, choose, counted, first_few
from .metadata import read_tables
from .places import Names, files_below, is_picture

log = logging.getLogger(__name__)
SPLITS = {"train": "train(ing)?", "val": "val(id|idation)?|dev", "test": "test(ing)?"}
AFTER = r"([-_ ]?(set|data|images))?[-_ ]?\d*"           # train2017, train_set, Training Images
BESIDE = (".txt", ".caption")                   # endings of an image's own file of captions, one per line
MAY_HOLD_CAPTIONS = frozenset((*BESIDE, ".csv", ".tsv", ".json", ".jsonl", ".parquet", ".token"))
THOUSANDS = re.compile(r"\d\d000")      # FFHQ's folders 00000, 01000, ..., a thousand images each: no classes


def folder(root: Path, split: str, download: bool) -> Listing:
    """Every image in a folder and below.

    Two or more sub-folders are classes; train/, val/ and test/, or as SPLITS spells them, are splits.
    A folder that wraps all others is looked through.
    Captions, first found: metadata.csv or metadata.jsonl (columns file_name and text; metadata.py has more
    names and lists), a .txt or .caption beside the image, one per line, the name of the class, nothing.
    Errors: see open_data."""
    if download:
        raise ValueError("download=True: a folder of your own has no address to download from")
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder")
    files = files_below(root)
    names = Names(root, files)
    guessed: list[Path] = []
    read = partial(read_text, guessed=guessed)
    table, used = read_tables(files, names, read)
    pictures = sorted({path for path in files if is_picture(path)} | table.keys(), key=Path.as_posix)
    top = _unwrapped(root, pictures)
    tops = _tops(top, pictures, split)
    paths = [path for path in pictures if tops is None or path.relative_to(top).parts[0] in tops]
    left_out = _other_kinds(root, files)
    if not paths:
        others = f"; not read: {first_few(left_out)}" if left_out else ""
        kinds = " ".join(sorted(SUFFIXES))
        raise ValueError(f"{root}: no pictures in this folder or below ({kinds}){others}")
    above = 0 if tops is None else 1            # the folder of a split is no class
    classes, labels = _classes([path.relative_to(top).parts[above:-1] for path in paths])
    own = {path: _beside(path, names, used, read) for path in paths if not table.get(path)}
    captions = [table.get(path) or own[path] or (classes[label] if label >= 0 else "",)
                for path, label in zip(paths, labels)]
    warn_guessed(guessed, root)
    unread = tuple(file.relative_to(root).as_posix() for file in files
                   if file.suffix.lower() in MAY_HOLD_CAPTIONS and file not in used)
    return Listing(classes, paths, captions, labels, left_out, unread)


def _classes(parents: Sequence[tuple[str, ...]]) -> tuple[tuple[str, ...], list[int]]:
    """Class names and labels from the folders each image lies in; a single sub-folder is no class."""
    names = sorted({parts[0] for parts in parents if parts})
    plain = len(names) < 2 or all(map(THOUSANDS.fullmatch, names))
    number = {} if plain else {name: k for k, name in enumerate(names)}
    labels = [number.get(parts[0], -1) if parts else -1 for parts in parents]
    return tuple(map(clean, number)), labels


def _split_of(name: str) -> str | None:
    """The split that a folder of this name is; None for any other folder."""
    return next((split for split, spelled in SPLITS.items()
                 if re.fullmatch(f"({spelled}){AFTER}", name, re.IGNORECASE)), None)


def _unwrapped(root: Path, pictures: Sequence[Path]) -> Path:
    """The folder where pictures part ways: a folder around all of them is no class."""
    names = {path.relative_to(root).parts[0] for path in pictures}
    name = names.pop() if len(names) == 1 else ""
    wraps = name and not _split_of(name) and root / name not in pictures
    return _unwrapped(root / name, pictures) if wraps else root


def _tops(root: Path, pictures: Sequence[Path], split: str) -> set[str] | None:
    """The folders that make up a split, where no other folder holds images; else None, the root itself."""
    below = [path.relative_to(root).parts for path in pictures]
    names = {parts[0] for parts in below if len(parts) > 1}
    known = {part: {name for name in names if _split_of(name) == part} for part in SPLITS}
    known = {part: tops for part, tops in known.items() if tops}
    splits = {name for tops in known.values() for name in tops}
    if not splits or splits != names:
        if splits:
            log.warning("%s: %s and %s hold pictures, so all of them are classes and none is a split",
                        root, ", ".join(sorted(splits)), first_few(sorted(names - splits), 3))
        return choose(split, {"train": None, "all": None})
    if top := [parts[0] for parts in below if len(parts) == 1]:
        log.warning("%s: left out %s in no split: %s", root, counted(len(top), "picture"), first_few(top))
    return choose(split, known | {"all": splits})


def _beside(path: Path, names: Names, used: set[Path], read: Callable[[Path], str]) -> tuple[str, ...]:
    """The captions in photo.txt, photo.caption or photo.jpg.txt, one per line; adds the file to `used`."""
    stem = path.with_suffix("").name
    for name in (*(stem + ending for ending in BESIDE), path.name + ".txt"):
        if file := names.get(path.parent, name):
            used.add(file)
            return cleaned(lines(read(file)))
    return ()


def _other_kinds(root: Path, files: Sequence[Path]) -> tuple[str, ...]:
    """Images of formats that are not read here, with one warning that counts and names them."""
    others = [path for path in files if path.suffix.lower() in OTHER_SUFFIXES]
    names = tuple(path.relative_to(root).as_posix() for path in others)
    if names:
        log.warning("%s: left out %s of a kind that is not read here: %s",
                    root, counted(len(names), "file"), first_few(names))
    return names
