"""One U-Net that is, by configuration, DDPM's CIFAR-10 network, improved DDPM's or any of GLIDE's.

DDPM (Ho et al. 2020), improved DDPM (Nichol & Dhariwal 2021), GLIDE (Nichol et al. 2022). Down to
few pixels and many channels, back up, with skip connections at every size. Small enough
configurations run on a laptop.
"""
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..ranges import check_ranges
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
class UNetConfig:
    """The size of a U-Net, what it is conditioned on, and whose conventions it follows."""
    channels: int = 128                                       # width at full size
    channel_mult: tuple[int, ...] = (1, 2, 2, 2)              # width per level, times channels
    blocks: int = 2                                           # blocks per level down; one more up
    attention: tuple[bool, ...] = (False, True, False, False) # levels with attention; middle always
    head_channels: int | None = None                          # width of a head; None = one head
    scale_shift_norm: bool = False                            # time scales and shifts; False: adds
    dropout: float = 0.1                                      # in every residual block
    resample: str = "conv"                                    # conv, or block = in residual blocks
    patch: int = 1                                            # patch side (pixels); 2: 3-4x cheaper
    places: bool = False                                      # attention knows where each pixel is
    coordinates: bool = False                                 # the first layer does, from x and y
    classes: int = 0                                          # labels to condition on; 0 = none
    text_width: int = 0                                       # D of the caption's tokens; 0 = none
    tf_layout: bool = False                                   # DDPM's TensorFlow conventions
    gradient_checkpointing: bool = False                      # less memory, a third slower

    def __post_init__(self):
        check_ranges(self)
        if len(self.channel_mult) != len(self.attention):
            raise ValueError(f"channel_mult has {len(self.channel_mult)} levels, "
                             f"attention {len(self.attention)}: give one entry a level in both")
        if self.resample not in ("conv", "block"):
            raise ValueError(f"resample={self.resample!r}: choose conv or block")
        check_embedding(self.channels)

    @property
    def factor(self) -> int:
        """Pixels that H and W must divide by."""
        return self.patch * 2 ** (len(self.channel_mult) - 1)


