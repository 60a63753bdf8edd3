"""GLIDE's text transformer: token ids in, one feature vector per position out.

GLIDE (Nichol et al. 2022). Every position sees every other, padding included. A position without a
token holds a learned padding vector of its own, so that "no caption" is something a network can
learn. Left out: how words become ids (text/tokenizer.py), and what the features are for
(nets/unet.py).
"""
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..ranges import check_ranges
from .attention import MultiHeadAttention


@dataclass(frozen=True)
class TextConfig:
    """The size of a text transformer."""
    vocabulary: int = 50_257         # different tokens, the last of which ends a caption
    text_length: int = 128           # L: positions; longer captions are cut
    text_layers: int = 16            # transformer blocks
    text_heads: int = 8              # attention heads per block

    def __post_init__(self):
        check_ranges(self)


class TextBlock(nn.Module):
    """Transformer block: attention, then an MLP at each position: [B L D] -> [B L D]."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), MultiHeadAttention(width, heads)
        self.norm2, hidden = nn.LayerNorm(width), 4 * width
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))                            # [B L D]
        return x + self.mlp(self.norm2(x))                               # [B L D]


class TextTransformer(nn.Module):
    """Text transformer: ids [B L] int64, mask [B L] bool (True = a token) -> features [B L D].

    ValueError for another L.  Lesson: notebooks/05_glide.ipynb"""

    def __init__(self, config: TextConfig, width: int):
        super().__init__()
        heads = config.text_heads
        if width < 1 or width % heads:
            raise ValueError(f"text_width={width}: "
                             f"choose a positive multiple of text_heads={heads}")
        self.tokens = nn.Embedding(config.vocabulary, width)
        self.positions = nn.Parameter(torch.empty(config.text_length, width))
        self.padding = nn.Parameter(torch.empty(config.text_length, width))
        self.blocks = nn.Sequential(*[TextBlock(width, heads) for _ in range(config.text_layers)])
        self.norm = nn.LayerNorm(width)
        # As strong as the tokens: what the blocks add at first is alike at all positions.
        for start in (self.positions, self.padding):
            nn.init.normal_(start)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        if ids.shape != mask.shape or ids.shape[1:] != self.positions.shape[:1]:
            raise ValueError(f"ids {list(ids.shape)}, mask {list(mask.shape)}: "
                             f"this text transformer takes both as [B {len(self.positions)}]")
        words = self.tokens(ids) + self.positions                        # [B L D]
        x = torch.where(mask[:, :, None], words, self.padding)           # [B L D]
        return self.norm(self.blocks(x))
