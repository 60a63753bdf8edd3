"""Multi-head attention: tokens attend to each other, to a caption, or to both.

Self-attention: every pixel (or token) attends to every other. Cross-attention: it attends to a
caption alone. Joint attention, as in GLIDE (Nichol et al. 2022) and Imagen (Saharia et al. 2022):
it attends to the others and to the caption, whose keys and values stand before their own.
"""
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import group_norm, zero


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Tensor | None = None) -> Tensor:
    """Attention, softmax(q k^T / sqrt(C/heads)) v: [B N C], [B M C], [B M C] -> [B N C].

    mask: [B M] bool, which keys may be seen; None = all."""
    qkv = [z.unflatten(2, (heads, -1)).transpose(1, 2) for z in (q, k, v)]  # [B heads . C/heads]
    if q.device.type == "cpu":          # torch's attention there trains up to 5x slower in bfloat16
        qkv = [z.float() for z in qkv]
    mask = None if mask is None else mask[:, None, None]                    # [B 1 1 M]
    with torch.autocast("cpu", enabled=False):
        h = F.scaled_dot_product_attention(*qkv, attn_mask=mask)            # [B heads N C/heads]
    return h.transpose(1, 2).flatten(2)                                     # [B N C]


class MultiHeadAttention(nn.Module):
    """Self-, cross- or joint attention: x [B N D], context [B L E] -> [B N D].

    context_width: E; 0 = self-attention.  joint: x attends to itself too.  mask: [B L] bool, which
    of the context may be seen; None = all.  ValueError if heads does not divide the width."""

    def __init__(self, width: int, heads: int, *, context_width: int = 0, joint: bool = False):
        super().__init__()
        if heads < 1 or width % heads:
            raise ValueError(f"heads={heads}: choose a divisor of the width, {width}")
        self.heads = heads
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width) if joint or not context_width else None
        self.context_kv = nn.Linear(context_width, 2 * width) if context_width else None
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, context: Tensor | None = None,
                mask: Tensor | None = None) -> Tensor:
        seen = []
        if self.context_kv is not None:
            seen.append(self.context_kv(context))                           # [B L 2D]
        if self.kv is not None:
            seen.append(self.kv(x))                                         # [B N 2D]
        k, v = torch.cat(seen, dim=1).chunk(2, dim=2)                       # [B L+N D] each
        if self.context_kv is None:
            mask = None
        elif mask is not None and self.kv is not None:
            mask = F.pad(mask, (0, x.shape[1]), value=True)                 # [B L+N]: all of x
        return self.proj(attend(self.q(x), k, v, self.heads, mask))         # [B N D]


class Attention(nn.Module):
    """Attention over pixels with a residual connection: [B C H W] -> [B C H W].

    Self-attention; with text_width joint attention with a caption [B L D], or cross-attention to it
    alone (cross=True), for sizes at which attention among all pixels costs too much.
    places: each pixel is told where it lies.  Starts as no change at all."""

    def __init__(self, channels: int, *, head_channels: int | None, text_width: int = 0,
                 cross: bool = False, places: bool = False, norm=group_norm):
        super().__init__()
        if head_channels and channels % head_channels:
            raise ValueError(f"head_channels={head_channels}: choose a divisor of the "
                             f"{channels} channels that have attention")
        heads = channels // (head_channels or channels)
        self.norm = norm(channels)
        self.places = nn.Linear(8, channels) if places else None
        self.attend = MultiHeadAttention(channels, heads, context_width=text_width, joint=not cross)
        zero(self.attend.proj)

    def forward(self, x: Tensor, text: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        H, W = x.shape[2:]
        h = self.norm(x).flatten(2).mT                                      # [B HW C]
        if self.places is not None:
            h = h + self.places(position_features(H, W, x.device))
        h = self.attend(h, text, mask)                                      # [B HW C]
        return x + h.mT.unflatten(2, (H, W))                                # [B C H W]


def position_features(H: int, W: int, device=None) -> Tensor:
    """Position of each pixel, as sines and cosines over the height, then the width: [H*W 8]."""
    rows = _along(H, device)[:, None].expand(-1, W, -1)                     # [H W 4]
    columns = _along(W, device).expand(H, -1, -1)                           # [H W 4]
    return torch.cat([rows, columns], dim=2).flatten(0, 1)


def _along(n: int, device) -> Tensor:
    """Sine and cosine of half a turn, then of a whole one, along n pixels: [n 4]."""
    angle = math.pi * torch.linspace(-0.5, 0.5, n, device=device)
    return torch.stack([angle.sin(), angle.cos(), (2 * angle).sin(), (2 * angle).cos()], dim=1)
