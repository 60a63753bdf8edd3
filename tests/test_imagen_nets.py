"""What Imagen's networks see: a language model's words that reach every block, padding that reaches none, and the Efficient U-Net's order of work."""
from dataclasses import replace

import pytest
import torch
from test_unet import awake
from tiny_glide import built, count_texts
from tiny_imagen import BASE, SHARPEN, UPSAMPLER, net_of
from torch.testing import assert_close

from t2ilab.diffusion.cond import Cond
from t2ilab.families.imagen import ImagenConfig
from t2ilab.nets.attention import Attention
from t2ilab.nets.efficient_unet import EfficientUNet, EfficientUNetConfig
from t2ilab.nets.text_pooling import TextPooling
from t2ilab.tensors import generator


def features(n=2, words=(5, 0), width=16, length=16, seed=0):
    """Features as an encoder gives them, [n L E], and their mask: words[i] real tokens in row i."""
    mask = torch.arange(length) < torch.tensor(words)[:, None]
    return torch.randn(n, length, width, generator=generator(seed)) * mask[:, :, None], mask


def condition(model, n=2, **options):
    """Everything a stage sees beside x_t and t."""
    low = torch.randn(n, 3, model.size, model.size, generator=generator(8)) if model.low_res else None
    return Cond(*features(n, **options), low_res=low, aug=torch.linspace(0, 1, n) if model.low_res else None)


# Text

@pytest.mark.parametrize("scale", [0.0, 1.0, 3.0])
def test_a_captions_tokens_are_worked_out_once_a_stage_and_not_once_a_step(scale, monkeypatch):
    lines = count_texts(TextPooling, monkeypatch)
    built(BASE, UPSAMPLER, guidance_scale=scale, sampling_steps=5)(["a red circle", "", "small"])
    assert lines == [3 if scale in (0, 1) else 6] * 2


def test_a_caption_is_pooled_by_attention_with_learned_questions():
    reader, (text, mask) = awake(TextPooling(16, 8, 16)), features(3, (5, 16, 1))
    tokens, _ = reader(text, mask)
    seen = reader.pool_norm(reader.project(reader.norm(text)) + reader.positions)
    for row, there, pooled in zip(seen, mask, tokens[:, -1]):
        weights = (reader.queries @ row[there].T / 8 ** 0.5).exp()                           # [questions words], the softmax written out
        assert_close(pooled, reader.pool((weights / weights.sum(1, keepdim=True) @ row[there]).flatten()))
    assert_close(tokens[:, 1:-1], reader.project(reader.norm(text)) + reader.positions)


def test_words_and_places_start_equally_strong():
    reader = TextPooling(512, 256, 32)
    words = reader.project(reader.norm(3 * torch.randn(4, 32, 512, generator=generator(0)) + 1))
    assert abs(words.std() - 1) < 0.05 and abs(reader.positions.std() - 1) < 0.05


def test_a_line_without_a_caption_spoils_no_gradient():
    reader = awake(TextPooling(16, 8, 16))
    reader(*features(words=(5, 0)))[0].square().sum().backward()
    assert all(p.grad.isfinite().all() and p.grad.abs().amax() > 0 for p in reader.parameters())


def test_the_order_of_the_words_is_heard_even_if_the_features_do_not_tell():
    reader, text, mask = awake(TextPooling(16, 8, 16)), features(1, (4,))[0], features(1, (4,))[1]
    turned = torch.cat([text[:, [3, 2, 1, 0]], text[:, 4:]], dim=1)
    assert (reader(text, mask)[0][:, -1] - reader(turned, mask)[0][:, -1]).abs().amax() > 0.01
    with torch.no_grad():
        reader.positions.zero_()
    assert_close(reader(text, mask)[0][:, -1], reader(turned, mask)[0][:, -1])


@pytest.mark.parametrize("model", [BASE, UPSAMPLER], ids=["base", "upsampler"])
def test_features_are_read_once_per_run_and_the_network_takes_the_tokens(model):
    net, cond = awake(net_of(model)).eval(), condition(model)
    read, (tokens, mask) = net.condition(cond), net.reader(cond.text, cond.mask)
    assert read.text.shape == (2, 18, 8) and torch.equal(read.text, tokens) and torch.equal(read.mask, mask)
    with pytest.raises(ValueError, match="this U-Net takes text"):
        net(torch.zeros(2, 3, model.size, model.size), torch.tensor([3.0, 800.0]), cond)


@pytest.mark.parametrize("model", [BASE, UPSAMPLER], ids=["base", "upsampler"])
def test_every_block_that_reads_and_the_clock_learn_from_the_caption(model):
    net, cond = awake(net_of(model)), condition(model, words=(5, 3))
    net(torch.randn(2, 3, model.size, model.size, generator=generator(1)), torch.tensor([3.0, 800.0]), net.condition(cond)).square().sum().backward()
    readers = [m for m in net.unet.modules() if isinstance(m, Attention)]
    assert len(readers) == (4 if model.low_res else 4) and all(r.attend.context_kv.weight.grad.abs().sum(1).amin() > 0 for r in readers)
    assert net.unet.pooled.weight.grad.abs().amin() > 0 and net.reader.project.weight.grad.abs().sum(1).amin() > 0
    assert net.reader.null.grad.abs().amax() > 0 and net.reader.null_embedding.grad is not None


