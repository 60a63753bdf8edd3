"""diffusers' DDPM (google/ddpm-cifar10-32, and what its training script leaves behind) as a run.

DDPM (Ho et al. 2020). The layers are the same under other names; queries, keys and values are three layers
there and two here, and time runs from 0 to 999. What shapes do not show stands in its config files, and is
checked. Left out: fetching the folder.
"""
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ..families.ddpm import DDPMConfig
from ..nets.unet import UNet, UNetConfig
from ..presets.preset import Preset
from .adapter import Extras, write_run
from .glide import one_later
from .read import Published, check, differing, gathered, one_of, refuse_another, with_new_names

ENDS = {   # our layer -> theirs, where there is one of it
    "time.0": "time_embedding.linear_1", "time.2": "time_embedding.linear_2", "conv_in": "conv_in",
    "conv_out.0": "conv_norm_out", "conv_out.2": "conv_out"}
# The same inside each of the parts that there are many of.
BLOCK = {"norm1": ("norm1",), "conv1": ("conv1",), "embed": ("time_emb_proj",), "norm2": ("norm2",),
         "conv2": ("conv2",), "skip": ("conv_shortcut",)}
ATTENTION = {"norm": ("group_norm",), "attend.q": ("to_q",), "attend.kv": ("to_k", "to_v"),
             "attend.proj": ("to_out.0",)}
RESAMPLE = {"conv": ("conv",)}
# What they call it -> (what our network does, what theirs does where its config says nothing).
FIXED_NET = {
    "act_fn": ("silu", "silu"), "in_channels": (3, 3), "out_channels": (3, 3), "norm_num_groups": (32, 32),
    "add_attention": (True, True), "time_embedding_type": ("positional", "positional"),
    "downsample_type": ("conv", "conv"), "upsample_type": ("conv", "conv"),
    "center_input_sample": (False, False), "mid_block_scale_factor": (1, 1),
    "class_embed_type": (None, None), "num_class_embeds": (None, None)}
FIXED_PROCESS = {
    "num_train_timesteps": (1000, 1000), "trained_betas": (None, None), "clip_sample": (True, True),
    "clip_sample_range": (1.0, 1.0), "thresholding": (False, False), "rescale_betas_zero_snr": (False, False)}
CONVENTIONS = {"freq_shift": 0, "downsample_padding": 1, "norm_eps": 1e-5}      # theirs if not told
TF_LAYOUT = {(1, 0, 1e-6): True, (0, 1, 1e-5): False}
SCALE_SHIFT = {"default": False, "scale_shift": True}
PREDICT = {"epsilon": "eps", "v_prediction": "v", "sample": "x0"}
VARIANCE = {"fixed_small": "small", "fixed_large": "large"}
SCHEDULE = {"linear": "linear", "squaredcos_cap_v2": "cosine"}


def detect(given: Published) -> bool:
    """Whether this is a folder with a UNet2DModel, in unet/ or at its top."""
    config = given.part("unet").config("config.json") if given.path.is_dir() else {}
    return config.get("_class_name") == "UNet2DModel"


def to_run(given: Published, preset: Preset, folder: Path, out: Path, extras: Extras) -> list[str]:
    """A run of diffusers' DDPM (see adapter.py).  ValueError where the preset is of another model."""
    unet = given.part("unet")
    config, process = unet.config("config.json"), given.part("scheduler").needed("scheduler_config.json")
    try:
        found, wanted = model_of(config, process, preset.model), preset.model
    except (LookupError, TypeError, AttributeError, ZeroDivisionError) as error:
        raise ValueError(f"{given.path}: config.json is of no UNet2DModel ({error})") from error
    net = replace(found.net, tf_layout=wanted.net.tf_layout)     # this and the objective are theirs to say
    rest = differing(replace(wanted, net=net, objective=found.objective), replace(found, net=net))
    refuse_another(given.path, preset.name, [*differing(wanted.net, net), *rest])
    denoiser = found.build()
    flip = config.get("flip_sin_to_cos", True)
    denoiser.net.load_state_dict(convert(unet.weights(), denoiser.net, flip))
    write_run(denoiser, replace(preset, model=found, init_from=None), folder)
    return []


