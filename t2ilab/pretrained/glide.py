"""OpenAI's published GLIDE weights in our network: the same layers under other names, with heads and clock arranged in another way.

GLIDE (Nichol et al. 2022), github.com/openai/glide-text2im. Besides the names three things differ there: queries, keys and values lie head by head,
a linear layer over pixels is a convolution of width 1, and time runs from 0 to 999. Left out: fetching the files.
"""
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ..diffusion.schedules import sections
from ..families.glide import GLIDE, GlideNet
from ..nets.attention import Attention
from ..nets.layers import Double, Halve, ResBlock, sinusoid
from ..nets.text_transformer import TextBlock
from ..pipeline.walk import TextToImage
from ..presets.preset import Preset
from ..text.tokenizer import BYTES, read_merges
from ..training.checkpoint import read_tensors
from .adapter import Extras, write_run
from .read import Published, is_state_dict, read_pickled

ENDS = {   # our layer or parameter -> theirs, where there is one of it
    "text.tokens": "token_embedding", "text.positions": "positional_embedding", "text.padding": "padding_embedding", "text.norm": "final_ln",
    "unet.time.0": "time_embed.0", "unet.time.2": "time_embed.2", "unet.pooled": "transformer_proj", "unet.enter": "input_blocks.0.0",
    "unet.leave.0": "out.0", "unet.leave.2": "out.2",
}
INSIDE = {   # the same inside each of the parts that there are many of
    ResBlock: {"norm1": "in_layers.0", "conv1": "in_layers.2", "embed": "emb_layers.1", "norm2": "out_layers.0", "conv2": "out_layers.3",
               "skip": "skip_connection"},
    Attention: {"norm": "norm", "qkv": "qkv", "text": "encoder_kv", "proj": "proj_out"},
    Halve: {"conv": "op"},
    Double: {"conv": "conv"},
    TextBlock: {"norm1": "ln_1", "qkv": "attn.c_qkv", "proj": "attn.c_proj", "norm2": "ln_2", "mlp.0": "mlp.c_fc", "mlp.2": "mlp.c_proj"},
}
HEAD_BY_HEAD = {"qkv": 3, "c_qkv": 3, "encoder_kv": 2}      # their layers that hold so many outputs a head side by side


def load_official(path: str | Path, model: GLIDE, merges: str | Path) -> TextToImage:
    """OpenAI's GLIDE, ready to sample: `load_official("base.pt", GLIDE(), "vocab.bpe.gz")`.

    path: their .pt file or the same as safetensors.  model: its configuration, such as those in presets/; n sampling steps are the times that
    OpenAI's respacing "n" visits.  merges: the vocabulary file published with it.  Raises FileNotFoundError or ValueError in one line.
    Lesson: notebooks/05_glide.ipynb"""
    return _pipeline(read_official(path), Path(path), with_their_times(with_vocabulary(model, merges)))


def _pipeline(state: dict[str, Tensor], path: Path, model: GLIDE) -> TextToImage:
    pipeline = model.build()
    try:
        weights = convert(state, model)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    pipeline.model.net.load_state_dict(weights, strict=True)
    pipeline.model.eval().requires_grad_(False)
    return pipeline


def with_vocabulary(model: GLIDE, merges: str | Path) -> GLIDE:
    """The same model, reading captions by a file of merges.  ValueError for a file that does not fill its vocabulary."""
    model = replace(model, merges=read_merges(merges))
    if len(model.merges) != model.text.vocabulary - BYTES - 1:
        raise ValueError(f"{merges} has {len(model.merges)} merges: a vocabulary of {model.text.vocabulary} has "
                         f"{model.text.vocabulary - BYTES - 1}")
    return model


def with_their_times(model: GLIDE) -> GLIDE:
    """The same model with the times of OpenAI's respacing "n" in the place of n evenly spaced ones, so that it walks as published."""
    n = model.sampling_steps
    return replace(model, sampling_steps=tuple(sections(model.T, (n,)))) if isinstance(n, int) and n > 1 else model


def detect(given: Published) -> bool:
    """Whether this is OpenAI's GLIDE."""
    return is_state_dict(given.content) and "token_embedding.weight" in given.content


def to_run(given: Published, preset: Preset, folder: Path, out: Path, extras: Extras) -> list[str]:
    """A run of OpenAI's GLIDE (see adapter.py)."""
    if extras.vocabulary is None:
        raise ValueError(f"{preset.name} reads captions by its published vocabulary: give the file (--vocabulary vocab.bpe.gz)")
    model = with_their_times(with_vocabulary(preset.model, extras.vocabulary))
    write_run(_pipeline(given.content, given.path, model).model, replace(preset, model=model, start=None), folder)
    return []


