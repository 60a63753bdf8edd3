"""The Imagen family: published sizes, a language model's words that reach every block, one way of noising the small picture, and the paper's thresholding."""
from dataclasses import replace

import pytest
import torch
from test_unet import awake
from tiny_glide import a_step_and_pictures, batch, built
from tiny_imagen import BASE, ENCODER, NET, UPSAMPLER, net_of
from torch.testing import assert_close

from t2ilab.data.loaders import Batch
from t2ilab.diffusion.cond import Cond
from t2ilab.diffusion.constraints import clip, dynamic_threshold
from t2ilab.diffusion.gaussian import variance_preserving
from t2ilab.diffusion.schedules import SCHEDULES, linear
from t2ilab.families.imagen import augmented, cropped
from t2ilab.pipeline.edit import Edit
from t2ilab.presets import PRESETS as ALL
from t2ilab.tensors import generator, generator_per_image, randn
from t2ilab.training.fit import FitConfig, fit

PRESETS = {name: preset for name, preset in ALL.items() if preset.family == "imagen"}
LINEAR = variance_preserving(linear(100))


def narrow(model):
    """The same model with a tiny encoder, a network of 16 channels and smaller pictures."""
    net = replace(model.net, channels=16, head_channels=16, text_width=16)
    if model.low_res:
        net = replace(net, blocks=(1,) * len(net.blocks))
    size = 16 * net.patch
    return replace(model, size=size, low_res=(size // 2) * (model.low_res > 0), crop_size=0, encoder=ENCODER, encoder_width=16, text_length=16, cache=False,
                   sampling_steps=2, net=net)


# Sizes

PUBLISHED = {"base": ("imagen-base", 2.0e9), "upsampler": ("imagen-upsampler", 600e6), "upsampler-1024": ("imagen-upsampler-1024", 400e6)}
SIZES = {"base": 2_005_462_019, "upsampler": 455_375_491, "upsampler-1024": 451_177_091}


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_networks_count_exactly_and_run_forward_and_backward_at_full_size(name):
    model, size = PRESETS[PUBLISHED[name][0]].model, 64 if name == "base" else 256
    with torch.device("meta"):
        net = net_of(model)
        x = torch.zeros(1, 3, size, size)
        seen = {"low_res": x, "aug": torch.ones(1)} if model.low_res else {}
        cond = Cond(torch.zeros(1, 256, 4096), torch.ones(1, 256, dtype=torch.bool), **seen)
        out = net(x, torch.ones(1), net.condition(cond))
        out.sum().backward()
    assert sum(p.numel() for p in net.parameters()) == SIZES[name] and out.shape == x.shape
    assert all(p.grad.shape == p.shape for p in net.parameters())


def test_the_base_has_the_papers_2_billion_parameters_and_the_upsamplers_its_widths():
    """The paper names 2 B, 600 M and 400 M; ours have its widths and blocks but one shortcut and one attention layer a level."""
    assert abs(SIZES["base"] / PUBLISHED["base"][1] - 1) < 0.01
    assert 0.7 < SIZES["upsampler"] / PUBLISHED["upsampler"][1] < 1 < SIZES["upsampler-1024"] / PUBLISHED["upsampler-1024"][1] < 1.15


def test_presets_say_what_the_paper_says():
    base, upsampler = PRESETS["imagen-base"].model, PRESETS["imagen-upsampler"].model
    assert (base.size, base.schedule, base.objective.cond_drop_prob, base.threshold, base.percentile, base.text_length) == (64, "cosine", 0.1, "dynamic", 0.995, 256)
    assert (upsampler.low_res, upsampler.size, upsampler.crop_size) == (64, 256, 64)
    chain = [base, *(ALL[name].model for name in PRESETS["imagen-base"].cascade)]
    assert [later.low_res for later in chain[1:]] == [model.size for model in chain[:-1]] == [64, 256]


@pytest.mark.slow
@pytest.mark.parametrize("name", PRESETS)
def test_a_narrow_copy_of_a_preset_takes_a_training_step_and_samples(name):
    a_step_and_pictures(narrow(PRESETS[name].model), PRESETS[name].fit)


# The small picture and its noise

@pytest.mark.parametrize("share", [0.0, 0.2, 0.75, 1.0])
def test_the_small_picture_is_noised_in_minus_1_to_1_as_the_diffusion_says(share):
    """Imagen noise conditioning augmentation, by its mean and spread: noise added in [0, 1] would have twice the spread and another mean."""
    for value in (-1.0, 0.5):
        seen = augmented(torch.full((2, 3, 32, 32), value), generator(0), small=32, size=64, diffusion=LINEAR, share=share)
        ab = LINEAR.alpha_bar[round(100 * share)].item()
        assert_close(seen["aug"], torch.full((2,), share))
        assert abs(seen["low_res"].mean().item() - value * ab ** 0.5) < 0.03 and abs(seen["low_res"].std().item() - (1 - ab) ** 0.5) < 0.02


def test_training_and_sampling_noise_it_alike_and_training_meets_every_level():
    images = torch.full((2000, 3, 4, 4), 0.5)
    seen = augmented(images, generator(0), small=4, size=8, diffusion=LINEAR)
    shares = seen["aug"]
    assert shares.min() < 0.01 and shares.max() > 0.99 and abs(shares.mean() - 0.5) < 0.03 and len(shares.unique()) == 101
    for share in (0.1, 0.5, 0.9):
        train = seen["low_res"][(shares - share).abs() < 0.011]
        sample = augmented(images[:200], generator(1), small=4, size=8, diffusion=LINEAR, share=share)["low_res"]
        assert abs(train.mean() - sample.mean()) < 0.03 and abs(train.std() - sample.std()) < 0.03


def test_every_picture_of_a_batch_has_its_own_level_and_the_network_is_told():
    text, few = BASE.to_training_pair(batch(16), generator(0))[1].text, batch(16)
    x0, cond = UPSAMPLER.to_training_pair(few, generator(0))
    assert len(cond.aug.unique()) == len(few.images) and text.shape == cond.text.shape and torch.equal(x0, few.images)
    net = awake(net_of(UPSAMPLER)).eval()
    read = net.condition(cond)
    outs = [net(x0, torch.ones(4), replace(read, aug=cond.aug + shift)) for shift in (0, 0.1)]
    assert (outs[0] - outs[1]).abs().amax((1, 2, 3)).min() > 1e-4


def test_a_sampling_run_noises_it_by_the_stated_share():
    seen = dict(built(replace(UPSAMPLER, augmentation=0.3)).walk(["a red circle"], low_res_image=torch.zeros(1, 3, 8, 8)))
    ab = SCHEDULES["linear"](1000)[300].item()
    assert abs(seen["low_res"].std().item() - (1 - ab) ** 0.5) < 0.05


def test_crops_are_the_same_place_of_every_tensor():
    images = torch.arange(2 * 3 * 8 * 8.0).view(2, 3, 8, 8)
    a, b = cropped((images, images + 0.5), 4, generator(0))
    assert a.shape == (2, 3, 4, 4) and torch.equal(a + 0.5, b) and a[0, 0, 1, 0] - a[0, 0, 0, 0] == 8
    starts = {tuple(cropped((images,), 4, generator(k))[0][:, 0, 0, 0].tolist()) for k in range(60)}
    assert len({first for first, _ in starts}) > 15 and len(starts) > 50                    # each picture its own place
    x0, cond = replace(UPSAMPLER, crop_size=8).to_training_pair(batch(16), generator(0))
    assert x0.shape == cond.low_res.shape == (4, 3, 8, 8)


def test_a_stage_trained_on_crops_enlarges_whole_pictures():
    model = replace(UPSAMPLER, crop_size=8)
    denoiser = built(model).stages[0].denoiser
    denoiser.loss(*model.to_training_pair(batch(16), generator(0)), generator(1)).sum().backward()
    assert built(model)(["a red circle"], low_res_image=torch.zeros(1, 3, 8, 8)).shape == (1, 3, 16, 16)


# Thresholds and sampling

def imagen_threshold(x0, p):
    """The paper's pseudo-code (Appendix A.32), for one picture: s is the p-th percentile of |x0|, at least 1."""
    s = max(1.0, x0.abs().flatten().quantile(p).item())
    return x0.clip(-s, s) / s


def test_dynamic_thresholding_is_the_papers_pseudo_code():
    x0 = torch.randn(5, 3, 9, 7, generator=generator(0)) * torch.tensor([0.1, 0.5, 1, 3, 30])[:, None, None, None]
    for p in (0.5, 0.9, 0.995, 1.0):
        assert_close(dynamic_threshold(p)(x0), torch.stack([imagen_threshold(one, p) for one in x0]))


@pytest.mark.parametrize("threshold, constraint", [("none", lambda x: x), ("static", clip), ("dynamic", dynamic_threshold(0.9))])
def test_the_threshold_is_the_one_that_was_asked_for(threshold, constraint):
    pipeline = built(replace(BASE, threshold=threshold, percentile=0.9, guidance_scale=15.0, sampling_steps=4))
    frames = [value for name, value in pipeline.walk(["a red circle"]) if name == "frame"]
    x0 = 3 * torch.randn(1, 3, 8, 8, generator=generator(3))
    (f,) = pipeline.stages[0].constrain or (lambda x: x,)
    assert torch.equal(f(x0), constraint(x0)) and len(frames) == 4
    assert (max(frame.x0.abs().max() for frame in frames) > 1) == (threshold == "none")


def test_sampling_is_the_papers_loop_draw_for_draw():
    """Guided eps, thresholded x0, then the posterior: typed as Imagen and DDPM have it, with the network's own eps."""
    model = replace(BASE, T=20, schedule="cosine", sampling_steps=20, guidance_scale=4.0, percentile=0.9, objective=replace(BASE.objective, predict="eps"))
    pipeline = built(model)
    denoiser, (text, mask) = pipeline.stages[0].denoiser, pipeline.encode_text(["a red circle"])
    alpha_bar, g = denoiser.diffusion.alpha_bar, generator_per_image(["a red circle"], 7)
    x = randn((1, 3, 8, 8), g)
    with torch.no_grad():
        for t in range(20, 0, -1):
            ab, before = alpha_bar[t].item(), alpha_bar[t - 1].item()
            clock = torch.tensor([t * 50.0])
            eps_c, eps_0 = (denoiser.net(x, clock, denoiser.condition(Cond(text, m))) for m in (mask, mask & False))
            eps = eps_0 + 4.0 * (eps_c - eps_0)
            x0 = imagen_threshold((x - (1 - ab) ** 0.5 * eps) / ab ** 0.5, 0.9)
            beta = 1 - ab / before
            mean = beta * before ** 0.5 / (1 - ab) * x0 + (1 - before) * (1 - beta) ** 0.5 / (1 - ab) * x
            x = mean + (beta * (1 - before) / (1 - ab)) ** 0.5 * randn((1, 3, 8, 8), g)
    assert_close(pipeline(["a red circle"], seed=7), x.clamp(-1, 1), rtol=1e-4, atol=1e-4)


def test_pictures_can_be_painted_in_and_partly_noised_though_no_network_was_told():
    image, keep = torch.zeros(1, 3, 8, 8), torch.arange(64).view(1, 1, 8, 8) < 32
    painted = built(BASE)(["a red circle"], edit=Edit(image, keep, 0.5))
    assert (painted[:, :, :4] == 0).all() and (painted[:, :, 4:] != 0).any()


# Training

@pytest.mark.slow
def test_a_cascade_learns_one_batch_by_heart():
    few = batch(16)
    small = Batch(torch.nn.functional.interpolate(few.images, (8, 8), mode="area"), few.captions, few.labels)
    config = FitConfig(steps=250, batch_size=4, lr=3e-3, optimizer="muon", warmup=5, ema_decay=0.9, decay="linear", precision="fp32")
    stages = []
    for model, data in ((BASE, small), (UPSAMPLER, few)):
        model = replace(model, sampling_steps=20, guidance_scale=1.0, augmentation=0.05, net=replace(model.net, channels=32, head_channels=32))
        torch.manual_seed(0)
        pipeline = model.pipeline()
        for log, ema in fit(pipeline.stages[0].denoiser, (model.to_training_pair(data, generator(k)) for k in range(250)), config):
            pass
        stages.append(replace(pipeline.stages[0], denoiser=ema.eval()))
    both = replace(pipeline, stages=tuple(stages))
    assert (both(few.captions, seed=1) - few.images).abs().mean() < 0.12


def test_a_forward_leaves_all_parameters_where_they_were():
    pipeline = built(BASE, UPSAMPLER)
    before = [[name for name, _ in stage.denoiser.named_parameters()] for stage in pipeline.stages]
    pipeline(["a red circle"])
    assert before == [[name for name, _ in stage.denoiser.named_parameters()] for stage in pipeline.stages] and all(before)
    assert not any("encoder" in name for name in before[0])                                 # the language model is frozen and elsewhere


def test_constant_pictures_train_without_a_nan():
    for model in (BASE, UPSAMPLER):
        data = Batch(torch.full((2, 3, model.size, model.size), -1.0), ["", "a red circle"], torch.zeros(2))
        loss = model.build().loss(*model.to_training_pair(data, generator(0)), generator(1))
        assert loss.isfinite().all()


@pytest.mark.parametrize("wrong, said", [
    ({"threshold": "soft"}, "threshold='soft': choose one of none, static, dynamic"), ({"low_res_schedule": "x"}, "low_res_schedule='x'"),
    ({"low_res": 8}, "low_res=8"), ({"crop_size": 9}, "crop_size=9"), ({"augmentation": 1.5}, "augmentation=1.5"), ({"percentile": 0.0}, "percentile=0.0"),
    ({"low_res": 4}, "a stage that enlarges has an EfficientUNetConfig"), ({"net": replace(NET, text_width=0)}, "Imagen reads captions"),
    ({"net": replace(NET, classes=3)}, "Imagen reads captions")])
def test_a_model_that_cannot_be_is_refused_in_one_line(wrong, said):
    with pytest.raises(ValueError, match=said) as error:
        replace(BASE, **wrong)
    assert "\n" not in str(error.value)
