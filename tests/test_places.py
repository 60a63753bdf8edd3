"""Which files of a folder are data: what systems and t2ilab itself left there is no class, and splits stay apart under any name."""
import json
import os

import pytest
from tiny_data import found, one_line, own_cache, picture, pictures  # noqa: F401

from t2ilab.data.datasets import open_data
from t2ilab.evaluation.registry import ABLATIONS


@pytest.mark.parametrize("junk", [".ipynb_checkpoints", "__MACOSX", "lost+found", "@eaDir", "#recycle", "@Recycle", ".thumbnails"])
def test_what_systems_leave_behind_is_no_class_and_no_split(junk, tmp_path):
    pictures(tmp_path / "a", "cats/1.png", "dogs/2.png", f"{junk}/3.png")
    assert open_data("folder", tmp_path / "a", size=8).classes == ("cats", "dogs")
    assert list(found(pictures(tmp_path / "b", "train/1.png", "val/2.png", f"{junk}/3.png"))) == ["train/1.png"]


@pytest.mark.parametrize("junk", [".ipynb_checkpoints", "__MACOSX"])
def test_no_reader_takes_them_for_a_class(junk, tmp_path):
    birds = pictures(tmp_path / "cub", "images/001.A/a.jpg", "images/002.B/b.jpg", f"images/{junk}/a.jpg")
    (birds / "text").mkdir()
    (birds / "train").mkdir()
    (birds / "train" / "filenames.txt").write_text("001.A/a\n002.B/b\n")
    dogs = pictures(tmp_path / "dogs", "Images/n1-A/a.jpg", "Images/n2-B/b.jpg", f"Images/{junk}/a.jpg")
    net = pictures(tmp_path / "imagenet", "train/n00000001/a.jpg", "train/n00000002/b.jpg", f"train/{junk}/a.jpg")
    for name, root in {"cub": birds, "dogs": dogs, "imagenet": net}.items():
        dataset = open_data(name, root, size=8)
        assert len(dataset.classes) == 2 and list(dataset.listing.labels) == [0, 1], name


def test_splits_have_any_case_and_stand_beside_folders_without_pictures(tmp_path):
    pictures(tmp_path, "Train/a.png", "VAL/b.png", "test/c.png")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "notes.md").write_text("x")
    assert [list(found(tmp_path, split=split)) for split in ("train", "val", "test")] == [["Train/a.png"], ["VAL/b.png"], ["test/c.png"]]


@pytest.mark.parametrize("top", ["", "birds/", "archive/birds/"])
@pytest.mark.parametrize("train, held, split", [
    ("train2017", "val2017", "val"), ("train_set", "dev_set", "val"), ("Training", "Testing", "test"), ("train-images", "valid", "val"), ("Training Data", "Test Data", "test")])
def test_splits_have_many_names_and_may_lie_in_one_folder_and_never_mix(top, train, held, split, tmp_path):
    pictures(tmp_path, *(f"{top}{part}/{bird}/{k}.png" for k, part in enumerate([train, held]) for bird in ("robin", "wren")))
    assert list(found(tmp_path)) == [f"{top}{train}/robin/0.png", f"{top}{train}/wren/0.png"]
    held_out = open_data("folder", tmp_path, size=8, split=split)
    assert held_out.classes == ("robin", "wren") and [path.name for path in held_out.listing.pictures] == ["1.png"] * 2


def test_words_that_begin_like_a_split_are_classes(tmp_path):
    pictures(tmp_path, "trainer/a.png", "valley/b.png", "developer/c.png", "tester/d.png")
    assert open_data("folder", tmp_path, size=8).classes == ("developer", "tester", "trainer", "valley")


def test_a_folder_that_wraps_all_others_is_no_class_and_a_picture_beside_it_is_data(tmp_path):
    assert open_data("folder", pictures(tmp_path, "pets/cats/1.png", "pets/dogs/2.png"), size=8).classes == ("cats", "dogs")
    assert list(found(pictures(tmp_path, "3.png"))) == ["3.png", "pets/cats/1.png", "pets/dogs/2.png"]


def test_splits_beside_other_pictures_are_classes_with_a_warning(tmp_path, caplog):
    pictures(tmp_path, "train/a.png", "test/b.png", "docs/logo.png")
    assert open_data("folder", tmp_path, size=8).classes == ("docs", "test", "train")
    assert "test, train and docs hold pictures, so all of them are classes" in caplog.text
    caplog.clear()
    assert list(found(pictures(tmp_path / "b", "train/a.png", "cover.png"))) == ["train/a.png"]
    assert "left out 1 picture in no split: cover.png" in caplog.text


