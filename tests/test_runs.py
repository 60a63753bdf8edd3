"""A run's folder: killed at random it ends the same, its config rebuilds it, another run is kept out; and the runs that ship with the project."""
import hashlib
import http.client
import io
import json
import os
import random
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import OPTIONS, TINY, digests, flip, logged, saved, started, tiny
from torch.testing import assert_close

from t2ilab import hub as shipped
from t2ilab.cli import commands as cli
from t2ilab.runs import export as exporting
from t2ilab.runs.export import export
from t2ilab.runs.folder import find_run, preset_from_dict, read_preset
from t2ilab.runs.load import load
from t2ilab.runs.train import train
from t2ilab.training.checkpoint import verify

pytestmark = pytest.mark.slow           # it trains, samples or converts models

# kill -9

def test_a_run_killed_at_random_moments_ends_bit_for_bit_as_if_nothing_had_happened(tmp_path):
    steps, luck, whole, killed = 100, random.Random(0), tmp_path / "whole", tmp_path / "killed"
    command = ["train", "ddpm-shapes", *OPTIONS, "--steps", steps, "--checkpoint-steps", 3, "--out"]
    wait(started(*command, whole))
    pace = sum(row["seconds"] for row in logged(whole)) / steps
    for life in range(12):
        process = started(*command, killed)
        if life % 4:                                                        # somewhere in training or in a save; else while it starts
            wait_for_a_new_line(killed / "log.jsonl")
        time.sleep(luck.random() * 10 * pace)
        process.kill()
        process.join()
        assert process.exitcode == -9
    progress = len(logged(killed))
    assert 0 < progress < steps
    wait(started("resume", killed))
    assert [row["step"] for row in logged(killed)] == list(range(1, steps + 1)) == [row["step"] for row in logged(whole)]
    assert [row["loss"] for row in logged(killed)] == [row["loss"] for row in logged(whole)]
    assert saved(killed) == saved(whole) and find_run(whole).name == f"step-{steps:08d}"
    assert not list(killed.rglob("*.tmp*")) and len(list((killed / "checkpoints").iterdir())) == 2


def wait(process):
    process.join(120)
    assert process.exitcode == 0


def wait_for_a_new_line(path):
    """Until a log is longer than it is once the run has cut it back to its checkpoint."""
    end = time.monotonic() + 60
    shortest = sys.maxsize
    while time.monotonic() < end:
        now = path.stat().st_size if path.exists() else 0
        shortest = min(shortest, now)
        if now > shortest:
            return
        time.sleep(0.002)
    raise AssertionError(f"{path} did not grow")


# Several processes

