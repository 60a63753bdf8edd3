"""The codec: the discriminator's balance, published sizes, and runs that resume."""
import json
from dataclasses import replace

import pytest
import torch
from test_unet import awake
from tiny_runs import TINY, saved
from torch.testing import assert_close
from toys import alone

from t2ilab.cli import commands as cli
from t2ilab.diffusion.cond import Cond
from t2ilab.families.frozen_codec import FrozenCodec
from t2ilab.families.vqgan import VQGANRunConfig
from t2ilab.presets import PRESETS
from t2ilab.runs.export import export
from t2ilab.runs.load import load
from t2ilab.runs.train import train
from t2ilab.tensors import generator
from t2ilab.vqgan.discriminator import Discriminator, DiscriminatorConfig, hinge
from t2ilab.vqgan.networks import VQGAN, VQGANConfig
from t2ilab.vqgan.objective import VQGANLossConfig, VQGANObjective
from t2ilab.vqgan.quantizers import QUANTIZERS

NET = VQGANConfig(channels=8, channel_mult=(1, 2), blocks=1, attention=(False, True), z_channels=6, codebook_dim=4, codebook_size=7)
PLAIN = VQGANLossConfig(squared=0.5, perceptual=0.0, adversarial=0.0, perceptual_net="scenes")
CRITIC = replace(PLAIN, adversarial=0.8, discriminator_start=0, discriminator=DiscriminatorConfig(8, 1))
COUNTS = {"vq-codec-coco": 68_995_971, "vq-codec-imagenet": 76_073_859, "vq-codec-ffhq": 72_141_699, "vq-codec-ithq": 63_485_379}


def pictures(n=3, size=8, seed=0):
    return torch.rand(n, 3, size, size, generator=generator(seed)) * 2 - 1


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


@pytest.mark.parametrize("kind", QUANTIZERS)
def test_encoding_is_the_same_every_time(kind):
    codec = awake(VQGAN(replace(NET, quantizer=kind)))
    images = pictures()
    first = codec.train().encode(images)
    assert torch.equal(first, codec.encode(images)) and torch.equal(first, codec.eval().encode(images)) and torch.equal(first, codec(images)[1])


# ---------------------------------------------------------------------------------------------------------------------------- losses

def test_the_loss_is_the_sum_of_its_parts():
    model, x0 = awake(VQGANObjective(NET, PLAIN)).eval(), pictures()
    painted, _, rounding = model.codec(x0)
    error = (painted - x0).flatten(1)
    assert_close(model.loss(x0), error.abs().mean(1) + 0.5 * error.square().mean(1) + rounding)


def test_the_critic_and_the_codec_each_get_the_gradient_of_their_own_loss():
    model, x0 = awake(VQGANObjective(NET, CRITIC)).train(), pictures(size=16)
    model.codec.eval()                                                                       # so that painting twice is the same
    model.loss(x0, Cond(), generator(1)).mean().backward()
    discriminator, codec = [[p.grad.clone() for p in part.parameters()] for part in (model.discriminator, model.codec)]
    painted, _, rounding = model.codec(x0, generator(1))
    alone = torch.autograd.grad(hinge(model.discriminator(x0), model.discriminator(painted.detach())).mean(), list(model.discriminator.parameters()))
    for a, b in zip(discriminator, alone):
        assert_close(a, b, rtol=1e-3, atol=1e-6)
    error, fool = (painted - x0).flatten(1), -model.discriminator(painted).flatten(1).mean(1)
    alike = error.abs().mean(1) + CRITIC.squared * error.square().mean(1)
    own = alike + rounding + CRITIC.adversarial * model.adaptive_weight(alike, fool) * fool
    for a, b in zip(codec, torch.autograd.grad(own.mean(), list(model.codec.parameters()))):
        assert_close(a, b, rtol=1e-3, atol=1e-6)


def test_the_critic_pulls_the_last_layer_as_hard_as_the_error_does():
    """VQGAN adaptive weight: the ratio of the two gradients at the decoder's last layer, here measured by hand."""
    model, x0 = awake(VQGANObjective(NET, CRITIC)).train(), pictures(size=16)
    painted = model.codec(x0, generator(1))[0]
    alike, fool = (painted - x0).abs().flatten(1).mean(1), -model.discriminator(painted).flatten(1).mean(1)
    last = model.codec.decoder[-2].weight
    of_error, of_critic = (torch.autograd.grad(v.mean(), last, retain_graph=True)[0].norm() for v in (alike, fool))
    weight = model.adaptive_weight(alike, fool)
    assert_close(weight, of_error / (of_critic + 1e-4))
    assert not weight.requires_grad


