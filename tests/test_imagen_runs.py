"""Imagen from the command line: stages trained apart or side by side, a part held back, weights to begin with, captions from a file."""
import json
from dataclasses import replace
from itertools import islice

import pytest
import torch
from tiny_data import one_line
from tiny_imagen import BASE, UPSAMPLER
from tiny_runs import digests, logged, names, saved

from t2ilab.cli import commands as cli
from t2ilab.cli.train import train_all
from t2ilab.data.captions import read_captions
from t2ilab.data.loaders import HoldoutSplit, stream
from t2ilab.data.shapes import Scenes
from t2ilab.evaluation.caption_metrics import SEED
from t2ilab.presets import PRESETS, DataConfig, SaveConfig
from t2ilab.runs.cascade import cascade
from t2ilab.runs.folder import find_run, preset_from_dict
from t2ilab.runs.load import load
from t2ilab.runs.train import train
from t2ilab.tensors import generator
from t2ilab.text import frozen_encoder
from t2ilab.text.find_encoder import fingerprint
from t2ilab.training.fit import FitConfig

pytestmark = pytest.mark.slow           # it trains, samples or converts models

LATER = "imagen-shapes-upsampler"
SMALL = {name: replace(PRESETS[name], model=model, fit=FitConfig(steps=4, batch_size=4, warmup=2, precision="fp32"), save=SaveConfig(2, sample_steps=0))
         for name, model in (("imagen-shapes", BASE), (LATER, UPSAMPLER))}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """The published presets, made tiny."""
    for name, preset in SMALL.items():
        monkeypatch.setitem(PRESETS, name, preset)


@pytest.fixture
def trained(tmp_path):
    """Both stages, trained one after the other."""
    train_all(SMALL["imagen-shapes"], tmp_path / "run")
    return tmp_path / "run"


def test_stages_trained_side_by_side_are_those_trained_one_after_the_other_bit_for_bit(trained, tmp_path):
    train_all(SMALL["imagen-shapes"], tmp_path / "both", interleave=True)
    assert saved(tmp_path / "both") == saved(trained) and saved(tmp_path / "both" / LATER) == saved(trained / LATER)
    assert load(tmp_path / "both")(["a red circle"]).shape == (1, 3, 16, 16)


def test_a_stage_killed_on_the_way_ends_bit_for_bit_as_if_nothing_had_happened(trained, tmp_path):
    for part, folder in cascade(SMALL["imagen-shapes"], tmp_path / "killed"):
        for log, _ in train(part, folder):
            if part.name == LATER and log.step == 3:
                break
    assert len(logged(tmp_path / "killed" / LATER)) == 3 and cli.main(["resume", str(tmp_path / "killed")]) == 0
    assert saved(tmp_path / "killed") == saved(trained) and saved(tmp_path / "killed" / LATER) == saved(trained / LATER)


def test_one_stage_can_be_trained_alone(tmp_path, monkeypatch):
    train_all(SMALL["imagen-shapes"], tmp_path / "run", whole=False)
    assert LATER not in names(tmp_path / "run") and len(load(tmp_path / "run").stages) == 1
    train_all(SMALL[LATER], tmp_path / "run" / LATER)                              # the second when there is time for it
    assert len(load(tmp_path / "run").stages) == 2
    seen = []
    monkeypatch.setattr("t2ilab.cli.train.train_all", lambda preset, out, whole, interleave=False: seen.append((preset.name, whole, interleave)))
    for words in (["train", "imagen-shapes"], ["train", "imagen-shapes", "--no-cascade"], ["train", "imagen-shapes", "--interleave"], ["train", LATER]):
        assert cli.main([*words, "--out", str(tmp_path)]) == 0
    assert cli.main(["resume", str(tmp_path / "run"), "--no-cascade"]) == 0
    assert seen == [("imagen-shapes", True, False), ("imagen-shapes", False, False), ("imagen-shapes", True, True), (LATER, True, False),
                    ("imagen-shapes", False, False)]


@pytest.mark.parametrize("preset", SMALL.values(), ids=SMALL)
def test_a_run_is_built_from_its_config_alone_whichever_network_it_has(preset):
    assert preset_from_dict(json.loads(json.dumps(preset.to_dict()))) == preset


def test_a_third_stage_enlarges_what_the_second_draws(tmp_path, monkeypatch):
    third = replace(SMALL[LATER], name="third", model=replace(UPSAMPLER, size=32, low_res=16))
    monkeypatch.setitem(PRESETS, "third", third)
    first = replace(SMALL["imagen-shapes"], cascade=(LATER, "third"))
    assert [part.model.low_res for part, _ in cascade(first, tmp_path)] == [0, 8, 16]
    train_all(first, tmp_path)
    assert [stage.shape[-1] for stage in load(tmp_path).stages] == [8, 16, 32] and load(tmp_path)(["a red circle"]).shape == (1, 3, 32, 32)


# What is held back

class Numbers:
    """A data set of n examples, each its own number."""
    classes = ("a",)

    def __init__(self, n):
        self.n = n

    def __len__(self):
        return self.n

    def example(self, index, generator):
        return index

    def texts(self):
        return ["x"]


@pytest.mark.parametrize("n, every", [(10, 2), (11, 2), (10, 3), (100, 7), (1, 2)])
def test_every_example_is_trained_on_or_held_back_and_none_is_both(n, every):
    parts = [HoldoutSplit(Numbers(n), every, held) for held in (False, True)]
    trained, held = ([part.example(k, None) for k in range(len(part))] for part in parts)
    assert sorted(trained + held) == list(range(n)) and held == list(range(0, n, every))
    assert parts[0].texts() == ["x"] and parts[0].classes == ("a",)


