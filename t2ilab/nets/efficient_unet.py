"""Imagen's Efficient U-Net for its upsamplers: it halves the image before a level's blocks and doubles it
after them, so that most of the work, and most of the parameters, are where pixels are few.

Imagen (Saharia et al. 2022, Appendix B). One skip connection per level, scaled by 1/sqrt(2). Left out: the
base's network, which is improved DDPM's U-Net (nets/unet.py).
"""
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import Attention
from .layers import (
    Downsample,
    Layer,
    ResBlock,
    Upsample,
    group_norm,
    run,
    shape_of,
    time_mlp,
    timestep_embedding,
    zero,
)


@dataclass(frozen=True)
class EfficientUNetConfig:
    channels: int = 128                                          # width at full size
    # width of each level, times channels; each level begins by halving the picture
    channel_mult: tuple[int, ...] = (1, 2, 4, 8)
    blocks: tuple[int, ...] = (2, 4, 8, 8)  # residual blocks of each level, on the way down and on the way up
    # which levels let pixels look at each other and at the caption
    attention: tuple[bool, ...] = (False, False, False, True)
    # which levels let pixels look at the caption alone
    cross: tuple[bool, ...] = (False, False, False, False)
    head_channels: int | None = 64                               # width of an attention head; None = one head
    dropout: float = 0.0                                         # in every residual block
    patch: int = 1  # the image is unshuffled into patch^2 x channels first
    places: bool = False                                         # attention is told where each pixel lies
    text_width: int = 512                                        # D of the caption's tokens
    # forget activations and compute them again: less memory, a third slower
    gradient_checkpointing: bool = False

    def __post_init__(self):
        levels = [len(getattr(self, name)) for name in ("channel_mult", "blocks", "attention", "cross")]
        if len(set(levels)) > 1:
            raise ValueError(f"channel_mult, blocks, attention, cross have {', '.join(map(str, levels))} "
                             "levels: give one entry a level in each")


class Level(nn.Module):
    """The layers of one size and width, the last with the level's attention:
    [B C_in H W] -> [B C_out H W]."""

    def __init__(self, config: EfficientUNetConfig, level: int, c_in: int, c_out: int):
        super().__init__()
        c = config
        blocks = [ResBlock(c_out if k else c_in, c_out, embedding=4 * c.channels, scale_shift_norm=True,
                           dropout=c.dropout)
                  for k in range(c.blocks[level])]
        attentions = []
        if c.attention[level]:
            attentions.append(Attention(c_out, head_channels=c.head_channels, text_width=c.text_width,
                                        places=c.places))
        if c.cross[level]:
            attentions.append(Attention(c_out, head_channels=c.head_channels, text_width=c.text_width,
                                        cross=True))
        self.layers = nn.ModuleList([*map(Layer, blocks[:-1]), Layer(blocks[-1], *attentions)])

    def forward(self, x: Tensor, emb: Tensor, cond) -> Tensor:
        for layer in self.layers:
            x = layer(x, emb, cond)
        return x


