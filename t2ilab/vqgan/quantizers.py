"""Vector quantisers: three ways to round a vector to a codebook entry and still pass gradients.

VQ-VAE (van den Oord et al. 2017): nearest entry, learned by gradients or by moving averages (its
Appendix A.1); Gumbel-softmax (Jang et al. 2017), as in DALL-E (Ramesh et al. 2021). A code that
nobody takes any more is put where images are.

What training moves without a gradient moves once per step, by what all its shards saw: forward
notes, after_step moves.
"""
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..tensors import gumbel

COMMITMENT = 0.25                # how strongly the encoder is pulled to the entries it takes
DECAY, SMALLEST = 0.99, 1e-5     # of the moving averages; keeps a division from failing
DEAD = 0.03                      # a code taken less often than this part of an even share: revived


class Quantizer(nn.Module):
    """Quantiser: z [B D h w] -> (z_q [B D h w], codes [B h w] int64, loss [B]).

    In training it notes who takes what.  used: buffer [K], a moving average of how often each code
    is taken in a batch.  codebook: [K D], of each kind's own making.
    Lesson: notebooks/07_codec.ipynb"""
    codebook: Tensor

    def __init__(self, codebook_size: int, width: int):
        super().__init__()
        self.register_buffer("used", torch.zeros(codebook_size))
        self.noted: list[tuple[Tensor, ...]] = []                            # of this step's shards

    @torch.no_grad()
    def after_step(self, gather: Callable[[Tensor], Tensor] = lambda v: v) -> None:
        """Move by what all shards noted.

        gather: [n ...] of this process's shards -> [S ...] of all, in shard order.
        Training calls it once per step; a loop of your own does so after each of its steps, too."""
        if self.noted:
            columns = [torch.stack(column) for column in zip(*self.noted)]   # [n ...] each
            self.noted.clear()
            self._move(gather, *columns)

    def _move(self, gather: Callable[[Tensor], Tensor], taken: Tensor) -> None:
        """taken: [n K] cells of each shard that took each code."""
        self._count(gather(taken).sum(0))

    def nearest(self, z: Tensor) -> Tensor:
        """The code of each cell, without chance: [B D h w] -> [B h w]."""
        flat = z.float().movedim(1, -1).flatten(0, 2)                        # [N D]
        book = self.codebook.float()                                         # [K D]
        with torch.autocast(z.device.type, enabled=False):
            # |z - e|^2 without its |z|^2, which is the same for all codes
            distance = book.square().sum(1) - 2 * flat @ book.T              # [N K]
        return distance.argmin(1).view(len(z), *z.shape[2:])                 # [B h w]

    def embed(self, codes: Tensor) -> Tensor:
        """The entries of codes: [B h w] -> [B D h w]."""
        return F.embedding(codes, self.codebook).movedim(-1, 1)

    def usage(self) -> dict[str, float]:
        """Codebook usage: the share of codes in use, and their perplexity.

        Perplexity is how many codes, taken evenly, would be as hard to guess.  By an EMA: a code
        that was just revived counts as used.  For a trained VQGAN use the exact count
        (evaluation/reconstruction.py)."""
        p = self.used / self.used.sum().clamp(min=1e-12)                     # [K]
        alive = self.used > DEAD * self.used.mean()
        entropy = -(p * p.clamp(min=1e-12).log()).sum()
        return {"codes_used": alive.float().mean().item(), "perplexity": entropy.exp().item()}

    def _taken(self, codes: Tensor) -> Tensor:
        """How many cells took each code: [B h w] -> [K]."""
        ones = torch.ones_like(codes.flatten(), dtype=self.used.dtype)
        return torch.zeros_like(self.used).index_add_(0, codes.flatten(), ones)

    def _count(self, taken: Tensor) -> Tensor:
        """Update `used` by how many cells took each code [K]; returns which are dead [K] bool."""
        self.used.mul_(DECAY).add_(taken, alpha=1 - DECAY)
        return self.used < DEAD * taken.sum() / len(taken)


class VectorQuantizer(Quantizer):
    """Nearest entry; the codebook learns by gradients."""

    def __init__(self, codebook_size: int, width: int):
        super().__init__(codebook_size, width)
        self.codebook = nn.Parameter(torch.empty(codebook_size,
                                                 width).uniform_(-1 / codebook_size, 1 / codebook_size))

    def forward(self, z: Tensor, generator=None) -> tuple[Tensor, Tensor, Tensor]:
        codes = self.nearest(z)                                              # [B h w]
        if self.training:
            self.noted.append((self._taken(codes), self._candidates(z, generator)))
        e = self.embed(codes)                                                # [B D h w]
        loss = distance(z.detach(), e) + COMMITMENT * distance(z, e.detach())    # VQ-VAE loss
        return z + (e - z).detach(), codes, loss                                 # straight-through

    def _candidates(self, z: Tensor, generator) -> Tensor:
        """A cell for each code, in case it is dead: [K D]."""
        flat = cells(z)                                                      # [N D]
        chosen = torch.randint(len(flat), (len(self.used),), generator=generator)
        return flat[chosen.to(flat.device)]

    def _move(self, gather: Callable[[Tensor], Tensor], taken: Tensor, candidates: Tensor) -> None:
        self._revive(self._count(gather(taken).sum(0)), gather, candidates)

    def _revive(self, dead: Tensor, gather: Callable[[Tensor], Tensor], candidates: Tensor) -> None:
        """Put dead entries [K] bool where cells of this step are, its shards taking turns.

        candidates: [n K D]."""
        if not dead.any():                               # on all processes, or on none
            return
        candidates = gather(candidates)                                      # [S K D]
        k = torch.arange(len(dead), device=dead.device)                      # [K]
        self._put(dead, candidates[k % len(candidates), k])
        self.used[dead] = self.used.mean()

    def _put(self, dead: Tensor, cells: Tensor) -> None:
        self.codebook[dead] = cells[dead]


