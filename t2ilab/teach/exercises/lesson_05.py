"""Checkers of lesson 05: GLIDE."""
import torch

from ...diffusion.cond import Prediction
from .answers import call, echo, exactly, labelled, line


def guides_noise(function):
    """A checker for (x0_c, x0_0, x_t, ab_t, s) -> eps: guidance in noise, from two predicted x_0."""
    x0_c, x0_0, x_t = line(-1, 1), line(0.5, -0.5), line(1, 1)
    for ab, s in ((0.9, 1.0), (0.5, 0.0), (0.2, 3.0)):
        ab = torch.tensor(ab, dtype=torch.float64)
        answer = call(function, x0_c, x0_0, x_t, ab, s)
        if not isinstance(answer, torch.Tensor) or answer.shape != x_t.shape:
            return "return a tensor as large as x_t"
        eps_c, eps_0 = ((x_t - ab.sqrt() * x0) / (1 - ab).sqrt() for x0 in (x0_c, x0_0))
        if not torch.allclose(answer, eps_0 + s * (eps_c - eps_0)):
            return (f"at s={s:g} it misses: which noise does each predicted picture leave in x_t? "
                    "Then the line of the lesson")


def pulls_twice(function):
    """A checker for (denoiser, first, second, nothing, a, b) -> denoise: guidance by two conditions."""
    x_t = torch.ones(2, 3, 4, 4)
    conds = labelled(5, 3, 2)
    for a, b, wanted in ((1.0, 0.0, 5), (0.0, 1.0, 3), (0.0, 0.0, 2), (2.0, 3.0, 11)):
        denoise = call(function, echo, *conds, a, b)
        pred = call(denoise, x_t, 500)
        if not isinstance(pred, Prediction):
            return "return a function denoise(x_t, t) that returns a Prediction"
        if not torch.allclose(pred.x0, wanted * x_t):
            return (f"with a={a:g}, b={b:g} the guesses 5, 3 and 2 (for nothing) "
                    f"should give {wanted}, not {pred.x0.mean():g}")


EXERCISES = {
    "05a": exactly(227, hint="100 steps of a doubled batch, and then the upsampler's list of times: "
                             "how many steps does it make?"),
    "05b": guides_noise,
    "05c": pulls_twice,
}
