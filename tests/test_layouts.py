"""CIFAR-10, Flowers102 and folders of one's own are read in their published layouts, also where a copy is not the published one."""
import json
import logging
import os
import pickle
from collections import Counter

import numpy as np
import pytest
import tiny_data
import torch
from tiny_data import REAL, own_cache, picture, real  # noqa: F401

from t2ilab.data.datasets import open_data
from t2ilab.data.sets.flowers102 import flowers102
from t2ilab.tensors import generator


def open_folder(root, **options):
    return open_data("folder", root, size=8, **options)


def captions(dataset, tries=1):
    return [{dataset.example(i, generator(t)).caption for t in range(tries)} for i in range(len(dataset))]


# CIFAR-10

def as_if_published(monkeypatch, root):
    """Let torchvision expect the md5 sums of the tiny copy."""
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import calculate_md5
    def md5(name):
        return calculate_md5(root / "cifar-10-batches-py" / name)
    for attribute in ("train_list", "test_list"):
        monkeypatch.setattr(CIFAR10, attribute, [[name, md5(name)] for name, _ in getattr(CIFAR10, attribute)])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": md5("batches.meta")})


@pytest.mark.parametrize("published", [True, False])
@pytest.mark.parametrize("split, part", [("train", slice(0, 100)), ("test", slice(100, 120)), ("all", slice(0, 120))])
def test_cifar10_gives_every_pixel_label_and_class_name(published, split, part, tmp_path, monkeypatch, caplog):
    pixels, labels = tiny_data.cifar10(tmp_path)
    if published:
        as_if_published(monkeypatch, tmp_path)
    dataset = open_data("cifar10", tmp_path, size=32, split=split)
    examples = [dataset.example(i, generator(i)) for i in range(len(dataset))]
    assert np.array_equal(torch.stack([e.image for e in examples]).numpy(), pixels[part])
    assert [e.label for e in examples] == labels[part]
    assert [e.caption for e in examples] == [tiny_data.CIFAR_CLASSES[k] for k in labels[part]] and dataset.classes == tuple(tiny_data.CIFAR_CLASSES)
    assert ("not the published copy" in caplog.text) is not published


def test_a_partial_copy_of_cifar10_is_read_with_one_warning_that_names_what_differs(tmp_path, monkeypatch, caplog):
    tiny_data.cifar10(tmp_path)
    as_if_published(monkeypatch, tmp_path)
    home = tmp_path / "cifar-10-batches-py"
    (home / "data_batch_2").unlink()
    (home / "data_batch_3").write_bytes((home / "data_batch_4").read_bytes())
    assert len(open_data("cifar10", tmp_path, size=32)) == 80
    assert [r.getMessage().split(": ")[1] for r in caplog.records] == ["data_batch_2 is missing, data_batch_3 differs"]


class Evil:
    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_changed_pickle_is_never_run(tmp_path):
    tiny_data.cifar10(tmp_path)
    evil = Evil()
    evil.path = tmp_path / "it ran"
    (tmp_path / "cifar-10-batches-py" / "data_batch_1").write_bytes(pickle.dumps({"data": evil, "labels": []}))
    with pytest.raises(ValueError, match="it asks to run .*mkdir"):
        open_data("cifar10", tmp_path, size=32)
    assert not evil.path.exists()


@pytest.mark.parametrize("content", [b"", b"junk", pickle.dumps([1, 2]), pickle.dumps({"data": [], "labels": []})])
def test_a_damaged_batch_is_an_error_of_one_line(content, tmp_path):
    tiny_data.cifar10(tmp_path)
    (tmp_path / "cifar-10-batches-py" / "data_batch_1").write_bytes(content)
    with tiny_data.one_line(ValueError, "layout"):
        open_data("cifar10", tmp_path, size=32)


@pytest.mark.parametrize("name, home", [("cifar10", "cifar-10-batches-py"), ("flowers102", "flowers-102")])
def test_data_that_is_not_there_says_where_it_belongs_and_what_fetches_it(name, home, tmp_path, monkeypatch):
    import torchvision.datasets as published
    for kind in (published.CIFAR10, published.Flowers102):
        monkeypatch.setattr(kind, "download", lambda self: pytest.fail("it downloaded without being asked"))
    with tiny_data.one_line(FileNotFoundError, f"{home} in .*fetch it: t2ilab data inspect {name} .* --download") as error:
        open_data(name, tmp_path, size=32)
    assert str(tmp_path) in str(error.value)


