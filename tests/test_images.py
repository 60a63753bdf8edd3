"""Data sets on disk: published layouts, folders of one's own, captions, broken files, and copies that are not the published ones."""
import json
import logging
import os
import pickle
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import tiny_data
import torch
from tiny_data import REAL, picture, real

from t2ilab.data import images
from t2ilab.data.images import open_data
from t2ilab.data.layouts import flowers102
from t2ilab.data.loaders import stream
from t2ilab.tensors import generator


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


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
    with pytest.raises(ValueError, match="layout") as error:
        open_data("cifar10", tmp_path, size=32)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name, home", [("cifar10", "cifar-10-batches-py"), ("flowers102", "flowers-102")])
def test_data_that_is_not_there_says_where_it_belongs_and_what_fetches_it(name, home, tmp_path, monkeypatch):
    import torchvision.datasets as published
    for kind in (published.CIFAR10, published.Flowers102):
        monkeypatch.setattr(kind, "download", lambda self: pytest.fail("it downloaded without being asked"))
    with pytest.raises(FileNotFoundError, match=f"{home} in .*--download") as error:
        open_data(name, tmp_path, size=32)
    assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)


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

@pytest.mark.parametrize("split, numbers", [("train", range(1, 5)), ("val", range(5, 9)), ("test", range(9, 13)), ("all", range(1, 13))])
def test_flower_number_k_of_the_mat_file_has_label_k_minus_1_and_name_k(split, numbers, tmp_path):
    tiny_data.flowers102(tmp_path, names=True)
    dataset = open_data("flowers102", tmp_path, size=8, split=split)
    assert [dataset.listing.pictures[i].name for i in range(len(dataset))] == [f"image_{k:05d}.jpg" for k in numbers]
    assert [dataset.example(i, generator(0)).label for i in range(len(dataset))] == [k - 1 for k in numbers]
    assert captions(dataset) == [{f"flower {k}"} for k in numbers]


def test_flower_names_are_known_without_the_names_file(tmp_path):
    tiny_data.flowers102(tmp_path)
    classes = open_data("flowers102", tmp_path / "flowers-102", size=8).classes         # the inner folder works as a root too
    assert len(classes) == 102 and [classes[k] for k in (0, 5, 50, 101)] == ["pink primrose", "tiger lily", "petunia", "blackberry lily"]


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
    assert captions(open_folder(tmp_path), tries=30) == [{"a red bird", "ein Vögelchen", "caf\ufffd"}, {""}]


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


# Broken files

def broken_among(root, broken, total):
    for k in range(total):
        picture(root / f"{k:03d}.jpg", size=(4, 4))
    for k in range(broken):
        (root / f"{k:03d}.jpg").write_text("text")


def test_one_broken_file_in_a_hundred_is_skipped_counted_and_named(tmp_path, caplog):
    broken_among(tmp_path, 1, 100)
    dataset = open_folder(tmp_path)
    assert len(dataset) == 99 and dataset.bad == (("000.jpg", "not a picture in any format read here"),)
    assert [r.getMessage().split(": ", 1)[1] for r in caplog.records] == ["skipped 1 broken of 100 pictures: 000.jpg: not a picture in any format read here"]
    assert {b for batch in islice(stream(dataset, batch_size=33, workers=2), 3) for b in batch.captions} == {""}


def test_more_than_one_in_a_hundred_is_an_error_of_one_line(tmp_path):
    broken_among(tmp_path, 2, 100)
    with pytest.raises(ValueError, match="2 of 100 pictures are broken, more than 1%: 000.jpg: .*; 001.jpg: ") as error:
        open_folder(tmp_path)
    assert "\n" not in str(error.value)
    assert len(open_folder(tmp_path, max_broken=0.02)) == 98


def test_a_folder_of_broken_files_only_is_an_error_even_where_broken_files_are_allowed(tmp_path):
    broken_among(tmp_path, 7, 7)
    with pytest.raises(ValueError, match="7 of 7 .*and 2 more"):
        open_folder(tmp_path, max_broken=1.0)


def test_a_file_that_metadata_names_but_nobody_has_counts_as_broken(tmp_path):
    picture(tmp_path / "a.jpg")
    (tmp_path / "metadata.csv").write_text("file_name,text\na.jpg,here\nb.jpg,gone\n")
    assert open_folder(tmp_path, max_broken=0.5).bad == (("b.jpg", "no such file"),)


