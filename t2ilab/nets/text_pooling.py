"""What a picture network makes of a frozen language model's features: tokens for attention, and one vector that says it all.

Imagen (Saharia et al. 2022). "No caption" is an all-False mask: then only a learned null token and a learned pooled vector are left. Padding is
masked everywhere, so it never changes a picture. Left out: the language model (text/frozen_encoder.py).
"""
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class TextReader(nn.Module):
    """Features [B L E] and mask [B L] bool -> tokens [B 1+L+1 D] with their mask: a null token, the caption's, and all of it in one as the last.

    length: the largest L.  Lesson: notebooks/06_imagen.ipynb"""
    QUESTIONS = 8                   # of the whole caption; an answer is a weighted mean of its tokens

    def __init__(self, encoder_width: int, width: int, length: int):
        super().__init__()
        self.norm, self.project = nn.LayerNorm(encoder_width), nn.Linear(encoder_width, width)
        nn.init.normal_(self.project.weight, std=encoder_width ** -0.5)
        # As strong as the words: who stands left of whom is a question of which comes first, and a small encoder hardly says so.
        self.positions = nn.Parameter(torch.randn(length, width))
        self.null, self.no_caption = nn.Parameter(torch.randn(width)), nn.Parameter(torch.randn(width))
        self.pool_norm, self.questions = nn.LayerNorm(width), nn.Parameter(torch.randn(self.QUESTIONS, width))
        self.pool = nn.Sequential(nn.Linear(self.QUESTIONS * width, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        L = features.shape[1]
        if features.shape[:2] != mask.shape or features.shape[2:] != self.norm.normalized_shape or L > len(self.positions):
            raise ValueError(f"text {list(features.shape)}, mask {list(mask.shape)}: this model takes [B L {self.norm.normalized_shape[0]}] and [B L], "
                             f"L up to {len(self.positions)}")
        tokens = self.project(self.norm(features)) + self.positions[:L]                     # [B L D]
        there = mask.any(1, keepdim=True)                                                   # [B 1]
        pooled = torch.where(there, self.pool(self.answers(tokens, mask | ~there)), self.no_caption)     # [B D]; a softmax over nothing is no number
        null = self.null.expand(len(tokens), 1, -1)
        return torch.cat([null, tokens, pooled[:, None]], dim=1), F.pad(mask, (1, 1), value=True)

    def answers(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Attention pooling: each question looks at the tokens under the mask.  [B L D], [B L] bool -> [B questions*D]"""
        tokens = self.pool_norm(tokens)
        return F.scaled_dot_product_attention(self.questions.expand(len(tokens), -1, -1), tokens, tokens, attn_mask=mask[:, None]).flatten(1)
