"""Checkers of lesson 04: what to predict, and faster sampling."""
from itertools import pairwise

import torch

from ...diffusion.cond import Prediction
from ...diffusion.gaussian import variance_preserving
from ...diffusion.losses import WEIGHTS
from ...diffusion.sampling import ddim, dpm_solver_pp_2m, trajectory
from ...diffusion.schedules import cosine
from .answers import call, line


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


def weighs(function):
    """A checker for a function (predict, snr) -> weight of the squared error in the network's own output.

    Right where the error in x_0 has the weight min(SNR, 5) whatever the network predicts."""
    snr = torch.tensor([0.01, 0.5, 4.0, 30.0, 900.0], dtype=torch.float64)
    for predict in ("x0", "eps", "v"):
        weight = call(function, predict, snr)
        if not isinstance(weight, torch.Tensor) or weight.shape != snr.shape:
            return "return one weight for each entry of snr"
        own = WEIGHTS[predict](snr)             # what its plain squared error weighs, in x_0
        if not torch.allclose(weight * own, WEIGHTS["min_snr"](snr)):
            return (f"predict={predict!r}: the error in x_0 does not get the weight min(SNR, 5). What "
                    "does a plain squared error in this output already weigh?")


def _two_gaussians(x_t, t, diffusion, m=0.6, c=0.3):
    """The perfect denoiser of a number drawn from two Gaussians of width c at -m and m."""
    a, sigma = diffusion.scales(x_t, t)
    var = (a * c) ** 2 + sigma ** 2
    return Prediction((a * c ** 2 * x_t + sigma ** 2 * m * torch.tanh(a * m * x_t / var)) / var)


def distance_of(times) -> float:
    """How far DDIM (eta = 0) with these times lands from where 500 steps land, root mean square."""
    diffusion = variance_preserving(cosine())
    start = torch.special.ndtri((torch.arange(200, dtype=torch.float64) + 0.5) / 200)

    def end(sampler, times):
        *_, last = trajectory(lambda x, t: _two_gaussians(x, t, diffusion), diffusion, start, times,
                              sampler=sampler)
        return last.x
    exact = end(dpm_solver_pp_2m, diffusion.times(500))
    return (end(ddim(0.0), times) - exact).square().mean().sqrt().item()


def shorter_walk(times):
    """A checker for a list of times of DDIM on the two Gaussians: ten calls, closer than even ones."""
    times = list(times) if isinstance(times, (list, tuple)) else []
    if len(times) < 2 or times[0] != 1000 or times[-1] != 0:
        return "give a list of times that begins with 1000 and ends with 0"
    if any(t <= s for t, s in pairwise(times)) or any(not isinstance(t, int) for t in times):
        return "the times are whole numbers, each smaller than the one before"
    if len(times) > 11:
        return f"that is {len(times) - 1} network calls, and at most 10 are allowed"
    found = distance_of(times)
    if found >= 0.060:
        return f"its error is {found:.4f}; even times have 0.0642, and 0.0600 is to be beaten"


EXERCISES = {
    "04a": climbs,
    "04b": weighs,
    "04c": shorter_walk,
}
