"""OpenAI's published GLIDE weights in our network: the same layers under other names,
with heads and clock arranged in another way.

GLIDE (Nichol et al. 2022), github.com/openai/glide-text2im. Besides the names three things differ there:
queries, keys and values lie head by head, a linear layer over pixels is a convolution of width 1, and time
runs from 0 to 999. Left out: fetching the files.
"""
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ..diffusion.schedules import sections
from ..families.glide import GLIDEConfig, GlideNet
from ..nets.attention import Attention
from ..nets.layers import Downsample, Layer, ResBlock, Upsample, timestep_embedding
from ..nets.text_transformer import TextBlock
from ..pipeline.walk import Pipeline
from ..presets.preset import Preset
from ..text.tokenizer import BYTES, read_merges
from ..training.checkpoint import read_tensors
from .adapter import Extras, write_run
from .read import Published, is_state_dict, read_pickled

ENDS = {   # our layer or parameter -> theirs, where there is one of it
    "text.tokens": "token_embedding", "text.positions": "positional_embedding",
    "text.padding": "padding_embedding", "text.norm": "final_ln",
    "unet.time.0": "time_embed.0", "unet.time.2": "time_embed.2", "unet.pooled": "transformer_proj",
    "unet.conv_in": "input_blocks.0.0",
    "unet.conv_out.0": "out.0", "unet.conv_out.2": "out.2",
}
INSIDE = {   # the same inside each of the parts that there are many of
    ResBlock: {"norm1": "in_layers.0", "conv1": "in_layers.2", "embed": "emb_layers.1",
               "norm2": "out_layers.0", "conv2": "out_layers.3",
               "skip": "skip_connection"},
    Attention: {"norm": "norm", "attend.q": "qkv.q", "attend.kv": "qkv.kv", "attend.context_kv": "encoder_kv",
                "attend.proj": "proj_out"},
    Downsample: {"conv": "op"},
    Upsample: {"conv": "conv"},
    TextBlock: {"norm1": "ln_1", "attention.q": "attn.c_qkv.q", "attention.kv": "attn.c_qkv.kv",
                "attention.proj": "attn.c_proj",
                "norm2": "ln_2", "mlp.0": "mlp.c_fc", "mlp.2": "mlp.c_proj"},
}
# their layers that hold so many outputs per head side by side
HEAD_BY_HEAD = {"qkv": 3, "c_qkv": 3, "encoder_kv": 2}


def load_official(path: str | Path, model: GLIDEConfig, merges: str | Path) -> Pipeline:
    """OpenAI's GLIDE, ready to sample: `load_official("base.pt", GLIDE(), "vocab.bpe.gz")`.

    path: their .pt file or the same as safetensors.  model: its configuration, such as those in presets/; n
    sampling steps are the times that OpenAI's respacing "n" visits.  merges: the vocabulary file published
    with it.  Raises FileNotFoundError or ValueError in one line.
    Lesson: notebooks/05_glide.ipynb"""
    return _pipeline(read_official(path), Path(path), with_their_times(with_vocabulary(model, merges)))


def _pipeline(state: dict[str, Tensor], path: Path, model: GLIDEConfig) -> Pipeline:
    pipeline = model.pipeline()
    try:
        weights = convert(state, model)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    pipeline.model.net.load_state_dict(weights, strict=True)
    pipeline.model.eval().requires_grad_(False)
    return pipeline


def with_vocabulary(model: GLIDEConfig, merges: str | Path) -> GLIDEConfig:
    """The same model, reading captions by a file of merges.  ValueError for a file that does not fill its
    vocabulary."""
    model = replace(model, merges=read_merges(merges))
    if len(model.merges) != model.text.vocabulary - BYTES - 1:
        raise ValueError(f"{merges} has {len(model.merges)} merges: a vocabulary of "
                         f"{model.text.vocabulary} has "
                         f"{model.text.vocabulary - BYTES - 1}")
    return model


def with_their_times(model: GLIDEConfig) -> GLIDEConfig:
    """The same model with the times of OpenAI's respacing "n" in the place of n evenly spaced ones,
    so that it walks as published."""
    n = model.sampling_steps
    return (
        replace(model, sampling_steps=tuple(sections(model.T, (n,))))
        if isinstance(n, int) and n > 1
        else model
    )


def detect(given: Published) -> bool:
    """Whether this is OpenAI's GLIDE."""
    return is_state_dict(given.content) and "token_embedding.weight" in given.content


def to_run(given: Published, preset: Preset, folder: Path, out: Path, extras: Extras) -> list[str]:
    """A run of OpenAI's GLIDE (see adapter.py)."""
    if extras.vocabulary is None:
        raise ValueError(f"{preset.name} reads captions by its published vocabulary: give the file "
                         "(--vocabulary vocab.bpe.gz)")
    model = with_their_times(with_vocabulary(preset.model, extras.vocabulary))
    write_run(_pipeline(given.content, given.path, model).model, replace(preset, model=model, init_from=None),
              folder)
    return []


