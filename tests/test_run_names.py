"""A run's name and a path are never confused, nothing written about a shipped run hides it, and a run is found and hashed once."""
import json
import os
import shutil
from dataclasses import replace

import pytest
import torch
from tiny_runs import TINY, digests, mine, names, run, tiny  # noqa: F401
from tiny_vq import RUN, codec_run

import t2ilab
from t2ilab import hub
from t2ilab.cli import commands as cli
from t2ilab.runs import folder as finding
from t2ilab.runs.folder import find, find_run, read_preset
from t2ilab.runs.load import load
from t2ilab.runs.train import train

pytestmark = pytest.mark.slow           # it trains, samples or converts models


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hub._say_once.cache_clear()
    return tmp_path


def copied(run, to):  # noqa: F811
    shutil.copytree(run, to)
    return to


def test_the_name_of_a_shipped_run_means_that_run_whatever_lies_here(run, here, capsys):  # noqa: F811
    shipped = find_run("ddpm-shapes")
    copied(run, here / "ddpm-shapes")
    copied(run, here / "runs" / "ddpm-shapes")
    assert find_run("ddpm-shapes") == shipped and find("ddpm-shapes").preset.name == "ddpm-shapes"
    line = "t2ilab: ddpm-shapes: the run that ships with the project; to take yours, say {}\n"
    assert capsys.readouterr().err == line.format("./ddpm-shapes or runs/ddpm-shapes")
    shutil.rmtree(here / "ddpm-shapes")
    assert find_run("ddpm-shapes") == shipped and capsys.readouterr().err == line.format("runs/ddpm-shapes")
    copied(run, here / "ddpm-shapes")
    assert find("./ddpm-shapes").preset.name == find("runs/ddpm-shapes").preset.name == "tiny"
    assert find(here / "ddpm-shapes").preset.name == "tiny" and capsys.readouterr().err == ""


def test_any_other_name_is_the_run_of_that_name_here_or_in_runs(run, here):  # noqa: F811
    copied(run, here / "runs" / "mine")
    assert find("mine").home.as_posix() == "runs/mine"
    copied(run, here / "mine")
    assert find("mine").home.as_posix() == "mine" and find("./mine").home.as_posix() == "mine"
    with pytest.raises(FileNotFoundError, match="runs/other: no trained run there"):
        find("runs/other")


@pytest.mark.parametrize("name, said", [("glide-shape", "did you mean glide-shapes?"), ("mnie", "did you mean mine?"),
                                        ("runs/glide-shapes", "ships with the project is called glide-shapes; or train it: t2ilab train glide-shapes"),
                                        ("runs/ddpm-cifar10", "train it: t2ilab train ddpm-cifar10")])
def test_a_run_that_is_not_there_is_guessed(name, said, run, here):  # noqa: F811
    copied(run, here / "runs" / "mine")
    with pytest.raises(FileNotFoundError) as error:
        find(name)
    assert str(error.value).endswith(said)


def test_evaluating_writes_no_weights_and_hides_no_run(here, capsys):
    before = find("ddpm-shapes").path
    assert cli.main(["evaluate", "ddpm-shapes", "--n", "1"]) == 0
    assert names(here / "runs" / "ddpm-shapes") == ["metrics.json", "samples.png"] and names(here) == ["runs"]
    assert find("ddpm-shapes").path == before
    assert json.loads((here / "runs/ddpm-shapes/metrics.json").read_text())["command"] == "t2ilab evaluate ddpm-shapes --n 1"


def test_a_report_of_a_shipped_run_does_not_go_into_a_run_of_yours(run, here):  # noqa: F811
    copied(run, here / "runs" / "ddpm-shapes")
    assert hub.reports("ddpm-shapes").as_posix() == "runs/ddpm-shapes-shipped"
    assert hub.reports("runs/ddpm-shapes").as_posix() == "runs/ddpm-shapes"


def test_a_run_of_ones_own_gets_a_report_and_no_second_weights(here):
    list(train(tiny(model={"size": 24}, fit={"steps": 1}), here / "mine"))
    before = names(here / "mine")
    assert cli.main(["evaluate", "mine", "--n", "1"]) == 0
    assert names(here / "mine") == sorted([*before, "metrics.json", "samples.png"])


