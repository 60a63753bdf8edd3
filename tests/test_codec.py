"""The codec: quantisers against their definitions, gradients that pass straight through, the critic's balance, published sizes, and runs that resume."""
import json
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from test_unet import awake
from tiny_runs import TINY, saved
from torch.testing import assert_close

from t2ilab.cli import commands as cli
from t2ilab.diffusion.cond import Cond
from t2ilab.families.frozen_codec import FrozenCodec
from t2ilab.families.vqgan import VQCodec
from t2ilab.vqgan.discriminator import Discriminator, DiscriminatorConfig, hinge
from t2ilab.vqgan.quantizers import COMMITMENT, DECAY, QUANTIZERS, SMALLEST
from t2ilab.vqgan.networks import VQGAN, VQGANConfig
from t2ilab.presets import PRESETS
from t2ilab.runs.export import export
from t2ilab.runs.load import load
from t2ilab.runs.train import train
from t2ilab.tensors import generator
from t2ilab.vqgan.objective import CodecLossConfig, CodecObjective

NET = VQGANConfig(channels=8, mults=(1, 2), blocks=1, attention=(False, True), z_channels=6, code_width=4, codes=7)
PLAIN = CodecLossConfig(squared=0.5, perceptual=0.0, adversarial=0.0, eyes="scenes")
CRITIC = replace(PLAIN, adversarial=0.8, critic_from=0, critic=DiscriminatorConfig(8, 1))
COUNTS = {"vq-codec-coco": 68_995_971, "vq-codec-imagenet": 76_073_859, "vq-codec-ffhq": 72_141_699, "vq-codec-ithq": 63_485_379}


def pictures(n=3, size=8, seed=0):
    return torch.rand(n, 3, size, size, generator=generator(seed)) * 2 - 1


def z_of(n=2, width=4, seed=0):
    return torch.randn(n, width, 3, 5, generator=generator(seed))


def started(kind, codes=7, width=4):
    """A quantiser in training that has seen one batch, so that every code lies where cells are."""
    torch.manual_seed(0)
    quantizer = QUANTIZERS[kind](codes, width).train()
    quantizer(z_of(seed=5), generator(5))
    return quantizer


# ---------------------------------------------------------------------------------------------------------------------------- sizes

@pytest.mark.parametrize("name", COUNTS)
def test_published_codecs_have_their_published_sizes(name):
    with torch.device("meta"):
        codec = PRESETS[name].model.build().codec
    assert sum(p.numel() for p in codec.parameters()) == COUNTS[name]
    if name == "vq-codec-ithq":
        assert sum(b.numel() for b in codec.buffers()) == 1_052_672                          # its codebook is a moving average, not a weight


def test_a_grid_has_a_code_for_each_cell():
    codec = VQGAN(NET).eval()
    codes = codec.encode(pictures(2, 16))
    assert codes.shape == (2, 8, 8) and codes.dtype == torch.int64 and codec.decode(codes).shape == (2, 3, 16, 16)
    assert VQGAN(replace(NET, patch=4)).eval().encode(pictures(1, 16)).shape == (1, 2, 2)


@pytest.mark.parametrize("images", [torch.zeros(1, 3, 7, 8), torch.zeros(1, 1, 8, 8), torch.zeros(3, 8, 8)])
def test_pictures_of_other_shapes_are_refused(images):
    with pytest.raises(ValueError, match="divisible by 2"):
        VQGAN(NET).encode(images)


@pytest.mark.parametrize("codes", [torch.full((1, 2, 2), 7), torch.full((1, 2, 2), -1), torch.zeros(4, dtype=torch.int64)])
def test_codes_that_are_none_are_refused(codes):
    with pytest.raises(ValueError, match=r"0\.\.6"):
        VQGAN(NET).decode(codes)


# ---------------------------------------------------------------------------------------------------------------------------- quantisers

