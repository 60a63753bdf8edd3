"""GLIDE's text transformer: token ids in, one feature vector a position out.
Every position sees every other, padding included.

GLIDE (Nichol et al. 2022). A position without a token holds a learned padding vector of its own, so that "no
caption" is something a network can learn. Left out: how words become ids (text/tokenizer.py), and what the
features are for (nets/unet.py).
"""
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .attention import MultiHeadAttention


@dataclass(frozen=True)
class TextConfig:
    vocabulary: int = 50_257         # different tokens, the last of which ends a caption
    text_length: int = 128           # L: positions; longer captions are cut
    text_layers: int = 16            # transformer blocks
    text_heads: int = 8              # attention heads a block


class TextBlock(nn.Module):
    """Attention between the positions, then a two-layer network at each: [B L D] -> [B L D]."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), MultiHeadAttention(width, heads)
        self.norm2, self.mlp = (
            nn.LayerNorm(width),
            nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))                                            # [B L D]
        return x + self.mlp(self.norm2(x))                                               # [B L D]


class TextTransformer(nn.Module):
    """Token ids [B L] int64 and mask [B L] bool (True = a real token) -> features [B L D].
    Lesson: notebooks/05_glide.ipynb"""

    def __init__(self, config: TextConfig, width: int):
        super().__init__()
        if config.text_heads < 1 or width < 1 or width % config.text_heads:
            raise ValueError(f"text_width={width}: choose a positive multiple of "
                             f"text_heads={config.text_heads}")
        self.tokens = nn.Embedding(config.vocabulary, width)
        self.positions = nn.Parameter(torch.empty(config.text_length, width))
        self.padding = nn.Parameter(torch.empty(config.text_length, width))
        self.blocks = nn.Sequential(*[TextBlock(width, config.text_heads) for _ in range(config.text_layers)])
        self.norm = nn.LayerNorm(width)
        # as strong as the tokens: what the blocks add at first is alike at all positions
        for start in (self.positions, self.padding):
            nn.init.normal_(start)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        if ids.shape != mask.shape or ids.shape[1:] != self.positions.shape[:1]:
            raise ValueError(f"ids {list(ids.shape)}, mask {list(mask.shape)}: this text transformer takes "
                             f"both as [B {len(self.positions)}]")
        x = torch.where(mask[:, :, None], self.tokens(ids) + self.positions, self.padding)  # [B L D]
        return self.norm(self.blocks(x))
