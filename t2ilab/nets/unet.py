"""One U-Net that is, by configuration, DDPM's CIFAR-10 network, improved DDPM's, any of GLIDE's four,
or a small one for a laptop.

DDPM (Ho et al. 2020), improved DDPM (Nichol & Dhariwal 2021), GLIDE (Nichol et al. 2022). Down to few pixels
and many channels, back up, with skip connections at every size.
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
class UNetConfig:
    channels: int = 128                                          # width at full size
    # width of each level, times channels; each level halves the picture
    channel_mult: tuple[int, ...] = (1, 2, 2, 2)
    blocks: int = 2  # residual blocks a level on the way down (one more on the way up)
    # which levels have attention; the middle always has
    attention: tuple[bool, ...] = (False, True, False, False)
    head_channels: int | None = None                             # width of an attention head; None = one head
    scale_shift_norm: bool = False  # time scales and shifts (improved DDPM) instead of being added (DDPM)
    dropout: float = 0.1                                         # in every residual block
    resample: str = "conv"  # halve and double in a convolution (conv) or inside a residual block (block)
    patch: int = 1  # the image is unshuffled into patch^2 x channels first; 2 = 3 to 4 times cheaper
    places: bool = False  # attention is told where each pixel lies; a small network cannot tell by itself
    classes: int = 0                                             # labels to condition on; 0 = none
    text_width: int = 0                                          # D of the caption's tokens; 0 = none
    tf_layout: bool = False  # DDPM's original TensorFlow conventions, for its published weights
    # forget activations and compute them again: less memory, a third slower
    gradient_checkpointing: bool = False

    def __post_init__(self):
        if len(self.channel_mult) != len(self.attention):
            raise ValueError(f"channel_mult has {len(self.channel_mult)} levels, attention "
                             f"{len(self.attention)}: give one entry a level in both")
        if self.resample not in ("conv", "block"):
            raise ValueError(f"resample={self.resample!r}: choose conv or block")


class UNet(nn.Module):
    """x_t [B 3 H W], t [B] in 0..1000, cond -> [B C_out H W].  H and W divide by patch * 2^(levels - 1).

    in_channels: of x_t, and 3 more for cond.low_res, 4 more for cond.known.  known: whether it looks at
    cond.known; None there means that nothing is given.  out_channels: as x_t,
    or twice as many with a learned variance.
    Lesson: notebooks/03_ddpm.ipynb"""

    def __init__(self, config: UNetConfig = UNetConfig(), *, in_channels: int = 3, out_channels: int = 3,
                 known: bool = False):
        super().__init__()
        self.config, self.in_channels, self.known = config, in_channels, known
        c, width = config, 4 * config.channels
        self.time = time_mlp(c.channels, width)
        self.label = nn.Embedding(c.classes, width) if c.classes else None
        self.pooled = nn.Linear(c.text_width, width) if c.text_width else None
        self.conv_in = nn.Conv2d(in_channels * c.patch ** 2, c.channels, 3, padding=1)
        widths = [c.channels * m for m in c.channel_mult]
        self.down, skips = self._down(widths)
        last = widths[-1]
        self.middle = nn.ModuleDict({"block0": self._layer(last, last, attention=True),
                                     "block1": self._layer(last, last)})
        self.up = self._up(widths, skips)
        conv_out = zero(nn.Conv2d(widths[0], out_channels * c.patch ** 2, 3, padding=1))
        self.conv_out = nn.Sequential(group_norm(widths[0]), nn.SiLU(), conv_out)
        for norm in (part for part in self.modules() if isinstance(part, nn.GroupNorm) and c.tf_layout):
            norm.eps = 1e-6                                          # TensorFlow's

    def _down(self, widths: list[int]) -> tuple[nn.ModuleDict, list[int]]:
        """The layers of the way down, each of which leaves a skip connection, and the widths of all those."""
        c, layers, skips, width = self.config, nn.ModuleDict(), [widths[0]], widths[0]
        for level, w in enumerate(widths):
            for k in range(c.blocks):
                layers[f"level{level}_block{k}"] = self._layer(width, w, attention=c.attention[level])
                skips.append(width := w)
            if level < len(widths) - 1:
                layers[f"level{level}_down"] = self._downsample(w)
                skips.append(w)
        return layers, skips

    def _up(self, widths: list[int], skips: list[int]) -> nn.ModuleDict:
        """The layers of the way up: each residual block takes one skip connection beside its input."""
        c, layers, skips, width = self.config, nn.ModuleDict(), list(skips), widths[-1]
        for level, w in reversed(list(enumerate(widths))):
            for k in range(c.blocks + 1):
                layers[f"level{level}_block{k}"] = self._layer(width + skips.pop(), w,
                                                               attention=c.attention[level], takes_skip=True)
                width = w
            if level > 0:
                layers[f"level{level}_up"] = self._upsample(w)
        return layers

    def _layer(self, c_in: int, c_out: int, *, attention: bool = False, takes_skip: bool = False,
               resize: nn.Module | None = None) -> Layer:
        c = self.config
        block = ResBlock(c_in, c_out, embedding=4 * c.channels, scale_shift_norm=c.scale_shift_norm,
                         dropout=c.dropout, resize=resize)
        if not attention:
            return Layer(block, takes_skip=takes_skip)
        return Layer(block, Attention(c_out, head_channels=c.head_channels, text_width=c.text_width,
                                      places=c.places), takes_skip=takes_skip)

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
            skips.append(x := self._run(layer, x, emb, cond))        # wider, and smaller level by level
        for layer in self.middle.values():
            x = self._run(layer, x, emb, cond)                       # fewest pixels, most channels
        for layer in self.up.values():
            if layer.takes_skip:
                x = torch.cat([x, skips.pop()], dim=1)               # what was there before it became small
            x = self._run(layer, x, emb, cond)
        return F.pixel_shuffle(self.conv_out(x), self.config.patch)  # [B C_out H W]

    def embed(self, t: Tensor, cond) -> Tensor:
        """Everything that is one vector per image: the time,
        and the label or the caption's last token where there is one.  [B E]"""
        emb = self.time(timestep_embedding(t, self.config.channels, last=int(self.config.tf_layout)))
        if self.label is not None and cond.text is not None:
            emb = emb + self.label(cond.text[:, 0]) * cond.mask[:, :1]  # [B 1]: no label adds nothing
        if self.pooled is not None:
            emb = emb + self.pooled(cond.text[:, -1])
        return emb

    def _stem(self, x: Tensor, cond) -> Tensor:
        """x_t and the images it may look at, side by side in patches: [B C h w]."""
        known = x.new_zeros(len(x), 4, *x.shape[2:]) if self.known and cond.known is None else cond.known
        x = torch.cat([v for v in (x, known, cond.low_res) if v is not None], dim=1)
        return F.pixel_unshuffle(x, self.config.patch).contiguous(memory_format=torch.channels_last)

    def _run(self, layer: nn.Module, x: Tensor, emb: Tensor, cond) -> Tensor:
        return run(layer, x, emb, cond, recompute=self.config.gradient_checkpointing and self.training)

    def _check(self, x: Tensor, cond) -> None:
        """ValueError unless x_t and cond have the shapes that this network was built for."""
        c, factor = self.config, self.config.patch * 2 ** (len(self.config.channel_mult) - 1)
        x, low_res, known, text, mask = map(shape_of, (x, cond.low_res, cond.known, cond.text, cond.mask))
        channels = self.in_channels - 3 * bool(low_res) - 4 * bool(known or self.known)
        if len(x) != 4 or x[1] != channels or x[2] % factor or x[3] % factor:
            beside = " and ".join(name for name, shape in {"low_res": low_res, "known": known}.items()
                                  if shape)
            raise ValueError(f"x_t {x}{' with ' * bool(beside)}{beside}: "
                             f"this U-Net takes [B {channels} H W] with H and W divisible by {factor}")
        if low_res not in ([], x):
            raise ValueError(f"low_res {low_res}: this U-Net takes it at the size of x_t {x}")
        if known and known != [x[0], 4, *x[2:]]:
            raise ValueError(f"known {known}: this U-Net takes it as [B 4 H W] at the size of x_t {x}")
        if c.classes and not (text == mask and text in ([], [x[0], 1])):
            raise ValueError(f"labels {text}, mask {mask}: this U-Net takes both as [{x[0]} 1]")
        if c.text_width and (len(text) != 3 or text[::2] != [x[0], c.text_width]
                             or mask not in ([], text[:2])):
            raise ValueError(f"text {text}, mask {mask}: this U-Net takes text [{x[0]} L {c.text_width}], "
                             f"and a mask [{x[0]} L] or none: then it looks at all of it")
