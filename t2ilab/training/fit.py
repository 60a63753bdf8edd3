"""Training loop of every family, as a generator: the caller plots, samples, saves or stops.

All randomness of a step is a pure function of (seed, step, shard), so resuming needs no
random-number state, and the shards of a step may be worked through one after the other
(accumulation) or side by side (processes) with the same result. Devices and processes are
`accelerate`'s.
"""
import copy
import math
import time
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..ranges import check_ranges
from ..tensors import generator
from .ema import ema_decay, update_ema
from .optimizer import OPTIMIZERS, FlatMuon, make_optimizers
from .precision import DTYPES, pick_precision


@dataclass(frozen=True)
class FitConfig:
    """How a model is trained: steps, optimiser, learning rate, precision and seed."""
    steps: int = 10_000                       # optimiser steps
    batch_size: int = 64                      # examples per step, over all processes and shards
    lr: float = 1e-3                          # learning rate after warm-up
    optimizer: str = "adamw"                  # adamw, or muon (for matrices, AdamW for the rest)
    betas: tuple[float, float] = (0.9, 0.99)  # of AdamW
    weight_decay: float = 0.0                 # pulls every weight towards 0
    warmup: int = 100                         # steps of linear warm-up
    decay: str = "cosine"                     # of lr after warm-up: cosine, linear (to ~0) or none
    clip: float = 1.0                         # maximum gradient norm; longer ones are scaled to it
    ema_decay: float = 0.999                  # of the averaged weights
    accumulate: int = 1                       # shards per step; several processes share them out
    precision: str = "auto"                   # auto (fastest in hardware), fp32, bf16 or fp16
    compile: bool = False                     # torch.compile the network: slow to start, then fast
    seed: int = 0                             # of the weights, the data order and the noise

    def __post_init__(self):
        if self.decay not in DECAYS:
            raise ValueError(f"decay={self.decay!r}: choose one of {', '.join(DECAYS)}")
        if self.precision not in ("auto", *DTYPES):
            raise ValueError(f"precision={self.precision!r}: "
                             f"choose one of auto, {', '.join(DTYPES)}")
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"optimizer={self.optimizer!r}: choose one of {', '.join(OPTIMIZERS)}")
        check_ranges(self)


DECAYS = {
    "cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
    "linear": lambda done: 1 - done,
    "none": lambda done: 1.0,
}


def learning_rate(step: int, config: FitConfig) -> float:
    """The learning rate of step 1..steps: a linear warm-up, then the decay.

    It would be at 0 one step after the last, so that no batch is for nothing."""
    steps = max(config.steps, config.warmup)
    done = max(0, step - config.warmup) / (steps + 1 - config.warmup)
    warm = min(1.0, step / max(1, config.warmup))
    return config.lr * warm * DECAYS[config.decay](done)


class Log(NamedTuple):
    """What one step reports."""
    step: int            # 1..steps
    loss: float          # mean over the step's examples
    grad_norm: float     # before clipping
    lr: float
    seconds: float       # this step took


class TrainState:
    """State of a run besides its data: model, averaged weights, optimisers, and the steps done."""

    def __init__(self, model: nn.Module, config: FitConfig):
        from accelerate import Accelerator, DistributedDataParallelKwargs
        # `after_step` keeps buffers equal; `dtype` below decides the precision.
        handlers = [DistributedDataParallelKwargs(broadcast_buffers=False)]
        self.accelerator = Accelerator(mixed_precision="no", kwargs_handlers=handlers)
        _check_whole(self.accelerator)
        device = self.accelerator.device
        self.config, self.step = config, 0
        self.model = model.to(device)
        self.ema = copy.deepcopy(self.model).eval().requires_grad_(False)
        if config.compile:
            _network(self.model).compile()
        self.optimizers = make_optimizers(self.model, config)
        self.dtype = pick_precision(config.precision, device)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype == torch.float16)

    @cached_property
    def shards(self) -> range:
        """The shards of each step that this process works on.

        ValueError unless shards divide by processes, and batch_size by shards."""
        n, rank = self.accelerator.num_processes, self.accelerator.process_index
        total = self.total_shards
        if total % n or self.config.batch_size % total:
            raise ValueError(f"batch_size={self.config.batch_size} in {total} shards "
                             f"on {n} processes: "
                             "shards must divide by processes, and batch_size by shards")
        return range(rank * total // n, (rank + 1) * total // n)

    @property
    def total_shards(self) -> int:
        """Shards per step, over all processes."""
        return max(self.config.accumulate, self.accelerator.num_processes)

    @cached_property
    def objective(self) -> nn.Module:
        """The model's loss as a module, so that several processes can average its gradients."""
        return self.accelerator.prepare(_Loss(self.model))


def _check_whole(accelerator) -> None:
    """ValueError where weights are cut up over processes: the optimisers here hold whole ones."""
    kind = accelerator.distributed_type.value
    if kind in ("FSDP", "DEEPSPEED", "MEGATRON_LM"):
        raise ValueError(f"{kind} is set for accelerate, which cuts weights up; "
                         "only whole copies are trained here: accelerate launch --multi_gpu")


def _network(model: nn.Module) -> nn.Module:
    """The network that a denoiser's loss calls once.  ValueError for a model that is no denoiser."""
    net = getattr(model, "net", None)
    if net is None:
        raise ValueError("compile=True is for denoisers: a codec or a text encoder is no single network")
    return net


class _Loss(nn.Module):
    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, x0, cond, generator):
        return self.model.loss(x0, cond, generator).mean()


