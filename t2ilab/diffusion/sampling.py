"""Samplers: the one sampling loop, and the steps it can take: ancestral, DDIM, DPM-Solver++.

DDPM (Ho et al. 2020), DDIM (Song et al. 2021), DPM-Solver++ (Lu et al. 2022). A `Sampler` is a
function Process -> Step, so that a solver with a memory starts each run with an empty one.

    DDPM            ancestral                   all times, T down to 0
    respaced DDPM   ancestral                   a shorter list of times
    DDIM            ddim(0.0)                   a shorter list of times
    rectified flow  ddim(0.0) = an Euler step   a shorter list of times
"""
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from ..tensors import Source, like
from .process import Process, Sampler, Step


class Frame(NamedTuple):
    """Where a sampling run stands after one step."""
    t: float         # the noise level of x now
    x: Tensor        # [B C H W], or tokens [B N]: x_t
    x0: Tensor       # [B C H W] in about [-1, 1], the clean image as the network predicted it


@torch.no_grad()
def trajectory(denoise, diffusion: Process, x: Tensor, times, *, sampler: Sampler | None = None,
               generator: Source = None) -> Iterator[Frame]:
    """Every frame from noise x at times[0] to the image at times[-1] = 0.

    denoise: (x_t, t) -> Prediction.  x: [B C H W], or tokens [B N].  times: falling numbers.
    Lesson: notebooks/03_ddpm.ipynb"""
    step = (sampler or ancestral)(diffusion)
    for t, s in pairwise(times):
        pred = denoise(x, t)                 # what does the network think the clean image is?
        x = step(pred, x, t, s, generator)   # one draw from q(x_s | x_t, x0_hat)
        yield Frame(s, x, pred.x0)


def sample(denoise, diffusion: Process, shape, times, *, sampler: Sampler | None = None,
           generator: Source = None) -> Tensor:
    """Images [B C H W] from nothing but noise: the last frame of a trajectory."""
    x = diffusion.prior(shape, generator=generator)
    for frame in trajectory(denoise, diffusion, x, times, sampler=sampler, generator=generator):
        x = frame.x
    return x


def ancestral(diffusion: Process) -> Step:
    """Ancestral sampling, the process's own step: a draw from p(x_s | x_t).

    DDPM adds fresh noise every time; tokens are drawn each by itself."""
    return diffusion.step


def ddim(eta: float = 0.0) -> Sampler:
    """DDIM's step: eta=0 has no noise and needs few steps; eta=1 is DDPM's.
    Lesson: notebooks/04_faster_sampling.ipynb"""
    return lambda diffusion: partial(diffusion.step, eta=eta)


def dpm_solver_pp_2m(diffusion):
    """DPM-Solver++(2M): second order from one network call per step.

    It extrapolates a straight line through this prediction and the last; first order for the first
    step and for the last, where the log-SNR is infinite.
    Lesson: notebooks/04_faster_sampling.ipynb"""
    last = None     # (t, x0) of the step before

    def step(pred, x_t, t, s, generator=None):
        nonlocal last
        x0 = pred.x0
        if last is not None and s > 0:
            h_last = _log_snr(diffusion, t) - _log_snr(diffusion, last[0])
            h = _log_snr(diffusion, s) - _log_snr(diffusion, t)
            r = h_last / h
            x0 = x0 + like(1 / (2 * r), x0) * (x0 - last[1])            # DPM-Solver++ Algorithm 2
        last = t, pred.x0
        return diffusion.posterior(x0, x_t, t, s, eta=0)[0]
    return step


def _log_snr(diffusion, t) -> Tensor:
    return diffusion.snr(t).log() / 2


@torch.no_grad()
def invert(denoise, diffusion, x0: Tensor, times, *, refine: int = 3) -> Tensor:
    """DDIM inversion: the x_T [B C H W] from which DDIM (eta = 0, same times) returns this image.

    A DDIM step turns (x_t, v) by a small angle. Each step back solves "which x_t would have turned
    into this x_s?" by `refine` rounds of asking the network for v at the x_t guessed so far, first
    at x_s itself.  x0: [B C H W] in [-1, 1].  Lesson: notebooks/04_faster_sampling.ipynb"""
    x_s = x0
    for s, t in pairwise(reversed(times)):
        (signal, noise), (signal_s, noise_s) = diffusion.scales(x0, t), diffusion.scales(x0, s)
        cos = signal * signal_s + noise * noise_s
        sin = noise * signal_s - signal * noise_s
        x_t = x_s
        for _ in range(refine):
            v = (signal * x_t - denoise(x_t, t).x0) / noise                 # v-prediction
            # Holding eps instead would stall near x_T, where eps is x_t all over again.
            x_t = (x_s + sin * v) / cos
        x_s = x_t
    return x_s


SAMPLERS = {"ancestral": ancestral, "ddim": ddim(0.0), "dpm_solver_pp_2m": dpm_solver_pp_2m}