def read_official(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a .pt or safetensors file, on the CPU.  Nothing in the file is executed.
    FileNotFoundError or ValueError in one line."""
    path = Path(path)
    if path.suffix == ".safetensors":
        return read_tensors(path)
    state = read_pickled(path)
    if not is_state_dict(state):
        raise ValueError(f"{path}: no state dict: it should hold tensors by name and nothing else")
    return state


def convert(state: dict[str, Tensor], model: GLIDEConfig) -> dict[str, Tensor]:
    """The float32 weights of our GlideNet from OpenAI's state dict of the same configuration.

    The model also says what shapes do not show: head_channels and text_heads.  ValueError, in one line, names
    what is missing, unexpected or misshapen."""
    if (model.T, model.objective.predict) != (1000, "eps"):
        raise ValueError(f"T={model.T}, predict={model.objective.predict!r}: OpenAI's weights predict eps "
                         "at T=1000")
    with torch.device("meta"):
        net = model.build().net
    own, official = net.state_dict(), names(net)
    flat = {}
    for name, v in state.items():
        flat |= _part_by_part(name, v.squeeze(2) if v.ndim == 3 else v, model)
    wrong = [f"{name} is unexpected" for name in flat if name not in official.values()]
    wrong += [
        f"{official[k]} is {list(flat[official[k]].shape) if official[k] in flat else 'missing'}, should be "
        f"{list(v.shape)}"
        for k, v in own.items()
        if official[k] not in flat or flat[official[k]].shape != v.shape
    ]
    if wrong:
        raise ValueError(
            "these weights are of another model: "
            + "; ".join(wrong[:8])
            + f" (and {len(wrong) - 8} more)" * (len(wrong) > 8)
        )
    weights = {k: flat[official[k]].float() for k in own}
    return weights | {"unet.time.0.weight": one_later(weights["unet.time.0.weight"])}


def names(net: GlideNet) -> dict[str, str]:
    """Our name -> theirs, for every weight of a network."""
    layers = ENDS | {f"{ours}.{a}": f"{theirs}.{b}" for ours, theirs in _parts(net)
                     for a, b in INSIDE[type(net.get_submodule(ours))].items()}
    split = {name: name.rpartition(".") for name in net.state_dict()}
    return {name: layers.get(name) or f"{layers[layer]}.{kind}" for name, (layer, _, kind) in split.items()}


def _parts(net: GlideNet) -> Iterator[tuple[str, str]]:
    """(our name, theirs) of every part that there are many of.  Theirs doubles the image at the end of a
    layer, ours in a layer of its own."""
    yield from ((f"text.blocks.{i}", f"transformer.resblocks.{i}") for i in range(len(net.text.blocks)))
    for i, (name, layer) in enumerate(net.unet.down.items()):
        yield from _inside(f"unet.down.{name}", layer, f"input_blocks.{i + 1}", 0)
    (_, first), (_, second) = net.unet.middle.items()
    yield from _inside("unet.middle.block0", first, "middle_block", 0)
    yield from _inside("unet.middle.block1", second, "middle_block", 2)
    i, parts = -1, 0  # their layer, and its parts so far
    for name, layer in net.unet.up.items():
        i, parts = (i + 1, 0) if layer.takes_skip else (i, parts)
        inside = list(_inside(f"unet.up.{name}", layer, f"output_blocks.{i}", parts))
        parts += len(inside)
        yield from inside


def _inside(ours: str, layer: nn.Module, theirs: str, start: int) -> Iterator[tuple[str, str]]:
    """(our name, theirs) of the parts of one layer; theirs are numbered from start."""
    if not isinstance(layer, Layer):  # a convolution that halves or doubles
        yield ours, f"{theirs}.{start}"
        return
    yield f"{ours}.block", f"{theirs}.{start}"
    yield from ((f"{ours}.attentions.{k}", f"{theirs}.{start + 1 + k}") for k in range(len(layer.attentions)))


def _part_by_part(name: str, weight: Tensor, model: GLIDEConfig) -> dict[str, Tensor]:
    """One of their weights, or where it holds queries, keys and values head by head: those apart,
    as name.q and name.kv."""
    layer = name.split(".")[-2] if "." in name else ""
    parts = HEAD_BY_HEAD.get(layer)
    width = len(weight) // (parts or 1)
    heads = model.text.text_heads if layer == "c_qkv" else width // (model.net.head_channels or width or 1)
    if parts is None or not heads or len(weight) % (parts * heads):
        return {name: weight}
    weight = weight.unflatten(0, (heads, parts, -1)).transpose(0, 1).flatten(1, 2)     # [q|k|v width ...]
    if parts == 2:
        return {name: weight.flatten(0, 1)}
    where, kind = name.rsplit(".", 1)
    return {f"{where}.q.{kind}": weight[0], f"{where}.kv.{kind}": weight[1:].flatten(0, 1)}


def one_later(weight: Tensor, last: int = 0) -> Tensor:
    """The time MLP's first layer [E C] for times from 1 to 1000:
    an embedding one step ago is today's turned back.

    last: of `timestep_embedding`."""
    one = torch.ones(1, device=weight.device)
    cos, sin = timestep_embedding(one, weight.shape[1], last=last).double().chunk(2, dim=1)
    of_cos, of_sin = weight.double().chunk(2, dim=1)
    return torch.cat([of_cos * cos - of_sin * sin, of_cos * sin + of_sin * cos], dim=1).to(weight.dtype)