def read_official(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a .pt or safetensors file, on the CPU.  Nothing in the file is executed.  FileNotFoundError or ValueError in one line."""
    path = Path(path)
    if path.suffix == ".safetensors":
        return read_tensors(path)
    state = read_pickled(path)
    if not is_state_dict(state):
        raise ValueError(f"{path}: no state dict: it should hold tensors by name and nothing else")
    return state


def convert(state: dict[str, Tensor], model: GLIDE) -> dict[str, Tensor]:
    """The float32 weights of our GlideNet from OpenAI's state dict of the same configuration.

    The model also says what shapes do not show: head_channels and text_heads.  ValueError, in one line, names what is missing, unexpected or misshapen."""
    if (model.T, model.objective.predict) != (1000, "eps"):
        raise ValueError(f"T={model.T}, predict={model.objective.predict!r}: OpenAI's weights predict eps at T=1000")
    with torch.device("meta"):
        net = model.build().stages[0].denoiser.net
    own, official = net.state_dict(), names(net)
    flat = {name: v.squeeze(2) if v.ndim == 3 else v for name, v in state.items()}
    wrong = [f"{name} is unexpected" for name in flat if name not in official.values()]
    wrong += [f"{official[k]} is {list(flat[official[k]].shape) if official[k] in flat else 'missing'}, should be {list(v.shape)}"
              for k, v in own.items() if official[k] not in flat or flat[official[k]].shape != v.shape]
    if wrong:
        raise ValueError("these weights are of another model: " + "; ".join(wrong[:8]) + f" (and {len(wrong) - 8} more)" * (len(wrong) > 8))
    return {k: _arranged(net, k, official[k], flat[official[k]].float()) for k in own}


def names(net: GlideNet) -> dict[str, str]:
    """Our name -> theirs, for every weight of a network."""
    layers = ENDS | {f"{ours}.{a}": f"{theirs}.{b}" for ours, theirs in _parts(net) for a, b in INSIDE[type(net.get_submodule(ours))].items()}
    split = {name: name.rpartition(".") for name in net.state_dict()}
    return {name: layers.get(name) or f"{layers[layer]}.{kind}" for name, (layer, _, kind) in split.items()}


def _parts(net: GlideNet) -> Iterator[tuple[str, str]]:
    """(our name, theirs) of every part that there are many of.  Theirs doubles the picture at the end of a layer, ours in a layer of its own."""
    yield from ((f"text.blocks.{i}", f"transformer.resblocks.{i}") for i in range(len(net.text.blocks)))
    yield from ((f"unet.down.{i}.{j}", f"input_blocks.{i + 1}.{j}") for i, layer in enumerate(net.unet.down) for j in range(len(layer)))
    yield from ((f"unet.middle.{j}", f"middle_block.{j}") for j in range(3))
    blocks = net.unet.config.blocks + 1                                                         # a level on the way up
    for i, layer in enumerate(net.unet.up):
        level, block = divmod(i, blocks + 1)
        beside = len(net.unet.up[i - 1]) if block == blocks else 0
        yield from ((f"unet.up.{i}.{j}", f"output_blocks.{level * blocks + min(block, blocks - 1)}.{beside + j}") for j in range(len(layer)))


def _arranged(net: GlideNet, ours: str, theirs: str, weight: Tensor) -> Tensor:
    """One of their weights as our layer of that name wants it."""
    if ours == "unet.time.0.weight":
        return one_later(weight)
    parts = HEAD_BY_HEAD.get(theirs.rpartition(".")[0].rpartition(".")[2])
    if parts is None:
        return weight
    heads = net.get_submodule(ours.rsplit(".", 2)[0]).heads
    return weight.unflatten(0, (heads, parts, -1)).transpose(0, 1).flatten(0, 2)                # [heads q|k|v d ...] -> [q|k|v heads d ...]


def one_later(weight: Tensor, last: int = 0) -> Tensor:
    """The clock's first layer [E C] for times from 1 to 1000: a clock face one step ago is today's turned back by the angle of one step.

    last: of `sinusoid`."""
    cos, sin = sinusoid(torch.ones(1, device=weight.device), weight.shape[1], last=last).double().chunk(2, dim=1)
    of_cos, of_sin = weight.double().chunk(2, dim=1)
    return torch.cat([of_cos * cos - of_sin * sin, of_cos * sin + of_sin * cos], dim=1).to(weight.dtype)
