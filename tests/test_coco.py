"""MS COCO's captions are read in the published layout, one of several a picture, and nothing that its JSON says leads out of the folder."""
import json
import shutil

import pytest
import tiny_data
from PIL import Image
from tiny_data import REAL, own_cache, picture, real  # noqa: F401

from t2ilab.cli import commands as cli
from t2ilab.data.datasets import open_data
from t2ilab.tensors import generator

SAID = {"train": [("a dog",), ("a red boat", "a boat on a lake")], "val": [("two cats",)]}


def says(root, **options):
    return open_data("coco", root, size=8, **options).listing.captions


def files(root, **options):
    return [path.relative_to(root).as_posix() for path in open_data("coco", root, size=8, **options).listing.pictures]


def rewrite(root, change, name="train2017"):
    path = root / "annotations" / f"captions_{name}.json"
    tables = json.loads(path.read_text())
    change(tables)
    path.write_text(json.dumps(tables))


# What is read

def test_pictures_come_in_the_order_of_their_ids_with_all_their_captions(tmp_path):
    tiny_data.coco(tmp_path)
    assert says(tmp_path) == SAID["train"] and says(tmp_path, split="val") == SAID["val"] and says(tmp_path, split="all") == SAID["train"] + SAID["val"]
    assert files(tmp_path, split="all") == ["train2017/000000000004.jpg", "train2017/000000000009.jpg", "val2017/000000000007.jpg"]
    dataset = open_data("coco", tmp_path, size=8)
    assert dataset.texts() == ["a dog", "a red boat", "a boat on a lake"] and dataset.classes == () and dataset.sizes == [(20, 15)] * 2


def test_an_example_has_one_of_its_captions_drawn_by_the_generator_alone(tmp_path):
    tiny_data.coco(tmp_path, train={1: [f"caption {k}" for k in range(5)]})
    dataset = open_data("coco", tmp_path, size=8)
    drawn = [dataset.example(0, generator(k)).caption for k in range(60)]
    assert set(drawn) == {f"caption {k}" for k in range(5)} and drawn == [dataset.example(0, generator(k)).caption for k in range(60)]
    assert dataset.example(0, generator(0)).label == -1 and dataset.example(0, generator(0)).image.shape == (3, 8, 8)


def test_captions_lose_stray_blanks_newlines_and_halves_of_characters_and_may_be_missing(tmp_path):
    tiny_data.coco(tmp_path, train={1: [" two  blanks ", "a bowl\n.\n", "\t\n"], 2: [], 3: [" "], 4: ["Zo\u00eb \U0001f415", "half \ud83d"]})
    assert says(tmp_path) == [("two blanks", "a bowl ."), ("",), ("",), ("Zo\u00eb \U0001f415", "half ?")]


@pytest.mark.parametrize("year", [2014, 2017])
@pytest.mark.parametrize("inner, into", [("", "{}"), ("coco", "{}"), ("", "images/{}"), ("", "images"), ("coco", "."), ("", "{0}/{0}")])
def test_pictures_lie_in_a_folder_of_their_split_in_images_or_flat(year, inner, into, tmp_path):
    tiny_data.coco(tmp_path / inner, year, into)
    (tmp_path / inner / f"train{year}").mkdir(exist_ok=True)
    assert says(tmp_path, split="all") == SAID["train"] + SAID["val"]


def test_all_is_the_one_split_that_is_there_and_the_other_is_an_error(tmp_path):
    tiny_data.coco(tmp_path, val={7: ["two cats"]})
    assert says(tmp_path, split="all") == says(tmp_path, split="val") == SAID["val"]
    with tiny_data.one_line(FileNotFoundError, "split='train': no annotations/captions_train2017.json in "):
        says(tmp_path)


def test_only_one_edition_is_read_because_each_trains_on_pictures_that_the_other_holds_out(tmp_path, caplog):
    tiny_data.coco(tmp_path, 2014, train={1: ["old"]})
    tiny_data.coco(tmp_path, 2017, val={1: ["new"]})
    assert says(tmp_path, split="all") == [("new",)] and "holds the editions 2017 and 2014 of MS COCO: reads 2017 alone" in caplog.text
    with pytest.raises(FileNotFoundError, match="captions_train2017"):
        says(tmp_path)
    shutil.rmtree(tmp_path / "val2017")
    caplog.clear()
    assert says(tmp_path, split="all") == [("old",)] and caplog.records == []


# Pictures

