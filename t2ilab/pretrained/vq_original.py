"""A checkpoint of the original VQ-Diffusion as a run, with its codec's run inside of it.

VQ-Diffusion (Gu et al. 2022), github.com/microsoft/VQ-Diffusion and its forks.
"""
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from ..families.frozen_codec import fingerprint
from ..families.vq_diffusion import VQDiffusionConfig
from ..presets import PRESETS, Preset
from ..vqgan.objective import VQGANLossConfig, VQGANObjective
from .adapter import Extras, write_run
from .read import Published, is_state_dict, read_pickled
from .vq_diffusion import convert_codec, convert_transformer, convert_used

State = dict[str, Tensor]


def detect(given: Published) -> bool:
    """Whether this is a checkpoint of the original VQ-Diffusion: in its "model" a transformer and a codec."""
    model = given.content.get("model") if isinstance(given.content, dict) else None
    return is_state_dict(model) and {"transformer", "content_codec"} <= {name.split(".")[0] for name in model}


def to_run(given: Published, preset: Preset, folder: Path, out: Path, extras: Extras) -> list[str]:
    """A run of the original VQ-Diffusion (see adapter.py): the averaged weights where there are any."""
    codec, network = codec_of(preset)
    network.codec.load_state_dict(convert_codec(given.content["model"], network.codec))
    weights, learned, said = _null_taken(_averaged(given), preset.model.net.classes, extras.null_embedding)
    used = _used(extras.table, preset, codec.model.net.codebook_size)
    net = replace(preset.model.net, flat_positions=preset.model.net.position_table > preset.model.grid)
    model = replace(_told(preset.model, learned), net=net, used=used, codec=str((out / "codec").resolve()),
                    codec_weights=fingerprint(network.codec))
    denoiser = model.build()
    denoiser.net.load_state_dict(convert_transformer(weights, denoiser.net))
    write_run(network, codec, folder / "codec")
    write_run(denoiser, replace(preset, model=model, init_from=None), folder)
    return said


def codec_of(preset: Preset) -> tuple[Preset, VQGANObjective]:
    """The preset of the codec that a preset draws with, and its network.

    It has no discriminator: that was never published."""
    codec = PRESETS[Path(preset.model.codec).name]
    model = replace(codec.model, loss=VQGANLossConfig(perceptual=0.0, adversarial=0.0))
    return replace(codec, model=model), model.build()


def _averaged(given: Published) -> State:
    weights = given.content.get("ema") or given.content["model"]
    if not is_state_dict(weights):
        raise ValueError(f'{given.path}: its "ema" should hold tensors by name and nothing else')
    return weights


# ---- "no caption", and "no label" ----

def _told(model: VQDiffusionConfig, learned: bool) -> VQDiffusionConfig:
    """The same model with or without a learned "no caption" to guide away from."""
    scale, drop = (model.guidance_scale, 0.1) if learned else (1.0, 0.0)
    objective = replace(model.objective, cond_drop_prob=drop)
    return replace(model, guidance_scale=scale, objective=objective)


def _null_taken(weights: State, classes: int, take: str) -> tuple[State, bool, list[str]]:
    """(weights, whether they hold a "no caption" or "no label" to guide away from, what to say of it).

    The fork saves one even where captions were never dropped; then it is as random as it began. No
    number tells that for certain, so the user does."""
    if not any(_is_null(name) or _is_longer(name, v, classes) for name, v in weights.items()):
        return weights, False, []
    learned = take == "learned"
    said = _about_null(weights, learned)
    if not learned:
        weights = {name: v[:classes] if _is_longer(name, v, classes) else v
                   for name, v in weights.items() if not _is_null(name)}
    return weights, learned, [said]


def _is_null(name: str) -> bool:
    return name.endswith("empty_text_embed")


def _is_longer(name: str, v: Tensor, classes: int) -> bool:
    """Whether this is a table of labels with a row more than there are classes."""
    return name.endswith("ln2.emb.weight") and len(v) == classes + 1


def _about_null(weights: State, learned: bool) -> str:
    spread = [f"; its numbers have a standard deviation of {v.std():.2f}, the random ones of a start 1.00"
              for name, v in weights.items() if _is_null(name)]
    holds = f"The file holds an embedding for \"no caption\" or \"no label\"{''.join(spread)}"
    if not learned:
        return f"{holds}.  It was ignored, so nothing guides by it; keep it with --null-embedding learned."
    return (f"{holds}.  It was taken as learned, so the run can be guided; where training "
            "dropped no captions it is random: convert with --null-embedding ignore.")


# ---- the codes that are drawn ----

def _used(table: Path | None, preset: Preset, codes: int) -> tuple[int, ...]:
    """Which of the codec's codes the model draws, from the published list of them; () = all."""
    draws = preset.model.codebook_size
    if table is None:
        if codes > draws:
            raise ValueError(f"{preset.name} draws {draws:,} of its codec's {codes:,} codes: give the list "
                             f"of them (--table taming_vqvae_{draws}.pt)")
        return ()
    listed = read_pickled(table)
    if not isinstance(listed, Tensor) or listed.is_floating_point():
        raise ValueError(f"{table} is no list of used codes: it should hold one tensor of whole numbers")
    used = convert_used(listed)
    if len(used) != draws or max(used) >= codes:
        raise ValueError(f"{table} lists {len(used):,} codes up to number {max(used):,}; {preset.name} draws "
                         f"{draws:,} of {codes:,}")
    return used
