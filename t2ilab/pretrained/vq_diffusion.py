"""Published VQ-Diffusion and VQGAN weights in our networks,
from the original code's layout or from diffusers'.

VQ-Diffusion (Gu et al. 2022), github.com/microsoft/VQ-Diffusion; VQGAN (Esser et al. 2021),
github.com/CompVis/taming-transformers. The layers are the same under other names; queries, keys and values,
three layers there, are one or two here. Left out: fetching the files.
"""
import re
from collections.abc import Iterator

from torch import Tensor, nn

from ..nets.attention import Attention
from ..nets.layers import Downsample, Upsample
from ..nets.token_transformer import TokenTransformer
from ..vqgan.networks import VQGAN, Block
from .read import gathered

# layout -> our part of a codec -> theirs; {i} counts levels from the door, {r} from the bottom, {j} the
# blocks of a level
CODEC = {
    "original": {
        "quant_conv": "quant_conv", "post_quant_conv": "post_quant_conv",
        "entries": ("quantize.embedding.weight", "quantize.embed.weight", "quantize.embedding"),
        "choose": "quantize.proj",
        "first": "conv_in", "middle": ("mid.block_1", "mid.attn_1", "mid.block_2"), "norm": "norm_out",
        "last": "conv_out",
        "down": "down.{i}", "up": "up.{r}", Block: "block.{j}", Attention: "attn.{j}",
        Downsample: "downsample", Upsample: "upsample",
        "attention": ("norm", ("q", "k", "v"), "proj_out"), "skip": "nin_shortcut"},
    "diffusers": {
        "quant_conv": "quant_conv", "post_quant_conv": "post_quant_conv",
        "entries": ("quantize.embedding.weight",), "choose": "quantize.proj",
        "first": "conv_in", "middle": ("mid_block.resnets.0", "mid_block.attentions.0",
                                       "mid_block.resnets.1"), "norm": "conv_norm_out", "last": "conv_out",
        "down": "down_blocks.{i}", "up": "up_blocks.{i}", Block: "resnets.{j}", Attention: "attentions.{j}",
        Downsample: "downsamplers.0", Upsample: "upsamplers.0",
        "attention": ("group_norm", ("to_q", "to_k", "to_v"), "to_out.0"), "skip": "conv_shortcut"},
}
TRANSFORMER = {   # layout -> our part of a transformer -> theirs
    "original": {
        "tokens": "content_emb.emb", "rows": "content_emb.height_emb", "columns": "content_emb.width_emb",
        "norm": "to_logits.0", "to_logits": "to_logits.1",
        "blocks": "blocks", "table": "emb", "linear": "linear", "block.norm": "ln1",
        "block.cross_norm": "ln1_1", "block.mlp_norm": "ln2",
        "attention": ("attn1", "attn"), "cross": ("attn2",), "qkv": ("query", "key", "value"), "proj": "proj",
        "mlp.0": ("mlp.0", "mlp.conv1"), "mlp.2": ("mlp.2", "mlp.conv2"),
        "null_embedding": "empty_text_embed"},
    "diffusers": {
        "tokens": "latent_image_embedding.emb", "rows": "latent_image_embedding.height_emb",
        "columns": "latent_image_embedding.width_emb",
        "norm": "norm_out", "to_logits": "out", "blocks": "transformer_blocks", "table": "emb",
        "linear": "linear", "block.norm": "norm1",
        "block.cross_norm": "norm2", "block.mlp_norm": "norm3", "attention": ("attn1",), "cross": ("attn2",),
        "qkv": ("to_q", "to_k", "to_v"),
        "proj": "to_out.0", "mlp.0": ("ff.net.0.proj",), "mlp.2": ("ff.net.2",),
        "null_embedding": "embeddings"},
}
# nobody reads that mask
UNUSED_IN_CODEC, UNUSED_IN_TRANSFORMER = (
    r"loss\.|quantize\.(ema|cluster|temperature|embedding_avg)",
    r"blocks\.\d+\.attn2\.mask$",
)
Sources = Iterator[tuple[str, tuple[str, ...]]]


def convert_codec(state: dict[str, Tensor], codec: VQGAN, layout: str = "original") -> dict[str, Tensor]:
    """The float32 weights of our VQGAN from theirs.  layout: original (taming-transformers)
    or diffusers (VQModel).

    state: the codec's own, or a whole VQ-Diffusion checkpoint's ["model"].  ValueError, in one line, names
    what is missing, unexpected or misshapen."""
    names, state = CODEC[layout], _part(state, ("content_codec.",))
    # as a whole checkpoint wraps it
    state = {re.sub(r"^(enc|dec)\.", "", k): v for k, v in state.items() if not k.startswith("dec.quantize.")}
    entries = next((name for name in names["entries"] if name in state), names["entries"][0])
    sources = {"quantizer.codebook": (entries,)}
    pairs = [("quant_conv", names["quant_conv"]), ("post_quant_conv", names["post_quant_conv"]),
             ("quantizer.choose", names["choose"])]
    for ours, theirs in pairs:
        sources |= {f"{ours}.{kind}": (f"{theirs}.{kind}",) for kind in ("weight", "bias")}
    for part in ("encoder", "decoder"):
        sources |= dict(_picture_part(getattr(codec, part), part, names))
    return gathered(state, codec, sources, unused=UNUSED_IN_CODEC)


