"""Time our Imagen, MinImagen and imagen-pytorch in turns, then train each equally long and see what it draws.

`python results/tools/benchmarks/imagen.py --minimagen PATH --imagen-pytorch PATH` writes imagen.json here.
All three get the same images, text features, batch and threads. Their networks are as large as
ours, with as many levels and attention on the same ones but the first, as in their READMEs; each trains in
its own loop (MinImagen's train.py, ImagenTrainer, `fit`) with its own objective, schedule and optimiser. "At
their shape" is our network without its patches and the attention that they lack.
"""
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from functools import partial
from io import StringIO
from itertools import count, islice, repeat
from types import SimpleNamespace
from unittest import mock

import torch
from common import about, begin, extra_memory, in_turns, options, write
from torch import nn

from t2ilab.data.datasets import open_data
from t2ilab.data.loaders import stream
from t2ilab.diffusion.cond import Cond
from t2ilab.evaluation.caption_metrics import caption_metrics
from t2ilab.presets import PRESETS
from t2ilab.tensors import generator
from t2ilab.training.fit import TrainState, fit

PUBLISHED = ("MinImagen", "imagen-pytorch")


@dataclass(frozen=True)
class Contender:
    """A network, its own training loop, and its own way to draw."""
    parameters: int
    train: Callable         # endless (x0 [B 3 H W] in [-1, 1], Cond) -> iterator, one training step a turn
    draw: Callable          # (features [B L E], mask [B L], seed) -> pictures [B 3 H W] in [-1, 1]


def size_of(net: nn.Module) -> int:
    """How many numbers it learns."""
    return sum(p.numel() for p in net.parameters())


def nearest(build: Callable, model, parameters: int) -> nn.Module:
    """Their U-Net with our levels, and with the width that brings it nearest to so many parameters."""
    levels = (False, *model.net.attention[1:])
    build = partial(build, dim_mults=model.net.channel_mult, num_resnet_blocks=model.net.blocks,
                    layer_attns=levels, layer_cross_attns=levels, text_embed_dim=model.encoder_width)
    nets = (build(dim=dim) for dim in range(16, 129, 8))
    return min(nets, key=lambda net: abs(size_of(net) - parameters))


def minimagen(model, parameters: int, lr: float) -> Contender:
    """As in its train.py. It draws in as many steps as it trains noise levels."""
    from minimagen.ImagenConfig import ImagenConfig
    from minimagen.Unet import Unet
    net = nearest(Unet, model, parameters)
    imagen = ImagenConfig([net], text_encoder_name="", text_embed_dim=model.encoder_width,
                          image_sizes=(model.size,), timesteps=model.sampling_steps)
    # before the first call, after which it has no parameters
    optimizer = torch.optim.Adam(imagen.parameters(), lr=lr)

    def train(batches):
        for x0, cond in batches:
            imagen((x0 + 1) / 2, text_embeds=cond.text, text_masks=cond.mask).backward()
            optimizer.step()
            optimizer.zero_grad()
            yield

    def draw(text, mask, seed=0):
        torch.manual_seed(seed)
        with redirect_stderr(StringIO()):           # its progress bars
            images = imagen.sample(text_embeds=text, text_masks=mask, cond_scale=model.guidance_scale)
        return images * 2 - 1
    return Contender(size_of(net), train, draw)


def imagen_pytorch(model, parameters: int, lr: float) -> Contender:
    """As in its README, by its trainer, which averages the weights too."""
    no_width = SimpleNamespace(d_model=0)           # of a default that it asks the hub for
    with mock.patch("transformers.T5Config.from_pretrained", return_value=no_width):
        from imagen_pytorch import ImagenConfig, ImagenTrainer, Unet
    with redirect_stdout(sys.stderr):
        net = nearest(partial(Unet, max_text_len=model.text_length), model, parameters)
    imagen = ImagenConfig([net], text_embed_dim=model.encoder_width, image_sizes=(model.size,),
                          timesteps=model.sampling_steps)
    trainer = ImagenTrainer(imagen, lr=lr, verbose=False)

    def train(batches):
        for x0, cond in batches:
            trainer((x0 + 1) / 2, text_embeds=cond.text, text_masks=cond.mask, unet_number=1)
            trainer.update(unet_number=1)
            yield

    def draw(text, mask, seed=0):
        torch.manual_seed(seed)
        images = trainer.sample(text_embeds=text, text_masks=mask, cond_scale=model.guidance_scale,
                                use_tqdm=False)
        return images * 2 - 1
    return Contender(size_of(net), train, draw)


def ours(model, config) -> Contender:
    """As `t2ilab train` does it."""
    pipeline = model.pipeline()
    state = TrainState(pipeline.stages[0].denoiser, config)

    def draw(text, mask, seed=0):
        averaged = replace(pipeline.stages[0], denoiser=state.ema)
        reading = replace(pipeline, encode_text=lambda _: (text, mask), stages=(averaged,))
        return reading([""] * len(text), seed)

    def train(batches):
        return fit(state.model, batches, config, state=state)
    return Contender(size_of(state.model), train, draw)


