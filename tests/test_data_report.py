"""The report on a data set counts what is there, draws it, and says what is wrong with it."""
import json
import os

import numpy as np
import pytest
import tiny_data
import torch
from PIL import Image
from tiny_data import REAL, own_cache, picture, real  # noqa: F401

from t2ilab.data.example import ENDLESS, Example
from t2ilab.evaluation.data_report import facts, inspect, statistics


class Painted:
    """A data set of flat colours: picture k is uint8 value colours[k] in all channels, but blue is always 0."""
    classes, size = ("dark", "bright", "never"), 4

    def __init__(self, colours, length=None):
        self.colours, self.length = colours, length or len(colours)

    def __len__(self):
        return self.length

    def example(self, index, generator):
        value = self.colours[index % len(self.colours)]
        image = torch.full((3, 4, 4), value, dtype=torch.uint8)
        image[2] = 0
        return Example(image, "A dark, dark one" if value < 128 else "bright", int(value >= 128) if value else -1)


def test_colours_are_mean_and_std_over_all_pixels_in_the_model_s_range():
    red, blue = (statistics(Painted([0, 51, 255]))["colours"][channel] for channel in ("red", "blue"))
    values = np.array([-1, -0.6, 1])
    assert red["mean"] == pytest.approx(values.mean(), abs=1e-4) and red["std"] == pytest.approx(values.std(), abs=1e-4)
    assert (blue["mean"], blue["std"]) == (-1, 0)
    third = pytest.approx(1 / 3, abs=1e-4)
    assert [red["histogram"][k] for k in (0, 6, 31)] == [third] * 3 and sum(red["histogram"]) == pytest.approx(1, abs=1e-3)


def test_classes_captions_and_duplicates_are_counted():
    stats = statistics(Painted([0, 51, 255, 255]))
    assert stats["classes"] == {"dark": 1, "bright": 2, "never": 0} and stats["no_label"] == 1 and stats["duplicates"] == 1
    captions = stats["captions"]
    assert captions["words"] == [1, 2.5, 4] and captions["lengths"] == {1: 2, 4: 2} and captions["distinct"] == 2 and captions["empty"] == 0
    assert captions["most_common"][0] == ("dark", 4) and captions["vocabulary"] == 4


def test_a_large_data_set_is_looked_at_in_even_steps_and_an_endless_one_for_a_while():
    stats = statistics(Painted(range(100)), examples=10)
    assert stats["examples"] == 100 and stats["looked_at"] == 10 and stats["colours"]["red"]["mean"] == pytest.approx(45 / 127.5 - 1, abs=1e-4)
    stats = statistics(Painted(range(100), length=ENDLESS))
    assert stats["examples"] is None and stats["looked_at"] == 4000


def figures_match(out, expected):
    assert {path.name for path in out.glob("*.png")} == set(expected)
    text = (out / "README.md").read_text()
    for name in expected:
        image = Image.open(out / name)
        assert f"]({name})" in text and image.size[0] > 100 and len(image.convert("RGB").getcolors(2**20)) > 5, name
    return text


@pytest.mark.slow
def test_the_report_on_a_folder_names_broken_files_and_draws_every_figure(tmp_path):
    for k in range(12):
        picture(tmp_path / "mine" / "ab"[k % 2] / f"{k:02d}.jpg", seed=k, size=(16 + k, 16)).with_suffix(".txt").write_text("a bird " + "sings " * (k % 3))
    (tmp_path / "mine" / "a" / "00.jpg").write_text("no picture")
    stats = inspect("folder", tmp_path / "mine", tmp_path / "out")
    text = figures_match(tmp_path / "out", ["pictures.png", "classes.png", "sizes.png", "colours.png", "words.png", "lengths.png", "augmentations.png"])
    assert "`a/00.jpg`: not a picture" in text and stats["broken"] == 1 and stats["classes"] == {"a": 5, "b": 6}
    assert stats["sizes"]["width"] == [17, 22, 27] and stats["sizes"]["shorter_side"] == [16, 16, 16]
    assert json.loads((tmp_path / "out" / "stats.json").read_text())["colours"] == stats["colours"]
    assert str(tmp_path) not in text + (tmp_path / "out" / "stats.json").read_text()


