"""Sample images, from Python and from the command line.

Options and files in, tensors through the pipeline, named files and a record out.
"""
import json
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from ..data.datasets import is_drawn, open_data
from ..data.decode import read_image
from ..data.shapes import Scenes
from ..pipeline.edit import Edit
from ..pipeline.walk import Pipeline, listed
from ..presets import Preset
from ..ranges import check_numbers, check_ranges
from ..tensors import from_uint8, generator_per_image, to_uint8
from ..viz.notebook import show_grid
from .folder import RunFolder, find
from .load import load, with_settings


def sample(run: str | Path, captions: int | Sequence[str | int], *, method: str | None = None, seed: int = 0,
           out: str | Path | None = None, cascade: bool = True, **settings) -> Tensor:
    """Images [B 3 H W] in [-1, 1], one per caption: `sample("vq-shapes", ["a red circle"], truncation=0.86)`.

    captions: texts, or labels by name or number, or how many images without any.
    method: for VQ-Diffusion, one of the ways that `methods` lists, such as "fast".
    settings: any field of the run's family, for this call only; they win over method.
    out: a folder that gets the images as PNG files with their captions inside.
    The weights stay in memory until another run, or other settings, are asked for.
    ValueError for a method or a setting that the run has not, or an unknown class.
    Lesson: notebooks/08_vq_diffusion.ipynb"""
    texts = [str(caption) for caption in listed(captions)]
    found = find(run)
    settings = method_settings(found, method, settings)
    images = draw(_in_memory(found, cascade, settings), texts, seed=seed, label=str(run))
    if out is not None:
        about = record(found, texts, seed, cascade, settings)
        save(images, texts, Path(out), about | ({"method": method} if method else {}))
    return images


def sample_class(run: str | Path, label: str | int, n: int = 1, **options) -> Tensor:
    """n images [n 3 H W] in [-1, 1] of a class by its name or number: `sample_class("vq-shapes-classes", 4)`.

    options: as of `sample`."""
    return sample(run, [label] * n, **options)


def _in_memory(run: RunFolder, cascade: bool, settings: dict) -> Pipeline:
    """The loaded run, kept as long as its files, its later stages' and the settings stay."""
    stages = (run, *(run.later() if cascade else ()))
    key = json.dumps([[stage.stamp for stage in stages], cascade, settings], sort_keys=True, default=str)
    if _kept.get("key") != key:
        _kept.clear()                                       # frees the old one before the new one is read
        _kept.update(pipeline=load(run, cascade=cascade, **settings), key=key)
    return _kept["pipeline"]


_kept: dict = {}


# What to draw with

def method_settings(run: RunFolder, method: str | None, given: dict) -> dict:
    """The fields of one of the original VQ-Diffusion's ways to sample, by its name; those given win over it.

    method: None for the run's own way.  ValueError for a way that is not there, a run without tokens, or a
    setting out of range."""
    check_numbers({name: v for name, v in given.items() if not isinstance(v, tuple)})
    if method is None:
        return given
    from ..evaluation.ablations.unmasking import methods
    model = run.preset.model
    if not hasattr(model, "prior_weight"):
        raise ValueError(f"method={method!r}: {run.name} draws no codes; "
                         "choose its sampler, sampling_steps and guidance_scale instead")
    ways = methods(model.T, model.guidance_scale)
    if method not in ways:
        raise ValueError(f"method={method!r}: choose one of {', '.join(map(repr, ways))}")
    fields = dict(ways[method])
    if "sampler" in given:
        del fields["prior_weight"]                          # a weight is for its own sampler
    return fields | given


@dataclass(frozen=True)
class SamplingOptions:
    """How to sample: options that override a run's own fields."""
    sampler: str | None = None              # ancestral; pixels: ddim, dpm_solver_pp_2m; tokens: even, purity
    sampling_steps: int | None = None       # network calls per image; the run's own if not given
    guidance_scale: float | None = None     # 1 = off, 0 = unconditional; the run's own if not given
    cascade: bool = True                    # with the stages that upsample the first one's images
    truncation: float | None = None         # VQ-Diffusion: the likeliest codes, up to this share; 1 = all
    top_k: int | None = None                # VQ-Diffusion: so many of the likeliest codes; 0 = all
    prior_weight: float | None = None       # VQ-Diffusion, purity: how much surer a sure code is made
    zero_shot: bool = False                 # VQ-Diffusion: guide away from the empty caption, not the learned

    def __post_init__(self):
        check_ranges(self)


