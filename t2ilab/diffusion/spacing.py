"""Lists of times for samplers with few steps: even in the log of the signal-to-noise ratio.

Lu et al. (2022) space DPM-Solver's times so. Left out: lists found by a search.
"""
import torch

from .gaussian import GaussianDiffusion


def log_snr_timesteps(diffusion: GaussianDiffusion, n: int, last: int = 20) -> list[int]:
    """Times of an n-step sampler, T = t_0 > t_1 > ... > t_n = 0, evenly spaced in log-SNR.

    From T - 1 down to `last`, which become T and the last time before 0: at T and at 0 the log-SNR
    is (nearly) infinite. Fewer than n steps where two times would be the same whole number.
    Raises ValueError unless n >= 1 and 1 <= last < T - 1.  Lesson: notebooks/04_faster_sampling.ipynb"""
    T = diffusion.T
    if n < 1 or not 1 <= last < T - 1:
        raise ValueError(f"steps={n}, last={last}: choose 1 or more steps, and a last time from 1 to {T - 2}")
    table = diffusion.snr(torch.arange(last, T)).log()                  # falls with t
    wanted = torch.linspace(table[-1].item(), table[0].item(), n, dtype=torch.float64)
    nearest = (table - wanted[:, None]).abs().argmin(1) + last
    times = sorted(set(nearest.tolist()), reverse=True)
    return [T, *times[1:], 0]
