"""EMA: an exponential moving average of the weights, to sample from.

It forgets the last batches' jitter.
"""
import torch
from torch import nn


def ema_decay(step: int, decay: float) -> float:
    """The EMA's decay at a step: young averages forget faster.

    So samples after 50 steps are not still the random start."""
    return min(decay, (1 + step) / (10 + step))


@torch.no_grad()
def update_ema(ema: nn.Module, model: nn.Module, decay: float) -> None:
    """ema <- decay * ema + (1 - decay) * model, for parameters; buffers are copied.

    Both must have the same layout."""
    torch._foreach_lerp_(list(ema.parameters()), list(model.parameters()), 1 - decay)
    for mine, theirs in zip(ema.buffers(), model.buffers(), strict=True):
        mine.copy_(theirs)
