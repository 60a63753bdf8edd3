"""Sampling from the command line with pictures: what to start from, what to keep, what to enlarge, what to avoid."""
import json

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_glide import preset

from t2ilab.cli import commands as cli
from t2ilab.runs.load import load
from t2ilab.runs.train import train
from t2ilab.tensors import from_uint8, to_uint8

pytestmark = pytest.mark.slow           # it trains, samples or converts models


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("glide") / "run"
    list(train(preset(), out))
    return out


@pytest.fixture(scope="module")
def upsampler(tmp_path_factory):
    out = tmp_path_factory.mktemp("glide") / "upsampler"
    list(train(preset(low_res=4), out))
    return out


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = np.arange(8 * 12 * 3, dtype=np.uint8).reshape(8, 12, 3)
    Image.fromarray(rows).save("photo.png")
    mask = np.zeros((8, 12), np.uint8)
    mask[:, 6:] = 255
    Image.fromarray(mask).save("mask.png")
    Image.fromarray(rows[:4, :4]).save("small.png")
    Image.fromarray(rows[:5]).save("other.png")
    return tmp_path


def drawn(here) -> np.ndarray:
    path, = here.glob("out/000_*.png")
    return np.asarray(Image.open(path))


def sample(run, *options) -> int:
    return cli.main(["sample", str(run), "a red circle", "--out", "out", *options])


def test_only_the_white_part_of_a_mask_is_painted_anew(run, here):
    assert sample(run, "--init-image", "photo.png", "--mask", "mask.png") == 0
    photo = np.asarray(Image.open("photo.png"))[:, 2:10]                # the middle of 12 x 8 is 8 x 8
    assert np.array_equal(drawn(here)[:, :4], photo[:, :4]) and not np.array_equal(drawn(here)[:, 4:], photo[:, 4:])
    record = json.loads((here / "out" / "samples.json").read_text())
    assert (record["init_image"], record["mask"], record["strength"]) == ("photo.png", "mask.png", 1.0)


def test_a_little_strength_stays_near_the_photo(run, here):
    photo = np.asarray(Image.open("photo.png"))[:, 2:10].astype(int)
    far = {}
    for strength in ("0.1", "1.0"):
        assert sample(run, "--init-image", "photo.png", "--strength", strength, "--sampling-steps", "50") == 0
        far[strength] = abs(drawn(here).astype(int) - photo).mean()
    assert far["0.1"] < far["1.0"]


def test_a_negative_caption_changes_the_picture_and_is_recorded(run, here):
    pictures = {}
    for words in ("", "green square", "blue"):
        assert sample(run, "--negative-prompt", words, "--guidance-scale", "4") == 0
        pictures[words] = drawn(here).tobytes()
    assert sample(run, "--guidance-scale", "4") == 0 and drawn(here).tobytes() == pictures[""]
    want = load(run, guidance_scale=4.0)(["a red circle"], negative_prompt=["blue"])
    assert pictures["blue"] == to_uint8(want[0]).permute(1, 2, 0).numpy().tobytes()


def test_an_upsampler_enlarges_a_picture_from_a_file(upsampler, here):
    assert sample(upsampler, "--low-res-image", "small.png") == 0
    small = from_uint8(torch.from_numpy(np.asarray(Image.open("small.png")).copy()).permute(2, 0, 1))[None]
    want = load(upsampler)(["a red circle"], low_res_image=small)
    assert np.array_equal(drawn(here), to_uint8(want[0]).permute(1, 2, 0).numpy())


def test_more_captions_than_a_batch_holds_are_drawn_in_turns(run, here):
    assert cli.main(["sample", str(run), *["a red circle"] * 66, "--out", "out"]) == 0
    assert len(list(here.glob("out/0*.png"))) == 66


@pytest.mark.parametrize("options, said", [
    (["--mask", "mask.png"], "give --init-image too"),
    (["--strength", "0.5"], "give --init-image too"),
    (["--init-image", "photo.png", "--mask", "other.png"], "another size"),
    (["--init-image", "photo.png", "--strength", "0"], "strength=0.0: choose a number above 0"),
    (["--init-image", "photo.png", "--strength", "0.001"], "no step is left"),
    (["--init-image", "nowhere.png"], "nowhere.png"),
    (["--init-image", "out"], "out")])
def test_a_mistake_is_one_line(options, said, run, here, capsys):
    (here / "out").mkdir()
    assert sample(run, *options) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("t2ilab: ") and said in line


def test_an_upsampler_without_a_picture_says_what_it_needs(upsampler, here, capsys):
    assert sample(upsampler) == 1
    assert "--low-res-image" in capsys.readouterr().err.splitlines()[-1]
