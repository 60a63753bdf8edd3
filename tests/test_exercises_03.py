"""Checkers of lesson 03's exercises tell the right answer from the mistakes that people make."""
import torch

from t2ilab.diffusion.schedules import linear
from t2ilab.teach.exercises import EXERCISES
from t2ilab.teach.exercises.lesson_03 import SHARE


def mean_only(diffusion):
    return lambda pred, x_t, t, s, generator: diffusion.posterior(pred.x0, x_t, t, s)[0]


def half(first):
    def sampler(diffusion):
        def step(pred, x_t, t, s, generator):
            return (diffusion.step if (t > 500) == first else mean_only(diffusion))(pred, x_t, t, s, generator)
        return step
    return sampler


def test_noise_belongs_into_the_first_half():
    check = EXERCISES["03a"]
    assert check(half(True)) is None
    assert "add noise" in check(half(False)) and "add noise" in check(mean_only)
    assert "without noise" in check(lambda diffusion: diffusion.step)
    assert "returns a step" in check(lambda diffusion: None)


def step(power, mean_at=-1):
    def function(x0_hat, x_t, t, alpha_bar, g):
        beta = 1 - alpha_bar[t] / alpha_bar[t - 1]
        left, gone = alpha_bar[t - 1], 1 - alpha_bar[t]
        mean = left.sqrt() * beta / gone * x0_hat + (1 - beta).sqrt() * (1 - alpha_bar[t + mean_at]) / gone * x_t
        return mean + ((1 - left) / gone * beta) ** power * torch.randn(x_t.shape, generator=g)
    return function


def test_a_variance_is_no_standard_deviation():
    check = EXERCISES["03b"]
    assert check(step(0.5)) is None
    assert "standard deviation" in check(step(1)) and check(step(0.5, mean_at=0)) is not None
    assert "shape" in check(lambda *given: None)
    assert len(linear()) == 1001


def test_a_number_is_beaten_by_more_only():
    check = EXERCISES["03c"]
    assert check(SHARE + 0.1) is None
    assert "train again" in check(SHARE) and "train again" in check(48.0)
