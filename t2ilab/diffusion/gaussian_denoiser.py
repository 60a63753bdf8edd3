"""Denoiser: any network as x0_hat = D(x_t, t, cond), and the loss that trains it.

DDPM (Ho et al. 2020), improved DDPM (Nichol & Dhariwal 2021). The forward pass and the loss are the
same two lines, read in opposite directions.
Left out: what the network is, and where captions come from.
"""
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..ranges import check_ranges
from ..tensors import like
from .cond import Cond, Prediction, conditioned
from .gaussian import PREDICTS, GaussianDiffusion
from .losses import WEIGHTS, vlb_term
from .timestep_samplers import TIMES, ImportanceTimes


@dataclass(frozen=True)
class ObjectiveConfig:
    """What a Gaussian denoiser predicts, and the loss that trains it."""
    predict: str = "eps"               # network output: x0, eps, v or velocity (rectified flow)
    variance: str = "small"            # of a step: small (q's), large (all its noise) or learned
    loss: str = "simple"               # simple (MSE), hybrid (MSE + 0.001 VLB) or vlb (VLB alone)
    # by SNR: none, x0, eps, v, velocity, v_clipped, min_snr, min_snr_plus or p2
    loss_weighting: str = "none"
    timestep_sampler: str = "uniform"  # uniform, late, middle or importance
    cond_drop_prob: float = 0.0        # share of captions or labels dropped, for guidance

    def __post_init__(self):
        check_ranges(self)
        choices = {
            "predict": PREDICTS,
            "variance": ("small", "large", "learned"),
            "loss": ("simple", "hybrid", "vlb"),
            "loss_weighting": ("none", *WEIGHTS),
            "timestep_sampler": (*TIMES, "importance"),
        }
        for name, allowed in choices.items():
            value = getattr(self, name)
            if value not in allowed:
                raise ValueError(f"{name}={value!r}: choose one of {', '.join(sorted(allowed))}")
        if self.loss == "hybrid" and self.variance != "learned":
            raise ValueError("loss='hybrid' trains a learned variance: set variance='learned'")


class GaussianDenoiser(nn.Module):
    """A network and a diffusion as one function (x_t, t, cond) -> Prediction, with its loss."""

    def __init__(self, net: nn.Module, diffusion: GaussianDiffusion,
                 config: ObjectiveConfig = ObjectiveConfig(), *, pixels: bool = True):
        super().__init__()
        self.net, self.diffusion, self.config = net, diffusion, config
        self.pixels = pixels        # x0 lies in [-1, 1]; False for latents, which may lie anywhere
        by_importance = config.timestep_sampler == "importance"
        self.importance = ImportanceTimes(diffusion.T) if by_importance else None

    def forward(self, x_t: Tensor, t, cond: Cond = Cond()) -> Prediction:
        """The predicted x_0 [B C H W], and its variance.

        x_t: [B C H W].  t: number or [B] on the CPU, above 0, up to T.
        cond: as `condition` returns it."""
        return self.predict(x_t, t, cond)[0]

    def condition(self, cond: Cond) -> Cond:
        """The condition as the network wants it at every step.

        What can be computed once per run, such as a caption's features, is."""
        return conditioned(self.net, cond)

    def predict(self, x_t: Tensor, t, cond: Cond) -> tuple[Prediction, Tensor]:
        """The prediction, and the raw output [B C H W] (eps, x0 or v) that the loss compares."""
        # t runs to 1000 for every network, so that networks trained with any T share one
        # timestep embedding.
        time = torch.as_tensor(t).expand(len(x_t)).to(x_t.device) * (1000 / self.diffusion.T)
        out = self.net(x_t, time, cond).to(x_t.dtype)
        var = None
        if self.config.variance == "learned":
            out, var = out.chunk(2, dim=1)
            var = (var + 1) / 2
        if self.config.variance == "large":             # but q's own at t = 1, as in DDPM's code
            var = torch.ones_like(x_t) * like(torch.as_tensor(t).double() > 1, x_t)
        skip, scale = PREDICTS[self.config.predict](*self.diffusion.scales(x_t, t))
        return Prediction(skip * x_t + scale * out, var), out

    def loss(self, x0: Tensor, cond: Cond = Cond(), generator=None) -> Tensor:
        """Training loss [B] at one random noise level per image.

        x0: [B C H W] in [-1, 1]; raises ValueError outside.  Lesson: notebooks/03_ddpm.ipynb"""
        if self.pixels and x0.abs().amax() > 1.001:
            raise ValueError(f"x0 runs from {x0.amin():.2f} to {x0.amax():.2f}: "
                             "training wants pixels in [-1, 1]")
        t, importance = self.times(len(x0), generator)
        x_t = self.diffusion.diffuse(x0, t, generator)
        cond = self.condition(cond.drop(self.config.cond_drop_prob, generator))
        loss = self.loss_at(x0, x_t, t, cond)
        if self.importance is not None and self.training:
            self.importance.note(t, loss)
        return loss * importance.to(loss)

    def times(self, batch: int, generator=None) -> tuple[Tensor, Tensor]:
        """Training timesteps t [B] in 1..T, and the weight [B] that undoes an uneven choice.

        By importance in training alone, so that validation losses can be compared."""
        if self.importance is None:
            draw = TIMES[self.config.timestep_sampler]
        else:
            draw = self.importance.draw if self.training else TIMES["uniform"]
        return draw(self.diffusion.T, batch, generator)

    def loss_at(self, x0: Tensor, x_t: Tensor, t: Tensor, cond: Cond) -> Tensor:
        """The loss [B] at given noise levels and noisy images: simple, hybrid or vlb.

        x0, x_t: [B C H W].  t: [B] in 1..T.  cond: as `condition` returns it."""
        config, diffusion = self.config, self.diffusion
        pred, out = self.predict(x_t, t, cond)
        if config.loss == "vlb":
            return vlb_term(diffusion, x0, x_t, t, t - 1, pred)
        skip, scale = PREDICTS[config.predict](*diffusion.scales(x0, t))
        loss = ((x0 - skip * x_t) / scale - out).square().flatten(1).mean(1)    # DDPM Eq. 14
        if config.loss_weighting != "none":
            snr = diffusion.snr(t)
            weight = WEIGHTS[config.loss_weighting](snr) / WEIGHTS[config.predict](snr)
            loss = loss * weight.to(loss)
        if config.loss == "hybrid":
            # The mean is detached, so that the bound trains the variance alone.
            bound = vlb_term(diffusion, x0, x_t, t, t - 1, pred._replace(x0=pred.x0.detach()))
            loss = loss + diffusion.T / 1000 * bound                            # iDDPM Eq. 16
        return loss
