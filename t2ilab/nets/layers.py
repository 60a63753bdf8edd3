"""Parts that the networks share: timestep embedding, residual block, down- and upsampling.

DDPM (Ho et al. 2020) and improved DDPM (Nichol & Dhariwal 2021). Last layers start at zero, so that
a new block changes nothing yet.
"""
import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def zero(layer: nn.Module) -> nn.Module:
    """The layer with its weights and bias set to zero."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def group_norm(channels: int, eps: float = 1e-5) -> nn.GroupNorm:
    """GroupNorm in 32 groups, or fewer where 32 does not divide the channels."""
    return nn.GroupNorm(math.gcd(32, channels), channels, eps)


def timestep_embedding(t: Tensor, channels: int, *, last: int = 0) -> Tensor:
    """Sinusoidal embedding of the timestep: [B] -> [B channels], cosines, then sines.

    Frequencies fall from 1 to about 1/10,000.  last=1 makes the slowest exactly that (DDPM's own
    code); last=0 stops just short of it (improved DDPM, GLIDE)."""
    half = channels // 2
    k = torch.arange(half, device=t.device)
    frequencies = (-math.log(10_000) * k / (half - last)).exp()      # [channels/2]
    angles = t.float()[:, None] * frequencies                        # [B channels/2]
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def check_embedding(channels: int) -> None:
    """ValueError for channels that have no half for the cosines and one for the sines."""
    if channels % 2:
        raise ValueError(f"channels={channels}: choose an even number, "
                         "half of it for the timestep's sines")


def time_mlp(channels: int, width: int) -> nn.Sequential:
    """MLP over a timestep embedding: [B channels] -> [B width]."""
    return nn.Sequential(nn.Linear(channels, width), nn.SiLU(), nn.Linear(width, width))


class ResBlock(nn.Module):
    """Residual block that mixes in the time (and caption): [B C_in H W], [B E] -> [B C_out H W].

    scale_shift_norm=True: they scale and shift the normalised features (FiLM, improved DDPM);
    False: they are added (DDPM).  resize: a module that halves or doubles H and W, before the first
    convolution and on the skip connection (GLIDE)."""

    def __init__(self, c_in: int, c_out: int, *, embedding: int, scale_shift_norm: bool,
                 dropout: float, resize: nn.Module | None = None):
        super().__init__()
        self.scale_shift_norm, self.resize = scale_shift_norm, resize or nn.Identity()
        self.norm1, self.conv1 = group_norm(c_in), nn.Conv2d(c_in, c_out, 3, padding=1)
        self.embed = nn.Linear(embedding, 2 * c_out if scale_shift_norm else c_out)
        self.norm2, self.dropout = group_norm(c_out), nn.Dropout(dropout)
        self.conv2 = zero(nn.Conv2d(c_out, c_out, 3, padding=1))
        self.skip = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = F.silu(self.norm1(x))                                    # [B C_in H W]
        h = self.conv1(self.resize(h))                               # [B C_out H' W']
        e = self.embed(F.silu(emb))[:, :, None, None]                # [B C_out or 2 C_out 1 1]
        if self.scale_shift_norm:
            scale, shift = e.chunk(2, dim=1)                         # [B C_out 1 1] each
            h = self.norm2(h) * (1 + scale) + shift
        else:
            h = self.norm2(h + e)
        h = self.conv2(self.dropout(F.silu(h)))                      # [B C_out H' W']
        return self.skip(self.resize(x)) + h                         # [B C_out H' W']


class Layer(nn.Module):
    """U-Net layer, a residual block and its level's attention if any: x, emb, cond -> x.

    x [B C_in H W], emb [B E] -> [B C_out H W].  takes_skip: whether its input is what comes from
    below and a skip connection side by side."""

    def __init__(self, block: ResBlock, *attentions: nn.Module, takes_skip: bool = False):
        super().__init__()
        self.block, self.attentions = block, nn.ModuleList(attentions)
        self.takes_skip = takes_skip

    def forward(self, x: Tensor, emb: Tensor, cond) -> Tensor:
        x = self.block(x, emb)                                       # [B C_out H W]
        for attention in self.attentions:
            x = attention(x, cond.text, cond.mask)                   # [B C_out H W]
        return x


class Downsample(nn.Module):
    """Stride-2 convolution: [B C H W] -> [B C H/2 W/2].

    tf_padding pads right and bottom only, as TensorFlow does.
    emb and cond are there because every layer of a U-Net is called alike."""

    def __init__(self, channels: int, *, tf_padding: bool):
        super().__init__()
        self.tf_padding = tf_padding
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=0 if tf_padding else 1)

    def forward(self, x: Tensor, emb: Tensor | None = None, cond=None) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)) if self.tf_padding else x)


class Upsample(nn.Module):
    """Nearest-neighbour upsampling, then a convolution: [B C H W] -> [B C 2H 2W].

    Called as Downsample is."""
    takes_skip = False

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, emb: Tensor | None = None, cond=None) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


def output_layers(c_in: int, c_out: int) -> nn.Sequential:
    """The last layers of a U-Net, which start as zero: [B C_in H W] -> [B C_out H W]."""
    conv = zero(nn.Conv2d(c_in, c_out, 3, padding=1))
    return nn.Sequential(group_norm(c_in), nn.SiLU(), conv)


class Checkpointed(nn.Module):
    """A network whose config can ask for gradient checkpointing."""

    def run(self, layer: nn.Module, *inputs) -> Tensor:
        """layer(*inputs); with gradient checkpointing the backward pass computes it once more."""
        recompute = self.config.gradient_checkpointing and self.training
        return checkpoint(layer, *inputs, use_reentrant=False) if recompute else layer(*inputs)


def in_patches(images: Iterable[Tensor | None], patch: int) -> Tensor:
    """Images side by side, in patches: [B . H W] or None each -> [B C*patch^2 H/patch W/patch]."""
    x = torch.cat([image for image in images if image is not None], dim=1)
    return F.pixel_unshuffle(x, patch).contiguous(memory_format=_fast_layout(x))


def _fast_layout(x: Tensor) -> torch.memory_format:
    """Channels last, which convolutions want; but not on a CPU in training or in bf16, where torch's
    GroupNorm is two to twenty times slower with it: a whole step of the tiny GLIDE by 5 %."""
    norm_is_slow = torch.is_grad_enabled() or torch.is_autocast_enabled("cpu")
    slow = x.device.type == "cpu" and norm_is_slow
    return torch.contiguous_format if slow else torch.channels_last


def shape_of(v: Tensor | None) -> list[int]:
    """A tensor's shape for an error message; [] for none."""
    return [] if v is None else list(v.shape)


def check_images(said: str, shape: list[int], *, channels: int, factor: int,
                 taker: str = "this U-Net") -> None:
    """ValueError unless a shape is [B channels H W] with H and W divisible by factor.

    said, taker: the images and the network in the error's words."""
    if len(shape) != 4 or shape[1] != channels or shape[2] % factor or shape[3] % factor:
        raise ValueError(f"{said}: {taker} takes [B {channels} H W] "
                         f"with H and W divisible by {factor}")
