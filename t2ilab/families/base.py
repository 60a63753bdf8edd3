"""FamilyConfig: a frozen config that builds what is trained, says how to sample from it, and turns
batches into training pairs.

One paper, one file, one row in FAMILIES. What most families need not say has a default here.
"""
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..data.datasets import open_data
from ..data.loaders import stream
from ..diffusion.cond import Cond
from ..diffusion.constraints import clip
from ..diffusion.gaussian_denoiser import GaussianDenoiser
from ..diffusion.process import Sampler
from ..diffusion.schedules import check_times, timesteps
from ..pipeline.stage import Stage


class FamilyConfig:
    """Base of every family's config, a frozen dataclass.  A family says at least size, build,
    pipeline and to_training_pair."""
    size: int                                    # pixels, H = W

    stream = staticmethod(stream)                # endless batches of its data set

    def open_data(self, data):
        """The data set that a DataConfig names, as this model sees it."""
        return open_data(data.data, data.root, size=self.size, split=data.split, crop=data.crop,
                         flip=data.flip, limit=data.limit, download=data.download,
                         max_broken=data.max_broken)

    def build(self) -> nn.Module:
        """What is trained, with random weights: a module with .loss(x0, cond, generator) -> [B]."""
        raise NotImplementedError

    def pipeline(self, model: nn.Module | None = None):
        """Pipeline that samples from a trained model (None: from one with random weights):
        something that is called with captions."""
        raise NotImplementedError

    def to_training_pair(self, batch,
                         generator: torch.Generator | None = None) -> tuple[Tensor, Cond]:
        """(x0 [B ...], Cond) from a batch of images, captions and labels."""
        raise NotImplementedError

    def preview_inputs(self, batch) -> tuple[Any, dict]:
        """(captions or a number of images, options of the pipeline) for previews in training."""
        captions = batch.captions if self.reads == "text" else len(batch.images)
        options = {"low_res_image": batch.images} if self.needs_image else {}
        return captions, options

    @property
    def reads(self) -> str:
        """What conditions it: "text", "label" or "none"."""
        return "none"

    @property
    def needs_image(self) -> bool:
        """Whether sampling starts from an image, as an upsampler and an autoencoder do."""
        return False

    @property
    def new_parameters(self) -> tuple[str, ...]:
        """Parameters that the weights of another run may lack, such as a null embedding;
        they keep their fresh initialisation."""
        return ()

    def check_parts(self) -> None:
        """FileNotFoundError in one line, if something else that the model is made of,
        such as its text encoder, is not there."""

    def fit_to_dataset(self, dataset) -> "FamilyConfig":
        """The same model with what it takes from its data set,
        such as a vocabulary.  ValueError if they do not fit."""
        return self

    def adapt_to_checkpoint(self, first: "FamilyConfig") -> "FamilyConfig":
        """The same model with what the weights of another run of its family know,
        such as their vocabulary."""
        return self

    def extend(self, tensors: Mapping[str, Tensor], first: "FamilyConfig",
               own: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Weights of another run of its family in the shapes that this model has.
        own: this model's fresh ones."""
        return tensors

    def as_upsampler_of(self, base: "FamilyConfig") -> "FamilyConfig":
        """The same model as the stage of a cascade that upsamples another one's images.
        ValueError if it is none."""
        raise ValueError(f"{type(self).__name__} enlarges no images")


def check_choices(config, **allowed) -> None:
    """ValueError for the first field of a config that is none of the names allowed for it."""
    for name, names in allowed.items():
        if (value := getattr(config, name)) not in names:
            raise ValueError(f"{name}={value!r}: choose one of {', '.join(map(str, names))}")


def check_steps(config) -> None:
    """ValueError unless T noising steps allow the config's sampling steps, or falling times."""
    T, steps = config.T, config.sampling_steps
    if isinstance(steps, tuple):
        check_times(steps, T)
    else:
        timesteps(T, steps)


def check_size(size: int, net, name: str = "size") -> None:
    """ValueError for images, or latents, that a U-Net's levels do not halve evenly."""
    if size % net.factor:
        raise ValueError(f"{name}={size}: this U-Net takes sizes divisible by {net.factor}")


def pixel_stage(config, model: GaussianDenoiser | None, sampler: Sampler) -> Stage:
    """The stage of a config that draws pixels, its x0 clipped to [-1, 1].

    model: the denoiser; None: one with random weights."""
    return Stage(
        denoiser=model or config.build(),
        shape=(3, config.size, config.size),
        steps=config.sampling_steps,
        guidance_scale=config.guidance_scale,
        constrain=(clip,),
        sampler=sampler)


def class_names(config, dataset) -> tuple[str, ...]:
    """The data set's class names, or a config's own labels where its network has no classes.

    ValueError if the network's classes are not as many as the data set's."""
    classes = config.net.classes
    if not classes:
        return config.labels
    if classes != (n := len(dataset.classes)):
        raise ValueError(f"classes={classes}, but the data set has {n}: train with --classes {n}")
    return tuple(dataset.classes)


def label_cond(labels: Tensor) -> Cond:
    """Labels [B] int64 as a condition; -1 is no label."""
    return Cond(labels.clamp(min=0)[:, None], (labels >= 0)[:, None])
