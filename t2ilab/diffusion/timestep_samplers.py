"""Timestep samplers: how training picks t: evenly, mostly late, or by importance.

Improved DDPM (Nichol & Dhariwal 2021) samples t by how much the bound varies there.
"""
from collections.abc import Callable

import torch
from torch import Tensor, nn


def uniform_times(T: int, batch: int, generator=None) -> tuple[Tensor, Tensor]:
    """t [B] drawn evenly from 1..T, and weights of 1."""
    return torch.randint(1, T + 1, (batch,), generator=generator), torch.ones(batch)


def late_times(T: int, batch: int, generator=None) -> tuple[Tensor, Tensor]:
    """t [B] from 1..T, nearly half of them in the noisiest tenth, and weights [B] of 1.

    The weights stay 1 because the noisy end is meant to count for more: where everything stands is
    decided there, from the caption alone, and evenly drawn times leave that too few examples to be
    learned quickly."""
    u = torch.rand(batch, generator=generator, dtype=torch.float64)
    t = (T * (1 - u ** 3)).ceil().long().clamp(min=1)
    return t, torch.ones(batch)


def middle_times(T: int, batch: int, generator=None) -> tuple[Tensor, Tensor]:
    """t [B] from 1..T, mostly from the middle, and weights [B] of 1.

    Nine of ten are logit-normal (Esser et al. 2024): where there is hardly any noise, or hardly
    anything else, there is little to learn. But those all but never see the noisiest twentieth,
    where a caption decides what stands where: so a tenth comes from the noisiest fifth."""
    middle = torch.randn(batch, generator=generator, dtype=torch.float64).sigmoid()
    u = torch.rand(batch, generator=generator, dtype=torch.float64)
    t = (T * torch.where(u < 0.1, 0.8 + 2 * u, middle)).ceil().long().clamp(1, T)
    return t, torch.ones(batch)


TIMES = {"uniform": uniform_times, "late": late_times, "middle": middle_times}


class ImportanceTimes(nn.Module):
    """Importance sampling of t by the last 10 losses at each t: more often where the loss varies.

    Evenly until every t was seen 10 times.  All shards of a step choose by the same history: losses
    are noted, and remembered when the step is over, those of every shard and process in shard
    order. The history is a buffer, so a resumed run goes on exactly."""
    KEEP = 10           # losses remembered per t
    UNIFORM = 0.001     # the share of evenly drawn t that keeps every t alive
    history: Tensor     # [T 10] losses
    seen: Tensor        # [T] int64: how many of each t there were

    def __init__(self, T: int):
        super().__init__()
        self.register_buffer("history", torch.zeros(T, self.KEEP))
        self.register_buffer("seen", torch.zeros(T, dtype=torch.int64))
        self.noted: list[tuple[Tensor, Tensor]] = []    # (t [b], loss [b]) of this step's shards

    def probabilities(self) -> Tensor:
        """p_t [T] float64 for t = 1..T, on the CPU."""
        history, T = self.history.cpu().double(), len(self.seen)
        if self.seen.amin() < self.KEEP:
            return torch.full((T,), 1 / T, dtype=torch.float64)
        p = history.square().mean(1).sqrt()                     # iDDPM importance sampling
        return (1 - self.UNIFORM) * p / p.sum() + self.UNIFORM / T

    def draw(self, T: int, batch: int, generator=None) -> tuple[Tensor, Tensor]:
        """t [B] in 1..T and the weights 1 / (T p_t) that keep the expected loss what it was."""
        p = self.probabilities()
        index = torch.multinomial(p, batch, replacement=True, generator=generator)
        return index + 1, 1 / (T * p[index])

    def note(self, t: Tensor, loss: Tensor) -> None:
        """Keep the losses [b] that one shard saw at t [b] until the step is over."""
        self.noted.append((t.to(loss.device), loss.detach()))

    def after_step(self, gather: Callable[[Tensor], Tensor] = lambda v: v) -> None:
        """Remember what all shards noted.

        gather: [n ...] of this process -> [N ...] of all, in shard order."""
        if self.noted:
            t, loss = (gather(torch.cat(column)) for column in zip(*self.noted))
            self.noted.clear()
            self.update(t, loss)

    def update(self, t: Tensor, loss: Tensor) -> None:
        """Remember the losses [B] seen at t [B], in this order: the last 10 of each t."""
        history, seen, index = self.history.cpu(), self.seen.cpu(), t.cpu() - 1
        same = index[:, None] == index                          # [B B]
        before = same.tril(-1).sum(1)                           # [B] how often t came earlier
        after = same.triu(1).sum(1)                             # [B] how often t came later
        kept = after < self.KEEP
        slot = (seen[index] + before) % self.KEEP
        history[index[kept], slot[kept]] = loss.to(history)[kept]
        self.history.copy_(history)
        self.seen.copy_(seen.index_add(0, index, torch.ones_like(index)))
