"""VQ-Diffusion's transformer: noisy image tokens in, logits of the clean tokens out.

VQ-Diffusion (Gu et al. 2022). Every token of an image attends to every other and to the caption.
Three kinds of blocks in one class: with captions, with class labels, with neither. Left out: what a
code looks like (vqgan/), and who reads the captions (text/).
"""
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..ranges import check_ranges
from .attention import MultiHeadAttention
from .layers import Checkpointed


@dataclass(frozen=True)
class TokenTransformerConfig:
    """The size of a token transformer, and what it is conditioned on."""
    width: int = 1024                        # d, numbers per token
    layers: int = 19                         # blocks
    heads: int = 16                          # attention heads per block
    mlp: str = "linear"                      # per token: linear, or conv (with its 8 neighbours)
    mlp_mult: int = 4                        # width inside the MLP, times d
    text_width: int = 512                    # of a caption's features; 0 = reads no captions
    classes: int = 0                         # of labels; 0 = reads none
    position_table: int = 0                  # rows and columns it has positions for; 0 = the grid's
    flat_positions: bool = False             # count along the table's rows, not the grid's
    gradient_checkpointing: bool = False     # recompute activations: less memory, a third slower

    # The published ImageNet and FFHQ models have a position_table of 32 for a grid of 16, and by
    # mistake count along its rows: their weights need flat_positions.

    def __post_init__(self):
        check_ranges(self)
        if self.width % self.heads:
            raise ValueError(f"width={self.width}: choose a multiple of heads={self.heads}")
        if self.mlp not in ("linear", "conv"):
            raise ValueError(f"mlp={self.mlp!r}: choose one of conv, linear")
        if self.text_width and self.classes:
            raise ValueError(f"text_width={self.text_width}, classes={self.classes}: "
                             "a model reads captions or labels, not both")


class AdaNorm(nn.Module):
    """Adaptive LayerNorm, by the time or a label: [B N d], [B] int -> [B N d]."""

    def __init__(self, entries: int, width: int):
        super().__init__()
        self.table, self.linear = nn.Embedding(entries, width), nn.Linear(width, 2 * width)

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        e = self.linear(F.silu(self.table(index)))[:, None]                          # [B 1 2d]
        scale, shift = e.chunk(2, dim=2)                                             # [B 1 d] each
        return F.layer_norm(x, x.shape[2:]) * (1 + scale) + shift