@pytest.mark.slow
def test_every_caption_of_a_picture_counts_and_missing_files_are_not_broken(tmp_path):
    root = tmp_path / "mine"
    for k in range(3):
        picture(root / f"{k}.jpg", seed=k).with_suffix(".txt").write_text("one\none two three four five")
    (root / "0.jpg").write_text("no picture")
    (root / "metadata.jsonl").write_text('{"file_name": "9.jpg", "text": "gone"}\n')
    (root / "a.heic").write_bytes(b"x")
    (root / "captions.json").write_text("[]")
    stats = inspect("folder", root, tmp_path / "out")
    assert stats["captions"]["all"] == 4 and stats["captions"]["words"] == [1, 3, 5] and stats["captions"]["lengths"] == {1: 2, 5: 2}
    assert (stats["broken"], stats["missing"], stats["left_out"], stats["unread"]) == (1, 1, 1, 1)
    text = (tmp_path / "out" / "README.md").read_text()
    assert "| missing files | 1 |" in text and "Missing files (the first 50):\n\n- `9.jpg`" in text and "such as a.heic" in text
    assert facts(stats)["text files, not read"] == "1, such as captions.json"


@pytest.mark.slow
def test_names_that_are_no_text_do_not_stop_the_report(tmp_path):
    picture(tmp_path / "mine" / "bar" / "a.png")
    picture(tmp_path / "mine" / "x" / "b.png")
    (tmp_path / "mine" / "x" / "c.png").write_text("no picture")
    os.rename(tmp_path / "mine" / "x", os.fsencode(tmp_path) + b"/mine/caf\xe9")
    stats = inspect("folder", tmp_path / "mine", tmp_path / "out")
    assert list(stats["classes"]) == ["bar", "caf?"] and stats["broken_files"][0][0] == "caf?/c.png"


@pytest.mark.slow
def test_the_report_on_a_sample_says_that_it_is_one(tmp_path):
    tiny_data.cifar10(tmp_path)
    inspect("cifar10", tmp_path, tmp_path / "out", note="Every picture was drawn by lot.")
    text = figures_match(tmp_path / "out", ["pictures.png", "classes.png", "colours.png", "augmentations.png"])
    assert "This copy holds 120 of the 60,000 published pictures" in text and "drawn by lot." in text


@pytest.mark.slow
def test_the_report_on_the_scenes_shows_which_classes_are_held_out(tmp_path):
    stats = inspect("shapes", None, tmp_path)
    never = [name for name, count in stats["classes"].items() if not count]
    assert never and f"No picture at all: {', '.join(never)}." in (tmp_path / "README.md").read_text()
    assert facts(stats)["pictures"] == "endless, drawn afresh" and not (tmp_path / "augmentations.png").exists()


@pytest.mark.slow
def test_a_report_on_many_classes_draws_their_sizes_as_a_curve(tmp_path):
    tiny_data.flowers102(tmp_path)
    stats = inspect("flowers102", tmp_path, tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text()
    assert "largest class first" in text and len(stats["classes"]) == 102 and (tmp_path / "out" / "classes.png").exists()


def test_a_folder_without_pictures_leaves_no_report(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no pictures"):
        inspect("folder", tmp_path / "empty", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@real("flowers102_original")
def test_the_real_flowers_are_colourful_and_large(tmp_path):
    stats = inspect("folder", REAL / "flowers102_original", tmp_path, size=32)
    assert stats["sizes"]["shorter_side"][0] == 500 and all(0.3 < stats["colours"][c]["std"] < 0.8 for c in ("red", "green", "blue"))
