"""The tables: what other people's code and the papers say about alpha_bar, and which times a short run visits."""
import math

import pytest
import torch
from torch.testing import assert_close
from toys import doubles

from t2ilab.diffusion.schedules import SCHEDULES, cosine, from_betas, linear, timesteps

DIFFUSERS = {"linear": "linear", "cosine": "squaredcos_cap_v2"}


def scheduler(kind="DDPMScheduler", **options):
    return getattr(pytest.importorskip("diffusers"), kind)(**options)


@pytest.mark.parametrize("T", [21, 50, 1000, 4000])
@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_a_table_falls_from_one_to_almost_nothing(schedule, T):
    alpha_bar = schedule(T)
    assert alpha_bar.dtype == torch.float64 and alpha_bar.shape == (T + 1,)
    assert alpha_bar[0] == 1 and (alpha_bar.diff() < 0).all() and 0 < alpha_bar[T] < 1e-4


@pytest.mark.parametrize("name", DIFFUSERS)
def test_tables_equal_diffusers(name):
    """Their index t is our t - 1, and their table is float32."""
    theirs = scheduler(beta_schedule=DIFFUSERS[name])
    ours = SCHEDULES[name]()
    assert_close(ours[1:], theirs.alphas_cumprod.double(), rtol=1e-4, atol=1e-7)
    assert_close(1 - ours[1:] / ours[:-1], theirs.betas.double(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("schedule, anchors", [(linear, (0.9999, 0.524085, 0.0785872, 0.00335055, 4.036e-5)),
                                               (cosine, (0.9999587, 0.8470122, 0.4938436, 0.1442721, 2.43e-9))])
def test_tables_pass_through_the_known_numbers(schedule, anchors):
    """Read off improved DDPM's own tables at its indices 0, 249, 499, 749 and 999."""
    assert_close(schedule(1000)[[1, 250, 500, 750, 1000]], doubles(*anchors), rtol=1e-3, atol=0)


def test_linear_keeps_its_shape_when_T_changes():
    """DDPM's betas run from 1e-4 to 0.02 in 1000 steps; with T=25 the last one is 0.8, and T=20 would reach 1."""
    assert_close((1 - linear(25)[-1] / linear(25)[-2]).item(), 0.8)
    assert_close(linear(25)[-1].item(), 2.42e-7, rtol=2e-3, atol=0)
    assert_close(linear(4000)[::4], linear(1000), rtol=0, atol=1e-3)
    with pytest.raises(ValueError, match="T=20: choose T > 20"):
        linear(20)


@pytest.mark.parametrize("T", [50, 1000])
def test_cosine_is_a_quarter_of_a_squared_cosine(T):
    """iDDPM Eq. 17, typed literally; only the last beta is cut, to 0.999."""
    def f(t):
        return math.cos((t / T + 0.008) / (1 + 0.008) * math.pi / 2) ** 2
    literal = doubles(*[f(t) / f(0) for t in range(T)])
    assert_close(cosine(T)[:T], literal, rtol=1e-9, atol=0)
    assert_close((cosine(T)[T] / cosine(T)[T - 1]).item(), 0.001)


def test_alpha_bar_is_what_the_forward_chain_leaves():
    """DDPM Eq. 2, step by step on the mean and variance of x_t for x_0 = 1; the closed form is DDPM Eq. 4."""
    betas = torch.linspace(0.01, 0.4, 30, dtype=torch.float64)
    mean, variance, alpha_bar = 1.0, 0.0, from_betas(betas)
    for t, beta in enumerate(betas.tolist(), start=1):
        mean, variance = math.sqrt(1 - beta) * mean, (1 - beta) * variance + beta
        assert_close(alpha_bar[t].sqrt().item(), mean)
        assert_close(1 - alpha_bar[t].item(), variance)


@pytest.mark.parametrize("T", [50, 1000])
def test_every_number_of_steps_falls_from_T_to_0(T):
    for n in range(1, T + 1, 1 if T == 50 else 37):
        times = timesteps(T, n)
        steps = [t - s for t, s in zip(times, times[1:])]
        assert times[0] == T and times[-1] == 0 and len(steps) == n
        assert max(steps) - min(steps) <= 1 and min(steps) >= 1


@pytest.mark.parametrize("n", [1, 10, 27, 100, 250, 1000])
def test_times_equal_diffusers_trailing_spacing(n):
    """Except for the final 0, which they add inside their step."""
    theirs = scheduler(timestep_spacing="trailing")
    theirs.set_timesteps(n)
    assert timesteps(1000, n) == [t + 1 for t in theirs.timesteps.tolist()] + [0]


@pytest.mark.parametrize("n", [-1, 0, 101])
def test_an_impossible_number_of_steps_is_refused(n):
    with pytest.raises(ValueError, match=rf"steps={n}: choose 1 to 100"):
        timesteps(100, n)
