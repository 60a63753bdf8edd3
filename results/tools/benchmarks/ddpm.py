"""Time our DDPM, diffusers, improved-diffusion and denoising-diffusion-pytorch in turns.

`python results/tools/benchmarks/ddpm.py --improved-diffusion PATH --lucidrains PATH` writes ddpm.json here.
Three networks are DDPM's own for CIFAR-10, of 35,746,307 parameters each; lucidrains' has another design, at
the width that brings it nearest. A call of the network, and a training step: theirs in the plainest loop
around their own loss (squared error of eps, AdamW, no clipping, no averaged weights), ours by `fit` with all
that it does besides.
"""
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import cycle

import torch
import torch.nn.functional as F
from common import about, begin, extra_memory, in_turns, options, write
from torch import nn

from t2ilab.diffusion.cond import Cond
from t2ilab.presets import PRESETS
from t2ilab.tensors import generator
from t2ilab.training.fit import TrainState, fit

MODEL, FIT = PRESETS["ddpm-cifar10"].model, PRESETS["ddpm-cifar10"].fit
DIFFUSERS = "diffusers"
PUBLISHED = (DIFFUSERS, "improved-diffusion", "lucidrains")


@dataclass(frozen=True)
class Contender:
    """A network, the prediction that it makes, and its own training loss."""
    net: nn.Module
    call: Callable          # (x_t [B 3 32 32], t [B] int64 in 0..999) -> [B 3 32 32]
    loss: Callable          # x0 [B 3 32 32] in [-1, 1] -> a number


def size_of(net: nn.Module) -> int:
    """How many numbers it learns."""
    return sum(p.numel() for p in net.parameters())


def diffusers_ddpm() -> Contender:
    """UNet2DModel as in google/ddpm-cifar10-32, noised by DDPMScheduler."""
    from diffusers import DDPMScheduler, UNet2DModel
    net = UNet2DModel(
        sample_size=32, in_channels=3, out_channels=3, layers_per_block=2, act_fn="silu",
        block_out_channels=(128, 256, 256, 256), attention_head_dim=None, dropout=0.1,
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        norm_eps=1e-6, downsample_padding=0, flip_sin_to_cos=False, freq_shift=1)
    scheduler = DDPMScheduler(num_train_timesteps=1000)

    def loss(x0):
        noise, t = torch.randn_like(x0), torch.randint(1000, (len(x0),))
        return F.mse_loss(net(scheduler.add_noise(x0, noise, t), t).sample, noise)
    return Contender(net, lambda x, t: net(x, t).sample, loss)


def improved_diffusion() -> Contender:
    """OpenAI's UNetModel, switched to DDPM's conventions, and GaussianDiffusion.training_losses."""
    from improved_diffusion import gaussian_diffusion as gd
    from improved_diffusion.unet import UNetModel
    net = UNetModel(in_channels=3, model_channels=128, out_channels=3, num_res_blocks=2, dropout=0.1,
                    attention_resolutions=(2,), channel_mult=(1, 2, 2, 2), num_heads=1)
    diffusion = gd.GaussianDiffusion(
        betas=gd.get_named_beta_schedule("linear", 1000), model_mean_type=gd.ModelMeanType.EPSILON,
        model_var_type=gd.ModelVarType.FIXED_LARGE, loss_type=gd.LossType.MSE)

    def loss(x0):
        t = torch.randint(1000, (len(x0),))
        return diffusion.training_losses(net, x0, t)["loss"].mean()
    return Contender(net, net, loss)


def lucidrains() -> Contender:
    """denoising-diffusion-pytorch: linear attention on every level, full attention on the last."""
    from denoising_diffusion_pytorch.denoising_diffusion_pytorch import GaussianDiffusion, Unet
    nets = (Unet(dim=dim, dim_mults=(1, 2, 2, 2), dropout=0.1, flash_attn=True)
            for dim in range(128, 257, 8))
    net = min(nets, key=lambda net: abs(size_of(net) - 35_746_307))
    diffusion = GaussianDiffusion(net, image_size=32, timesteps=1000, objective="pred_noise",
                                  beta_schedule="linear")
    return Contender(net, net, lambda x0: diffusion((x0 + 1) / 2))


def ours() -> Contender:
    """As `t2ilab train ddpm-cifar10` does it."""
    model = MODEL.build()
    return Contender(model, lambda x, t: model.net(x, t, Cond()), model.loss)


def calls(contender: Contender, batch: int, dtype: torch.dtype) -> Callable:
    """() -> None, the network once, as a sampler calls it."""
    x, t = torch.randn(batch, 3, 32, 32, generator=generator(0)), torch.arange(batch) * 7 + 1

    def run():
        contender.net.eval()
        with torch.no_grad(), torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            contender.call(x, t)
    return run


def their_steps(contender: Contender, batches: list, dtype: torch.dtype) -> Callable:
    """() -> None, one step of the plainest loop around their loss."""
    optimizer = torch.optim.AdamW(contender.net.parameters(), lr=FIT.lr, betas=FIT.betas, weight_decay=0)
    images = cycle(batches)

    def run():
        contender.net.train()
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            loss = contender.loss(next(images))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return run


def our_steps(contender: Contender, batches: list, dtype: torch.dtype) -> Callable:
    """() -> None, one step of `fit`."""
    precision = "fp32" if dtype == torch.float32 else "bf16"
    config = replace(FIT, steps=10 ** 9, batch_size=len(batches[0]), precision=precision)
    pairs = cycle([(x0, Cond()) for x0 in batches])
    steps = fit(contender.net, pairs, config, state=TrainState(contender.net, config))
    return lambda: next(steps)


def measure(a) -> dict:
    """A table per precision: a call, a training step and its memory, of everybody."""
    batches = list(torch.rand(4, a.batch, 3, 32, 32, generator=generator(1)) * 2 - 1)
    made = {DIFFUSERS: diffusers_ddpm, "improved-diffusion": improved_diffusion, "lucidrains": lucidrains}
    tables = {}
    for dtype in (torch.float32, torch.bfloat16):
        contenders = {name: make() for name, make in made.items()} | {"ours": ours()}
        tables["parameters"] = {name: size_of(one.net) for name, one in contenders.items()}
        call = {name: calls(one, a.batch, dtype) for name, one in contenders.items()}
        step = {name: their_steps(one, batches, dtype) for name, one in contenders.items() if name != "ours"}
        step["ours"] = our_steps(contenders["ours"], batches, dtype)
        of = str(dtype).removeprefix("torch.")
        tables[f"a call ({of})"] = in_turns(call, a.rounds, beside=PUBLISHED)
        tables[f"a training step ({of})"] = in_turns(step, a.rounds, beside=PUBLISHED)
        tables[f"MiB of a training step ({of})"] = {name: extra_memory(run) for name, run in step.items()}
    return tables


def main():
    parser = options(__doc__, __file__)
    parser.add_argument("--improved-diffusion", required=True,
                        help="a checkout of https://github.com/openai/improved-diffusion")
    parser.add_argument("--lucidrains", required=True,
                        help="a checkout of https://github.com/lucidrains/denoising-diffusion-pytorch")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    packages = {"improved_diffusion": "improved_diffusion", "lucidrains": "denoising_diffusion_pytorch"}
    a = begin(parser, packages)
    checkouts = {"improved-diffusion": a.improved_diffusion, "lucidrains": a.lucidrains}
    write(about(a, checkouts) | measure(a), a.out)


if __name__ == "__main__":
    main()
