"""The small parts every network here is built from: timestep embedding, residual block,
down- and upsampling, and a U-Net's layer.

DDPM (Ho et al. 2020) and improved DDPM (Nichol & Dhariwal 2021). Last layers start at zero, so that a new
block changes nothing yet.
"""
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def zero(layer: nn.Module) -> nn.Module:
    """The layer with its weights and bias set to zero."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def group_norm(channels: int, eps: float = 1e-5) -> nn.GroupNorm:
    """GroupNorm in 32 groups, or fewer where 32 does not divide the channels."""
    return nn.GroupNorm(math.gcd(32, channels), channels, eps)


def timestep_embedding(t: Tensor, channels: int, *, last: int = 0) -> Tensor:
    """Sinusoidal embedding of the timestep: [B] -> [B channels],
    cosines then sines at frequencies from 1 down to about 1/10,000.

    last=1 makes the slowest frequency exactly 1/10,000 (DDPM's own code);
    last=0 stops just short of it (improved DDPM, GLIDE)."""
    half = channels // 2
    frequencies = (-math.log(10_000) * torch.arange(half, device=t.device) / (half - last)).exp()
    angles = t.float()[:, None] * frequencies                        # [B channels/2]
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def time_mlp(channels: int, width: int) -> nn.Sequential:
    """What a network makes of a timestep embedding: [B channels] -> [B width]."""
    return nn.Sequential(nn.Linear(channels, width), nn.SiLU(), nn.Linear(width, width))


class ResBlock(nn.Module):
    """Residual block: two convolutions with the timestep (and caption) mixed in between: [B C_in H W],
    [B E] -> [B C_out H W].

    film=True scales and shifts the normalised features (FiLM, improved DDPM); film=False adds to them (DDPM).
    resize: a module that halves or doubles H and W, before the first convolution and on the skip connection
    (GLIDE)."""

    def __init__(self, c_in: int, c_out: int, *, embedding: int, scale_shift_norm: bool, dropout: float,
                 resize: nn.Module | None = None):
        super().__init__()
        self.scale_shift_norm, self.resize = scale_shift_norm, resize or nn.Identity()
        self.norm1, self.conv1 = group_norm(c_in), nn.Conv2d(c_in, c_out, 3, padding=1)
        self.embed = nn.Linear(embedding, 2 * c_out if scale_shift_norm else c_out)
        self.norm2, self.dropout = group_norm(c_out), nn.Dropout(dropout)
        self.conv2 = zero(nn.Conv2d(c_out, c_out, 3, padding=1))
        self.skip = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = self.conv1(self.resize(F.silu(self.norm1(x))))           # [B C_out H W]
        e = self.embed(F.silu(emb))[:, :, None, None]                # [B C_out or 2 C_out 1 1]
        if self.scale_shift_norm:
            scale, shift = e.chunk(2, dim=1)
            h = self.norm2(h) * (1 + scale) + shift
        else:
            h = self.norm2(h + e)
        return self.skip(self.resize(x)) + self.conv2(self.dropout(F.silu(h)))


class Layer(nn.Module):
    """A U-Net's layer: a residual block, then attention if its level has any.  x [B C_in H W],
    emb [B E], cond -> [B C_out H W].

    takes_skip: whether its input is what comes from below and a skip connection side by side."""

    def __init__(self, block: ResBlock, *attentions: nn.Module, takes_skip: bool = False):
        super().__init__()
        self.block, self.attentions, self.takes_skip = block, nn.ModuleList(attentions), takes_skip

    def forward(self, x: Tensor, emb: Tensor, cond) -> Tensor:
        x = self.block(x, emb)                                       # [B C_out H W]
        for attention in self.attentions:
            x = attention(x, cond.text, cond.mask)                   # [B C_out H W]
        return x


class Downsample(nn.Module):
    """A stride-2 convolution: [B C H W] -> [B C H/2 W/2].  tf_padding pads right and bottom only, as
    TensorFlow does.

    emb and cond are there because every layer of a U-Net is called alike."""

    def __init__(self, channels: int, *, tf_padding: bool):
        super().__init__()
        self.tf_padding = tf_padding
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=0 if tf_padding else 1)

    def forward(self, x: Tensor, emb: Tensor | None = None, cond=None) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)) if self.tf_padding else x)


class Upsample(nn.Module):
    """Nearest-neighbour doubling, then a convolution: [B C H W] -> [B C 2H 2W].  Called as Downsample is."""
    takes_skip = False

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, emb: Tensor | None = None, cond=None) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


def run(module: nn.Module, *inputs, recompute: bool) -> Tensor:
    """module(*inputs); recompute=True forgets its activations and works them out again in the backward pass
    (gradient checkpointing)."""
    return checkpoint(module, *inputs, use_reentrant=False) if recompute else module(*inputs)


def shape_of(v: Tensor | None) -> list[int]:
    """A tensor's shape for an error message; [] for none."""
    return [] if v is None else list(v.shape)
