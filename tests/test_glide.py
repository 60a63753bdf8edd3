"""The GLIDE family: published sizes, captions that reach every block and are dropped at the stated rate, one way of enlarging, and pictures shown in part."""
from dataclasses import replace
from itertools import repeat

import pytest
import torch
import torch.nn.functional as F
from test_unet import awake
from tiny_glide import BASE, NET, TEXT, UPSAMPLER, a_step_and_pictures, batch, built, count_texts
from torch.testing import assert_close

from t2ilab.data.loaders import Batch
from t2ilab.data.shapes import Scenes
from t2ilab.diffusion.cond import Cond
from t2ilab.diffusion.schedules import FAST27
from t2ilab.families.glide import GLIDEConfig, enlarge, shrink, some_known
from t2ilab.nets.attention import Attention
from t2ilab.nets.text_transformer import TextConfig, TextTransformer
from t2ilab.pipeline.edit import given
from t2ilab.presets import PRESETS as ALL
from t2ilab.presets.glide import MINI, TINY
from t2ilab.presets.glide import UPSAMPLER as PUBLISHED_UPSAMPLER
from t2ilab.tensors import from_uint8, generator, generator_per_image, to_uint8
from t2ilab.training.fit import FitConfig, fit

PRESETS = {name: preset for name, preset in ALL.items() if preset.family == "glide"}
SIZES = {"glide-shapes": 3_475_308, "glide-shapes-upsampler": 3_562_656, "quick-one": 2_835_212, "quick": 2_835_212, "glide-tiny": 1_625_798, "glide-flowers102": 43_540_294,
         "glide-mini": 156_947_494, "glide-mini-dogs": 156_947_494, "glide-mini-sbu": 156_947_494, "glide-base": 385_030_726,
         "glide-upsampler": 398_361_286}
PUBLISHED = {"base": (GLIDEConfig(), 385_030_726), "inpaint": (GLIDEConfig(known=1.0), 385_037_638), "upsampler": (PUBLISHED_UPSAMPLER, 398_361_286),
             "upsampler-inpaint": (replace(PUBLISHED_UPSAMPLER, known=1.0), 398_368_198), "mini": (MINI, 156_947_494), "tiny": (TINY, 1_625_798)}


def net_of(model):
    return model.build().net


def narrow(model):
    """The same model with a network of 32 channels, two layers of text and smaller pictures."""
    return replace(model, size=32, low_res=8 * (model.low_res > 0), sampling_steps=2, text=replace(model.text, text_layers=2, text_heads=4, vocabulary=600),
                   net=replace(model.net, channels=32, head_channels=32, text_width=64))


def tokens(model, n=2):
    return model.tokenizer(batch(n=n).captions)


# Sizes

