"""Noise schedules: functions that return a table alpha_bar[t], t = 0..T, float64.

alpha_bar[0] = 1, because t = 0 is data. DDPM (Ho et al. 2020) and improved DDPM (Nichol & Dhariwal
2021). Left out: a respacing class; a shorter list of times is respacing.
"""
import math
from collections.abc import Sequence

import torch
from torch import Tensor


def linear(T: int = 1000) -> Tensor:
    """DDPM's linear schedule, alpha_bar [T+1]: beta rises from 1e-4 to 0.02 (both times 1000 / T).

    Raises ValueError for T <= 20, where the last beta would reach 1.
    Lesson: notebooks/02_noising.ipynb"""
    if T <= 20:
        raise ValueError(f"linear schedule with T={T}: choose T > 20 "
                         "(the last beta, 20 / T, must stay below 1)")
    return from_betas(torch.linspace(0.1 / T, 20 / T, T, dtype=torch.float64))


def cosine(T: int = 1000) -> Tensor:
    """Improved DDPM's cosine schedule, alpha_bar [T+1]: images fade slowly at both ends.

    Betas come from the function and stop at 0.999, which keeps alpha_bar[T] above 0.
    Lesson: notebooks/02_noising.ipynb"""
    u = torch.arange(T + 1, dtype=torch.float64) / T
    f = ((u + 0.008) / 1.008 * math.pi / 2).cos() ** 2                          # iDDPM Eq. 17
    return from_betas((1 - f[1:] / f[:-1]).clamp(max=0.999))


def from_betas(betas: Tensor) -> Tensor:
    """alpha_bar [T+1] from betas [T]: the share of the signal's variance left after t steps."""
    kept = 1 - betas.double()
    return torch.cat([torch.ones_like(kept[:1]), kept.cumprod(0)])


def timesteps(T: int, n: int) -> list[int]:
    """Times of an n-step sampler: n + 1 integers T = t_0 > t_1 > ... > t_n = 0, evenly spaced.

    Raises ValueError unless 1 <= n <= T.  Lesson: notebooks/04_faster_sampling.ipynb"""
    if not 1 <= n <= T:
        raise ValueError(f"sampling_steps={n}: choose 1 to {T} "
                         f"(the model was trained with T={T})")
    return torch.linspace(T, 0, n + 1, dtype=torch.float64).round().int().tolist()


def check_times(times: Sequence[int], T: int) -> None:
    """ValueError unless these are whole times that fall from at most T to 0."""
    falling = len(times) >= 2 and list(times) == sorted(set(times), reverse=True)
    whole = all(isinstance(t, int) for t in times)
    if not falling or not whole or times[-1] != 0 or times[0] > T:
        raise ValueError(f"sampling_steps={tuple(times)}: whole times fall from at most {T} to 0")


def sections(T: int, counts: tuple[int, ...]) -> list[int]:
    """Respaced times, falling: counts[k] steps in the k-th of equal parts of 1..T; 0 comes last.

    The clean end is the first part.  A sampler may take more steps where an image needs them.
    Raises ValueError if a part has too few times.  Lesson: notebooks/05_glide.ipynb"""
    size, extra = divmod(T, len(counts))
    if any(n > size or n < 1 for n in counts):
        raise ValueError(f"counts={counts}: choose 1 to {size} steps "
                         f"for each of the {len(counts)} parts of {T}")
    times, start = [0], 1
    for part, n in enumerate(counts):
        length = size + (part < extra)
        times += [start + round(k * (length - 1) / max(1, n - 1)) for k in range(n)]
        start += length
    return times[::-1]


# GLIDE's 27 steps for its upsampler: dense where the image is nearly clean, and starting two steps
# late, where the last one shows no artefacts.
FAST27 = (998, *sections(1000, (10, 10, 3, 2, 2))[1:])

SCHEDULES = {"linear": linear, "cosine": cosine}