def convert_transformer(state: dict[str, Tensor], net: TokenTransformer,
                        layout: str = "original") -> dict[str, Tensor]:
    """The float32 weights of our TokenTransformer from theirs.  layout:
    original or diffusers (Transformer2DModel).

    state: the transformer's own, or all of a checkpoint of the original's, ["model"] or ["ema"]. For
    learnable guidance it holds "no caption" too, in diffusers' layout as "embeddings".  The published
    ImageNet and FFHQ models want a net with flat_positions.  ValueError, in one line, names what is
    missing, unexpected or misshapen."""
    n, state = TRANSFORMER[layout], _part(state, ("transformer.transformer.", "transformer."),
                                          beside=("transformer.empty_text_embed", "empty_text_embed"))
    sources = {"null_embedding": (n["null_embedding"],)}

    def there_is(part: str, names: tuple[str, ...]) -> str:
        """The first of their names that these weights have."""
        return next((name for name in names if any(key.startswith(f"{part}.{name}.") for key in state)),
                    names[0])

    for ours in ("tokens", "rows", "columns", "norm", "to_logits"):
        sources |= {f"{ours}.{kind}": (f"{n[ours]}.{kind}",) for kind in ("weight", "bias")}
    for i in range(len(net.blocks)):
        here, there = f"blocks.{i}", f"{n['blocks']}.{i}"
        for norm in ("norm", "cross_norm", "mlp_norm"):
            theirs = f"{there}.{n[f'block.{norm}']}"
            sources |= {f"{here}.{norm}.{a}": (f"{theirs}.{b}",)
                        for a, b in {"table.weight": f"{n['table']}.weight",
                                     "linear.weight": f"{n['linear']}.weight",
                        "linear.bias": f"{n['linear']}.bias", "weight": "weight", "bias": "bias"}.items()}
        for kind in ("weight", "bias"):
            for ours in ("attention", "cross"):
                theirs = f"{there}.{there_is(there, n[ours])}"
                q, k, v = (f"{theirs}.{name}.{kind}" for name in n["qkv"])
                sources |= {f"{here}.{ours}.q.{kind}": (q,),
                            f"{here}.{ours}.{'context_kv' if ours == 'cross' else 'kv'}.{kind}": (k, v),
                            f"{here}.{ours}.proj.{kind}": (f"{theirs}.{n['proj']}.{kind}",)}
            for ours in ("mlp.0", "mlp.2"):
                theirs = f"{there}.{there_is(there, n[ours])}.{kind}"
                sources |= {f"{here}.{name}.{kind}": (theirs,)
                            for name in (ours, ours.replace("mlp", "mlp.layers"))}
    return gathered(state, net, sources, unused=UNUSED_IN_TRANSFORMER)


def convert_used(table: Tensor) -> tuple[int, ...]:
    """The codes of the codec that a published VQ-Diffusion draws, in its own order:
    what VQDiffusion calls `used`.

    table: [K] int64, every code of the codec -> its number in the model, such as taming_vqvae_2887.pt. Codes
    that the model lacks have number 0 there, which is painted as the first of them.  ValueError for a table
    with gaps."""
    first: dict[int, int] = {}
    for code, number in enumerate(table.flatten().tolist()):
        first.setdefault(number, code)
    if sorted(first) != list(range(len(first))):
        raise ValueError(f"table {list(table.shape)} of {table.dtype}: its {len(first)} numbers are not "
                         f"0..{len(first) - 1}")
    return tuple(first[number] for number in range(len(first)))


def _part(state: dict[str, Tensor], places: tuple[str, ...],
          beside: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """What lies under the first of some places that a checkpoint has, and what belongs to it but lies beside
    it; all of it if it has none of them."""
    for place in places:
        if inside := {k.removeprefix(place): v for k, v in state.items() if k.startswith(place)
                      and k not in beside}:
            return inside | {k.split(".")[-1]: state[k] for k in beside if k in state}
    return state


def _picture_part(part: nn.Sequential, name: str, names: dict) -> Sources:
    """(our weight, theirs) of an encoder or a decoder: a walk through its layers,
    which are in the same order on both sides."""
    layers = [(i, layer) for i, layer in enumerate(part) if any(True for _ in layer.parameters())]
    (first, _), *body, (norm, _), (last, _) = layers
    down = name == "encoder"
    middle, body = (body[-3:], body[:-3]) if down else (body[:3], body[3:])
    named = [(first, part[first], names["first"]), (norm, part[norm], names["norm"]),
             (last, part[last], names["last"])]
    named += [(i, layer, theirs) for (i, layer), theirs in zip(middle, names["middle"])]
    levels, level, j = sum(isinstance(layer, Downsample | Upsample) for _, layer in body), 0, -1
    for i, layer in body:
        j += isinstance(layer, Block)
        there = names["down" if down else "up"].format(i=level, r=levels - level)
        named.append((i, layer, f"{there}.{names[type(layer)].format(j=j)}"))
        if isinstance(layer, Downsample | Upsample):
            level, j = level + 1, -1
    for i, layer, theirs in named:
        for weight in layer.state_dict():
            yield f"{name}.{i}.{weight}", tuple(f"{name}.{theirs}.{w}" for w in _inside(layer, weight, names))


def _inside(layer: nn.Module, weight: str, names: dict) -> tuple[str, ...]:
    """Their names of one of a layer's weights, inside that layer."""
    where, _, kind = weight.rpartition(".")
    if isinstance(layer, Attention):
        norm, qkv, proj = names["attention"]
        q, k, v = (f"{name}.{kind}" for name in qkv)
        return {"norm": (f"{norm}.{kind}",), "attend.q": (q,), "attend.kv": (k, v),
                "attend.proj": (f"{proj}.{kind}",)}[where]
    return (weight.replace("skip", names["skip"]),)