@pytest.mark.parametrize("kind", ["nearest", "ema"])
def test_the_nearest_entry_is_taken(kind):
    quantizer, z = started(kind), z_of()
    apart = (z.movedim(1, -1)[..., None, :] - quantizer.codebook).square().sum(-1)           # [B h w K]
    z_q, codes, _ = quantizer.eval()(z)
    assert torch.equal(codes, apart.argmin(-1)) and len(codes.unique()) > 2
    assert_close(z_q, quantizer.codebook[codes].movedim(-1, 1))


@pytest.mark.parametrize("kind", ["nearest", "ema"])
def test_gradients_pass_straight_through(kind):
    """straight-through: what comes back to z is what came to z_q, plus the pull of the commitment."""
    quantizer, z, w = started(kind).eval(), z_of().requires_grad_(), z_of(seed=1)
    z_q, _, _ = quantizer(z)
    (z_q * w).sum().backward()
    assert torch.equal(z.grad, w)


def test_the_loss_of_the_nearest_entry_is_two_distances():
    """VQ-VAE loss: the codebook moves to the cells, and the cells, a quarter as strongly, to the codebook."""
    quantizer, z = started("nearest").eval(), z_of().requires_grad_()
    _, codes, loss = quantizer(z)
    e = F.embedding(codes, quantizer.codebook).movedim(-1, 1)
    per_value = (e - z).square().flatten(1).mean(1)
    assert_close(loss, per_value + COMMITMENT * per_value)
    of_z, of_e = torch.autograd.grad(loss.sum(), (z, quantizer.codebook))
    assert_close(of_z, COMMITMENT * 2 * (z - e) / z[0].numel())
    assert_close(of_e.sum(0), -(2 * (z - e) / z[0].numel()).sum((0, 2, 3)))


def test_an_averaged_entry_is_the_mean_of_its_cells():
    """VQ-VAE moving averages: sums and counts of the cells that took a code, each forgetting at the same pace."""
    quantizer, z = started("ema"), z_of(seed=3)
    with torch.no_grad():
        quantizer.used.fill_(2.0)                                                            # none is dead
        quantizer.total.copy_(quantizer.codebook * 2)
        before, total, used = quantizer.codebook.clone(), quantizer.total.clone(), quantizer.used.clone()
    z_q, codes, loss = quantizer(z, generator(1))
    flat, taken = z.movedim(1, -1).flatten(0, 2), F.one_hot(codes.flatten(), 7).float()
    used = DECAY * used + (1 - DECAY) * taken.sum(0)
    total = DECAY * total + (1 - DECAY) * taken.T @ flat
    smooth = (used + SMALLEST) / (used.sum() + 7 * SMALLEST) * used.sum()
    assert_close(quantizer.codebook, total / smooth[:, None])
    assert_close(z_q, before[codes].movedim(-1, 1))                                          # this batch still saw the old codebook
    assert_close(loss, COMMITMENT * (z - z_q).square().flatten(1).mean(1))
    assert not any(True for _ in quantizer.parameters())


@pytest.mark.parametrize("kind", ["nearest", "ema"])
def test_a_dead_code_is_put_where_a_cell_is(kind):
    quantizer = started(kind)
    with torch.no_grad():
        quantizer.codebook[0] = 1000.0
        quantizer.used.fill_(5.0)
        quantizer.used[0] = 0.0
    z = z_of(seed=4)
    quantizer(z, generator(2))
    cells = z.movedim(1, -1).flatten(0, 2)
    assert (quantizer.codebook[0] - cells).abs().sum(1).min() < 1e-5
    assert 0 in quantizer.eval()(z)[1]                                                       # and is taken there from now on


def test_one_code_taken_by_all_is_seen_in_the_report():
    quantizer = started("ema")
    quantizer.used.zero_()
    quantizer.used[3] = 10.0
    assert quantizer.usage() == {"codes_used": pytest.approx(1 / 7), "perplexity": pytest.approx(1.0)}
    quantizer.used.fill_(2.0)
    assert quantizer.usage() == {"codes_used": 1.0, "perplexity": pytest.approx(7.0)}


