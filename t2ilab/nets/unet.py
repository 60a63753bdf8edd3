"""One U-Net that is, by configuration, DDPM's CIFAR-10 network, improved DDPM's, any of GLIDE's four, or a small one for a laptop.

DDPM (Ho et al. 2020), improved DDPM (Nichol & Dhariwal 2021), GLIDE (Nichol et al. 2022). Down to few pixels and many channels, back up, with a shortcut at every size.
"""
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .attention import Attention
from .layers import Double, Halve, ResBlock, group_norm, sinusoid, zero


@dataclass(frozen=True)
class UNetConfig:
    channels: int = 128                                          # width at full size
    mults: tuple[int, ...] = (1, 2, 2, 2)                        # width of each level, times channels; each level halves the picture
    blocks: int = 2                                              # residual blocks a level on the way down (one more on the way up)
    attention: tuple[bool, ...] = (False, True, False, False)    # which levels have attention; the middle always has
    head_channels: int | None = None                             # width of an attention head; None = one head
    film: bool = False                                           # time scales and shifts (improved DDPM) instead of being added (DDPM)
    dropout: float = 0.1                                         # in every residual block
    resample: str = "conv"                                       # halve and double in a convolution (conv) or inside a residual block (block)
    patch: int = 1                                               # pixels folded into channels at the door; 2 makes a step 3 to 4 times cheaper
    places: bool = False                                         # attention is told where each pixel lies; a small network cannot tell by itself
    classes: int = 0                                             # labels to condition on; 0 = none
    text_width: int = 0                                          # D of the caption's tokens; 0 = none
    tf_layout: bool = False                                      # DDPM's original TensorFlow conventions, for its published weights
    gradient_checkpointing: bool = False                         # forget activations and compute them again: less memory, a third slower

    def __post_init__(self):
        if len(self.mults) != len(self.attention):
            raise ValueError(f"mults has {len(self.mults)} levels, attention {len(self.attention)}: give one entry a level in both")
        if self.resample not in ("conv", "block"):
            raise ValueError(f"resample={self.resample!r}: choose conv or block")