def test_files_are_decoded_again_only_after_a_change_or_if_they_were_broken(tmp_path, monkeypatch):
    broken_among(tmp_path, 1, 5)
    looked, measure = [], images.measure
    monkeypatch.setattr(images, "measure", lambda path: (looked.append(path.name), measure(path))[1])
    sizes = open_folder(tmp_path, max_broken=0.5).sizes
    assert sorted(looked) == [f"00{k}.jpg" for k in range(5)] and sizes == [(4, 4)] * 4
    looked.clear()
    picture(tmp_path / "003.jpg", size=(9, 4))
    assert open_folder(tmp_path, max_broken=0.5).sizes == [(4, 4), (4, 4), (9, 4), (4, 4)] and sorted(looked) == ["000.jpg", "003.jpg"]


@pytest.mark.parametrize("spoil", [lambda cache: cache.write_text("{"), lambda cache: cache.unlink()])
def test_a_lost_or_damaged_memory_of_the_check_changes_nothing(spoil, tmp_path):
    broken_among(tmp_path, 0, 3)
    before = open_folder(tmp_path).sizes
    (memory,) = Path(os.environ["XDG_CACHE_HOME"]).rglob("*.json")
    spoil(memory)
    assert open_folder(tmp_path).sizes == before


def test_a_file_that_breaks_after_the_check_stops_the_run_by_name(tmp_path):
    dataset = open_folder(picture(tmp_path / "a.jpg").parent)
    (tmp_path / "a.jpg").write_text("text")
    with pytest.raises(ValueError, match="a.jpg: not a picture"):
        next(stream(dataset, batch_size=1))


# open_data

@pytest.mark.parametrize("name, options, error, said", [
    ("mnist", {}, ValueError, "choose one of shapes, cifar10, flowers102, folder"), ("folder", {"root": "nowhere"}, FileNotFoundError, "nowhere: no such folder"),
    ("folder", {}, ValueError, "which folder"), ("folder", {"root": ".", "download": True}, ValueError, "no address"),
    ("folder", {"root": "."}, ValueError, "no pictures"), ("shapes", {"root": "."}, ValueError, "drawn, not read"), ("shapes", {"flip": True}, ValueError, "drawn"),
    ("cifar10", {"split": "val"}, ValueError, "choose one of .'all', 'test', 'train'"), ("folder", {"root": ".", "crop": "left"}, ValueError, "crop='left'")])
def test_a_mistake_is_an_error_of_one_line(name, options, error, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=said) as raised:
        open_data(name, size=8, **options)
    assert "\n" not in str(raised.value)


def test_a_limit_takes_evenly_spaced_pictures(tmp_path):
    for k in range(9):
        picture(tmp_path / "abc"[k // 3] / f"{k}.png")
    dataset = open_folder(tmp_path, limit=3)
    assert [p.name for p in dataset.listing.pictures] == ["0.png", "3.png", "6.png"] and len(open_folder(tmp_path, limit=99)) == 9
    with pytest.raises(ValueError, match="limit=0"):
        open_folder(tmp_path, limit=0)


def test_the_root_may_come_from_the_environment(tmp_path, monkeypatch):
    tiny_data.flowers102(tmp_path)
    monkeypatch.setenv("T2ILAB_DATA", str(tmp_path))
    assert len(open_data("flowers102", size=8, split="all")) == 12


def test_the_scenes_open_by_name():
    dataset = open_data("shapes", size=16)
    assert dataset.example(0, generator(0)).image.shape == (3, 16, 16)


def test_a_stream_of_photographs_is_the_same_with_workers_and_after_a_resume(tmp_path):
    for k in range(7):
        picture(tmp_path / f"{k}.png", seed=k, size=(20 + k, 15)).with_suffix(".txt").write_text("one\ntwo\nthree")
    dataset = open_folder(tmp_path, crop="random", flip=True)
    whole = list(islice(stream(dataset, batch_size=4, seed=2), 8))
    for late, batch in zip(stream(dataset, batch_size=4, seed=2, start=5, workers=2), whole[5:]):
        assert torch.equal(late.images, batch.images) and late.captions == batch.captions
    assert len({batch.images.sum().item() for batch in whole}) == 8


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
    assert all(captions == (names[str(label + 1)],) for captions, label in zip(listing.captions, listing.labels))
    known = {path.name: captions[0] for path, captions in zip(listing.pictures, listing.captions)}
    assert known["image_06734.jpg"] == "pink primrose"
    assert [len(flowers102(REAL / "flowers102_72px", split, False).labels) for split in ("train", "val", "test")] == [1020, 1020, 6149]


@real("flowers102_original")
def test_the_real_flowers_stream_at_full_size():
    dataset = open_data("folder", REAL / "flowers102_original", size=64, crop="random", flip=True)
    assert len(dataset) == 64 and min(min(size) for size in dataset.sizes) == 500
    images = next(stream(dataset, batch_size=64)).images
    assert images.min() == -1 and images.max() == 1 and images.flatten(1).std(1).min() > 0.1
