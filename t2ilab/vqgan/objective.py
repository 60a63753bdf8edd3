"""What trains a codec: paint the picture again, keep the codes close, look right to a network's eyes, and
fool a discriminator that learns meanwhile.

VQGAN (Esser et al. 2021). The discriminator's loss and the codec's are added up: each weight gets the
gradient of its own loss only, and AdamW and Muon move every weight by its own gradient, so one optimiser does
for two; only clipping looks at both together. training/fit.py does the rest.
"""
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..diffusion.cond import Cond
from .discriminator import Discriminator, DiscriminatorConfig, hinge
from .networks import VQGAN, VQGANConfig
from .perceptual import PERCEPTUAL


@dataclass(frozen=True)
class VQGANLossConfig:
    absolute: float = 1.0            # weight of the mean absolute error of a colour value
    squared: float = 0.0             # weight of the mean squared error
    perceptual: float = 1.0          # weight of how different both pictures look to a network
    # that network: vgg16 (torchvision's weights, fetched once) or scenes (ships with the project)
    perceptual_net: str = "vgg16"
    # weight of the discriminator's mark, on top of the adaptive weight; 0 = no discriminator
    adversarial: float = 0.8
    # steps after which the discriminator counts; it starts to learn there too
    discriminator_start: int = 10_000
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)

    def __post_init__(self):
        if self.perceptual_net not in PERCEPTUAL:
            raise ValueError(f"eyes={self.eyes!r}: choose one of {', '.join(PERCEPTUAL)}")


class VQGANObjective(nn.Module):
    """A codec with all that trains it: `.loss` is what training/fit.py minimises,
    `.codec` what is used afterwards."""

    def __init__(self, config: VQGANConfig, loss: VQGANLossConfig = VQGANLossConfig()):
        super().__init__()
        self.config, self.codec = loss, VQGAN(config)
        self.discriminator = Discriminator(loss.discriminator) if loss.adversarial else None
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self._eyes: list[nn.Module] = []  # in a list, so that frozen eyes are in no checkpoint

    def loss(self, x0: Tensor, cond: Cond = Cond(), generator=None) -> Tensor:
        """[B].  x0: pictures [B 3 H W] in [-1, 1].  Lesson: notebooks/07_codec.ipynb"""
        c = self.config
        if self.discriminator is not None:
            self.discriminator.check(x0)
        has_critic = self.training and self.discriminator is not None
        # asked here, where a GPU has nothing to do
        critic_counts = has_critic and bool(self.seen >= c.discriminator_start)
        painted, _, rounding = self.codec(x0, generator)
        painted = painted.float()
        error = painted - x0
        alike = c.absolute * error.abs().flatten(1).mean(1) + c.squared * error.square().flatten(1).mean(1)
        if c.perceptual:
            alike = alike + c.perceptual * self.perceptual_net(x0.device)(painted, x0)
        loss = alike + rounding
        if has_critic:
            loss = loss + (self._adversarial(x0, painted, alike) if critic_counts else self._idle())
        return loss

    def after_step(self, gather) -> None:
        """Count the steps; training calls this after each."""
        self.seen += 1

    def _idle(self) -> Tensor:
        """0, with a gradient of 0 for every weight of the discriminator:
        several processes want one for each."""
        return sum(0 * p.sum() for p in self.discriminator.parameters())

    def _adversarial(self, x0: Tensor, painted: Tensor, alike: Tensor) -> Tensor:
        """[B]: minus the discriminator's mark, weighted so that it pulls the last layer as hard as the error
        does; plus what the discriminator itself minimises."""
        frozen = {name: p.detach() for name, p in self.discriminator.named_parameters()}
        # no gradient for the discriminator here
        fool = -functional_call(self.discriminator, frozen, (painted,)).flatten(1).mean(1)
        # and none for the codec here
        learn = hinge(self.discriminator(x0), self.discriminator(painted.detach()))
        return self.config.adversarial * self.adaptive_weight(alike, fool) * fool + learn

    def adaptive_weight(self, alike: Tensor, fool: Tensor) -> Tensor:
        """How hard the error pulls the decoder's last layer, divided by how hard the discriminator does."""
        last = next(layer for layer in reversed(self.codec.decoder) if isinstance(layer, nn.Conv2d)).weight
        scale = 2.0 ** 9 * len(alike)  # else gradients of single pixels are 0 in fp16
        pulls = [torch.autograd.grad(loss.mean() * scale, last, retain_graph=True)[0].float().norm() / scale
                 for loss in (alike, fool)]
        return (pulls[0] / (pulls[1] + 1e-4)).clamp(0, 1e4).detach()  # VQGAN adaptive weight

    def perceptual_net(self, device) -> nn.Module:
        """The network that compares pictures, loaded with the first comparison."""
        if not self._eyes:
            self._eyes.append(PERCEPTUAL[self.config.perceptual_net]().to(device))
        return self._eyes[0]

    def report(self) -> dict[str, float]:
        """How many codes are in use."""
        return self.codec.quantizer.usage()
