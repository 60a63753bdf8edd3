"""From captions to pictures: everything on the way is shown in order, a seed means a picture, and a caption that makes no sense is one clear line."""
from dataclasses import replace

import pytest
import torch
from test_unet import awake
from tiny_runs import tiny
from torch.testing import assert_close

from t2ilab.data.shapes import Scenes
from t2ilab.diffusion.sampling import Frame
from t2ilab.diffusion.schedules import timesteps
from t2ilab.tensors import generator_per_image, randn


def built(steps=4, **model):
    """A pipeline whose network says something, with labels."""
    model = {"sampler": "ancestral", "sampling_steps": steps, "labels": Scenes.classes} | model
    torch.manual_seed(0)
    pipeline = tiny(model=model).model.pipeline()
    awake(pipeline.stages[0].denoiser.eval())
    return pipeline


PIPELINE = built()


def test_a_walk_shows_everything_in_order_from_caption_to_pixels():
    names, values = zip(*PIPELINE.walk(["red circle", "", "4"], seed=5))
    assert names == ("cond", "x_T", *["frame"] * 4, "image")
    cond, x_T, *frames, image = values
    assert cond.text.tolist() == [[Scenes.classes.index("red circle")], [0], [4]] and cond.mask.tolist() == [[True], [False], [True]]
    assert torch.equal(x_T, randn((3, 3, 8, 8), generator_per_image(["red circle", "", "4"], 5)))
    assert [type(f) for f in frames] == [Frame] * 4 and [f.t for f in frames] == timesteps(1000, 4)[1:]
    assert all(f.x0.abs().max() <= 1 for f in frames)                       # clipped, as the stage says
    assert torch.equal(image, frames[-1].x.clamp(-1, 1)) and image.shape == (3, 3, 8, 8) and not image.requires_grad
    assert torch.equal(PIPELINE(["red circle", "", "4"], seed=5), image)


def test_the_walk_of_a_pipeline_is_its_denoiser_sampled_by_hand():
    stage = PIPELINE.stages[0]
    values = dict(PIPELINE.walk(["7"], seed=1))
    g = generator_per_image(["7"], 1)
    x = randn((1, 3, 8, 8), g)
    with torch.no_grad():
        for t, s in zip(timesteps(1000, 4), timesteps(1000, 4)[1:]):
            pred = stage.denoiser(x, t, values["cond"])
            x = stage.denoiser.diffusion.step(pred._replace(x0=pred.x0.clamp(-1, 1)), x, t, s, g)
    assert_close(values["image"], x.clamp(-1, 1))


def test_with_changes_the_first_stage_and_nothing_else():
    two = replace(PIPELINE, stages=PIPELINE.stages * 2)
    other = two.with_(guidance_scale=3, steps=7)
    assert other.stages == (replace(PIPELINE.stages[0], guidance_scale=3, steps=7), PIPELINE.stages[0])
    assert two.stages == PIPELINE.stages * 2 and other.encode_text is two.encode_text
    with pytest.raises(TypeError, match="no_such_setting"):
        two.with_(no_such_setting=1)


def test_pictures_are_in_range_and_hold_no_gradient_whatever_the_stage_and_the_encoder_do():
    weight = torch.ones(2, 1, requires_grad=True)
    wild = replace(PIPELINE, stages=(replace(PIPELINE.stages[0], constrain=()),))
    *_, (_, frame), (_, image) = wild.walk(2, seed=1)
    assert frame.x.abs().max() > 1 and torch.equal(image, frame.x.clamp(-1, 1))
    seen = next(replace(wild, encode_text=lambda captions: (2 * weight, weight > 0)).walk(2))[1]
    assert not seen.text.requires_grad and not image.requires_grad


def test_the_same_seed_draws_the_same_pictures_whatever_else_drew_numbers():
    first = PIPELINE(["red circle"], seed=3)
    torch.manual_seed(99)
    before = torch.get_rng_state()
    assert torch.equal(PIPELINE(["red circle"], seed=3), first) and torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(PIPELINE(["red circle"], seed=4), first)
    assert torch.equal(PIPELINE(["red circle"]), PIPELINE(["red circle"], seed=0))


def test_a_batch_may_be_one_picture_and_a_number_means_no_captions():
    assert PIPELINE(1).shape == PIPELINE(["blue square"]).shape == (1, 3, 8, 8)
    assert torch.equal(PIPELINE(2, seed=1), PIPELINE(["", ""], seed=1)) and torch.equal(PIPELINE(2, seed=1), PIPELINE(("", ""), seed=1))
    assert not torch.equal(PIPELINE(2, seed=1), PIPELINE(["red circle", "blue square"], seed=1))


