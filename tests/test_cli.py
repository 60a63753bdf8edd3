"""The command line as a newcomer meets it: help everywhere, safe file names, everything recorded, and every mistake one line."""
import inspect
import json
import logging
import re
import subprocess
import sys
import warnings
from dataclasses import fields, is_dataclass

import numpy as np
import pytest
from PIL import Image
from tiny_data import own_cache, picture  # noqa: F401
from tiny_runs import OPTIONS, TINY, digests, logged, names, tiny

from t2ilab.cli import commands as cli
from t2ilab.cli import train as training_command
from t2ilab.data.datasets import open_data
from t2ilab.data.shapes import Scenes
from t2ilab.hub import shipped
from t2ilab.presets import PRESETS
from t2ilab.runs import load as loading
from t2ilab.runs import train as training
from t2ilab.runs.folder import find_run, read_preset
from t2ilab.runs.load import load
from t2ilab.runs.train import train
from t2ilab.tensors import to_uint8
from t2ilab.training.checkpoint import verify
from t2ilab.training.fit import Log


def mistake(capsys, *args):
    """What the command says about a mistake: it must be one line, after any progress bars, with exit status 1."""
    assert cli.main([str(a) for a in args]) == 1
    out, err = capsys.readouterr()
    *bars, line = err.splitlines()
    assert line.startswith("t2ilab: ") and all("step/s" in bar or "passing over" in bar or not bar for bar in bars)
    return line


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("cli") / "run"
    list(train(TINY, out))
    return out


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder to be in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


# Help

def help_of(capsys, *args):
    with pytest.raises(SystemExit) as stop:
        cli.main([*args, "--help"])
    assert stop.value.code == 0
    return capsys.readouterr().out


def test_help_lists_every_command(capsys):
    text = help_of(capsys)
    assert all(name in text for name in cli.COMMANDS)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_explains_itself_and_its_options(name, capsys):
    text, command = " ".join(help_of(capsys, name).replace("│", " ").split()), cli.COMMANDS[name]
    assert command.__doc__.split("\n")[0].split(":")[0].rstrip(".") in text and "(default: )" not in text
    arguments = re.sub(r"\n {8}", " ", (inspect.getdoc(command).split("Args:\n") + [""])[1])
    for line in arguments.splitlines():
        assert line.split(": ", 1)[1].split(";")[0].split("(")[0].strip() in text or name == "train"


def leaves(config):
    for field in fields(config):
        value = getattr(config, field.name)
        yield from leaves(value) if is_dataclass(value) else [field.name]


@pytest.mark.slow
@pytest.mark.parametrize("name", PRESETS)
def test_every_field_of_a_preset_is_an_option_with_its_meaning(name, capsys):
    text = help_of(capsys, "train", name)
    hidden = {"name", "then", "expected", "hardware"}
    missing = [leaf for leaf in leaves(PRESETS[name]) if leaf not in hidden and f"--{leaf.replace('_', '-')}" not in text and f"--{leaf}" not in text]
    assert missing == [] and "optimiser steps" in text and "of AdamW" in text


@pytest.mark.slow
def test_presets_print_a_table_and_json(capsys):
    assert cli.main(["presets"]) == 0
    table = capsys.readouterr().out
    assert all(name in table for name in PRESETS) and "35,746,307" in table
    assert cli.main(["presets", "--json"]) == 0
    rows = {row["preset"]: row for row in json.loads(capsys.readouterr().out)}
    assert {name: rows[name]["trainable"] for name in ("ddpm-cifar10", "iddpm-cifar10", "ddpm-flowers102")} == {
        "ddpm-cifar10": 35_746_307, "iddpm-cifar10": 52_546_438, "ddpm-flowers102": 92_025_731}
    assert rows["vq-codec-coco"]["trainable"] == 68_995_971                          # as README says; what only trains it is left out
    assert {name for name in rows if rows[name]["shipped"]} == {name for name in shipped() if name in PRESETS} > {"glide-shapes"}
    assert rows.keys() == PRESETS.keys() and all(row["pixels"] in (16, 32, 64, 128, 256, 1024) for row in rows.values())


# A whole session

def test_train_resume_sample(here, capsys):
    assert cli.main(["train", "ddpm-shapes", *OPTIONS, "--steps", "3", "--out", "my run"]) == 0
    assert "t2ilab sample" in capsys.readouterr().out and len(logged(here / "my run")) == 3
    assert cli.main(["resume", "my run", "--steps", "5"]) == 0 and len(logged(here / "my run")) == 5
    assert cli.main(["sample", "my run", "Red Circle", "4", "", "--seed", "9", "--out", "pictures"]) == 0
    assert names(here / "pictures") == ["000_red-circle_seed9.png", "001_4_seed9.png", "002_sample_seed9.png", "grid.png", "samples.json"]
    assert Image.open(here / "pictures" / "001_4_seed9.png").mode == "RGB" and "pictures" in capsys.readouterr().out


