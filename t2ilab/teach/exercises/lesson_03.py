"""Checkers of lesson 03: DDPM."""
import torch

from ...diffusion.cond import Prediction
from ...diffusion.gaussian import variance_preserving
from ...diffusion.schedules import cosine
from ...tensors import generator, randn
from .answers import call, echo, labelled, near


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


def moves_away(function):
    """A checker for (denoiser, cond, other, scale) -> denoise: guidance away from another condition."""
    x_t = torch.ones(2, 3, 4, 4)
    cond, other = labelled(5, 2)
    for scale, wanted in ((1.0, 5), (0.0, 2), (3.0, 11)):
        denoise = call(function, echo, cond, other, scale)
        pred = call(denoise, x_t, 500)
        if not isinstance(pred, Prediction):
            return "return a function denoise(x_t, t) that returns a Prediction"
        if not torch.allclose(pred.x0, wanted * x_t):
            return (f"with scale={scale:g} the guesses {cond.text[0, 0]} and {other.text[0, 0]} "
                    f"should give {wanted}, not {pred.x0.mean():g}")


EXERCISES = {
    "03a": near(108.87, within=0.5,
                hint="divide two entries of weight: the one at t = 2 by the one at t = 500"),
    "03b": noise_in_the_first_half,
    "03c": moves_away,
}