@pytest.mark.parametrize("sampler", ["ancestral", "ddim", "dpm_solver_pp_2m"])
def test_every_sampler_ends_in_range_after_one_step_or_many(sampler):
    for steps in (1, 2, 9):
        images = built(steps, sampler=sampler)(["red circle", ""])
        assert images.shape == (2, 3, 8, 8) and images.abs().max() <= 1 and images.isfinite().all()


def test_guidance_pushes_pictures_of_a_label_and_leaves_others_alone():
    weak, strong, none = built(guidance_scale=1.0), built(guidance_scale=4.0), built(guidance_scale=0.0)
    captions = ["red circle", ""]
    assert not torch.allclose(weak(captions)[0], strong(captions)[0], atol=1e-3)
    assert_close(weak(captions)[1], strong(captions)[1], rtol=0.0, atol=1e-4)       # without a label there is nothing to push from
    assert_close(none(captions), torch.cat([none(1), none(1)]), rtol=0.0, atol=1e-5)


@pytest.mark.parametrize("sampler", ["ancestral", "ddim", "dpm_solver_pp_2m"])
def test_a_seed_and_a_caption_draw_the_same_image_alone_third_in_a_batch_and_in_a_batch_of_200(sampler):
    pipeline = built(2, sampler=sampler)
    alone = pipeline(["red circle"], seed=3)
    for batch, place in ((["red circle", "7"], 0), (["4", "", "red circle"], 2), (["7"] * 150 + ["red circle"] + ["9"] * 49, 150)):
        assert_close(pipeline(batch, seed=3)[place:place + 1], alone, rtol=0.0, atol=1e-5)
    again = pipeline(["red circle"] * 2, seed=3)
    assert_close(again[:1], alone, rtol=0.0, atol=1e-5)
    assert (again[1] - alone[0]).abs().max() > 1e-2                              # asked for twice: two images


def test_a_batch_may_be_drawn_in_parts():
    captions = ["red circle", "7", "red circle", "", "7"]
    sources = generator_per_image(captions, 6)
    parts = [PIPELINE(captions[:2], sources=sources[:2]), PIPELINE(captions[2:], sources=sources[2:])]
    assert_close(torch.cat(parts), PIPELINE(captions, seed=6), rtol=0.0, atol=1e-5)
    with pytest.raises(ValueError, match="^2 generators for a batch of 3: give one per image, or one for all$"):
        PIPELINE(captions[:3], sources=sources[:2])


@pytest.mark.parametrize("caption", ["a cat", "a" * 10_000, "9" * 10_000, "🎨", "دائرة حمراء", "٣", "red circle\x00s", "18", "-1", "1.0",
                                     "../../etc"])
def test_a_caption_that_is_no_label_is_one_short_line_that_lists_the_labels(caption):
    with pytest.raises(ValueError, match=r"^no class .*: this model knows red circle, ") as error:
        PIPELINE(["red circle", caption])
    assert "\n" not in str(error.value) and len(str(error.value)) < 600


@pytest.mark.parametrize("captions, said", [([], "no captions"), (0, "no captions"), (-3, "no captions"), ((), "no captions"),
                                            ("red circle", "captions='red circle' is one string: give a list"), ("x" * 10_000, "is one string")])
def test_no_captions_or_a_bare_string_is_one_line_too(captions, said):
    with pytest.raises(ValueError, match=said) as error:
        PIPELINE(captions)
    assert len(str(error.value)) < 200


def test_more_steps_than_the_model_was_trained_with_are_refused():
    for steps, allowed in ((0, "1 or more"), (1001, "1 to 1000")):
        with pytest.raises(ValueError, match=f"^sampling_steps={steps}: choose {allowed}"):
            built(steps)


def test_labels_are_found_by_name_in_any_case_and_by_number():
    find = PIPELINE.encode_text.find
    assert [find(c) for c in ("red circle", " Red CIRCLE\n", "0", "17", "", "  ")] == [Scenes.classes.index("red circle")] * 2 + [0, 17, -1, -1]
    unnamed = replace(PIPELINE.encode_text, names=())
    assert unnamed.find("5") == 5
    with pytest.raises(ValueError, match="no class 'red circle': this model knows the numbers 0 to 17$"):
        unnamed.find("red circle")


def test_a_model_without_labels_takes_a_number_of_pictures_only():
    pipeline = tiny(net={"classes": 0}, model={"labels": ()}).model.pipeline()
    assert pipeline(2).shape == (2, 3, 8, 8)
    with pytest.raises(ValueError, match="this model takes no captions: ask for a number of pictures instead"):
        pipeline(["red circle"])


def test_a_pipeline_says_where_it_is_and_moves():
    pipeline = built()
    assert pipeline.device == torch.device("cpu") and pipeline.to("meta") is pipeline and pipeline.device == torch.device("meta")
