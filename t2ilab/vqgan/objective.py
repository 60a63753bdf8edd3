"""VQGAN's training objective: reconstruction, codebook, perceptual and adversarial losses.

VQGAN (Esser et al. 2021). The discriminator's loss and the codec's are added up: each weight gets
the gradient of its own loss only, and AdamW and Muon move every weight by its own gradient, so one
optimiser does for two; only clipping looks at both together. training/fit.py does the rest.
"""
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..diffusion.cond import Cond
from ..ranges import check_ranges
from .discriminator import Discriminator, DiscriminatorConfig, hinge
from .networks import VQGAN, VQGANConfig
from .perceptual import PERCEPTUAL


@dataclass(frozen=True)
class VQGANLossConfig:
    """The weights of a VQGAN's losses, and when its discriminator begins."""
    absolute: float = 1.0                # weight of the mean absolute error of a colour value
    squared: float = 0.0                 # weight of the mean squared error
    perceptual: float = 1.0              # weight of the perceptual loss
    perceptual_net: str = "vgg16"        # vgg16 (torchvision's, fetched once) or scenes (shipped)
    adversarial: float = 0.8             # weight of the adversarial loss; 0 = no discriminator
    discriminator_start: int = 10_000    # steps after which the discriminator learns and counts
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)

    def __post_init__(self):
        check_ranges(self)
        if self.perceptual_net not in PERCEPTUAL:
            raise ValueError(f"perceptual_net={self.perceptual_net!r}: choose one of {', '.join(PERCEPTUAL)}")


class VQGANObjective(nn.Module):
    """A VQGAN with its losses: training/fit.py minimises `.loss`; `.codec` is used afterwards."""
    seen: Tensor                 # [] int64: training steps so far

    def __init__(self, config: VQGANConfig, loss: VQGANLossConfig = VQGANLossConfig()):
        super().__init__()
        self.config, self.codec = loss, VQGAN(config)
        self.discriminator = Discriminator(loss.discriminator) if loss.adversarial else None
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self._perceptual: list[nn.Module] = []           # in a list, so that it is in no checkpoint

    def loss(self, x0: Tensor, cond: Cond = Cond(), generator=None) -> Tensor:
        """Training loss [B].  x0: images [B 3 H W] in [-1, 1].  Lesson: notebooks/07_codec.ipynb"""
        c = self.config
        if self.discriminator is not None:
            self.discriminator.check(x0)
        adversarial = self.training and self.discriminator is not None
        # Asked here, where a GPU has nothing to do.
        started = adversarial and bool(self.seen >= c.discriminator_start)
        decoded, _, rounding = self.codec(x0, generator)
        decoded = decoded.float()                                        # [B 3 H W]
        error = decoded - x0
        absolute, squared = _mean(error.abs()), _mean(error.square())    # [B] each
        alike = c.absolute * absolute + c.squared * squared
        if c.perceptual:
            alike = alike + c.perceptual * self.perceptual_net(x0.device)(decoded, x0)
        loss = alike + rounding
        if adversarial:
            loss = loss + (self._adversarial(x0, decoded, alike) if started else self._idle())
        return loss

    def after_step(self, gather) -> None:
        """Count the steps; training calls this after each."""
        self.seen += 1

    def _idle(self) -> Tensor:
        """0, with a gradient of 0 per weight of the discriminator: several processes want one."""
        return sum(0 * p.sum() for p in self.discriminator.parameters())

    def _adversarial(self, x0: Tensor, decoded: Tensor, alike: Tensor) -> Tensor:
        """Adversarial loss, weighted to pull the last layer as hard as the error does: [B].

        What the discriminator itself minimises is added to it."""
        frozen = {name: p.detach() for name, p in self.discriminator.named_parameters()}
        logits = functional_call(self.discriminator, frozen, (decoded,))     # no gradient for it
        fool = -_mean(logits)
        learn = hinge(self.discriminator(x0),
                      self.discriminator(decoded.detach()))                  # none for the codec
        weight = self.config.adversarial * self.adaptive_weight(alike, fool)
        return weight * fool + learn

    def adaptive_weight(self, alike: Tensor, fool: Tensor) -> Tensor:
        """Pull of the error on the decoder's last layer, divided by that of the discriminator."""
        convs = [layer for layer in self.codec.decoder if isinstance(layer, nn.Conv2d)]
        last = convs[-1].weight
        scale = 2.0 ** 9 * len(alike)                # else gradients of single pixels are 0 in fp16

        def pull(loss: Tensor) -> Tensor:
            gradient, = torch.autograd.grad(loss.mean() * scale, last, retain_graph=True)
            return gradient.float().norm() / scale

        return (pull(alike) / (pull(fool) + 1e-4)).clamp(0, 1e4).detach()    # VQGAN adaptive weight

    def perceptual_net(self, device) -> nn.Module:
        """The network that compares images, loaded with the first comparison."""
        if not self._perceptual:
            self._perceptual.append(PERCEPTUAL[self.config.perceptual_net]().to(device))
        return self._perceptual[0]

    def report(self) -> dict[str, float]:
        """Codebook usage: the share of codes in use, and their perplexity."""
        return self.codec.quantizer.usage()


def _mean(v: Tensor) -> Tensor:
    """Mean of each example: [B ...] -> [B]."""
    return v.flatten(1).mean(1)