def test_missing_and_broken_pictures_are_skipped_by_name(tmp_path, caplog):
    tiny_data.coco(tmp_path, train={k: [str(k)] for k in range(5)})
    (tmp_path / "train2017" / "000000000001.jpg").unlink()
    (tmp_path / "train2017" / "000000000003.jpg").write_text("an error page")
    assert says(tmp_path, max_broken=0.4) == [("0",), ("2",), ("4",)]
    assert "skipped 2 broken or missing of 5 pictures: train2017/000000000001.jpg: no such file; train2017/000000000003.jpg: not a picture" in caplog.text
    with tiny_data.one_line(ValueError, "2 of 5 pictures are broken or missing, more than 1%: .*; --max-broken 0.41 takes the others"):
        says(tmp_path)


@pytest.mark.parametrize("mode, kind", [("L", "JPEG"), ("CMYK", "JPEG"), ("RGBA", "PNG"), ("P", "GIF")])
def test_grey_print_and_see_through_pictures_become_rgb(mode, kind, tmp_path):
    tiny_data.coco(tmp_path, train={1: ["odd"]})
    Image.new(mode, (20, 15)).save(tmp_path / "train2017" / "000000000001.jpg", format=kind)
    assert open_data("coco", tmp_path, size=8).example(0, generator(0)).image.shape == (3, 8, 8)


# Damaged, foreign and hostile files

DEEP = b"[" * 100_000


@pytest.mark.parametrize("content", [b"", b"junk", b"\xff\xfe\x00", DEEP, b'{"images": ' + DEEP, b"9" * 5_000, b'{"images": [], '])
def test_a_file_that_is_not_json_is_an_error_of_one_line(content, tmp_path):
    tiny_data.coco(tmp_path)
    (tmp_path / "annotations" / "captions_train2017.json").write_bytes(content)
    with tiny_data.one_line(ValueError, "captions_train2017.json: not JSON: "):
        says(tmp_path)


IMAGE, ANNOTATION = {"id": 1, "file_name": "1.jpg"}, {"image_id": 1, "caption": "a dog"}


@pytest.mark.parametrize("tables, said", [
    ([], "no list 'images'"), (None, "no list 'images'"), ("images", "no list 'images'"), ({}, "no list 'images'"), ({"images": {}}, "no list 'images'"),
    ({"images": []}, "no list 'annotations'"), ({"images": [], "annotations": "x"}, "no list 'annotations'"),
    ({"images": [], "annotations": []}, "lists 0 pictures"), ({"images": [3], "annotations": []}, r"images\[0\] needs id \(int\) and file_name \(str\): 3"),
    ({"images": [IMAGE, {"id": 2}], "annotations": []}, r"images\[1\] needs"), ({"images": [IMAGE | {"id": "1"}], "annotations": []}, r"images\[0\] needs"),
    ({"images": [IMAGE | {"id": True}], "annotations": []}, r"images\[0\] needs"), ({"images": [IMAGE | {"id": [1]}], "annotations": []}, r"images\[0\] needs"),
    ({"images": [IMAGE | {"file_name": ["a\n"] * 999}], "annotations": []}, r"images\[0\] needs"),
    ({"images": [IMAGE], "annotations": [None]}, r"annotations\[0\] needs image_id \(int\) and caption \(str\): None"),
    ({"images": [IMAGE], "annotations": [ANNOTATION, ANNOTATION | {"caption": None}]}, r"annotations\[1\] needs"),
    ({"images": [IMAGE], "annotations": [{"image_id": 1, "bbox": [0, 0, 1, 1]}]}, r"annotations\[0\] needs"),
    ({"images": [IMAGE], "annotations": [ANNOTATION | {"image_id": 2}]}, "a caption of image 2, which it does not list: 'a dog'"),
    ({"images": [IMAGE, IMAGE], "annotations": []}, "1 of its images have the id of another")])
def test_json_of_another_kind_is_an_error_of_one_line(tables, said, tmp_path):
    tiny_data.coco(tmp_path)
    (tmp_path / "annotations" / "captions_train2017.json").write_text(json.dumps(tables))
    with tiny_data.one_line((ValueError, FileNotFoundError), said) as error:
        says(tmp_path)
    assert "captions_train2017.json" in str(error.value) and len(str(error.value)) < 300 + len(str(tmp_path))


