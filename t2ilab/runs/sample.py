"""Pictures on demand, from Python and from the command line: options and files in, tensors through the pipeline, named files and a record out."""
import json
import re
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from ..data.captions import cleaned, lines, read_text
from ..data.decode import read_image
from ..pipeline.edit import Edit
from ..pipeline.walk import TextToImage, listed
from .folder import find_run, read_preset
from .load import later_runs, load
from ..tensors import from_uint8, to_uint8
from ..viz.notebook import show_grid


def sample(run: str | Path, captions: int | Sequence[str | int], *, method: str | None = None, seed: int = 0, out: str | Path | None = None,
           cascade: bool = True, **settings) -> Tensor:
    """Pictures [B 3 H W] in [-1, 1], one a caption: `sample("vq-shapes", ["a red circle"], truncation=0.86, guidance_scale=2.0)`.

    captions: texts, or labels by name or number, or how many pictures without any.
    method: of a run that draws codes, one of the ways that `methods` lists, such as "fast".  settings: any field of the run's family, for this call
    only; they win over method.  out: a folder that gets them as PNG files with their captions inside.  The weights stay in memory until another run,
    or other settings, are asked for.  ValueError for a method or a setting that the run has not, or an unknown class.
    Lesson: notebooks/08_vq_diffusion.ipynb"""
    texts, settings = [str(caption) for caption in listed(captions)], method_settings(run, method, settings)
    images = draw(_in_memory(str(run), _stamp(run, cascade), cascade, json.dumps(settings, sort_keys=True, default=str)), texts, seed=seed, label=str(run))
    if out is not None:
        save(images, texts, Path(out), {"run": str(run), "captions": texts, "n": len(images), "seed": seed, "cascade": cascade} | settings)
    return images


def sample_class(run: str | Path, label: str | int, n: int = 1, **options) -> Tensor:
    """n pictures [n 3 H W] in [-1, 1] of a class, by its name or number: `sample_class("vq-shapes-classes", 4)`.  options: as of `sample`."""
    return sample(run, [label] * n, **options)


def method_settings(run: str | Path, method: str | None, given: dict) -> dict:
    """The fields that make a run sample in one of the ways of the original VQ-Diffusion, by its name, and those given, which win over it.

    method: None for the run's own way.  ValueError for a way that is not there, or a run that draws no codes."""
    if method is None:
        return given
    from ..evaluation.ablations.unmasking import methods
    model = read_preset(find_run(run)).model
    if not hasattr(model, "prior_weight"):
        raise ValueError(f"method={method!r}: {run} draws no codes; choose its sampler, sampling_steps and guidance_scale instead")
    ways = methods(model.T, model.guidance_scale)
    if method not in ways:
        raise ValueError(f"method={method!r}: choose one of {', '.join(map(repr, ways))}")
    kept = {k: v for k, v in ways[method].items() if k != "prior_weight" or "sampler" not in given}       # a weight is for its own sampler
    return kept | given


@lru_cache(maxsize=1)
def _in_memory(run: str, stamp: tuple, cascade: bool, settings: str) -> TextToImage:
    return load(run, cascade=cascade, **json.loads(settings))


def _stamp(run: str | Path, cascade: bool) -> tuple:
    """When the files of a run, and of the stages after it, were written."""
    folders = [find_run(name) for name in (run, *(later_runs(run) if cascade else ()))]
    return tuple((folder / file).stat().st_mtime_ns for folder in folders for file in ("model.safetensors", "config.json"))


@dataclass(frozen=True)
class SamplingOptions:
    sampler: str | None = None              # ancestral, ddim, dpm_solver_pp_2m; VQ-Diffusion: ancestral, even, purity; the run's own if not given
    sampling_steps: int | None = None       # network calls a picture; the run's own if not given
    guidance_scale: float | None = None     # 1 = off, 0 = unconditional; the run's own if not given
    cascade: bool = True                    # with the stages that enlarge the first one's pictures
    truncation: float | None = None         # VQ-Diffusion: each code is drawn among the likeliest, up to this share; 1 = all
    top_k: int | None = None                # VQ-Diffusion: each code is drawn among so many; 0 = all
    prior_weight: float | None = None       # VQ-Diffusion, purity: how much surer a sure code is made
    zero_shot: bool = False                 # VQ-Diffusion: guide away from the empty caption, also where another was learned


