"""The U-Net: exact sizes, equality with diffusers' network weight for weight, and what each condition may and may not change."""
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close
from toys import wave

from t2ilab.diffusion.cond import Cond
from t2ilab.nets.attention import Attention, position_features
from t2ilab.nets.layers import Downsample, ResBlock, Upsample, timestep_embedding
from t2ilab.nets.unet import UNet, UNetConfig
from t2ilab.presets.ddpm import HO, IDDPM
from t2ilab.pretrained.ddpm import convert
from t2ilab.tensors import generator

TINY = UNetConfig(channels=32, channel_mult=(1, 2), blocks=1, attention=(True, True), dropout=0.0)
TEXT = replace(TINY, text_width=8)
TIMES = torch.tensor([3.0, 700.0])


def awake(net, seed=0):
    """The network with small random numbers added to all weights, in a stated order; those that start at zero would hide mistakes."""
    draw = generator(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=draw))
    return net


def picture(*shape, seed=0):
    return wave(*shape, seed=seed).float()


def tokens(seed=3):
    return Cond(picture(2, 5, 8, seed=seed))


def size(net):
    return sum(p.numel() for p in net.parameters())


# ------------------------------------------------------------------------------------------------------------------------------------- exact sizes
@pytest.mark.parametrize("config, parameters", [(HO, 35_746_307), (IDDPM, 52_546_438)], ids=["DDPM", "improved DDPM"])
def test_published_networks_have_their_published_size(config, parameters):
    with torch.device("meta"):
        assert size(UNet(config, out_channels=6 if config is IDDPM else 3)) == parameters


# ---------------------------------------------------------------------------------------------------------- equal to diffusers, weight for weight
CIFAR = dict(down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
             up_block_types=("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"), layers_per_block=2, attention_head_dim=None)
DDPM_THEIRS = dict(CIFAR, flip_sin_to_cos=False, freq_shift=1, downsample_padding=0, norm_eps=1e-6)
IDDPM_THEIRS = dict(CIFAR, flip_sin_to_cos=True, freq_shift=0, downsample_padding=1, resnet_time_scale_shift="scale_shift", attention_head_dim=16,
                    attn_norm_num_groups=32)


def diffusers_net(width, **options):
    channels = tuple(width * m for m in (1, 2, 2, 2))
    return pytest.importorskip("diffusers").UNet2DModel(block_out_channels=channels, **options)


@pytest.mark.parametrize("config, options", [(UNetConfig(channels=32, tf_layout=True), DDPM_THEIRS),
                                             (UNetConfig(channels=32, scale_shift_norm=True, head_channels=16), IDDPM_THEIRS)], ids=["DDPM", "improved DDPM"])
def test_the_network_equals_diffusers_weight_for_weight(config, options):
    """DDPM's CIFAR-10 network (its own clock and padding) and one with improved DDPM's clock, scales and heads, at a quarter of the width."""
    ours, theirs = UNet(config).eval(), awake(diffusers_net(32, **options)).eval()
    ours.load_state_dict(convert(theirs.state_dict(), ours, flip=options["flip_sin_to_cos"]))
    assert size(ours) == size(theirs)
    x = picture(2, 3, 16, 24)
    with torch.no_grad():
        want = theirs(x, TIMES).sample
        assert want.std() > 0.1
        assert_close(ours(x, TIMES + 1, Cond()), want, rtol=1e-4, atol=1e-4)      # their time runs from 0 to 999


def test_diffusers_network_has_the_same_size_at_full_width():
    with torch.device("meta"):
        assert size(diffusers_net(128, **DDPM_THEIRS)) == 35_746_307


def test_the_clock_is_cosines_then_sines_at_falling_frequencies():
    t, half = torch.tensor([0.0, 1.0, 999.0]), 16
    for last in (0, 1):
        w = torch.tensor([10_000.0 ** (-i / (half - last)) for i in range(half)], dtype=torch.float64)
        want = torch.cat([(t[:, None] * w).cos(), (t[:, None] * w).sin()], dim=1)
        assert_close(timestep_embedding(t, 2 * half, last=last).double(), want, rtol=0, atol=1e-4)
    assert torch.equal(timestep_embedding(t, 2 * half), timestep_embedding(t, 2 * half, last=0))


