"""Our codec and token transformer beside diffusers' VQModel and Transformer2DModel: the same random weights, the same answers. And weights in the
names of the original code, beside its paper typed literally."""
import re
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from make_diffusers_fixtures import with_vq
from torch.testing import assert_close

from t2ilab.diffusion.cond import Cond
from t2ilab.nets.token_transformer import TokenTransformer, TokenTransformerConfig
from t2ilab.pretrained.vq_diffusion import CODEC, TRANSFORMER, convert_codec, convert_transformer
from t2ilab.tensors import generator
from t2ilab.vqgan.networks import VQGAN, VQGANConfig

CONFIG = VQGANConfig(channels=32, channel_mult=(1, 2), blocks=2, attention=(False, True), z_channels=16, codebook_dim=8, codebook_size=11)
NET = TokenTransformerConfig(width=32, layers=2, heads=4, text_width=16)


def shaken(model):
    """The model with every weight moved, so that none is 0 and none is told by its start."""
    for k, p in enumerate(model.parameters()):
        p.data += 0.1 * torch.randn(p.shape, generator=generator(k))
    return model.eval()


def their_codec():
    """diffusers' VQModel of CONFIG, with random weights."""
    VQModel = with_vq().VQModel
    torch.manual_seed(0)
    return shaken(VQModel(
        down_block_types=("DownEncoderBlock2D", "AttnDownEncoderBlock2D"), up_block_types=("AttnUpDecoderBlock2D", "UpDecoderBlock2D"), block_out_channels=(32, 64),
        layers_per_block=2, latent_channels=16, num_vq_embeddings=11, vq_embed_dim=8))


def their_transformer():
    """diffusers' Transformer2DModel of NET, with random weights."""
    Transformer2DModel = with_vq().Transformer2DModel
    torch.manual_seed(0)
    return shaken(Transformer2DModel(
        num_attention_heads=4, attention_head_dim=8, num_layers=2, cross_attention_dim=16, attention_bias=True, sample_size=4, num_vector_embeds=12,
        activation_fn="geglu-approximate", num_embeds_ada_norm=100, norm_type="ada_norm"))


@pytest.mark.slow
def test_the_codec_gives_what_diffusers_gives():
    theirs, ours = their_codec(), VQGAN(CONFIG).eval()
    ours.load_state_dict(convert_codec(theirs.state_dict(), ours, "diffusers"))
    images = torch.rand(2, 3, 16, 24, generator=generator(1)) * 2 - 1
    with torch.no_grad():
        z = theirs.encode(images).latents
        rounded, _, (_, _, codes) = theirs.quantize(z)
        assert_close(ours.features(images), z, rtol=1e-4, atol=1e-4)
        assert torch.equal(ours.encode(images).flatten(), codes) and len(codes.unique()) > 3
        assert_close(ours.decode(codes.view(2, 8, 12)), theirs.decode(z).sample, rtol=1e-4, atol=1e-4)
        assert_close(ours(images)[0], theirs(images).sample, rtol=1e-4, atol=1e-4)


