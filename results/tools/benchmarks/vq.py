"""Time our VQ-Diffusion, the original code and diffusers in turns, with equal networks.

`python results/tools/benchmarks/vq.py --original PATH` writes vq.json beside this file.
The arithmetic of a step, from log p(x_0 | x_t) to a draw of x_{t-1}; a sampling step with its network; a
training step, for which diffusers has no loss. Nobody guides or truncates. Codes, text features, batch and
threads are the same, in float32; our network reads each peer's weights, and the file says how far the answers
lie apart. diffusers builds only linear layers of 4 times the width: it is timed beside the preset with such.

The original wants a GPU and CLIP. Two things are changed for that: Tensor.cuda, which it calls once per
block, does nothing, and condition_emb_config is None, with which its own forward takes features where
captions were. Its codec, data, Solver and EMA are not run: a training step is its Solver's order of calls
(forward with logits, zero_grad, backward, clip, AdamW) at the preset's rates. Ours is `fit`, which looks for
nan and averages weights besides.
"""
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import repeat
from unittest import mock

import torch
from common import about, begin, extra_memory, in_turns, options, write
from torch import Tensor, nn

from t2ilab.diffusion.cond import Cond, Prediction
from t2ilab.diffusion.guidance import guided
from t2ilab.diffusion.sampling import trajectory
from t2ilab.diffusion.unmasking import ancestral
from t2ilab.presets import PRESETS
from t2ilab.pretrained.vq_diffusion import convert_transformer
from t2ilab.tensors import generator
from t2ilab.training.fit import TrainState, fit


@dataclass(frozen=True)
class Inputs:
    """What every contender is given: random codes, half of them masked, and random features for captions."""
    x0: Tensor              # [B N] int64, 0..K-1
    x_t: Tensor             # [B N] int64, 0..K
    cond: Cond              # text [B L D]
    t: int                  # 1..T; theirs count from 0


@dataclass(frozen=True)
class Peer:
    """A published network, and its own ways."""
    net: nn.Module          # its transformer
    log_p: Callable         # Inputs -> log p(x_0 | x_t) [B K N]
    table: Callable         # (Inputs, log_p) -> () -> log p(x_{t-1} | x_t) [B K+1 N]
    draw: Callable          # (Inputs, log_p) -> () -> x_{t-1}
    step: Callable          # Inputs -> () -> x_{t-1}
    loss: Callable | None   # Inputs -> the loss


def inputs(model, batch: int) -> Inputs:
    """Random ones of a model's shapes, half way through the noise."""
    draw, t = generator(0), model.T // 2
    x0 = torch.randint(model.codebook_size, (batch, model.grid ** 2), generator=draw)
    text = torch.randn(batch, model.text_length, model.net.text_width, generator=draw)
    mask = torch.ones(text.shape[:2], dtype=torch.bool)
    return Inputs(x0, model.diffusion.diffuse(x0, t, draw), Cond(text, mask), t)


def original(model) -> Peer:
    """Its DiffusionTransformer of one of our configurations."""
    from image_synthesis.modeling.transformers import diffusion_transformer as published
    net, modeling = model.net, "image_synthesis.modeling"
    tokens = dict(num_embed=model.codebook_size, spatial_size=(model.grid, model.grid), embed_dim=net.width)
    blocks = dict(n_layer=net.layers, n_embd=net.width, n_head=net.heads, mlp_hidden_times=net.mlp_mult,
                  condition_dim=net.text_width, mlp_type={"linear": "fc", "conv": "conv_mlp"}[net.mlp],
                  block_activate="GELU2", content_seq_len=model.grid ** 2)
    embedding = f"{modeling}.embeddings.dalle_mask_image_embedding.DalleMaskImageEmbedding"
    transformer = f"{modeling}.transformers.transformer_utils.Text2ImageTransformer"
    process = published.DiffusionTransformer(
        content_emb_config={"target": embedding, "params": tokens},
        transformer_config={"target": transformer, "params": blocks},
        alpha_init_type="alpha1", diffusion_step=model.T, auxiliary_loss_weight=model.objective.auxiliary,
        adaptive_auxiliary_loss=model.objective.adaptive)

    def given(x):           # its own forms, made once: its loop carries the first from step to step
        log_x_t = published.index_to_log_onehot(x.x_t, model.codebook_size + 1)
        return log_x_t, x.cond.text, torch.full((len(x.x_t),), x.t - 1)

    def log_p_x0(x):
        return process.predict_start(*given(x))[:, :-1]

    def table(x, log_p):
        # as its predict_start gives it
        with_mask = torch.cat([log_p, torch.full_like(log_p[:, :1], -70)], dim=1).clamp(-70, 0)
        return partial(process.q_posterior, with_mask, *given(x)[::2])

    def draw(x, log_p):
        return lambda own=table(x, log_p): process.log_sample_categorical(own())

    def loss(x):
        given_x0 = {"content_token": x.x0, "condition_embed_token": x.cond.text}
        return process(given_x0, return_loss=True)["loss"]
    return Peer(process.transformer, log_p_x0, table, draw,
                step=lambda x: partial(process.p_sample, *given(x)), loss=loss)