def model_of(config: dict, process: dict, model: DDPMConfig) -> DDPMConfig:
    """The model that their two config files describe; the rest, such as dropout, is another model's.

    config: of a UNet2DModel.  process: of its scheduler.  ValueError for what our network does not do."""
    check(config, FIXED_NET)
    check(process, FIXED_PROCESS)
    widths = config["block_out_channels"]
    attention = [kind.startswith("Attn") for kind in config["down_block_types"]]
    down = ["AttnDownBlock2D" if here else "DownBlock2D" for here in attention]
    up = ["AttnUpBlock2D" if here else "UpBlock2D" for here in reversed(attention)]
    check({name: list(config[name]) for name in ("down_block_types", "up_block_types")},
          {"down_block_types": (down, down), "up_block_types": (up, up)})
    layout = tuple(config.get(name, default) for name, default in CONVENTIONS.items())
    scale_shift = config.get("resnet_time_scale_shift", "default")
    net = replace(
        model.net, channels=widths[0], channel_mult=tuple(w // widths[0] for w in widths),
        attention=tuple(attention), blocks=config.get("layers_per_block", 2),
        head_channels=config.get("attention_head_dim", 8),
        resample="conv", patch=1, places=False, classes=0,
        scale_shift_norm=one_of(scale_shift, SCALE_SHIFT, "resnet_time_scale_shift"),
        tf_layout=one_of(layout, TF_LAYOUT, ", ".join(CONVENTIONS)))
    predict, variance = process.get("prediction_type", "epsilon"), process.get("variance_type", "fixed_small")
    objective = replace(model.objective, predict=one_of(predict, PREDICT, "prediction_type"),
                        variance=one_of(variance, VARIANCE, "variance_type"))
    schedule = one_of(process.get("beta_schedule", "linear"), SCHEDULE, "beta_schedule")
    if schedule == "linear":
        check(process, {"beta_start": (1e-4, 1e-4), "beta_end": (0.02, 0.02)})
    return replace(model, size=config["sample_size"], T=1000, schedule=schedule, net=net, objective=objective)


def convert(state: dict[str, Tensor], net: UNet, flip: bool = True) -> dict[str, Tensor]:
    """The float32 weights of our U-Net from a UNet2DModel's: ours at time t + 1 gives what theirs gives at t.

    flip: their flip_sin_to_cos, which is cosines before sines, as here.
    ValueError, in one line, names what is missing, unexpected or misshapen."""
    found = gathered(with_new_names(state), net, dict(names(net)))
    first = found["time.0.weight"]                               # [E C], of the time MLP
    if not flip:
        sines, cosines = first.chunk(2, dim=1)
        first = torch.cat([cosines, sines], dim=1)
    return found | {"time.0.weight": one_later(first, last=int(net.config.tf_layout))}


def names(net: UNet) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(our weight, theirs that make it up) of a whole network."""
    layers = {ours: (theirs,) for ours, theirs in ENDS.items()}
    for ours, theirs, inside in _parts(net.config):
        layers |= {f"{ours}.{a}": tuple(f"{theirs}.{b}" for b in bs) for a, bs in inside.items()}
    for name in net.state_dict():
        layer, _, kind = name.rpartition(".")
        yield name, tuple(f"{theirs}.{kind}" for theirs in layers[layer])


def _parts(c: UNetConfig) -> Iterator[tuple[str, str, dict]]:
    """(our name, theirs, what is inside) of each part that there are many of."""
    top = len(c.channel_mult) - 1
    for level in range(top + 1):
        for way, there, blocks in (("down", level, c.blocks), ("up", top - level, c.blocks + 1)):
            for j in range(blocks):
                yield from _layer(f"{way}.level{level}_block{j}", f"{way}_blocks.{there}", j)
            yield f"{way}.level{level}_{way}", f"{way}_blocks.{there}.{way}samplers.0", RESAMPLE
    yield from _layer("middle.block0", "mid_block", 0)
    yield from _layer("middle.block1", "mid_block", 1)


def _layer(ours: str, theirs: str, j: int) -> Iterator[tuple[str, str, dict]]:
    yield f"{ours}.block", f"{theirs}.resnets.{j}", BLOCK
    yield f"{ours}.attentions.0", f"{theirs}.attentions.{j}", ATTENTION
