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


def place_waves(H: int, W: int, device=None) -> Tensor:
    """Where each pixel lies: sines and cosines of half a turn and of a whole one over the height, then over the width.  [H*W 8]"""
    y, x = (math.pi * torch.linspace(-0.5, 0.5, n, device=device) for n in (H, W))
    rows, columns = (torch.stack([a.sin(), a.cos(), (2 * a).sin(), (2 * a).cos()], dim=1) for a in (y, x))       # [H 4], [W 4]
    return torch.cat([rows[:, None].expand(-1, W, -1), columns.expand(H, -1, -1)], dim=2).flatten(0, 1)


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


class Attention(nn.Module):
    """Every pixel looks at every pixel, and at the caption's tokens if there are any: [B C H W] -> [B C H W].

    Text [B L D] joins as extra keys and values before the pixels' own, as in GLIDE and Imagen.  mask: [B L] bool, True = may be looked at;
    None = all of it."""

    def __init__(self, channels: int, *, head_channels: int | None, text_width: int = 0, places: bool = False, norm=group_norm):
        super().__init__()
        if head_channels and channels % head_channels:
            raise ValueError(f"head_channels={head_channels}: choose a divisor of the {channels} channels that have attention")
        self.heads = channels // (head_channels or channels)
        self.norm, self.qkv = norm(channels), nn.Linear(channels, 3 * channels)
        self.text = nn.Linear(text_width, 2 * channels) if text_width else None
        self.places = nn.Linear(8, channels) if places else None
        self.proj = zero(nn.Linear(channels, channels))

    def forward(self, x: Tensor, text: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        B, C, H, W = x.shape
        h = self.norm(x).flatten(2).mT                                                      # [B HW C]
        h = h if self.places is None else h + self.places(place_waves(H, W, x.device))
        q, k, v = self.qkv(h).chunk(3, dim=2)                                               # [B HW C] each
        if self.text is not None:
            k_text, v_text = self.text(text).chunk(2, dim=2)                                # [B L C] each
            k, v = torch.cat([k_text, k], dim=1), torch.cat([v_text, v], dim=1)             # [B L+HW C]
        seen = None if mask is None else F.pad(mask, (0, H * W), value=True)                # [B L+HW]: every pixel is seen
        h = self.proj(attend(q, k, v, self.heads, seen))                                   # [B HW C]
        return x + h.mT.unflatten(2, (H, W))


class CrossAttention(nn.Module):
    """Every pixel looks at the caption's tokens alone: [B C H W], text [B L D], mask [B L] bool -> [B C H W].

    For sizes at which pixels cannot afford to look at each other (Imagen's 1024 px stage)."""

    def __init__(self, channels: int, *, head_channels: int | None, text_width: int):
        super().__init__()
        if head_channels and channels % head_channels:
            raise ValueError(f"head_channels={head_channels}: choose a divisor of the {channels} channels that have attention")
        self.heads = channels // (head_channels or channels)
        self.norm, self.q, self.text = group_norm(channels), nn.Linear(channels, channels), nn.Linear(text_width, 2 * channels)
        self.proj = zero(nn.Linear(channels, channels))

    def forward(self, x: Tensor, text: Tensor, mask: Tensor | None = None) -> Tensor:
        k, v = self.text(text).chunk(2, dim=2)                                              # [B L C] each
        h = self.proj(attend(self.q(self.norm(x).flatten(2).mT), k, v, self.heads, mask))  # [B HW C]
        return x + h.mT.unflatten(2, x.shape[2:])


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Tensor | None = None) -> Tensor:
    """softmax(q k^T) v in several heads: [B N C], [B M C], [B M C] -> [B N C].  mask: [B M] bool, which keys may be seen; None = all."""
    q, k, v = (z.unflatten(2, (heads, -1)).transpose(1, 2) for z in (q, k, v))              # [B heads . C/heads]
    if q.device.type == "cpu":       # where torch's attention takes up to five times as long to train in bfloat16 as in float32
        q, k, v = q.float(), k.float(), v.float()
    with torch.autocast("cpu", enabled=False):
        h = F.scaled_dot_product_attention(q, k, v, attn_mask=None if mask is None else mask[:, None, None])
    return h.transpose(1, 2).flatten(2)


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