def turns(a, model, config) -> dict:
    """Seconds and memory of a training step and of an image, on random images and features."""
    draw, plain = generator(0), replace(config, precision="fp32")
    L = model.text_length
    x0 = 2 * torch.rand(a.batch, 3, model.size, model.size, generator=draw) - 1         # [B 3 H W]
    text = torch.randn(a.batch, L, model.encoder_width, generator=draw)                 # [B L E]
    mask = torch.arange(L) < torch.randint(1, L + 1, (a.batch, 1), generator=draw)      # [B L]
    their_net = replace(model.net, patch=1, attention=(False, *model.net.attention[1:]))
    like_theirs = replace(model, net=their_net)
    mine = ours(model, plain)
    contenders = {"MinImagen": minimagen(model, mine.parameters, a.their_lr),
                  "imagen-pytorch": imagen_pytorch(model, mine.parameters, a.their_lr),
                  "ours": mine, "ours, at their shape": ours(like_theirs, plain)}
    in_auto = {"ours, precision auto": ours(model, replace(config, precision="auto"))}
    runs = {name: contender.train(repeat((x0, Cond(text, mask))))
            for name, contender in (contenders | in_auto).items()}
    training = in_turns({name: partial(steps, run, a.training_steps) for name, run in runs.items()},
                        a.rounds, beside=PUBLISHED)
    text, mask = text[:a.pictures], mask[:a.pictures]
    sampling = in_turns({name: partial(c.draw, text, mask) for name, c in contenders.items()},
                        a.rounds, beside=PUBLISHED)
    memory = {name: extra_memory(partial(steps, run, 1)) for name, run in runs.items()}
    for name, row in training.items():
        row["seconds a step"] = row.pop("seconds") / a.training_steps
        row["extra MiB a step"] = memory[name]
        if memory[name]:
            row |= {f"times less memory than {other}": memory[other] / memory[name] for other in PUBLISHED}
    for row in sampling.values():
        row["seconds a picture"] = row.pop("seconds") / a.pictures
    return {"parameters": {name: c.parameters for name, c in contenders.items()},
            "training (fp32)": training, "sampling (fp32)": sampling}


def steps(run: Iterator, n: int) -> None:
    """n training steps."""
    for _ in islice(run, n):
        pass


def scenes(a, model) -> Iterator:
    """The captioned scenes, read by the frozen encoder: the same ones for everybody."""
    dataset = open_data("shapes", size=model.size)
    for step, batch in enumerate(stream(dataset, batch_size=a.batch, seed=0)):
        yield model.to_training_pair(batch, generator(step))


def seconds_a_step(a, model, config) -> float:
    """Seconds per step of ours, from a network that is thrown away.

    Its learning rate falls to 0 with the last step, so it must know how many there will be."""
    run = ours(model, replace(config, steps=10 ** 9)).train(scenes(a, model))
    steps(run, a.training_steps)                    # the first ones load the encoder
    start = time.perf_counter()
    steps(run, 2 * a.training_steps)
    return (time.perf_counter() - start) / (2 * a.training_steps)


def alignments(a, model, config) -> dict:
    """Caption alignment after equal seconds of training, drawing the scenes and reading captions included."""
    config = replace(config, steps=max(1, round(a.seconds / seconds_a_step(a, model, config))))
    parameters = size_of(model.build())
    builds = {"MinImagen": partial(minimagen, model, parameters, a.their_lr),
              "imagen-pytorch": partial(imagen_pytorch, model, parameters, a.their_lr),
              "ours": partial(ours, model, config)}
    return {name: alignment_of(name, build(), a, model) for name, build in builds.items()}


def alignment_of(name: str, contender: Contender, a, model) -> dict:
    """One contender's steps and metrics."""
    start = time.perf_counter()
    for step, _ in zip(count(1), contender.train(scenes(a, model))):
        if (trained := time.perf_counter() - start) >= a.seconds:
            break

    def draw(captions, sources, low_res_image=None):
        return contender.draw(*model.language_model(captions), sources[0].initial_seed())
    marks = caption_metrics(draw, n=a.marked)
    print(f"{name}: {step} steps, one object {marks['one_object']}, two objects {marks['two_objects']}",
          file=sys.stderr)
    return {"steps": step, "seconds": round(trained, 1), **marks}


def main():
    parser = options(__doc__, __file__)
    parser.add_argument("--minimagen", required=True,
                        help="a checkout of https://github.com/AssemblyAI-Community/MinImagen")
    parser.add_argument("--imagen-pytorch", required=True,
                        help="a checkout of https://github.com/lucidrains/imagen-pytorch")
    parser.add_argument("--preset", default="imagen-shapes", help="an Imagen preset of a base stage")
    parser.add_argument("--size", type=int, default=32, help="pixels; pictures are marked from 24 on")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=32, help="training batch")
    parser.add_argument("--training-steps", type=int, default=3, help="a round")
    parser.add_argument("--pictures", type=int, default=8, help="pictures drawn at once")
    parser.add_argument("--sampling-steps", type=int, default=50,
                        help="per image, each of two network evaluations")
    parser.add_argument("--seconds", type=float, default=300,
                        help="of training before the images are scored; 0 = leave that out")
    parser.add_argument("--marked", type=int, default=32, help="images to score of each of four kinds")
    parser.add_argument("--their-lr", type=float, default=1e-4,
                        help="their learning rate; 1e-4 is the default of both")
    a = begin(parser, {"minimagen": "minimagen", "imagen_pytorch": "imagen_pytorch"})
    if a.sampling_steps < 21:
        parser.error(f"--sampling-steps {a.sampling_steps}: MinImagen needs 21 or more; "
                     "with 20 its last beta is 1, and its pictures are nan")
    if a.seconds and a.size < 24:
        parser.error(f"--size {a.size}: the scene parser reads 24 pixels or more; "
                     "--seconds 0 leaves the marks out")
    warnings.simplefilter("ignore")                 # theirs are old
    preset = PRESETS[a.preset]
    model = replace(preset.model, size=a.size, sampling_steps=a.sampling_steps)
    config = replace(preset.fit, batch_size=a.batch)
    result = about(a, {"minimagen": a.minimagen, "imagen_pytorch": a.imagen_pytorch})
    result |= turns(a, model, replace(config, steps=10 ** 9))
    if a.seconds:
        result["alignment"] = alignments(a, model, config)
    write(result, a.out)


if __name__ == "__main__":
    main()
