"""VQ-Diffusion's image transformer: every token of a picture looks at every other and at the caption, and
says which code was there before the noise.

VQ-Diffusion (Gu et al. 2022). Three kinds of blocks in one class: with captions, with class labels, with
neither. Left out: what a code looks like, and who reads the captions.
"""
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import MultiHeadAttention
from .layers import run


@dataclass(frozen=True)
class TokenTransformerConfig:
    width: int = 1024                        # d, numbers a token has
    layers: int = 19                         # blocks
    heads: int = 16                          # attention heads a block
    mlp: str = "linear"  # what works on each token: linear (by itself) or conv (with its 8 neighbours)
    mlp_mult: int = 4                        # width inside of it, times d
    text_width: int = 512                    # of a caption's features; 0 = reads no captions
    classes: int = 0                         # of labels; 0 = reads none
    # rows and columns it has places for; 0 = the grid's. The published ImageNet and FFHQ models have 32 for
    # 16
    position_table: int = 0
    # a mistake of theirs, needed for their weights: tokens are counted along the table's rows, not the grid's
    flat_positions: bool = False
    # forget activations and compute them again: less memory, a third slower
    gradient_checkpointing: bool = False

    def __post_init__(self):
        if self.heads < 1 or self.width % self.heads:
            raise ValueError(f"width={self.width}: choose a multiple of heads={self.heads}")
        if self.mlp not in ("linear", "conv"):
            raise ValueError(f"mlp={self.mlp!r}: choose one of conv, linear")
        if self.text_width and self.classes:
            raise ValueError(
                f"text_width={self.text_width}, classes={self.classes}: a model reads captions or labels, "
                "not both"
            )


class AdaNorm(nn.Module):
    """A LayerNorm whose scale and shift are looked up, by the time or by a label: [B N d],
    [B] int -> [B N d]."""

    def __init__(self, entries: int, width: int):
        super().__init__()
        self.table, self.linear = nn.Embedding(entries, width), nn.Linear(width, 2 * width)

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        scale, shift = self.linear(F.silu(self.table(index)))[:, None].chunk(2, dim=2)      # [B 1 d] each
        return F.layer_norm(x, x.shape[2:]) * (1 + scale) + shift


