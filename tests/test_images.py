"""Broken files are found before the stream begins, options that make no sense are refused, and photographs stream like anything else."""
import os
from itertools import islice
from pathlib import Path

import pytest
import tiny_data
import torch
from tiny_data import REAL, own_cache, picture, real  # noqa: F401

from t2ilab.data import image_check as images
from t2ilab.data.datasets import open_data
from t2ilab.data.loaders import stream
from t2ilab.tensors import generator


def open_folder(root, **options):
    return open_data("folder", root, size=8, **options)


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


def test_missing_files_are_not_called_broken_and_the_error_names_the_way_out(tmp_path, caplog):
    for k in range(4):
        picture(tmp_path / f"{k}.jpg")
    (tmp_path / "metadata.csv").write_text("file_name,text\n" + "".join(f"{k}.jpg,x\n" for k in range(10)))
    with tiny_data.one_line(ValueError, "6 of 10 pictures are missing, more than 1%: 4.jpg: no such file; .*; --max-broken 0.61 takes the others"):
        open_folder(tmp_path)
    assert len(open_folder(tmp_path, max_broken=0.61)) == 4 and "skipped 6 missing of 10 pictures" in caplog.text
    (tmp_path / "0.jpg").write_text("text")
    with tiny_data.one_line(ValueError, "7 of 10 pictures are broken or missing"):
        open_folder(tmp_path)


def test_files_are_decoded_again_only_after_a_change_or_if_they_were_broken(tmp_path, monkeypatch):
    broken_among(tmp_path, 1, 5)
    looked, measure = [], images.measure
    monkeypatch.setattr(images, "measure", lambda path: (looked.append(path.name), measure(path))[1])
    sizes = open_folder(tmp_path, max_broken=0.5).sizes
    assert sorted(looked) == [f"00{k}.jpg" for k in range(5)] and sizes == [(4, 4)] * 4
    looked.clear()
    picture(tmp_path / "003.jpg", size=(9, 4))
    assert open_folder(tmp_path, max_broken=0.5).sizes == [(4, 4), (4, 4), (9, 4), (4, 4)] and sorted(looked) == ["000.jpg", "003.jpg"]


@pytest.mark.parametrize("corrupt_image", [lambda cache: cache.write_text("{"), lambda cache: cache.unlink()])
def test_a_lost_or_damaged_memory_of_the_check_changes_nothing(corrupt_image, tmp_path):
    broken_among(tmp_path, 0, 3)
    before = open_folder(tmp_path).sizes
    (memory,) = Path(os.environ["XDG_CACHE_HOME"]).rglob("*.json")
    corrupt_image(memory)
    assert open_folder(tmp_path).sizes == before


@pytest.mark.parametrize("workers", [0, 2])
def test_a_file_that_breaks_after_the_check_stops_the_run_by_name_in_one_line(workers, tmp_path):
    dataset = open_folder(picture(tmp_path / "a.jpg").parent)
    (tmp_path / "a.jpg").write_text("text")
    with pytest.raises(ValueError, match="a.jpg: not a picture") as error:
        next(stream(dataset, batch_size=1, workers=workers))
    assert "\n" not in str(error.value)


# open_data

@pytest.mark.parametrize("name, options, error, said", [
    ("mnist", {}, ValueError, "choose one of shapes, shapes-one, cifar10, flowers102, sbu, dogs, coco, cub, imagenet, folder"), ("folder", {"root": "nowhere"}, FileNotFoundError, "nowhere: no such folder"),
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


@real("flowers102_original")
def test_the_real_flowers_stream_at_full_size():
    dataset = open_data("folder", REAL / "flowers102_original", size=64, crop="random", flip=True)
    assert len(dataset) == 64 and min(min(size) for size in dataset.sizes) == 500
    images = next(stream(dataset, batch_size=64)).images
    assert images.min() == -1 and images.max() == 1 and images.flatten(1).std(1).min() > 0.1
