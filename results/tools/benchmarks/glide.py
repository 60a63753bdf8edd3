"""Time our GLIDE and OpenAI's in turns, at the same size, weights, batch and threads.

`python results/tools/benchmarks/glide.py --glide PATH` writes glide.json beside this file.
Sampling: their network, loop and cached text features with guidance on a doubled batch, against our pipeline.
Training: their network in the plainest loop (squared error of eps, AdamW; they published none), against `fit`
with all it does besides.
"""
from dataclasses import replace
from functools import partial
from itertools import cycle, islice
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from common import about, begin, in_turns, options, write

from t2ilab.data.datasets import open_data
from t2ilab.data.loaders import stream
from t2ilab.diffusion.schedules import sections
from t2ilab.presets import PRESETS
from t2ilab.pretrained.glide import convert
from t2ilab.tensors import generator
from t2ilab.training.fit import TrainState, fit, pick_precision


def their_net(model, **options):
    """OpenAI's network of one of our configurations."""
    from glide_text2im.text2im_model import Text2ImUNet
    net, text = model.net, model.text
    resolutions = tuple(2 ** level for level, here in enumerate(net.attention) if here)
    return Text2ImUNet(
        text_ctx=text.text_length, xf_width=net.text_width, xf_layers=text.text_layers,
        xf_heads=text.text_heads, xf_final_ln=True, xf_padding=True,
        tokenizer=SimpleNamespace(n_vocab=text.vocabulary), in_channels=3, out_channels=6,
        model_channels=net.channels, num_res_blocks=net.blocks, channel_mult=net.channel_mult,
        num_head_channels=net.head_channels, dropout=net.dropout,
        use_scale_shift_norm=net.scale_shift_norm, attention_resolutions=resolutions,
        resblock_updown=True, **options)


def named(net, state=None):
    """The network with other weights: theirs, or small random numbers.

    Their text embeddings start as whatever lay in memory."""
    draw = generator(0)
    own = net.state_dict()
    state = state or {k: 0.05 * torch.randn(v.shape, generator=draw) for k, v in own.items()}
    net.load_state_dict(state, strict=True)
    return net


def their_sampling(model, state, captions, steps):
    """() -> pictures, by their loop."""
    from glide_text2im.model_creation import create_gaussian_diffusion
    net, B = named(their_net(model, cache_text_emb=True), state).eval(), len(captions)
    process = create_gaussian_diffusion(model.T, "squaredcos_cap_v2", str(steps))

    def guided(x, t, **text):
        eps, var = net(x[:B].repeat(2, 1, 1, 1), t, **text).split(3, dim=1)
        with_caption, without = eps.chunk(2)
        eps = without + model.guidance_scale * (with_caption - without)
        return torch.cat([eps.repeat(2, 1, 1, 1), var], dim=1)

    def draw():
        ids, mask = model.tokenizer(captions)
        text = {"tokens": torch.cat([ids, ids]), "mask": torch.cat([mask, mask & False])}
        net.del_cache()
        shape = (2 * B, 3, model.size, model.size)
        images = process.p_sample_loop(guided, shape, device="cpu", clip_denoised=True, model_kwargs=text)
        return images[:B]
    return draw


def our_sampling(model, state, captions, steps):
    """() -> images, by a pipeline that visits the same times."""
    times = tuple(sections(model.T, (steps,)))
    pipeline = replace(model, sampling_steps=times).pipeline()
    pipeline.stages[0].denoiser.net.load_state_dict(convert(state, model), strict=True)
    pipeline.stages[0].denoiser.eval()
    return lambda: pipeline(captions)


def their_training(model, state, batches, steps, config):
    """() -> None, steps of the plainest loop around their network."""
    from glide_text2im.model_creation import create_gaussian_diffusion
    net = named(their_net(model), state).train()
    process = create_gaussian_diffusion(model.T, "squaredcos_cap_v2", "")
    optimizer = torch.optim.AdamW(net.parameters(), lr=config.lr, betas=config.betas,
                                  weight_decay=config.weight_decay)
    batches = cycle(batches)

    def train():
        for x0, cond in islice(batches, steps):
            t, noise = torch.randint(model.T, (len(x0),)), torch.randn_like(x0)
            mask = cond.mask & (torch.rand(len(x0), 1) >= model.objective.cond_drop_prob)
            predicted = net(process.q_sample(x0, t, noise), t, tokens=cond.text, mask=mask)[:, :3]
            loss = F.mse_loss(predicted, noise)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return train


def our_training(model, state, batches, steps, config):
    """() -> None, steps of `fit`."""
    denoiser = model.build()
    denoiser.net.load_state_dict(convert(state, model), strict=True)
    run = fit(denoiser, cycle(batches), config, state=TrainState(denoiser, config))
    return lambda: [next(run) for _ in range(steps)]


def measure(a):
    preset = PRESETS[a.preset]
    data = open_data("shapes", size=preset.model.size)
    model = preset.model.fit_to_dataset(data)
    first = islice(stream(data, batch_size=a.batch, seed=0), 4)
    batches = [model.to_training_pair(batch, generator(i)) for i, batch in enumerate(first)]
    captions = next(stream(data, batch_size=a.pictures, seed=1)).captions
    state = named(their_net(model)).state_dict()
    config = replace(preset.fit, steps=10 ** 9, batch_size=a.batch, precision="fp32")
    auto = replace(config, precision="auto")
    sampling = in_turns({"theirs": their_sampling(model, state, captions, a.sampling_steps),
                         "ours": our_sampling(model, state, captions, a.sampling_steps)}, a.rounds)
    ours, theirs = (partial(train, model, state, batches, a.training_steps)
                    for train in (our_training, their_training))
    training = in_turns({"theirs": theirs(config), "ours": ours(config), "ours, precision auto": ours(auto)},
                        a.rounds)
    for row in sampling.values():
        row["seconds per picture"] = row.pop("seconds") / a.pictures
    for row in training.values():
        row["pictures per second"] = a.batch * a.training_steps / row.pop("seconds")
    return {"sampling (fp32)": sampling, "training (fp32)": training,
            "precision auto here": str(pick_precision("auto", torch.device("cpu")))}


def main():
    parser = options(__doc__, __file__)
    parser.add_argument("--glide", required=True,
                        help="a checkout of https://github.com/openai/glide-text2im")
    parser.add_argument("--preset", default="glide-tiny", help="a GLIDE preset of a base stage")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--pictures", type=int, default=8, help="pictures drawn at once")
    parser.add_argument("--sampling-steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=32, help="training batch")
    parser.add_argument("--training-steps", type=int, default=5, help="a round")
    a = begin(parser, {"glide": "glide_text2im"})
    write(about(a, {"glide_text2im": a.glide}) | measure(a), a.out)


if __name__ == "__main__":
    main()
