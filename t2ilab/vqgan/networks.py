"""VQGAN: a picture as a small grid of codes, and back. An encoder shrinks it, each cell takes one entry of a
codebook, a decoder paints it again.

VQ-VAE (van den Oord et al. 2017), VQGAN (Esser et al. 2021). Left out: the losses that train it
(vqgan/objective.py), and any diffusion.
"""
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..nets.attention import Attention
from ..nets.layers import Downsample, Upsample, group_norm
from .quantizers import QUANTIZERS


@dataclass(frozen=True)
class VQGANConfig:
    channels: int = 128                                          # width at the door
    # width of each level, times channels; each but the last halves the picture
    channel_mult: tuple[int, ...] = (1, 1, 2, 4)
    blocks: int = 2  # residual blocks a level on the way down; one more on the way up
    attention: tuple[bool, ...] = (False, False, False, True)    # which levels let pixels look at each other
    z_channels: int = 256                                        # width at the bottom
    codebook_dim: int = 256                                        # D, numbers an entry of the codebook has
    codebook_size: int = 8192                                            # K, entries of the codebook
    # nearest (VQ-VAE), ema (codebook by moving averages) or gumbel (soft choice in training)
    quantizer: str = "nearest"
    patch: int = 1                                               # pixels folded into channels at the door

    def __post_init__(self):
        if len(self.channel_mult) != len(self.attention):
            raise ValueError(
                f"channel_mult has {len(self.channel_mult)} levels and attention {len(self.attention)}: give "
                "one entry a level in each"
            )
        if self.quantizer not in QUANTIZERS:
            raise ValueError(f"quantizer={self.quantizer!r}: choose one of {', '.join(QUANTIZERS)}")
        if self.codebook_size < 2:
            raise ValueError(f"codebook_size={self.codebook_size}: choose 2 or more")

    @property
    def factor(self) -> int:
        """Pixels along each side of a code's cell."""
        return self.patch * 2 ** (len(self.channel_mult) - 1)


norm = partial(group_norm, eps=1e-6)             # as published; the U-Nets have 1e-5


class Block(nn.Module):
    """Two convolutions and a shortcut: [B C_in H W] -> [B C_out H W]."""

    def __init__(self, c_in: int, c_out: int):
        super().__init__()
        self.norm1, self.conv1 = norm(c_in), nn.Conv2d(c_in, c_out, 3, padding=1)
        self.norm2, self.conv2 = norm(c_out), nn.Conv2d(c_out, c_out, 3, padding=1)
        self.skip = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.skip(x) + self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))


def _level(c_in: int, c_out: int, blocks: int, attention: bool) -> list[nn.Module]:
    """Residual blocks of one size, each followed by attention if the level has any."""
    layers: list[nn.Module] = []
    for k in range(blocks):
        layers += [Block(c_in if k == 0 else c_out, c_out),
                   *([Attention(c_out, head_channels=None, norm=norm)] if attention else [])]
    return layers


def _middle(channels: int) -> list[nn.Module]:
    return [Block(channels, channels), Attention(channels, head_channels=None, norm=norm),
            Block(channels, channels)]


def encoder(c: VQGANConfig) -> nn.Sequential:
    """Pictures [B 3 H W] -> [B Z h w], h = H / factor."""
    widths = [c.channels * m for m in c.channel_mult]
    layers = [nn.PixelUnshuffle(c.patch), nn.Conv2d(3 * c.patch ** 2, c.channels, 3, padding=1)]
    for above, width, attention in zip([c.channels, *widths], widths, c.attention):
        layers += _level(above, width, c.blocks, attention) + [Downsample(width, tf_padding=True)]
    layers.pop()  # the last level does not halve
    return nn.Sequential(*layers, *_middle(widths[-1]), norm(widths[-1]), nn.SiLU(),
                         nn.Conv2d(widths[-1], c.z_channels, 3, padding=1))


def decoder(c: VQGANConfig) -> nn.Sequential:
    """[B Z h w] -> pictures [B 3 H W]."""
    widths = [c.channels * m for m in reversed(c.channel_mult)]
    layers = [nn.Conv2d(c.z_channels, widths[0], 3, padding=1), *_middle(widths[0])]
    for below, width, attention in zip([widths[0], *widths], widths, reversed(c.attention)):
        layers += _level(below, width, c.blocks + 1, attention) + [Upsample(width)]
    layers.pop()
    return nn.Sequential(*layers, norm(widths[-1]), nn.SiLU(),
                         nn.Conv2d(widths[-1], 3 * c.patch ** 2, 3, padding=1), nn.PixelShuffle(c.patch))


class VQGAN(nn.Module):
    """Pictures [B 3 H W] in [-1, 1] <-> codes [B h w] int64 in 0..K-1.  H and W divide by config.factor.
    Lesson: notebooks/07_codec.ipynb"""

    def __init__(self, config: VQGANConfig = VQGANConfig()):
        super().__init__()
        self.config = config
        self.encoder, self.decoder = encoder(config), decoder(config)
        self.quant_conv = nn.Conv2d(config.z_channels, config.codebook_dim, 1)
        self.post_quant_conv = nn.Conv2d(config.codebook_dim, config.z_channels, 1)
        self.quantizer = QUANTIZERS[config.quantizer](config.codebook_size, config.codebook_dim)

    def forward(self, images: Tensor, generator=None) -> tuple[Tensor, Tensor, Tensor]:
        """(pictures painted again [B 3 H W], their codes [B h w], what the quantiser wants to be small [B]);
        straight-through gradients."""
        z_q, codes, loss = self.quantizer(self.features(images), generator)
        return self.decoder(self.post_quant_conv(z_q)), codes, loss

    def features(self, images: Tensor) -> Tensor:
        """What the encoder sees in each cell, before it is rounded to a code: [B D h w].  ValueError for
        sizes it cannot cut into cells."""
        side = self.config.factor
        if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] % side or images.shape[3] % side:
            raise ValueError(
                f"images {list(images.shape)}: this codec takes [B 3 H W] with H and W divisible by {side}"
            )
        return self.quant_conv(self.encoder(images))

    def encode(self, images: Tensor) -> Tensor:
        """The codes of pictures: [B h w] int64. Always the same ones for the same picture, whatever the
        quantiser does in training."""
        return self.quantizer.nearest(self.features(images))

    def decode(self, codes: Tensor) -> Tensor:
        """The pictures [B 3 H W] of codes [B h w].  ValueError for codes outside 0..K-1."""
        if (
            codes.ndim != 3
            or codes.numel()
            and not 0 <= int(codes.min()) <= int(codes.max()) < self.config.codebook_size
        ):
            raise ValueError(f"codes {list(codes.shape)}: this codec takes [B h w] in "
                             f"0..{self.config.codebook_size - 1}")
        return self.decoder(self.post_quant_conv(self.quantizer.embed(codes)))

    def with_codes(self, kept: Sequence[int]) -> "VQGAN":
        """The same codec with some of its codes alone: its code k is kept[k] here.

        kept: two or more different ones of 0..K-1.  A cell takes the nearest of them, or where a network
        chooses the likeliest."""
        fewer, rows = VQGAN(replace(self.config, codebook_size=len(kept))), torch.tensor(kept)
        # all but a counter: a row a code
        of_a_code = {name for name, v in self.state_dict().items() if name.startswith("quantizer.")
                     and v.ndim}
        fewer.load_state_dict({name: v[rows] if name in of_a_code else v
                               for name, v in self.state_dict().items()})
        return fewer
