"""What is measured of a text-to-image model: perfect, deaf and colourless painters get the marks they deserve."""
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from t2ilab.data.shapes import HELD_OUT, parse_caption
from t2ilab.evaluation.ablations.guidance import draw_sweep, guidance_sweep
from t2ilab.evaluation.caption_metrics import (
    KINDS,
    caption_metrics,
    draw_enlarging,
    draw_inpainting,
    enlarging_metrics,
    fresh_scenes,
)
from t2ilab.evaluation.image_metrics import bicubic, colourfulness, psnr
from t2ilab.evaluation.scene_metrics import drawn
from t2ilab.families.glide import GLIDEConfig
from t2ilab.nets.text_transformer import TextConfig
from t2ilab.nets.unet import UNetConfig
from t2ilab.pipeline.stage import Stage

pytestmark = pytest.mark.slow           # it trains, samples or converts models

TRUTH = {caption: scene for kind in KINDS for scene, caption in fresh_scenes(kind, 64)}
NET = UNetConfig(channels=8, channel_mult=(1,), blocks=1, attention=(True,), dropout=0.0, text_width=8)


class Painter:
    """A pipeline whose picture of a caption is the scene that the caption was made from, or that of the caption `shift` places further on."""
    def __init__(self, shift=0, stages=(Stage(denoiser=None, shape=(3, 32, 32)),)):
        self.shift, self.stages = shift, stages

    def __call__(self, captions, seed=0, **options):
        size = self.stages[0].shape[-1]
        return drawn([TRUTH[captions[(k + self.shift) % len(captions)]] for k in range(len(captions))], size)


def tiny(**options):
    return GLIDEConfig(text=TextConfig(300, 96, text_layers=1, text_heads=1), net=NET, sampling_steps=2, **{"size": 16} | options).pipeline()


def test_fresh_captions_are_of_their_kind_and_the_same_every_time():
    for kind, objects, held_out in (("one_object", 1, 0), ("two_objects", 2, 0), ("held_out_one", 1, 1), ("held_out_two", 2, 1)):
        pairs = fresh_scenes(kind, 20)
        stated = [parse_caption(caption) for _, caption in pairs]
        assert all(len(s.objects) == objects for s in stated) and pairs == fresh_scenes(kind, 20) and pairs[:5] == fresh_scenes(kind, 5)
        assert all(sum((o.colour, o.shape) in HELD_OUT for o in s.objects) == held_out for s in stated)
    assert not {c for _, c in fresh_scenes("one_object", 20)} <= {c for _, c in fresh_scenes("one_object", 20, seed=1)}


def test_a_perfect_painter_has_every_attribute_right():
    metrics = caption_metrics(Painter(), n=64)
    assert all(metrics[kind] > 0.98 and metrics[f"{kind}_all"] > 0.95 and metrics[f"{kind}_unread"] < 0.05 for kind in KINDS)
    assert metrics["two_objects_relation"] > 0.98 and metrics["samples"] == 64


def test_a_painter_who_does_not_listen_has_a_low_mark_and_is_hardly_ever_all_right():
    metrics = caption_metrics(Painter(shift=1), n=64)
    assert all(metrics[kind] < 0.7 and metrics[f"{kind}_all"] < 0.1 for kind in KINDS)


def test_colourfulness_is_none_for_grey_and_one_for_pure_red():
    grey, red = torch.full((1, 3, 4, 4), 0.3), torch.tensor([1.0, -1, -1]).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    assert colourfulness(grey) == 0 and colourfulness(red) == 1
    assert_close(colourfulness(torch.cat([grey, red])), 0.5)


def test_psnr_is_that_of_the_mean_squared_error():
    true = torch.zeros(2, 3, 4, 4)
    assert_close(psnr(true + 0.02, true), 40.0, rtol=1e-5, atol=1e-4)      # (2 / 0.02)^2 = 10^4


def test_a_sweep_draws_each_scale_with_it_and_measures_variety():
    class Scaled(Painter):
        def __call__(self, captions, seed=0, **options):
            scales.append(self.stages[0].guidance_scale)
            return super().__call__(captions)

        def with_(self, **changes):
            return Scaled(stages=(replace(self.stages[0], **changes),))
    scales = []
    result = guidance_sweep(Scaled(), [0.0, 2.5], n=8)
    assert set(scales) == {0.0, 2.5} and result["scales"] == [0.0, 2.5] and result["one_object"] == [1.0, 1.0]
    assert result["variety"] == [0.0, 0.0] and result["colourfulness"] == [result["true_colourfulness"]] * 2
    assert draw_sweep(result).width > 400


def test_an_upsampler_is_compared_with_bicubic_enlarging_of_the_same_pictures():
    perfect = enlarging_metrics(Painter(stages=(Stage(denoiser=None, shape=(3, 64, 64)),)), 32, n=8)
    assert perfect["psnr_upsampler"] == float("inf") and 15 < perfect["psnr_bicubic"] < 40
    assert bicubic(torch.full((1, 3, 4, 4), 0.9), 8).shape == (1, 3, 8, 8) and bicubic(torch.ones(1, 3, 4, 4), 8).amax() == 1


def test_the_strips_are_drawn_from_the_model_they_show():
    strip, other = draw_inpainting(tiny(known=0.5), n=2), draw_inpainting(tiny(known=0.5), n=2, seed=1)
    assert strip.size == other.size and strip.tobytes() != other.tobytes()
    assert draw_enlarging(tiny(size=16, low_res=8), 8, n=2).width > 300