@pytest.mark.parametrize("name", ["cifar10", "flowers102"])
def test_a_download_without_a_network_is_an_error_of_one_line(name, tmp_path, monkeypatch):
    import torchvision.datasets as published
    def offline(self):
        raise OSError("no route to host")
    for kind in (published.CIFAR10, published.Flowers102):
        monkeypatch.setattr(kind, "download", offline)
    with pytest.raises(OSError, match="could not be downloaded into .*no route to host"):
        open_data(name, tmp_path, size=32, download=True)


def test_download_fetches_what_is_missing_and_nothing_more(tmp_path, monkeypatch):
    from torchvision.datasets import CIFAR10
    tiny_data.cifar10(tmp_path / "elsewhere")
    as_if_published(monkeypatch, tmp_path / "elsewhere")
    calls = []
    def download(self):
        calls.append(1)
        (tmp_path / "elsewhere" / "cifar-10-batches-py").rename(tmp_path / "cifar-10-batches-py")
    monkeypatch.setattr(CIFAR10, "download", download)
    assert [len(open_data("cifar10", tmp_path, size=32, download=True)) for _ in range(2)] == [100, 100] and len(calls) == 1


# Flowers102

@pytest.mark.slow
@pytest.mark.parametrize("split, numbers", [("train", range(1, 5)), ("val", range(5, 9)), ("test", range(9, 13)), ("all", range(1, 13))])
def test_flower_number_k_of_the_mat_file_has_label_k_minus_1_and_name_k(split, numbers, tmp_path):
    tiny_data.flowers102(tmp_path, names=True)
    dataset = open_data("flowers102", tmp_path, size=8, split=split)
    assert [dataset.listing.pictures[i].name for i in range(len(dataset))] == [f"image_{k:05d}.jpg" for k in numbers]
    assert [dataset.example(i, generator(0)).label for i in range(len(dataset))] == [k - 1 for k in numbers]
    assert captions(dataset, tries=40) == [{f"flower {k}", f"a flower {k}", f"a photo of a flower {k}"} for k in numbers]


def test_flower_names_are_known_without_the_names_file(tmp_path):
    tiny_data.flowers102(tmp_path)
    classes = open_data("flowers102", tmp_path / "flowers-102", size=8).classes         # the inner folder works as a root too
    assert len(classes) == 102 and [classes[k] for k in (0, 5, 50, 101)] == ["pink primrose", "tiger lily", "petunia", "blackberry lily"]


@pytest.mark.parametrize("place", ["", "flowers-102"])
def test_flowers_described_by_people_have_those_captions(place, tmp_path):
    tiny_data.flowers102(tmp_path, names=True)
    path = tmp_path / place / "text_c10" / "class_00002" / "image_00002.txt"
    path.parent.mkdir(parents=True)
    path.write_text("the petals  are pink \n\na rose\n")
    assert captions(open_data("flowers102", tmp_path, size=8), tries=40)[:2] == [{"flower 1", "a flower 1", "a photo of a flower 1"}, {"the petals are pink", "a rose"}]


def test_an_incomplete_copy_of_flowers102_says_what_is_missing(tmp_path):
    tiny_data.flowers102(tmp_path)
    (tmp_path / "flowers-102" / "setid.mat").unlink()
    with pytest.raises(FileNotFoundError, match="missing: setid.mat"):
        open_data("flowers102", tmp_path, size=8)
    (tmp_path / "flowers-102" / "setid.mat").write_text("not matlab")
    with pytest.raises(ValueError, match="layout"):
        open_data("flowers102", tmp_path, size=8)
    tiny_data.flowers102(tmp_path)
    (tmp_path / "cat_to_name.json").write_text('{"0": "counted from 0"}')
    with pytest.raises(ValueError, match="does not map"):
        open_data("flowers102", tmp_path, size=8)


# Folders and captions

def test_sub_folders_are_classes_in_alphabetical_order(tmp_path):
    for name in ("dogs/b.png", "cats/deep/a.jpg", "dogs/a.webp", "top.bmp", "cats/._a.jpg", ".hidden/a.jpg", "cats/notes.md"):
        picture(tmp_path / name) if not name.endswith(("md", "._a.jpg")) else (tmp_path / name).write_text("not a picture")
    dataset = open_folder(tmp_path)
    assert dataset.classes == ("cats", "dogs")
    assert [(p.name, label) for p, label in zip(dataset.listing.pictures, dataset.listing.labels)] == [("a.jpg", 0), ("a.webp", 1), ("b.png", 1), ("top.bmp", -1)]
    assert captions(dataset) == [{"cats"}, {"dogs"}, {"dogs"}, {""}] and len(dataset.bad) == 0


