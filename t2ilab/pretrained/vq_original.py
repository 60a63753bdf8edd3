"""A checkpoint of the original VQ-Diffusion (github.com/microsoft/VQ-Diffusion and its forks) as a run, with its codec's run inside of it."""
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from ..families.frozen_codec import fingerprint
from ..families.vq_diffusion import VQDiffusion
from ..presets.preset import Preset
from ..vqgan.objective import CodecLossConfig, CodecObjective
from .adapter import Extras, write_run
from .read import Published, is_state_dict, read_pickled
from .vq_diffusion import convert_codec, convert_transformer, convert_used

State = dict[str, Tensor]


def detect(given: Published) -> bool:
    """Whether this is a checkpoint of the original VQ-Diffusion: "model", and in it a transformer and a codec."""
    model = given.content.get("model") if isinstance(given.content, dict) else None
    return is_state_dict(model) and all(any(name.startswith(part) for name in model) for part in ("transformer.", "content_codec."))


def to_run(given: Published, preset: Preset, folder: Path, out: Path, extras: Extras) -> list[str]:
    """A run of the original VQ-Diffusion (see adapter.py): the averaged weights where there are any."""
    state = given.content
    codec, painter = codec_of(preset)
    painter.codec.load_state_dict(convert_codec(state["model"], painter.codec))
    weights = state.get("ema") or state["model"]
    if not is_state_dict(weights):
        raise ValueError(f'{given.path}: its "ema" should hold tensors by name and nothing else')
    learned, said = has_null(weights, preset.model.net.classes), []
    if learned:
        said = [_about_null(weights, extras.null_embedding)]
        weights, learned = (weights, True) if extras.null_embedding == "learned" else (_without_null(weights, preset.model.net.classes), False)
    used = _used(extras.table, preset, codec.model.net.codes)
    net = replace(preset.model.net, flat_places=preset.model.net.place_table > preset.model.grid)
    model = replace(told(preset.model, learned), codec=str((out / "codec").resolve()), codec_weights=fingerprint(painter.codec), used=used, net=net)
    denoiser = model.build().model
    denoiser.net.load_state_dict(convert_transformer(weights, denoiser.net))
    write_run(painter, codec, folder / "codec")
    write_run(denoiser, replace(preset, model=model, start=None), folder)
    return said


def codec_of(preset: Preset) -> tuple[Preset, CodecObjective]:
    """The preset of the codec that a preset draws with, and its network with random weights; its critic was never published."""
    from ..presets import PRESETS
    codec = PRESETS[Path(preset.model.codec).name]
    codec = replace(codec, model=replace(codec.model, loss=CodecLossConfig(perceptual=0.0, adversarial=0.0)))
    return codec, codec.model.build().model


def told(model: VQDiffusion, learned: bool) -> VQDiffusion:
    """The same model with or without a learned "no caption" to guide away from."""
    guidance_scale, drop = (model.guidance_scale, 0.1) if learned else (1.0, 0.0)
    return replace(model, guidance_scale=guidance_scale, objective=replace(model.objective, drop=drop))


def has_null(weights: State, classes: int) -> bool:
    """Whether a checkpoint holds something for "no caption", or a label more than there are classes."""
    return any(_is_null(name) or _is_longer(name, v, classes) for name, v in weights.items())


def _is_null(name: str) -> bool:
    return name.endswith("empty_text_embed")


def _is_longer(name: str, v: Tensor, classes: int) -> bool:
    return name.endswith("ln2.emb.weight") and len(v) == classes + 1


def _without_null(weights: State, classes: int) -> State:
    return {name: v[:classes] if _is_longer(name, v, classes) else v for name, v in weights.items() if not _is_null(name)}


def _about_null(weights: State, take: str) -> str:
    """What is done with "no caption".  The fork saves one even where captions were never dropped; then it is as random as it began."""
    spread = [f"; its numbers have a standard deviation of {v.std():.2f}, and training starts from random ones of 1.00"
              for name, v in weights.items() if _is_null(name)]
    means = {"learned": "taken as learned, so the run can be guided; if it was trained without dropping captions, it is random: convert it "
             "with --null-embedding ignore", "ignore": "ignored, so the run cannot be guided by it; keep it with --null-embedding learned"}
    return f"The file holds an embedding for \"no caption\" or \"no label\"{''.join(spread)}.  It was {means[take]}."


def _used(table: Path | None, preset: Preset, codes: int) -> tuple[int, ...]:
    """Which of the codec's codes the model draws, from the published list of them; () = all."""
    draws = preset.model.codes
    if table is None:
        if codes > draws:
            raise ValueError(f"{preset.name} draws {draws:,} of its codec's {codes:,} codes: give the list of them "
                             f"(--table taming_vqvae_{draws}.pt)")
        return ()
    listed = read_pickled(table)
    if not isinstance(listed, Tensor) or listed.is_floating_point():
        raise ValueError(f"{table} is no list of used codes: it should hold one tensor of whole numbers")
    used = convert_used(listed)
    if len(used) != draws or max(used) >= codes:
        raise ValueError(f"{table} lists {len(used):,} codes up to number {max(used):,}; {preset.name} draws {draws:,} of {codes:,}")
    return used
