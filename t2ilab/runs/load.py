"""From a run folder back to a pipeline, ready to sample; also of the runs that ship with the project, in results/."""
import torch
from dataclasses import fields, replace
from pathlib import Path

from ..hub import shipped
from ..pipeline.walk import TextToImage
from ..training.checkpoint import load_weights
from .folder import _is_trained, find_run, read_preset


def load(name: str | Path, *, cascade: bool = True, **sampling) -> TextToImage:
    """The pipeline of a run, ready to sample: `load("ddpm-shapes")`, `load("runs/mine")`, `load("runs/mine", sampling_steps=10)`.

    cascade: with the stages that enlarge its pictures, as far as they are trained.  sampling: sampler, sampling_steps, guidance_scale and other
    fields of its family override the first stage's own; ValueError for one it has not.  Lesson: notebooks/03_ddpm.ipynb"""
    pipeline = _load_stage(find_run(name), sampling)
    for later in later_runs(name) if cascade else ():
        stage = _load_stage(find_run(later), {})
        if stage.encode_text != pipeline.encode_text:
            raise ValueError(f"{later} reads captions with another vocabulary than {name}: train it again, or take it away")
        pipeline = replace(pipeline, stages=(*pipeline.stages, *stage.stages))
    return pipeline.to("cuda" if torch.cuda.is_available() else "cpu")


def _load_stage(folder: Path, sampling: dict) -> TextToImage:
    model = read_preset(folder).model
    if unknown := sampling.keys() - {field.name for field in fields(model)}:
        raise ValueError(f"{folder}: a run of this family has no {' and no '.join(sorted(unknown))} to choose")
    if sampling.get("sampler", "purity") != "purity" and getattr(model, "prior_weight", 0):
        sampling = {"prior_weight": 0.0} | sampling                       # the run's own weight is for its own sampler
    pipeline = replace(model, **sampling).pipeline()
    load_weights(pipeline.model, folder / "model.safetensors")
    pipeline.model.eval().requires_grad_(False)
    return pipeline


def later_runs(name: str | Path) -> list[str | Path]:
    """The runs of a cascade after its first, as far as they are there: folders in the run's folder or beside it, or shipped as it is."""
    root = Path(name).parent.parent if Path(name).parent.name == "checkpoints" else Path(name)
    if (root / "config.json").is_file():
        places = [[root / later, root.resolve().parent / later] for later in read_preset(root).then]
        return [found[0] for found in (list(filter(_is_trained, both)) for both in places) if found]
    return [later for later in read_preset(find_run(name)).then if later in shipped()]


def first_runs() -> list[str]:
    """The shipped runs that draw from nothing but a caption or a label; those that enlarge their pictures come with them."""
    runs = [name for name, files in shipped().items() if "config.json" in files and "tokenizer.json" not in files]     # the others read or look
    drawing = {name: preset for name in runs if (preset := read_preset(find_run(name))).family != "vq_codec"}
    later = {name for preset in drawing.values() for name in preset.then}
    return [name for name in drawing if name not in later]
