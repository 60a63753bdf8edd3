"""`t2ilab evaluate` by its registry: every row says what it is and of which runs; what does not apply is one line; old options say the new words."""
import json
from dataclasses import replace

import pytest
import tiny_imagen
from test_cli import help_of
from tiny_runs import TINY, mine, names, run, tiny  # noqa: F401

import t2ilab
from t2ilab.cli import commands as cli
from t2ilab.evaluation.registry import ABLATIONS, ALL, METRICS, applicable, kind
from t2ilab.presets import PRESETS, DataConfig
from t2ilab.runs.train import train

pytestmark = pytest.mark.slow           # it trains, samples or converts models


def test_every_row_stands_in_the_help_and_of_some_preset(capsys):
    text = " ".join(help_of(capsys, "evaluate").replace("│", " ").split())
    for name, row in ALL.items():
        assert f"{name} ({row.help})" in text and any(not row.refuses(preset) for preset in PRESETS.values()), name
    assert not METRICS.keys() & ABLATIONS.keys()


@pytest.mark.parametrize("name, makes_from, can", [
    ("ddpm-shapes", "labels", ["scenes"]), ("vq-shapes-free", "nothing", ["scenes"]),
    ("glide-shapes", "captions", ["alignment", "guidance", "thresholds", "choices"]),
    ("vq-shapes", "captions", ["alignment", "guidance", "methods", "choices"]),
    ("glide-shapes-upsampler", "upsampler", ["upsampling"]), ("imagen-shapes-upsampler", "upsampler", ["upsampling", "augmentation"]),
    ("vq-codec-shapes", "codec", ["reconstruction", "codebook"]), ("vq-codec-flowers102", "codec", ["reconstruction", "codebook"]),
    ("glide-flowers102", "captions", []), ("ddpm-cifar10", "nothing", [])])
def test_what_applies_follows_from_what_a_run_is(name, makes_from, can):
    assert (kind(PRESETS[name]), applicable(PRESETS[name])) == (makes_from, can)


def test_a_metric_by_its_name_and_from_python(tmp_path):
    own = tmp_path / "run"
    list(train(tiny(model={"size": 24}, fit={"steps": 1}), own))
    found = t2ilab.evaluate(own, "scenes", n=2)
    saved = json.loads((own / "metrics.json").read_text())
    assert saved == found | {"command": f"t2ilab evaluate {own} --n 2"} and found["samples"] == 2 and (own / "samples.png").is_file()
    assert t2ilab.evaluate(own, n=2, out=own / "there").keys() == found.keys() and names(own / "there") == ["metrics.json", "samples.png"]


def test_several_metrics_are_one_report_that_names_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = t2ilab.evaluate("vq-codec-shapes", ["reconstruction", "codebook"], n=2)
    saved = json.loads((tmp_path / "runs/vq-codec-shapes/metrics.json").read_text())
    assert saved["command"] == "t2ilab evaluate vq-codec-shapes reconstruction codebook --n 2" and {"psnr_one_object", "perplexity"} < found.keys()


def test_an_ablation_has_scales_and_an_old_option_says_the_new_words(tmp_path, capsys):
    list(train(replace(TINY, model=replace(tiny_imagen.BASE, size=24)), tmp_path / "run"))
    assert cli.main(["evaluate", str(tmp_path / "run"), "thresholds", "--n", "1", "--scales", "1", "2.5"]) == 0
    new = json.loads((tmp_path / "run" / "thresholds.json").read_text())
    assert new["command"].endswith("run thresholds --n 1 --scales 1 2.5") and (tmp_path / "run" / "thresholds.png").is_file()
    capsys.readouterr()
    assert cli.main(["evaluate", str(tmp_path / "run"), "--n", "1", "--thresholds", "1", "2.5"]) == 0
    assert json.loads((tmp_path / "run" / "thresholds.json").read_text()) == new and not (tmp_path / "run" / "metrics.json").exists()
    assert "--thresholds is now: t2ilab evaluate" in (said := capsys.readouterr().err) and "run thresholds --scales 1 2.5\n" in said


@pytest.mark.parametrize("words, said", [
    (["guidance"], "guidance cannot be measured of {run}: it is for runs that make pictures from captions; of this run: nothing yet"),
    (["scenes"], "scenes cannot be measured of {run}: the scene parser reads pictures of 24 px or more"), (["scene"], "'scene' is nothing to measure: did you mean scenes?"), (["fid"], "choose of alignment, scenes"),
    (["--scales", "nan"], "scales: nan is no finite number"), (["--n", "0"], "n=0: choose 1 or more")])
def test_what_does_not_apply_is_one_line(words, said, mine, capsys):  # noqa: F811
    assert cli.main(["evaluate", str(mine), *words]) == 1
    line, = capsys.readouterr().err.splitlines()
    assert said.format(run=mine) in line and not (mine / "metrics.json").exists()


def test_a_run_on_photographs_says_that_nothing_applies_yet(mine, capsys):  # noqa: F811
    for path in mine.rglob("config.json"):
        config = json.loads(path.read_text())
        config["data"] |= vars(DataConfig("cifar10"))
        path.write_text(json.dumps(config))
    (checkpoint := max((mine / "checkpoints").glob("step-*"))).joinpath("model.safetensors").rename(mine / "model.safetensors")
    __import__("shutil").rmtree(checkpoint.parent)
    assert cli.main(["evaluate", str(mine)]) == 1
    assert "was trained on cifar10: no metric applies yet; look at its pictures: t2ilab sample" in capsys.readouterr().err
