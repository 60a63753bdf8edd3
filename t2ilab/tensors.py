"""Seeds, broadcasting and pixel ranges: the three small things every other module leans on.

The only file that knows how [-1, 1] floats and uint8 pixels turn into each other. Left out on purpose: anything about diffusion.
"""
import hashlib

import torch
from torch import Tensor


def like(v: Tensor, x: Tensor) -> Tensor:
    """Coefficients v ([] or [B], float64) on x's device and dtype, shaped to broadcast against x [B ...].

    v is cast last: tables subtract and divide in float64, and only the result loses digits."""
    return v.to(x.device, x.dtype).view(-1, *[1] * (x.ndim - 1))


def generator(*seeds: int) -> torch.Generator:
    """A CPU generator whose stream is a pure function of the integers, e.g. generator(seed, step, shard).

    Nearby integers give unrelated streams, and there is no state to save: step 137's noise can be drawn without steps 1 to 136."""
    digest = hashlib.sha256(",".join(str(int(s)) for s in seeds).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))


def randn(shape, generator=None, *, device="cpu", dtype=torch.float32) -> Tensor:
    """Standard normal numbers, drawn on the CPU and then moved, so that a seed means the same picture on every device."""
    return torch.randn(shape, generator=generator, dtype=dtype).to(device)


def gumbel(shape, generator=None, *, device="cpu") -> Tensor:
    """Standard Gumbel noise: added to log-probabilities it makes the largest of them a draw.

    device: the generator's; by default the CPU, as randn's."""
    u = torch.rand(shape, generator=generator, device=device).clamp(1e-20, 1 - 1e-7)
    return -torch.log(-torch.log(u))


def to_uint8(x: Tensor) -> Tensor:
    """Pixels [-1, 1] as uint8 0..255, rounded (never truncated: that darkens by half a level)."""
    return ((x.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def from_uint8(pixels: Tensor) -> Tensor:
    """uint8 0..255 as float32 in [-1, 1]."""
    return pixels.float() / 127.5 - 1