def test_gumbel_chooses_by_chance_in_training_and_never_afterwards():
    quantizer, z = started("gumbel"), z_of(n=40)
    one, two = (quantizer(z, generator(seed))[1] for seed in (1, 2))
    assert not torch.equal(one, two)
    assert torch.equal(quantizer.eval()(z, generator(1))[1], quantizer.choose(z).argmax(1)) and torch.equal(quantizer.nearest(z), quantizer(z)[1])


def test_gumbel_draws_each_code_as_often_as_its_network_says():
    quantizer = started("gumbel")
    z = z_of(1, seed=7)[:, :, :1, :1].expand(4000, -1, 1, 1)
    p = quantizer.choose(z[:1]).softmax(1)[0, :, 0, 0]
    counts = torch.bincount(quantizer(z, generator(3))[1].flatten(), minlength=7)
    assert ((counts - 4000 * p).abs() < 5 * (4000 * p * (1 - p)).sqrt()).all()


def test_gumbel_cools_down_and_is_pulled_to_even_use():
    quantizer = started("gumbel")
    quantizer.seen.zero_()
    assert quantizer.temperature == 1.0
    quantizer.seen.fill_(75_000)
    assert quantizer.temperature == pytest.approx(0.25)
    quantizer.seen.fill_(10 ** 9)
    assert quantizer.temperature == pytest.approx(1 / 16)
    with torch.no_grad():
        for p in quantizer.choose.parameters():
            p.zero_()
    assert quantizer.eval()(z_of())[2].abs().max() < 1e-7                                    # even already


@pytest.mark.parametrize("kind", QUANTIZERS)
def test_encoding_is_the_same_every_time(kind):
    codec = awake(VQGAN(replace(NET, quantizer=kind)))
    images = pictures()
    first = codec.train().encode(images)
    assert torch.equal(first, codec.encode(images)) and torch.equal(first, codec.eval().encode(images)) and torch.equal(first, codec(images)[1])


# ---------------------------------------------------------------------------------------------------------------------------- losses

def test_the_loss_is_the_sum_of_its_parts():
    model, x0 = awake(CodecObjective(NET, PLAIN)).eval(), pictures()
    painted, _, rounding = model.codec(x0)
    error = (painted - x0).flatten(1)
    assert_close(model.loss(x0), error.abs().mean(1) + 0.5 * error.square().mean(1) + rounding)


def test_the_critic_and_the_codec_each_get_the_gradient_of_their_own_loss():
    model, x0 = awake(CodecObjective(NET, CRITIC)).train(), pictures(size=16)
    model.codec.eval()                                                                       # so that painting twice is the same
    model.loss(x0, Cond(), generator(1)).mean().backward()
    critic, codec = [[p.grad.clone() for p in part.parameters()] for part in (model.critic, model.codec)]
    painted, _, rounding = model.codec(x0, generator(1))
    alone = torch.autograd.grad(hinge(model.critic(x0), model.critic(painted.detach())).mean(), list(model.critic.parameters()))
    for a, b in zip(critic, alone):
        assert_close(a, b, rtol=1e-3, atol=1e-6)
    error, fool = (painted - x0).flatten(1), -model.critic(painted).flatten(1).mean(1)
    alike = error.abs().mean(1) + CRITIC.squared * error.square().mean(1)
    own = alike + rounding + CRITIC.adversarial * model.adaptive_weight(alike, fool) * fool
    for a, b in zip(codec, torch.autograd.grad(own.mean(), list(model.codec.parameters()))):
        assert_close(a, b, rtol=1e-3, atol=1e-6)


def test_the_critic_pulls_the_last_layer_as_hard_as_the_error_does():
    """VQGAN adaptive weight: the ratio of the two gradients at the decoder's last layer, here measured by hand."""
    model, x0 = awake(CodecObjective(NET, CRITIC)).train(), pictures(size=16)
    painted = model.codec(x0, generator(1))[0]
    alike, fool = (painted - x0).abs().flatten(1).mean(1), -model.critic(painted).flatten(1).mean(1)
    last = model.codec.decoder[-2].weight
    of_error, of_critic = (torch.autograd.grad(v.mean(), last, retain_graph=True)[0].norm() for v in (alike, fool))
    weight = model.adaptive_weight(alike, fool)
    assert_close(weight, of_error / (of_critic + 1e-4))
    assert not weight.requires_grad