# -------------------------------------------------------------------------------------------------------------------------------------- conditions
def test_a_new_network_answers_zero_and_a_new_block_changes_nothing():
    x = picture(2, 32, 4, 6)
    assert torch.equal(UNet(TEXT)(picture(2, 3, 8, 12), TIMES, tokens()), torch.zeros(2, 3, 8, 12))
    assert torch.equal(ResBlock(32, 32, embedding=8, scale_shift_norm=True, dropout=0.0)(x, picture(2, 8)), x)
    assert torch.equal(Attention(32, head_channels=8)(x), x)


def test_every_attention_reads_the_text():
    net, cond = awake(UNet(TEXT)), tokens()
    text = cond.text.requires_grad_()
    net(picture(2, 3, 8, 12), TIMES, cond).square().sum().backward()
    readers = [part for part in net.modules() if isinstance(part, Attention)]
    assert len(readers) == 2 * 1 + 1 + 2 * 2                        # down, middle, up
    assert all(reader.attend.context_kv.weight.grad.norm() > 0 for reader in readers)
    assert (text.grad.norm(dim=2) > 0).all()


def test_coordinates_tell_the_first_layer_where_each_pixel_lies():
    config = UNetConfig(channels=32, channel_mult=(1,), blocks=1, attention=(False,), patch=2, coordinates=True)
    net, plain = UNet(config), UNet(replace(config, coordinates=False))
    assert net.conv_in.weight.shape[1] == plain.conv_in.weight.shape[1] + 2 * 2 ** 2
    seen = []
    net.conv_in.register_forward_pre_hook(lambda _, inputs: seen.append(F.pixel_shuffle(inputs[0], 2)))
    x = picture(2, 3, 4, 8)
    net(x, torch.tensor([5.0, 5.0]), Cond())
    assert torch.equal(seen[0][:, :3], x)
    assert torch.equal(seen[0][1, 3, :, 0], torch.linspace(-1, 1, 4)) and torch.equal(seen[0][0, 4, 2], torch.linspace(-1, 1, 8))


def test_places_tell_attention_where_each_pixel_lies():
    layer, x = awake(Attention(32, head_channels=16, places=True)), picture(1, 32, 3, 4)
    waves = position_features(3, 4)
    assert waves.shape == (12, 8) and len({tuple(row) for row in waves.round(decimals=4).tolist()}) == 12 and waves.abs().max() <= 1
    assert_close(waves[5], torch.tensor([f(k * math.pi * u) for u in (0.0, -1 / 6) for k in (1, 2) for f in (math.sin, math.cos)]))     # row 1, column 1
    turned = layer(x.flip(3)).flip(3)
    assert (turned - layer(x)).abs().max() > 0.01                      # left and right are not alike any more
    layer.places = None
    assert_close(layer(x.flip(3)).flip(3), layer(x))


def test_the_last_token_joins_the_time():
    net, cond = awake(UNet(TEXT)), tokens()
    time = net.time(timestep_embedding(TIMES, 32))
    assert_close(net.embed(TIMES, cond) - time, torch.nn.functional.linear(cond.text[:, -1], net.pooled.weight, net.pooled.bias), rtol=1e-4, atol=1e-5)


def test_pixels_attend_by_softmax_of_queries_and_keys_text_first():
    """Written out with matrices, for one head of two."""
    layer, x, cond = awake(Attention(32, head_channels=16, text_width=8)), picture(2, 32, 3, 2), tokens()
    with torch.no_grad():
        h = layer.norm(x).flatten(2).transpose(1, 2)                # [B 6 32]
        q = layer.attend.q(h)
        k, v = layer.attend.kv(h).split(32, dim=2)
        k_text, v_text = layer.attend.context_kv(cond.text).split(32, dim=2)
        k, v = torch.cat([k_text, k], 1), torch.cat([v_text, v], 1)
        heads = []
        for part in (slice(0, 16), slice(16, 32)):
            score = q[..., part] @ k[..., part].transpose(1, 2) / 16 ** 0.5
            heads.append(score.softmax(2) @ v[..., part])
        want = x + layer.attend.proj(torch.cat(heads, 2)).transpose(1, 2).reshape(2, 32, 3, 2)
        assert_close(layer(x, cond.text), want, rtol=1e-5, atol=1e-5)


def test_a_label_is_added_to_the_time_and_no_label_adds_nothing():
    net, x = awake(UNet(replace(TINY, classes=4))), picture(2, 3, 8, 12)
    labels = Cond(torch.tensor([[2], [3]]), torch.tensor([[True], [False]]))
    assert_close(net.embed(TIMES, labels) - net.embed(TIMES, Cond()), torch.stack([net.label.weight[2], torch.zeros(128)]), rtol=1e-5, atol=1e-5)
    assert_close(net(x, TIMES, labels.null()), net(x, TIMES, Cond()))
    other = net(x, TIMES, replace(labels, text=torch.tensor([[1], [0]])))
    assert (other[0] - net(x, TIMES, labels)[0]).abs().max() > 0.01
    assert_close(other[1], net(x, TIMES, labels)[1])


