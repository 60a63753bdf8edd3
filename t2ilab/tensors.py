"""Seeds, broadcasting and pixel ranges: what every other module needs.

A source of random numbers is one generator for a whole batch (training), or a list with one per image
(sampling), so that an image does not depend on what else is in its batch.

The only file that knows how [-1, 1] floats and uint8 pixels turn into each other. Left out on purpose:
anything about diffusion.
"""
import hashlib
from collections import Counter
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Source = torch.Generator | Sequence[torch.Generator] | None


def like(v: Tensor, x: Tensor) -> Tensor:
    """Coefficients v ([] or [B], float64) on x's device and dtype, shaped to broadcast against x [B ...].

    v is cast last: tables subtract and divide in float64, and only the result loses digits."""
    return v.to(x.device, x.dtype).view(-1, *[1] * (x.ndim - 1))


def generator(*seeds: int) -> torch.Generator:
    """A CPU generator whose stream is a pure function of the integers, e.g. generator(seed, step, shard).

    Nearby integers give unrelated streams, and there is no state to save: step 137's noise can be drawn
    without steps 1 to 136."""
    text = ",".join(str(int(seed)) for seed in seeds)
    digest = hashlib.sha256(text.encode()).digest()
    seed = int.from_bytes(digest[:8], "little", signed=True)
    return torch.Generator().manual_seed(seed)


def generator_per_image(captions: Sequence[str], seed: int) -> list[torch.Generator]:
    """One generator per image, from the seed and from how often its caption came before.

    So a seed is a noise and a caption says what becomes of it, alone, third in a batch, or in a batch of
    200; and a caption that is asked for four times gives four images."""
    before = Counter()
    sources = []
    for caption in captions:
        sources.append(generator(seed, before[caption]))
        before[caption] += 1
    return sources


def randn(shape, generator: Source = None, *, device="cpu", dtype=torch.float32) -> Tensor:
    """Standard normal numbers, drawn on the CPU and then moved.

    So a seed means the same image on every device.
    generator: one for all, or a list of one per image, shape[0] of them; ValueError for another number."""
    return _drawn(torch.randn, shape, generator, dtype).to(device)


def rand(shape, generator: Source = None, *, device="cpu", dtype=torch.float32) -> Tensor:
    """Numbers in [0, 1), drawn on the CPU and then moved.  generator: as in randn."""
    return _drawn(torch.rand, shape, generator, dtype).to(device)


def _drawn(draw: Callable, shape, generator: Source, dtype: torch.dtype, device="cpu") -> Tensor:
    if generator is None or isinstance(generator, torch.Generator):
        return draw(shape, generator=generator, dtype=dtype, device=device)
    if len(generator) != shape[0]:
        raise ValueError(f"{len(generator)} generators for a batch of {shape[0]}: "
                         "give one per image, or one for all")
    return torch.stack([draw(shape[1:], generator=g, dtype=dtype, device=device) for g in generator])


def gumbel(shape, generator: Source = None, *, device="cpu") -> Tensor:
    """Standard Gumbel noise: added to log-probabilities it makes the largest of them a draw.

    device: the generator's; by default the CPU, as randn's."""
    u = _drawn(torch.rand, shape, generator, torch.float32, device).clamp(1e-20, 1 - 1e-7)
    return -torch.log(-torch.log(u))


def one_hot(x: Tensor, K: int) -> Tensor:
    """One-hot tokens: [B N] int64 -> [B K N] bool, in memory as probabilities are; [MASK] = K is nowhere.

    (torch's own, turned around, makes all that follows slower.)"""
    return x[:, None] == torch.arange(K, device=x.device)[:, None]


def to_uint8(x: Tensor) -> Tensor:
    """Pixels [-1, 1] as uint8 0..255, rounded (never truncated: that darkens by half a level)."""
    return ((x.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def from_uint8(pixels: Tensor) -> Tensor:
    """uint8 0..255 as float32 in [-1, 1]."""
    return pixels.float() / 127.5 - 1
