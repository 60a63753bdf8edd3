"""Guidance by a score: x0_hat moves along the gradient of any function that marks noisy pictures, exactly as GLIDE and ADM write it."""
import pytest
import torch
from torch.testing import assert_close
from toys import doubles, mixture, wave

from t2ilab.diffusion.cond import Prediction
from t2ilab.diffusion.gaussian import variance_preserving
from t2ilab.diffusion.guidance import score_guided
from t2ilab.diffusion.sampling import sample
from t2ilab.diffusion.schedules import cosine, timesteps
from t2ilab.tensors import generator

DIFFUSION = variance_preserving(cosine(100))
SHAPE = (2, 3, 4, 6)
TARGET = wave(*SHAPE, seed=9)
X0, VAR = wave(*SHAPE, seed=1), wave(*SHAPE, seed=2)


def says(x_t, t):
    return Prediction(X0, VAR)


def near_target(x_t, t):
    """A score whose gradient is known: target - x_t."""
    return -(x_t - TARGET).square().flatten(1).sum(1) / 2


@pytest.mark.parametrize("t", [1, 50, 100])
@pytest.mark.parametrize("scale", [0.3, 4.0])
def test_x0_moves_by_the_gradient_times_the_noise_over_the_signal(t, scale):
    x_t, ab = wave(*SHAPE), DIFFUSION.alpha_bar[t]
    pred = score_guided(says, DIFFUSION, near_target, scale)(x_t, t)
    assert_close(pred.x0 - X0, (1 - ab) / ab.sqrt() * scale * (TARGET - x_t))
    assert torch.equal(pred.var, VAR)


@pytest.mark.parametrize("t", [1, 50, 99])
def test_it_equals_the_published_formula_for_eps(t):
    """GLIDE CLIP guidance: eps - sqrt(1 - alpha_bar) * scale * gradient, typed literally, and back to x0 (as in ADM Algorithm 2)."""
    x_t, ab = wave(*SHAPE), DIFFUSION.alpha_bar[t]
    eps = (x_t - ab.sqrt() * X0) / (1 - ab).sqrt()
    eps_hat = eps - (1 - ab).sqrt() * 2.5 * (TARGET - x_t)
    literal = (x_t - (1 - ab).sqrt() * eps_hat) / ab.sqrt()
    assert_close(score_guided(says, DIFFUSION, near_target, 2.5)(x_t, t).x0, literal)


def test_scale_zero_changes_nothing():
    assert torch.equal(score_guided(says, DIFFUSION, near_target, 0.0)(wave(*SHAPE), 50).x0, X0)


def test_each_picture_follows_its_own_score_and_the_score_sees_the_time():
    def score(x_t, t):
        return doubles(1.0, -3.0) * t * x_t.flatten(1).sum(1)
    x_t, ab = wave(*SHAPE), DIFFUSION.alpha_bar[7]
    moved = score_guided(says, DIFFUSION, score, 1.0)(x_t, 7).x0 - X0
    assert_close(moved, ((1 - ab) / ab.sqrt() * 7 * doubles(1.0, -3.0)).view(2, 1, 1, 1).expand(SHAPE))


def test_it_works_where_gradients_are_off_and_leaves_none_behind():
    weight = torch.ones((), dtype=torch.float64, requires_grad=True)
    with torch.no_grad():
        x_t = wave(*SHAPE)
        pred = score_guided(says, DIFFUSION, lambda x, t: weight * near_target(x, t), 1.0)(x_t, 50)
        assert not torch.is_grad_enabled()
    assert not pred.x0.requires_grad and not x_t.requires_grad and weight.grad is None


# Two round heaps of pictures, dark and bright: the best denoiser of both is known, and so is the chance that a noisy picture is a bright one.
MEANS, STD, SHARE = torch.stack([torch.full((1, 2, 2), -0.5), torch.full((1, 2, 2), 0.5)]).double(), 0.1, doubles(0.5, 0.5)


def brightness(x_t, t):
    """log p(bright | x_t), exactly."""
    signal, noise = DIFFUSION.scales(x_t, t)
    variance = (signal ** 2 * STD ** 2 + noise ** 2).flatten()
    distance = torch.cdist(x_t.flatten(1), signal.flatten() * MEANS.flatten(1)).square()
    return (SHARE.log() - distance / variance / 2).log_softmax(1)[:, 1]


@pytest.mark.parametrize("t", [5, 50, 99])
def test_an_exact_classifier_turns_the_denoiser_of_all_pictures_into_that_of_one_class(t):
    """Bayes: at scale 1 the score of p(x_t) plus that of p(class | x_t) is the score of p(x_t | class)."""
    x_t = DIFFUSION.diffuse(MEANS.repeat(8, 1, 1, 1), t, generator(3))
    both, bright = mixture(DIFFUSION, MEANS, STD, SHARE), mixture(DIFFUSION, MEANS[1:], STD, doubles(1.0))
    assert_close(score_guided(both, DIFFUSION, brightness, 1.0)(x_t, t).x0, bright(x_t, t).x0, rtol=1e-6, atol=1e-6)


def test_a_scorer_pulls_samples_towards_what_it_likes():
    denoise = mixture(DIFFUSION, MEANS.float(), STD, SHARE.float())

    def share(denoise):
        return (sample(denoise, DIFFUSION, (200, 1, 2, 2), timesteps(100, 25), generator=generator(1)).mean((1, 2, 3)) > 0).double().mean().item()
    free, pulled = share(denoise), share(score_guided(denoise, DIFFUSION, lambda x, t: brightness(x.double(), t), 1.0))
    assert 0.35 < free < 0.65 and pulled > 0.97
