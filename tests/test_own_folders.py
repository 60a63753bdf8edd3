"""A folder of one's own says what it holds: every caption is found, or where it was looked for is named."""
import re
import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_data import found, one_line, own_cache, pictures  # noqa: F401

from t2ilab.cli import commands as cli
from t2ilab.data.caption_check import check_captions
from t2ilab.data.datasets import DATASETS, names_of_datasets, open_data
from t2ilab.presets import PRESETS
from t2ilab.runs.train import train

# Tables of captions

@pytest.mark.parametrize("split", ["train", "val", "all"])
def test_a_table_beside_the_splits_gives_captions_to_each_of_them(split, tmp_path):
    pictures(tmp_path, "train/a.png", "train/b.png", "val/c.png")
    (tmp_path / "metadata.csv").write_text("file_name,text\ntrain/a.png,red\ntrain/../train/b.png,blue\nval/c.png,green\n")
    said = {"train/a.png": ("red",), "train/b.png": ("blue",), "val/c.png": ("green",)}
    assert found(tmp_path, split=split) == {name: texts for name, texts in said.items() if split in ("all", name.split("/")[0])}


@pytest.mark.parametrize("name, row", [("metadata.csv", "{},{}\n"), ("metadata.jsonl", '{{"file_name": "{}", "text": "{}"}}\n')])
def test_several_rows_of_a_picture_add_up(name, row, tmp_path):
    pictures(tmp_path, "a.png", "b.png")
    rows = [row.format(f"{n}.png", f"{k} of {n}") for k in range(5) for n in "ab"]
    (tmp_path / name).write_text("file_name,text\n" * (name[-1] == "v") + "".join(rows))
    assert found(tmp_path) == {f"{n}.png": tuple(f"{k} of {n}" for k in range(5)) for n in "ab"}


@pytest.mark.parametrize("column", ["text", "Caption", "prompt", " captions", "DESCRIPTION"])
def test_a_column_of_captions_has_many_names_in_any_case(column, tmp_path):
    pictures(tmp_path, "a.png")
    (tmp_path / "metadata.csv").write_text(f"File_Name,score,{column}\na.png,3,red\n")
    assert found(tmp_path) == {"a.png": ("red",)}


BAD_TABLES = {
    "unknown column": ("csv", "file_name,label,score\na.png,red,3\n", "no column text, caption, .* or description among file_name, label, score"),
    "too many cells": ("csv", "file_name,text\na.png,red, green\n", "row 1: 3 cells for 2 columns; a caption with commas stands in quotes"),
    "too few cells": ("csv", "file_name,text\na.png,red\na.png\n", "row 2: 1 cell for 2 columns"),
    "an open quote": ("csv", 'file_name,text\na.png,red\na.png,"a 5 inch pipe\na.png,blue\n', "row 2: unexpected end of data; is a quote left open"),
    "a closed open quote": ("csv", 'file_name,text\na.png,"a 5 inch pipe\na.png,blue\na.png,"x"\n', "row 1: .*is a quote left open"),
    "a long field": ("csv", 'file_name,text\na.png,"' + "x" * 200_000, "row 1: field larger than field limit"),
    "a number": ("jsonl", '{"file_name": 12, "text": "red"}', "row 1: no file_name in {'file_name': 12"),
    "a list": ("jsonl", '\n{"file_name": ["a.png"], "text": "red"}', "row 2: no file_name"), "true": ("jsonl", '{"file_name": true, "text": "red"}', "row 1"),
    "captions of numbers": ("jsonl", '{"file_name": "a.png", "text": ["red", 3]}', "row 1: a caption is a text or a list of texts: 3"),
    "a caption of keys": ("jsonl", '{"file_name": "a.png", "text": {"en": "red"}}', "row 1: a caption is a text or"),
    "elsewhere": ("csv", "file_name,text\n../../a.png,red\n", "row 1: '../../a.png' is no file below"),
    "absolute": ("csv", "file_name,text\n/etc/passwd,red\n", "row 1: '/etc/passwd' is no file below"),
    "a zero": ("jsonl", '{"file_name": "a\\u0000.png", "text": "red"}', "row 1: .* is no file below")}


