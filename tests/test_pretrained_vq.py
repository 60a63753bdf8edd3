"""Our codec and token transformer beside diffusers' VQModel and Transformer2DModel: the same random weights, the same answers."""
import pytest
import torch
from torch.testing import assert_close

from t2ilab.diffusion.denoiser import Cond
from t2ilab.nets.token_transformer import TokenTransformer, TokenTransformerConfig
from t2ilab.nets.vqgan import VQGAN, VQGANConfig
from t2ilab.pretrained.vq_diffusion import CODEC, TRANSFORMER, convert_codec, convert_transformer
from t2ilab.tensors import generator

CONFIG = VQGANConfig(channels=32, mults=(1, 2), blocks=2, attention=(False, True), z_channels=16, code_width=8, codes=11)
NET = TokenTransformerConfig(width=32, layers=2, heads=4, text_width=16)


def shaken(model):
    """The model with every weight moved, so that none is 0 and none is told by its start."""
    for k, p in enumerate(model.parameters()):
        p.data += 0.1 * torch.randn(p.shape, generator=generator(k))
    return model.eval()


def their_codec():
    """diffusers' VQModel of CONFIG, with random weights."""
    VQModel = pytest.importorskip("diffusers").VQModel
    torch.manual_seed(0)
    return shaken(VQModel(
        down_block_types=("DownEncoderBlock2D", "AttnDownEncoderBlock2D"), up_block_types=("AttnUpDecoderBlock2D", "UpDecoderBlock2D"), block_out_channels=(32, 64),
        layers_per_block=2, latent_channels=16, num_vq_embeddings=11, vq_embed_dim=8))


def their_transformer():
    """diffusers' Transformer2DModel of NET, with random weights."""
    Transformer2DModel = pytest.importorskip("diffusers").Transformer2DModel
    torch.manual_seed(0)
    return shaken(Transformer2DModel(
        num_attention_heads=4, attention_head_dim=8, num_layers=2, cross_attention_dim=16, attention_bias=True, sample_size=4, num_vector_embeds=12,
        activation_fn="geglu-approximate", num_embeds_ada_norm=100, norm_type="ada_norm"))


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
    theirs, ours = their_transformer(), TokenTransformer(NET, codes=11, grid=4).eval()
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
        convert_transformer({"some.weight": torch.zeros(1)}, TokenTransformer(NET, codes=11, grid=4), layout)
    assert "some.weight is unexpected" in str(error.value) and "\n" not in str(error.value)