@pytest.mark.parametrize("name", PRESETS)
def test_presets_have_their_size(name):
    with torch.device("meta"):
        net = net_of(PRESETS[name].model)
    assert PRESETS.keys() == SIZES.keys() and sum(p.numel() for p in net.parameters()) == SIZES[name] and all(p.requires_grad for p in net.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_networks_count_exactly_and_run_forward_and_backward_at_full_size(name):
    model, parameters = PUBLISHED[name]
    with torch.device("meta"):
        net = net_of(model)
        x = torch.zeros(1, 3, model.size, model.size)
        ids = torch.zeros(1, model.text.text_length, dtype=torch.int64)
        cond = Cond(ids, ids == 0, low_res=x if model.low_res else None, known=torch.zeros(1, 4, *x.shape[2:]) if model.known else None)
        out = net(x, torch.ones(1), net.condition(cond))
        out.sum().backward()
    assert sum(p.numel() for p in net.parameters()) == parameters and out.shape == (1, 6, model.size, model.size)
    assert all(p.grad.shape == p.shape for p in net.parameters())


@pytest.mark.slow
def test_presets_say_what_the_paper_says():
    base, upsampler = PRESETS["glide-base"].model, PRESETS["glide-upsampler"].model
    assert (base.size, base.schedule, base.T, base.guidance_scale, base.objective.cond_drop_prob) == (64, "cosine", 1000, 3.0, 0.2)
    assert (base.objective.predict, base.objective.variance, base.objective.loss) == ("eps", "learned", "hybrid")
    assert (upsampler.size, upsampler.low_res, upsampler.schedule, upsampler.temperature, upsampler.guidance_scale) == (256, 64, "linear", 0.997, 1.0)
    assert (base.text.text_length, base.text.text_layers, base.net.text_width, base.text.vocabulary) == (128, 16, 512, 50_257)
    assert narrow(upsampler).pipeline().stages[0].temperature == 0.997 and replace(narrow(upsampler), sampling_steps=FAST27).pipeline().stages[0].times == list(FAST27)
    assert PRESETS["glide-base"].cascade == ("glide-upsampler",) and upsampler.sampling_steps == FAST27 and len(FAST27) == 28


@pytest.mark.slow
@pytest.mark.parametrize("name", PRESETS)
def test_a_narrow_copy_of_a_preset_takes_a_training_step_and_samples(name):
    model = narrow(PRESETS[name].model).fit_to_dataset(type("Captions", (), {"texts": lambda self: batch(n=20).captions})())
    a_step_and_pictures(model, PRESETS[name].fit)


# Text

@pytest.mark.parametrize("scale", [0.0, 1.0, 3.0])
def test_a_captions_features_are_computed_once_a_stage_and_not_once_a_step(scale, monkeypatch):
    lines = count_texts(TextTransformer, monkeypatch)
    pipeline = built(BASE, UPSAMPLER, guidance_scale=scale, sampling_steps=5)
    pipeline(["a red circle", "", "x"])
    assert lines == [3 if scale in (0, 1) else 6] * 2


def test_a_caption_is_read_once_per_run_and_the_network_takes_its_features():
    net = awake(net_of(BASE)).eval()
    ids = Cond(*tokens(BASE))
    features = net.condition(ids)
    assert features.text.shape == (2, 40, 8) and features.mask is None and torch.equal(features.text, net.text(ids.text, ids.mask))
    with pytest.raises(ValueError, match="this U-Net takes text"):
        net(torch.zeros(2, 3, 8, 8), torch.tensor([3.0, 800.0]), ids)


@pytest.mark.parametrize("blocks", [1, 2])
def test_every_block_with_attention_and_the_clock_learn_from_the_caption(blocks):
    """No gradient of the text weights is zero, and neither is that of any token's embedding."""
    net = awake(net_of(replace(BASE, net=replace(NET, blocks=blocks, attention=(True, True)))))
    ids, mask = BASE.tokenizer(["a red circle", "blue"])
    out = net(torch.randn(2, 3, 8, 8, generator=generator(1)), torch.tensor([3.0, 800.0]), net.condition(Cond(ids, mask)))
    out.square().sum().backward()
    attentions = [m for m in net.unet.modules() if isinstance(m, Attention)]
    assert len(attentions) == 2 * blocks + 1 + 2 * (blocks + 1)
    assert all(part.attend.context_kv.weight.grad.abs().sum(1).amin() > 0 for part in attentions)
    assert net.unet.pooled.weight.grad.abs().amin() > 0
    assert (net.text.tokens.weight.grad[ids[mask]].abs().amax(1) > 0).all() and torch.equal(net.text.padding.grad.abs().amax(1) > 0, ~mask.all(0))


def test_a_word_changes_the_output_and_what_stands_under_the_mask_does_not():
    net = awake(net_of(BASE)).eval()
    ids, mask = BASE.tokenizer(["a red circle", ""])
    hidden, seen = torch.where(mask, ids, (ids + 7) % 257), ids.clone()
    seen[0, 3] = 100
    features = net.text(ids, mask)
    assert not torch.equal(hidden, ids) and torch.equal(net.text(hidden, mask), features)
    changed = (net.text(seen, mask) - features).abs().amax(2)
    assert (changed[0] > 0).all() and (changed[1] == 0).all()              # every position sees every other, within a caption only
    assert torch.equal(net.text(ids, torch.zeros_like(mask))[0], features[1])            # no caption is no caption, whatever the ids


def test_words_have_an_order():
    net = awake(net_of(BASE)).eval()
    one, other = (net.text(*BASE.tokenizer([caption])) for caption in ("ab", "ba"))
    assert (one - other).abs().max() > 1e-3


def test_a_text_transformer_at_the_start_has_no_uninitialised_numbers():
    text = TextTransformer(TEXT, 8)
    for start in (text.tokens.weight, text.positions, text.padding):
        assert 0.9 < start.std() < 1.1 and start.abs().max() < 7


@pytest.mark.parametrize("ids, mask", [((2, 39), (2, 39)), ((2, 40), (2, 39)), ((40,), (40,))])
def test_ids_of_another_length_are_refused(ids, mask):
    with pytest.raises(ValueError, match=r"this text transformer takes both as \[B 40\]"):
        net_of(BASE).text(torch.zeros(ids, dtype=torch.int64), torch.ones(mask, dtype=torch.bool))


# Training

def test_captions_are_dropped_at_the_stated_rate_in_training_and_only_there():
    pipeline, masks = built(), []
    denoiser = pipeline.stages[0].denoiser
    denoiser.net.text.register_forward_pre_hook(lambda module, given: masks.append(given[1]))
    n = 600
    ids, mask = BASE.tokenizer(["a red circle"] * n)
    denoiser.loss(torch.zeros(n, 3, 8, 8), Cond(ids, mask), generator(0))
    kept = masks[0].any(1)
    assert abs((~kept).double().mean() - 0.2) < 4 * (0.2 * 0.8 / n) ** 0.5 and torch.equal(masks[0], mask & kept[:, None])
    pipeline(["a red circle"] * 50, seed=1)
    assert masks[1][:50].any(1).all() and not masks[1][50:].any()


@pytest.fixture(scope="module")
def taught():
    """A model that has seen plain pictures, "dark" and "bright", for a few seconds."""
    model = replace(BASE, sampling_steps=5, guidance_scale=1.0, text=replace(TEXT, text_length=8))
    torch.manual_seed(0)
    pipeline = model.pipeline()
    x0 = (torch.arange(16) % 2 - 0.5)[:, None, None, None].expand(16, 3, 8, 8)              # -0.5 or 0.5 everywhere
    example = model.to_training_pair(Batch(x0, ["dark", "bright"] * 8, torch.zeros(16)), generator(0))
    config = FitConfig(steps=150, batch_size=16, lr=5e-3, warmup=5, ema_decay=0.9, precision="fp32")
    for _, ema in fit(pipeline.stages[0].denoiser, repeat(example), config):
        pass
    return replace(pipeline, stages=(replace(pipeline.stages[0], denoiser=ema),)), example


@pytest.mark.slow
def test_true_captions_have_a_lower_loss_than_swapped_ones_and_than_none(taught):
    pipeline, (x0, cond) = taught
    denoiser, t = pipeline.stages[0].denoiser, torch.full((16,), 900)
    x_t, swapped = denoiser.diffusion.diffuse(x0, t, generator(5)), cond.map(lambda v: v.roll(1, 0))
    with torch.no_grad():
        true, none, false = (denoiser.loss_at(x0, x_t, t, denoiser.condition(c)).mean().item() for c in (cond, cond.null(), swapped))
    assert true < 0.5 * none and none < false


@pytest.mark.slow
def test_a_model_learns_which_word_is_which_and_guidance_pushes_further(taught):
    pipeline, _ = taught
    means = pipeline(["dark", "bright"]).mean((1, 2, 3))
    assert (means - torch.tensor([-0.5, 0.5])).abs().max() < 0.25
    pushed = replace(pipeline, stages=(replace(pipeline.stages[0], guidance_scale=3.0),))(["dark", "bright"]).mean((1, 2, 3))
    assert pushed[0] < means[0] - 0.02 and pushed[1] > means[1] + 0.02


@pytest.mark.slow
def test_a_negative_caption_pushes_the_other_way(taught):
    pipeline, _ = taught
    strong = replace(pipeline, stages=(replace(pipeline.stages[0], guidance_scale=2.0),))
    plain, away = (strong([""] * 16, seed=2, **options).mean() for options in ({}, {"negative_prompt": ["bright"]}))
    assert away < plain - 0.05


# The smaller picture

def test_an_enlarged_picture_has_256_levels_a_little_noise_and_smooth_edges():
    images = 2 * torch.rand(3, 3, 5, 7, generator=generator(1)) - 1
    levels = from_uint8(to_uint8(images))
    assert not torch.equal(levels, images) and (levels - images).abs().max() <= 1 / 255 + 1e-6
    assert_close(enlarge(images, small=images.shape[-1], size=14, noise=0.0), F.interpolate(levels, (14, 14), mode="bilinear", align_corners=False), rtol=0.0, atol=0.0)
    rough = levels + 0.3 * torch.randn(levels.shape, generator=generator(7))
    assert_close(enlarge(images, generator(7), small=images.shape[-1], size=14, noise=0.3), F.interpolate(rough, (14, 14), mode="bilinear", align_corners=False))


def test_the_noise_on_it_has_the_stated_strength():
    images = torch.full((20, 3, 32, 32), -1.0)
    added = enlarge(images, generator(3), small=images.shape[-1], size=32, noise=0.05) + 1
    assert abs(added.std() - 0.05) < 0.001 and abs(added.mean()) < 0.001


def test_a_shrunk_picture_is_the_mean_of_each_area():
    images = torch.rand(2, 3, 8, 8, generator=generator(1))
    assert_close(shrink(images, 4), images.unflatten(2, (4, 2)).unflatten(4, (4, 2)).mean((3, 5)))


@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_training_and_sampling_show_the_upsampler_the_same_thing(noise):
    model, few = replace(UPSAMPLER, low_res_noise=noise), batch(16)
    x0, cond = model.to_training_pair(few, generator_per_image(few.captions, 3))
    walk = built(model).walk(few.captions, seed=3, low_res_image=shrink(few.images, 8))
    (_, read), (name, seen) = next(walk), next(walk)
    assert torch.equal(x0, few.images) and name == "low_res" and torch.equal(seen, cond.low_res) and cond.low_res.shape == (4, 3, 16, 16)
    assert torch.equal(read.text, cond.text) and torch.equal(read.mask, cond.mask)
    assert model.preview_inputs(few)[1]["low_res_image"] is few.images and BASE.preview_inputs(few) == (few.captions, {})


# Pixels that are given

@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_the_stated_share_of_pictures_shows_all_but_one_rectangle(share):
    n = 2000
    keep = some_known(torch.zeros(n, 3, 16, 24), share, generator(0))
    shows = keep.flatten(1).any(1)
    assert keep.shape == (n, 1, 16, 24) and keep.dtype == torch.bool
    assert abs(shows.double().mean() - share) <= 4 * (share * (1 - share) / n) ** 0.5 + 0.002           # a hole over all of it shows nothing
    hole = ~keep[shows, 0]
    rows, columns = hole.any(2), hole.any(1)
    assert torch.equal(hole, rows[:, :, None] & columns[:, None, :])
    for side in (rows, columns):
        assert (side.int().diff(dim=1).abs().sum(1) <= 2).all() and not (side[:, 0] & side[:, -1] & ~side.all(1)).any()     # one piece
    if share:
        assert abs(hole.double().mean() - 1 / 9) < 0.015                    # two random edges a side: a third of it, on average


def test_given_pixels_are_the_picture_where_it_is_known_nothing_elsewhere_and_where():
    images, keep = torch.rand(2, 3, 4, 6, generator=generator(1)) + 0.1, torch.rand(2, 1, 4, 6, generator=generator(2)) < 0.5
    known = given(images, keep)
    assert known.shape == (2, 4, 4, 6) and torch.equal(known[:, 3:], keep.float())
    assert torch.equal(known[:, :3], torch.where(keep, images, torch.zeros(())))


def test_examples_hold_what_the_model_asks_for_and_nothing_else():
    few = batch(16)
    ids, mask = UPSAMPLER.tokenizer(few.captions)
    for model, low_res, known in ((replace(BASE, size=16), False, False), (UPSAMPLER, True, False), (replace(UPSAMPLER, known=1.0), True, True)):
        _, cond = model.to_training_pair(few, generator(1))
        assert torch.equal(cond.text, ids) and torch.equal(cond.mask, mask) and (cond.low_res is not None, cond.known is not None) == (low_res, known)
    assert torch.equal(cond.known[:, :3], few.images * cond.known[:, 3:]) and model.build().net.unet.in_channels == 10


def test_a_vocabulary_is_learned_from_the_data_set_once():
    model = replace(BASE, text=replace(TEXT, vocabulary=300))
    learned = model.fit_to_dataset(Scenes(size=8))
    assert len(learned.merges) == 43 and learned.fit_to_dataset(None) is learned and replace(learned, merges=()) == model
    assert learned.tokenizer == learned.pipeline().encode_text and learned == model.fit_to_dataset(Scenes(size=64))


# Options that make no sense

@pytest.mark.parametrize("wrong, said", [
    (lambda: GLIDEConfig(net=replace(NET, classes=18)), "classes=18, text_width=8: GLIDE reads captions, no labels"),
    (lambda: GLIDEConfig(net=replace(NET, text_width=0)), "classes=0, text_width=0: GLIDE reads captions"),
    (lambda: replace(BASE, low_res=8), "low_res=8: choose low_res below size=8"),
    (lambda: replace(BASE, low_res=-1), "low_res=-1"),
    (lambda: replace(BASE, known=1.5), "known=1.5: choose a share from 0 to 1"),
    (lambda: replace(UPSAMPLER, low_res_noise=-0.1), "low_res_noise=-0.1: choose 0 or more"),
    (lambda: replace(BASE, sampler="euler"), "sampler='euler': choose one of ancestral, ddim, dpm_solver_pp_2m"),
    (lambda: replace(BASE, schedule="square"), "schedule='square': choose one of linear, cosine"),
    (lambda: replace(BASE, schedule="linear", T=10).pipeline(), "T=10: choose T > 20"),
    (lambda: replace(BASE, text=replace(TEXT, text_heads=3)).pipeline(), "text_width=8: choose a positive multiple of text_heads=3"),
    (lambda: replace(BASE, text=replace(TEXT, text_heads=0)).pipeline(), "text_heads=0"),
    (lambda: replace(BASE, text=TextConfig(256)).pipeline(), "vocabulary=256"),
    (lambda: replace(BASE, text=TextConfig(100)).fit_to_dataset(Scenes()), "vocabulary=100: choose more than 256"),
    (lambda: replace(BASE, merges=("a b",)).pipeline(), "1 merges and vocabulary=257")])
def test_a_model_that_cannot_be_is_refused_in_one_line(wrong, said):
    with pytest.raises(ValueError, match=said) as error:
        wrong()
    assert "\n" not in str(error.value)
