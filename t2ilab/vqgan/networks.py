"""VQGAN's autoencoder: an image as a small grid of codes, and back.

VQ-VAE (van den Oord et al. 2017), VQGAN (Esser et al. 2021). An encoder shrinks the image, each
cell takes one entry of a codebook, a decoder makes an image of the entries. Left out: the losses
that train it (vqgan/objective.py), and any diffusion.
"""
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..nets.attention import Attention
from ..nets.layers import Downsample, Upsample, check_images, group_norm
from ..ranges import check_ranges
from .quantizers import QUANTIZERS


@dataclass(frozen=True)
class VQGANConfig:
    """The size of a VQGAN, its codebook, and how that is learned."""
    channels: int = 128                                          # width at full size
    channel_mult: tuple[int, ...] = (1, 1, 2, 4)                 # width per level, times channels
    blocks: int = 2                                              # per level down; one more up
    attention: tuple[bool, ...] = (False, False, False, True)    # levels with self-attention
    z_channels: int = 256                                        # width between the two
    codebook_dim: int = 256                                      # D, numbers per codebook entry
    codebook_size: int = 8192                                    # K, entries of the codebook
    quantizer: str = "nearest"                                   # nearest, ema or gumbel
    patch: int = 1                                               # patch side (pixels) of the stem

    def __post_init__(self):
        check_ranges(self)
        if len(self.channel_mult) != len(self.attention):
            raise ValueError(f"channel_mult has {len(self.channel_mult)} levels and "
                             f"attention {len(self.attention)}: give one entry a level in each")
        if self.quantizer not in QUANTIZERS:
            known = ", ".join(QUANTIZERS)
            raise ValueError(f"quantizer={self.quantizer!r}: choose one of {known}")

    @property
    def factor(self) -> int:
        """Pixels along each side of a code's cell."""
        return self.patch * 2 ** (len(self.channel_mult) - 1)


norm = partial(group_norm, eps=1e-6)             # as published; the U-Nets have 1e-5


class Block(nn.Module):
    """Residual block of two convolutions: [B C_in H W] -> [B C_out H W]."""

    def __init__(self, c_in: int, c_out: int):
        super().__init__()
        self.norm1, self.conv1 = norm(c_in), nn.Conv2d(c_in, c_out, 3, padding=1)
        self.norm2, self.conv2 = norm(c_out), nn.Conv2d(c_out, c_out, 3, padding=1)
        self.skip = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))                                # [B C_out H W]
        h = self.conv2(F.silu(self.norm2(h)))                                # [B C_out H W]
        return self.skip(x) + h


def _level(c_in: int, c_out: int, blocks: int, attention: bool) -> Iterable[nn.Module]:
    """Residual blocks of one size, each followed by attention if the level has any."""
    for width in [c_in] + [c_out] * (blocks - 1):
        yield Block(width, c_out)
        if attention:
            yield Attention(c_out, head_channels=None, norm=norm)


def _middle(channels: int) -> list[nn.Module]:
    first = Block(channels, channels)
    attention = Attention(channels, head_channels=None, norm=norm)
    return [first, attention, Block(channels, channels)]


def encoder(c: VQGANConfig) -> nn.Sequential:
    """Encoder: images [B 3 H W] -> features [B Z h w], h = H / factor."""
    widths = [c.channels * m for m in c.channel_mult]
    layers = [nn.PixelUnshuffle(c.patch), nn.Conv2d(3 * c.patch ** 2, c.channels, 3, padding=1)]
    for above, width, attention in zip([c.channels, *widths], widths, c.attention):
        layers += _level(above, width, c.blocks, attention)
        layers.append(Downsample(width, tf_padding=True))
    layers.pop()                                                 # the last level does not halve
    last = widths[-1]
    layers += [*_middle(last), norm(last), nn.SiLU()]
    return nn.Sequential(*layers, nn.Conv2d(last, c.z_channels, 3, padding=1))


def decoder(c: VQGANConfig) -> nn.Sequential:
    """Decoder: features [B Z h w] -> images [B 3 H W]."""
    widths = [c.channels * m for m in reversed(c.channel_mult)]
    layers = [nn.Conv2d(c.z_channels, widths[0], 3, padding=1), *_middle(widths[0])]
    for below, width, attention in zip([widths[0], *widths], widths, reversed(c.attention)):
        layers += _level(below, width, c.blocks + 1, attention)
        layers.append(Upsample(width))
    layers.pop()                                                 # the last level does not double
    last = widths[-1]
    layers += [norm(last), nn.SiLU(), nn.Conv2d(last, 3 * c.patch ** 2, 3, padding=1)]
    return nn.Sequential(*layers, nn.PixelShuffle(c.patch))


class VQGAN(nn.Module):
    """VQGAN: images [B 3 H W] in [-1, 1] <-> codes [B h w] int64 in 0..K-1.

    H and W divide by config.factor.  Lesson: notebooks/07_codec.ipynb"""

    def __init__(self, config: VQGANConfig = VQGANConfig()):
        super().__init__()
        self.config = config
        self.encoder, self.decoder = encoder(config), decoder(config)
        self.quant_conv = nn.Conv2d(config.z_channels, config.codebook_dim, 1)
        self.post_quant_conv = nn.Conv2d(config.codebook_dim, config.z_channels, 1)
        self.quantizer = QUANTIZERS[config.quantizer](config.codebook_size, config.codebook_dim)

    def forward(self, images: Tensor, generator=None) -> tuple[Tensor, Tensor, Tensor]:
        """(reconstructions [B 3 H W], codes [B h w], quantiser's loss [B]); straight-through."""
        z_q, codes, loss = self.quantizer(self.features(images), generator)
        return self.decoder(self.post_quant_conv(z_q)), codes, loss

    def features(self, images: Tensor) -> Tensor:
        """The encoder's features of each cell, before they are rounded to a code: [B D h w].

        ValueError for sizes it cannot cut into cells."""
        shape, factor = list(images.shape), self.config.factor
        check_images(f"images {shape}", shape, channels=3, factor=factor, taker="this codec")
        return self.quant_conv(self.encoder(images))

    def encode(self, images: Tensor) -> Tensor:
        """The codes of images: [B h w] int64.

        Always the same ones for the same image, whatever the quantiser does in training."""
        return self.quantizer.nearest(self.features(images))

    def decode(self, codes: Tensor) -> Tensor:
        """The images [B 3 H W] of codes [B h w].  ValueError for codes outside 0..K-1."""
        K = self.config.codebook_size
        low, high = (int(codes.min()), int(codes.max())) if codes.numel() else (0, 0)
        if codes.ndim != 3 or low < 0 or high >= K:
            raise ValueError(f"codes {list(codes.shape)}: this codec takes [B h w] in 0..{K - 1}")
        return self.decoder(self.post_quant_conv(self.quantizer.embed(codes)))

    def with_codes(self, kept: Sequence[int]) -> "VQGAN":
        """The same codec with some of its codes alone: its code k is kept[k] here.

        kept: two or more different ones of 0..K-1.  A cell takes the nearest of them, or where a
        network chooses the likeliest."""
        fewer, rows = VQGAN(replace(self.config, codebook_size=len(kept))), torch.tensor(kept)
        weights = self.state_dict()
        for name, v in weights.items():
            if name.startswith("quantizer.") and v.ndim:         # all but a counter: a row per code
                weights[name] = v[rows]
        fewer.load_state_dict(weights)
        return fewer
