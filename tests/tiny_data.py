"""Tiny data sets in the published layouts, written by the tests themselves, and where the real samples lie if they are here at all."""
import json
import os
import pickle
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from t2ilab.data.datasets import open_data

REAL = Path(os.environ.get("T2ILAB_REALDATA") or Path(__file__).resolve().parents[2] / "shared" / "realdata")
CIFAR_CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """What a test learns about files stays with the test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def real(name):
    """A marker: the test needs this folder of the real samples."""
    return pytest.mark.skipif(not (REAL / name).is_dir(), reason=f"no real sample {name} in ../shared/realdata or $T2ILAB_REALDATA")


@contextmanager
def one_line(kind, match):
    """The block raises an error that says `match`, in a single line; its text is the attribute `value` of what is given, as in pytest.raises."""
    with pytest.raises(kind, match=match) as error:
        yield error
    assert "\n" not in str(error.value)


def picture(path, seed=0, size=(20, 15)):
    """A small file of random colours; the kind of file follows from its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def found(root, **options):
    """What is read of a folder of one's own: {path from the root: captions}."""
    listing = open_data("folder", root, size=8, **{"max_broken": 1.0} | options).listing
    return {path.relative_to(root).as_posix(): texts for path, texts in zip(listing.pictures, listing.captions)}


def pictures(root, *names):
    """The root of some small pictures."""
    for k, name in enumerate(names):
        picture(root / name, seed=k)
    return root


def cifar10(root, each=20):
    """CIFAR-10's pickled batches with `each` random pictures; returns data [6*each 3 32 32] and labels, training batches first."""
    home = root / "cifar-10-batches-py"
    home.mkdir(parents=True)
    draw = np.random.default_rng(0)
    data, labels = draw.integers(0, 256, (6, each, 3072), dtype=np.uint8), [list(range(10)) * (each // 10) for _ in range(6)]
    for name, d, classes in zip([*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"], data, labels):
        (home / name).write_bytes(pickle.dumps({"data": d, "labels": classes, "batch_label": name}, protocol=2))
    (home / "batches.meta").write_bytes(pickle.dumps({"label_names": CIFAR_CLASSES, "num_vis": 3072}, protocol=2))
    return data.reshape(-1, 3, 32, 32), sum(labels, [])


def flowers102(root, names=False):
    """Twelve flowers, numbered and labelled from 1 as published: image k has class k; train 1-4, val 5-8, test 9-12."""
    from scipy.io import savemat
    home = root / "flowers-102"
    for k in range(1, 13):
        picture(home / "jpg" / f"image_{k:05d}.jpg", seed=k)
    savemat(home / "imagelabels.mat", {"labels": np.arange(1, 13, dtype=np.uint8)[None]})
    savemat(home / "setid.mat", {"trnid": np.arange(1, 5)[None], "valid": np.arange(5, 9)[None], "tstid": np.arange(9, 13)[None]})
    if names:
        (root / "cat_to_name.json").write_text(json.dumps({str(k): f"flower {k}" for k in range(1, 103)}))


def sbu(root, entries=("0: a red boat", "1: Zo\u00eb's caf\u00e9", "10000: a dog")):
    """img2dataset's "files" output: entry "number: caption" lies in the shard of its ten thousand. Returns the folder of each shard."""
    for entry in entries:
        number, caption = entry.split(": ")
        path = root / f"{int(number) // 10_000:05d}" / f"{int(number):09d}.jpg"
        picture(path, seed=int(number)).with_suffix(".txt").write_text(caption, "utf-8")
        row = {"key": path.stem, "caption": caption, "url": "http://example.org", "status": "success", "error_message": None}
        path.with_suffix(".json").write_text(json.dumps(row, indent=4), "utf-8")
    for shard in (shards := sorted(path for path in root.iterdir() if path.is_dir())):
        (root / f"{shard.name}_stats.json").write_text('{"count": 3, "successes": 3}')
    return shards


def coco(root, year=2017, into="{}", **splits):
    """The captions of an edition of COCO and its pictures in the folder `into`; each split is {image id: captions}."""
    splits = splits or {"train": {9: ["a red boat", "a boat on a lake"], 4: ["a dog"]}, "val": {7: ["two cats"]}}
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    prefix = "COCO_{}_" if year == 2014 else ""
    for part, said in splits.items():
        name = f"{part}{year}"
        images = [{"license": 3, "file_name": prefix.format(name) + f"{k:012d}.jpg", "height": 15, "width": 20, "id": k} for k in said]
        for image in images:
            picture(root / into.format(name) / image["file_name"], seed=image["id"])
        annotations = [{"image_id": k, "id": 10 * k + n, "caption": text} for n in range(5) for k, texts in said.items() for text in texts[n:n + 1]]
        tables = {"info": {"year": year}, "licenses": [], "images": images, "annotations": annotations}
        (root / "annotations" / f"captions_{name}.json").write_text(json.dumps(tables), "utf-8")


DOGS = ("n02085620-Chihuahua", "n02089078-black-and-tan_coonhound", "n02099267-flat-coated_retriever")


def dogs(root, lists=True):
    """Two pictures of three breeds; the first of each is listed for training, the second for testing."""
    from scipy.io import savemat
    names = [[f"{breed}/{breed.split('-')[0]}_{k}.jpg" for breed in DOGS] for k in (10, 2)]
    for k, name in enumerate(sum(names, [])):
        picture(root / "Images" / name, seed=k)
    (root / "lists").mkdir()
    for part, listed in zip(("train", "test"), names if lists else ()):
        cells = np.empty((len(listed), 1), dtype=object)
        cells[:, 0] = listed
        savemat(root / "lists" / f"{part}_list.mat", {"file_list": cells, "labels": np.arange(1, 4)[:, None]})
