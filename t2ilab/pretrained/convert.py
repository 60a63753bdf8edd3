"""Published checkpoints as runs of ours: `t2ilab convert vq-coco coco_pretrained.pth` makes folders that everything else here can use.

Checkpoints are read as tensors by name; nothing in them is executed. Left out: fetching them, and the text encoders they were trained with.
"""
import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from .. import __version__
from ..families.frozen_codec import fingerprint
from ..families.vq_diffusion import VQDiffusion
from ..presets import PRESETS, Preset
from ..training.checkpoint import save_weights, write_text
from ..vqgan.objective import CodecLossConfig
from .glide import load_official
from .read import read_pickled
from .vq_diffusion import convert_codec, convert_transformer, convert_used


def convert(preset: str, file: Path, out: Path, *, table: Path | None = None, vocabulary: Path | None = None) -> None:
    """Make a run of a published checkpoint, in a folder that is not there yet: of a GLIDE, or of a VQ-Diffusion with the codec in the same file.

    preset: the name of its configuration.  table: the original's list of used codes, where the model draws fewer than the codec has.  vocabulary: of
    GLIDE, the file of merges that was published with it.  FileNotFoundError, FileExistsError or ValueError in one line."""
    if preset not in PRESETS or PRESETS[preset].family not in ("glide", "vq_diffusion"):
        raise ValueError(f"{preset}: choose a preset of GLIDE or VQ-Diffusion, such as glide-base or vq-coco")
    if out.exists():
        raise FileExistsError(f"{out} is there already: choose another --out")
    out.parent.mkdir(parents=True, exist_ok=True)
    begun = Path(tempfile.mkdtemp(prefix=f".{out.name}.unfinished-", dir=out.parent))
    try:
        if PRESETS[preset].family == "glide":
            _convert_glide(PRESETS[preset], file, begun, vocabulary)
        else:
            _convert_vq(PRESETS[preset], file, begun, out, table)
        begun.chmod(0o755)                                               # a temporary folder is its maker's alone
        begun.rename(out)                                                # whole, or not there
    finally:
        shutil.rmtree(begun, ignore_errors=True)


def _convert_glide(preset: Preset, file: Path, begun: Path, vocabulary: Path | None) -> None:
    if vocabulary is None:
        raise ValueError(f"{preset.name} reads captions by its published vocabulary: give the file (--vocabulary vocab.bpe.gz)")
    pipeline = load_official(file, preset.model, vocabulary)
    _write(pipeline.model, replace(preset, model=replace(preset.model, merges=pipeline.encode_text.merges)), begun)


def _convert_vq(preset: Preset, file: Path, begun: Path, out: Path, table: Path | None) -> None:
    """The codec's run lies inside of the model's, and the model names it."""
    state = _read(file)
    codec = PRESETS[Path(preset.model.codec).name]
    codec = replace(codec, model=replace(codec.model, loss=CodecLossConfig(perceptual=0.0, adversarial=0.0)))       # its critic was not published
    painter = codec.model.build()
    painter.codec.load_state_dict(convert_codec(state["model"], painter.codec))
    weights = state.get("ema") or state["model"]
    no_label = preset.model.net.classes + 1                              # rows of a table of labels that has "no label" as well
    learned = any(name.endswith("empty_text_embed") or name.endswith("ln2.emb.weight") and len(v) == no_label for name, v in weights.items())
    if table is None and codec.model.net.codes > preset.model.codes:
        raise ValueError(f"{preset.name} draws {preset.model.codes:,} of its codec's {codec.model.net.codes:,} codes: give the list of them "
                         f"(--table taming_vqvae_{preset.model.codes}.pt)")
    used = convert_used(_tensor(table)) if table else ()
    if table and (len(used) != preset.model.codes or max(used) >= codec.model.net.codes):
        raise ValueError(f"{table} lists {len(used):,} codes up to number {max(used):,}; {preset.name} draws {preset.model.codes:,} of {codec.model.net.codes:,}")
    model: VQDiffusion = replace(
        preset.model, codec=str((out / "codec").resolve()), codec_weights=fingerprint(painter.codec), used=used,
        guidance_scale=preset.model.guidance_scale if learned else 1.0, objective=replace(preset.model.objective, drop=0.1 if learned else 0.0),
        net=replace(preset.model.net, flat_places=preset.model.net.place_table > preset.model.grid))
    denoiser = model.build()
    denoiser.net.load_state_dict(convert_transformer(weights, denoiser.net))
    _write(painter, codec, begun / "codec")
    _write(denoiser, replace(preset, model=model, start=None), begun)


def _write(model: torch.nn.Module, preset: Preset, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    save_weights(model, folder / "model.safetensors")
    write_text(folder / "config.json", json.dumps(preset.to_dict() | {"t2ilab": __version__, "torch": torch.__version__}, indent=1) + "\n")


def _read(file: Path) -> dict[str, dict[str, Tensor]]:
    """The "model" of an original VQ-Diffusion checkpoint, and its "ema" where there is one."""
    state = read_pickled(file)
    parts = {name: state[name] for name in ("model", "ema") if isinstance(state, dict) and isinstance(state.get(name), dict)}
    if "model" not in parts or not all(isinstance(v, Tensor) for part in parts.values() for v in part.values()):
        raise ValueError(f"{file} is no checkpoint of VQ-Diffusion: it should hold \"model\", tensors by name")
    return parts


def _tensor(file: Path) -> Tensor:
    found = read_pickled(file)
    if not isinstance(found, Tensor) or found.is_floating_point():
        raise ValueError(f"{file} is no list of used codes: it should hold one tensor of whole numbers")
    return found
