"""A run so small that it trains in a second, and the command line in processes of its own, which can be killed."""
import hashlib
import json
import multiprocessing
import shutil
import sys
from dataclasses import replace

import pytest

from t2ilab.cli.commands import main
from t2ilab.diffusion.gaussian_denoiser import ObjectiveConfig
from t2ilab.families.ddpm import DDPMConfig
from t2ilab.nets.unet import UNetConfig
from t2ilab.presets import Preset, SaveConfig
from t2ilab.runs.train import train
from t2ilab.training.fit import FitConfig

NET = UNetConfig(channels=8, channel_mult=(1,), blocks=1, attention=(False,), scale_shift_norm=True, dropout=0.1, classes=18)
MODEL = DDPMConfig(size=8, schedule="cosine", net=NET, sampler="ddim", sampling_steps=2, objective=ObjectiveConfig(predict="x0", cond_drop_prob=0.2))
TINY = Preset("tiny", MODEL, fit=FitConfig(steps=6, batch_size=4, warmup=2, precision="fp32"), save=SaveConfig(sample_steps=0))
OPTIONS = ("--size 8 --channels 8 --channel-mult 1 --blocks 1 --attention False --head-channels 8 --patch 1 --dropout 0.1 --sampling-steps 2 "
           "--batch-size 4 --precision fp32 --sample-steps 0").split()                  # make ddpm-shapes about as small
FILES = ["config.json", "model.safetensors", "sha256.json", "state.json", "train.safetensors"]      # of a checkpoint


def tiny(*, model=None, net=None, objective=None, fit=None, save=None) -> Preset:
    """TINY with some fields changed, each argument a dict of fields."""
    model = replace(MODEL, net=replace(NET, **net or {}), objective=replace(MODEL.objective, **objective or {}), **model or {})
    return replace(TINY, model=model, fit=replace(TINY.fit, **fit or {}), save=replace(TINY.save, **save or {}))


def started(*args) -> multiprocessing.Process:
    """`t2ilab args` in a process of its own, forked from one in which everything slow is imported already."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        pytest.skip("this system cannot fork")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["t2ilab.runs.train", "accelerate", "torch._dynamo", "torch.utils.tensorboard", "pytest"])
    process = context.Process(target=_run, args=([str(a) for a in args],), daemon=True)
    process.start()
    return process


def _run(args):
    sys.exit(main(args))


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """A run of 6 steps with checkpoints at 2, 4 and 6: copy it before you break it."""
    out = tmp_path_factory.mktemp("run")
    list(train(tiny(save={"checkpoint_steps": 2, "keep": 3}), out))
    return out


@pytest.fixture
def mine(run, tmp_path):
    """A copy of the run to break."""
    return shutil.copytree(run, tmp_path / "mine")


def names(folder) -> list[str]:
    """What lies in a folder."""
    return sorted(path.name for path in folder.iterdir())


def logged(run) -> list[dict]:
    """The lines of a run's log."""
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def digests(folder) -> dict[str, str]:
    """SHA-256 of every file in a folder by its path there: when two differ, pytest names the file; of the bytes themselves it would write a diff for hours."""
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.rglob("*")) if path.is_file()}


def saved(run) -> dict[str, str]:
    """Digests of what the newest checkpoint says about the run: averaged weights, everything that resuming needs, the step."""
    found = digests(max((run / "checkpoints").glob("step-*")))
    return {name: found[name] for name in ("model.safetensors", "train.safetensors", "state.json")}


def flip(path, place=None) -> None:
    """Change one bit of one byte of a file, in the middle or at a place."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if place is None else place] ^= 1
    path.write_bytes(content)
