"""What a picture network makes of a frozen language model's features: tokens for attention, and one vector that says it all.

Imagen (Saharia et al. 2022). "No caption" is an all-False mask: then only a learned null token and a learned pooled vector are left. Padding is
masked everywhere, so it never changes a picture. Left out: the language model (text/encoders.py).
"""
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class TextReader(nn.Module):
    """Features [B L E] and mask [B L] bool -> tokens [B 1+L+1 D] with their mask: a null token, the caption's, and their pooled mean as the last.

    Lesson: notebooks/06_imagen.ipynb"""

    def __init__(self, encoder_width: int, width: int):
        super().__init__()
        self.norm, self.project = nn.LayerNorm(encoder_width), nn.Linear(encoder_width, width)
        self.null, self.no_caption = nn.Parameter(torch.randn(width)), nn.Parameter(torch.randn(width))
        self.pool = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        if features.shape[:2] != mask.shape or features.shape[2:] != self.norm.normalized_shape:
            raise ValueError(f"text {list(features.shape)}, mask {list(mask.shape)}: this model takes [B L {self.norm.normalized_shape[0]}] and [B L]")
        tokens = self.project(self.norm(features))                                          # [B L D]
        real = mask[:, :, None].to(tokens)
        mean = (tokens * real).sum(1) / real.sum(1).clamp(min=1)                            # [B D]; without a caption 0 / 1, and not used
        pooled = torch.where(mask.any(1, keepdim=True), self.pool(mean), self.no_caption)   # [B D]
        null = self.null.expand(len(tokens), 1, -1)
        return torch.cat([null, tokens, pooled[:, None]], dim=1), F.pad(mask, (1, 1), value=True)