def test_so_many_pictures_of_each_caption(run, here):
    assert cli.main(["sample", str(run), "red circle", "4", "--n", "2", "--out", "s"]) == 0
    assert names(here / "s") == ["000_red-circle_seed0.png", "001_red-circle_seed0.png", "002_4_seed0.png", "003_4_seed0.png", "grid.png", "samples.json"]
    assert len({(here / "s" / name).read_bytes() for name in names(here / "s")[:4]}) == 4


def test_training_goes_to_runs_and_the_presets_name_if_not_told_otherwise(here):
    assert cli.main(["train", "ddpm-shapes", *OPTIONS, "--steps", "1"]) == 0
    assert read_preset(here / "runs" / "ddpm-shapes").name == "ddpm-shapes"


def test_every_training_option_is_recorded(here):
    given = {"lr": 0.005, "seed": 7, "ema-decay": 0.5, "clip": 3.0, "accumulate": 2, "weight-decay": 0.25, "warmup": 1, "optimizer": "adamw",
             "decay": "none", "batch-size": 6, "keep": 1, "checkpoint-steps": 1, "checkpoint-seconds": 9.0, "T": 50, "schedule": "linear",
             "sampler": "ancestral", "guidance-scale": 1.5, "cond-drop-prob": 0.5, "predict": "v", "timestep-sampler": "importance", "loss-weighting": "min_snr", "channels": 16,
             "split": "held_out"}
    words = [word for k, v in given.items() for word in (f"--{k}", str(v))]
    assert cli.main(["train", "ddpm-shapes", *OPTIONS, *words, "--steps", "2", "--betas", "0.5", "0.6", "--out", "run"]) == 0
    recorded = flat(json.loads((here / "run" / "config.json").read_text()))
    assert {k: recorded[k.replace("-", "_")] for k in given} == given and recorded["betas"] == [0.5, 0.6] and recorded["steps"] == 2


def flat(nested):
    return {k: v for key, value in nested.items() for k, v in (flat(value) if isinstance(value, dict) else {key: value}).items()}


def test_every_sampling_option_is_recorded(run, here):
    options = "--seed 3 --sampler dpm_solver_pp_2m --sampling-steps 4 --guidance-scale 2.5 --out s".split()
    assert cli.main(["sample", str(run), "red circle", *options]) == 0
    assert json.loads((here / "s" / "samples.json").read_text()) == {
        "run": str(run), "stages": [str(run)], "captions": ["red circle"], "n": 1, "seed": 3, "sampler": "dpm_solver_pp_2m", "sampling_steps": 4,
        "guidance_scale": 2.5, "files": ["000_red-circle_seed3.png"]}
    want = load(run, sampler="dpm_solver_pp_2m", sampling_steps=4, guidance_scale=2.5)(["red circle"], seed=3)
    drawn = np.asarray(Image.open(here / "s" / "000_red-circle_seed3.png"))
    assert np.array_equal(drawn, to_uint8(want[0]).permute(1, 2, 0).numpy())


def test_the_same_seed_samples_the_same_files(run, here):
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert cli.main(["sample", str(run), "--n", "2", "--seed", seed, "--out", name]) == 0
    a, b, c = ({name: digest for name, digest in digests(here / folder).items() if name.startswith("0")}.values() for folder in "abc")
    assert len(a) == 2 and list(a) == list(b) != list(c)


@pytest.mark.parametrize("caption", ["../../etc", "/etc/passwd", "C:\\windows", "..", "CON", "", " ", "a" * 10_000, "two\nlines", "🎨🎨", "دائرة حمراء", "%00",
                                     "*?<>|\"'"])
def test_no_caption_gets_a_file_out_of_its_folder(caption, run, here, monkeypatch):
    pipeline = load(run)
    anything = type(pipeline)(lambda captions: (None, None), pipeline.stages)
    monkeypatch.setattr(loading, "load", lambda name, **options: anything)
    assert cli.main(["sample", str(run), caption, "--out", "in/here"]) == 0
    files = sorted(p.relative_to(here).as_posix() for p in here.rglob("*") if p.is_file())
    assert len(files) == 3 and files[1:] == ["in/here/grid.png", "in/here/samples.json"]
    name = files[0].removeprefix("in/here/")
    assert files[0].startswith("in/here/000_") and len(name) < 80 and re.fullmatch(r"[a-z0-9_-]+\.png", name)
    assert json.loads((here / "in" / "here" / "samples.json").read_text("utf8"))["captions"] == [caption]


