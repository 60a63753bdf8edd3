"""Runs of two stages: `t2ilab train` trains them one after the other, a kill in the second loses nothing, and `load` puts them together."""
import json
import multiprocessing
import os
import shutil
import signal
from dataclasses import replace

import pytest
import torch
from tiny_glide import BASE, UPSAMPLER
from tiny_runs import logged, names, saved

from t2ilab.cli import commands as cli
from t2ilab.data.shapes import Scenes
from t2ilab.presets import PRESETS, SaveConfig
from t2ilab.runs.cascade import cascade, plan
from t2ilab.runs.export import export
from t2ilab.runs.folder import find_run, read_preset
from t2ilab.runs.load import load
from t2ilab.runs.train import train as train_run
from t2ilab.training.fit import FitConfig

pytestmark = pytest.mark.slow           # it trains, samples or converts models

FIT = FitConfig(steps=6, batch_size=4, warmup=2, precision="fp32")
LATER = "glide-shapes-upsampler"
SMALL = {name: replace(PRESETS[name], model=replace(model, text=replace(model.text, vocabulary=270, text_length=99)), fit=FIT, save=SaveConfig(2, sample_steps=0))
         for name, model in (("glide-shapes", BASE), (LATER, UPSAMPLER))}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """The published presets, made tiny."""
    for name, preset in SMALL.items():
        monkeypatch.setitem(PRESETS, name, preset)


