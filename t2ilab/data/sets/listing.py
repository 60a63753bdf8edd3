"""Listing: a data set before any image is opened (classes, paths, captions, labels), and what readers share.

Nothing is opened here. Left out on purpose: archives, remote stores.
"""
import logging
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from ..captions import clean

log = logging.getLogger(__name__)


class Listing(NamedTuple):
    """A data set before any image is opened: class names, and of each image its place, captions and label."""
    classes: tuple[str, ...]
    pictures: Sequence                          # Paths, or arrays [H W 3] uint8
    captions: Sequence[tuple[str, ...]]
    labels: Sequence[int]                       # index into classes, -1 = none
    left_out: tuple[str, ...] = ()              # pictures of kinds that are not read here
    unread: tuple[str, ...] = ()                # files that may hold captions and were not read


def named(classes: Sequence[str], pictures: Sequence, labels: Sequence[int],
          say: Callable = lambda name: (name,)) -> Listing:
    """The listing whose captions follow from the class alone. say: class name -> captions."""
    classes = tuple(map(clean, classes))
    captions = [say(name) for name in classes]
    return Listing(classes, pictures, [captions[label] for label in labels], labels)


def choose(split: str, known: dict):
    """The entry of a split, or a ValueError that lists the splits there are."""
    if split not in known:
        raise ValueError(f"split={split!r}: choose one of {sorted(known)}")
    return known[split]


def first_few(reasons: Sequence[str], most: int = 5) -> str:
    """Some of many reasons, in one line."""
    more = f"; and {len(reasons) - most} more" if len(reasons) > most else ""
    return "; ".join(reasons[:most]) + more


def counted(n: int, what: str) -> str:
    """A number of things: "1 picture", "2,000 pictures"."""
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def home_of(root: Path, name: str) -> Path:
    """The folder that the archive unpacks to; naming that folder itself as the root works too."""
    return root if root.name == name else root / name


def unlike_published(home: Path, published: dict, fetch: Callable | None, *, name: str) -> dict[str, str]:
    """Published files (file -> md5) that are not as published: file -> "is missing" or "differs".

    fetch: downloads them, if it is given and any are odd.  name: of the data set."""
    from torchvision.datasets.utils import check_integrity

    def state(file, md5):
        if not (home / file).exists():
            return "is missing"
        return "" if md5 is None or check_integrity(home / file, md5) else "differs"

    def odd():
        states = {file: state(file, md5) for file, md5 in published.items()}
        return {file: how for file, how in states.items() if how}
    if fetch and odd():
        try:
            fetch()
        except (OSError, RuntimeError) as error:
            raise OSError(f"{home.name} could not be downloaded into {home.parent}: {error}") from error
    if not home.is_dir():
        root = shlex.quote(str(home.parent))
        raise FileNotFoundError(f"no folder {home.name} in {home.parent}: put it there, or fetch it: "
                                f"t2ilab data inspect {name} {root} --download, or download=True")
    return odd()


def warn_unlike(home: Path, odd: dict[str, str]) -> None:
    """One warning that names what is not as published."""
    if odd:
        differences = ", ".join(f"{name} {how}" for name, how in odd.items())
        log.warning("%s is not the published copy: %s", home, differences)
