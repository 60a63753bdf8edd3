"""From captions to pictures, with every intermediate on the table.

All families are instances of one `TextToImage`: something that reads captions, and one or more stages that denoise.
"""
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .diffusion.denoiser import Cond
from .diffusion.guidance import constrained, guided
from .diffusion.sampling import ancestral, trajectory
from .diffusion.schedules import timesteps
from .tensors import generator


@dataclass(frozen=True)
class Stage:
    """One denoiser and how to sample from it."""
    denoiser: nn.Module
    shape: tuple[int, ...]                  # of one sample: (3, H, W)
    steps: int = 50                         # network calls a picture, up to the diffusion's T
    guidance_scale: float = 1.0             # 1 = off, 0 = unconditional
    constrain: tuple[Callable, ...] = ()    # functions x0 -> x0, applied in order
    sampler: Callable = ancestral           # diffusion -> step


@dataclass(frozen=True)
class TextToImage:
    """Captions in, pictures out.  `pipeline(["red circle"], seed=1)`."""
    encode_text: Callable                   # list of B captions -> (text [B L D] or [B 1] int64 or None, mask [B L] bool or None)
    stages: tuple[Stage, ...]

    @torch.no_grad()
    def walk(self, captions: int | Sequence[str], seed: int = 0) -> Iterator[tuple[str, object]]:
        """Every intermediate as (name, value), from caption to pixels, in order.

        captions: B strings ("" = no caption), or a number of pictures without one.  The same seed gives the same pictures on any device.
        Lesson: notebooks/03_ddpm.ipynb"""
        if isinstance(captions, str):
            raise ValueError(f"captions={captions[:60]!r} is one string: give a list of captions, or a number of pictures")
        captions = [""] * captions if isinstance(captions, int) else list(captions)
        if not captions:
            raise ValueError("no captions: give at least one, or a number of pictures")
        g, device = generator(seed), self.device
        text, mask = self.encode_text(captions)
        cond = Cond(text, mask).map(lambda v: v.to(device))
        yield "cond", cond
        for stage in self.stages:
            diffusion = stage.denoiser.diffusion
            x = diffusion.prior((len(captions), *stage.shape), device=device, generator=g)
            yield "x_T", x
            denoise = constrained(guided(stage.denoiser, cond, stage.guidance_scale), *stage.constrain)
            times = timesteps(diffusion.T, stage.steps)
            for frame in trajectory(denoise, diffusion, x, times, sampler=stage.sampler, generator=g):
                x = frame.x
                yield "frame", frame
        yield "image", x.clamp(-1, 1)

    def __call__(self, captions: int | Sequence[str], seed: int = 0) -> Tensor:
        """Pictures [B 3 H W] in [-1, 1]: the last value of the walk."""
        for _, value in self.walk(captions, seed):
            pass
        return value

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return next(self.stages[0].denoiser.parameters()).device

    def to(self, device) -> "TextToImage":
        """This pipeline with its networks moved."""
        for stage in self.stages:
            stage.denoiser.to(device)
        return self
