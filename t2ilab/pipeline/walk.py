"""Pipeline: from captions to images, with every intermediate on the table.

All families are instances of one `Pipeline`: something that reads captions, and one or more stages
that denoise, each at its own size.
"""
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..data.captions import clean
from ..diffusion.cond import Cond
from ..diffusion.guidance import constrained, guided
from ..diffusion.sampling import trajectory
from ..tensors import Source, generator_per_image
from .edit import Edit, given, repeated
from .protocols import TextEncoder
from .stage import Stage


@dataclass(frozen=True)
class Pipeline:
    """Captions in, images out.  `pipeline(["red circle"], seed=1)`."""
    encode_text: TextEncoder              # list of B captions -> (text, mask)
    stages: tuple[Stage, ...]
    negative_prompt: str | None = None    # pushed away from, unless the call says otherwise

    @torch.no_grad()
    def walk(self, captions: int | Sequence[str], seed: int = 0, *,
             negative_prompt: Sequence[str] | None = None, edit: Edit | None = None,
             low_res_image: Tensor | None = None,
             sources: Sequence[torch.Generator] | None = None) -> Iterator[tuple[str, Any]]:
        """Every intermediate as (name, value), from caption to pixels.

        In order: cond, then (low_res,) x_T and frames for each stage, then image.
        captions: B strings ("" = no caption), or a number of images without one.
        negative_prompt: B captions to push away from, or one for all; None = the pipeline's own.
        edit: an image to start from.
        low_res_image: [B or 1, 3 h w] in [-1, 1], what an upsampler enlarges.
        sources: one generator per image, where a batch is a part of a larger one (see
        tensors.generator_per_image).
        The same seed and caption give the same image on any device, alone or in any batch.
        Lesson: notebooks/03_ddpm.ipynb"""
        captions = listed(captions)
        B = len(captions)
        noise = sources or generator_per_image(captions, seed)
        cond = self._read(captions)
        if negative_prompt is None and self.negative_prompt is not None:
            negative_prompt = [self.negative_prompt]
        against = None if negative_prompt is None else self._read(_negative(negative_prompt, B))
        yield "cond", cond
        x = None
        if low_res_image is not None:
            x = repeated(low_res_image, B, "low_res_image").to(self.device)
        _check_start(self.stages[0], edit, low_res_image)
        for stage in self.stages:
            fitted = None if edit is None else edit.at(B, stage.size, self.device)
            seen = _seen(stage, x, fitted, noise)
            if "low_res" in seen:
                yield "low_res", seen["low_res"]
            denoise = _denoise(stage, cond, against, seen)
            denoise = constrained(denoise, *stage.constrain, *stage.kept(fitted))
            begin = None if stage.enlarge else fitted
            x, times = _start(stage, B, begin, noise, self.device)
            yield "x_T", x
            for frame in trajectory(denoise, stage.process, x, times,
                                    sampler=stage.sampler, generator=noise):
                x = frame.x
                yield "frame", frame
            x = stage.decode(x)
        yield "image", x

    def __call__(self, captions: int | Sequence[str], seed: int = 0, **options) -> Tensor:
        """Images [B 3 H W] in [-1, 1]: the last value of the walk.  options: see walk."""
        for _, value in self.walk(captions, seed, **options):
            pass
        return value

    def _read(self, captions: Sequence[str]) -> Cond:
        return Cond(*self.encode_text(captions)).map(lambda v: v.to(self.device))

    @property
    def model(self) -> nn.Module:
        """The first stage's denoiser."""
        return self.stages[0].denoiser

    @property
    def device(self) -> torch.device:
        """The device that holds the networks."""
        return next(self.model.parameters()).device

    def with_(self, **changes) -> "Pipeline":
        """The same pipeline with other settings of its first stage: `with_(guidance_scale=3)`.

        changes: fields of Stage.  Lesson: notebooks/05_glide.ipynb"""
        return replace(self, stages=(replace(self.stages[0], **changes), *self.stages[1:]))

    def to(self, device) -> "Pipeline":
        """This pipeline with its networks moved."""
        for stage in self.stages:
            stage.denoiser.to(device)
        return self


def listed(captions: int | Sequence[str]) -> list[str]:
    """Captions as a list, "" for each image where only their number is given.

    ValueError for a single string, or none at all."""
    if isinstance(captions, str):
        raise ValueError(f"captions={captions[:60]!r} is one string: "
                         "give a list of captions, or a number of pictures")
    if isinstance(captions, int):
        captions = [""] * captions
    else:
        captions = [clean(c) if isinstance(c, str) else c for c in captions]
    if not captions:
        raise ValueError("no captions: give at least one, or a number of pictures")
    return captions


def _negative(negative_prompt: Sequence[str], batch: int) -> list[str]:
    negative_prompt = listed(negative_prompt)
    if len(negative_prompt) not in (1, batch):
        raise ValueError(f"{len(negative_prompt)} negative captions for {batch} pictures: "
                         "give one for all, or one each")
    return negative_prompt * (batch // len(negative_prompt))


def _check_start(first: Stage, edit: Edit | None, low_res_image: Tensor | None) -> None:
    if first.enlarge is None and low_res_image is not None:
        raise ValueError("this model draws pictures and enlarges none: "
                         "start from one with an Edit (--init-image) instead")
    if first.enlarge is not None and edit is not None and edit.strength < 1:
        raise ValueError(f"strength={edit.strength}: this model enlarges pictures, "
                         "so there is nothing to noise only partly")


def _seen(stage: Stage, low_res_image: Tensor | None, edit: Edit | None,
          noise: Source) -> dict[str, Tensor]:
    """Network inputs besides the caption: the previous stage's image, the known pixels."""
    seen: dict[str, Tensor] = {}
    if stage.enlarge is not None:
        if low_res_image is None:
            raise ValueError("this model enlarges pictures and draws none itself: "
                             "give it one (low_res_image=, --low-res-image)")
        seen |= stage.enlarge(low_res_image, noise)
    if stage.sees_known and edit is not None and edit.keep is not None:
        seen["known"] = given(edit.image, edit.keep)
    return seen


def _denoise(stage: Stage, cond: Cond, against: Cond | None, seen: dict[str, Tensor]):
    """denoise(x_t, t) of a stage under guidance; its network sees `seen` in both conditions."""
    negative = None if against is None else replace(against, **seen)
    cond = replace(cond, **seen)
    return guided(stage.denoiser, cond, stage.guidance_scale, negative=negative)


def _start(stage: Stage, batch: int, edit: Edit | None, noise: Source,
           device) -> tuple[Tensor, list]:
    """x_T [B ...] of a stage, and its times."""
    process, times = stage.process, stage.times_of(edit)
    if edit is None or edit.strength == 1:
        x = process.prior((batch, *stage.shape), device=device, generator=noise)
        return x if stage.temperature == 1 else stage.temperature * x, times
    return process.diffuse(stage.encode(edit.image), times[0], noise), times