def fit(model: nn.Module, batches: Iterable, config: FitConfig = FitConfig(), *,
        state: TrainState | None = None) -> Iterator[tuple[Log, nn.Module]]:
    """Train model.loss(x0, cond, generator) -> [B].  Yields (Log, averaged model) after every step.

    batches: (x0 [B C H W] in [-1, 1], Cond), one for each of this process's shards of each step,
    starting at state.step.
    Raises FloatingPointError with the step number if the loss or a gradient is not finite.
    Lesson: notebooks/03_ddpm.ipynb"""
    state = state or TrainState(model, config)
    batches = iter(batches)
    while state.step < config.steps:
        start, step = time.perf_counter(), state.step + 1
        lr = learning_rate(step, config)
        loss, norm = _update(state, lr, _gradients(state, batches, step))
        _check_finite(step, loss, norm, state.scaler)
        _remember(state)
        update_ema(state.ema, state.model, ema_decay(step, config.ema_decay))
        state.step = step
        yield Log(step, loss, norm, lr, time.perf_counter() - start), state.ema


def _gradients(state: TrainState, batches: Iterator, step: int) -> Tensor:
    """Add up the gradients of this process's shards; returns the mean loss [] over all processes."""
    accelerator, shards, losses = state.accelerator, state.shards, []
    device, seed = accelerator.device, state.config.seed
    state.model.train()
    state.model.zero_grad()
    for shard in shards:
        x0, cond = next(batches)
        x0, cond = x0.to(device), cond.map(lambda v: v.to(device))
        # Dropout draws other numbers than the noise: hence the 1.
        torch.manual_seed(generator(seed, step, shard, 1).initial_seed())
        is_last = shard == shards[-1]
        sync = nullcontext() if is_last else accelerator.no_sync(state.objective)
        mixed = state.dtype != torch.float32
        with sync, torch.autocast(device.type, dtype=state.dtype, enabled=mixed):
            loss = state.objective(x0, cond, generator(seed, step, shard))
            state.scaler.scale(loss / len(shards)).backward()
        losses.append(loss.detach().float())
    return accelerator.reduce(torch.stack(losses).mean(), reduction="mean")


def _update(state: TrainState, lr: float, loss: Tensor) -> tuple[float, float]:
    """One clipped optimiser step; returns the loss and the gradient's norm before clipping."""
    for optimizer in state.optimizers:
        if isinstance(optimizer, FlatMuon):
            optimizer.take_gradients()
        state.scaler.unscale_(optimizer)
    norm = nn.utils.clip_grad_norm_(state.model.parameters(), state.config.clip)
    # The one wait for a GPU in a step: it updates the weights while the next batch is made ready.
    loss_now, norm_now = torch.stack([loss, norm]).tolist()
    for optimizer in state.optimizers if math.isfinite(norm_now) else ():
        for group in optimizer.param_groups:
            group["lr"] = lr
        state.scaler.step(optimizer)
    state.scaler.update()
    return loss_now, norm_now


def _remember(state: TrainState) -> None:
    """Move what learns without gradients, once per step: a codebook's averages, losses seen at t.

    The loss changes nothing that a later shard of the step reads; modules note what they see.
    after_step(gather) moves them by what all shards noted; gather joins [n ...] of each process in
    shard order, so every process moves alike."""
    for module in state.model.modules():
        after_step = getattr(module, "after_step", None)
        if after_step is not None:
            after_step(state.accelerator.gather)


def _check_finite(step: int, loss: float, norm: float, scaler: torch.amp.GradScaler) -> None:
    # An overflow of fp16 is skipped and its scale halved; if even a scale of 1 does not help, it is
    # no overflow.
    overflow = scaler.is_enabled() and scaler.get_scale() >= 1
    if not (math.isfinite(loss) and (math.isfinite(norm) or overflow)):
        raise FloatingPointError(f"step {step}: loss is {loss}, gradient norm is {norm}; "
                                 "training stopped, and this step is not saved")
