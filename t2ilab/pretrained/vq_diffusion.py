"""Published VQ-Diffusion and VQGAN weights, in the original code's layout or in diffusers', in our networks.

VQ-Diffusion (Gu et al. 2022), github.com/microsoft/VQ-Diffusion; VQGAN (Esser et al. 2021),
github.com/CompVis/taming-transformers. The layers are the same under other names; queries, keys and values,
three layers there, are one or two here. Left out: fetching the files.
"""
import re
from collections.abc import Callable, Iterator
from functools import partial

from torch import Tensor, nn

from ..nets.attention import Attention
from ..nets.layers import Downsample, Upsample
from ..nets.token_transformer import TokenTransformer
from ..vqgan.networks import VQGAN, Block
from .read import gathered

# Layout -> our part of a codec -> theirs.  {i} counts levels from full size, {r} from the bottom, {j} the
# blocks of a level.
CODEC = {
    "original": {
        "entries": ("quantize.embedding.weight", "quantize.embed.weight", "quantize.embedding"),
        "middle": ("mid.block_1", "mid.attn_1", "mid.block_2"), "norm": "norm_out",
        "encoder": "down.{i}", "decoder": "up.{r}",
        Block: "block.{j}", Attention: "attn.{j}", Downsample: "downsample", Upsample: "upsample",
        "attention": {"norm": ("norm",), "attend.q": ("q",), "attend.kv": ("k", "v"),
                      "attend.proj": ("proj_out",)},
        "skip": "nin_shortcut"},
    "diffusers": {
        "entries": ("quantize.embedding.weight",),
        "middle": ("mid_block.resnets.0", "mid_block.attentions.0", "mid_block.resnets.1"),
        "norm": "conv_norm_out", "encoder": "down_blocks.{i}", "decoder": "up_blocks.{i}",
        Block: "resnets.{j}", Attention: "attentions.{j}",
        Downsample: "downsamplers.0", Upsample: "upsamplers.0",
        "attention": {"norm": ("group_norm",), "attend.q": ("to_q",), "attend.kv": ("to_k", "to_v"),
                      "attend.proj": ("to_out.0",)},
        "skip": "conv_shortcut"},
}
# Layout -> our part of a transformer -> theirs, or its names in several versions.
TRANSFORMER = {
    "original": {
        "tokens": "content_emb.emb", "rows": "content_emb.height_emb", "columns": "content_emb.width_emb",
        "norm": "to_logits.0", "to_logits": "to_logits.1", "null_embedding": "empty_text_embed",
        "blocks": "blocks", "block.norm": "ln1", "block.cross_norm": "ln1_1", "block.mlp_norm": "ln2",
        "attention": ("attn1", "attn"), "cross": ("attn2",), "qkv": ("query", "key", "value"), "proj": "proj",
        "mlp.0": ("mlp.0", "mlp.conv1"), "mlp.2": ("mlp.2", "mlp.conv2")},
    "diffusers": {
        "tokens": "latent_image_embedding.emb", "rows": "latent_image_embedding.height_emb",
        "columns": "latent_image_embedding.width_emb",
        "norm": "norm_out", "to_logits": "out", "null_embedding": "embeddings",
        "blocks": "transformer_blocks",
        "block.norm": "norm1", "block.cross_norm": "norm2", "block.mlp_norm": "norm3",
        "attention": ("attn1",), "cross": ("attn2",), "qkv": ("to_q", "to_k", "to_v"), "proj": "to_out.0",
        "mlp.0": ("ff.net.0.proj",), "mlp.2": ("ff.net.2",)},
}
UNUSED_IN_CODEC = r"loss\.|quantize\.(ema|cluster|temperature|embedding_avg)"
UNUSED_IN_TRANSFORMER = r"blocks\.\d+\.attn2\.mask$"             # nobody reads that mask
Sources = dict[str, tuple[str, ...]]                             # our name -> theirs that make it up


def convert_codec(state: dict[str, Tensor], codec: VQGAN, layout: str = "original") -> dict[str, Tensor]:
    """The float32 weights of our VQGAN from theirs.

    state: the codec's own, or a whole VQ-Diffusion checkpoint's ["model"].  layout: original
    (taming-transformers) or diffusers (VQModel).
    ValueError, in one line, names what is missing, unexpected or misshapen."""
    names, state = CODEC[layout], _part(state, ("content_codec.",))
    # A whole checkpoint wraps the two halves in enc and dec, and has the codebook a second time.
    state = {re.sub(r"^(enc|dec)\.", "", name): v for name, v in state.items()
             if not name.startswith("dec.quantize.")}
    entries = next((name for name in names["entries"] if name in state), names["entries"][0])
    layers = {"quant_conv": ("quant_conv",), "post_quant_conv": ("post_quant_conv",),
              "quantizer.choose": ("quantize.proj",)}
    sources = {"quantizer.codebook": (entries,)} | _weights(layers)
    for part in ("encoder", "decoder"):
        sources |= dict(_half(part, getattr(codec, part), names))
    return gathered(state, codec, sources, unused=UNUSED_IN_CODEC)


