"""What a data set is before any picture is opened, and the two layouts that torchvision knows; folders.py reads the others.

torchvision reads CIFAR-10 and Flowers102, and checks and downloads them. Copies that differ from the published ones are read too, with a
warning that names what differs, and without ever running what a changed pickle may contain. Left out on purpose: archives, remote stores.
"""
import json
import logging
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .captions import flower_captions

log = logging.getLogger(__name__)


class Listing(NamedTuple):
    """A data set before any picture is opened: classes, and for each picture where it is, what it may be called, and its label."""
    classes: tuple[str, ...]
    pictures: Sequence                          # Paths, or arrays [H W 3] uint8
    captions: Sequence[tuple[str, ...]]
    labels: Sequence[int]                       # index into classes, -1 = none


def named(classes: Sequence[str], pictures: Sequence, labels: Sequence[int], say: Callable = lambda name: (name,)) -> Listing:
    """The listing whose captions follow from the class alone. say: class name -> captions."""
    captions = [say(name) for name in classes]
    return Listing(tuple(classes), pictures, [captions[label] for label in labels], labels)


def cifar10(root: Path, split: str, download: bool) -> Listing:
    """CIFAR-10: root/cifar-10-batches-py with its pickled batches. split: train, test or all. Errors: see open_data."""
    from torchvision.datasets import CIFAR10
    parts = choose(split, {"train": [True], "test": [False], "all": [True, False]})
    home = home_of(root, CIFAR10.base_folder)
    published = dict([*CIFAR10.train_list, *CIFAR10.test_list, (CIFAR10.meta["filename"], CIFAR10.meta["md5"])])
    odd = _compare(home, published, download and (lambda: CIFAR10(home.parent, download=True)))
    if odd:
        names = [name for train in parts for name, _ in (CIFAR10.train_list if train else CIFAR10.test_list)]
        return _altered_cifar10(home, names, CIFAR10.meta, odd)
    sets = [CIFAR10(home.parent, train=train) for train in parts]
    return named(sets[0].classes, np.concatenate([s.data for s in sets]), sum((s.targets for s in sets), []))


def _altered_cifar10(home, names, meta, odd):
    """Whatever batches are there, read without trusting them."""
    present = [name for name in names if (home / name).is_file()]
    if not present or not (home / meta["filename"]).is_file():
        raise FileNotFoundError(f"{home}: needs {meta['filename']} and at least one of {', '.join(names)}")
    try:
        batches = [_arrays_only(home / name) for name in present]
        data = np.concatenate([batch["data"] for batch in batches]).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        labels = [int(label) for batch in batches for label in batch["labels"]]
        listing = named(_arrays_only(home / meta["filename"])[meta["key"]], data, labels)
    except Exception as error:                  # damaged pickles raise nearly every type there is
        raise ValueError(f"{home}: not in CIFAR-10's layout: {error}") from error
    _warn(home, odd)
    return listing


class _ArraysOnly(pickle.Unpickler):
    """Builds arrays, lists and strings, and refuses to call anything else: a pickle from a stranger is a program."""
    allowed = {("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode"),
               ("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct")}

    def find_class(self, module, name):
        if (module, name) not in self.allowed:
            raise pickle.UnpicklingError(f"it asks to run {module}.{name}")
        return super().find_class(module, name)


class _TextOnly(_ArraysOnly):
    """Builds lists and strings, and calls nothing at all."""
    allowed = frozenset()


def text_only(path: Path):
    """What a pickle of lists and strings holds.  pickle.UnpicklingError if it asks for anything more."""
    with open(path, "rb") as file:
        return _TextOnly(file, encoding="latin1").load()


def _arrays_only(path):
    with open(path, "rb") as file:
        return _ArraysOnly(file, encoding="latin1").load()


def flowers102(root: Path, split: str, download: bool) -> Listing:
    """Oxford Flowers102: root/flowers-102/{jpg, imagelabels.mat, setid.mat}. split: train, val, test or all. Errors: see open_data.

    Captions: captions.flower_captions. The .mat file and cat_to_name.json count classes from 1, our labels (and torchvision's) from 0: name "1" belongs to label 0."""
    from torchvision.datasets import Flowers102
    parts = choose(split, {"train": ["train"], "val": ["val"], "test": ["test"], "all": ["train", "val", "test"]})
    home = home_of(root, "flowers-102")
    published = {**dict(Flowers102._file_dict[key] for key in ("label", "setid")), "jpg": None}
    odd = _compare(home, published, download and (lambda: Flowers102(home.parent, download=True)))
    if "is missing" in odd.values():
        raise FileNotFoundError(f"{home}: needs {', '.join(published)}; missing: {', '.join(n for n, how in odd.items() if how == 'is missing')}")
    try:
        sets = [_flowers(odd)(home.parent, split=part, loader=lambda path: path) for part in parts]    # the paths: decode.py opens pictures
    except Exception as error:                  # damaged .mat files raise nearly every type there is
        raise ValueError(f"{home}: .mat files not in Flowers102's layout: {error}") from error
    _warn(home, odd)
    paths, labels = zip(*(s[i] for s in sets for i in range(len(s))))
    return named(_flower_names(home, Flowers102.classes), paths, labels, flower_captions)


def _flowers(odd):
    """torchvision's class; for an altered copy, one that does not compare md5 sums."""
    from torchvision.datasets import Flowers102
    unchecked = {key: (name, None) for key, (name, _) in Flowers102._file_dict.items()}
    return type("AlteredFlowers102", (Flowers102,), {"_file_dict": unchecked}) if odd else Flowers102


def _flower_names(home, published):
    """102 names in the order of the labels 0..101, from cat_to_name.json where there is one ("1" to "102")."""
    for path in (home.parent / "cat_to_name.json", home / "cat_to_name.json"):
        if path.is_file():
            try:
                names = json.loads(path.read_text("utf-8"))
                return [names[str(label + 1)] for label in range(102)]
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{path}: does not map \"1\" ... \"102\" to names: {error!r}") from error
    return [name.rstrip("?") for name in published]


def choose(split: str, known: dict):
    """The entry of a split, or a ValueError that lists the splits there are."""
    if split not in known:
        raise ValueError(f"split={split!r}: choose one of {sorted(known)}")
    return known[split]


def first_few(reasons: Sequence[str], most: int = 5) -> str:
    """Some of many reasons, in one line."""
    return "; ".join(reasons[:most]) + (f"; and {len(reasons) - most} more" if len(reasons) > most else "")


def home_of(root: Path, name: str) -> Path:
    """The folder that the archive unpacks to; naming that folder itself as the root works too."""
    return root if root.name == name else root / name


def _compare(home: Path, published: dict, fetch: Callable | None) -> dict[str, str]:
    """Which published files (name -> md5) are missing or differ: name -> "is missing" or "differs". Fetches them first if asked to."""
    from torchvision.datasets.utils import check_integrity
    def odd():
        there = {name: (home / name).exists() for name in published}
        return {name: "differs" if there[name] else "is missing" for name, md5 in published.items()
                if not (there[name] and (md5 is None or check_integrity(home / name, md5)))}
    if fetch and odd():
        try:
            fetch()
        except (OSError, RuntimeError) as error:
            raise OSError(f"{home.name} could not be downloaded into {home.parent}: {error}") from error
    if not home.is_dir():
        raise FileNotFoundError(f"no folder {home.name} in {home.parent}: put it there, or fetch it with download=True "
                                "(--download on the command line)")
    return odd()


def _warn(home, odd):
    if odd:
        log.warning("%s is not the published copy: %s", home, ", ".join(f"{name} {how}" for name, how in odd.items()))