def diffusers(model) -> Peer:
    """Its Transformer2DModel and its scheduler."""
    from diffusers import Transformer2DModel, VQDiffusionScheduler
    c, K = model.net, model.codebook_size
    scheduler = VQDiffusionScheduler(num_vec_classes=K + 1, num_train_timesteps=model.T)
    net = Transformer2DModel(num_attention_heads=c.heads, attention_head_dim=c.width // c.heads,
                             num_layers=c.layers, cross_attention_dim=c.text_width, attention_bias=True,
                             sample_size=model.grid, num_vector_embeds=K + 1,
                             num_embeds_ada_norm=model.T,
                             activation_fn="geglu-approximate", norm_type="ada_norm")

    def log_p(x):
        t = torch.tensor(x.t - 1)
        # clamped as in its pipeline
        return net(x.x_t, encoder_hidden_states=x.cond.text, timestep=t).sample.clamp(-70)

    def table(x, log_p):
        return partial(scheduler.q_posterior, log_p, x.x_t, x.t - 1)

    def draw(x, log_p):
        return partial(scheduler.step, log_p, x.t - 1, x.x_t)
    return Peer(net, log_p, table, draw, step=lambda x: lambda: draw(x, log_p(x))(), loss=None)


def ours(model, peer: Peer, layout: str):
    """Our TokenDenoiser with a peer's weights."""
    denoiser, state = model.build(), peer.net.state_dict()
    denoiser.net.load_state_dict(convert_transformer(state, denoiser.net, layout), strict=True)
    return denoiser.eval()


def measured(runs: dict[str, Callable], rounds: int, each: int = 1) -> dict:
    """Seconds and memory of each run, and times faster and smaller than the published ones among them.

    each: calls per round."""
    published = [name for name in runs if not name.startswith("ours")]
    repeated = {name: lambda run=run: [run() for _ in range(each)] for name, run in runs.items()}
    rows = in_turns(repeated, rounds, beside=published)
    memory = {name: extra_memory(run) for name, run in runs.items()}
    for name, row in rows.items():
        row |= {"seconds": row["seconds"] / each, "extra MiB": memory[name]}
        if memory[name]:
            row |= {f"times less memory than {other}": memory[other] / memory[name] for other in published}
    return rows


@torch.no_grad()
def posteriors(a, model) -> dict:
    """The arithmetic alone, on the same random log p(x_0 | x_t); how far p(x_{t-1} | x_t) differ."""
    x, diffusion = inputs(model, a.batch), model.diffusion
    small = replace(model, net=replace(model.net, layers=1, mlp="linear"))
    noise = torch.randn(a.batch, model.codebook_size, model.grid ** 2, generator=generator(1))
    log_p = (3 * noise).log_softmax(1)                      # [B K N]
    peers = {"original": original(small), "diffusers": diffusers(small)}
    table = partial(diffusion.posterior, x_t=x.x_t, t=x.t, s=x.t - 1)
    own = table(log_p.exp())
    apart = {name: float((peer.table(x, log_p)().exp() - own).abs().max()) for name, peer in peers.items()}
    runs = {name: peer.draw(x, log_p) for name, peer in peers.items()}
    runs["ours"] = lambda: diffusion.step(Prediction(log_p), x.x_t, x.t, x.t - 1)
    states = replace(diffusion, K=diffusion.K + 1)          # [MASK] is one more of them to draw
    runs["ours, with the table"] = lambda: states.sample_x0(table(log_p.exp()).log())
    measures = measured(runs, a.rounds, each=3)
    return {"largest difference to our p(x_{t-1} | x_t)": apart, **measures}


