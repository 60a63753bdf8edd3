"""CIFAR-10 in its published layout. Copies that differ are read too, with a warning of what differs."""
from pathlib import Path

import numpy as np

from .listing import Listing, choose, home_of, named, unlike_published, warn_unlike
from .safe_pickle import arrays_only


def cifar10(root: Path, split: str, download: bool) -> Listing:
    """CIFAR-10: root/cifar-10-batches-py with its pickled batches. split: train, test or all.

    Errors: see open_data."""
    from torchvision.datasets import CIFAR10
    parts = choose(split, {"train": [True], "test": [False], "all": [True, False]})
    home = home_of(root, CIFAR10.base_folder)
    meta = CIFAR10.meta
    published = dict([*CIFAR10.train_list, *CIFAR10.test_list, (meta["filename"], meta["md5"])])
    fetch = download and (lambda: CIFAR10(home.parent, download=True))
    odd = unlike_published(home, published, fetch, name="cifar10")
    if odd:
        lists = [CIFAR10.train_list if train else CIFAR10.test_list for train in parts]
        return _altered_cifar10(home, [name for files in lists for name, _ in files], meta, odd)
    sets = [CIFAR10(home.parent, train=train) for train in parts]
    pixels = np.concatenate([s.data for s in sets])                             # [N 32 32 3]
    return named(sets[0].classes, pixels, sum((s.targets for s in sets), []))


def _altered_cifar10(home, names, meta, odd):
    """Whatever batches are there, read without trusting them."""
    present = [name for name in names if (home / name).is_file()]
    if not present or not (home / meta["filename"]).is_file():
        raise FileNotFoundError(f"{home}: needs {meta['filename']} and at least one of {', '.join(names)}")
    try:
        batches = [arrays_only(home / name) for name in present]
        data = np.concatenate([batch["data"] for batch in batches])             # [N 3072]
        pixels = data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)              # [N 32 32 3]
        labels = [int(label) for batch in batches for label in batch["labels"]]
        classes = arrays_only(home / meta["filename"])[meta["key"]]
        listing = named(classes, pixels, labels)
    except Exception as error:                  # damaged pickles raise nearly every type there is
        raise ValueError(f"{home}: not in CIFAR-10's layout: {error}") from error
    warn_unlike(home, odd)
    return listing
