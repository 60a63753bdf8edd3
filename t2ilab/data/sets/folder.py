"""Your own folder of pictures, with captions, classes and splits as they lie there.

Nothing is opened here but lists and captions; decode.py opens the pictures.
"""
import csv
import json
from pathlib import Path

from ..decode import SUFFIXES
from .listing import Listing, choose


SPLITS = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test",)}


def folder(root: Path, split: str, download: bool) -> Listing:
    """Every picture in a folder and below; two or more sub-folders are classes; train/, val/ and test/ are splits.

    Captions, first found: metadata.jsonl or metadata.csv (columns file_name and text or caption), a .txt beside the picture with one caption
    a line, the name of the class, nothing. Errors: see open_data."""
    if download:
        raise ValueError("download=True: a folder of your own has no address to download from")
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder")
    files = {path: base for base in _split_folders(root, split) for path in _below(base)}      # file -> the folder its class is read from
    rows = [(path, texts, files[file]) for file in files if file.name in ("metadata.jsonl", "metadata.csv") for path, texts in _metadata(file)]
    pictures = {path: base for path, base in files.items() if path.suffix.lower() in SUFFIXES} | {path: base for path, _, base in rows}
    if not pictures:
        raise ValueError(f"{root}: no pictures in this folder or below ({' '.join(sorted(SUFFIXES))})")
    paths, table = sorted(pictures, key=Path.as_posix), {path: texts for path, texts, _ in rows}
    classes, labels = _classes([path.relative_to(pictures[path]).parts[:-1] for path in paths])
    captions = [table.get(path) or _beside(path) or (classes[label] if label >= 0 else "",) for path, label in zip(paths, labels)]
    return Listing(classes, paths, captions, labels)


def _classes(parents):
    """Class names and labels from the folders each picture lies in; fewer than two sub-folders are no classes."""
    names = sorted({parts[0] for parts in parents if parts})
    number = {name: k for k, name in enumerate(names)} if len(names) > 1 else {}
    return tuple(number), [number.get(parts[0], -1) if parts else -1 for parts in parents]


def _below(root):
    """Files in a folder and below, without hidden ones (macOS leaves ._photo.jpg files that are no pictures)."""
    return [path for path in root.rglob("*") if path.is_file() and not any(part.startswith(".") for part in path.relative_to(root).parts)]


def _split_folders(root, split):
    """The folders that make up a split: train/, val/, test/ where nothing else is there, else the root itself."""
    names = {path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")}
    if not names or not names <= {name for aliases in SPLITS.values() for name in aliases}:
        return choose(split, {"train": [root], "all": [root]})
    known = {part: [root / name for name in aliases if name in names] for part, aliases in SPLITS.items()}
    return choose(split, {part: bases for part, bases in known.items() if bases} | {"all": sum(known.values(), [])})


def _metadata(path):
    """(picture, captions) for each row of a metadata file; file_name is relative to the file's own folder."""
    for number, row in _rows(path):
        if not (isinstance(row, dict) and row.get("file_name")):
            raise ValueError(f"{path}, row {number}: no file_name in {row}")
        text = row.get("text") or row.get("caption") or ""
        yield path.parent / row["file_name"], _captions(text if isinstance(text, list) else [text])


def _rows(path):
    with open(path, encoding="utf-8-sig", errors="replace", newline="") as file:
        if path.suffix == ".csv":
            yield from enumerate(csv.DictReader(file), 1)
            return
        for number, line in enumerate(file, 1):
            try:
                row = json.loads(line) if line.strip() else None
            except ValueError as error:
                raise ValueError(f"{path}, row {number}: not JSON: {error}") from error
            if row is not None:
                yield number, row


def _beside(path):
    """The captions in the .txt file beside a picture, one a line; bytes that are not UTF-8 show as the replacement character."""
    text = path.with_suffix(".txt")
    return _captions(text.read_text("utf-8-sig", errors="replace").splitlines()) if text.is_file() else ()


def _captions(lines):
    """Captions without empty ones, each with single blanks."""
    return tuple(" ".join(str(line).split()) for line in lines if str(line).strip())