def test_a_low_resolution_picture_stands_beside_x_t():
    net, x, low = awake(UNet(TINY, in_channels=6)), picture(2, 3, 8, 12), picture(2, 3, 8, 12, seed=1)
    assert_close(net(x, TIMES, Cond(low_res=low)), net(torch.cat([x, low], 1), TIMES, Cond()))
    assert (net(x, TIMES, Cond(low_res=low)) - net(x, TIMES, Cond(low_res=x))).abs().max() > 0.01


def test_patches_fold_pixels_into_channels_and_back():
    """Patch 2 is the same network at half the size, between a folding and an unfolding written out by hand."""
    net, x = awake(UNet(replace(TINY, patch=2))), picture(2, 3, 8, 12)
    inner = UNet(TINY, in_channels=12, out_channels=12)
    inner.load_state_dict(net.state_dict(), strict=True)
    folded = torch.stack([x[:, c, i::2, j::2] for c in range(3) for i in (0, 1) for j in (0, 1)], dim=1)
    out = inner(folded, TIMES, Cond())
    want = torch.zeros_like(x)
    for k, (c, i, j) in enumerate((c, i, j) for c in range(3) for i in (0, 1) for j in (0, 1)):
        want[:, c, i::2, j::2] = out[:, k]
    assert_close(net(x, TIMES, Cond()), want, rtol=1e-5, atol=1e-5)


def test_pictures_of_a_batch_do_not_see_each_other():
    net, x, cond = awake(UNet(TEXT)), picture(2, 3, 8, 12), tokens()
    together = net(x, TIMES, cond)
    for b in range(2):
        assert_close(net(x[b:b + 1], TIMES[b:b + 1], cond.map(lambda v: v[b:b + 1])), together[b:b + 1], rtol=1e-4, atol=1e-4)
    assert (together[0] - net(x, TIMES.flip(0), cond)[0]).abs().max() > 0.01


@pytest.mark.parametrize("scale_shift_norm", [False, True])
def test_a_residual_block_mixes_in_the_time(scale_shift_norm):
    block, x, e = awake(ResBlock(32, 64, embedding=8, scale_shift_norm=scale_shift_norm, dropout=0.5)).eval(), picture(2, 32, 4, 6), picture(2, 8, seed=1)
    F = torch.nn.functional
    h = F.conv2d(F.silu(F.group_norm(x, 32, block.norm1.weight, block.norm1.bias)), block.conv1.weight, block.conv1.bias, padding=1)
    mixed = F.linear(F.silu(e), block.embed.weight, block.embed.bias)[:, :, None, None]

    def norm2(h):
        return F.group_norm(h, 32, block.norm2.weight, block.norm2.bias)
    h = norm2(h) * (1 + mixed[:, :64]) + mixed[:, 64:] if scale_shift_norm else norm2(h + mixed)
    want = F.conv2d(x, block.skip.weight, block.skip.bias) + F.conv2d(F.silu(h), block.conv2.weight, block.conv2.bias, padding=1)
    assert_close(block(x, e), want, rtol=1e-5, atol=1e-5)
    assert (block.train()(x, e) - want).abs().max() > 0.01          # dropout


@pytest.mark.parametrize("tf_padding", [False, True])
def test_halving_and_doubling_change_the_size_by_two(tf_padding):
    x = picture(2, 4, 6, 10)
    assert Downsample(4, tf_padding=tf_padding)(x).shape == (2, 4, 3, 5)
    assert Upsample(4)(x).shape == (2, 4, 12, 20)


def test_dropout_acts_in_training_alone():
    net, x = awake(UNet(replace(TINY, dropout=0.5))), picture(2, 3, 8, 12)
    assert not torch.equal(net.train()(x, TIMES, Cond()), net(x, TIMES, Cond()))
    assert torch.equal(net.eval()(x, TIMES, Cond()), net(x, TIMES, Cond()))


