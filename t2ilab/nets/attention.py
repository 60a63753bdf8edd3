"""Attention: pixels look at pixels, at a caption beside them (joint, as in GLIDE and Imagen), or at a caption alone (cross)."""
import math
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import group_norm, zero


def place_waves(H: int, W: int, device=None) -> Tensor:
    """Where each pixel lies: sines and cosines of half a turn and of a whole one over the height, then over the width.  [H*W 8]"""
    y, x = (math.pi * torch.linspace(-0.5, 0.5, n, device=device) for n in (H, W))
    rows, columns = (torch.stack([a.sin(), a.cos(), (2 * a).sin(), (2 * a).cos()], dim=1) for a in (y, x))       # [H 4], [W 4]
    return torch.cat([rows[:, None].expand(-1, W, -1), columns.expand(H, -1, -1)], dim=2).flatten(0, 1)


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