@pytest.mark.parametrize("kind, text, said", BAD_TABLES.values(), ids=BAD_TABLES)
def test_a_table_that_makes_no_sense_is_one_line_with_file_and_row(kind, text, said, tmp_path):
    (pictures(tmp_path, "a.png") / f"metadata.{kind}").write_text(text)
    with one_line(ValueError, f"metadata.{kind}.*{said}"):
        found(tmp_path)


def test_a_row_without_a_caption_and_half_a_character_in_a_name_are_no_errors(tmp_path):
    (pictures(tmp_path, "a.png", "b.png") / "metadata.jsonl").write_text(
        '{"file_name": "a.png", "text": null}\n{"file_name": "b.png", "text": "red"}\n{"file_name": "\\ud800.png", "text": "gone"}\n')
    assert found(tmp_path) == {"a.png": ("",), "b.png": ("red",)}


@pytest.mark.parametrize("on_disk, written", [("NFD", "NFC"), ("NFC", "NFD")])
def test_names_match_however_their_accents_are_written(on_disk, written, tmp_path):
    pictures(tmp_path, unicodedata.normalize(on_disk, "café/é.png"), unicodedata.normalize(on_disk, "café/ü.png"))
    (tmp_path / "metadata.csv").write_text(unicodedata.normalize(written, "file_name,text\ncafé/é.png,red\n"), "utf-8")
    (tmp_path / unicodedata.normalize(on_disk, "café") / unicodedata.normalize(written, "ü.txt")).write_text("blue")
    assert sorted(found(tmp_path).values()) == [("blue",), ("red",)]


def test_backslashes_of_windows_are_understood(tmp_path):
    (pictures(tmp_path, "in/a.png") / "metadata.csv").write_text("file_name,text\nin\\a.png,red\n")
    assert found(tmp_path) == {"in/a.png": ("red",)}


@pytest.mark.parametrize("name, text", [
    ("captions.txt", 'image,caption\n1.jpg,a dog , running\n1.jpg,"a dog, wet"\n2.jpg,a cat\n'),
    ("Flickr8k.token.txt", "1.jpg#0\ta dog , running\n1.jpg#1\ta dog, wet\n2.jpg#0\ta cat\n"),
    ("results_20130124.token", "1.jpg#0\ta dog , running\n1.jpg#1\ta dog, wet\n2.jpg#0\ta cat\n")])
@pytest.mark.parametrize("inner", ["", "Images/"])
def test_the_lists_of_flickr8k_and_30k_give_their_captions(name, text, inner, tmp_path):
    (pictures(tmp_path, f"{inner}1.jpg", f"{inner}2.jpg") / name).write_text(text)
    assert found(tmp_path) == {f"{inner}1.jpg": ("a dog , running", "a dog, wet"), f"{inner}2.jpg": ("a cat",)}


@pytest.mark.parametrize("inner", ["", "Images/"])
def test_a_list_gives_its_captions_to_the_pictures_beside_it_and_to_no_others(inner, tmp_path):
    for name, said in {"one": "a dog", "two": "a cat"}.items():
        (pictures(tmp_path, f"{name}/{inner}1.jpg") / name / "captions.txt").write_text(f"1.jpg,{said}\n")
    assert found(tmp_path) == {f"one/{inner}1.jpg": ("a dog",), f"two/{inner}1.jpg": ("a cat",)}