@pytest.mark.parametrize("model", [BASE, UPSAMPLER], ids=["base", "upsampler"])
def test_neither_padding_nor_what_stands_under_the_mask_changes_a_picture(model):
    net, cond = awake(net_of(replace(model, text_length=32))).eval(), condition(model)
    x, t = torch.randn(2, 3, model.size, model.size, generator=generator(1)), torch.tensor([3.0, 800.0])
    out, rubbish = net(x, t, net.condition(cond)), torch.where(cond.mask[:, :, None], cond.text, 100.0)
    longer = [torch.cat([v, torch.zeros_like(v)], dim=1) for v in (cond.text, cond.mask)]
    for text, mask in ((rubbish, cond.mask), longer, [v[:, :5] for v in (cond.text, cond.mask)]):
        assert_close(net(x, t, net.condition(replace(cond, text=text, mask=mask))), out, rtol=1e-4, atol=1e-5)
    other = cond.text.clone()
    other[0, 4, 0] += 3
    changed = (net(x, t, net.condition(replace(cond, text=other))) - out).abs().amax((1, 2, 3))
    assert changed[0] > 1e-4 and changed[1] == 0


def test_a_dropped_caption_is_no_caption_whatever_it_said():
    net = awake(net_of(BASE)).eval()
    (text, mask), x = features(words=(5, 9)), torch.randn(1, 3, 8, 8, generator=generator(1)).expand(2, -1, -1, -1)
    a, b = net(x, torch.full((2,), 500.0), net.condition(Cond(text, mask).null()))
    assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_captions_are_dropped_at_the_stated_rate_in_training_and_only_there():
    denoiser, masks, n = built(BASE).stages[0].denoiser, [], 600
    denoiser.net.reader.register_forward_pre_hook(lambda module, given: masks.append(given[1]))
    denoiser.loss(torch.zeros(n, 3, 8, 8), Cond(*features(n, words=[5] * n)), generator(0))
    kept = masks[0].any(1)
    assert abs((~kept).double().mean() - 0.2) < 4 * (0.2 * 0.8 / n) ** 0.5 and torch.equal(masks[0].sum(1), 5 * kept)


def test_the_network_and_the_encoder_must_agree_on_widths():
    with pytest.raises(ValueError, match=r"text \[2, 16, 12\], mask \[2, 16\]: this model takes \[B L 16\]"):
        net_of(BASE).condition(Cond(*features(width=12)))
    with pytest.raises(ValueError, match="L up to 16"):
        net_of(BASE).condition(Cond(*features(length=17)))
    with pytest.raises(ValueError, match="width=8"):
        replace(BASE, encoder_width=8).pipeline()(["a red circle"])


# The Efficient U-Net

def test_most_parameters_are_where_pixels_are_few():
    with torch.device("meta"):
        net = EfficientUNet()
    sizes = [sum(p.numel() for level in (down, up) for p in level.parameters()) for down, up in zip(net.down, net.up)]
    assert sizes == sorted(sizes) and sizes[-1] > 0.7 * sum(sizes) and [len(level.layers) for level in net.down] == [2, 4, 8, 8]


def test_blocks_work_on_halved_pictures_and_shortcuts_are_scaled():
    """Imagen skip scaling."""
    net, seen = awake(EfficientUNet(SHARPEN)).eval(), []
    for level in (*net.down, *net.up):
        level.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    cond = condition(UPSAMPLER, width=8)
    net(torch.randn(2, 3, 16, 16, generator=generator(1)), torch.ones(2), cond)
    assert [x.shape[1:] for x in seen] == [(8, 8, 8), (16, 4, 4), (32, 4, 4), (16, 8, 8)]
    out = net.down[1](seen[1], net.embed(torch.ones(2), cond), cond)
    assert_close(seen[2], torch.cat([out, out / 2 ** 0.5], dim=1))


def test_recomputing_activations_changes_nothing():
    nets = [awake(EfficientUNet(replace(SHARPEN, gradient_checkpointing=on))) for on in (False, True)]
    nets[1].load_state_dict(nets[0].state_dict())
    x, cond = torch.randn(2, 3, 16, 16, generator=generator(1)), condition(UPSAMPLER, width=8)
    for net in nets:
        net(x, torch.ones(2), cond).square().sum().backward()
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(nets[0].parameters(), nets[1].parameters()))


@pytest.mark.parametrize("change, said", [
    ({"low_res": None}, r"low_res \[\], aug \[2\]: this U-Net takes \[2, 3, 16, 16\] and \[2\]"), ({"aug": torch.ones(1)}, r"aug \[1\]"),
    ({"mask": None}, r"mask \[\]: this U-Net takes text \[2 L 8\] and a mask"), ({"text": torch.zeros(2, 16, 4)}, r"text \[2, 16, 4\]")])
def test_shapes_that_do_not_fit_are_refused(change, said):
    with pytest.raises(ValueError, match=said):
        EfficientUNet(SHARPEN)(torch.zeros(2, 3, 16, 16), torch.ones(2), replace(condition(UPSAMPLER, width=8), **change))
    with pytest.raises(ValueError, match="divisible by 4"):
        EfficientUNet(SHARPEN)(torch.zeros(2, 3, 18, 16), torch.ones(2), condition(UPSAMPLER, width=8))


def test_levels_must_be_told_everything():
    with pytest.raises(ValueError, match="4, 3, 4, 4 levels"):
        EfficientUNetConfig(blocks=(1, 1, 1))
    assert ImagenConfig().net.text_width == 512