def test_gradient_checkpointing_changes_neither_loss_nor_gradients():
    plain = awake(UNet(replace(TEXT, dropout=0.2)))
    saving = UNet(replace(TEXT, dropout=0.2, gradient_checkpointing=True))
    saving.load_state_dict(plain.state_dict(), strict=True)
    kept, losses = [], []
    for net in (plain, saving):
        torch.manual_seed(0)                                        # of the dropout
        with torch.autograd.graph.saved_tensors_hooks(lambda v: kept[-1].append(v.numel()) or v, lambda v: v):
            kept.append([])
            loss = net.train()(picture(2, 3, 8, 12), TIMES, tokens()).square().mean()
        loss.backward()
        losses.append(loss)
    assert torch.equal(*losses)
    for (name, a), b in zip(plain.named_parameters(), saving.parameters()):
        assert_close(b.grad, a.grad, msg=name)
    assert sum(kept[1]) < sum(kept[0]) / 2


# ----------------------------------------------------------------------------------------------------------------------------------------- mistakes
X = picture(2, 3, 8, 12)


@pytest.mark.parametrize("config, x, cond, message", [
    (TINY, picture(2, 1, 8, 8), Cond(), r"x_t \[2, 1, 8, 8\]: this U-Net takes \[B 3 H W\] with H and W divisible by 2"),
    (TINY, picture(2, 3, 7, 8), Cond(), r"x_t \[2, 3, 7, 8\]"),
    (TINY, picture(2, 3, 8, 7), Cond(), r"x_t \[2, 3, 8, 7\]"),
    (TINY, picture(2, 3, 8), Cond(), r"x_t \[2, 3, 8\]"),
    (replace(TINY, patch=2), picture(2, 3, 8, 10), Cond(), "divisible by 4"),
    (TINY, X, Cond(low_res=X), r"with low_res: this U-Net takes \[B 0 H W\]"),
    (TINY, X, Cond(low_res=X, known=X), r"with low_res and known: this U-Net takes \[B -4 H W\]"),
    (TEXT, X, Cond(), r"text \[\], mask \[\]: this U-Net takes text \[2 L 8\], and a mask \[2 L\] or none"),
    (TEXT, X, Cond(picture(2, 5, 7)), r"text \[2, 5, 7\]"),
    (TEXT, X, tokens().map(lambda v: v[:1]), r"text \[1, 5, 8\]"),
    (TEXT, X, Cond(tokens().text, torch.ones(2, 4).bool()), r"mask \[2, 4\]"),
    (replace(TINY, classes=4), X, Cond(torch.tensor([1, 2]), torch.ones(2, 1).bool()), r"labels \[2\], mask \[2, 1\]: this U-Net takes both as \[2 1\]")])
def test_a_wrong_shape_is_one_clear_sentence(config, x, cond, message):
    with torch.no_grad(), pytest.raises(ValueError, match=message):
        UNet(config)(x, TIMES, cond)


@pytest.mark.parametrize("channels, cond, message", [
    (6, Cond(), r"takes \[B 6 H W\]"),
    (6, Cond(low_res=picture(2, 3, 4, 6)), r"low_res \[2, 3, 4, 6\].*x_t \[2, 3, 8, 12\]"),
    (7, Cond(known=picture(2, 4, 4, 6)), r"known \[2, 4, 4, 6\].*\[B 4 H W\] at the size of x_t \[2, 3, 8, 12\]")])
def test_a_picture_beside_x_t_of_the_wrong_size_is_one_clear_sentence(channels, cond, message):
    with torch.no_grad(), pytest.raises(ValueError, match=message):
        UNet(TINY, in_channels=channels)(X, TIMES, cond)


def test_impossible_configurations_are_refused():
    with pytest.raises(ValueError, match="resample='pool': choose conv or block"):
        UNetConfig(resample="pool")
    with pytest.raises(ValueError, match="channel_mult has 3 levels, attention 4"):
        UNetConfig(channel_mult=(1, 2, 2))
    with pytest.raises(ValueError, match="head_channels=48: choose a divisor of the 32 channels"):
        UNet(replace(TINY, head_channels=48))


@pytest.mark.parametrize("trains, bf16", [(False, False), (False, True), (True, False), (True, True)])
def test_features_are_channels_last_but_not_on_a_cpu_in_training_or_bf16_where_group_norm_is_slow_with_it(trains, bf16):
    net = UNet(replace(TINY, patch=2))
    seen = []
    net.conv_out[0].register_forward_pre_hook(lambda layer, given: seen.append(given[0]))
    with torch.set_grad_enabled(trains), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        net(torch.zeros(2, 3, 32, 32), torch.ones(2), Cond())
    fast = torch.contiguous_format if trains or bf16 else torch.channels_last
    assert seen[0].is_contiguous(memory_format=fast)