def test_the_demo_shows_every_shipped_model_and_its_pictures_are_no_data(here, monkeypatch, capsys):
    pipeline = tiny(model={"size": 24, "labels": Scenes.classes}).model.pipeline()
    monkeypatch.setattr(loading, "first_runs", lambda: ["one", "two"])
    monkeypatch.setattr(loading, "load", {"one": pipeline, "two": pipeline}.__getitem__)
    assert cli.main(["demo", "--out", "demo"]) == 0
    said = capsys.readouterr().out
    assert "seconds per image" in said and "one" in said and "two" in said and "jupyter lab" in said
    assert sorted(p.name for p in (here / "demo").iterdir()) == ["metrics.json", "one.png", "two.png"]
    assert [row["model"] for row in json.loads((here / "demo" / "metrics.json").read_text())["models"]] == ["one", "two"]
    picture(here / "mine.png")
    assert [path.name for path in open_data("folder", here, size=8).listing.pictures] == ["mine.png"]


def test_the_demo_trains_from_nothing_on_the_spot(here, monkeypatch, capsys):
    monkeypatch.setitem(cli.PRESETS, "quick-one", TINY)
    assert cli.main(["demo", "--train", "--steps", "5"]) == 0
    assert len(logged(here / "runs" / "demo" / "train")) == 5 and "Pictures from step to step" in capsys.readouterr().out
    assert len(list((here / "runs" / "demo" / "train" / "samples").iterdir())) == 5


@pytest.mark.slow
def test_data_inspect_reports_on_a_folder(here, capsys):
    for k in range(12):
        picture(here / "photos" / f"{'cat' if k % 2 else 'dog'}" / f"{k}.png", seed=k)
    assert cli.main(["data", "inspect", "folder", "photos", "--out", "report"]) == 0
    said = capsys.readouterr().out
    assert "12" in said and "README.md" in said and (here / "report" / "README.md").is_file() and list((here / "report").glob("*.png"))


# Mistakes

@pytest.mark.parametrize("args, said", [
    (["sample", "nothing"], "nothing: no trained run there"),
    (["sample", "ddpm-cifar10"], "train it: t2ilab train ddpm-cifar10"),
    (["sample", "x" * 10_000], "x"),
    (["resume", "nothing"], "nothing: no run there"),
    (["evaluate", "nothing"], "nothing: no trained run there"),
    (["train", "ddpm-cifar10", "--steps", "1"], "cifar-10-batches-py"),
    (["train", "ddpm-cifar10", "--root", "nowhere", "--steps", "1"], "nowhere"),
    (["train", "ddpm-shapes", "--data", "mnist"], "data='mnist': choose one of"),
    (["train", "ddpm-shapes", "--data", "folder"], "say which folder with root"),
    (["train", "ddpm-shapes", "--root", "."], "root, crop, flip, limit and download do not apply"),
    (["train", "ddpm-shapes", "--classes", "5"], "train with --classes 18"),
    (["train", "ddpm-shapes", "--steps", "0"], "steps=0: choose 1 or more"),
    (["train", "ddpm-shapes", "--keep", "0"], "keep=0: choose 1 or more"),
    (["train", "ddpm-shapes", "--precision", "fp8"], "precision='fp8': choose one of auto, fp32, bf16, fp16"),
    (["train", "ddpm-shapes", "--predict", "noise"], "predict='noise': choose one of"),
    (["train", "ddpm-shapes", "--channel-mult", "1", "2"], "channel_mult has 2 levels, attention 3"),
    (["train", "ddpm-shapes", *OPTIONS, "--size", "9", "--patch", "2", "--steps", "1"], "divisible by 2"),
    (["train", "ddpm-shapes", *OPTIONS, "--steps", "1", "--batch-size", "4", "--accumulate", "3"], "batch_size=4 in 3 shards"),
    (["data", "inspect", "folder", "nowhere"], "nowhere"),
    (["data", "look", "shapes"], "choose inspect or fetch"),
])
def test_a_mistake_is_one_line_that_says_what_to_do(args, said, here, capsys):
    assert said in mistake(capsys, *args)


