"""One denoiser and how to sample from it: a cascade is a list of these."""
from collections.abc import Callable
from dataclasses import dataclass
from torch import nn

from ..diffusion.sampling import ancestral
from ..diffusion.schedules import timesteps


@dataclass(frozen=True)
class Stage:
    """One denoiser and how to sample from it."""
    denoiser: nn.Module
    shape: tuple[int, ...]                  # of one sample: (3, H, W), or (N,) codes
    steps: int | tuple[int, ...] = 50       # network calls a picture, up to the diffusion's T; or the falling times themselves, 0 last
    guidance_scale: float = 1.0             # 1 = off, 0 = unconditional
    constrain: tuple[Callable, ...] = ()    # functions x0 -> x0, applied in order
    sampler: Callable = ancestral           # diffusion -> step
    temperature: float = 1.0                # of the starting noise: below 1 = calmer pictures
    enlarge: Callable | None = None         # (smaller picture [B 3 h w], generator) -> {"low_res": [B 3 H W], ...}; None = this stage needs none
    sees_known: bool = False                # whether the network takes the known pixels of an Edit as an input
    codec: object = None                    # encode: pictures -> codes [B N], decode: back; for a stage that draws codes

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of its pictures."""
        return self.shape[1:] if self.codec is None else (self.codec.size,) * 2

    @property
    def times(self) -> list:
        """The times a sampling run visits, from noise to 0: whole ones, or any where codes are drawn."""
        T = self.denoiser.diffusion.T
        if isinstance(self.steps, int):
            return timesteps(T, self.steps) if self.codec is None else self.denoiser.diffusion.times(self.steps)
        times = list(self.steps)
        if len(times) < 2 or times != sorted(set(times), reverse=True) or times[-1] != 0 or times[0] > T or not all(isinstance(t, int) for t in times):
            raise ValueError(f"steps={times}: whole times fall from at most {T} to 0")
        return times