def test_the_critic_waits_until_its_step():
    model, x0 = awake(CodecObjective(NET, replace(CRITIC, critic_from=2))).train(), pictures(size=16)
    moved = []
    for _ in range(4):
        model.zero_grad()
        model.loss(x0, Cond(), generator(1)).mean().backward()
        moved.append(max(p.grad.abs().max().item() for p in model.critic.parameters()) > 0)
    assert moved == [False, False, True, True]


def test_hinge_is_nothing_for_a_critic_that_is_sure():
    real, painted = torch.full((2, 1, 3, 3), 1.5), torch.full((2, 1, 3, 3), -2.0)
    assert hinge(real, painted).tolist() == [0, 0] and hinge(painted, real).tolist() == [2.75, 2.75]


def test_a_critic_marks_patches():
    critic = Discriminator(DiscriminatorConfig())
    assert critic(torch.zeros(2, 3, 256, 256)).shape == (2, 1, 30, 30)
    assert sum(p.numel() for p in critic.parameters()) == 2_765_633                           # PatchGAN's 70 x 70: 3136 + 131328 + 524800 + 2098176 + 8193


# ---------------------------------------------------------------------------------------------------------------------------- runs

CODEC = VQCodec(size=16, net=replace(NET, quantizer="ema"), loss=CRITIC)
RUN = replace(TINY, model=CODEC)


def test_a_codec_run_logs_its_codes_and_paints_pictures_again(tmp_path):
    for _ in train(RUN, tmp_path / "run"):
        pass
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert 0 < rows[-1]["codes_used"] <= 1 <= rows[-1]["perplexity"] <= 7
    export(next((tmp_path / "run" / "checkpoints").iterdir()), tmp_path / "small")
    pipeline, x = load(tmp_path / "small"), pictures(2, 16)
    assert pipeline(2, picture=x).shape == (2, 3, 16, 16) and dict(pipeline.walk(2, picture=x))["codes"].shape == (2, 8, 8)
    with pytest.raises(ValueError, match="draws none itself"):
        pipeline(2)
    with pytest.raises(ValueError, match="reads no captions"):
        pipeline(2, picture=x, negative=["dark"])
    frozen = FrozenCodec(str(tmp_path / "small"), 7, 8)
    assert frozen.encode(x).shape == (2, 64) and torch.equal(frozen.decode(frozen.encode(x)).clamp(-1, 1), pipeline(2, picture=x))
    assert frozen.encode(pictures(1, 20)).shape == (1, 64)                                    # other sizes are made to fit
    with pytest.raises(ValueError, match="has 7 codes on a grid of 8 x 8, the model wants 9 on 8 x 8"):
        FrozenCodec(str(tmp_path / "small"), 9, 8).encode(x)


def test_a_codec_run_resumes_exactly(tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for _ in train(RUN, whole):
        pass
    for log, _ in train(RUN, parts):
        if log.step == RUN.fit.steps // 2 + 1:
            break
    for _ in train(RUN, parts):
        pass
    assert saved(whole) == saved(parts)


def test_no_codec_is_one_line():
    with pytest.raises(FileNotFoundError, match="no trained run there"):
        FrozenCodec("nowhere", 7, 8).encode(pictures())
    with pytest.raises(ValueError, match="a run of another kind"):
        FrozenCodec("ddpm-shapes", 7, 8).encode(pictures())


def test_a_trained_codec_says_how_to_try_it(tmp_path, capsys):
    small = "--steps 1 --batch-size 1 --channels 8 --codes 4 --sample-steps 0".split()
    assert cli.main(["train", "vq-codec-shapes", *small, "--out", str(tmp_path / "run")]) == 0
    assert f"t2ilab sample {tmp_path / 'run'} --picture photo.png" in capsys.readouterr().out
