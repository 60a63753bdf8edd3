"""Sampling as a user meets it: numbers out of range and forgotten quotes before anything is loaded, unknown words said, no mix of old and new files."""
import json

import pytest
from tiny_runs import names, run  # noqa: F401

import t2ilab
from t2ilab.cli import commands as cli
from t2ilab.presets import PRESETS
from t2ilab.runs import load as loading
from t2ilab.runs.sample import check_words, unknown_words


@pytest.mark.parametrize("options, said", [
    (["--sampling-steps", "0"], "sampling_steps=0: choose 1 or more"), (["--guidance-scale", "nan"], "guidance_scale=nan: choose a number"),
    (["--guidance-scale", "1e308"], "guidance_scale=1e+308: choose a number"), (["--truncation", "1.5"], "truncation=1.5: choose a number above 0"),
    (["--truncation", "nan"], "truncation=nan"), (["--top-k", "-1"], "top_k=-1: choose 0 or more"), (["--prior-weight", "inf"], "prior_weight=inf"),
    (["--strength", "0", "--init-image", "x.png"], "strength=0.0: choose a number above 0"), (["--mask", "x.png"], "give --init-image too")])
def test_a_number_out_of_range_is_said_before_anything_is_loaded(options, said, run, monkeypatch, capsys):  # noqa: F811
    monkeypatch.setattr(loading, "load", lambda *_, **__: pytest.fail("loaded"))
    assert cli.main(["sample", str(run), *options]) == 1
    line, = capsys.readouterr().err.splitlines()
    assert said in line


def test_python_is_told_too(run):  # noqa: F811
    for name, value in (("guidance_scale", float("nan")), ("sampling_steps", 0), ("temperature", 0.0)):
        with pytest.raises(ValueError, match=f"{name}=.*: choose"):
            t2ilab.sample(run, 1, **{name: value})


def test_forgotten_quotes_are_one_line_and_labels_are_none():
    words = "a large red circle".split()
    with pytest.raises(ValueError, match='4 captions of one word each: put quotes around a caption, as in "a large red circle"'):
        check_words(PRESETS["glide-shapes"], words)
    for name, captions in (("ddpm-shapes", words), ("vq-flowers102-small", ["sunflower", "rose"]), ("glide-shapes", ["sunflower"]),
                           ("glide-shapes", ["a red circle", "circle"])):
        check_words(PRESETS[name], captions)


def test_only_words_that_the_scenes_have_not_are_unknown():
    known = ["a large red circle left of a small blue square on a white background", "", "A small yellow triangle, at the top-left"]
    assert unknown_words(PRESETS["glide-shapes"], known) == []
    assert unknown_words(PRESETS["vq-shapes"], [*known, "a photo of a dog, a red Pentagon"]) == ["photo", "dog", "pentagon"]
    assert unknown_words(PRESETS["ddpm-shapes"], ["dog"]) == unknown_words(PRESETS["glide-flowers102"], ["dog"]) == []


def test_unknown_words_are_said_in_one_line_and_drawn_all_the_same(tmp_path, capsys):
    assert cli.main(["sample", "glide-shapes", "a pink pentagon", "--sampling-steps", "1", "--no-cascade", "--out", str(tmp_path)]) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "never shown" in line]
    assert len(said) == 1 and said[0].startswith("t2ilab: this model was never shown pink, pentagon:")


def test_fewer_pictures_leave_no_older_ones_and_files_of_others_stay(run, tmp_path, capsys):  # noqa: F811
    for name in ("holiday.png", "000_mine_seed0.png"):
        (tmp_path / name).write_bytes(b"mine")
    assert cli.main(["sample", str(run), "--n", "3", "--out", str(tmp_path)]) == 0
    record = json.loads((tmp_path / "samples.json").read_text())
    assert record["files"] == [f"{k:03d}_sample_seed0.png" for k in range(3)]
    assert cli.main(["sample", str(run), "red circle", "--seed", "5", "--out", str(tmp_path)]) == 0
    assert names(tmp_path) == ["000_mine_seed0.png", "000_red-circle_seed5.png", "grid.png", "holiday.png", "samples.json"]
    assert "1 picture in" in capsys.readouterr().out


def test_a_list_of_files_that_is_not_ours_removes_nothing(run, tmp_path):  # noqa: F811
    (tmp_path / "keep.png").write_bytes(b"mine")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "samples.json").write_text(json.dumps({"files": ["../keep.png", "grid.png", 5, "../000_a_seed0.png"]}))
    t2ilab.sample(run, 1, out=tmp_path / "out")
    assert (tmp_path / "keep.png").is_file() and (tmp_path / "out" / "grid.png").is_file()


def test_the_record_says_what_was_really_used(run, tmp_path):  # noqa: F811
    t2ilab.sample(run, ["4"], out=tmp_path)
    record = json.loads((tmp_path / "samples.json").read_text())
    assert (record["sampler"], record["sampling_steps"], record["guidance_scale"]) == ("ddim", 2, 1.0) and None not in record.values()