@torch.no_grad()
def sampling(a, model, builds: dict[str, Callable]) -> dict:
    """A sampling step with its network, by the loop of every pipeline; how far log p(x_0 | x_t) differ."""
    x, peers = inputs(model, a.batch), {name: build(model) for name, build in builds.items()}
    mine = {name: ours(model, peer, name) for name, peer in peers.items()}
    apart = {name: float((peer.log_p(x) - mine[name](x.x_t, x.t, x.cond).x0).abs().max())
             for name, peer in peers.items()}
    denoise, times = guided(mine["original"], x.cond, 1.0), (x.t, x.t - 1)
    steps = {name: peer.step(x) for name, peer in peers.items()}
    steps["ours"] = lambda: next(trajectory(denoise, model.diffusion, x.x_t, times, sampler=ancestral))
    nets = {name: peer.net for name, peer in peers.items()} | {"ours": mine["original"]}
    return {"parameters": sizes(nets), "largest difference to our log p(x_0 | x_t)": apart,
            **measured(steps, a.rounds)}


def training(a, model, config) -> dict:
    """A step of training: the loss, backward, AdamW."""
    x, theirs = inputs(model, a.batch), original(model)
    denoiser = ours(model, theirs, "original")
    run = fit(denoiser, repeat((x.x0, x.cond)), config, state=TrainState(denoiser, config))
    optimizer = torch.optim.AdamW(theirs.net.parameters(), lr=config.lr, betas=config.betas,
                                  weight_decay=config.weight_decay)

    def step():
        loss = theirs.loss(x)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(theirs.net.parameters(), config.clip)
        optimizer.step()
    rows = measured({"original": step, "ours": lambda: next(run)}, a.rounds, a.training_steps)
    return {"parameters": sizes({"original": theirs.net, "ours": denoiser}), **rows}


def sizes(nets: dict[str, nn.Module]) -> dict[str, int]:
    """How many numbers each learns."""
    return {name: sum(p.numel() for p in net.parameters()) for name, net in nets.items()}


def measure(a) -> dict:
    preset = PRESETS[a.preset]
    net = preset.model.net
    model = replace(preset.model, net=replace(net, layers=a.layers or net.layers))
    linear = replace(model, net=replace(model.net, mlp="linear", mlp_mult=4))
    config = replace(preset.fit, steps=10 ** 9, batch_size=a.batch, precision="fp32")
    result = {"posterior (fp32)": posteriors(a, model)}
    if linear != model:
        result["sampling step (fp32)"] = sampling(a, model, {"original": original})
    both = {"original": original, "diffusers": diffusers}
    result["sampling step, linear layers (fp32)"] = sampling(a, linear, both)
    return result | {"training step (fp32)": training(a, model, config)}


def main():
    parser = options(__doc__, __file__)
    parser.add_argument("--original", required=True,
                        help="a checkout of https://github.com/microsoft/VQ-Diffusion")
    parser.add_argument("--preset", default="vq-cub-s", choices=("vq-cub-s", "vq-coco"),
                        help="whose networks")
    parser.add_argument("--layers", type=int, default=0, help="blocks of every network; 0 = the preset's")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=2, help="pictures at once, everywhere")
    parser.add_argument("--training-steps", type=int, default=1, help="a round; of sampling, 1")
    a = begin(parser, {"original": "image_synthesis"})
    warnings.simplefilter("ignore")                 # theirs are old
    with mock.patch.object(Tensor, "cuda", lambda self: self):
        write(about(a, {"vq_diffusion": a.original}) | measure(a), a.out)


if __name__ == "__main__":
    main()
