"""The small parts every network here is built from: a clock, a residual block, attention, halving and doubling.

DDPM (Ho et al. 2020) and improved DDPM (Nichol & Dhariwal 2021). Last layers start at zero, so that a new block changes nothing yet.
"""
import math
import torch
import torch.nn.functional as F
from torch import Tensor, nn


def zero(layer: nn.Module) -> nn.Module:
    """The layer with its weights and bias set to zero."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def group_norm(channels: int, eps: float = 1e-5) -> nn.GroupNorm:
    """GroupNorm in 32 groups, or fewer where 32 does not divide the channels."""
    return nn.GroupNorm(math.gcd(32, channels), channels, eps)


def sinusoid(t: Tensor, channels: int, *, last: int = 0) -> Tensor:
    """A clock face for each t: [B] -> [B channels], cosines then sines at frequencies from 1 down to about 1/10,000.

    last=1 makes the slowest frequency exactly 1/10,000 (DDPM's own code); last=0 stops just short of it (improved DDPM's and GLIDE's)."""
    half = channels // 2
    frequencies = (-math.log(10_000) * torch.arange(half, device=t.device) / (half - last)).exp()
    angles = t.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)


class ResBlock(nn.Module):
    """Two convolutions with the time (and caption) mixed in between: [B C_in H W], [B E] -> [B C_out H W].

    film=True scales and shifts the normalised features (improved DDPM); film=False adds to them (DDPM). resize: a module that halves or doubles
    H and W before the first convolution and beside it (GLIDE)."""

    def __init__(self, c_in: int, c_out: int, *, embedding: int, film: bool, dropout: float, resize: nn.Module | None = None):
        super().__init__()
        self.film, self.resize = film, resize or nn.Identity()
        self.norm1, self.conv1 = group_norm(c_in), nn.Conv2d(c_in, c_out, 3, padding=1)
        self.embed = nn.Linear(embedding, 2 * c_out if film else c_out)
        self.norm2, self.dropout = group_norm(c_out), nn.Dropout(dropout)
        self.conv2 = zero(nn.Conv2d(c_out, c_out, 3, padding=1))
        self.skip = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.conv1(self.resize(F.silu(self.norm1(x))))           # [B C_out H W]
        e = self.embed(F.silu(embedding))[:, :, None, None]          # [B C_out or 2 C_out 1 1]
        if self.film:
            scale, shift = e.chunk(2, dim=1)
            h = self.norm2(h) * (1 + scale) + shift
        else:
            h = self.norm2(h + e)
        return self.skip(self.resize(x)) + self.conv2(self.dropout(F.silu(h)))


class Halve(nn.Module):
    """A stride-2 convolution: [B C H W] -> [B C H/2 W/2].  tf_padding pads right and bottom only, as TensorFlow does."""

    def __init__(self, channels: int, *, tf_padding: bool):
        super().__init__()
        self.tf_padding = tf_padding
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=0 if tf_padding else 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)) if self.tf_padding else x)


class Double(nn.Module):
    """Nearest-neighbour doubling, then a convolution: [B C H W] -> [B C 2H 2W]."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
