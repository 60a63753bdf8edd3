"""What only a GPU can show: training in the precision of the hardware, and pictures that do not depend on the device."""
from dataclasses import replace

import pytest
import torch
from test_unet import awake
from tiny_glide import preset
from tiny_runs import OPTIONS, logged, tiny
from torch.testing import assert_close

from t2ilab.cli import commands as cli
from t2ilab.data.shapes import Scenes
from t2ilab.pipeline.edit import Edit
from t2ilab.runs.folder import find_run
from t2ilab.runs.load import load
from t2ilab.runs.train import train
from t2ilab.tensors import generator
from t2ilab.training.checkpoint import read_tensors, verify
from t2ilab.training.fit import TrainState
from t2ilab.vqgan.quantizers import GumbelQuantizer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU on this machine")


@pytest.mark.parametrize("precision", ["auto", "bf16", "fp16", "fp32"])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_gpu_trains_in_every_precision_and_leaves_checkpoints_for_any_device(precision, optimizer, tmp_path):
    for log, ema in train(tiny(fit={"steps": 8, "precision": precision, "optimizer": optimizer}, net={"dropout": 0.2}), tmp_path):
        assert 0 < log.loss < 20
    assert next(ema.parameters()).is_cuda
    verify(find_run(tmp_path))
    assert all(v.isfinite().all() and v.device.type == "cpu" for v in read_tensors(find_run(tmp_path) / "train.safetensors").values())
    pipeline = load(tmp_path)
    assert pipeline.device.type == "cuda" and pipeline(["red circle", ""]).shape == (2, 3, 8, 8)


def test_a_modern_gpu_trains_in_bf16():
    if torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("this GPU has no bf16 in hardware")
    model = tiny().model.build()
    assert TrainState(model, tiny(fit={"precision": "auto"}).fit).dtype == torch.bfloat16


def test_a_compiled_network_learns_what_a_plain_one_does(tmp_path):
    preset = tiny(fit={"steps": 8, "precision": "fp32"}, net={"dropout": 0.0})
    compiled = replace(preset, fit=replace(preset.fit, compile=True))
    losses = [[log.loss for log, _ in train(p, tmp_path / str(p.fit.compile))] for p in (preset, compiled)]
    assert_close(losses[1], losses[0], rtol=1e-2, atol=1e-3)
    assert load(tmp_path / "True")(["red circle"]).shape == (1, 3, 8, 8)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_run_resumed_on_a_gpu_ends_where_an_uninterrupted_one_does(precision, tmp_path):
    preset = tiny(fit={"precision": precision, "steps": 10}, save={"checkpoint_steps": 5}, net={"dropout": 0.3})
    list(train(preset, tmp_path / "whole"))
    steps = train(preset, tmp_path / "stopped")
    for _ in range(7):
        next(steps)
    steps.close()
    list(train(preset, tmp_path / "stopped"))
    whole, stopped = (read_tensors(find_run(tmp_path / name) / "train.safetensors") for name in ("whole", "stopped"))
    assert_close(stopped, whole, rtol=1e-2, atol=1e-3)              # a GPU adds up in no fixed order


@pytest.mark.parametrize("sampler", ["ancestral", "ddim", "dpm_solver_pp_2m"])
def test_the_same_seed_draws_about_the_same_picture_on_cpu_and_gpu(sampler):
    torch.manual_seed(0)
    pipeline = tiny(model={"sampler": sampler, "sampling_steps": 10, "labels": Scenes.classes}).model.pipeline()
    awake(pipeline.stages[0].denoiser.eval())
    on_cpu = pipeline(["red circle", ""], seed=3)
    on_gpu = pipeline.to("cuda")(["red circle", ""], seed=3).cpu()
    other = pipeline(["red circle", ""], seed=4).cpu()
    assert (on_gpu - on_cpu).abs().mean() < 0.01 < (other - on_cpu).abs().mean()


def test_the_command_line_trains_on_the_gpu(tmp_path):
    assert cli.main(["train", "ddpm-shapes", *OPTIONS, "--precision", "auto", "--steps", "5", "--out", str(tmp_path / "run")]) == 0
    assert len(logged(tmp_path / "run")) == 5
    assert cli.main(["sample", str(tmp_path / "run"), "--n", "1", "--out", str(tmp_path / "s")]) == 0


def test_a_cascade_reads_captions_on_the_gpu(tmp_path):
    small = preset()
    for log, _ in train(small, tmp_path):
        assert 0 < log.loss < 20
    pipeline = load(tmp_path)
    captions = ["a small red circle", "", "\N{ARTIST PALETTE}"]
    assert pipeline.device.type == "cuda" and pipeline(captions).shape == (3, 3, 8, 8)
    edit = Edit(torch.zeros(1, 3, 16, 16), torch.ones(1, 1, 16, 16, dtype=torch.bool))
    assert_close(pipeline(captions, edit=edit, negative_prompt=["green"]).cpu(), torch.zeros(3, 3, 8, 8))


def test_gumbel_noise_is_drawn_on_the_gpu_and_a_function_of_the_generator():
    quantizer, z = GumbelQuantizer(9, 4).cuda().train(), torch.zeros(2, 4, 3, 5, device="cuda")
    first, again, other = (quantizer(z, generator(seed))[1] for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    quantizer.after_step()
    assert quantizer.seen.item() == 1 and quantizer.used.sum().item() == pytest.approx(0.01 * 3 * 30)
