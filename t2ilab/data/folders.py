"""Data sets that are folders of pictures: your own in whatever order they lie, SBU Captions, and Stanford Dogs.

Nothing is opened here but lists and captions; decode.py opens the pictures. Left out on purpose: archives, remote stores.
"""
import csv
import json
import logging
from pathlib import Path

from .captions import dog_captions
from .decode import SUFFIXES
from .layouts import Listing, choose, first_few, home_of, named

log = logging.getLogger(__name__)
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


# SBU Captions, or anything else that img2dataset fetched

def sbu(root: Path, split: str, download: bool) -> Listing:
    """SBU Captions as img2dataset writes them with --output_format files: root/sbucaptions/00000/000000000.{jpg,json,txt}, or root/00000/...

    Captions: "caption" in the .json, else the .txt beside, one a line. What could not be fetched is left out, with one warning that counts it.
    split: train or all, both the whole set: it was published without splits. No classes. Errors: see open_data."""
    choose(split, {"train": True, "all": True})
    if download:
        raise ValueError("download=True: SBU is a list of addresses, not of pictures: fetch them with img2dataset --output_format files")
    home = root / "sbucaptions" if (root / "sbucaptions").is_dir() else root
    entries = [entry for shard in sorted(home.glob("[0-9]*/")) for entry in _entries(shard)]
    if not entries:
        raise FileNotFoundError(f"{home}: nothing that img2dataset wrote (with --output_format files), such as 00000/000000000.json and .jpg")
    missing = [f"{path.relative_to(home).as_posix()}: {why}" for path, _, why in entries if why]
    if len(missing) == len(entries):
        raise ValueError(f"{home}: none of {len(entries)} entries has a picture: {first_few(missing)}")
    if missing:
        log.warning("%s: left out %d of %d entries: %s", home, len(missing), len(entries), first_few(missing))
    good = [(path, texts) for path, texts, why in entries if not why]
    return Listing((), [path for path, _ in good], [texts or ("",) for _, texts in good], [-1] * len(good))


def _entries(shard):
    """(picture, captions, "") for each entry of a shard, or (name, (), why it is left out)."""
    files = {path.name: path for path in shard.iterdir() if not path.name.startswith(".")}
    pictures = {path.stem: path for path in files.values() if path.suffix.lower() in SUFFIXES}
    for stem in sorted(pictures.keys() | {path.stem for path in files.values() if path.suffix == ".json"}):
        row, why = _row(files.get(f"{stem}.json"))
        why = why or ("" if stem in pictures else "no picture")
        yield (shard / stem, (), why) if why else (pictures[stem], _said(row) or _beside(pictures[stem]), "")


def _row(path):
    """What img2dataset noted about one entry, and why it is no use; ({}, "") where it noted nothing."""
    try:
        row = json.loads(path.read_text("utf-8", errors="replace")) if path else {}
    except ValueError:
        row = None
    if not isinstance(row, dict):
        return {}, "its .json is damaged"
    status = row.get("status", "success")
    return row, "" if status == "success" else _captions([row.get("error_message") or f"status {status}"])[0]


def _said(row):
    return _captions([row["caption"]]) if isinstance(row.get("caption"), str) else ()


# Stanford Dogs

def dogs(root: Path, split: str, download: bool) -> Listing:
    """Stanford Dogs: root/Images/n02085620-Chihuahua/n02085620_10074.jpg; classes are the breeds, in the order of their folders.

    split: train and test as root/lists/train_list.mat and test_list.mat say; all is every picture, listed or not. Without either list there
    is no test, and train is every picture, as in a folder of your own. Captions: captions.dog_captions. Errors: see open_data."""
    if download:
        raise ValueError("download=True: fetch images.tar and lists.tar from vision.stanford.edu/aditya86/ImageNetDogs and unpack them in the root")
    home = home_of(root, "Images")
    if not home.is_dir():
        raise FileNotFoundError(f"no folder Images in {home.parent}: unpack images.tar of Stanford Dogs (and lists.tar, for the splits) there")
    everything = sorted(path for path in home.glob("*/*") if path.suffix.lower() in SUFFIXES and not path.name.startswith("."))
    if not everything:
        raise ValueError(f"{home}: no pictures in folders such as n02085620-Chihuahua")
    lists = {part: path for part in ("train", "test") for path in _dog_lists(home.parent, part)}
    if split in ("train", "test") and split not in lists and (lists or split == "test"):
        raise ValueError(f"split={split!r}: needs {split}_list.mat (from lists.tar) in {home.parent / 'lists'}; split='all' is every picture")
    listed = choose(split, {"all": None, "train": None, **lists})
    paths = _listed_dogs(home, listed) if listed else everything
    folders = sorted({path.parent.name for path in [*everything, *paths]})
    number = {name: k for k, name in enumerate(folders)}
    return named([_breed(name) for name in folders], paths, [number[path.parent.name] for path in paths], dog_captions)


def _dog_lists(home, part):
    """The file of a split, in lists/ or where lists.tar was unpacked without a folder of its own; at most one."""
    return [path for path in (home / "lists" / f"{part}_list.mat", home / f"{part}_list.mat") if path.is_file()][:1]


def _listed_dogs(home, path):
    """The pictures that a list names, whether they are there or not."""
    from scipy.io import loadmat
    try:
        return [home / str(cell.item()) for cell in loadmat(path)["file_list"].ravel()]
    except Exception as error:                  # damaged .mat files raise nearly every type there is
        raise ValueError(f"{path}: not in Stanford Dogs' layout: {error!r}") from error


def _breed(folder):
    """"n02099267-flat-coated_retriever" is a flat-coated retriever: only the first hyphen ends the number."""
    return (folder.partition("-")[2] or folder).replace("_", " ")