def test_endless_scenes_stay_endless():
    part = HoldoutSplit(Scenes(size=8), 10)
    assert len(part) == len(Scenes()) and part.example(3, generator(0)).caption == Scenes(size=8).example(4, generator(0)).caption


def test_what_is_held_back_of_the_endless_scenes_is_in_no_training_batch(tmp_path):
    kept, held = (HoldoutSplit(Scenes(size=8), 10, held=side) for side in (False, True))
    seen = torch.cat([batch.images for batch in islice(stream(kept, batch_size=64, seed=3), 20)])
    never = next(stream(held, batch_size=64, seed=3)).images
    same = (seen[:, None] == never).flatten(2).all(2).any(0)                        # [64]: the world is finite, so a few come again by chance
    assert same.double().mean() < 0.2 and not torch.equal(seen[:64], never)
    assert torch.equal(never, next(stream(held, batch_size=64, seed=3)).images)
    assert not torch.equal(never, next(stream(held, batch_size=64, seed=4)).images)


def test_training_on_the_scenes_of_the_evaluation_is_refused(tmp_path):
    preset = SMALL["imagen-shapes"]
    with pytest.raises(ValueError, match="seed=20000 would train on the very scenes that evaluation draws: choose another"):
        next(train(replace(preset, fit=replace(preset.fit, seed=SEED)), tmp_path))


def test_the_loss_on_what_is_held_back_is_measured_when_it_is_due_and_with_the_same_noise(tmp_path):
    preset = replace(SMALL["imagen-shapes"], data=DataConfig(validation=0.1), save=SaveConfig(2, sample_steps=0, validate_steps=3))
    for name in "ab":
        list(train(preset, tmp_path / name))
    rows = logged(tmp_path / "a")
    assert [row["step"] for row in rows if "validation" in row] == [3, 4] and all(0 < row["validation"] < 20 for row in rows[2:])
    assert [row.get("validation") for row in rows] == [row.get("validation") for row in logged(tmp_path / "b")]
    with pytest.raises(ValueError, match="validation=0.9: choose a share from 0 to 0.5"):
        DataConfig(validation=0.9)


# Weights to begin with

def test_a_run_begins_with_the_weights_of_another_which_stays_as_it_is(trained, tmp_path):
    before = digests(trained)
    new = replace(SMALL["imagen-shapes"], init_from=str(trained), fit=replace(SMALL["imagen-shapes"].fit, lr=1e-30))
    list(train(new, tmp_path / "new"))
    assert digests(trained) == before and digests(find_run(tmp_path / "new"))["model.safetensors"] != before
    old, now = (load(folder, cascade=False).stages[0].denoiser.state_dict() for folder in (trained, tmp_path / "new"))
    assert all(torch.allclose(v, old[k], atol=1e-6) for k, v in now.items())
    assert [row["step"] for row in logged(tmp_path / "new")] == [1, 2, 3, 4]


def test_a_start_that_does_not_fit_or_is_not_there_is_one_line(trained, tmp_path):
    wider = replace(SMALL["imagen-shapes"], init_from=str(trained), model=replace(BASE, net=replace(BASE.net, channels=16)))
    with one_line(ValueError, "does not fit this model"):
        list(train(wider, tmp_path / "new"))
    with one_line(FileNotFoundError, "nowhere: no trained run there"):
        list(train(replace(SMALL["imagen-shapes"], init_from="nowhere"), tmp_path / "other"))


# Captions from a file

def test_captions_come_from_a_file_and_from_the_command_line(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "captions.txt").write_text("\ufeffa red circle\n\n  a blue square \r\n\u0642\u0637\u0629\n", "utf8")
    assert cli.main(["sample", str(trained), "a green triangle", "--captions", "captions.txt", "--out", "out"]) == 0
    assert json.loads((tmp_path / "out" / "samples.json").read_text("utf8"))["captions"] == ["a green triangle", "a red circle", "a blue square", "\u0642\u0637\u0629"]
    assert len([name for name in names(tmp_path / "out") if name.startswith("00")]) == 4


@pytest.mark.parametrize("content, said", [(b"", "no captions there"), (b"\n \n", "no captions there"), (b"\xff\xfe\x00", "begins like UTF-16 and is none")])
def test_a_file_without_captions_is_one_line(content, said, tmp_path):
    (tmp_path / "captions.txt").write_bytes(content)
    with one_line(ValueError, said):
        read_captions(tmp_path / "captions.txt")


# A language model of one's own

def test_an_encoder_trained_on_a_file_of_texts_reads_captions_for_a_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts.txt").write_text("a dog runs\na cat sleeps on a mat\n", "utf8")
    words = "--steps 2 --batch-size 4 --width 16 --hidden 16 --layers 1 --heads 2 --warmup 1".split()
    assert cli.main(["pretrain", "--texts", "texts.txt", "--out", "reader", *words]) == 0
    assert "--encoder reader --encoder-width 16" in capsys.readouterr().out
    assert names(tmp_path / "reader") == ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    preset = replace(SMALL["imagen-shapes"], model=replace(BASE, encoder="reader", text_length=40))
    list(train(preset, tmp_path / "run"))
    assert load(tmp_path / "run", cascade=False)(["a dog sleeps"]).shape == (1, 3, 8, 8)


def test_an_encoder_is_told_from_others_once_per_run(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(frozen_encoder, "fingerprint", lambda folder: told.append(folder) or fingerprint(folder))
    preset = replace(SMALL["imagen-shapes"], model=replace(BASE), save=SaveConfig(2, sample_steps=2))
    assert len(list(train(preset, tmp_path))) == 4 and len(told) == 1