def test_a_mistake_about_a_run_is_one_line_too(run, here, capsys):
    assert "no class 'green elephant': this model knows red circle" in mistake(capsys, "sample", run, "green elephant")
    assert "steps=5000: choose 1 to 1000" in mistake(capsys, "sample", run, "--sampling-steps", "5000")
    assert "sampler='euler': choose one of" in mistake(capsys, "sample", run, "--sampler", "euler")
    assert "--n 0: choose 1 or more" in mistake(capsys, "sample", run, "--n", "0")
    assert "steps=0: choose 1 or more" in mistake(capsys, "resume", run, "--steps", "0")
    (here / "file").write_text("in the way")
    assert "file" in mistake(capsys, "sample", run, "--n", "1", "--out", here / "file")
    assert "file" in mistake(capsys, "train", "ddpm-shapes", *OPTIONS, "--steps", "1", "--out", here / "file")


def test_training_into_a_folder_that_holds_another_run_is_refused(run, capsys):
    before = digests(run)
    assert "holds a run with another model" in mistake(capsys, "train", "ddpm-shapes", *OPTIONS, "--channels", "16", "--steps", "1", "--out", run)
    assert digests(run) == before


@pytest.mark.slow
@pytest.mark.parametrize("args", [["train", "ddpm-shapes", "--stepz", "3"], ["train", "no-such-preset"], ["no-such-command"],
                                  ["train", "ddpm-shapes", "--steps", "many"], ["sample"]])
def test_a_word_it_does_not_know_is_explained_without_a_traceback(args, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(args)
    said = capsys.readouterr().err
    assert stop.value.code not in (0, None) and "Traceback" not in said and any(word.lstrip("-") in said for word in args[-2:] + ["RUN"])


@pytest.mark.slow
def test_a_mistake_is_exit_status_1_for_the_shell(here):
    done = subprocess.run([sys.executable, "-m", "t2ilab.cli", "sample", "nothing"], capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == "" and done.stderr == "t2ilab: nothing: no trained run there\n"


def test_control_c_promises_only_what_was_saved(here, monkeypatch, capsys):
    def stop(*_):
        raise KeyboardInterrupt(*said)
    monkeypatch.setattr(training, "train", stop)
    for said, shown in ([], "t2ilab: stopped\n"), (["step 3 is saved"], "t2ilab: step 3 is saved\n"):
        assert cli.main(["train", "ddpm-shapes", *OPTIONS]) == 130 and capsys.readouterr().err == shown


def test_only_the_first_of_several_processes_warns_and_says_what_is_done(here, monkeypatch, capsys, caplog):
    def steps(*_):
        warnings.warn("odd", stacklevel=1)
        logging.getLogger("t2ilab").warning("very odd")
        yield Log(1, 0.5, 1.0, 0.1, 0.1), None
    monkeypatch.setattr(training, "train", steps)
    for rank, shown in ("0", True), ("1", False):
        monkeypatch.setenv("RANK", rank)
        caplog.clear()
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            assert cli.main(["train", "ddpm-shapes", *OPTIONS, "--out", "run"]) == 0
        said = capsys.readouterr()
        assert [bool(warned), bool(caplog.records), "steps done" in said.out, "1/" in said.err] == [shown] * 4
    assert logging.root.manager.disable == logging.NOTSET


def test_only_the_first_of_several_processes_shows_a_bar(here, monkeypatch, capsys):
    for rank, shown in ("0", True), ("1", False):
        monkeypatch.setenv("RANK", rank)
        assert len(list(training_command.with_bar(iter([(Log(1, 0.5, 1.0, 0.1, 0.1), None)]), 1, here))) == 1
        assert ("1/1" in capsys.readouterr().err) == shown


# Real photographs

@pytest.mark.slow
@pytest.mark.parametrize("preset, folder, options", [
    ("ddpm-cifar10", "cifar10_subset", "--channel-mult 1 2 --attention False False --size 32"),
    ("ddpm-flowers102", "flowers102_72px", "--channel-mult 1 2 --attention False False --head-channels 16 --size 32 --classes 102 --cond-drop-prob 0.1")])
def test_50_steps_on_real_photographs(preset, folder, options, realdata, here):
    options += (" --channels 16 --blocks 1 --batch-size 4 --lr 2e-3 --warmup 10 --limit 64 --workers 0 --steps 50 --checkpoint-steps 25 "
                "--sampling-steps 5 --sample-steps 50 --precision fp32 --out run")
    assert cli.main(["train", preset, "--root", str(realdata / folder), *options.split()]) == 0
    losses = [row["loss"] for row in logged(here / "run")]
    assert len(losses) == 50 and sum(losses[-10:]) < 0.8 * sum(losses[:10])
    verify(find_run(here / "run"))
    assert (here / "run" / "samples" / "step-00000050.png").is_file()
    assert cli.main(["sample", "run", *(["tiger lily"] if "flowers" in preset else ["--n", "1"]), "--out", "s"]) == 0