class EfficientUNet(nn.Module):
    """x_t [B 3 H W], t [B] in 0..1000, cond -> [B C_out H W].  H and W divide by patch * 2^levels.

    cond.text [B L D] are TextPooling's tokens, the last of which says it all; cond.low_res [B 3 H W] and
    cond.aug [B], how noisy that is, 0..1, where in_channels is 6.  Lesson: notebooks/06_imagen.ipynb"""

    def __init__(self, config: EfficientUNetConfig = EfficientUNetConfig(), *, in_channels: int = 6,
                 out_channels: int = 3):
        super().__init__()
        self.config, self.in_channels = config, in_channels
        c, folded, width = config, config.patch ** 2, 4 * config.channels
        widths = [c.channels * m for m in c.channel_mult]
        above = [c.channels, *widths[:-1]]                                               # widths one level up
        self.time = time_mlp(c.channels, width)
        self.aug = time_mlp(c.channels, width) if in_channels > 3 else None
        self.pooled = nn.Linear(c.text_width, width)
        self.conv_in = nn.Conv2d(in_channels * folded, c.channels, 3, padding=1)
        self.downsample = nn.ModuleList([nn.Sequential(Downsample(a, tf_padding=False), nn.Conv2d(a, w, 1))
                                         for a, w in zip(above, widths)])
        self.down = nn.ModuleList([Level(c, level, w, w) for level, w in enumerate(widths)])
        self.up = nn.ModuleList([Level(c, level, 2 * w, w) for level, w in enumerate(widths)])
        self.upsample = nn.ModuleList([nn.Sequential(nn.Conv2d(w, a, 1), Upsample(a))
                                       for a, w in zip(above, widths)])
        conv_out = zero(nn.Conv2d(2 * c.channels, out_channels * folded, 3, padding=1))
        self.conv_out = nn.Sequential(group_norm(2 * c.channels), nn.SiLU(), conv_out)

    def forward(self, x: Tensor, t: Tensor, cond) -> Tensor:
        self._check(x, cond)
        x = x if cond.low_res is None else torch.cat([x, cond.low_res], dim=1)
        x = F.pixel_unshuffle(x, self.config.patch).contiguous(memory_format=torch.channels_last)
        emb = self.embed(t, cond)                                                        # [B E]
        skips = [x := self.conv_in(x)]  # [B C H W] of each size
        for downsample, level in zip(self.downsample, self.down):
            skips.append(x := self._run(level, downsample(x), emb, cond))
        for level, upsample in zip(reversed(self.up), reversed(self.upsample)):
            x = upsample(self._run(level, _joined(x, skips.pop()), emb, cond))
        return F.pixel_shuffle(self.conv_out(_joined(x, skips.pop())), self.config.patch)   # [B C_out H W]

    def embed(self, t: Tensor, cond) -> Tensor:
        """Everything that is one vector per image: the time, the caption as a whole,
        and how noisy the small image is.  [B E]"""
        emb = self.time(timestep_embedding(t, self.config.channels)) + self.pooled(cond.text[:, -1])
        return (
            emb
            if self.aug is None
            else emb + self.aug(timestep_embedding(1000 * cond.aug, self.config.channels))
        )

    def _run(self, level: Level, x: Tensor, emb: Tensor, cond) -> Tensor:
        return run(level, x, emb, cond, recompute=self.config.gradient_checkpointing and self.training)

    def _check(self, x: Tensor, cond) -> None:
        """ValueError unless x_t and cond have the shapes that this network was built for."""
        factor = self.config.patch * 2 ** len(self.config.channel_mult)
        x, low_res, aug, text, mask = map(shape_of, (x, cond.low_res, cond.aug, cond.text, cond.mask))
        if len(x) != 4 or x[1] != 3 or x[2] % factor or x[3] % factor:
            raise ValueError(f"x_t {x}: this U-Net takes [B 3 H W] with H and W divisible by {factor}")
        if (low_res, aug) != ((x, x[:1]) if self.in_channels > 3 else ([], [])):
            wanted = f"{x} and {x[:1]}" if self.in_channels > 3 else "neither"
            raise ValueError(f"low_res {low_res}, aug {aug}: this U-Net takes {wanted}")
        if len(text) != 3 or text[::2] != [x[0], self.config.text_width] or mask != text[:2]:
            raise ValueError(
                f"text {text}, mask {mask}: "
                f"this U-Net takes text [{x[0]} L {self.config.text_width}] and a mask [{x[0]} L]"
            )


def _joined(x: Tensor, skip: Tensor) -> Tensor:
    """The way up beside its skip connection, which is scaled so that the two do not add up to more than
    either: [B 2C H W]."""
    return torch.cat([x, skip * 2 ** -0.5], dim=1)                                       # Imagen skip scaling
