"""A denoiser turns any network into x0_hat = D(x_t, t, cond),
and trains it with the same two lines read backwards.

DDPM (Ho et al. 2020), improved DDPM (Nichol & Dhariwal 2021). Left out: what the network is,
and where captions come from.
"""
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..tensors import like
from .cond import Cond, Prediction, conditioned
from .gaussian import PREDICTS, GaussianDiffusion
from .losses import WEIGHTS, vlb_term
from .timestep_samplers import TIMES, ImportanceTimes


@dataclass(frozen=True)
class ObjectiveConfig:
    predict: str = "eps"             # what the network outputs: x0, eps, v, or velocity (rectified flow's)
    # of a sampling step: small (q's own), large (the whole step's noise) or learned (improved DDPM)
    variance: str = "small"
    # simple (squared error), hybrid (plus 0.001 of the bound, for a learned variance) or vlb (the bound
    # alone)
    loss: str = "simple"
    # of the squared error over noise levels: none, x0, eps, v, velocity, v_clipped, min_snr or p2
    loss_weighting: str = "none"
    # how training picks t: uniform, late (mostly near T), or importance (by how much the bound varies there)
    timestep_sampler: str = "uniform"
    cond_drop_prob: float = 0.0  # share of captions or labels taken away in training, needed for guidance

    def __post_init__(self):
        for name, allowed in {"predict": PREDICTS, "variance": ("small", "large", "learned"),
                              "loss": ("simple", "hybrid", "vlb"),
                              "loss_weighting": ("none", *WEIGHTS),
                              "timestep_sampler": (*TIMES, "importance")}.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}={getattr(self, name)!r}: choose one of "
                                 f"{', '.join(sorted(allowed))}")
        if self.loss == "hybrid" and self.variance != "learned":
            raise ValueError("loss='hybrid' trains a learned variance: set variance='learned'")
        if not 0 <= self.cond_drop_prob < 1:
            raise ValueError(f"cond_drop_prob={self.cond_drop_prob}: choose a share from 0 up to (not "
                             "including) 1")


class GaussianDenoiser(nn.Module):
    """A network and a diffusion as one function (x_t, t, cond) -> Prediction,
    with the loss that trains it."""

    def __init__(self, net: nn.Module, diffusion: GaussianDiffusion,
                 config: ObjectiveConfig = ObjectiveConfig(), *,
                 pixels: bool = True):
        super().__init__()
        self.net, self.diffusion, self.config = net, diffusion, config
        self.pixels = pixels             # x0 lies in [-1, 1]; False for latents, which may lie anywhere
        self.importance = ImportanceTimes(diffusion.T) if config.timestep_sampler == "importance" else None

    def forward(self, x_t: Tensor, t, cond: Cond = Cond()) -> Prediction:
        """The clean picture, guessed from a noisy one.  x_t: [B C H W].  t: number or [B] on the CPU,
        above 0, up to T.

        cond: as `condition` returns it."""
        return self.predict(x_t, t, cond)[0]

    def condition(self, cond: Cond) -> Cond:
        """The condition as the network wants it at every step: what can be worked out once a run,
        such as a caption's features, is."""
        return conditioned(self.net, cond)

    def predict(self, x_t: Tensor, t, cond: Cond) -> tuple[Prediction, Tensor]:
        """The prediction, and the network's raw output (eps, x0 or v)
        [B C H W] that the simple loss compares."""
        # t runs to 1000 for every network, so that networks trained with any T share one timestep embedding.
        time = torch.as_tensor(t).expand(len(x_t)).to(x_t.device) * (1000 / self.diffusion.T)
        out, var = self.net(x_t, time, cond).to(x_t.dtype), None
        if self.config.variance == "learned":
            out, var = out.chunk(2, dim=1)
            var = (var + 1) / 2
        if self.config.variance == "large":  # but q's own at t = 1, as DDPM's code has it
            var = torch.ones_like(x_t) * like(torch.as_tensor(t).double() > 1, x_t)
        skip, scale = PREDICTS[self.config.predict](*self.diffusion.scales(x_t, t))
        return Prediction(skip * x_t + scale * out, var), out

    def loss(self, x0: Tensor, cond: Cond = Cond(), generator=None) -> Tensor:
        """How wrong the network is on one random noise level per picture, [B].

        x0: [B C H W] in [-1, 1]; raises ValueError outside.  Lesson: notebooks/03_ddpm.ipynb"""
        if self.pixels and x0.abs().amax() > 1.001:
            raise ValueError(f"x0 runs from {x0.amin():.2f} to {x0.amax():.2f}: training wants pixels "
                             "in [-1, 1]")
        t, importance = self.times(len(x0), generator)
        x_t = self.diffusion.diffuse(x0, t, generator)
        loss = self.loss_at(x0, x_t, t, self.condition(cond.drop(self.config.cond_drop_prob, generator)))
        if self.importance is not None and self.training:
            self.importance.note(t, loss)
        return loss * importance.to(loss)

    def times(self, batch: int, generator=None) -> tuple[Tensor, Tensor]:
        """t [B] in 1..T, and the weight [B] that undoes an uneven choice: by importance in training alone, so
        that validations can be compared."""
        draw = (
            TIMES[self.config.timestep_sampler]
            if self.importance is None
            else self.importance.draw
            if self.training
            else TIMES["uniform"]
        )
        return draw(self.diffusion.T, batch, generator)

    def loss_at(self, x0: Tensor, x_t: Tensor, t: Tensor, cond: Cond) -> Tensor:
        """The loss [B] for given noise levels and noisy pictures: simple, hybrid or vlb.  cond: as
        `condition` returns it."""
        pred, out = self.predict(x_t, t, cond)
        if self.config.loss == "vlb":
            return vlb_term(self.diffusion, x0, x_t, t, t - 1, pred)
        skip, scale = PREDICTS[self.config.predict](*self.diffusion.scales(x0, t))
        loss = ((x0 - skip * x_t) / scale - out).square().flatten(1).mean(1)  # DDPM Eq. 14
        if self.config.loss_weighting != "none":
            snr = self.diffusion.snr(t)
            loss = loss * (WEIGHTS[self.config.loss_weighting](snr) / WEIGHTS[self.config.predict](snr)).to(
                loss
            )
        if self.config.loss == "hybrid":
            bound = vlb_term(self.diffusion, x0, x_t, t, t - 1, pred._replace(x0=pred.x0.detach()))
            loss = loss + self.diffusion.T / 1000 * bound  # iDDPM Eq. 16
        return loss
