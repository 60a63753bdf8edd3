"""Checkers of lesson 04: faster sampling."""
import torch

from .answers import call, line, near


def climbs(function):
    """A checker for (x_s, eps, ab_s, ab_t) -> x_t: the same x_0 and eps in the proportions of t."""
    def mix(ab):
        return ab.sqrt() * x0 + (1 - ab).sqrt() * eps
    x0, eps = line(-1, 1), line(2, -1)
    for ab_s, ab_t in torch.tensor([(1.0, 0.9), (0.8, 0.3), (0.5, 0.01)], dtype=torch.float64):
        x_t = call(function, mix(ab_s), eps, ab_s, ab_t)
        if not isinstance(x_t, torch.Tensor) or x_t.shape != x0.shape:
            return "return a tensor as large as x_s"
        if not torch.allclose(x_t, mix(ab_t)):
            return (f"from alpha_bar {ab_s:.2f} to {ab_t:.2f} it misses: "
                    "which x_0 gave x_s, and which x_t do that x_0 and eps give?")


def translates_v(function):
    """A checker for a function (v, x_t, ab_t) -> eps."""
    x0, eps = line(-1, 1), line(2, -1)
    for ab in torch.tensor([0.99, 0.5, 0.02], dtype=torch.float64):
        a, s = ab.sqrt(), (1 - ab).sqrt()
        answer = call(function, a * eps - s * x0, a * x0 + s * eps, ab)
        if not isinstance(answer, torch.Tensor) or answer.shape != x0.shape:
            return "return a tensor as large as v"
        if not torch.allclose(answer, eps):
            return "take s x_t + a v, put in what x_t and v are made of, and see what is left"


EXERCISES = {
    "04a": climbs,
    "04b": translates_v,
    "04c": near((160, 57), within=1, hint="the error falls to an eighth: which factor in the steps "
                                          "does that take at order 1, and which at order 2?"),
}