def test_a_pull_too_faint_for_half_precision_is_measured_all_the_same():
    """One pixel of 4 x 3 x 64 x 64, times a weight of 1e-3, is 2e-8: below the least number that fp16 has."""
    loss = replace(CRITIC, absolute=1e-3, squared=0.0)
    model, x0 = awake(VQGANObjective(NET, loss)).train(), pictures(4, 64)
    found = {}
    for dtype in (torch.float32, torch.float16):
        with torch.autocast("cpu", dtype=dtype, enabled=dtype == torch.float16):
            painted = model.codec(x0, generator(1))[0].float()
            fool = -model.discriminator(painted).float().flatten(1).mean(1)
            found[dtype] = model.adaptive_weight(loss.absolute * (painted - x0).abs().flatten(1).mean(1), fool).item()
    assert found[torch.float16] == pytest.approx(found[torch.float32], rel=0.05) and found[torch.float32] > 0


def test_pictures_too_small_for_the_critic_are_refused_at_the_first_step():
    model = VQGANObjective(NET, replace(CRITIC, discriminator_start=10, discriminator=DiscriminatorConfig(8, 3))).train()
    assert model.discriminator(pictures(1, 24)).shape == (1, 1, 1, 1)
    with pytest.raises(ValueError, match="16 x 16 pixels are too small for this discriminator, which needs 24 or more: choose fewer --discriminator-layers"):
        model.loss(pictures(1, 16))


def test_the_critic_waits_until_its_step():
    model, x0 = awake(VQGANObjective(NET, replace(CRITIC, discriminator_start=2))).train(), pictures(size=16)
    moved = []
    for _ in range(4):
        model.zero_grad()
        for _ in range(2):                                                                   # shards of one step
            model.loss(x0, Cond(), generator(1)).mean().backward()
        model.after_step(alone)
        moved.append(max(p.grad.abs().max().item() for p in model.discriminator.parameters()) > 0)
    assert moved == [False, False, True, True]


def test_hinge_is_nothing_for_a_critic_that_is_sure():
    real, painted = torch.full((2, 1, 3, 3), 1.5), torch.full((2, 1, 3, 3), -2.0)
    assert hinge(real, painted).tolist() == [0, 0] and hinge(painted, real).tolist() == [2.75, 2.75]


def test_a_critic_marks_patches():
    discriminator = Discriminator(DiscriminatorConfig())
    assert discriminator(torch.zeros(2, 3, 256, 256)).shape == (2, 1, 30, 30)
    assert sum(p.numel() for p in discriminator.parameters()) == 2_765_633                           # PatchGAN's 70 x 70: 3136 + 131328 + 524800 + 2098176 + 8193


# ---------------------------------------------------------------------------------------------------------------------------- runs

CODEC = VQGANRunConfig(size=16, net=replace(NET, quantizer="ema"), loss=CRITIC)
RUN = replace(TINY, model=CODEC)


@pytest.mark.slow
def test_a_codec_run_logs_its_codes_and_paints_pictures_again(tmp_path):
    for _ in train(RUN, tmp_path / "run"):
        pass
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert 0 < rows[-1]["codes_used"] <= 1 <= rows[-1]["perplexity"] <= 7
    export(next((tmp_path / "run" / "checkpoints").iterdir()), tmp_path / "small")
    pipeline, x = load(tmp_path / "small"), pictures(2, 16)
    assert pipeline(2, low_res_image=x).shape == (2, 3, 16, 16) and dict(pipeline.walk(2, low_res_image=x))["codes"].shape == (2, 8, 8)
    with pytest.raises(ValueError, match="draws none itself"):
        pipeline(2)
    with pytest.raises(ValueError, match="reads no captions"):
        pipeline(2, low_res_image=x, negative_prompt=["dark"])
    frozen = FrozenCodec(str(tmp_path / "small"), 7, 8)
    assert frozen.encode(x).shape == (2, 64) and torch.equal(frozen.decode(frozen.encode(x)).clamp(-1, 1), pipeline(2, low_res_image=x))
    assert frozen.encode(pictures(1, 20)).shape == (1, 64)                                    # other sizes are made to fit
    with pytest.raises(ValueError, match="has 7 codes on a grid of 8 x 8, the model wants 9 on 8 x 8"):
        FrozenCodec(str(tmp_path / "small"), 9, 8).encode(x)


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_trained_codec_says_how_to_try_it(tmp_path, capsys):
    small = "--steps 1 --batch-size 1 --channels 8 --codebook-size 4 --sample-steps 0".split()
    assert cli.main(["train", "vq-codec-shapes", *small, "--out", str(tmp_path / "run")]) == 0
    assert f"t2ilab sample {tmp_path / 'run'} --low-res-image photo.png" in capsys.readouterr().out


def test_an_unknown_perceptual_net_is_named_with_those_that_are_known():
    with pytest.raises(ValueError, match="^perceptual_net='vgg': choose one of .*scenes"):
        replace(PLAIN, perceptual_net="vgg")
