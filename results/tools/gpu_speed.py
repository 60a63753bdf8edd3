"""Speed of training and sampling on a GPU, presets of the papers' size: `python results/tools/gpu_speed.py`.

A training step is the trainer's own: noise, loss, gradients, clipping, AdamW and the averaged weights, in the
precision that it chooses for the device. Data are random and lie in memory: reading them is not measured. A
preset that cuts its batch into shards is timed on one of them; a batch that does not fit is halved.
Sampling is in float32, as everywhere here. Codecs and upsamplers are left out.
Writes results/gpu_speed.json after each row, so that a stop loses nothing.
"""
import json
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import repeat
from pathlib import Path

import torch
import tyro
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from t2ilab.diffusion.cond import Cond
from t2ilab.pipeline.walk import Pipeline
from t2ilab.presets import PRESETS, Preset
from t2ilab.tensors import generator, randn
from t2ilab.training.checkpoint import write_text
from t2ilab.training.fit import TrainState, fit

HERE = Path(__file__).resolve().parent.parent
WARM_UP, IMAGES, CALLS = 3, 16, 10
TRAINED = ("glide-flowers102", "ddpm-cifar10", "iddpm-cifar10", "ddpm-flowers102", "imagen-flowers102",
           "vq-flowers102", "glide-base", "imagen-coco", "vq-coco-tune", "imagen-base")


def training_pair(model, batch: int) -> tuple[Tensor, Cond]:
    """Random (x0, Cond) as a family's network takes them: features in place of a frozen text encoder's."""
    draw = generator(0)
    if hasattr(model, "codebook_size"):
        x0 = torch.randint(model.codebook_size, (batch, model.grid ** 2), generator=draw)   # [B N]
    else:
        x0 = randn((batch, 3, model.size, model.size), draw).clamp(-1, 1)                   # [B 3 H W]
    if model.reads == "none":
        return x0, Cond()
    if model.reads == "label":
        text = torch.randint(model.net.classes, (batch, 1), generator=draw)                 # [B 1]
    elif hasattr(model, "encoder"):
        width = getattr(model, "encoder_width", model.net.text_width)
        text = randn((batch, model.text_length, width), draw)                               # [B L E]
    else:
        shape = (batch, model.text.text_length)
        text = torch.randint(model.text.vocabulary, shape, generator=draw)                  # [B L]
    return x0, Cond(text, torch.ones(text.shape[:2], dtype=torch.bool))


def wait() -> None:
    """Until the GPU has done all it was told to."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def flops(steps: Iterator) -> int:
    """Floating-point operations of the matrix products of one training step, which is taken."""
    with FlopCounterMode(display=False) as counter:
        next(steps)
    return counter.get_total_flops()


def training_speed(steps: Iterator, batch: int, seconds: float) -> dict:
    """Steps per second over so many seconds after a warm-up, which is reported too, and peak memory."""
    start = time.perf_counter()
    for _ in range(WARM_UP):
        next(steps)
    wait()
    warm, n = time.perf_counter(), 0
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    while time.perf_counter() - warm < seconds:
        next(steps)
        n += 1
    wait()
    per_second = n / (time.perf_counter() - warm)
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    return {"steps_per_second": round(per_second, 3), "images_per_second": round(per_second * batch, 1),
            "peak_memory_gb": round(peak / 1e9, 2), "warm_up_seconds": round(warm - start, 1)}


def sampling_speed(model, state: TrainState) -> dict:
    """Seconds per image of the averaged model: a batch of 16 over 10 times, scaled to all of the preset's."""
    x0, cond = training_pair(model, IMAGES)
    stage = model.pipeline(state.ema).stages[0]
    calls = stage.steps if isinstance(stage.steps, int) else len(stage.steps) - 1
    few = replace(stage, steps=min(CALLS, calls), codec=None)
    pipeline = Pipeline(lambda captions: (cond.text, cond.mask), (few,))
    pipeline.with_(steps=1)(IMAGES)                         # warms up
    wait()
    start = time.perf_counter()
    pipeline(IMAGES)
    wait()
    seconds = (time.perf_counter() - start) / IMAGES * calls / few.steps
    return {"sampling_steps": calls, "guidance_scale": stage.guidance_scale,
            "sampling_seconds_per_image": round(seconds, 4)}


def measured(preset: Preset, batch: int, *, peak: float, seconds: float, compiled: bool) -> dict:
    """One row: a preset's speed at a batch size, eager or compiled."""
    config = replace(preset.fit, batch_size=batch, accumulate=1, compile=compiled, steps=10 ** 9)
    torch.manual_seed(0)
    state = TrainState(preset.model.build(), config)
    steps = fit(state.model, repeat(training_pair(preset.model, batch)), config, state=state)
    row = {"parameters": sum(p.numel() for p in state.model.parameters()), "batch_size": batch,
           "precision": str(state.dtype).removeprefix("torch.")}
    if not compiled:                        # a compiled graph hides its operations from the counter
        row["tflop_per_step"] = flops(steps) / 1e12
    row |= training_speed(steps, batch, seconds)
    if not compiled:
        row["mfu"] = utilisation(row, row["tflop_per_step"], peak)
        row |= sampling_speed(preset.model, state)
    return row


def utilisation(row: dict, tflop: float, peak: float) -> float:
    """Model FLOPs utilisation: the share of the device's dense peak that training reaches."""
    return round(tflop * row["steps_per_second"] / peak, 4)


def fitting(preset: Preset, **options) -> dict:
    """The row at the preset's batch size, of one of its shards, or half of it as often as it does not fit."""
    batch = preset.fit.batch_size // preset.fit.accumulate
    while True:
        try:
            return measured(preset, batch, **options)
        except torch.OutOfMemoryError:
            if batch == 1:
                raise
        batch //= 2                         # outside of `except`, which holds on to what filled the memory
        torch.cuda.empty_cache()


def main(presets: Sequence[str] = TRAINED, compile: Sequence[str] = ("glide-flowers102", "ddpm-cifar10"),
         peak_tflops: float = 989.0, seconds: float = 2.0, stop_after: float = 110.0,
         out: Path = HERE / "gpu_speed.json") -> None:
    """Measure, print each row as it is done, and write them all.

    Args:
        presets: to measure as they are
        compile: to measure with --compile too, after the others, because compiling takes a minute each
        peak_tflops: bf16 dense peak of the device, in TFLOP per second; 989 is an H100's
        seconds: to time training for, of each row
        stop_after: begin no row after so many seconds
    """
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    report: dict = {"command": shlex.join(["python", "results/tools/gpu_speed.py", *sys.argv[1:]]),
                    "device": device, "torch": torch.__version__, "peak_tflops": peak_tflops, "rows": {}}
    start = time.perf_counter()
    for name, compiled in [(name, False) for name in presets] + [(name, True) for name in compile]:
        if time.perf_counter() - start > stop_after:
            print(f"{name}{' compiled' * compiled}: no time left", flush=True)
            continue
        row = fitting(PRESETS[name], peak=peak_tflops, seconds=seconds, compiled=compiled)
        report["rows"][name + " --compile" * compiled] = row
        eager = report["rows"].get(name, {})
        if compiled and eager.get("batch_size") == row["batch_size"]:
            row["mfu"] = utilisation(row, eager["tflop_per_step"], peak_tflops)
        write_text(out, json.dumps(report, indent=1) + "\n")
        print(name + " --compile" * compiled, json.dumps(row), flush=True)


if __name__ == "__main__":
    tyro.cli(main)