def test_linked_folders_are_classes_and_a_loop_ends(tmp_path, caplog):
    pictures(tmp_path, "store/c/a.png", "store/d/b.png", "root/birds/c.png")
    for name, target in {"cats": "c", "dogs": "d"}.items():
        (tmp_path / "root" / name).symlink_to(tmp_path / "store" / target)
    (tmp_path / "store" / "c" / "up").symlink_to(tmp_path / "root")
    assert list(found(tmp_path / "root")) == ["birds/c.png", "cats/a.png", "dogs/b.png"]
    assert open_data("folder", tmp_path / "root", size=8).classes == ("birds", "cats", "dogs")
    assert "left out cats/up: a link back to where it lies" in caplog.text


def test_a_link_to_nothing_is_a_missing_picture(tmp_path):
    (pictures(tmp_path, "a.png") / "b.png").symlink_to(tmp_path / "gone.png")
    assert open_data("folder", tmp_path, size=8, max_broken=0.5).bad == (("b.png", "no such file"),)


def test_a_folder_that_cannot_be_entered_is_named(tmp_path, caplog, monkeypatch):
    pictures(tmp_path, "cats/a.png", "dogs/b.png", "birds/c.png")
    scandir = os.scandir

    def denied(path):
        if str(path).endswith("cats"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)
    monkeypatch.setattr(os, "scandir", denied)
    assert open_data("folder", tmp_path, size=8).classes == ("birds", "dogs")
    assert "left out cats: Permission denied" in caplog.text


def test_pictures_of_other_kinds_are_counted_and_named(tmp_path, caplog):
    pictures(tmp_path, "a.jpg")
    for name in ("b.heic", "c.AVIF", "d.jp2"):
        (tmp_path / name).write_bytes(b"x")
    assert open_data("folder", tmp_path, size=8).listing.left_out == ("b.heic", "c.AVIF", "d.jp2")
    assert "left out 3 files of a kind that is not read here: b.heic; c.AVIF; d.jp2" in caplog.text
    (tmp_path / "a.jpg").unlink()
    with one_line(ValueError, "no pictures .*; not read: b.heic; c.AVIF; d.jp2"):
        found(tmp_path)


@pytest.mark.parametrize("file, content", [("config.json", {"t2ilab": "0.1.0"}), ("samples.json", {"run": "x", "seed": 0}), ("stats.json", {"looked_at": 1}),
                                           *((f"{name}.json", {"command": "t2ilab evaluate x"}) for name in ("metrics", *ABLATIONS))])
def test_sheets_that_t2ilab_wrote_are_no_data(file, content, tmp_path, caplog):
    pictures(tmp_path, "0.png", "runs/mine/samples/step-2.png")
    (tmp_path / "runs" / "mine" / file).write_text(json.dumps(content))
    assert list(found(tmp_path)) == ["0.png"] and "runs/mine: written by t2ilab" in caplog.text
    (tmp_path / "runs" / "mine" / file).write_text("{}")
    assert len(found(tmp_path)) == 2


def test_a_run_that_lies_in_its_own_data_does_not_train_on_its_samples(tmp_path):
    pictures(tmp_path, "0.png", "samples/step-2.png", "samples.png", "painted.png", *(f"{name}.png" for name in ABLATIONS))
    (tmp_path / "config.json").write_text(json.dumps({"t2ilab": "0.1.0"}))
    assert list(found(tmp_path)) == ["0.png"]


def test_a_table_may_name_its_pictures_from_the_top_of_the_disk(tmp_path, monkeypatch):
    (pictures(tmp_path, "in/a.png") / "metadata.csv").write_text(f"file_name,text\n{tmp_path}/in/a.png,red\n")
    monkeypatch.chdir(tmp_path)
    assert open_data("folder", ".", size=8).listing.captions == [("red",)] and found(tmp_path) == {"in/a.png": ("red",)}


def test_folders_of_a_thousand_are_no_classes(tmp_path):
    pictures(tmp_path, "00000/00000.png", "01000/01000.png", "69000/69999.png")
    assert open_data("folder", tmp_path, size=8).classes == () and set(found(tmp_path).values()) == {("",)}
    pictures(tmp_path / "digits", "0/a.png", "1/b.png")
    assert open_data("folder", tmp_path / "digits", size=8).classes == ("0", "1")


def test_a_class_of_a_name_without_letters_for_it_has_a_question_mark(tmp_path):
    pictures(tmp_path, "bar/a.png", "x/b.png")
    os.rename(tmp_path / "x", os.fsencode(tmp_path) + b"/caf\xe9")
    assert open_data("folder", tmp_path, size=8).classes == ("bar", "caf?")
