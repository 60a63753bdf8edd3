"""Text pooling: tokens for attention and one vector per caption, from a language model's features.

Imagen (Saharia et al. 2022). "No caption" is an all-False mask: then only a learned null token and
a learned pooled vector are left. Padding is masked everywhere, so it never changes an image. Left
out: the language model, which is frozen (text/frozen_encoder.py).
"""
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import attend


class TextPooling(nn.Module):
    """Features [B L E], mask [B L] bool -> tokens [B 1+L+1 D] and their mask.

    The tokens: a null token, the caption's, and one for all of it.
    length: the largest L.  ValueError for other shapes.  Lesson: notebooks/06_imagen.ipynb"""
    NUM_QUERIES = 8           # of the attention pooling; each returns a weighted mean of the tokens

    def __init__(self, encoder_width: int, width: int, length: int):
        super().__init__()
        self.norm, self.project = nn.LayerNorm(encoder_width), nn.Linear(encoder_width, width)
        nn.init.normal_(self.project.weight, std=encoder_width ** -0.5)
        # At the scale of the token features: small encoders carry little word order, and
        # "A left of B" depends on it.
        self.positions = nn.Parameter(torch.randn(length, width))
        self.null = nn.Parameter(torch.randn(width))
        self.null_embedding = nn.Parameter(torch.randn(width))
        self.pool_norm = nn.LayerNorm(width)
        self.queries = nn.Parameter(torch.randn(self.NUM_QUERIES, width))
        answers = self.NUM_QUERIES * width
        self.pool = nn.Sequential(nn.Linear(answers, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        self._check(features, mask)
        L = features.shape[1]
        tokens = self.project(self.norm(features)) + self.positions[:L]          # [B L D]
        there = mask.any(1, keepdim=True)                                        # [B 1]
        seen = mask | ~there                     # never none: a softmax over nothing is no number
        pooled = self.pool(self.attention_pool(tokens, seen))                    # [B D]
        pooled = torch.where(there, pooled, self.null_embedding)                 # [B D]
        null = self.null.expand(len(tokens), 1, -1)                              # [B 1 D]
        tokens = torch.cat([null, tokens, pooled[:, None]], dim=1)               # [B 1+L+1 D]
        return tokens, F.pad(mask, (1, 1), value=True)

    def attention_pool(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Attention of each learned query to the tokens under the mask.

        [B L D], [B L] bool -> [B queries*D]"""
        tokens = self.pool_norm(tokens)
        queries = self.queries.expand(len(tokens), -1, -1)                       # [B 8 D]
        return attend(queries, tokens, tokens, heads=1, mask=mask).flatten(1)

    def _check(self, features: Tensor, mask: Tensor) -> None:
        E, most = self.norm.normalized_shape[0], len(self.positions)
        fits = features.shape[:2] == mask.shape and features.shape[2:] == (E,)
        if not fits or features.shape[1] > most:
            raise ValueError(f"text {list(features.shape)}, mask {list(mask.shape)}: "
                             f"this model takes [B L {E}] and [B L], L up to {most}")