def train_until_killed(out, step):
    """Train a tiny cascade in a process of its own, which kill -9 ends after a step of the upsampler."""
    PRESETS.update(SMALL)
    for part, folder in cascade(SMALL["glide-shapes"], out):
        for log, _ in train_run(part, folder):
            if part.name == LATER and log.step == step:
                os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A cascade that was trained in one go."""
    out = tmp_path_factory.mktemp("cascade") / "run"
    kept = dict(PRESETS)
    PRESETS.update(SMALL)
    try:
        for part, folder in cascade(SMALL["glide-shapes"], out):
            list(train_run(part, folder))
    finally:
        PRESETS.update(kept)
    return out


def test_every_preset_that_comes_later_exists_and_enlarges_what_the_first_draws():
    for preset in PRESETS.values():
        chain = [preset, *map(PRESETS.get, preset.cascade)]
        for before, later in zip(chain, chain[1:]):
            assert later.model.low_res == before.model.size and type(later.model) is type(preset.model) and later.cascade == ()


def test_a_cascade_is_a_run_inside_a_run_on_the_same_data(tmp_path):
    preset = replace(SMALL["glide-shapes"], data=replace(PRESETS["glide-shapes"].data, split="held_out"), save=SaveConfig(keep=5))
    (first, here), (second, inside) = cascade(preset, tmp_path)
    assert first is preset and (here, inside) == (tmp_path, tmp_path / LATER)
    assert second == replace(SMALL[LATER], data=preset.data, save=preset.save) and cascade(SMALL[LATER], tmp_path) == [(SMALL[LATER], tmp_path)]


def test_training_from_the_command_line_trains_the_stages_one_by_one(whole, tmp_path, capsys):
    out = tmp_path / "run"
    words = ("--size 8 --T 1000 --channels 8 --channel-mult 1 2 --attention False True --head-channels 8 --patch 1 --text-width 8 --vocabulary 270 --text-length 99 "
             "--text-layers 1 --text-heads 2 --sampling-steps 3 --optimizer adamw --lr 0.001 --decay cosine --ema-decay 0.999 --steps 6 --batch-size 4 --warmup 2 --precision fp32 --checkpoint-steps 2 --sample-steps 0").split()
    assert cli.main(["train", "glide-shapes", *words, "--out", str(out)]) == 0
    plan, *said = capsys.readouterr().out.splitlines()
    assert plan == f"2 stages: glide-shapes 6 steps, then {LATER} 6 steps"
    assert [line.split(": ")[0] for line in said] == [str(out), str(out / LATER)]
    assert names(out) == ["checkpoints", "config.json", LATER, "log.jsonl", "tensorboard"]
    assert [row["step"] for row in logged(out)] == [row["step"] for row in logged(out / LATER)] == list(range(1, 7))
    assert saved(out / LATER) == saved(whole / LATER)
    assert read_preset(out).cascade == (LATER,) and read_preset(out / LATER).model.low_res == 8


def test_a_run_killed_in_its_second_stage_ends_bit_for_bit_as_if_nothing_had_happened(whole, tmp_path):
    if "forkserver" not in multiprocessing.get_all_start_methods():
        pytest.skip("this system cannot fork")
    process = multiprocessing.get_context("forkserver").Process(target=train_until_killed, args=(tmp_path / "killed", 5), daemon=True)
    process.start()
    process.join(120)
    killed = tmp_path / "killed"
    assert process.exitcode == -signal.SIGKILL and len(logged(killed)) == 6 and 4 <= len(logged(killed / LATER)) < 6
    first = saved(killed)
    assert names(killed / LATER / "checkpoints")[-1] == "step-00000004"
    assert cli.main(["resume", str(killed)]) == 0
    assert saved(killed) == first == saved(whole) and saved(killed / LATER) == saved(whole / LATER)
    for run in (killed, killed / LATER):
        there = whole if run == killed else whole / LATER
        assert [row["loss"] for row in logged(run)] == [row["loss"] for row in logged(there)]
        assert read_preset(run).model.merges == read_preset(there).model.merges != ()


def test_a_resumed_run_keeps_its_vocabulary_even_if_the_captions_change(whole, tmp_path, monkeypatch):
    copy = tmp_path / "copy"
    shutil.copytree(whole, copy)
    merges = read_preset(copy).model.merges
    assert len(merges) == 13
    monkeypatch.setattr(Scenes, "texts", lambda self: ["zzz yyy xxx"] * 9)
    assert cli.main(["resume", str(copy / LATER), "--steps", "7"]) == 0
    assert len(logged(copy / LATER)) == 7 and read_preset(copy / LATER).model.merges == merges == load(copy).encode_text.merges


def test_load_joins_the_stages_and_can_leave_the_second_out(whole):
    both, first, second = load(whole), load(whole, cascade=False), load(whole / LATER)
    assert [s.shape for s in both.stages] == [(3, 8, 8), (3, 16, 16)] and [s.shape for s in first.stages] == [(3, 8, 8)]
    for loaded, alone in zip(both.stages, (first.stages[0], second.stages[0])):
        alone = alone.denoiser.state_dict()
        assert all(torch.equal(v, alone[k]) for k, v in loaded.denoiser.state_dict().items()) and not loaded.denoiser.training
    assert first.encode_text == both.encode_text == second.encode_text
    small, large = first(["a red circle"], seed=3), both(["a red circle"], seed=3)
    assert small.shape == (1, 3, 8, 8) and large.shape == (1, 3, 16, 16)
    assert torch.equal([v for n, v in both.walk(["a red circle"], seed=3) if n == "frame"][2].x.clamp(-1, 1), small)


def test_load_finds_the_second_stage_from_a_checkpoint_too_and_options_are_the_first_stages(whole):
    pipeline = load(find_run(whole), sampling_steps=5, guidance_scale=7.0)
    assert [(s.steps, s.guidance_scale) for s in pipeline.stages] == [(5, 7.0), (2, 1.0)]


def test_a_second_stage_that_is_not_trained_yet_is_left_out(whole, tmp_path):
    copy = shutil.copytree(whole, tmp_path / "copy")
    shutil.rmtree(copy / LATER / "checkpoints")
    assert len(load(copy).stages) == 1


def test_a_second_stage_with_another_vocabulary_is_refused_in_one_line(whole, tmp_path):
    copy = shutil.copytree(whole, tmp_path / "copy")
    export(find_run(copy / LATER), copy / "plain")
    shutil.rmtree(copy / LATER)
    (copy / "plain").rename(copy / LATER)
    assert len(load(copy).stages) == 2                                      # an exported stage will do
    config = json.loads((copy / LATER / "config.json").read_text())
    config["model"]["merges"] = config["model"]["merges"][:-1]
    (copy / LATER / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=f"{LATER} reads captions with another vocabulary than .*copy") as error:
        load(copy)
    assert "\n" not in str(error.value) and len(load(copy, cascade=False).stages) == 1


def test_a_later_stage_that_has_begun_goes_on_as_it_is(tmp_path):
    first, own = SMALL["glide-shapes"], replace(SMALL[LATER], fit=replace(FIT, seed=5))
    list(train_run(own, tmp_path / LATER))
    (_, (later, _)) = cascade(first, tmp_path)
    assert later.fit.seed == 5 and len(later.model.merges) > 0


def test_a_stage_beside_its_first_is_found_too(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "base")
    shutil.move(tmp_path / "base" / LATER, tmp_path / LATER)
    assert len(load(tmp_path / "base").stages) == 2


def test_later_stages_take_over_the_vocabulary_the_data_and_the_size_of_the_first(tmp_path):
    first = SMALL["glide-shapes"]
    changed = replace(first, model=replace(first.model, size=first.model.size // 2, text=replace(first.model.text, text_length=50)),
                      data=replace(first.data, split="held_out"))
    (_, (later, folder)) = cascade(changed, tmp_path)
    assert (later.model.low_res, later.model.text, later.data, folder) == (changed.model.size, changed.model.text, changed.data, tmp_path / LATER)
    with pytest.raises(ValueError, match=f"{LATER} draws {later.model.size} px, so it cannot enlarge the {later.model.size} px of glide-shapes"):
        cascade(replace(first, model=replace(first.model, size=later.model.size)), tmp_path)


def test_fit_options_that_were_asked_for_are_every_stages(tmp_path):
    first = replace(SMALL["glide-shapes"], fit=replace(FIT, steps=10, batch_size=2, precision="bf16"))
    monkeypatched = replace(SMALL[LATER], fit=replace(FIT, lr=5e-4))
    PRESETS[LATER] = monkeypatched                                          # the fixture puts it back
    parts = cascade(first, tmp_path)
    assert parts[1][0].fit == replace(FIT, lr=5e-4, steps=10, batch_size=2, precision="bf16")
    assert plan(parts) == f"2 stages: glide-shapes 10 steps, then {LATER} 10 steps"


def test_a_new_number_of_steps_reaches_a_stage_that_has_begun(whole, tmp_path, capsys):
    copy = shutil.copytree(whole, tmp_path / "copy")
    assert cli.main(["resume", str(copy), "--steps", "7"]) == 0
    assert [len(logged(run)) for run in (copy, copy / LATER)] == [7, 7]
    assert capsys.readouterr().out.startswith(f"2 stages: glide-shapes 7 steps, then {LATER} 7 steps\n")
    assert [preset.fit.steps for preset, _ in cascade(read_preset(copy), copy)] == [7, 7]
