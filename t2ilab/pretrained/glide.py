"""OpenAI's published GLIDE weights in our network: the same layers under other names.

GLIDE (Nichol et al. 2022), github.com/openai/glide-text2im. Besides the names three things differ there:
queries, keys and values lie head by head, a linear layer over pixels is a convolution of width 1, and time
runs from 0 to 999. Left out: fetching the files.
"""
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ..diffusion.schedules import sections
from ..families.glide import GLIDEConfig, GlideNet
from ..nets.attention import Attention
from ..nets.layers import Downsample, ResBlock, Upsample, timestep_embedding
from ..nets.text_transformer import TextBlock
from ..nets.unet import UNet
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
    "unet.conv_in": "input_blocks.0.0", "unet.conv_out.0": "out.0", "unet.conv_out.2": "out.2"}
INSIDE = {   # the same inside each of the parts that there are many of
    ResBlock: {"norm1": "in_layers.0", "conv1": "in_layers.2", "embed": "emb_layers.1",
               "norm2": "out_layers.0", "conv2": "out_layers.3", "skip": "skip_connection"},
    Attention: {"norm": "norm", "attend.q": "qkv.q", "attend.kv": "qkv.kv", "attend.context_kv": "encoder_kv",
                "attend.proj": "proj_out"},
    Downsample: {"conv": "op"},
    Upsample: {"conv": "conv"},
    TextBlock: {"norm1": "ln_1", "attention.q": "attn.c_qkv.q", "attention.kv": "attn.c_qkv.kv",
                "attention.proj": "attn.c_proj", "norm2": "ln_2", "mlp.0": "mlp.c_fc", "mlp.2": "mlp.c_proj"}}
HEAD_BY_HEAD = {"qkv": 3, "c_qkv": 3, "encoder_kv": 2}      # their layers that hold so many outputs per head


def load_official(path: str | Path, model: GLIDEConfig, merges: str | Path) -> Pipeline:
    """OpenAI's GLIDE, ready to sample: `load_official("base.pt", GLIDE(), "vocab.bpe.gz")`.

    path: their .pt file or the same as safetensors.  model: its configuration, such as those in presets/;
    n sampling steps are the times that OpenAI's respacing "n" visits.  merges: the vocabulary file published
    with it.  Raises FileNotFoundError or ValueError in one line.  Lesson: notebooks/05_glide.ipynb"""
    model = with_their_times(with_vocabulary(model, merges))
    return _pipeline(read_official(path), Path(path), model)


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
    """The same model, reading captions by a file of merges.

    ValueError for a file that does not fill its vocabulary."""
    model = replace(model, merges=read_merges(merges))
    wanted = model.text.vocabulary - BYTES - 1
    if len(model.merges) != wanted:
        raise ValueError(f"{merges} has {len(model.merges)} merges: "
                         f"a vocabulary of {model.text.vocabulary} has {wanted}")
    return model


def with_their_times(model: GLIDEConfig) -> GLIDEConfig:
    """The same model, visiting the times of OpenAI's respacing "n" in the place of n evenly spaced ones."""
    n = model.sampling_steps
    if not isinstance(n, int) or n <= 1:
        return model
    return replace(model, sampling_steps=tuple(sections(model.T, (n,))))


def detect(given: Published) -> bool:
    """Whether this is OpenAI's GLIDE."""
    return is_state_dict(given.content) and "token_embedding.weight" in given.content


