"""Pictures to start from: known pixels survive exactly, a little noise changes little, negative captions, and cascades that hand pictures on."""
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from tiny_glide import BASE, UPSAMPLER, built
from torch.testing import assert_close

from t2ilab.diffusion.sampling import SAMPLERS
from t2ilab.diffusion.schedules import timesteps
from t2ilab.families.glide import enlarge
from t2ilab.pipeline.edit import Edit
from t2ilab.runs.sample import draw
from t2ilab.tensors import from_uint8, generator, generator_per_image, randn, to_uint8

PIPELINE = built()
CASCADE = built(BASE, UPSAMPLER)
CAPTIONS = ["a red circle", ""]


def photo(size=8, n=2, seed=1):
    return 2 * torch.rand(n, 3, size, size, generator=generator(seed)) - 1


def left_half(size=8, n=2):
    keep = torch.zeros(n, 1, size, size, dtype=torch.bool)
    keep[..., :size // 2] = True
    return keep


def kept(image, keep):
    return image[keep.expand_as(image)]


def with_stage(pipeline, **changes):
    return replace(pipeline, stages=(replace(pipeline.stages[0], **changes), *pipeline.stages[1:]))


# What an edit is

@pytest.mark.parametrize("wrong, said", [
    (lambda: Edit(photo(), strength=0.0), "strength=0.0: choose a number above 0, at most 1"),
    (lambda: Edit(photo(), strength=1.1), "strength=1.1"),
    (lambda: Edit(photo()[0]), r"image \[3, 8, 8\]: give it as \[B 3 H W\] in \[-1, 1\]"),
    (lambda: Edit(torch.zeros(1, 1, 8, 8)), r"image \[1, 1, 8, 8\]"),
    (lambda: Edit(to_uint8(photo())), r"in \[-1, 1\]"),
    (lambda: Edit(255 * photo()), r"in \[-1, 1\]"),
    (lambda: Edit(photo(), left_half().float()), r"keep \[2, 1, 8, 8\] torch.float32: give it as bool \[B 1 H W\] at the size of the image"),
    (lambda: Edit(photo(), left_half(16)), r"keep \[2, 1, 16, 16\]"),
    (lambda: Edit(photo(), left_half()[:, 0]), r"keep \[2, 8, 8\]")])
def test_an_edit_that_makes_no_sense_is_one_line(wrong, said):
    with pytest.raises(ValueError, match=said) as error:
        wrong()
    assert "\n" not in str(error.value)


def test_an_edit_at_its_own_size_is_itself():
    fitted = Edit(photo(), left_half(), 0.5).at(2, (8, 8), "cpu")
    assert torch.equal(fitted.image, photo()) and torch.equal(fitted.keep, left_half()) and fitted.strength == 0.5
    one = Edit(photo(n=1), left_half(n=1)).at(3, (8, 8), "cpu")
    assert one.image.shape == (3, 3, 8, 8) and one.keep.shape == (3, 1, 8, 8)
    assert Edit(photo()).at(2, (4, 4), "cpu").keep is None


def test_at_another_size_a_pixel_is_kept_where_all_it_is_made_of_is():
    """A checkerboard of 2 x 2 cells with an odd column: at half the size no pixel may mix kept and unkept ones."""
    keep = torch.ones(1, 1, 8, 8, dtype=torch.bool)
    assert Edit(photo(n=1), keep).at(1, (4, 4), "cpu").keep.all() and Edit(photo(n=1), keep).at(1, (16, 20), "cpu").keep.all()
    keep[0, 0, 3, 5] = False
    for size in ((4, 4), (16, 16), (5, 11)):
        image = torch.where(keep, 0.0, 1.0).expand(1, 3, 8, 8)              # white where it is not kept
        fitted = Edit(image, keep).at(1, size, "cpu")
        assert fitted.keep.any() and not fitted.keep.all() and fitted.image[fitted.keep.expand_as(fitted.image)].abs().max() < 2e-3


# Inpainting

@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("known", [0.0, 0.5])
def test_known_pixels_survive_exactly_and_the_others_are_painted(sampler, known):
    images = built(replace(BASE, known=known), sampler=sampler)(CAPTIONS, seed=2, edit=Edit(photo(), left_half()))
    assert torch.equal(kept(images, left_half()), kept(photo(), left_half()))
    assert (kept(images, ~left_half()) - kept(photo(), ~left_half())).abs().mean() > 0.1
    everything = built(known=known)(CAPTIONS, edit=Edit(photo(), torch.ones(2, 1, 8, 8, dtype=torch.bool)))
    assert torch.equal(everything, photo())


def test_known_pixels_survive_guidance_and_a_picture_of_another_size():
    large, keep = photo(24, n=1), left_half(24, n=1)
    fitted = Edit(large, keep).at(2, (8, 8), "cpu")
    images = built(guidance_scale=6.0)(CAPTIONS, edit=Edit(large, keep))
    assert fitted.keep.sum() == 2 * 3 * 8                                   # the fourth column sees across the border
    assert torch.equal(kept(images, fitted.keep), kept(fitted.image, fitted.keep))


def test_known_pixels_survive_a_cascade_at_the_size_of_its_last_stage():
    for known in (0.0, 0.5):
        pipeline = built(BASE, UPSAMPLER, known=known)
        images = pipeline(CAPTIONS, edit=Edit(photo(16), left_half(16)))
        assert images.shape == (2, 3, 16, 16) and torch.equal(kept(images, left_half(16)), kept(photo(16), left_half(16)))


def test_a_network_that_sees_known_pixels_paints_the_rest_with_them_in_view():
    pipeline = built(replace(BASE, known=0.5))
    denoiser, shown = pipeline.stages[0].denoiser, []
    denoiser.net.unet.register_forward_pre_hook(lambda module, given: shown.append(given[2].known))
    pipeline(CAPTIONS)
    pipeline(CAPTIONS, edit=Edit(photo(), left_half()))
    assert shown[0] is None                                                 # nothing is known, which to the network is all zeros
    assert torch.equal(shown[-1], torch.cat([photo() * left_half(), left_half().float()], dim=1).repeat(2, 1, 1, 1))     # guided: the batch twice
    cond, x_t = denoiser.condition(next(pipeline.walk(CAPTIONS))[1]), photo(seed=2)
    assert torch.equal(denoiser(x_t, 500, cond).x0, denoiser(x_t, 500, replace(cond, known=torch.zeros(2, 4, 8, 8))).x0)
    blind = built()
    assert not torch.equal(blind(CAPTIONS, edit=Edit(photo(), left_half())), blind(CAPTIONS))


# From a picture that is partly noise

@pytest.mark.parametrize("strength, start", [(1.0, 1000), (0.95, 900), (0.5, 500), (0.1, 100)])
def test_a_walk_starts_at_the_share_of_the_way_that_strength_says(strength, start):
    pipeline = built(sampling_steps=10)
    names, values = zip(*pipeline.walk(CAPTIONS, seed=4, edit=Edit(photo(), strength=strength)))
    times = [t for t in timesteps(1000, 10) if t <= start]
    assert [v.t for n, v in zip(names, values) if n == "frame"] == times[1:]
    noise, ab = randn((2, 3, 8, 8), generator_per_image(CAPTIONS, 4)), pipeline.stages[0].denoiser.diffusion.alpha_bar[start]
    assert_close(values[1], noise if strength == 1 else (ab.sqrt().float() * photo() + (1 - ab).sqrt().float() * noise))


def test_less_strength_stays_nearer_to_the_picture():
    """For a denoiser that knows nothing: its x0_hat is x_t without the noise it never saw."""
    class Keeps(torch.nn.Module):
        def forward(self, x, t, cond):
            return torch.cat([torch.zeros_like(x)] * 2, dim=1)              # eps = 0: what it sees is the picture
    pipeline = built(sampling_steps=100, sampler="ddim", guidance_scale=1.0)
    denoiser = pipeline.stages[0].denoiser
    denoiser.net, denoiser.config = Keeps(), replace(denoiser.config, predict="eps")
    denoiser.register_parameter("anywhere", torch.nn.Parameter(torch.zeros(())))
    far = [(pipeline(CAPTIONS, edit=Edit(photo(), strength=s)) - photo()).abs().mean().item() for s in (0.02, 0.2, 0.5, 0.9)]
    assert far == sorted(far) and far[0] < 0.05 < 0.3 < far[-1]


def test_strength_that_leaves_no_step_is_one_line():
    with pytest.raises(ValueError, match="^strength=0.3: no step is left; choose more strength or more sampling steps$"):
        PIPELINE(CAPTIONS, edit=Edit(photo(), strength=0.3))


@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_the_bar_of_an_edit_ends_full(strength, capsys):
    draw(CASCADE, CAPTIONS, seed=4, label="x", edit=Edit(photo(n=1), strength=strength))
    n = CASCADE.stages[0].steps + CASCADE.stages[1].steps if strength == 1 else 3 - 2 + 2
    assert f"100%|{10 * chr(9608)}| {n}/{n} [" in capsys.readouterr().err


def test_a_cascade_starts_only_its_first_stage_from_the_picture():
    names, values = zip(*CASCADE.walk(CAPTIONS, seed=4, edit=Edit(photo(16), strength=0.5)))
    first, second = (v for n, v in zip(names, values) if n == "x_T")
    assert names.count("frame") == 3 - 2 + 2 and first.shape == (2, 3, 8, 8) and second.shape == (2, 3, 16, 16)
    assert abs(second.std() - 1) < 0.1 and abs(first.std() - 1) > 0.1       # of noise, and of a picture in noise


# Negative captions

@pytest.mark.parametrize("scale", [0.0, 1.0, 4.0])
def test_negative_captions_of_no_words_are_none_at_all(scale):
    pipeline = built(guidance_scale=scale)
    plain = pipeline(CAPTIONS)
    assert torch.equal(pipeline(CAPTIONS, negative_prompt=["", ""]), plain) and torch.equal(pipeline(CAPTIONS, negative_prompt=[""]), plain)


def test_negative_captions_count_from_scale_above_1_only_and_take_the_place_of_no_caption_at_0():
    off, on, away = built(guidance_scale=1.0), built(guidance_scale=4.0), built(guidance_scale=0.0)
    assert torch.equal(off(CAPTIONS, negative_prompt=["blue"]), off(CAPTIONS))
    assert (on(CAPTIONS, negative_prompt=["blue"]) - on(CAPTIONS)).abs().max() > 1e-3
    assert torch.equal(away(CAPTIONS, negative_prompt=["blue", "green"]), off(["blue", "green"]))


def test_pushing_away_from_the_caption_itself_leaves_the_conditional_picture():
    assert_close(built(guidance_scale=4.0)(CAPTIONS, negative_prompt=CAPTIONS), built(guidance_scale=1.0)(CAPTIONS), rtol=0.0, atol=1e-4)


def test_one_negative_caption_is_for_all_pictures():
    assert torch.equal(PIPELINE(CAPTIONS, negative_prompt=["blue"]), PIPELINE(CAPTIONS, negative_prompt=("blue", "blue")))
    assert not torch.equal(PIPELINE(CAPTIONS, negative_prompt=["blue"]), PIPELINE(CAPTIONS, negative_prompt=["blue", "green"]))


# Cascades

def test_a_larger_picture_is_made_small_first():
    large = torch.rand(1, 3, 32, 32, generator=generator(1))
    assert torch.equal(enlarge(large, small=8, size=16, noise=0.0), enlarge(F.interpolate(large, (8, 8), mode="area"), small=8, size=16, noise=0.0))


@pytest.mark.parametrize("options, said", [
    ({"negative_prompt": "bl"}, "one string"),
    ({"negative_prompt": []}, "no captions"),
    ({"negative_prompt": ["a"] * 3}, "3 negative captions for 2 pictures"),
    ({"edit": Edit(torch.zeros(3, 3, 8, 8))}, r"image \[3, 3, 8, 8\] for 2 pictures"),
    ({"edit": Edit(torch.zeros(1, 3, 8, 8), torch.ones(3, 1, 8, 8).bool())}, r"keep \[3, 1, 8, 8\] for 2 pictures"),
    ({"low_res_image": torch.zeros(1, 3, 8, 8)}, "enlarges none"),
])
def test_what_does_not_fit_the_captions_is_one_clear_sentence(options, said):
    with pytest.raises(ValueError, match=said):
        PIPELINE(CAPTIONS, **options)


def test_an_upsampler_has_nothing_to_noise_only_partly():
    alone = replace(CASCADE, stages=CASCADE.stages[1:])
    with pytest.raises(ValueError, match="nothing to noise only partly"):
        alone(CAPTIONS, low_res_image=torch.zeros(1, 3, 8, 8), edit=Edit(torch.zeros(1, 3, 8, 8), strength=0.5))
    with pytest.raises(ValueError, match=r"low_res_image \[3, 3, 8, 8\] for 2 pictures"):
        alone(CAPTIONS, low_res_image=torch.zeros(3, 3, 8, 8))


def test_a_cascade_hands_its_picture_on_and_shows_everything_in_order():
    names, values = zip(*CASCADE.walk(CAPTIONS, seed=6))
    assert names == ("cond", "x_T", *["frame"] * 3, "low_res", "x_T", *["frame"] * 2, "image")
    small, g = values[4].x.clamp(-1, 1), generator_per_image(CAPTIONS, 6)
    for _ in range(1 + 3):                                                  # what the first stage drew: x_T and a step's noise each
        randn((2, 3, 8, 8), g)
    assert torch.equal(values[5], enlarge(small, g, small=8, size=16, noise=0.1)) and torch.equal(values[6], randn((2, 3, 16, 16), g))
    assert torch.equal(small, PIPELINE(CAPTIONS, seed=6)) and values[-1].shape == (2, 3, 16, 16) and values[-1].abs().max() <= 1
    assert torch.equal(CASCADE(CAPTIONS, seed=6), values[-1]) and not torch.equal(CASCADE(CAPTIONS, seed=7), values[-1])


def test_a_model_that_enlarges_takes_a_picture_of_yours():
    pipeline = built(replace(UPSAMPLER, low_res_noise=0.0))
    seen = dict(pipeline.walk(CAPTIONS, low_res_image=photo()))["low_res"]
    assert torch.equal(seen, F.interpolate(from_uint8(to_uint8(photo())), (16, 16), mode="bilinear", align_corners=False))
    assert torch.equal(pipeline(CAPTIONS, low_res_image=photo(n=1)), pipeline(CAPTIONS, low_res_image=photo(n=1).expand(2, -1, -1, -1)))
    assert not torch.equal(pipeline(CAPTIONS, low_res_image=photo()), pipeline(CAPTIONS, low_res_image=-photo()))


def test_a_model_that_enlarges_says_that_it_needs_a_picture():
    with pytest.raises(ValueError, match="^this model enlarges pictures and draws none itself: give it one") as error:
        built(UPSAMPLER)(CAPTIONS)
    assert "\n" not in str(error.value)


# Times and temperature

def test_falling_times_may_be_given_themselves():
    pipeline = built(sampling_steps=(998, 500, 20, 0))
    assert [v.t for n, v in pipeline.walk(1) if n == "frame"] == [500, 20, 0]
    assert torch.equal(built(sampling_steps=(1000, 667, 333, 0))(CAPTIONS), built(sampling_steps=3)(CAPTIONS))


@pytest.mark.parametrize("times", [(), (0,), (1000,), (500, 100), (0, 500), (500, 500, 0), (100, 500, 0), (1001, 0), (500, 0, -1)])
def test_times_that_do_not_fall_to_0_are_refused(times):
    with pytest.raises(ValueError, match="times fall from at most 1000 to 0") as error:
        built(sampling_steps=times)(1)
    assert "\n" not in str(error.value)


def test_temperature_scales_the_noise_a_walk_starts_from_and_nothing_else():
    noise = randn((2, 3, 8, 8), generator_per_image(CAPTIONS, 3))
    for temperature in (0.5, 0.997, 1.0):
        walk = dict(with_stage(PIPELINE, temperature=temperature).walk(CAPTIONS, seed=3))
        assert torch.equal(walk["x_T"], temperature * noise)
    assert torch.equal(dict(built(temperature=0.9).walk(CAPTIONS, seed=3))["x_T"], 0.9 * noise)
