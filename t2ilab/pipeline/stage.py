"""Stage: one denoiser and how to sample from it.  A cascade is a list of these."""
from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from ..diffusion.gaussian_denoiser import GaussianDenoiser
from ..diffusion.process import Process, Sampler
from ..diffusion.sampling import ancestral
from ..diffusion.schedules import check_times
from ..diffusion.token_denoiser import TokenDenoiser
from .edit import Edit
from .protocols import Codec


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One denoiser and how to sample from it."""
    denoiser: GaussianDenoiser | TokenDenoiser
    shape: tuple[int, ...]                # of a sample: (3, H, W), (N,) tokens or (C, h, w) latents
    steps: int | tuple[int, ...] = 50     # network calls per image; or the falling times, 0 last
    guidance_scale: float = 1.0           # 1 = off, 0 = unconditional
    constrain: tuple[Callable, ...] = ()  # functions x0 -> x0, applied in order
    sampler: Sampler = ancestral          # process -> step
    temperature: float = 1.0              # of the starting noise: below 1 = calmer images
    enlarge: Callable | None = None       # ([B 3 h w], generator) -> {"low_res": [B 3 H W], ...}
    sees_known: bool = False              # whether an Edit's known pixels are a network input
    codec: Codec | None = None            # pixels <-> model space; None = it denoises pixels

    @property
    def process(self) -> Process:
        """The forward process that sampling undoes."""
        return self.denoiser.diffusion

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of its images."""
        if self.codec is not None:
            return self.codec.size, self.codec.size
        _, H, W = self.shape
        return H, W

    @property
    def times(self) -> list:
        """The times a sampling run visits, from noise to 0.

        ValueError if they do not fall from T or below to 0."""
        if isinstance(self.steps, int):
            return list(self.process.times(self.steps))
        check_times(self.steps, self.process.T)
        return list(self.steps)

    def times_of(self, edit: Edit | None) -> list:
        """The times that an edit visits: a partly noised image skips the first ones.

        ValueError if no step is left."""
        if edit is None or edit.strength == 1 or self.enlarge is not None:
            return self.times
        times = [t for t in self.times if t <= edit.strength * self.process.T]
        if len(times) < 2:
            raise ValueError(f"strength={edit.strength}: no step is left; "
                             "choose more strength or more sampling steps")
        return times

    def encode(self, images: Tensor) -> Tensor:
        """Images [B 3 H W] in model space."""
        return images if self.codec is None else self.codec.encode(images)

    def decode(self, x0: Tensor) -> Tensor:
        """Images [B 3 H W] in [-1, 1] from model space."""
        return (x0 if self.codec is None else self.codec.decode(x0)).clamp(-1, 1)

    def kept(self, edit: Edit | None) -> tuple[Callable, ...]:
        """Inpainting: the constraint that puts an edit's kept pixels back, or none.

        Of tokens and latents, those whose cell is kept from edge to edge."""
        if edit is None or edit.keep is None:
            return ()
        cell = 1 if self.codec is None else self.codec.cell
        known = F.avg_pool2d(edit.keep.float(), cell) == 1                      # [B 1 h w]
        return (self.process.keep(self.encode(edit.image), known),)
