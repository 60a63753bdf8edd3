"""SBU Captions and Stanford Dogs are read in their published layouts, with what is missing from them named in one line."""
import json

import pytest
import tiny_data
from tiny_data import own_cache, picture  # noqa: F401

from t2ilab.cli import commands as cli
from t2ilab.data.datasets import open_data
from t2ilab.tensors import generator


def says(dataset):
    return list(dataset.listing.captions)


# SBU Captions

@pytest.mark.parametrize("inner", ["", "sbucaptions"])
def test_sbu_has_the_caption_of_every_picture_in_every_shard(inner, tmp_path, caplog):
    tiny_data.sbu(tmp_path / inner)
    for split in ("train", "all"):
        dataset = open_data("sbu", tmp_path, size=8, split=split)
        assert says(dataset) == [("a red boat",), ("Zo\u00eb's caf\u00e9",), ("a dog",)] and dataset.classes == () and caplog.records == []
    assert dataset.example(1, generator(0))[1:] == ("Zo\u00eb's caf\u00e9", -1)
    assert [path.name for path in dataset.listing.pictures] == ["000000000.jpg", "000000001.jpg", "000010000.jpg"]


def test_sbu_takes_other_kinds_of_pictures_and_captions_from_the_text_beside(tmp_path):
    shard = tmp_path / "00000"
    for name, row in {"0.webp": {"caption": None}, "1.png": {"caption": " two \n blanks "}, "2.jpg": None, "3.jpg": {"status": "success"}}.items():
        picture(shard / name).with_suffix(".txt").write_text("beside")
        if row is not None:
            (shard / name).with_suffix(".json").write_text(json.dumps(row))
    (shard / "3.txt").unlink()
    assert says(open_data("sbu", tmp_path, size=8)) == [("beside",), ("two blanks",), ("beside",), ("",)]


def test_entries_without_a_picture_are_left_out_and_named_in_one_warning(tmp_path, caplog):
    shard, _ = tiny_data.sbu(tmp_path)
    rows = {"5": '{"status": "failed_to_download", "error_message": "HTTP Error 404:\\n Not Found"}', "6": '{"status": "failed_to_resize"}',
            "7": "{oops", "8": "[1]", "9": '{"status": "success", "caption": "gone"}', "a": "{}"}
    for stem, row in rows.items():
        (shard / f"{stem}.json").write_text(row)
    picture(shard / "6.jpg")
    assert len(open_data("sbu", tmp_path, size=8)) == 3
    said, = [record.getMessage() for record in caplog.records]
    assert said == (f"{tmp_path}: left out 6 of 9 entries: 00000/5: HTTP Error 404: Not Found; 00000/6: status failed_to_resize; "
                    "00000/7: its .json is damaged; 00000/8: its .json is damaged; 00000/9: no picture; and 1 more")


def test_a_broken_picture_of_sbu_is_skipped_by_name(tmp_path, caplog):
    shard, _ = tiny_data.sbu(tmp_path)
    (shard / "000000001.jpg").write_text("an error page")
    dataset = open_data("sbu", tmp_path, size=8, max_broken=0.5)
    assert says(dataset) == [("a red boat",), ("a dog",)] and "00000/000000001.jpg: not a picture" in caplog.text


@pytest.mark.parametrize("options, error, said", [
    ({}, FileNotFoundError, "nothing that img2dataset wrote"), ({"split": "test"}, ValueError, "choose one of .'all', 'train'."),
    ({"download": True}, ValueError, "fetch them with img2dataset")])
def test_a_mistake_about_sbu_is_an_error_of_one_line(options, error, said, tmp_path):
    (tmp_path / "00000").mkdir()
    with tiny_data.one_line(error, said):
        open_data("sbu", tmp_path, size=8, **options)


def test_sbu_of_dead_addresses_alone_is_an_error(tmp_path):
    shards = tiny_data.sbu(tmp_path)
    for path in sum((list(shard.glob("*.jpg")) for shard in shards), []):
        path.unlink()
    with pytest.raises(ValueError, match="none of 3 entries has a picture: 00000/000000000: no picture"):
        open_data("sbu", tmp_path, size=8)
    with pytest.raises(FileNotFoundError, match="nowhere: nothing"):
        open_data("sbu", tmp_path / "nowhere", size=8)