def test_export_is_a_command_of_its_own_and_takes_the_later_stages_along(here, capsys):
    assert cli.main(["export", "glide-shapes", "small"]) == 0
    assert capsys.readouterr().out.splitlines() == ["small", os.path.join("small", "glide-shapes-upsampler")]
    assert names(here / "small") == ["config.json", "glide-shapes-upsampler", "model.safetensors"] and len(load("small").stages) == 2
    assert cli.main(["export", "small", "small"]) == 1 and "is the run itself" in capsys.readouterr().err
    assert cli.main(["export", "glide-shapes", "first", "--no-cascade"]) == 0
    assert names(here / "first") == ["config.json", "model.safetensors"]


def test_a_run_is_hashed_once_a_process_and_a_second_sample_hashes_nothing(mine, monkeypatch):  # noqa: F811
    for path in mine.rglob("*.safetensors"):
        os.utime(path, ns=(0, 10**18))                                      # not written just now
    for path in mine.rglob("*.json"):
        os.utime(path, ns=(0, 10**18))
    t2ilab.sample(mine, 1)
    before = hub._hashed.cache_info()
    t2ilab.sample(mine, 1)
    t2ilab.load(mine)
    after = hub._hashed.cache_info()
    assert after.misses == before.misses and after.hits >= before.hits + 4
    checkpoint = find_run(mine)
    weights = checkpoint / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.warns(UserWarning, match="passing over"):
        assert find_run(mine) != checkpoint                                 # a file that changed is hashed anew


def test_loading_a_cascade_reads_its_first_run_once(monkeypatch):
    read = []
    monkeypatch.setattr(finding, "read_preset", lambda folder: read.append(folder.name) or read_preset(folder))
    assert len(load("glide-shapes").stages) == 2 and read == ["glide-shapes", "glide-shapes-upsampler"]


def test_a_codec_is_found_from_elsewhere_and_missed_before_the_first_step(here, monkeypatch):
    (here / "a/runs/codec").mkdir(parents=True)
    codec_run(here / "a/runs/codec")
    monkeypatch.chdir(here / "a")
    list(train(replace(RUN, model=replace(RUN.model, codec="runs/codec"), fit=replace(RUN.fit, steps=1)), here / "a/runs/model"))
    want = load("runs/model")(["a red circle"], seed=1)
    (here / "elsewhere").mkdir()
    monkeypatch.chdir(here / "elsewhere")
    assert torch.equal(load("../a/runs/model")(["a red circle"], seed=1), want)
    (here / "a" / "runs").rename(here / "renamed")
    assert torch.equal(load("../renamed/model")(["a red circle"], seed=1), want)
    shutil.rmtree(here / "renamed/codec")
    with pytest.raises(FileNotFoundError, match="codec='runs/codec', as the model that draws its codes names it: runs/codec: no trained run"):
        load("../renamed/model")


def test_training_takes_a_presets_name(here, monkeypatch):
    monkeypatch.setitem(cli.PRESETS, "ddpm-shapes", replace(TINY, name="ddpm-shapes"))
    assert len(list(t2ilab.train("ddpm-shapes"))) == 6 and names(here / "runs") == ["ddpm-shapes"]
    with pytest.raises(ValueError, match="no preset 'ddpm-shape': did you mean ddpm-shapes?"):
        next(t2ilab.train("ddpm-shape"))


def test_an_encoder_that_is_not_there_is_missed_before_the_network_is_built(here, monkeypatch):
    preset = cli.PRESETS["imagen-shapes"]
    preset = replace(preset, model=replace(preset.model, encoder="./nowhere"))
    monkeypatch.setattr(type(preset.model), "build", lambda self: pytest.fail("built"))
    with pytest.raises(FileNotFoundError, match="nowhere"):
        next(train(preset, here / "run"))


def test_every_verb_is_listed_and_can_be_called():
    verbs = ["evaluate", "export", "load", "sample", "sample_class", "train"]
    assert set(verbs) <= set(dir(t2ilab)) and all(callable(getattr(t2ilab, verb)) for verb in verbs)


def test_a_user_without_a_home_has_a_cache(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    def home():
        raise RuntimeError("Could not determine home directory.")
    monkeypatch.setattr(hub.Path, "home", home)
    assert hub.cache_root().is_absolute() and hub.cache_root().name.startswith("t2ilab-")


def test_nothing_is_resumed_in_the_place_of_a_shipped_run(run, here, capsys):  # noqa: F811
    assert cli.main(["resume", "ddpm-shapes"]) == 1 and "no run there" in capsys.readouterr().err
    copied(run, here / "runs" / "ddpm-shapes")
    before = digests(here / "runs" / "ddpm-shapes" / "checkpoints")
    assert cli.main(["resume", "ddpm-shapes"]) == 0 and digests(here / "runs" / "ddpm-shapes" / "checkpoints") == before