@dataclass(frozen=True)
class EditingOptions:
    negative: str | None = None             # what the pictures should not show
    image: Path | None = None               # a picture to start from
    mask: Path | None = None                # of the image: white parts are painted anew, black ones stay as they are
    strength: float = 1.0                   # how much of the image is noised away: 1 = all, 0.5 = half of the way
    picture: Path | None = None             # a small picture to enlarge, for a run that draws none itself


def chosen(options: SamplingOptions) -> dict:
    """The options that differ from what they are anyway."""
    return {name: value for name, value in asdict(options).items() if value != getattr(SamplingOptions(), name)}


def read_captions(path: Path) -> list[str]:
    """The captions of a text file, one a line; empty lines do not count.  ValueError if there are none."""
    if not (found := cleaned(lines(read_text(path)))):
        raise ValueError(f"{path}: no captions there")
    return list(found)


def edits(options: EditingOptions) -> dict:
    """The options of a sampling walk: pictures read from their files, square, in [-1, 1]."""
    found = {name: _square(from_uint8(read_image(path))[None]) for name in ("image", "mask", "picture") if (path := getattr(options, name))}
    if options.mask and not options.image:
        raise ValueError("--mask says which part of an image to paint anew: give --image too")
    if options.strength != 1 and not options.image:
        raise ValueError("--strength says how much of an image is noised away: give --image too")
    if options.mask and found["mask"].shape != found["image"].shape:
        raise ValueError(f"{options.mask} has another size than {options.image}")
    walk: dict = {"negative": None if options.negative is None else [options.negative], "picture": found.get("picture")}
    if options.image:
        keep = (found["mask"].mean(1, keepdim=True) < 0) if options.mask else None
        walk["edit"] = Edit(found["image"], keep, options.strength)
    return walk


def _square(image):
    """The middle of a picture: [1 3 H W] -> [1 3 S S]."""
    H, W = image.shape[2:]
    S = min(H, W)
    return image[:, :, (H - S) // 2:(H + S) // 2, (W - S) // 2:(W + S) // 2]


def draw(pipeline, captions: list[str], *, seed: int, label: str, **options) -> Tensor:
    """Pictures [B 3 H W], at most 64 at a time, with a progress bar."""
    from tqdm import tqdm
    chunks, images = [captions[i:i + 64] for i in range(0, len(captions), 64)] or [[]], []
    with tqdm(total=len(chunks) * sum(len(stage.times) - 1 for stage in pipeline.stages), desc=label, unit="step") as bar:
        for k, chunk in enumerate(chunks):
            for name, value in pipeline.walk(chunk, seed + k, **options):
                bar.update(name == "frame")
            images.append(value.cpu())
    return torch.cat(images)


def demonstrate(name: str, pipeline: TextToImage, out: Path) -> tuple[str, ...]:
    """Let a model draw what shows it off, into a file of its name: (name, seconds a picture, how well it did, the file)."""
    from ..data.shapes import Scenes
    from ..evaluation.alignment import alignment, valid_share
    from ..evaluation.scene_metrics import demo_captions
    (captions, _), path, start = demo_captions(pipeline), out / f"{name}.png", time.perf_counter()
    images = draw(pipeline, captions, seed=0, label=name)
    seconds = (time.perf_counter() - start) / len(images)
    show_grid(images, captions if any(captions) else None, path=path)
    takes = "takes labels" if any(captions) else "takes no captions"
    if not set(getattr(pipeline.encode_text, "names", ())) <= set(Scenes.classes):
        score = f"{takes}; photographs"
    else:
        score = f"{alignment(images, captions).score:.0%}" if all(captions) else f"{takes}; {valid_share(images):.0%} valid scenes"
    return name, f"{seconds:.2f}", score, str(path)


def save(images: Tensor, captions: Sequence[str], out: Path, record: dict) -> None:
    """One PNG a picture, with its caption inside, all of them as grid.png, and samples.json with what they were drawn from.  captions: () for pictures without any."""
    out.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images):
        pixels = to_uint8(image).permute(1, 2, 0).cpu().numpy()                                  # [H W 3]
        about = PngInfo()
        about.add_itxt("Description", captions[i] if captions else "")
        Image.fromarray(pixels).save(out / f"{i:03d}_{_slug(captions[i] if captions else 'sample')}_seed{record['seed']}.png", pnginfo=about)
    show_grid(images, captions or None, path=out / "grid.png")
    (out / "samples.json").write_text(json.dumps(record, indent=1, ensure_ascii=False, default=str) + "\n", encoding="utf8")


def _slug(text: str) -> str:
    """A safe piece of a file name from any text."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40] or "sample"
