"""Checkers of lesson 05 tell the right answer from the mistakes that people make."""
import torch

from t2ilab.data.shapes import render
from t2ilab.diffusion.guidance import guided
from t2ilab.evaluation.caption_metrics import fresh_scenes
from t2ilab.teach.exercises import EXERCISES
from t2ilab.tensors import from_uint8


def swapped(denoiser, cond, w):
    """The bug of the lesson: the two halves of the batch under each other's name."""
    def denoise(x_t, t):
        pred = denoiser(torch.cat([x_t, x_t]), t, cond.beside(cond.null()))
        without, with_caption = pred.x0.chunk(2)
        return pred._replace(x0=without + w * (with_caption - without))
    return denoise


def repaired(denoiser, cond, w):
    def denoise(x_t, t):
        pred = denoiser(torch.cat([x_t, x_t]), t, cond.beside(cond.null()))
        with_caption, without = pred.x0.chunk(2)
        return pred._replace(x0=without + w * (with_caption - without))
    return denoise


def test_guidance_must_steer_to_the_caption():
    check = EXERCISES["05b"]
    assert check(repaired) is None
    assert "w=1 should give 5, not 2" in check(swapped)
    assert "Prediction" in check(lambda denoiser, cond, w: None)
    assert "Prediction" in check(lambda denoiser, cond, w: lambda x_t, t: denoiser(torch.cat([x_t, x_t]), t, cond.beside(cond.null())))


def test_the_packages_own_guidance_passes():
    class Module:
        condition = staticmethod(lambda cond: cond)

        def __init__(self, function):
            self.function = function

        def __call__(self, *given):
            return self.function(*given)
    assert EXERCISES["05b"](lambda denoiser, cond, w: guided(Module(denoiser), cond, w)) is None


def test_24_captions_must_be_followed():
    check = EXERCISES["05d"]
    right = from_uint8(torch.stack([render(scene, 32) for scene, _ in fresh_scenes("two_objects", 24)]))
    assert check(right) is None
    assert "0.95 is wanted" in check(right.roll(1, 0))
    assert "24 images" in check(right[:3]) and "24 images" in check(0.97)
