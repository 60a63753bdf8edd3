"""Which files of a folder are data: one rule for every reader.

Hidden files, what systems leave behind, and what t2ilab itself wrote never are.
Left out on purpose: archives.
"""
import json
import logging
import os
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from ..decode import SUFFIXES
from .listing import first_few

log = logging.getLogger(__name__)
NEVER = frozenset(("__macosx", "__pycache__", "lost+found", "system volume information",
                   "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "recycler",
                   "#recycle", "#snapshot", "@eadir", "@recycle", "@recently-snapshot", "@tmp"))
ABLATIONS = ("guidance", "thresholds", "augmentation", "methods", "choices")     # of evaluation/registry.py
# File -> keys, by which a folder that t2ilab wrote is known.
OURS = {"config.json": {"t2ilab"}, "samples.json": {"run", "seed"}, "stats.json": {"looked_at"},
        **{f"{name}.json": {"command"} for name in ("metrics", *ABLATIONS)}}
# What it writes beside the data of a run that lies among them.
BESIDE = frozenset(("samples", *(f"{name}.png" for name in (
    "samples", "grid", "painted", "inpainting", "enlarged", *ABLATIONS))))


def is_data(name: str) -> bool:
    """Whether a file or folder of this name can be data."""
    return not name.startswith(".") and name.lower() not in NEVER


def is_picture(path: Path) -> bool:
    """Whether a file has the suffix of an image that is read here."""
    return path.suffix.lower() in SUFFIXES


def is_in_a_class(name: str) -> bool:
    """Whether a name from a list is a file in a folder, "class/file", and no way out of the data set."""
    path = Path(name)
    return len(path.parts) == 2 and ".." not in name and not path.is_absolute()


def files_below(root: Path) -> list[Path]:
    """Every file of data in a folder and below; links are followed.  One warning names what is left out.

    A link to nothing counts as a file: whoever opens it finds it missing.
    OSError if root cannot be entered."""
    left: list[tuple[Path, str]] = []
    files = list(_enter(root, (), left))
    if left:
        reasons = [f"{path.relative_to(root).as_posix()}: {why}" for path, why in left]
        log.warning("%s: left out %s", root, first_few(reasons))
    return files


def pictures_in_classes(root: Path) -> list[Path]:
    """The images in the sub-folders of a folder, and no deeper, sorted."""
    return sorted(path for path in files_below(root) if is_picture(path) and path.parent.parent == root)


def _enter(folder: Path, above: tuple, left: list) -> Iterator[Path]:
    """The files in a folder and below.  above: the folders it lies in, as (device, number)."""
    try:
        status = os.stat(folder)
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        if not above:
            raise
        left.append((folder, error.strerror or type(error).__name__))
        return
    here = (status.st_dev, status.st_ino)
    ours = _is_ours(entries)
    why = "a link back to where it lies" if here in above else "written by t2ilab" if above and ours else ""
    if why:
        left.append((folder, why))
        return
    for entry in filter(lambda entry: is_data(entry.name), entries):
        if ours and entry.name in BESIDE:               # root is a run's own folder, too
            left.append((Path(entry.path), "written by t2ilab"))
        elif os.path.isdir(entry) if entry.is_symlink() else entry.is_dir():
            yield from _enter(Path(entry.path), (*above, here), left)
        else:
            yield Path(entry.path)


def _is_ours(entries) -> bool:
    """Whether a folder holds a run, samples or a report of t2ilab: its image grids are no data."""
    for entry in entries:
        if entry.name in OURS:
            with suppress(OSError, ValueError, RecursionError):
                saved = json.loads(Path(entry.path).read_bytes())
                if isinstance(saved, dict) and OURS[entry.name] <= saved.keys():
                    return True
    return False


class Names:
    """Finds files by names as people write them: é as one character or two, / or \\, .. inside."""

    def __init__(self, root: Path, files: Iterable[Path]):
        exact = {os.path.normpath(path): path for path in files}
        self.root = root
        self.files = {_nfc(name): path for name, path in exact.items()} | exact
        self.pictures: dict[str, list[Path]] = {}           # by name, and by name without its suffix
        for path in filter(is_picture, exact.values()):
            for name in {_nfc(path.name), _nfc(path.stem)}:
                self.pictures.setdefault(name, []).append(path)

    def get(self, folder: Path, name: str) -> Path | None:
        """The file that a name means in a folder, if there is one."""
        where = os.path.normpath(os.path.join(folder, name))
        found = self.files.get(where) or self.files.get(_nfc(where))
        if not found and "\\" in name:
            return self.get(folder, name.replace("\\", "/"))
        return found

    def find(self, folder: Path, name: str) -> Path:
        """The same; where there is none, the path where it should be.  ValueError if that is outside root."""
        below = os.path.relpath(os.path.join(folder, name.replace("\\", "/")), self.root)
        if below.split(os.sep)[0] == os.pardir or os.path.isabs(below) or "\0" in name:
            raise ValueError(f"{name[:100]!r} is no file below {self.root}")
        return self.get(folder, name) or self.get(self.root, below) or self.root / below

    def only(self, folder: Path, name: str) -> Path | None:
        """The picture of a bare name in the folders below, or else anywhere.  ValueError for two of them."""
        anywhere = self.pictures.get(_nfc(name), [])
        found = [path for path in anywhere if path.is_relative_to(folder)] or anywhere
        if len(found) > 1:
            raise ValueError(f"{folder}: its captions of {name} may be of {found[0]} or {found[1]}: "
                             "put the list of captions beside its pictures")
        return next(iter(found), None)


def _nfc(name: str) -> str:
    return unicodedata.normalize("NFC", name)