def to_run(given: Published, preset: Preset, folder: Path, out: Path, extras: Extras) -> list[str]:
    """A run of OpenAI's GLIDE (see adapter.py)."""
    if extras.vocabulary is None:
        raise ValueError(f"{preset.name} reads captions by its published vocabulary: "
                         "give the file (--vocabulary vocab.bpe.gz)")
    model = with_their_times(with_vocabulary(preset.model, extras.vocabulary))
    denoiser = _pipeline(given.content, given.path, model).model
    write_run(denoiser, replace(preset, model=model, init_from=None), folder)
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

    The model also says what shapes do not show: head_channels and text_heads.
    ValueError, in one line, names what is missing, unexpected or misshapen."""
    if (model.T, model.objective.predict) != (1000, "eps"):
        raise ValueError(f"T={model.T}, predict={model.objective.predict!r}: "
                         "OpenAI's weights predict eps at T=1000")
    with torch.device("meta"):
        net = model.build().net
    theirs = {}
    for name, v in state.items():
        linear = v.squeeze(2) if v.ndim == 3 else v          # a convolution of width 1 is a linear layer
        theirs |= _by_part(name, linear, model)
    official = names(net)
    _check(theirs, {official[name]: list(v.shape) for name, v in net.state_dict().items()})
    weights = {ours: theirs[name].float() for ours, name in official.items()}
    return weights | {"unet.time.0.weight": one_later(weights["unet.time.0.weight"])}


def _check(found: dict[str, Tensor], shapes: dict[str, list[int]]) -> None:
    """ValueError unless the weights are those of the wanted shapes, by their names."""
    wrong = [f"{name} is unexpected" for name in found if name not in shapes]
    for name, shape in shapes.items():
        there = list(found[name].shape) if name in found else "missing"
        if there != shape:
            wrong.append(f"{name} is {there}, should be {shape}")
    if wrong:
        more = f" (and {len(wrong) - 8} more)" * (len(wrong) > 8)
        raise ValueError(f"these weights are of another model: {'; '.join(wrong[:8])}{more}")


def names(net: GlideNet) -> dict[str, str]:
    """Our name -> theirs, for every weight of a network."""
    layers, found = dict(ENDS), {}
    for ours, theirs in _parts(net):
        inside = INSIDE[type(net.get_submodule(ours))]
        layers |= {f"{ours}.{a}": f"{theirs}.{b}" for a, b in inside.items()}
    for name in net.state_dict():
        layer, _, kind = name.rpartition(".")
        found[name] = layers.get(name) or f"{layers[layer]}.{kind}"
    return found


def _parts(net: GlideNet) -> Iterator[tuple[str, str]]:
    """(our name, theirs) of every part that there are many of."""
    yield from ((f"text.blocks.{i}", f"transformer.resblocks.{i}") for i in range(len(net.text.blocks)))
    for theirs, layers in _their_blocks(net.unet).items():
        inside = [part for layer in layers for part in net.get_submodule(layer).named_modules(prefix=layer)]
        ours = [name for name, part in inside if type(part) in INSIDE]
        yield from ((name, f"{theirs}.{j}") for j, name in enumerate(ours))


def _their_blocks(unet: UNet) -> dict[str, list[str]]:
    """Their block -> our layers in it.  Theirs may end by doubling the image; ours has a layer for that."""
    down = {f"input_blocks.{i}": [f"unet.down.{name}"] for i, name in enumerate(unet.down, start=1)}
    up: list[list[str]] = []
    for name, layer in unet.up.items():
        if layer.takes_skip:
            up.append([])
        up[-1].append(f"unet.up.{name}")
    middle = {"middle_block": [f"unet.middle.{name}" for name in unet.middle]}
    return down | middle | {f"output_blocks.{i}": layers for i, layers in enumerate(up)}


def _by_part(name: str, weight: Tensor, model: GLIDEConfig) -> dict[str, Tensor]:
    """One of their weights, or where it holds queries, keys and values head by head: name.q and name.kv."""
    where, _, kind = name.rpartition(".")
    layer = where.rpartition(".")[2]
    parts = HEAD_BY_HEAD.get(layer, 1)
    width = len(weight) // parts
    heads = model.text.text_heads if layer == "c_qkv" else width // (model.net.head_channels or width or 1)
    if parts == 1 or not heads or len(weight) % (parts * heads):
        return {name: weight}
    rows = weight.unflatten(0, (heads, parts, -1)).transpose(0, 1).flatten(1, 2)       # [q|k|v width ...]
    if parts == 2:
        return {name: rows.flatten(0, 1)}
    return {f"{where}.q.{kind}": rows[0], f"{where}.kv.{kind}": rows[1:].flatten(0, 1)}


def one_later(weight: Tensor, last: int = 0) -> Tensor:
    """The time MLP's first layer [E C] for times from 1 to 1000, of one for times from 0 to 999.

    The embedding one step ago is today's turned back.  last: of `timestep_embedding`."""
    one = torch.ones(1, device=weight.device)
    cos, sin = timestep_embedding(one, weight.shape[1], last=last).double().chunk(2, dim=1)
    of_cos, of_sin = weight.double().chunk(2, dim=1)
    turned = [of_cos * cos - of_sin * sin, of_cos * sin + of_sin * cos]
    return torch.cat(turned, dim=1).to(weight.dtype)