class UNet(Checkpointed):
    """U-Net: x_t [B 3 H W], t [B] in 0..1000, cond -> [B C_out H W].

    H and W divide by patch * 2^(levels - 1).  in_channels: of x_t, and 3 more for cond.low_res, 4
    more for cond.known.  known: whether it looks at cond.known; None there means that nothing is
    given.  out_channels: as x_t, or twice as many with a learned variance.
    Lesson: notebooks/03_ddpm.ipynb"""

    def __init__(self, config: UNetConfig = UNetConfig(), *, in_channels: int = 3,
                 out_channels: int = 3, known: bool = False):
        super().__init__()
        self.config, self.in_channels, self.known = config, in_channels, known
        c, folded, width = config, config.patch ** 2, 4 * config.channels
        self.time = time_mlp(c.channels, width)
        self.label = nn.Embedding(c.classes, width) if c.classes else None
        self.pooled = nn.Linear(c.text_width, width) if c.text_width else None
        inputs = in_channels + 2 * c.coordinates
        self.conv_in = nn.Conv2d(inputs * folded, c.channels, 3, padding=1)
        widths = [c.channels * m for m in c.channel_mult]
        self.down, skips = self._down(widths)
        middle = [self._layer(widths[-1], widths[-1], attention=here) for here in (True, False)]
        self.middle = nn.ModuleDict({f"block{k}": layer for k, layer in enumerate(middle)})
        self.up = self._up(widths, skips)
        self.conv_out = output_layers(widths[0], out_channels * folded)
        norms = [part for part in self.modules() if isinstance(part, nn.GroupNorm)]
        for norm in norms if c.tf_layout else ():
            norm.eps = 1e-6                                          # TensorFlow's

    def _down(self, widths: list[int]) -> tuple[nn.ModuleDict, list[int]]:
        """The layers of the way down, each of which leaves a skip connection, and those widths."""
        c, layers, skips, width = self.config, nn.ModuleDict(), [widths[0]], widths[0]
        for level, w in enumerate(widths):
            for k in range(c.blocks):
                layer = self._layer(width, w, attention=c.attention[level])
                layers[f"level{level}_block{k}"] = layer
                skips.append(width := w)
            if level < len(widths) - 1:
                layers[f"level{level}_down"] = self._downsample(w)
                skips.append(w)
        return layers, skips

    def _up(self, widths: list[int], skips: list[int]) -> nn.ModuleDict:
        """The layers of the way up: each residual block takes one skip connection too."""
        c, layers, skips, width = self.config, nn.ModuleDict(), list(skips), widths[-1]
        for level, w in reversed(list(enumerate(widths))):
            for k in range(c.blocks + 1):
                c_in, attention = width + skips.pop(), c.attention[level]
                layer = self._layer(c_in, w, attention=attention, takes_skip=True)
                layers[f"level{level}_block{k}"] = layer
                width = w
            if level > 0:
                layers[f"level{level}_up"] = self._upsample(w)
        return layers

    def _layer(self, c_in: int, c_out: int, *, attention: bool = False, takes_skip: bool = False,
               resize: nn.Module | None = None) -> Layer:
        c = self.config
        block = ResBlock(c_in, c_out, embedding=4 * c.channels, scale_shift_norm=c.scale_shift_norm,
                         dropout=c.dropout, resize=resize)
        attentions = [Attention(c_out, head_channels=c.head_channels, text_width=c.text_width,
                                places=c.places)] if attention else []
        return Layer(block, *attentions, takes_skip=takes_skip)

    def _downsample(self, width: int) -> nn.Module:
        if self.config.resample == "conv":
            return Downsample(width, tf_padding=self.config.tf_layout)
        return self._layer(width, width, resize=nn.AvgPool2d(2))

    def _upsample(self, width: int) -> nn.Module:
        if self.config.resample == "conv":
            return Upsample(width)
        return self._layer(width, width, resize=nn.UpsamplingNearest2d(scale_factor=2))

    def forward(self, x: Tensor, t: Tensor, cond) -> Tensor:
        self._check(x, cond)
        x = self.conv_in(self._stem(x, cond))                        # [B C h w], h = H / patch
        emb = self.embed(t, cond)                                    # [B E]
        skips = [x]
        for layer in self.down.values():
            x = self.run(layer, x, emb, cond)                        # C grows, h and w halve
            skips.append(x)
        for layer in self.middle.values():
            x = self.run(layer, x, emb, cond)                        # most channels, fewest pixels
        for layer in self.up.values():
            if layer.takes_skip:
                x = torch.cat([x, skips.pop()], dim=1)               # [B C+C_skip h w]
            x = self.run(layer, x, emb, cond)                        # C shrinks, h and w double
        x = self.conv_out(x)                                         # [B C_out*patch^2 h w]
        return F.pixel_shuffle(x, self.config.patch)                 # [B C_out H W]

    def embed(self, t: Tensor, cond) -> Tensor:
        """One vector per image: the time, and the label or the caption's last token.  [B E]"""
        last = int(self.config.tf_layout)
        emb = self.time(timestep_embedding(t, self.config.channels, last=last))
        if self.label is not None and cond.text is not None:
            emb = emb + self.label(cond.text[:, 0]) * cond.mask[:, :1]       # no label adds nothing
        if self.pooled is not None:
            emb = emb + self.pooled(cond.text[:, -1])
        return emb

    def _stem(self, x: Tensor, cond) -> Tensor:
        """x_t, the images it may look at and coordinates, side by side in patches: [B C h w]."""
        known = cond.known
        if self.known and known is None:
            known = x.new_zeros(len(x), 4, *x.shape[2:])             # [B 4 H W]: nothing is given
        where = coordinates(x) if self.config.coordinates else None
        return in_patches([x, known, cond.low_res, where], self.config.patch)

    def _check(self, x: Tensor, cond) -> None:
        """ValueError unless x_t and cond have the shapes that this network was built for."""
        c, inputs = self.config, (x, cond.low_res, cond.known, cond.text, cond.mask)
        x, low_res, known, text, mask = map(shape_of, inputs)
        beside = " and ".join(["low_res"] * bool(low_res) + ["known"] * bool(known))
        channels = self.in_channels - 3 * bool(low_res) - 4 * bool(known or self.known)
        said = f"x_t {x} with {beside}" if beside else f"x_t {x}"
        check_images(said, x, channels=channels, factor=c.factor)
        if low_res not in ([], x):
            raise ValueError(f"low_res {low_res}: this U-Net takes it at the size of x_t {x}")
        if known and known != [x[0], 4, *x[2:]]:
            raise ValueError(f"known {known}: this U-Net takes it as [B 4 H W] "
                             f"at the size of x_t {x}")
        if c.classes and not (text == mask and text in ([], [x[0], 1])):
            raise ValueError(f"labels {text}, mask {mask}: this U-Net takes both as [{x[0]} 1]")
        takes = [x[0], *text[1:2], c.text_width]
        if c.text_width and (text != takes or mask not in ([], text[:2])):
            raise ValueError(f"text {text}, mask {mask}: "
                             f"this U-Net takes text [{x[0]} L {c.text_width}], "
                             f"and a mask [{x[0]} L] or none: then it looks at all of it")


def coordinates(x: Tensor) -> Tensor:
    """y, then x of every pixel of images [B C H W], from -1 to 1: [B 2 H W] (CoordConv, Liu et al.
    2018)."""
    B, _, H, W = x.shape
    y, x_ = (torch.linspace(-1, 1, n, device=x.device, dtype=x.dtype) for n in (H, W))
    return torch.stack(torch.meshgrid(y, x_, indexing="ij")).expand(B, 2, H, W)