class UNet(nn.Module):
    """x_t [B 3 H W], t [B] in 0..1000, cond -> [B C_out H W].  H and W divide by patch * 2^(levels - 1).

    in_channels: 3, and 3 more for cond.low_res, 4 more for cond.known.  known: whether it looks at cond.known; None there means that nothing
    is given.  out_channels: 3, or 6 with a learned variance.
    Lesson: notebooks/03_ddpm.ipynb"""

    def __init__(self, config: UNetConfig = UNetConfig(), *, in_channels: int = 3, out_channels: int = 3, known: bool = False):
        super().__init__()
        self.config, self.in_channels, self.known = config, in_channels, known
        c = config
        width = 4 * c.channels
        self.time = nn.Sequential(nn.Linear(c.channels, width), nn.SiLU(), nn.Linear(width, width))
        self.label = nn.Embedding(c.classes, width) if c.classes else None
        self.pooled = nn.Linear(c.text_width, width) if c.text_width else None
        self.enter = nn.Conv2d(in_channels * c.patch ** 2, c.channels, 3, padding=1)
        widths = [c.channels * m for m in c.mults]
        self.down, skips = self._down(widths)
        last = widths[-1]
        self.middle = nn.ModuleList([self._block(last, last), self._attention(last), self._block(last, last)])
        self.up = self._up(widths, skips)
        self.leave = nn.Sequential(group_norm(widths[0]), nn.SiLU(),
                                   zero(nn.Conv2d(widths[0], out_channels * c.patch ** 2, 3, padding=1)))
        for norm in (part for part in self.modules() if isinstance(part, nn.GroupNorm) and c.tf_layout):
            norm.eps = 1e-6                                          # TensorFlow's

    def _block(self, c_in: int, c_out: int, resize: nn.Module | None = None) -> ResBlock:
        c = self.config
        return ResBlock(c_in, c_out, embedding=4 * c.channels, film=c.film, dropout=c.dropout, resize=resize)

    def _attention(self, channels: int) -> Attention:
        c = self.config
        return Attention(channels, head_channels=c.head_channels, text_width=c.text_width, places=c.places)

    def _down(self, widths: list[int]) -> tuple[nn.ModuleList, list[int]]:
        """The way down as a list of layers, each of which leaves a shortcut, and the widths of all shortcuts."""
        layers, skips, width = nn.ModuleList(), [widths[0]], widths[0]
        for level, w in enumerate(widths):
            for _ in range(self.config.blocks):
                layers.append(self._layer(width, w, level))
                skips.append(width := w)
            if level < len(widths) - 1:
                layers.append(nn.ModuleList([self._halve(w)]))
                skips.append(w)
        return layers, skips

    def _up(self, widths: list[int], skips: list[int]) -> nn.ModuleList:
        """The way up: each residual block takes one shortcut beside its input."""
        layers, skips, width = nn.ModuleList(), list(skips), widths[-1]
        for level, w in reversed(list(enumerate(widths))):
            for _ in range(self.config.blocks + 1):
                layers.append(self._layer(width + skips.pop(), w, level))
                width = w
            if level > 0:
                layers.append(nn.ModuleList([self._double(w)]))
        return layers

    def _halve(self, width: int) -> nn.Module:
        return Halve(width, tf_padding=self.config.tf_layout) if self.config.resample == "conv" else self._block(width, width, nn.AvgPool2d(2))

    def _double(self, width: int) -> nn.Module:
        return Double(width) if self.config.resample == "conv" else self._block(width, width, nn.UpsamplingNearest2d(scale_factor=2))

    def _layer(self, c_in: int, c_out: int, level: int) -> nn.ModuleList:
        attention = [self._attention(c_out)] if self.config.attention[level] else []
        return nn.ModuleList([self._block(c_in, c_out), *attention])

    def forward(self, x: Tensor, t: Tensor, cond) -> Tensor:
        self._check(x, cond)
        x = self._fold(x, cond)                                      # [B C H/patch W/patch]
        embedding = self.embed(t, cond)                              # [B E]
        skips = [x := self.enter(x)]
        for layer in self.down:
            skips.append(x := self._run(layer, x, embedding, cond))
        x = self._run(self.middle, x, embedding, cond)
        for layer in self.up:
            if not _doubles(layer[0]):
                x = torch.cat([x, skips.pop()], dim=1)
            x = self._run(layer, x, embedding, cond)
        return F.pixel_shuffle(self.leave(x), self.config.patch)     # [B C_out H W]

    def _check(self, x: Tensor, cond) -> None:
        """ValueError unless x_t and cond have the shapes that this network was built for."""
        c, factor = self.config, self.config.patch * 2 ** (len(self.config.mults) - 1)
        x, low_res, known, text, mask = ([] if v is None else list(v.shape) for v in (x, cond.low_res, cond.known, cond.text, cond.mask))
        channels = self.in_channels - 3 * bool(low_res) - 4 * bool(known or self.known)
        if len(x) != 4 or x[1] != channels or x[2] % factor or x[3] % factor:
            beside = " and ".join(name for name, shape in {"low_res": low_res, "known": known}.items() if shape)
            raise ValueError(f"x_t {x}{' with ' * bool(beside)}{beside}: this U-Net takes [B {channels} H W] with H and W divisible by {factor}")
        if low_res not in ([], x):
            raise ValueError(f"low_res {low_res}: this U-Net takes it at the size of x_t {x}")
        if known and known != [x[0], 4, *x[2:]]:
            raise ValueError(f"known {known}: this U-Net takes it as [B 4 H W] at the size of x_t {x}")
        if c.classes and not (text == mask and text in ([], [x[0], 1])):
            raise ValueError(f"labels {text}, mask {mask}: this U-Net takes both as [{x[0]} 1]")
        if c.text_width and (len(text) != 3 or text[::2] != [x[0], c.text_width] or mask not in ([], text[:2])):
            raise ValueError(f"text {text}, mask {mask}: this U-Net takes text [{x[0]} L {c.text_width}], and a mask [{x[0]} L] or none: then it looks at all of it")

    def embed(self, t: Tensor, cond) -> Tensor:
        """Everything that is one vector a picture: the time, and the label or the caption's last token where there is one.  [B E]"""
        embedding = self.time(sinusoid(t, self.config.channels, last=int(self.config.tf_layout)))
        if self.label is not None and cond.text is not None:
            embedding = embedding + self.label(cond.text[:, 0]) * cond.mask[:, :1]           # [B 1]: no label adds nothing
        if self.pooled is not None:
            embedding = embedding + self.pooled(cond.text[:, -1])
        return embedding

    def _fold(self, x: Tensor, cond) -> Tensor:
        known = x.new_zeros(len(x), 4, *x.shape[2:]) if self.known and cond.known is None else cond.known
        x = torch.cat([v for v in (x, known, cond.low_res) if v is not None], dim=1)
        return F.pixel_unshuffle(x, self.config.patch).contiguous(memory_format=torch.channels_last)

    def _run(self, layer: nn.ModuleList, x: Tensor, embedding: Tensor, cond) -> Tensor:
        if self.config.gradient_checkpointing and self.training:
            return checkpoint(self._parts, layer, x, embedding, cond, use_reentrant=False)
        return self._parts(layer, x, embedding, cond)

    def _parts(self, layer: nn.ModuleList, x: Tensor, embedding: Tensor, cond) -> Tensor:
        for part in layer:
            if isinstance(part, ResBlock):
                x = part(x, embedding)
            elif isinstance(part, Attention):
                x = part(x, cond.text, cond.mask) if self.config.text_width else part(x)
            else:
                x = part(x)
        return x


def _doubles(part: nn.Module) -> bool:
    """Whether this part of the way up makes the picture larger; it takes no shortcut."""
    return isinstance(getattr(part, "resize", part), (Double, nn.UpsamplingNearest2d))