def test_the_transformer_gives_what_diffusers_gives():
    theirs, ours = their_transformer(), TokenTransformer(NET, codebook_size=11, grid=4).eval()
    ours.load_state_dict(convert_transformer(theirs.state_dict(), ours, "diffusers"))
    x, text = torch.randint(12, (3, 16), generator=generator(1)), torch.randn(3, 5, 16, generator=generator(2))
    with torch.no_grad():
        for t in (1, 37, 100):                                                               # theirs runs from 0 to 99, one time for all
            answer = theirs(x, encoder_hidden_states=text, timestep=torch.tensor(t - 1)).sample
            assert_close(ours(x, torch.full((3,), t), Cond(text)).log_softmax(1), answer.float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layout", CODEC)
def test_weights_of_another_codec_are_named(layout):
    with pytest.raises(ValueError, match="these weights are of another model: .* is missing") as error:
        convert_codec({"some.weight": torch.zeros(1)}, VQGAN(CONFIG), layout)
    assert "some.weight is unexpected" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("layout", TRANSFORMER)
def test_weights_of_another_transformer_are_named(layout):
    with pytest.raises(ValueError, match="these weights are of another model: .* is missing") as error:
        convert_transformer({"some.weight": torch.zeros(1)}, TokenTransformer(NET, codebook_size=11, grid=4), layout)
    assert "some.weight is unexpected" in str(error.value) and "\n" not in str(error.value)


# ---------------------------------------------------------------------------------------------------------------------------- the original's names

NAMES = [   # of the same codec: diffusers' -> the original's
    (r"(down|up)_blocks", r"\1"), (r"(down\.\d+|up\.\d+)\.resnets", r"\1.block"), (r"(down\.\d+|up\.\d+)\.attentions", r"\1.attn"), (r"(down|up)samplers\.0", r"\1sample"),
    (r"mid_block\.resnets\.0", "mid.block_1"), (r"mid_block\.resnets\.1", "mid.block_2"), (r"mid_block\.attentions\.0", "mid.attn_1"),
    (r"group_norm", "norm"), (r"to_([qkv])\b", r"\1"), (r"to_out\.0", "proj_out"), (r"conv_shortcut", "nin_shortcut"), (r"conv_norm_out", "norm_out"),
    (r"decoder\.up\.(\d)", lambda found: f"decoder.up.{1 - int(found[1])}")]             # it counts its two levels from the top


def in_the_originals_names(state):
    """A state dict of diffusers' VQModel as the original would have it; its attention is made of convolutions of width 1."""
    renamed = {}
    for name, v in state.items():
        for pattern, theirs in NAMES:
            name = re.sub(pattern, theirs, name)
        renamed[name] = v[:, :, None, None] if re.search(r"attn.*\.(q|k|v|proj_out)\.weight", name) else v
    return renamed


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_codec_in_the_originals_names(wrapped):
    state, ours = their_codec().state_dict(), VQGAN(CONFIG)
    theirs = in_the_originals_names(state) | {"loss.logvar": torch.zeros(()), "quantize.cluster_size": torch.zeros(11)}
    assert {"encoder.down.1.attn.0.q.weight", "encoder.mid.block_1.conv1.weight", "encoder.down.0.downsample.conv.weight", "decoder.up.0.block.0.nin_shortcut.weight",
            "decoder.up.1.attn.2.proj_out.bias", "decoder.up.1.upsample.conv.weight", "encoder.norm_out.weight", "quantize.embedding.weight"} <= theirs.keys()
    if wrapped:                                              # as a whole VQ-Diffusion checkpoint has it: the codebook twice, beside the transformer
        theirs = {f"content_codec.{'dec' if 'decoder' in k or 'post' in k else 'enc'}.{k}": v for k, v in theirs.items()}
        theirs |= {"content_codec.dec.quantize.embedding.weight": torch.zeros(11, 8), "transformer.log_at": torch.zeros(100)}
    want, found = convert_codec(state, ours, "diffusers"), convert_codec(theirs, ours, "original")
    assert want.keys() == found.keys() and all(torch.equal(found[k], want[k]) for k in want)


def test_a_codebook_of_moving_averages_in_the_originals_names():
    ours = VQGAN(replace(CONFIG, quantizer="ema"))
    theirs = in_the_originals_names(their_codec().state_dict())
    book = theirs.pop("quantize.embedding.weight")
    found = convert_codec(theirs | {"quantize.embedding": book, "quantize.embedding_avg": book, "quantize.cluster_size": torch.zeros(11)}, ours, "original")
    assert torch.equal(found["quantizer.codebook"], book)


D, GRID, TABLE, HEADS, STEPS = 8, 2, 4, 2, 10


def original_transformer(kind, mlp):
    """Random weights of a block in the original's names: of a model of captions, labels or nothing."""
    shapes = {"content_emb.emb.weight": (8, D), "content_emb.height_emb.weight": (TABLE, D), "content_emb.width_emb.weight": (TABLE, D),
              "to_logits.0.weight": (D,), "to_logits.0.bias": (D,), "to_logits.1.weight": (7, D), "to_logits.1.bias": (7,)}
    attentions = {"attn1": D, "attn2": 6} if kind == "text" else {"attn": D}
    for attention, seen in attentions.items():
        shapes |= {f"blocks.0.{attention}.{name}.weight": (D, seen if name in ("key", "value") else D) for name in ("query", "key", "value", "proj")}
        shapes |= {f"blocks.0.{attention}.{name}.bias": (D,) for name in ("query", "key", "value", "proj")}
    for norm, entries in {"ln1": STEPS, **({"ln1_1": STEPS} if kind == "text" else {}), **({"ln2": 5} if kind == "label" else {})}.items():
        shapes |= {f"blocks.0.{norm}.emb.weight": (entries, D), f"blocks.0.{norm}.linear.weight": (2 * D, D), f"blocks.0.{norm}.linear.bias": (2 * D,)}
    if kind != "label":
        shapes |= {"blocks.0.ln2.weight": (D,), "blocks.0.ln2.bias": (D,)}
    first, last, wide = ("mlp.conv1", "mlp.conv2", (3, 3)) if mlp == "conv" else ("mlp.0", "mlp.2", ())
    shapes |= {f"blocks.0.{first}.weight": (2 * D, D, *wide), f"blocks.0.{first}.bias": (2 * D,),
               f"blocks.0.{last}.weight": (D, 2 * D, *wide), f"blocks.0.{last}.bias": (D,)}
    return {name: torch.randn(shape, generator=generator(k)) / 2 for k, (name, shape) in enumerate(shapes.items())}


def literally(w, x, t, seen, kind, mlp):
    """The paper's block and its ends, from weights in the original's names: x [B 4], t [B] in 1..T -> [B 7 4]."""
    def layer(name, h):
        return F.linear(h, w[f"{name}.weight"], w[f"{name}.bias"])

    def ada(name, h, index):
        scale, shift = layer(f"{name}.linear", F.silu(w[f"{name}.emb.weight"][index]))[:, None].chunk(2, 2)
        return F.layer_norm(h, (D,)) * (1 + scale) + shift

    def attention(name, h, y):
        q, k, v = (layer(f"{name}.{part}", z).unflatten(2, (HEADS, -1)).transpose(1, 2) for part, z in (("query", h), ("key", y), ("value", y)))
        return layer(f"{name}.proj", ((q @ k.mT / (D / HEADS) ** 0.5).softmax(3) @ v).transpose(1, 2).flatten(2))

    def gelu2(h):
        return h * torch.sigmoid(1.702 * h)
    places = (w["content_emb.height_emb.weight"][:, None] + w["content_emb.width_emb.weight"][None]).flatten(0, 1)[:x.shape[1]]      # along the table's rows
    h = w["content_emb.emb.weight"][x] + places
    y = ada("blocks.0.ln1", h, t - 1)
    h = h + attention("blocks.0.attn1" if kind == "text" else "blocks.0.attn", y, y)
    if kind == "text":
        h = h + attention("blocks.0.attn2", ada("blocks.0.ln1_1", h, t - 1), seen)
    y = ada("blocks.0.ln2", h, seen) if kind == "label" else F.layer_norm(h, (D,), w["blocks.0.ln2.weight"], w["blocks.0.ln2.bias"])
    if mlp == "conv":
        y = y.mT.unflatten(2, (GRID, GRID))
        for part in ("conv1", "conv2"):
            y = F.conv2d(y if part == "conv1" else gelu2(y), w[f"blocks.0.mlp.{part}.weight"], w[f"blocks.0.mlp.{part}.bias"], padding=1)
        h = h + y.flatten(2).mT
    else:
        h = h + layer("blocks.0.mlp.2", gelu2(layer("blocks.0.mlp.0", y)))
    return layer("to_logits.1", F.layer_norm(h, (D,), w["to_logits.0.weight"], w["to_logits.0.bias"])).mT


@pytest.mark.parametrize("kind", ["text", "label", "nothing"])
@pytest.mark.parametrize("mlp", ["linear", "conv"])
@pytest.mark.parametrize("whole", [False, True])
def test_transformers_in_the_originals_names(kind, mlp, whole):
    w, B = original_transformer(kind, mlp), 3
    config = TokenTransformerConfig(width=D, layers=1, heads=HEADS, mlp=mlp, mlp_mult=2, text_width=6 if kind == "text" else 0,
                                    classes=5 if kind == "label" else 0, position_table=TABLE, flat_positions=True)
    net, state = TokenTransformer(config, codebook_size=7, grid=GRID, steps=STEPS).eval(), w
    if kind == "text":
        state = state | {"blocks.0.attn2.mask": torch.ones(1, 1, 4, 4)}
    if whole:
        state = {f"transformer.transformer.{k}": v for k, v in state.items()} | {"transformer.log_at": torch.zeros(10), "content_codec.enc.x": torch.zeros(1)}
    net.load_state_dict(convert_transformer(state, net, "original"))
    x, t, label = torch.randint(8, (B, 4), generator=generator(1)), torch.tensor([1, 4, 10]), torch.tensor([0, 2, 4])
    text = torch.randn(B, 5, 6, generator=generator(2))
    seen, cond = {"text": (text, Cond(text)), "label": (label, Cond(label[:, None], torch.ones(B, 1, dtype=torch.bool))), "nothing": (None, Cond())}[kind]
    with torch.no_grad():
        assert_close(net(x, t, cond), literally(w, x, t, seen, kind, mlp), rtol=1e-4, atol=1e-5)


def test_no_caption_comes_along_or_is_missed():
    """A model that guides away from a "no caption" of random numbers would draw nonsense."""
    w, empty = original_transformer("text", "linear"), torch.randn(5, 6, generator=generator(3))
    config = TokenTransformerConfig(width=D, layers=1, heads=HEADS, mlp_mult=2, text_width=6, position_table=TABLE)
    guided, plain = (TokenTransformer(config, codebook_size=7, grid=GRID, steps=STEPS, null_embedding=n) for n in (5, 0))
    ema = {f"transformer.{k}": v for k, v in w.items()} | {"log_at": torch.zeros(10), "empty_text_embed": empty}
    whole = {f"transformer.{k}": v for k, v in ema.items()}
    for state in (w | {"empty_text_embed": empty}, ema, whole):
        assert torch.equal(convert_transformer(state, guided)["null_embedding"], empty)
    with pytest.raises(ValueError, match="empty_text_embed is missing"):
        convert_transformer(w, guided)
    with pytest.raises(ValueError, match="empty_text_embed is unexpected"):
        convert_transformer(ema, plain)
