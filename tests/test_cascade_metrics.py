"""Thresholds and augmentation as they are measured: the marks follow the pictures, and one seed gives one result."""
from dataclasses import replace

import pytest
import torch
from tiny_glide import built
from tiny_imagen import BASE, UPSAMPLER

from t2ilab.diffusion.constraints import clip
from t2ilab.evaluation.ablations.augmentation import augmentation_sweep, corrupted_image, draw_augmentation
from t2ilab.evaluation.ablations.thresholds import (
    draw_thresholds,
    saturation,
    threshold_sweep,
    with_threshold,
)
from t2ilab.evaluation.caption_metrics import fresh_scenes
from t2ilab.evaluation.scene_metrics import drawn

pytestmark = pytest.mark.slow           # it trains, samples or converts models

MODEL, LARGE = replace(BASE, size=24), replace(UPSAMPLER, size=24)


def test_saturation_is_the_share_of_values_at_either_end():
    images = torch.tensor([-1.0, -0.99, 0.0, 0.5, 0.97, 1.0]).view(1, 3, 1, 2)
    assert saturation(images) == pytest.approx(3 / 6)


def test_only_the_first_stages_threshold_and_scale_change():
    pipeline = built(BASE, UPSAMPLER)
    other = with_threshold(pipeline, "static", 9.0)
    assert other.stages[0].guidance_scale == 9.0 and other.stages[0].constrain == (clip,) and other.stages[1] is pipeline.stages[1]


def test_a_threshold_sweep_has_one_number_a_scale_and_strong_guidance_saturates_what_is_only_cut():
    result = threshold_sweep(built(MODEL, objective=replace(BASE.objective, predict="x0")), (1.0, 30.0), n=4)
    assert result["scales"] == [1.0, 30.0] and result["scenes"]["alignment"] == 1
    assert all(len(result[name][what]) == 2 for name in ("none", "static", "dynamic") for what in ("alignment", "saturation", "colourfulness"))
    assert result["static"]["saturation"][1] > result["static"]["saturation"][0]
    assert result["static"]["saturation"][1] > result["dynamic"]["saturation"][1]
    assert draw_thresholds(built(MODEL), (1.0, 3.0)).width > 200


def test_an_augmentation_sweep_marks_clean_and_spoilt_pictures_at_every_level():
    def at(level):
        return built(replace(LARGE, augmentation=level))
    result = augmentation_sweep(at, 8, (0.0, 0.5), n=3)
    assert result["levels"] == [0.0, 0.5] and result == augmentation_sweep(at, 8, (0.0, 0.5), n=3)
    assert all(len(result[name][what]) == 2 for name in ("clean", "spoilt") for what in ("psnr", "alignment"))
    assert draw_augmentation(result).width > 300


def test_spoilt_pictures_are_near_the_true_ones_and_not_the_same():
    images = drawn([scene for scene, _ in fresh_scenes("two_objects", 4)], 16)
    off = (corrupted_image(images) - images).abs().mean((1, 2, 3))
    assert off.min() > 0.01 and off.max() < 0.3 and torch.equal(corrupted_image(images), corrupted_image(images))