def convert_transformer(state: dict[str, Tensor], net: TokenTransformer,
                        layout: str = "original") -> dict[str, Tensor]:
    """The float32 weights of our TokenTransformer from theirs.

    state: the transformer's own, or all of a checkpoint of the original's, ["model"] or ["ema"]. For
    learnable guidance it holds "no caption" too, in diffusers' layout as "embeddings".  layout: original or
    diffusers (Transformer2DModel).  The published ImageNet and FFHQ models want a net with flat_positions.
    ValueError, in one line, names what is missing, unexpected or misshapen."""
    names = TRANSFORMER[layout]
    state = _part(state, ("transformer.transformer.", "transformer."),
                  beside=("transformer.empty_text_embed", "empty_text_embed"))
    layers = {ours: (names[ours],) for ours in ("tokens", "rows", "columns", "norm", "to_logits")}
    for i in range(len(net.blocks)):
        there = f"{names['blocks']}.{i}"
        for ours, theirs in _block(names, partial(_version, state, there)).items():
            layers[f"blocks.{i}.{ours}"] = tuple(f"{there}.{name}" for name in theirs)
    sources = {"null_embedding": (names["null_embedding"],)} | _weights(layers)
    return gathered(state, net, sources, unused=UNUSED_IN_TRANSFORMER)


def convert_used(table: Tensor) -> tuple[int, ...]:
    """The codes of the codec that a published VQ-Diffusion draws, in its own order: VQDiffusion's `used`.

    table: [K] int64, every code of the codec -> its number in the model, such as taming_vqvae_2887.pt. Codes
    that the model lacks have number 0 there, which is drawn as the first of them.
    ValueError for a table with gaps."""
    first: dict[int, int] = {}
    for code, number in enumerate(table.flatten().tolist()):
        first.setdefault(number, code)
    if sorted(first) != list(range(len(first))):
        raise ValueError(f"table {list(table.shape)} of {table.dtype}: "
                         f"its {len(first)} numbers are not 0..{len(first) - 1}")
    return tuple(first[number] for number in range(len(first)))


def _part(state: dict[str, Tensor], places: tuple[str, ...],
          beside: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """The weights under the first of some places that a checkpoint has, or all of it if it has none.

    beside: names of what belongs to them but lies beside them."""
    for place in places:
        found = [name for name in state if name.startswith(place) and name not in beside]
        if found:
            inside = {name.removeprefix(place): state[name] for name in found}
            return inside | {name.split(".")[-1]: state[name] for name in beside if name in state}
    return state


def _version(state: dict[str, Tensor], block: str, known: tuple[str, ...]) -> str:
    """The first of some names of a layer that these weights have in a block of theirs; else the first."""
    for name in known:
        if any(key.startswith(f"{block}.{name}.") for key in state):
            return name
    return known[0]


def _weights(layers: Sources) -> Sources:
    """Our weights -> theirs, of our layers -> theirs."""
    pairs = [(ours, theirs, kind) for ours, theirs in layers.items() for kind in ("weight", "bias")]
    return {f"{ours}.{kind}": tuple(f"{name}.{kind}" for name in theirs) for ours, theirs, kind in pairs}


def _block(names: dict, version: Callable[[tuple[str, ...]], str]) -> Sources:
    """Our layer of a transformer's block -> theirs.  version: which of several names the weights have."""
    layers: Sources = {}
    for ours in ("norm", "cross_norm", "mlp_norm"):
        theirs = names[f"block.{ours}"]
        layers[ours] = (theirs,)
        layers[f"{ours}.table"], layers[f"{ours}.linear"] = (f"{theirs}.emb",), (f"{theirs}.linear",)
    for ours, kv in (("attention", "kv"), ("cross", "context_kv")):
        theirs = version(names[ours])
        q, k, v = (f"{theirs}.{name}" for name in names["qkv"])
        layers[f"{ours}.q"], layers[f"{ours}.{kv}"] = (q,), (k, v)
        layers[f"{ours}.proj"] = (f"{theirs}.{names['proj']}",)
    for n in (0, 2):
        layers[f"mlp.{n}"] = layers[f"mlp.layers.{n}"] = (version(names[f"mlp.{n}"]),)
    return layers


def _half(half: str, part: nn.Sequential, names: dict) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(our weight, theirs) of an encoder or a decoder."""
    for i, there in _places(half, part, names).items():
        for weight in part[i].state_dict():
            inside = _inside(part[i], weight, names)
            yield f"{half}.{i}.{weight}", tuple(f"{half}.{there}.{name}" for name in inside)


def _places(half: str, part: nn.Sequential, names: dict) -> dict[int, str]:
    """Number of our layer -> theirs: a walk through the layers, which are in the same order on both sides."""
    with_weights = [i for i, layer in enumerate(part) if layer.state_dict()]
    first, *body, norm, last = with_weights
    middle, body = (body[-3:], body[:-3]) if half == "encoder" else (body[:3], body[3:])
    places = {first: "conv_in", norm: names["norm"], last: "conv_out"}
    places |= dict(zip(middle, names["middle"]))
    resizes = [isinstance(part[i], Downsample | Upsample) for i in body]
    level, j = 0, -1                                             # j: the last block of this level
    for i, resize in zip(body, resizes):
        j += isinstance(part[i], Block)
        there = names[half].format(i=level, r=sum(resizes) - level)
        places[i] = f"{there}.{names[type(part[i])].format(j=j)}"
        level, j = (level + 1, -1) if resize else (level, j)
    return places


def _inside(layer: nn.Module, weight: str, names: dict) -> tuple[str, ...]:
    """Their names of one of a layer's weights, inside that layer."""
    if not isinstance(layer, Attention):
        return (weight.replace("skip", names["skip"]),)
    where, _, kind = weight.rpartition(".")
    return tuple(f"{name}.{kind}" for name in names["attention"][where])
