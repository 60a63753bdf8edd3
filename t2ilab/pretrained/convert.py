"""Published weights as runs: `t2ilab convert vq-coco coco_pretrained.pth` makes a folder like any other.

The layout is told from what is given. Checkpoints are read as tensors by name;
nothing in them is executed. Left out: fetching them.
"""
import shutil
import tempfile
from dataclasses import fields
from pathlib import Path

from ..presets import PRESETS
from . import ddpm, glide, vq_diffusers, vq_original
from .adapter import Adapter, Extras
from .read import Published

ADAPTERS = (   # one row per published layout
    Adapter("OpenAI's GLIDE (.pt)", "glide", glide.detect, glide.to_run, ("vocabulary",)),
    Adapter("the original VQ-Diffusion (.pth)", "vq_diffusion", vq_original.detect, vq_original.to_run,
            ("table", "null_embedding")),
    Adapter("diffusers' DDPM (a folder)", "ddpm", ddpm.detect, ddpm.to_run),
    Adapter("diffusers' VQ-Diffusion (a folder)", "vq_diffusion", vq_diffusers.detect, vq_diffusers.to_run,
            ("null_embedding",)),
)


def convert(preset: str, given: Path, out: Path, extras: Extras = Extras()) -> list[str]:
    """Make a run of published weights, in a folder that is not there yet; lines that its user should read.

    preset: the name of its configuration.  given: the file or folder, of one of the layouts in ADAPTERS.
    FileNotFoundError, FileExistsError or ValueError in one line."""
    family = PRESETS[preset].family if preset in PRESETS else None
    fitting = [adapter for adapter in ADAPTERS if adapter.family == family]
    if not fitting:
        raise ValueError(f"{preset}: no published weights fit it; choose a preset such as glide-base, "
                         "vq-coco or ddpm-cifar10")
    if out.exists():
        raise FileExistsError(f"{out} is there already: choose another --out")
    published = Published(Path(given))
    adapter = layout_of(published)
    if adapter not in fitting:
        raise ValueError(f"{given} is {adapter.name if adapter else 'of no layout that is known here'}; "
                         f"{preset} is made of {' or '.join(adapter.name for adapter in fitting)}")
    for extra in fields(Extras):
        if getattr(extras, extra.name) != extra.default and extra.name not in adapter.wants:
            raise ValueError(f"--{extra.name.replace('_', '-')} means nothing for {adapter.name}")
    out.parent.mkdir(parents=True, exist_ok=True)
    begun = Path(tempfile.mkdtemp(prefix=f".{out.name}.unfinished-", dir=out.parent))
    try:
        said = adapter.convert(published, PRESETS[preset], begun, out, extras)
        begun.chmod(0o755)                                   # a temporary folder is its maker's alone
        begun.rename(out)                                    # whole, or not there
    finally:
        shutil.rmtree(begun, ignore_errors=True)
    return said


def layout_of(given: Published) -> Adapter | None:
    """The adapter of the layout that something is of, if it is of one.

    FileNotFoundError or ValueError in one line for what cannot be read."""
    if not given.path.exists():
        raise FileNotFoundError(f"{given.path}: no such weights file")
    return next((adapter for adapter in ADAPTERS if adapter.detect(given)), None)
