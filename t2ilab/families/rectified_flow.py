"""Rectified flow (Liu, Gong & Liu 2023): data and noise joined by straight lines,
and a network that predicts the velocity along them.

The same U-Net and the same loop as DDPM's; what differs are the two tables of the process, the
target, and the steps, which are Euler's. With labels, some are dropped in training, so that
guidance can be turned on when sampling.
"""
from dataclasses import dataclass, field, replace

from ..diffusion.cond import Cond
from ..diffusion.gaussian import rectified_flow
from ..diffusion.gaussian_denoiser import GaussianDenoiser, ObjectiveConfig
from ..diffusion.sampling import ddim
from ..nets.unet import UNet, UNetConfig
from ..pipeline.walk import Pipeline
from ..ranges import check_ranges
from .base import FamilyConfig, check_size, check_steps, class_names, label_cond, pixel_stage
from .ddpm import Labels


@dataclass(frozen=True)
class RectifiedFlowConfig(FamilyConfig):
    """Rectified flow over pixels, with class labels or without."""
    size: int = 32                           # pixels, H = W
    T: int = 1000                            # times that training draws from
    net: UNetConfig = field(default_factory=UNetConfig)
    objective: ObjectiveConfig = ObjectiveConfig(predict="velocity")
    sampling_steps: int = 50                 # network calls per image, each an Euler step
    guidance_scale: float = 1.0              # 1 = off, 0 = unconditional; needs labels
    labels: tuple[str, ...] = ()             # class names; training fills them in from the data set

    def __post_init__(self):
        check_ranges(self)
        check_steps(self)
        check_size(self.size, self.net)
        if self.objective.variance != "small":
            raise ValueError(f"variance={self.objective.variance!r}: a flow adds no noise "
                             "on its way, so choose small")

    @property
    def reads(self) -> str:
        return "label" if self.net.classes else "none"

    def build(self) -> GaussianDenoiser:
        """The denoiser, with random weights."""
        return GaussianDenoiser(UNet(self.net), rectified_flow(self.T), self.objective)

    def pipeline(self, model: GaussianDenoiser | None = None) -> Pipeline:
        """One stage, from noise to pixels by Euler's steps."""
        stage = pixel_stage(self, model, ddim(0.0))
        return Pipeline(Labels(self.labels, self.net.classes), (stage,))

    def fit_to_dataset(self, dataset) -> "RectifiedFlowConfig":
        """The same model with the data set's class names.
        ValueError if their number is not the network's."""
        return replace(self, labels=class_names(self, dataset))

    def to_training_pair(self, batch, generator=None):
        """(x0 [B 3 H W] in [-1, 1], Cond) from images and labels; a label of -1 is no label."""
        return batch.images, label_cond(batch.labels) if self.net.classes else Cond()
