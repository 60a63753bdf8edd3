"""Imagen's Efficient U-Net for its upsamplers: it halves the picture before a level's blocks and doubles it after them, so that most of the work,
and most of the parameters, are where pixels are few.

Imagen (Saharia et al. 2022, Appendix B). One shortcut a level, scaled by 1/sqrt(2). Left out: the base's network, which is improved DDPM's U-Net
(nets/unet.py).
"""
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .attention import Attention, CrossAttention
from .layers import Double, Halve, ResBlock, group_norm, sinusoid, zero


@dataclass(frozen=True)
class EfficientUNetConfig:
    channels: int = 128                                          # width at the door
    mults: tuple[int, ...] = (1, 2, 4, 8)                        # width of each level, times channels; each level begins by halving the picture
    blocks: tuple[int, ...] = (2, 4, 8, 8)                       # residual blocks of each level, on the way down and on the way up
    attention: tuple[bool, ...] = (False, False, False, True)    # which levels let pixels look at each other and at the caption
    cross: tuple[bool, ...] = (False, False, False, False)       # which levels let pixels look at the caption alone
    head_channels: int | None = 64                               # width of an attention head; None = one head
    dropout: float = 0.0                                         # in every residual block
    patch: int = 1                                               # pixels folded into channels at the door
    places: bool = False                                         # attention is told where each pixel lies
    text_width: int = 512                                        # D of the caption's tokens
    gradient_checkpointing: bool = False                         # forget activations and compute them again: less memory, a third slower

    def __post_init__(self):
        levels = [len(getattr(self, name)) for name in ("mults", "blocks", "attention", "cross")]
        if len(set(levels)) > 1:
            raise ValueError(f"mults, blocks, attention, cross have {', '.join(map(str, levels))} levels: give one entry a level in each")


class Level(nn.Module):
    """Residual blocks of one size and width, then attention if the level has any: [B C_in H W] -> [B C_out H W]."""

    def __init__(self, config: EfficientUNetConfig, level: int, c_in: int, c_out: int):
        super().__init__()
        c = config
        widths = [c_in, *[c_out] * (c.blocks[level] - 1)]
        self.blocks = nn.ModuleList([ResBlock(w, c_out, embedding=4 * c.channels, film=True, dropout=c.dropout) for w in widths])
        self.attention = Attention(c_out, head_channels=c.head_channels, text_width=c.text_width, places=c.places) if c.attention[level] else None
        self.cross = CrossAttention(c_out, head_channels=c.head_channels, text_width=c.text_width) if c.cross[level] else None

    def forward(self, x: Tensor, embedding: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x, embedding)
        for attention in (self.attention, self.cross):
            x = x if attention is None else attention(x, text, mask)
        return x


class EfficientUNet(nn.Module):
    """x_t [B 3 H W], t [B] in 0..1000, cond -> [B C_out H W].  H and W divide by patch * 2^levels.

    cond.text [B L D] are a TextReader's tokens, the last of which says it all; cond.low_res [B 3 H W] and cond.aug [B], how noisy that is, 0..1,
    where in_channels is 6.  Lesson: notebooks/06_imagen.ipynb"""

    def __init__(self, config: EfficientUNetConfig = EfficientUNetConfig(), *, in_channels: int = 6, out_channels: int = 3):
        super().__init__()
        self.config, self.in_channels = config, in_channels
        c, fold = config, config.patch ** 2
        width, widths = 4 * c.channels, [c.channels * m for m in c.mults]
        self.time, self.aug = _clock(c.channels, width), _clock(c.channels, width) if in_channels > 3 else None
        self.pooled = nn.Linear(c.text_width, width)
        self.enter = nn.Conv2d(in_channels * fold, c.channels, 3, padding=1)
        above = [c.channels, *widths[:-1]]                                                   # widths one level up
        self.halves = nn.ModuleList([nn.Sequential(Halve(a, tf_padding=False), nn.Conv2d(a, w, 1)) for a, w in zip(above, widths)])
        self.down = nn.ModuleList([Level(c, level, w, w) for level, w in enumerate(widths)])
        self.up = nn.ModuleList([Level(c, level, 2 * w, w) for level, w in enumerate(widths)])
        self.doubles = nn.ModuleList([nn.Sequential(nn.Conv2d(w, a, 1), Double(a)) for a, w in zip(above, widths)])
        self.leave = nn.Sequential(group_norm(2 * c.channels), nn.SiLU(), zero(nn.Conv2d(2 * c.channels, out_channels * fold, 3, padding=1)))

    def forward(self, x: Tensor, t: Tensor, cond) -> Tensor:
        self._check(x, cond)
        x = x if cond.low_res is None else torch.cat([x, cond.low_res], dim=1)
        x = F.pixel_unshuffle(x, self.config.patch).contiguous(memory_format=torch.channels_last)
        embedding = self.embed(t, cond)                                                      # [B E]
        shortcuts = [x := self.enter(x)]                                                     # [B C H W] of each size
        for halve, level in zip(self.halves, self.down):
            shortcuts.append(x := self._run(level, halve(x), embedding, cond))
        for level, double in zip(reversed(self.up), reversed(self.doubles)):
            x = double(self._run(level, _joined(x, shortcuts.pop()), embedding, cond))
        return F.pixel_shuffle(self.leave(_joined(x, shortcuts.pop())), self.config.patch)   # [B C_out H W]

    def embed(self, t: Tensor, cond) -> Tensor:
        """Everything that is one vector a picture: the time, the caption as a whole, and how noisy the small picture is.  [B E]"""
        embedding = self.time(sinusoid(t, self.config.channels)) + self.pooled(cond.text[:, -1])
        return embedding if self.aug is None else embedding + self.aug(sinusoid(1000 * cond.aug, self.config.channels))

    def _run(self, level: Level, x: Tensor, embedding: Tensor, cond) -> Tensor:
        if self.config.gradient_checkpointing and self.training:
            return checkpoint(level, x, embedding, cond.text, cond.mask, use_reentrant=False)
        return level(x, embedding, cond.text, cond.mask)

    def _check(self, x: Tensor, cond) -> None:
        """ValueError unless x_t and cond have the shapes that this network was built for."""
        factor = self.config.patch * 2 ** len(self.config.mults)
        x, low_res, aug, text, mask = ([] if v is None else list(v.shape) for v in (x, cond.low_res, cond.aug, cond.text, cond.mask))
        if len(x) != 4 or x[1] != 3 or x[2] % factor or x[3] % factor:
            raise ValueError(f"x_t {x}: this U-Net takes [B 3 H W] with H and W divisible by {factor}")
        if (low_res, aug) != ((x, x[:1]) if self.in_channels > 3 else ([], [])):
            raise ValueError(f"low_res {low_res}, aug {aug}: this U-Net takes " + (f"{x} and {x[:1]}" if self.in_channels > 3 else "neither"))
        if len(text) != 3 or text[::2] != [x[0], self.config.text_width] or mask != text[:2]:
            raise ValueError(f"text {text}, mask {mask}: this U-Net takes text [{x[0]} L {self.config.text_width}] and a mask [{x[0]} L]")


def _clock(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(channels, width), nn.SiLU(), nn.Linear(width, width))


def _joined(x: Tensor, shortcut: Tensor) -> Tensor:
    """The way up beside its shortcut, which is scaled so that the two do not add up to more than either: [B 2C H W]."""
    return torch.cat([x, shortcut * 2 ** -0.5], dim=1)                                       # Imagen skip scaling
