"""Attention: tokens look at tokens, at a caption, or at both, in several heads.

Self-attention: every pixel (or token) looks at every other. Cross-attention: it looks at a caption alone.
Joint attention, as in GLIDE (Nichol et al. 2022) and Imagen (Saharia et al. 2022): it looks at the others and
at the caption, whose keys and values stand before their own.
"""
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import group_norm, zero


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Tensor | None = None) -> Tensor:
    """softmax(q k^T) v in several heads: [B N C], [B M C], [B M C] -> [B N C].

    mask: [B M] bool, which keys may be seen; None = all."""
    q, k, v = (z.unflatten(2, (heads, -1)).transpose(1, 2) for z in (q, k, v))       # [B heads . C/heads]
    if q.device.type == "cpu":       # torch's attention there trains up to five times slower in bfloat16
        q, k, v = q.float(), k.float(), v.float()
    mask = None if mask is None else mask[:, None, None]                             # [B 1 1 M]
    with torch.autocast("cpu", enabled=False):
        h = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)                  # [B heads N C/heads]
    return h.transpose(1, 2).flatten(2)                                              # [B N C]


class MultiHeadAttention(nn.Module):
    """Self-attention, or with a context cross- or joint attention: x [B N D], context [B L E] -> [B N D].

    context_width: E; 0 = self-attention.  joint: x looks at itself too.  mask: [B L] bool, which of the
    context may be seen; None = all of it.  ValueError if heads does not divide the width."""

    def __init__(self, width: int, heads: int, *, context_width: int = 0, joint: bool = False):
        super().__init__()
        if heads < 1 or width % heads:
            raise ValueError(f"heads={heads}: choose a divisor of the width, {width}")
        self.heads = heads
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width) if joint or not context_width else None
        self.context_kv = nn.Linear(context_width, 2 * width) if context_width else None
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        seen = [] if self.context_kv is None else [self.context_kv(context)]         # [B L 2D]
        seen += [] if self.kv is None else [self.kv(x)]                              # [B N 2D]
        k, v = torch.cat(seen, dim=1).chunk(2, dim=2)                                # [B L+N D] each
        if self.context_kv is None:
            mask = None
        elif mask is not None and self.kv is not None:
            mask = F.pad(mask, (0, x.shape[1]), value=True)  # [B L+N]: x is seen whole
        return self.proj(attend(self.q(x), k, v, self.heads, mask))                  # [B N D]


class Attention(nn.Module):
    """Pixels as tokens: [B C H W] -> [B C H W], added to what came in.

    Self-attention; with text_width joint attention with a caption [B L D], or cross-attention to it alone
    (cross=True), for sizes at which pixels cannot afford to look at each other.  places: each pixel is told
    where it lies.  Starts as no change at all."""

    def __init__(self, channels: int, *, head_channels: int | None, text_width: int = 0, cross: bool = False,
                 places: bool = False, norm=group_norm):
        super().__init__()
        if head_channels and channels % head_channels:
            raise ValueError(f"head_channels={head_channels}: choose a divisor of the {channels} channels "
                             "that have attention")
        heads = channels // (head_channels or channels)
        self.norm = norm(channels)
        self.places = nn.Linear(8, channels) if places else None
        self.attend = MultiHeadAttention(channels, heads, context_width=text_width, joint=not cross)
        zero(self.attend.proj)

    def forward(self, x: Tensor, text: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        H, W = x.shape[2:]
        h = self.norm(x).flatten(2).mT                                               # [B HW C]
        if self.places is not None:
            h = h + self.places(position_features(H, W, x.device))
        h = self.attend(h, text, mask)                                               # [B HW C]
        return x + h.mT.unflatten(2, (H, W))                                         # [B C H W]


def position_features(H: int, W: int, device=None) -> Tensor:
    """Where each pixel lies: sines and cosines of half a turn and of a whole one, over the height,
    then over the width.  [H*W 8]"""
    y, x = (math.pi * torch.linspace(-0.5, 0.5, n, device=device) for n in (H, W))
    # [H 4], [W 4]
    rows, columns = (torch.stack([a.sin(), a.cos(), (2 * a).sin(), (2 * a).cos()], dim=1) for a in (y, x))
    return torch.cat([rows[:, None].expand(-1, W, -1), columns.expand(H, -1, -1)], dim=2).flatten(0, 1)
