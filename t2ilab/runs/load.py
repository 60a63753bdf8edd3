"""From a run folder back to a pipeline, ready to sample; also for the runs that ship with the project."""
from dataclasses import fields, replace
from pathlib import Path

import torch

from ..hub import shipped
from ..pipeline.walk import Pipeline
from ..training.checkpoint import load_weights
from .folder import RunFolder, find


def load(name: str | Path | RunFolder, *, cascade: bool = True, **sampling) -> Pipeline:
    """The pipeline of a run, ready to sample: `load("ddpm-shapes")`, `load("runs/mine", sampling_steps=10)`.

    cascade: with the stages that upsample its images, as far as they are trained.
    sampling: sampler, sampling_steps, guidance_scale and other fields of its family, which override the first
    stage's own; ValueError for one it has not.  Lesson: notebooks/03_ddpm.ipynb"""
    run = name if isinstance(name, RunFolder) else find(name)
    pipeline = _load_stage(run, with_settings(run, sampling))
    for later in run.later() if cascade else ():
        stage = _load_stage(later, later.preset.model)
        if stage.encode_text != pipeline.encode_text:
            raise ValueError(f"{later.name} reads captions with another vocabulary than {run.name}: "
                             "train it again, or take it away")
        pipeline = replace(pipeline, stages=(*pipeline.stages, *stage.stages))
    return pipeline.to("cuda" if torch.cuda.is_available() else "cpu")


def with_settings(run: RunFolder, sampling: dict):
    """The model of a run with some of its fields changed.  ValueError for a field that it has not."""
    model = run.preset.model
    if unknown := sampling.keys() - {field.name for field in fields(model)}:
        names = " and no ".join(sorted(unknown))
        raise ValueError(f"{run.name}: a run of this family has no {names} to choose")
    another_sampler = sampling.get("sampler", "purity") != "purity"
    if another_sampler and getattr(model, "prior_weight", 0):
        sampling = {"prior_weight": 0.0} | sampling             # the run's own weight is for its own sampler
    return replace(model, **sampling)


def _load_stage(run: RunFolder, model) -> Pipeline:
    """A stage with its weights and its codec: what is missing is said before the first step."""
    if hasattr(model, "codec"):
        model = replace(model, codec=str(run.of(model.codec)))
    try:
        pipeline = model.pipeline()
    except (TypeError, KeyError, RuntimeError, AttributeError, ArithmeticError) as error:
        path = run.path / "config.json"
        raise ValueError(f"{path} describes no network that can be built ({error})") from error
    load_weights(pipeline.model, run.path / "model.safetensors")
    pipeline.model.eval().requires_grad_(False)
    for stage in pipeline.stages:
        if stage.codec is not None:
            stage.codec.open()
    return pipeline


def first_runs() -> list[str]:
    """The shipped runs that sample from nothing but a caption or a label; their upsamplers come with them."""
    # a folder without a config is a classifier, one with a tokenizer is a text encoder
    runs = [name for name, files in shipped().items()
            if "config.json" in files and "tokenizer.json" not in files]
    return [name for name in runs if not find(name).preset.model.needs_image]
