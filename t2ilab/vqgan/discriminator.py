"""PatchGAN discriminator: one real/fake logit per patch; its loss sharpens a decoder's textures.

PatchGAN (Isola et al. 2017), as in VQGAN (Esser et al. 2021). Groups are normalised, not batches,
so that an image's logits do not depend on its neighbours in the batch.
"""
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from ..nets.layers import group_norm
from ..ranges import check_ranges


@dataclass(frozen=True)
class DiscriminatorConfig:
    """The size of a discriminator."""
    discriminator_channels: int = 64      # width after the first layer; doubles per layer, up to 8x
    discriminator_layers: int = 3         # stride-2 layers; 3 = receptive field of 70x70 pixels

    def __post_init__(self):
        check_ranges(self)


class Discriminator(nn.Module):
    """Discriminator: images [B 3 H W] -> logits [B 1 h w], higher = more like a real image.

    ValueError for images that leave no patch to judge."""

    def __init__(self, config: DiscriminatorConfig = DiscriminatorConfig()):
        super().__init__()
        n = config.discriminator_layers
        self.least = max(4, 3 * 2 ** n)           # pixels along each side that leave one logit
        widths = [config.discriminator_channels * min(2 ** k, 8) for k in range(n + 1)]
        first = nn.Conv2d(3, widths[0], 4, stride=2, padding=1)
        layers: list[nn.Module] = [first, nn.LeakyReLU(0.2)]
        for k, (above, width) in enumerate(zip(widths, widths[1:]), start=1):
            stride = 2 if k < n else 1
            conv = nn.Conv2d(above, width, 4, stride=stride, padding=1, bias=False)
            layers += [conv, group_norm(width), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 4, padding=1))

    def check(self, images: Tensor) -> None:
        """ValueError for images [B 3 H W] that leave no patch to judge."""
        H, W = images.shape[-2:]
        if min(H, W) < self.least:
            raise ValueError(f"pictures of {H} x {W} pixels are too small for this discriminator, "
                             f"which needs {self.least} or more: "
                             "choose fewer --discriminator-layers, or --adversarial 0")

    def forward(self, images: Tensor) -> Tensor:
        self.check(images)
        return self.layers(images)


def hinge(real: Tensor, painted: Tensor) -> Tensor:
    """Hinge loss of a discriminator: logits [B 1 h w] of real and of reconstructed images -> [B].

    It is 0 where real images get at least 1, and reconstructions at most -1."""
    return 0.5 * (F.relu(1 - real) + F.relu(1 + painted)).flatten(1).mean(1)
