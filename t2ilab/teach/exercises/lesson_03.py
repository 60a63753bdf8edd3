"""Checkers of lesson 03: where a sampler needs its noise, a step with a bug, a number to beat."""
import torch

from ...diffusion.cond import Prediction
from ...diffusion.gaussian import variance_preserving
from ...diffusion.schedules import cosine, linear
from ...tensors import generator, randn
from .answers import call

SHARE = 0.7         # of 48 samples can be read: what the loop of the lesson must be improved to


def noise_in_the_first_half(sampler):
    """A checker for a sampler of T = 1000: DDPM's own step while t > 500, then the posterior's mean."""
    diffusion, g = variance_preserving(cosine()), generator(3)
    x_t = randn((2, 3, 4, 4), g)
    pred = Prediction(randn((2, 3, 4, 4), g))
    step = call(sampler, diffusion)
    if not callable(step):
        return "a sampler is a function that takes a diffusion and returns a step, as mean_only does"
    for t in (1000, 501, 500, 20):
        s = t - 10
        mean, _ = diffusion.posterior(pred.x0, x_t, t, s)
        wanted = diffusion.step(pred, x_t, t, s, generator(t)) if t > 500 else mean
        given = step(pred, x_t, t, s, generator(t))
        if not isinstance(given, torch.Tensor) or not torch.allclose(given, wanted, atol=1e-5):
            todo = "add noise, as diffusion.step does" if t > 500 else "go to the mean, without noise"
            return f"at t={t} it should {todo}"


def steps_as_algorithm_2(function):
    """A checker for (x0_hat, x_t, t, alpha_bar, generator) -> x_{t-1}: DDPM's step, small variance."""
    diffusion = variance_preserving(linear())
    for t in (1000, 300, 2, 1):
        x0_hat, x_t = (randn((2, 3, 8, 8), generator(t, k), dtype=torch.float64) for k in (1, 2))
        given = call(function, x0_hat, x_t, t, diffusion.alpha_bar, torch.Generator().manual_seed(t))
        noise = torch.randn(x_t.shape, generator=torch.Generator().manual_seed(t))
        mean, std = diffusion.posterior(x0_hat, x_t, t, t - 1)
        if not isinstance(given, torch.Tensor) or given.shape != x_t.shape:
            return "return x at t - 1, of the shape of x_t"
        if not torch.allclose(given.double(), mean + std * noise, atol=1e-5):
            added = (given - mean).std() / noise.std()
            return f"at t={t} it adds noise with a standard deviation of {added:.4f}, not {std.mean():.4f}"


def beats(share):
    """A checker for a share that must be larger than the given one."""
    def checker(answer):
        right = share < float(answer) <= 1
        return None if right else f"{float(answer):.2f} is not above {share}: train again"
    return checker


EXERCISES = {
    "03a": noise_in_the_first_half,
    "03b": steps_as_algorithm_2,
    "03c": beats(SHARE),
}