@pytest.mark.parametrize("name", ["../secret.jpg", "a/../../secret.jpg", "..", "", ".", "/etc/passwd", "..\\secret.jpg", "C:\\secret.jpg", "C:secret.jpg",
                                  "\\\\host\\share\\secret.jpg", "\\secret.jpg", "a\0.jpg", "a\n.jpg", "\ud800.jpg", "../" * 9_999 + "secret.jpg"])
def test_a_file_name_that_leads_out_of_the_folder_is_an_error_of_one_line(name, tmp_path):
    tiny_data.coco(tmp_path / "data")
    picture(tmp_path / "secret.jpg")
    rewrite(tmp_path / "data", lambda tables: tables["images"][0].update(file_name=name))
    with tiny_data.one_line(ValueError, "captions_train2017.json: file_name '.* is no file below the folder of pictures") as error:
        says(tmp_path / "data")
    assert len(str(error.value)) < 200 + len(str(tmp_path))


@pytest.mark.parametrize("name", ["x" * 5_000 + ".jpg", "annotations", "annotations/captions_train2017.json", "Zo\u00eb .jpg"])
def test_a_file_name_of_no_picture_counts_as_a_missing_picture(name, tmp_path):
    tiny_data.coco(tmp_path, into=".")
    rewrite(tmp_path, lambda tables: tables["images"][0].update(file_name=name))
    assert says(tmp_path, max_broken=0.5) == [("a dog",)]


@pytest.mark.parametrize("options, error, said", [
    ({"root": "nowhere"}, FileNotFoundError, "no annotations/captions_train2017.json in nowhere: unpack annotations_trainval2017.zip"),
    ({"root": "captions"}, FileNotFoundError, "captions_train2017.json lists 2 pictures, and none is in train2017, images/train2017, images or "),
    ({"split": "test"}, ValueError, "split='test': choose one of .'all', 'train', 'val'."),
    ({"download": True}, ValueError, "fetch train2017.zip, val2017.zip")])
def test_a_mistake_about_coco_is_an_error_of_one_line(options, error, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny_data.coco(tmp_path / "here")
    shutil.copytree(tmp_path / "here" / "annotations", tmp_path / "captions" / "annotations")
    with tiny_data.one_line(error, said):
        open_data("coco", **({"root": "here", "size": 8} | options))


# The report

@pytest.mark.slow
def test_the_report_on_the_command_line_reads_coco(tmp_path, monkeypatch, capsys):
    tiny_data.coco(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["data", "inspect", "coco", "data"]) == 0
    assert "pictures" in capsys.readouterr().out
    assert "This copy holds 3 of the 123,287 published pictures" in (tmp_path / "runs" / "data" / "coco" / "README.md").read_text()
    rewrite(tmp_path / "data", lambda tables: tables.pop("images"))
    assert cli.main(["data", "inspect", "coco", "data"]) == 1
    assert capsys.readouterr().err.startswith("t2ilab: data/annotations/captions_train2017.json: not in COCO's layout")


# The real thing

@real("coco2017_mini")
@pytest.mark.parametrize("part, pictures", [("train", 80), ("val", 79)])
def test_the_real_sample_is_read_whole_with_five_captions_a_picture(part, pictures, caplog):
    home = REAL / "coco2017_mini"
    dataset = open_data("coco", home, size=16, split=part)
    assert len(dataset) == pictures and dataset.bad == () and caplog.records == [] and {len(texts) for texts in dataset.listing.captions} == {5}
    tables = json.loads((home / "annotations" / f"captions_{part}2017.json").read_text())
    shapes = {image["file_name"]: (image["width"], image["height"]) for image in tables["images"]}
    assert dataset.sizes == [shapes[path.name] for path in dataset.listing.pictures]
    told = {int(path.stem): set(texts) for path, texts in zip(dataset.listing.pictures, dataset.listing.captions)}
    assert all(" ".join(a["caption"].split()) in told[a["image_id"]] for a in tables["annotations"])
    assert not any("\n" in text or "  " in text or text != text.strip() for text in dataset.texts())


@real("coco2017_mini")
def test_the_real_instances_are_refused_as_captions(tmp_path):
    home = REAL / "coco2017_mini"
    (tmp_path / "annotations").mkdir()
    shutil.copy(home / "annotations" / "instances_val2017.json", tmp_path / "annotations" / "captions_val2017.json")
    with tiny_data.one_line(ValueError, r"annotations\[0\] needs image_id \(int\) and caption \(str\)"):
        says(tmp_path, split="val")