def test_a_single_sub_folder_is_no_class(tmp_path):
    picture(tmp_path / "jpg" / "a.jpg")
    assert open_folder(tmp_path).classes == () and open_folder(tmp_path).example(0, generator(0))[1:] == ("", -1)


def test_train_val_and_test_folders_are_splits_with_the_same_classes(tmp_path):
    for name in ("train/cat/1.png", "train/dog/2.png", "validation/cat/3.png", "validation/dog/4.png"):
        picture(tmp_path / name)
    assert [len(open_folder(tmp_path, split=s)) for s in ("train", "val", "all")] == [2, 2, 4]
    assert open_folder(tmp_path, split="all").classes == ("cat", "dog") and open_folder(tmp_path, split="all").listing.labels == [0, 1, 0, 1]
    with pytest.raises(ValueError, match="choose one of .'all', 'train', 'val'."):
        open_folder(tmp_path, split="test")


def test_a_text_file_beside_a_picture_holds_one_caption_a_line(tmp_path):
    picture(tmp_path / "a.jpg")
    (tmp_path / "a.txt").write_bytes("\ufeffa  red\tbird \r\n\r\n ein Vögelchen\n".encode() + b"caf\xe9\n")
    picture(tmp_path / "b.jpg")
    assert captions(open_folder(tmp_path), tries=30) == [{"a red bird", "ein Vögelchen", "caf\u00e9"}, {""}]


@pytest.mark.parametrize("name, text", [
    ("metadata.jsonl", '{"file_name": "a.jpg", "text": "one"}\n\n{"file_name": "in/b.jpg", "caption": ["two", "three"], "extra": 1}\n'),
    ("metadata.csv", 'file_name,caption\na.jpg,one\nin/b.jpg,"two, with\na line break"\n')])
def test_metadata_files_give_captions_before_text_files_do(name, text, tmp_path):
    for file in ("a.jpg", "in/b.jpg", "c.jpg"):
        picture(tmp_path / file).with_suffix(".txt").write_text("beside")
    (tmp_path / name).write_text(text)
    assert captions(open_folder(tmp_path), tries=20) == [
        {"one"}, {"beside"}, {"two", "three"} if "json" in name else {"two, with a line break"}]


@pytest.mark.parametrize("name, text, said", [("metadata.jsonl", "{oops", "row 1: not JSON"), ("metadata.csv", "file,text\na.jpg,x\n", "row 1: no file_name"),
                                              ("metadata.jsonl", "[1]", "row 1: no file_name")])
def test_a_metadata_file_that_says_nothing_is_an_error_with_its_row(name, text, said, tmp_path):
    picture(tmp_path / "a.jpg")
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=f"{name}, {said}"):
        open_folder(tmp_path)


# The real thing

@real("cifar10_subset")
def test_the_real_cifar10_sample_opens(caplog):
    dataset = open_data("cifar10", REAL / "cifar10_subset", size=32, split="all")
    assert len(dataset) == 6000 and min(Counter(dataset.listing.labels).values()) > 500 and dataset.example(0, generator(0)).caption == "frog"
    assert len(caplog.records) == 1 and caplog.records[0].levelno == logging.WARNING


@real("flowers102_72px")
def test_every_label_of_the_real_flowers102_agrees_with_its_name(caplog):
    listing = flowers102(REAL / "flowers102_72px", "all", download=False)
    counts = Counter(listing.labels)
    assert len(listing.pictures) == 8189 and (min(counts.values()), max(counts.values())) == (40, 258) and caplog.records == []
    names = json.loads((REAL / "flowers102_72px" / "cat_to_name.json").read_text())
    assert all(captions[0] == names[str(label + 1)] and len(captions) > 1 for captions, label in zip(listing.captions, listing.labels))
    known = {path.name: captions[0] for path, captions in zip(listing.pictures, listing.captions)}
    assert known["image_06734.jpg"] == "pink primrose"
    assert [len(flowers102(REAL / "flowers102_72px", split, False).labels) for split in ("train", "val", "test")] == [1020, 1020, 6149]