@pytest.mark.parametrize("name, text", [("captions.txt", "1.jpg,a dog\n"), ("text_c10/class_00001/1.txt", "a dog\n")])
def test_a_name_that_two_pictures_have_is_no_name_of_either(name, text, tmp_path):
    (pictures(tmp_path, "one/1.jpg", "two/1.jpg") / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text(text)
    with one_line(ValueError, "its captions of 1(.jpg)? may be of .*one/1.jpg or .*two/1.jpg: put the list of captions beside its pictures"):
        found(tmp_path)


def test_a_list_with_a_line_of_another_kind_names_it_and_prompts_are_no_list(tmp_path):
    (pictures(tmp_path, "1.jpg") / "captions.txt").write_text("1.jpg,a dog\nand a cat\n")
    with one_line(ValueError, "captions.txt, row 2: neither name.jpg,caption nor name.jpg#0, a tab, the caption"):
        found(tmp_path)
    (tmp_path / "captions.txt").write_text("a dog, a cat\nit costs 3.50, he said\n")
    assert open_data("folder", tmp_path, size=8).listing.unread == ("captions.txt",)


def test_captions_may_lie_in_caption_files_and_in_text_c10(tmp_path):
    pictures(tmp_path, "jpg/image_00001.jpg", "jpg/b.png", "jpg/c.png")
    for name, text in {"jpg/b.caption": "red\nblue", "jpg/c.png.txt": "green", "text_c10/class_00007/image_00001.txt": "a rose \nit  is red\n"}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert found(tmp_path) == {"jpg/b.png": ("red", "blue"), "jpg/c.png": ("green",), "jpg/image_00001.jpg": ("a rose", "it is red")}


def test_captions_in_utf16_and_cp1252_are_read_and_guesses_are_counted_once(tmp_path, caplog):
    pictures(tmp_path, "a.png", "b.png", "c.png")
    (tmp_path / "a.txt").write_bytes("a red circle".encode("utf-16"))
    for name in "bc":
        (tmp_path / f"{name}.txt").write_bytes("the dog\u2019s caf\u00e9".encode("cp1252"))
    assert found(tmp_path) == {"a.png": ("a red circle",), "b.png": ("the dog\u2019s caf\u00e9",), "c.png": ("the dog\u2019s caf\u00e9",)}
    assert [record.getMessage() for record in caplog.records] == [f"{tmp_path}: not UTF-8, so read as cp1252 (2): b.txt; c.txt"]


# A model that reads captions

@pytest.mark.parametrize("names, said", [(["a.png"], "1 picture"), (["a.png", "b.png"], "2 pictures")])
def test_a_data_set_without_captions_is_refused_by_a_model_that_reads_them(names, said, tmp_path):
    pictures(tmp_path, *names)
    for name in ("caption.csv", "metadata1000.jsonl", "a.json"):
        (tmp_path / name).write_text("")
    with one_line(ValueError, f"reads captions, and there are none for {said}; looked for metadata.csv .*; not read: a.json; caption.csv; metadata1000.jsonl"):
        check_captions(open_data("folder", tmp_path, size=8))


def test_training_asks_for_captions_before_its_first_step(tmp_path):
    pictures(tmp_path / "data", "a.png", "b.png")
    preset = replace(PRESETS["glide-tiny"], data=replace(PRESETS["glide-tiny"].data, data="folder", root=str(tmp_path / "data")))
    with one_line(ValueError, "this model reads captions, and there are none for 2 pictures"):
        next(train(preset, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_few_pictures_without_captions_are_counted_with_an_example(tmp_path, caplog):
    pictures(tmp_path, "a.png", "b.png", "c.png")
    (tmp_path / "a.txt").write_text("red")
    check_captions(open_data("folder", tmp_path, size=8))
    assert [record.getMessage() for record in caplog.records] == ["2 of 3 pictures without a caption, such as b.png"]
    caplog.clear()
    check_captions(open_data("folder", pictures(tmp_path / "classes", "x/a.png", "y/b.png"), size=8))
    check_captions(open_data("shapes", size=8))
    assert caplog.records == []


# The table of data sets

def test_every_help_text_names_every_data_set(capsys):
    readme = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
    listed = readme.split("Data sets: ")[1].split("\n\n")[0].split("Your own")[0]
    assert [name for name in DATASETS if f"`{name}`" not in listed] == []
    for command in (["train", "ddpm-shapes", "--help"], ["data", "--help"]):
        with pytest.raises(SystemExit):
            cli.main(command)
        assert re.sub(r"\W", "", names_of_datasets()) in re.sub(r"\W", "", capsys.readouterr().out), command


def test_every_row_says_what_it_is_and_where_to_get_it():
    for name, row in DATASETS.items():
        assert row.about and row.source and "\n" not in row.about + row.source and (row.read is None) == name.startswith("shapes")