class ConvMLP(nn.Module):
    """Two 3x3 convolutions over the tokens' grid: [B N d] -> [B N d]."""

    def __init__(self, width: int, hidden: int, grid: int):
        super().__init__()
        self.grid = grid
        self.layers = nn.Sequential(nn.Conv2d(width, hidden, 3, padding=1), QuickGELU(),
                                    nn.Conv2d(hidden, width, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        x = x.mT.unflatten(2, (self.grid, -1))                                    # [B d grid grid]
        return self.layers(x).flatten(2).mT                                          # [B N d]


class QuickGELU(nn.Module):
    """CLIP's approximation of GELU."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class TokenBlock(nn.Module):
    """Transformer block: x [B N d], t [B] in 0..T-1, caption [B L D] or label [B] -> [B N d]."""

    def __init__(self, c: TokenTransformerConfig, grid: int, steps: int, labels: int):
        super().__init__()
        d, hidden = c.width, c.mlp_mult * c.width
        self.norm, self.attention = AdaNorm(steps, d), MultiHeadAttention(d, c.heads)
        self.cross_norm = self.cross = None
        if c.text_width:
            self.cross_norm = AdaNorm(steps, d)
            self.cross = MultiHeadAttention(d, c.heads, context_width=c.text_width)
        self.mlp_norm = AdaNorm(labels, d) if c.classes else nn.LayerNorm(d)
        if c.mlp == "conv":
            self.mlp = ConvMLP(d, hidden, grid)
        else:
            self.mlp = nn.Sequential(nn.Linear(d, hidden), QuickGELU(), nn.Linear(hidden, d))

    def forward(self, x: Tensor, t: Tensor, seen: Tensor | None) -> Tensor:
        x = x + self.attention(self.norm(x, t))                                      # [B N d]
        if self.cross is not None:
            x = x + self.cross(self.cross_norm(x, t), seen)                          # [B N d]
        h = self.mlp_norm(x, seen) if isinstance(self.mlp_norm, AdaNorm) else self.mlp_norm(x)
        return x + self.mlp(h)                                                       # [B N d]


class TokenTransformer(Checkpointed):
    """Token transformer: x_t [B N] int64 in 0..K, t [B] in 1..T, cond -> logits [B K N] of x_0.

    N = grid * grid, row by row.  cond.text: features [B L D] of a caption, or labels [B 1] int64;
    an all-False mask is no caption.  null_embedding: L, if "no caption" is learned (any number for
    labels); 0 if it is not.  Lesson: notebooks/08_vq_diffusion.ipynb"""

    def __init__(self, config: TokenTransformerConfig, *, codebook_size: int, grid: int,
                 steps: int = 100, null_embedding: int = 0):
        super().__init__()
        self.config, self.grid, self.knows_none = config, grid, bool(null_embedding)
        c, table, labels = config, config.position_table or grid, config.classes + self.knows_none
        if not grid <= table:
            raise ValueError(f"position_table={c.position_table}: "
                             f"choose at least the grid's {grid}")
        self.tokens = nn.Embedding(codebook_size + 1, c.width)
        self.rows, self.columns = nn.Embedding(table, c.width), nn.Embedding(table, c.width)
        blocks = [TokenBlock(c, grid, steps, labels) for _ in range(c.layers)]
        self.blocks = nn.ModuleList(blocks)
        self.norm, self.to_logits = nn.LayerNorm(c.width), nn.Linear(c.width, codebook_size)
        self.apply(_start)
        self.null_embedding = None
        if null_embedding and c.text_width:
            start = torch.randn(null_embedding, c.text_width) / c.text_width ** 0.5
            self.null_embedding = nn.Parameter(start)

    def condition(self, cond):
        """The condition with "no caption" filled in: learned features, or the label after the last.

        ValueError where it was never trained without a condition."""
        if cond.text is None or cond.mask is None:
            return cond
        text, there = cond.text, cond.mask.any(1)                                    # [B]
        if not self.knows_none and not there.all():
            kind = "labels" if self.config.classes else "captions"
            raise ValueError(f"this model was never trained without {kind}: give each picture one, "
                             "and guidance_scale=1")
        if self.config.classes:
            text = torch.where(there[:, None], text, self.config.classes)
        elif self.knows_none:
            there, null = there[:, None, None], self.null_embedding              # [B 1 1], [L D]
            text = torch.where(there, text, null)        # Improved VQ-Diffusion learnable guidance
        return replace(cond, text=text, mask=None)

    def forward(self, x: Tensor, t: Tensor, cond) -> Tensor:
        self._check(x, cond)
        seen = cond.text[:, 0] if self.config.classes else cond.text       # labels [B], or [B L D]
        x = self.tokens(x) + self.places()                                           # [B N d]
        t = t - 1                                        # times count from 1, their tables from 0
        for block in self.blocks:
            x = self.run(block, x, t, seen)                                          # [B N d]
        return self.to_logits(self.norm(x)).mT                                       # [B K N]

    def places(self) -> Tensor:
        """What is added to a token for its row and its column: [N d]."""
        n, rows = self.grid, self.rows.weight[:, None]
        places = rows + self.columns.weight                                # [table table d]
        if self.config.flat_positions:
            return places.flatten(0, 1)[:n * n]
        return places[:n, :n].flatten(0, 1)

    def _check(self, x: Tensor, cond) -> None:
        """ValueError unless x_t and cond have the shapes that this network was built for."""
        c, N = self.config, self.grid ** 2
        if x.ndim != 2 or x.shape[1] != N:
            raise ValueError(f"x_t {list(x.shape)}: this transformer takes [B {N}] tokens")
        text = None if cond.text is None else list(cond.text.shape)
        B, wants, kind = len(x), None, "none"
        if c.classes:
            wants, kind = [B, 1], f"[{B} 1] labels"
        elif c.text_width:
            wants = [B, *(text or [])[1:2], c.text_width]
            kind = f"[{B} L {c.text_width}]"
        if text != wants:
            raise ValueError(f"text {text}: this transformer takes {kind}")


def _start(layer: nn.Module) -> None:
    """Small random weights and no bias, as in the published code."""
    if isinstance(layer, nn.Linear | nn.Embedding | nn.Conv2d):
        nn.init.normal_(layer.weight, std=0.02)
        if getattr(layer, "bias", None) is not None:
            nn.init.zeros_(layer.bias)