@dataclass(frozen=True)
class EditingOptions:
    """What to start from, and what to stay away from."""
    negative_prompt: str | None = None      # what the images should not show
    init_image: Path | None = None          # an image to start from
    mask: Path | None = None                # of the image: white parts are inpainted, black ones are kept
    strength: float = 1.0                   # how much of the image is noised away: 1 = all, 0.5 = half-way
    low_res_image: Path | None = None       # a small image to upsample, for a run that cannot do without

    def __post_init__(self):
        if not 0 < self.strength <= 1:
            raise ValueError(f"strength={self.strength}: choose a number above 0, at most 1")
        for name in ("mask", "strength"):
            if getattr(self, name) not in (None, 1) and not self.init_image:
                raise ValueError(f"--{name} says what to change of an image: give --init-image too")


def chosen(options: SamplingOptions) -> dict:
    """The fields of a run that were chosen, which are the options that differ from what they are anyway."""
    usual = asdict(SamplingOptions())
    given = asdict(options).items()
    return {name: v for name, v in given if v != usual[name] and name != "cascade"}


def edits(options: EditingOptions) -> dict:
    """The options of a pipeline's walk: images read from their files, square, in [-1, 1]."""
    files = {name: getattr(options, name) for name in ("init_image", "mask", "low_res_image")}
    found = {name: _square(from_uint8(read_image(path))[None]) for name, path in files.items() if path}
    if options.mask and found["mask"].shape != found["init_image"].shape:
        raise ValueError(f"{options.mask} has another size than {options.init_image}")
    negative_prompt = None if options.negative_prompt is None else [options.negative_prompt]
    walk: dict = {"negative_prompt": negative_prompt, "low_res_image": found.get("low_res_image")}
    if options.init_image:
        keep = (found["mask"].mean(1, keepdim=True) < 0) if options.mask else None
        walk["edit"] = Edit(found["init_image"], keep, options.strength)
    return walk


def _square(image):
    """The middle of an image: [1 3 H W] -> [1 3 S S]."""
    H, W = image.shape[2:]
    S = min(H, W)
    top, left = (H - S) // 2, (W - S) // 2
    return image[:, :, top:top + S, left:left + S]


# What to draw

def reads_text(preset: Preset) -> bool:
    """Whether a run reads captions, not labels."""
    return preset.model.reads == "text"


def check_words(preset: Preset, words: Sequence[str]) -> None:
    """ValueError for a caption without quotes: captions of one word each, for a run that reads text."""
    if reads_text(preset) and len(words) > 1 and all(len(word.split()) == 1 for word in words):
        whole = " ".join(words)[:80]
        raise ValueError(f'{len(words)} captions of one word each: put quotes around a caption, '
                         f'as in "{whole}"; or write one per line into a file: --captions FILE')


def unknown_words(preset: Preset, captions: Sequence[str]) -> list[str]:
    """The words that a run on the scenes was never shown; nothing is known of runs on other data."""
    if not is_drawn(preset.data.data) or not reads_text(preset):
        return []
    known = _words_of(preset.data.data)
    words = re.findall(r"[^\W_]+", " ".join(captions).lower())
    return [word for word in dict.fromkeys(words) if word not in known]


@lru_cache(maxsize=2)
def _words_of(data: str) -> frozenset[str]:
    """Every word that captions of a drawn data set are made of."""
    texts = open_data(data, size=32).texts()
    return frozenset(word for text in texts for word in re.findall(r"[^\W_]+", text.lower()))


def warn_of_unknown_words(preset: Preset, captions: Sequence[str]) -> None:
    """One line on stderr if a run was never shown some of the words."""
    if unknown := unknown_words(preset, captions):
        words = ", ".join(unknown[:8]) + " ..." * (len(unknown) > 8)
        print(f"t2ilab: this model was never shown {words}: it will draw something else; it reads captions "
              'such as "a large red circle left of a small blue square on a white background"',
              file=sys.stderr)