class ConvMLP(nn.Module):
    """Two 3x3 convolutions over the tokens' grid: [B N d] -> [B N d]."""

    def __init__(self, width: int, hidden: int, grid: int):
        super().__init__()
        self.grid, self.layers = grid, nn.Sequential(nn.Conv2d(width, hidden, 3, padding=1), QuickGELU(),
                                                     nn.Conv2d(hidden, width, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x.mT.unflatten(2, (self.grid, -1))).flatten(2).mT


class QuickGELU(nn.Module):
    """CLIP's approximation of GELU."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class TokenBlock(nn.Module):
    """[B N d], t [B] in 0..T-1, caption [B L D] or label [B] or None -> [B N d]."""

    def __init__(self, c: TokenTransformerConfig, grid: int, steps: int, labels: int):
        super().__init__()
        d, hidden = c.width, c.mlp_mult * c.width
        self.norm, self.attention = AdaNorm(steps, d), MultiHeadAttention(d, c.heads)
        self.cross_norm = AdaNorm(steps, d) if c.text_width else None
        self.cross = MultiHeadAttention(d, c.heads, context_width=c.text_width) if c.text_width else None
        self.mlp_norm = AdaNorm(labels, d) if c.classes else nn.LayerNorm(d)
        self.mlp = (
            ConvMLP(d, hidden, grid)
            if c.mlp == "conv"
            else nn.Sequential(nn.Linear(d, hidden), QuickGELU(), nn.Linear(hidden, d))
        )

    def forward(self, x: Tensor, t: Tensor, seen: Tensor | None) -> Tensor:
        x = x + self.attention(self.norm(x, t))
        if self.cross is not None:
            x = x + self.cross(self.cross_norm(x, t), seen)
        h = self.mlp_norm(x, seen) if isinstance(self.mlp_norm, AdaNorm) else self.mlp_norm(x)
        return x + self.mlp(h)


class TokenTransformer(nn.Module):
    """x_t [B N] int64 in 0..K, t [B] int64 in 1..T, cond -> logits [B K N] of x_0.  N = grid * grid,
    row by row.

    cond.text: features [B L D] of a caption, or labels [B 1] int64; an all-False mask is no caption.
    null_embedding: L, if "no caption" is learned (any number for labels); 0 if it is not.  Lesson:
    notebooks/08_vq_diffusion.ipynb"""

    def __init__(self, config: TokenTransformerConfig, *, codebook_size: int, grid: int, steps: int = 100,
                 null_embedding: int = 0):
        super().__init__()
        c, self.config, self.grid, self.knows_none = config, config, grid, bool(null_embedding)
        if not grid <= (c.position_table or grid):
            raise ValueError(f"position_table={c.position_table}: choose at least the grid's {grid}")
        self.tokens = nn.Embedding(codebook_size + 1, c.width)
        self.rows, self.columns = (nn.Embedding(c.position_table or grid, c.width) for _ in range(2))
        self.blocks = nn.ModuleList([TokenBlock(c, grid, steps, c.classes + bool(null_embedding))
                                     for _ in range(c.layers)])
        self.norm, self.to_logits = nn.LayerNorm(c.width), nn.Linear(c.width, codebook_size)
        self.apply(_start)
        self.null_embedding = (
            nn.Parameter(torch.randn(null_embedding, c.text_width) / c.text_width**0.5)
            if null_embedding and c.text_width
            else None
        )

    def condition(self, cond):
        """The condition with "no caption" filled in: learned features (Improved VQ-Diffusion learnable
        guidance), or the label after the last."""
        if cond.text is None or cond.mask is None:
            return cond
        there, text = cond.mask.any(1), cond.text
        if not self.knows_none and not there.all():
            missing = "labels" if self.config.classes else "captions"
            raise ValueError(f"this model was never trained without {missing}: "
                             "give each picture one, and guidance_scale=1")
        if self.config.classes:
            text = torch.where(there[:, None], text, self.config.classes)
        elif self.knows_none:
            none = self.null_embedding          # Improved VQ-Diffusion learnable guidance
            text = torch.where(there[:, None, None], text, none)
        return replace(cond, text=text, mask=None)

    def forward(self, x: Tensor, t: Tensor, cond) -> Tensor:
        self._check(x, cond)
        seen = cond.text
        seen = seen[:, 0] if self.config.classes else seen
        x, t = self.tokens(x) + self.places(), t - 1                                         # [B N d]
        for block in self.blocks:
            x = run(block, x, t, seen, recompute=self.config.gradient_checkpointing and self.training)
        return self.to_logits(self.norm(x)).mT

    def places(self) -> Tensor:
        """What is added to a token for its row and its column: [N d]."""
        n, places = self.grid, self.rows.weight[:, None] + self.columns.weight  # [table table d]
        return places.flatten(0, 1)[:n * n] if self.config.flat_positions else places[:n, :n].flatten(0, 1)

    def _check(self, x: Tensor, cond) -> None:
        """ValueError unless x_t and cond have the shapes that this network was built for."""
        c, text = self.config, None if cond.text is None else list(cond.text.shape)
        if x.ndim != 2 or x.shape[1] != self.grid ** 2:
            raise ValueError(f"x_t {list(x.shape)}: this transformer takes [B {self.grid ** 2}] tokens")
        wants = (
            [len(x), 1]
            if c.classes
            else [len(x), *(text or [0, 0])[1:2], c.text_width]
            if c.text_width
            else None
        )
        if text != wants:
            kind = (
                f"[{len(x)} 1] labels" if c.classes else f"[{len(x)} L {c.text_width}]" if wants else "none"
            )
            raise ValueError(f"text {text}: this transformer takes {kind}")


def _start(layer: nn.Module) -> None:
    """Small random weights and no bias, as in the published code."""
    if isinstance(layer, nn.Linear | nn.Embedding | nn.Conv2d):
        nn.init.normal_(layer.weight, std=0.02)
        if getattr(layer, "bias", None) is not None:
            nn.init.zeros_(layer.bias)