class EMAVectorQuantizer(VectorQuantizer):
    """Nearest entry; each is a moving average of the cells that take it, moved by no gradient."""

    def __init__(self, codebook_size: int, width: int):
        super().__init__(codebook_size, width)
        del self.codebook
        self.register_buffer("codebook", torch.randn(codebook_size, width))
        self.register_buffer("total", self.codebook.clone())

    def forward(self, z: Tensor, generator=None) -> tuple[Tensor, Tensor, Tensor]:
        codes = self.nearest(z)                                              # [B h w]
        e = self.embed(codes)                                                # [B D h w]
        if self.training:
            sums = torch.zeros_like(self.total)
            sums.index_add_(0, codes.flatten(), cells(z))                    # [K D]
            self.noted.append((self._taken(codes), sums, self._candidates(z, generator)))
        return z + (e - z).detach(), codes, COMMITMENT * distance(z, e)      # straight-through

    def _move(self, gather: Callable[[Tensor], Tensor], taken: Tensor, sums: Tensor,
              candidates: Tensor) -> None:
        dead = self._count(gather(taken).sum(0))
        self.total.mul_(DECAY).add_(gather(sums).sum(0), alpha=1 - DECAY)
        n = self.used.sum()
        counts = (self.used + SMALLEST) / (n + len(self.used) * SMALLEST) * n
        self.codebook.copy_(self.total / counts[:, None])                   # VQ-VAE moving averages
        self._revive(dead, gather, candidates)

    def _put(self, dead: Tensor, cells: Tensor) -> None:
        self.codebook[dead] = cells[dead]
        self.total[dead] = cells[dead] * self.used.mean()


class GumbelQuantizer(Quantizer):
    """Gumbel-softmax: a network chooses, in training at random and still with a gradient.

    Afterwards it takes the likeliest code."""
    EVEN = 5e-4                  # weight of the pull towards using every code
    WARM, COLD = 1.0, 1 / 16     # temperature of the choice at first, and at last
    STEPS = 150_000              # how long it falls

    def __init__(self, codebook_size: int, width: int):
        super().__init__(codebook_size, width)
        self.choose = nn.Conv2d(width, codebook_size, 1)
        self.codebook = nn.Parameter(torch.randn(codebook_size, width))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    @property
    def temperature(self) -> float:
        """Temperature of the choice now: high = random, low = decided."""
        done = min(1.0, self.seen.item() / self.STEPS)
        return self.COLD ** done * self.WARM ** (1 - done)

    def nearest(self, z: Tensor) -> Tensor:
        return self.choose(z).argmax(1)

    def forward(self, z: Tensor, generator=None) -> tuple[Tensor, Tensor, Tensor]:
        logits = self.choose(z).float()                                      # [B K h w]
        log_p = logits.log_softmax(1)
        kl = (log_p.exp() * (log_p + math.log(logits.shape[1]))).sum(1)      # [B h w], to uniform
        even = self.EVEN * kl.flatten(1).mean(1)                             # [B]
        if not self.training:
            codes = logits.argmax(1)                                         # [B h w]
            return self.embed(codes), codes, even
        noisy = logits + _noise(logits, generator)                           # [B K h w]
        soft = (noisy / self.temperature).softmax(1)                         # Gumbel-softmax
        codes = soft.argmax(1)                                               # [B h w]
        hard = torch.zeros_like(soft).scatter_(1, codes[:, None], 1.0)       # [B K h w]
        self.noted.append((self._taken(codes),))
        choice = hard + soft - soft.detach()                                 # straight-through
        return torch.einsum("bkhw,kd->bdhw", choice, self.codebook), codes, even

    def _move(self, gather: Callable[[Tensor], Tensor], taken: Tensor) -> None:
        super()._move(gather, taken)
        self.seen += 1


def distance(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared difference of each example, in float32: [B]."""
    return (a.float() - b.float()).square().flatten(1).mean(1)


def cells(z: Tensor) -> Tensor:
    """The cells of a batch as a list, without gradient: [B D h w] -> [N D] float32."""
    return z.detach().float().movedim(1, -1).flatten(0, 2)


def _noise(logits: Tensor, generator=None) -> Tensor:
    """Gumbel noise like logits [B K h w].

    On a GPU it is drawn there, by a seed that the generator gives, because K numbers per cell are
    too many to draw on the CPU.  A pure function of the generator, but another one on each kind of
    device."""
    if logits.device.type == "cpu":
        return gumbel(logits.shape, generator)
    seed = int(torch.randint(2 ** 62, (), generator=generator))
    there = torch.Generator(logits.device).manual_seed(seed)
    return gumbel(logits.shape, there, device=logits.device)


QUANTIZERS = {"nearest": VectorQuantizer, "ema": EMAVectorQuantizer, "gumbel": GumbelQuantizer}
