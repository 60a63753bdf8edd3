"""Imagen's Efficient U-Net, for its upsamplers: most of the work is done where pixels are few.

Imagen (Saharia et al. 2022, Appendix B). It halves the image before a level's blocks and doubles it
after them. One skip connection per level, scaled by 1/sqrt(2). Left out: the base's network, which
is improved DDPM's U-Net (nets/unet.py).
"""
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..ranges import COUNT, check_ranges
from .attention import Attention
from .layers import (
    Checkpointed,
    Downsample,
    Layer,
    ResBlock,
    Upsample,
    check_embedding,
    check_images,
    in_patches,
    output_layers,
    shape_of,
    time_mlp,
    timestep_embedding,
)


@dataclass(frozen=True)
class EfficientUNetConfig:
    """The size of an Efficient U-Net, and where it has attention."""
    channels: int = 128                                        # width at full size
    channel_mult: tuple[int, ...] = (1, 2, 4, 8)               # width per level, times channels
    blocks: tuple[int, ...] = (2, 4, 8, 8)                     # residual blocks per level, each way
    attention: tuple[bool, ...] = (False, False, False, True)  # levels: pixels see pixels, caption
    cross: tuple[bool, ...] = (False, False, False, False)     # levels: pixels see caption alone
    head_channels: int | None = 64                             # width of a head; None = one head
    dropout: float = 0.0                                       # in every residual block
    patch: int = 1                                             # patch side in pixels
    places: bool = False                                       # attention knows where each pixel is
    text_width: int = 512                                      # D of the caption's tokens
    gradient_checkpointing: bool = False                       # less memory, a third slower

    def __post_init__(self):
        check_ranges(self, text_width=COUNT)
        levels = [len(v) for v in (self.channel_mult, self.blocks, self.attention, self.cross)]
        if len(set(levels)) > 1:
            raise ValueError("channel_mult, blocks, attention, cross have "
                             f"{', '.join(map(str, levels))} levels: "
                             "give one entry a level in each")
        check_embedding(self.channels)

    @property
    def factor(self) -> int:
        """Pixels that H and W must divide by."""
        return self.patch * 2 ** len(self.channel_mult)


class Level(nn.Module):
    """The layers of a size, the last with the level's attention: [B C_in H W] -> [B C_out H W]."""

    def __init__(self, config: EfficientUNetConfig, level: int, c_in: int, c_out: int):
        super().__init__()
        c = config
        blocks = [ResBlock(width, c_out, embedding=4 * c.channels, scale_shift_norm=True,
                           dropout=c.dropout)
                  for width in [c_in] + [c_out] * (c.blocks[level] - 1)]
        both = dict(head_channels=c.head_channels, text_width=c.text_width)
        attentions = []
        if c.attention[level]:
            attentions.append(Attention(c_out, **both, places=c.places))
        if c.cross[level]:
            attentions.append(Attention(c_out, **both, cross=True))
        self.layers = nn.ModuleList([*map(Layer, blocks[:-1]), Layer(blocks[-1], *attentions)])

    def forward(self, x: Tensor, emb: Tensor, cond) -> Tensor:
        for layer in self.layers:
            x = layer(x, emb, cond)
        return x


class EfficientUNet(Checkpointed):
    """Efficient U-Net: x_t [B 3 H W], t [B] in 0..1000, cond -> [B C_out H W].

    H and W divide by patch * 2^levels.  cond.text [B L D] are TextPooling's tokens, the last of
    which stands for the whole caption; cond.low_res [B 3 H W] and cond.aug [B], how noisy that is,
    0..1, where in_channels is 6.  Lesson: notebooks/06_imagen.ipynb"""

    def __init__(self, config: EfficientUNetConfig = EfficientUNetConfig(), *,
                 in_channels: int = 6, out_channels: int = 3):
        super().__init__()
        self.config, self.in_channels = config, in_channels
        c, folded, width = config, config.patch ** 2, 4 * config.channels
        widths = [c.channels * m for m in c.channel_mult]
        above = [c.channels, *widths[:-1]]                               # widths one level up
        self.time = time_mlp(c.channels, width)
        self.aug = time_mlp(c.channels, width) if in_channels > 3 else None
        self.pooled = nn.Linear(c.text_width, width)
        self.conv_in = nn.Conv2d(in_channels * folded, c.channels, 3, padding=1)
        self.downsample = nn.ModuleList(
            [nn.Sequential(Downsample(a, tf_padding=False), nn.Conv2d(a, w, 1))
             for a, w in zip(above, widths)])
        self.down = nn.ModuleList([Level(c, k, w, w) for k, w in enumerate(widths)])
        self.up = nn.ModuleList([Level(c, k, 2 * w, w) for k, w in enumerate(widths)])
        self.upsample = nn.ModuleList(
            [nn.Sequential(nn.Conv2d(w, a, 1), Upsample(a)) for a, w in zip(above, widths)])
        self.conv_out = output_layers(2 * c.channels, out_channels * folded)

    def forward(self, x: Tensor, t: Tensor, cond) -> Tensor:
        self._check(x, cond)
        x = in_patches([x, cond.low_res], self.config.patch)             # [B . h w], h = H / patch
        emb = self.embed(t, cond)                                        # [B E]
        x = self.conv_in(x)                                              # [B C h w]
        skips = [x]
        for downsample, level in zip(self.downsample, self.down):
            x = self.run(level, downsample(x), emb, cond)                # C grows, h and w halve
            skips.append(x)
        for level, upsample in zip(reversed(self.up), reversed(self.upsample)):
            x = self.run(level, _joined(x, skips.pop()), emb, cond)      # [B C h w]
            x = upsample(x)                                              # C shrinks, h and w double
        x = self.conv_out(_joined(x, skips.pop()))                       # [B C_out*patch^2 h w]
        return F.pixel_shuffle(x, self.config.patch)                     # [B C_out H W]

    def embed(self, t: Tensor, cond) -> Tensor:
        """One vector per image: time, whole caption, how noisy the small image is.  [B E]"""
        channels = self.config.channels
        emb = self.time(timestep_embedding(t, channels)) + self.pooled(cond.text[:, -1])
        if self.aug is not None:
            emb = emb + self.aug(timestep_embedding(1000 * cond.aug, channels))
        return emb

    def _check(self, x: Tensor, cond) -> None:
        """ValueError unless x_t and cond have the shapes that this network was built for."""
        c, inputs = self.config, (x, cond.low_res, cond.aug, cond.text, cond.mask)
        x, low_res, aug, text, mask = map(shape_of, inputs)
        check_images(f"x_t {x}", x, channels=3, factor=c.factor)
        wanted, said = ([], []), "neither"
        if self.in_channels > 3:
            wanted, said = (x, x[:1]), f"{x} and {x[:1]}"
        if (low_res, aug) != wanted:
            raise ValueError(f"low_res {low_res}, aug {aug}: this U-Net takes {said}")
        if text != [x[0], *text[1:2], c.text_width] or mask != text[:2]:
            raise ValueError(f"text {text}, mask {mask}: "
                             f"this U-Net takes text [{x[0]} L {c.text_width}] "
                             f"and a mask [{x[0]} L]")


def _joined(x: Tensor, skip: Tensor) -> Tensor:
    """The way up beside its skip connection: [B 2C H W].

    The skip is scaled so that the two do not add up to more than either."""
    return torch.cat([x, skip * 2 ** -0.5], dim=1)                       # Imagen skip scaling
