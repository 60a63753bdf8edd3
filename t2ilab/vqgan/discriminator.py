"""A discriminator that marks every patch of a picture as real or painted,
for a codec to learn crisp textures from.

PatchGAN (Isola et al. 2017), as in VQGAN (Esser et al. 2021). Groups are normalised, not batches, so that a
picture's marks do not depend on its neighbours.
"""
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from ..nets.layers import group_norm


@dataclass(frozen=True)
class DiscriminatorConfig:
    discriminator_channels: int = 64  # width after the first layer; doubles with each, up to eight times
    discriminator_layers: int = 3  # how often it halves the picture: with 3, a mark sees 70 x 70 pixels


class Discriminator(nn.Module):
    """Pictures [B 3 H W] -> marks [B 1 h w], higher = more like a real one."""

    def __init__(self, config: DiscriminatorConfig = DiscriminatorConfig()):
        super().__init__()
        # pixels along each side that leave one mark
        self.least = max(4, 3 * 2 ** config.discriminator_layers)
        widths = [config.discriminator_channels * min(2 ** k, 8)
                  for k in range(config.discriminator_layers + 1)]
        layers: list[nn.Module] = [nn.Conv2d(3, widths[0], 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for k, (above, width) in enumerate(zip(widths, widths[1:]), start=1):
            stride = 2 if k < config.discriminator_layers else 1
            layers += [nn.Conv2d(above, width, 4, stride=stride, padding=1, bias=False), group_norm(width),
                       nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 4, padding=1))

    def check(self, images: Tensor) -> None:
        """ValueError for pictures [B 3 H W] that leave no patch to mark."""
        if min(images.shape[-2:]) < self.least:
            H, W = images.shape[-2:]
            raise ValueError(
                f"pictures of {H} x {W} pixels are too small for this discriminator, "
                f"which needs {self.least} or more: choose fewer --discriminator-halvings, or --adversarial 0"
            )

    def forward(self, images: Tensor) -> Tensor:
        self.check(images)
        return self.layers(images)


def hinge(real: Tensor, painted: Tensor) -> Tensor:
    """What a discriminator minimises, [B]: marks of at least 1 for real pictures,
    at most -1 for painted ones."""
    return 0.5 * (F.relu(1 - real) + F.relu(1 + painted)).flatten(1).mean(1)