def test_two_processes_equal_one_that_works_through_two_shards(tmp_path):
    options = [*OPTIONS, "--optimizer", "adamw", "--warmup", "2", "--steps", "12", "--out"]
    one_thread = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}        # sums in another order would be other numbers
    alone = [sys.executable, "-m", "t2ilab.cli", "train", "ddpm-shapes", "--accumulate", "2", *options, str(tmp_path / "one")]
    assert subprocess.run(alone, capture_output=True, env=one_thread, timeout=300).returncode == 0
    loopback = {"GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {}
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", "0"]
    done = subprocess.run([*launch, "-m", "t2ilab.cli", "train", "ddpm-shapes", *options, str(tmp_path / "two")], capture_output=True, text=True,
                          env=one_thread | loopback, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("12 steps done") == 1                          # the first process speaks for both
    assert [row["step"] for row in logged(tmp_path / "two")] == list(range(1, 13))
    for name in ("model.safetensors", "train.safetensors"):
        one, two = (load_file(find_run(tmp_path / run) / name) for run in ("one", "two"))
        assert_close(two, one, rtol=1e-4, atol=1e-5)


# The folder

def test_a_run_holds_all_it_was_made_of_and_nothing_else(tmp_path):
    preset = tiny(save={"sample_steps": 4, "checkpoint_steps": 4})
    list(train(preset, tmp_path))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoints", "config.json", "log.jsonl", "samples", "tensorboard"]
    assert sorted(p.name for p in (tmp_path / "samples").iterdir()) == ["step-00000004.png", "step-00000006.png"]
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["step-00000004", "step-00000006"]
    assert set(logged(tmp_path)[0]) == {"step", "loss", "grad_norm", "lr", "seconds"}


def test_a_config_rebuilds_the_preset_with_every_option(tmp_path):
    list(train(tiny(fit={"betas": (0.5, 0.75), "seed": 3}, model={"T": 7}), tmp_path))
    preset = read_preset(tmp_path)
    assert len(preset.model.labels) == 18
    assert replace(preset, model=replace(preset.model, labels=())) == tiny(fit={"betas": (0.5, 0.75), "seed": 3}, model={"T": 7})
    saved_config = json.loads((tmp_path / "config.json").read_text())
    assert preset_from_dict(saved_config) == preset and {"t2ilab", "torch", "command"} < saved_config.keys()
    assert json.loads((find_run(tmp_path) / "config.json").read_text()) == saved_config


def test_the_command_is_recorded_only_where_there_was_one(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/t2ilab", "train", "tiny", "--out", "a b"])
    list(train(tiny(fit={"steps": 1}), tmp_path / "1"))
    monkeypatch.setattr(sys, "argv", ["/somewhere/ipykernel_launcher.py", "-f", "/secret/kernel.json"])
    list(train(tiny(fit={"steps": 1}), tmp_path / "2"))
    commands = [json.loads((tmp_path / name / "config.json").read_text())["command"] for name in "12"]
    assert commands == ["t2ilab train tiny --out 'a b'", ""]


@pytest.mark.parametrize("change, what", [({"model": {"T": 9}}, "model"), ({"net": {"dropout": 0.2}}, "model"), ({"fit": {"seed": 1}}, r"seed \(0, not 1\)"), ({"fit": {"optimizer": "muon"}}, r"optimizer \(adamw, not muon\)")])
def test_a_folder_that_holds_another_run_is_left_alone(change, what, tmp_path):
    list(train(tiny(fit={"steps": 2}), tmp_path))
    before = digests(tmp_path)
    with pytest.raises(FileExistsError, match=f"holds a run with another {what}: choose another --out, or go on: t2ilab resume"):
        list(train(tiny(**change), tmp_path))
    assert digests(tmp_path) == before


def test_what_changes_no_weight_may_change_when_a_run_goes_on(tmp_path):
    list(train(tiny(fit={"steps": 2}), tmp_path))
    preset = tiny(fit={"steps": 4}, save={"keep": 1})
    list(train(replace(preset, data=replace(preset.data, workers=1)), tmp_path))
    assert len(logged(tmp_path)) == 4 and read_preset(tmp_path).data.workers == 1


def test_a_finished_run_is_left_as_it_is(tmp_path):
    list(train(TINY, tmp_path))
    before = saved(tmp_path), logged(tmp_path)
    assert list(train(TINY, tmp_path)) == [] and (saved(tmp_path), logged(tmp_path)) == before


def test_the_log_loses_what_was_written_after_the_checkpoint_and_tensorboard_shows_each_step_once(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    steps = train(tiny(save={"checkpoint_steps": 2}), tmp_path)
    for _ in range(5):
        next(steps)
    steps.close()
    assert len(logged(tmp_path)) == 5
    with open(tmp_path / "log.jsonl", "a") as file:
        file.write('{"step": 6, "lo')                                       # as a full disk may leave it
    time.sleep(1.1)                                                         # TensorBoard orders files by the second, then by a number read as text: 99 after 100
    list(train(TINY, tmp_path))
    assert [row["step"] for row in logged(tmp_path)] == [1, 2, 3, 4, 5, 6]
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    for name in ("loss", "grad_norm", "lr"):
        assert [(e.step, e.value) for e in events.Scalars(name)] == [(row["step"], pytest.approx(row[name])) for row in logged(tmp_path)]


@pytest.mark.slow
def test_sampling_on_the_way_changes_no_weight(tmp_path):
    list(train(TINY, tmp_path / "1"))
    list(train(tiny(save={"sample_steps": 1}), tmp_path / "2"))
    assert saved(tmp_path / "1") == saved(tmp_path / "2")


def test_validation_and_samples_every_0_steps_are_never_made(tmp_path):
    preset = tiny(fit={"steps": 2}, save={"sample_steps": 0, "validate_steps": 0})
    list(train(replace(preset, data=replace(preset.data, validation=0.1)), tmp_path))
    assert len(logged(tmp_path)) == 2 and not any("validation" in row for row in logged(tmp_path))
    assert not (tmp_path / "samples").exists()


def test_nan_ends_a_run_with_one_line_and_its_last_checkpoint_is_good(tmp_path, capsys):
    options = [*OPTIONS, *"--optimizer adamw --lr 1e18 --warmup 0 --decay none --steps 50 --checkpoint-steps 1 --keep 50".split()]
    assert cli.main(["train", "ddpm-shapes", *options, "--out", str(tmp_path)]) == 1
    said = capsys.readouterr().err.splitlines()
    step = len(logged(tmp_path)) + 1
    assert said[-1].startswith(f"t2ilab: step {step}: loss is ") and said[-1].endswith("training stopped, and this step is not saved")
    assert "Traceback" not in "".join(said) and 1 < step < 50
    last = find_run(tmp_path)
    verify(last)
    assert last.name == f"step-{step - 1:08d}" and all(v.isfinite().all() for v in load_file(last / "train.safetensors").values())


# Loading

def test_a_loaded_run_draws_what_its_averaged_weights_draw(tmp_path):
    for _, ema in train(tiny(model={"sampling_steps": 3}), tmp_path):
        pass
    pipeline = load(tmp_path)
    assert all(torch.equal(v, ema.state_dict()[k]) for k, v in pipeline.stages[0].denoiser.state_dict().items())
    assert not pipeline.stages[0].denoiser.training and not any(p.requires_grad for p in pipeline.stages[0].denoiser.parameters())
    assert pipeline.stages[0].steps == 3 and load(str(tmp_path), sampling_steps=1, guidance_scale=2.0).stages[0].guidance_scale == 2.0
    assert torch.equal(pipeline(["red circle", ""], seed=4), load(find_run(tmp_path))(["red circle", ""], seed=4))
    with pytest.raises(ValueError, match="sampler='euler': choose one of"):
        load(tmp_path, sampler="euler")


def test_an_exported_run_is_small_for_all_whom_the_umask_lets_and_draws_nearly_the_same(tmp_path):
    list(train(TINY, tmp_path / "run"))
    before = os.umask(0o027)
    try:
        export(find_run(tmp_path / "run"), tmp_path / "small")
    finally:
        os.umask(before)
    assert os.name == "nt" or {path.stat().st_mode & 0o777 for path in (tmp_path / "small").iterdir()} == {0o640}
    assert sorted(p.name for p in (tmp_path / "small").iterdir()) == ["config.json", "model.safetensors"]
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (tmp_path / "small", find_run(tmp_path / "run"))]
    assert sizes[0] < 0.65 * sizes[1]
    assert_close(load(tmp_path / "small")(2), load(tmp_path / "run")(2), rtol=0.0, atol=0.02)


def test_an_export_is_renewed_when_the_run_went_on_and_never_hides_it(tmp_path):
    list(train(TINY, tmp_path / "run"))
    export(find_run(tmp_path / "run"), tmp_path / "small")
    export(find_run(tmp_path / "run"), tmp_path / "run")
    old = digests(tmp_path / "small")
    list(train(tiny(fit={"steps": 9}), tmp_path / "run"))
    assert find_run(tmp_path / "run").name == "step-00000009"
    export(find_run(tmp_path / "run"), tmp_path / "small")
    new = digests(tmp_path / "small")
    export(tmp_path / "small", tmp_path / "run" / ".." / "small")           # onto itself: nothing to do
    assert new["model.safetensors"] != old["model.safetensors"] and digests(tmp_path / "small") == new


# Runs that ship with the project

def test_shipped_files_have_the_checksums_that_ship_with_them():
    here = {path.parent.name for path in shipped.RESULTS.glob("*/model.safetensors")}
    if not here:
        pytest.skip("no trained run in results/")
    assert here == shipped.shipped().keys()
    for name, files in shipped.shipped().items():
        assert "model.safetensors" in files and shipped.shipped_run(name) == shipped.RESULTS / name
        for file, digest in files.items():
            assert hashlib.sha256((shipped.RESULTS / name / file).read_bytes()).hexdigest() == digest


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """A project that ships one run, "ours"; what it serves over the network is in a dict that a test may change."""
    list(train(TINY, tmp_path / "run"))
    export(find_run(tmp_path / "run"), tmp_path / "results" / "ours")
    files = {p.name: p.read_bytes() for p in (tmp_path / "results" / "ours").iterdir()}
    (tmp_path / "checksums.json").write_text(json.dumps({"ours": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}}))
    asked = []

    def urlopen(address, timeout):
        asked.append(address)
        return io.BytesIO(files[address.rsplit("/", 1)[1]])
    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    monkeypatch.setattr(shipped, "CHECKSUMS", tmp_path / "checksums.json")
    monkeypatch.setattr(shipped, "RESULTS", tmp_path / "results")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return type("Shop", (), {"files": files, "asked": asked, "cache": tmp_path / "cache" / "t2ilab" / "ours", "clone": tmp_path / "results"})


def installed(shop, monkeypatch):
    """From here on this is no clone, but a plain install."""
    monkeypatch.setattr(shipped, "RESULTS", shop.clone.parent / "site-packages" / "results")


def test_in_a_clone_a_shipped_run_is_read_where_it_lies(shop):
    assert find_run("ours") == shop.clone / "ours" and load("ours")(1).shape == (1, 3, 8, 8) and shop.asked == []


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_a_damaged_file_in_a_clone_is_named_and_not_read(file, shop):
    flip(shop.clone / "ours" / file)
    with pytest.raises(ValueError, match=f"{file} is not the file that ships with the project; get it back: git checkout"):
        load("ours")


def test_after_a_plain_install_a_shipped_run_is_fetched_once(shop, monkeypatch):
    installed(shop, monkeypatch)
    assert load("ours")(1).shape == (1, 3, 8, 8)
    assert sorted(shop.asked) == [f"{shipped.repository()}/raw/HEAD/results/ours/{file}" for file in ("config.json", "model.safetensors")]
    assert load("ours")(1).shape == (1, 3, 8, 8) and len(shop.asked) == 2
    assert digests(shop.cache) == digests(shop.clone / "ours")
    flip(shop.cache / "model.safetensors")                                  # a cache that went bad is fetched again
    assert load("ours")(1).shape == (1, 3, 8, 8) and len(shop.asked) == 3


def test_a_fetched_file_with_a_wrong_checksum_is_thrown_away(shop, monkeypatch):
    installed(shop, monkeypatch)
    shop.files["model.safetensors"] += b"!"
    with pytest.raises(FileNotFoundError, match="ours: model.safetensors arrived damaged .* git clone .* && pip install -e") as error:
        load("ours")
    assert "\n" not in str(error.value) and not (shop.cache / "model.safetensors").exists()


@pytest.mark.parametrize("trouble", [urllib.error.URLError("no route to host"), urllib.error.HTTPError("a", 404, "Not Found", None, None),
                                     TimeoutError("timed out"), http.client.IncompleteRead(b"half")], ids=lambda e: type(e).__name__)
def test_without_a_network_the_one_command_is_said(trouble, shop, monkeypatch, capsys):
    installed(shop, monkeypatch)

    def urlopen(address, timeout):
        raise trouble
    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    assert cli.main(["sample", "ours"]) == 1
    line, = capsys.readouterr().err.splitlines()
    assert line.startswith("t2ilab: ours: ") and "could not be fetched" in line
    assert f"trained runs come with a clone, installed with -e: git clone {shipped.repository()} && pip install -e ./" in line
    assert not shop.cache.exists()


def test_every_preset_is_counted_on_meta(monkeypatch):
    rows = {row["preset"]: row for row in exporting.describe_presets()}
    assert rows["ddpm-cifar10"]["trainable"] == 35_746_307 and rows["ddpm-flowers102"]["pixels"] == 64
    assert all(row["hardware"] and row["expected"] for row in rows.values())
