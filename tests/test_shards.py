"""A step cut into shards is one step: the same on one process as on several, and what learns without gradients moves once per step."""
import multiprocessing
import os
import socket
import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from test_codec import CODEC, CRITIC
from tiny_runs import TINY, logged, tiny
from tiny_vq import FREE
from torch.testing import assert_close

from t2ilab.presets import Preset
from t2ilab.runs.folder import find_run
from t2ilab.runs.train import train
from t2ilab.vqgan.quantizers import QUANTIZERS

FIT = {"steps": 8, "batch_size": 8, "optimizer": "adamw"}


def codec(kind) -> Preset:
    """A codec with a discriminator that starts at its third step."""
    model = replace(CODEC, net=replace(CODEC.net, quantizer=kind), loss=replace(CRITIC, discriminator_start=2))
    return replace(TINY, model=model, fit=replace(TINY.fit, **FIT))


RUNS = {
    "uniform times": tiny(fit=FIT),
    "importance-sampled times": tiny(fit=FIT | {"steps": 12}, model={"T": 3}, objective={"timestep_sampler": "importance"}),
    "VQ-Diffusion": replace(TINY, model=replace(FREE, T=3), fit=replace(TINY.fit, **FIT | {"steps": 12})),
    **{f"{kind} codec": codec(kind) for kind in QUANTIZERS},
}


def shards(preset, n) -> Preset:
    """The preset with its step cut into n shards."""
    return replace(preset, fit=replace(preset.fit, accumulate=n))


def state(run) -> dict[str, torch.Tensor]:
    """All that resuming needs, and the averaged weights."""
    return {file: load_file(find_run(run) / file) for file in ("train.safetensors", "model.safetensors")}


def _process(rank, port, folder, runs):
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
                   "ACCELERATE_USE_CPU": "true", **({"GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {})}
    for name, preset in runs.items():
        for _ in train(preset, folder / name):
            pass
    assert torch.distributed.get_world_size() == 2
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A folder with each of RUNS, trained by two processes."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        pytest.skip("this system cannot fork")
    folder, context = tmp_path_factory.mktemp("two"), multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["t2ilab.runs.train", "accelerate", "torch._dynamo", "torch.utils.tensorboard", "pytest"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [context.Process(target=_process, args=(rank, port, folder, RUNS), daemon=True) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_two_processes_equal_one_that_works_through_two_shards(name, two, tmp_path):
    for _ in train(shards(RUNS[name], 2), tmp_path):
        pass
    assert [row["loss"] for row in logged(two / name)] == pytest.approx([row["loss"] for row in logged(tmp_path)], rel=1e-6)
    assert_close(state(two / name), state(tmp_path), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name, counter, count", [
    ("ema codec", "seen", 8), ("gumbel codec", "codec.quantizer.seen", 8), ("VQ-Diffusion", "importance.seen", 12 * 8),
    ("importance-sampled times", "importance.seen", 12 * 8)])
def test_steps_and_losses_are_counted_once_whatever_the_shards(name, counter, count, tmp_path):
    for _ in train(shards(RUNS[name], 4), tmp_path):
        pass
    assert state(tmp_path)["train.safetensors"][f"model.{counter}"].sum() == count


def test_a_step_of_a_codec_in_one_piece_or_in_two_is_the_same_up_to_rounding(tmp_path):
    quiet = replace(CODEC.loss, adversarial=0.0)                    # the discriminator's weight is a ratio of each shard's own gradients
    preset = replace(RUNS["ema codec"], model=replace(CODEC, loss=quiet), fit=replace(RUNS["ema codec"].fit, steps=1))
    for n in (1, 2):
        for _ in train(shards(preset, n), tmp_path / str(n)):
            pass
    one, two = (state(tmp_path / str(n))["train.safetensors"] for n in (1, 2))
    summed = [k for k in one if k.endswith((".exp_avg", "quantizer.used"))]         # of gradients, and of who took what
    assert len(summed) > 30 and one["model.codec.quantizer.used"].sum() > 0
    assert_close({k: two[k] for k in summed}, {k: one[k] for k in summed}, rtol=1e-4, atol=1e-7)
