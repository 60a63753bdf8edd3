"""The speed run: its clock, what it measures, and its log."""
import json
import shlex
import sys
from dataclasses import replace

import pytest
import torch

from t2ilab.cli.commands import main
from t2ilab.data.datasets import open_data
from t2ilab.data.shapes import parse_caption
from t2ilab.presets import PRESETS, DataConfig
from t2ilab.runs.speedrun import Race, keep, race, record
from t2ilab.tensors import generator

QUICK = PRESETS["quick-one"]
TINY = replace(
    QUICK, model=replace(QUICK.model, net=replace(QUICK.model.net, channels=16, head_channels=16), sampling_steps=2),
    fit=replace(QUICK.fit, steps=3, batch_size=4))


@pytest.fixture(scope="module")
def ran():
    logs = []

    def watch(steps):
        for log, model in steps:
            logs.append(log)
            yield log, model
    return race(TINY, seed=1, n=3, watch=watch), logs


def test_the_clock_is_the_sum_of_the_steps(ran):
    (reached, images, captions), logs = ran
    assert [log.step for log in logs] == [1, 2, 3]
    assert reached["seed"] == 1 and reached["seconds"] == round(sum(log.seconds for log in logs), 1)
    assert images.shape == (3, 3, 32, 32) and len(captions) == 3


def test_a_model_of_one_object_is_asked_for_one_object_alone(ran):
    (reached, _, captions), _ = ran
    assert list(reached) == ["seed", "seconds", "one_object", "held_out_one"]
    assert all(len(parse_caption(caption).objects) == 1 for caption in captions)
    both = race(replace(TINY, data=DataConfig("shapes"), fit=replace(TINY.fit, steps=1)), n=2)
    assert list(both.reached)[2:] == ["one_object", "two_objects", "held_out_one", "held_out_two"]
    assert all(len(parse_caption(caption).objects) == 2 for caption in both.captions)


def test_the_data_set_of_one_object_has_no_scene_of_two():
    scenes = open_data("shapes-one", size=32)
    assert all(len(scenes.draw(generator(0, k))[0].objects) == 1 for k in range(50))
    assert any(len(open_data("shapes", size=32).draw(generator(0, k))[0].objects) == 2 for k in range(50))


@pytest.mark.parametrize("preset", ["ddpm-shapes", "glide-flowers102", "glide-shapes-upsampler", "vq-codec-shapes"])
def test_only_models_that_draw_scenes_from_captions_race(preset):
    with pytest.raises(ValueError, match=f"^{preset}: a speed run is for models that draw scenes from captions$"):
        race(PRESETS[preset])


def test_a_row_has_the_mean_of_its_races_and_stays_beside_the_older_ones(tmp_path):
    images = torch.zeros(1, 3, 32, 32)
    races = [Race({"seed": k, "seconds": 10.0 + k, "one_object": 0.9 + 0.02 * k}, images, ["a"]) for k in range(3)]
    row = record(QUICK, races, change="Muon")
    assert (row["seconds"], row["one_object"], row["races"][2]["seconds"]) == (11.0, 0.92, 12.0)
    keep(row, tmp_path / "log")
    assert keep(row | {"change": "wider"}, tmp_path / "log") == json.loads((tmp_path / "log/records.json").read_text())
    assert [one["change"] for one in json.loads((tmp_path / "log/records.json").read_text())] == ["Muon", "wider"]
    assert (tmp_path / "log/records.png").stat().st_size > 1000


@pytest.mark.slow
def test_the_command_adds_a_row_with_itself_in_it(tmp_path, monkeypatch, capsys):
    command = ("t2ilab speedrun quick-one --steps 2 --batch-size 2 --channels 16 --head-channels 16 --sampling-steps 2 "
               f"--seeds 2 --n 2 --change 'a test' --out {tmp_path}")
    monkeypatch.setattr(sys, "argv", shlex.split(command))
    assert main() == 0
    [row] = json.loads((tmp_path / "records.json").read_text())
    assert row["change"] == "a test" and [one["seed"] for one in row["races"]] == [0, 1] and row["command"] == command
    assert "a test" in capsys.readouterr().out and (tmp_path / "quick-one.png").is_file()


def test_only_presets_that_can_race_are_offered(capsys):
    with pytest.raises(SystemExit):
        main(["speedrun", "ddpm-shapes"])
    assert "no preset ddpm-shapes" in (said := capsys.readouterr().err) and "quick-one, quick" in said


def test_a_race_of_nothing_is_one_line(capsys):
    assert main(["speedrun", "quick-one", "--seeds", "0"]) == 1
    assert capsys.readouterr().err == "t2ilab: seeds=0: choose 1 or more\n"
