"""Checkers of lesson 08: VQ-Diffusion."""
from math import prod

from .answers import call, near


def shows_masks(function):
    """A checker for (gamma_s, gamma_t) -> the chance that a token masked at t is shown at s."""
    for gamma_s, gamma_t in ((0.0, 0.3), (0.5, 1.0), (0.6, 0.8)):
        answer = call(function, gamma_s, gamma_t)
        if answer is None or abs(float(answer) - (1 - gamma_s / gamma_t)) > 1e-9:
            return (f"at gamma_s={gamma_s:g}, gamma_t={gamma_t:g} it is {answer}: of 100 tokens, "
                    "how many are masked at t, and how many of *those* still at s?")


def trusts(function):
    """A checker for (alpha_bar, beta_bar, K) -> the chance that a visible token is the true one."""
    for alpha_bar, beta_bar, K in ((0.4, 0.1, 3), (0.9, 0.0, 512), (0.0, 0.01, 9)):
        answer = call(function, alpha_bar, beta_bar, K)
        wanted = (alpha_bar + beta_bar) / (alpha_bar + K * beta_bar)
        if answer is None or abs(float(answer) - wanted) > 1e-9:
            return (f"at {alpha_bar:g}, {beta_bar:g}, {K} it is {answer}: "
                    "how likely is x_t from x_0 = x_t, and how likely from any x_0 at all?")


EXERCISES = {
    "08a": shows_masks,
    "08b": trusts,
    "08c": near(64 * prod(s / (s + 1) for s in range(90, 0, -10)), within=0.05,
                hint="by 08a, what does a step from s + 1 to s leave of the masks? "
                     "There are nine before the last"),
}