# Drawing

def draw(pipeline, captions: list[str], *, seed: int, label: str, **options) -> Tensor:
    """Images [B 3 H W], at most 64 at a time, with a progress bar.

    No image depends on how many are sampled with it."""
    from tqdm import tqdm
    starts, images = range(0, len(captions), 64), []
    sources = generator_per_image(captions, seed)
    steps = sum(len(stage.times_of(options.get("edit"))) - 1 for stage in pipeline.stages)
    with tqdm(total=len(starts) * steps, desc=label, unit="step", disable=not steps) as bar:
        for start in starts:
            part = slice(start, start + 64)
            for name, value in pipeline.walk(captions[part], sources=sources[part], **options):
                bar.update(name == "frame")
            images.append(value.cpu())
    return torch.cat(images)


def demonstrate(name: str, pipeline: Pipeline, out: Path) -> tuple[str, ...]:
    """Let a model show what it can do, in a file: (name, seconds per image, how well it did, the file)."""
    from ..evaluation.alignment import alignment, valid_share
    from ..evaluation.scene_metrics import demo_captions
    captions, _ = demo_captions(pipeline)
    path, start = out / f"{name}.png", time.perf_counter()
    images = draw(pipeline, captions, seed=0, label=name)
    seconds = (time.perf_counter() - start) / len(images)
    show_grid(images, captions if any(captions) else None, path=path)
    takes = "takes labels" if any(captions) else "takes no captions"
    encode_text = pipeline.encode_text
    if encode_text.kind == "label" and not set(encode_text.names) <= set(Scenes.classes):
        score = f"{takes}; photographs"
    elif all(captions):
        score = f"{alignment(images, captions).score:.0%}"
    else:
        score = f"{takes}; {valid_share(images):.0%} valid scenes"
    return name, f"{seconds:.2f}", score, str(path)


# Files

def record(run: RunFolder, captions: list[str], seed: int, cascade: bool, settings: dict) -> dict:
    """What images were sampled from: captions, runs, and every sampling field as it was used."""
    used = asdict(with_settings(run, settings))
    stages = [run.name, *(later.preset.name for later in (run.later() if cascade else ()))]
    about = {"run": run.name, "stages": stages, "captions": captions, "n": len(captions), "seed": seed}
    sampling = {name: used[name] for name in asdict(SamplingOptions()) if name in used}
    return about | sampling | settings


def save(images: Tensor, captions: Sequence[str], out: Path, record: dict) -> None:
    """One PNG per image, its caption inside, all as grid.png, and samples.json: what they were sampled from.

    captions: () for images without any.  Images of an earlier samples.json are removed; other files stay."""
    out.mkdir(parents=True, exist_ok=True)
    earlier, files = _listed(out), []
    for i, image in enumerate(images):
        caption = captions[i] if captions else ""
        pixels = to_uint8(image).permute(1, 2, 0).cpu().numpy()             # [H W 3]
        about = PngInfo()
        about.add_itxt("Description", caption)
        files.append(f"{i:03d}_{_slug(caption)}_seed{record['seed']}.png")
        Image.fromarray(pixels).save(out / files[-1], pnginfo=about)
    for name in earlier - set(files):
        (out / name).unlink(missing_ok=True)
    show_grid(images, captions or None, path=out / "grid.png")
    text = json.dumps(record | {"files": files}, indent=1, ensure_ascii=False, default=str)
    (out / "samples.json").write_text(text + "\n", encoding="utf8")


def _listed(out: Path) -> set[str]:
    """The images that samples.json says were saved here before: only names that `save` itself gives."""
    try:
        files = json.loads((out / "samples.json").read_text(encoding="utf8"))["files"]
        return {name for name in files if re.fullmatch(r"\d{3,}_[a-z0-9-]+_seed-?\d+\.png", name)}
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def _slug(text: str) -> str:
    """A safe piece of a file name from any text."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40] or "sample"