# Stanford Dogs

BREEDS = ("Chihuahua", "black-and-tan coonhound", "flat-coated retriever")


@pytest.mark.parametrize("split, numbers", [("train", "10"), ("test", "2"), ("all", "10 2")])
@pytest.mark.parametrize("inner", ["", "Images"])
def test_dogs_have_whole_breeds_and_the_published_splits(inner, split, numbers, tmp_path):
    tiny_data.dogs(tmp_path)
    dataset = open_data("dogs", tmp_path / inner, size=8, split=split)
    assert dataset.classes == BREEDS
    assert [(path.stem.split("_")[1], label) for path, label in zip(dataset.listing.pictures, dataset.listing.labels)] == [
        (number, label) for label in range(3) for number in numbers.split()]
    assert {dataset.example(len(dataset) - 1, generator(k)).caption for k in range(40)} == {
        "flat-coated retriever", "a flat-coated retriever", "a photo of a flat-coated retriever", "a flat-coated retriever dog"}


def test_dogs_without_lists_are_all_for_training_and_have_no_test(tmp_path):
    tiny_data.dogs(tmp_path, lists=False)
    assert [len(open_data("dogs", tmp_path, size=8, split=split)) for split in ("train", "all")] == [6, 6]
    with pytest.raises(ValueError, match="split='test': needs test_list.mat .*split='all'"):
        open_data("dogs", tmp_path, size=8, split="test")


def test_half_of_the_lists_of_dogs_never_lets_test_pictures_into_training(tmp_path):
    tiny_data.dogs(tmp_path)
    (tmp_path / "lists" / "train_list.mat").unlink()
    (tmp_path / "lists" / "test_list.mat").rename(tmp_path / "test_list.mat")                   # lists.tar holds no folder
    assert len(open_data("dogs", tmp_path, size=8, split="test")) == 3
    with pytest.raises(ValueError, match="split='train': needs train_list.mat"):
        open_data("dogs", tmp_path, size=8)


def test_a_listed_dog_that_is_not_there_and_a_broken_one_are_named(tmp_path, caplog):
    tiny_data.dogs(tmp_path)
    first, second, _ = sorted((tmp_path / "Images").glob("*/*_10.jpg"))
    first.unlink()
    second.write_bytes(second.read_bytes()[:200])
    dataset = open_data("dogs", tmp_path, size=8, max_broken=0.9)
    assert len(dataset) == 1 and dataset.classes == BREEDS and dataset.listing.labels == [2]
    assert f"{first.name}: no such file" in caplog.text and second.name in caplog.text and len(caplog.records) == 1


@pytest.mark.parametrize("options, error, said", [
    ({"root": "nowhere"}, FileNotFoundError, "no folder Images in .*nowhere: unpack images.tar"), ({"root": "empty"}, ValueError, "no pictures"),
    ({"split": "val"}, ValueError, "split='val': choose one of .'all', 'test', 'train'."), ({"download": True}, ValueError, "images.tar and lists.tar")])
def test_a_mistake_about_dogs_is_an_error_of_one_line(options, error, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny_data.dogs(tmp_path / "here")
    (tmp_path / "empty" / "Images").mkdir(parents=True)
    with tiny_data.one_line(error, said):
        open_data("dogs", **({"root": "here", "size": 8} | options))


@pytest.mark.parametrize("content", [b"", b"junk"])
def test_a_damaged_list_of_dogs_is_an_error_of_one_line(content, tmp_path):
    tiny_data.dogs(tmp_path)
    (tmp_path / "lists" / "train_list.mat").write_bytes(content)
    with tiny_data.one_line(ValueError, "train_list.mat: not in Stanford Dogs' layout"):
        open_data("dogs", tmp_path, size=8)


# The report

@pytest.mark.slow
@pytest.mark.parametrize("name, facts", [("sbu", "of the 1,000,000 published"), ("dogs", "of the 20,580 published")])
def test_the_report_on_the_command_line_reads_both(name, facts, tmp_path, monkeypatch, capsys):
    getattr(tiny_data, name)(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["data", "inspect", name, "data"]) == 0
    assert "pictures" in capsys.readouterr().out and facts in (tmp_path / "runs" / "data" / name / "README.md").read_text()
