"""CUB-200 and ImageNet in the layouts that text-to-image models are trained on; a hostile list of birds runs nothing."""
import json
import pickle
from pathlib import Path

import pytest
from tiny_data import REAL, own_cache, picture, real  # noqa: F401

from t2ilab.data.datasets import open_data
from t2ilab.tensors import generator

BIRDS = {"001.Black_footed_Albatross": "Black_Footed_Albatross_0001_796111", "002.Laysan_Albatross": "Laysan_Albatross_0002_1027"}


def birds(root, *, nested=False, how="pickle", names=None):
    """A tiny CUB-200: two kinds, one picture each, two captions."""
    images, text = (root / "CUB_200_2011" / "images", root / "text") if nested else (root / "images", root / "text" / "text")
    for kind, name in BIRDS.items():
        (images / kind).mkdir(parents=True)
        (text / kind).mkdir(parents=True)
        picture(images / kind / f"{name}.jpg")
        (text / kind / f"{name}.txt").write_bytes(b"A large\xef\xbf\xbd\xef\xbf\xbdbird.\n\nit has  a beak\n")
    (root / "train").mkdir()
    names = [f"{kind}/{name}" for kind, name in BIRDS.items()] if names is None else names
    write = {"pickle": lambda: pickle.dumps(names, protocol=2), "json": lambda: json.dumps(names).encode(), "txt": lambda: "\n".join(names).encode()}
    (root / "train" / f"filenames.{how}").write_bytes(write[how]())
    return root


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("how", ["pickle", "json", "txt"])
def test_birds_are_read_with_their_captions_and_kinds(tmp_path, nested, how):
    dataset = open_data("cub", birds(tmp_path, nested=nested, how=how), size=8)
    assert dataset.classes == ("Black footed Albatross", "Laysan Albatross") and [dataset.example(k, generator(k)).label for k in range(2)] == [0, 1]
    assert {dataset.example(0, generator(seed)).caption for seed in range(20)} == {"a large bird.", "it has a beak"}
    with pytest.raises(FileNotFoundError, match=r"test: needs one of filenames\.txt"):
        open_data("cub", tmp_path, size=8, split="test")


def test_a_folder_of_birds_may_lie_inside_and_a_bird_without_captions_has_its_kind(tmp_path):
    root = birds(tmp_path / "birds").parent
    for path in root.rglob("*.txt"):
        path.unlink()
    assert open_data("cub", root, size=8).example(1, generator(0)).caption == "Laysan Albatross"


class Runs:
    """What a hostile pickle does: call something when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_hostile_list_of_birds_runs_nothing(tmp_path):
    birds(tmp_path, names=[Runs(tmp_path / "I was here")])
    with pytest.raises(ValueError, match="filenames.pickle: no list of pictures .*asks to run"):
        open_data("cub", tmp_path, size=8)
    assert not (tmp_path / "I was here").exists()


@pytest.mark.parametrize("names", [["../../../etc/passwd"], ["/etc/passwd"], ["001.a/b/c"], ["../x"], [3]])
def test_a_list_that_leads_elsewhere_is_refused(tmp_path, names):
    with pytest.raises(ValueError, match="these are no pictures of CUB-200"):
        open_data("cub", birds(tmp_path, names=names), size=8)


@pytest.mark.parametrize("content", [b"", b"garbage", pickle.dumps({"a": 1}), pickle.dumps(3)])
def test_a_list_that_is_none_is_one_line(tmp_path, content):
    birds(tmp_path)
    (tmp_path / "train" / "filenames.pickle").write_bytes(content)
    with pytest.raises(ValueError, match="filenames.pickle|no pictures of CUB-200"):
        open_data("cub", tmp_path, size=8)


@real("cub_birds")
@pytest.mark.parametrize("split, n", [("train", 60), ("test", 60), ("all", 120)])
def test_real_birds(split, n):
    dataset = open_data("cub", REAL / "cub_birds", size=16, split=split)
    assert len(dataset) == n and len(dataset.classes) == 10 and not dataset.bad
    assert all(len(captions) == 10 and "\N{REPLACEMENT CHARACTER}" not in " ".join(captions) for captions in dataset.listing.captions)
    assert {dataset.example(k, generator(k)).image.shape for k in range(0, n, 7)} == {(3, 16, 16)}


def classes(root, index=True):
    """A tiny ImageNet: two of three known classes."""
    for part in ("train", "val"):
        for name in ("n01440764", "n01443537"):
            (root / part / name).mkdir(parents=True)
            picture(root / part / name / f"{name}_1.JPEG")
    if index:
        (root / "imagenet_class_index.json").write_text(json.dumps({"0": ["n01440764", "tench"], "1": ["n01443537", "goldfish"], "2": ["n01484850", "great_white_shark"]}))
    return root


def test_classes_are_numbered_in_the_order_of_their_ids(tmp_path):
    dataset = open_data("imagenet", classes(tmp_path), size=8)
    assert dataset.classes == ("tench", "goldfish", "great white shark") and list(dataset.listing.labels) == [0, 1]
    assert dataset.example(1, generator(0)).caption == "goldfish" and len(open_data("imagenet", tmp_path, size=8, split="all")) == 4
    assert open_data("imagenet", classes(tmp_path / "bare", index=False), size=8).classes == ("n01440764", "n01443537")


def test_a_list_chooses_the_pictures_of_a_split(tmp_path):
    classes(tmp_path)
    (tmp_path / "ILSVRC2012_name_train.txt").write_text("n01443537/n01443537_1.JPEG\n")
    assert list(open_data("imagenet", tmp_path, size=8).listing.labels) == [1]
    (tmp_path / "ILSVRC2012_name_train.txt").write_text("../../secret.JPEG\n")
    with pytest.raises(ValueError, match="no pictures of ImageNet"):
        open_data("imagenet", tmp_path, size=8)


@pytest.mark.parametrize("content", ["[]", "{", '{"0": 3}'])
def test_a_broken_index_is_one_line(tmp_path, content):
    (classes(tmp_path) / "imagenet_class_index.json").write_text(content)
    with pytest.raises(ValueError, match="imagenet_class_index.json"):
        open_data("imagenet", tmp_path, size=8)


def test_other_folders_are_no_imagenet(tmp_path):
    (tmp_path / "train" / "cats").mkdir(parents=True)
    picture(tmp_path / "train" / "cats" / "a.jpg")
    with pytest.raises(ValueError, match="named like n01440764, not cats"):
        open_data("imagenet", tmp_path, size=8)
    with pytest.raises(FileNotFoundError, match="no pictures such as val/n01440764"):
        open_data("imagenet", tmp_path, size=8, split="val")


@pytest.mark.parametrize("name", ["cub", "imagenet"])
def test_nothing_is_fetched_behind_your_back(tmp_path, name):
    with pytest.raises(ValueError, match="fetch"):
        open_data(name, tmp_path, size=8, download=True)


@real("imagenet_sample")
def test_real_photographs_of_classes():
    dataset = open_data("imagenet", REAL / "imagenet_sample", size=16)
    assert len(dataset) == len(dataset.classes) == 78 and dataset.classes[0] == "tench" and not dataset.bad
