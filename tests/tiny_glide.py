"""GLIDE so small that it takes a step in milliseconds: a model that draws 8 x 8 pictures, one that enlarges 4 x 4, and cascades of both."""
from dataclasses import replace
from itertools import repeat

import torch
from test_unet import awake
from tiny_runs import TINY

from t2ilab.data.loaders import Batch
from t2ilab.data.shapes import Scenes
from t2ilab.diffusion.gaussian_denoiser import ObjectiveConfig
from t2ilab.families.glide import GLIDEConfig
from t2ilab.nets.text_transformer import TextConfig
from t2ilab.nets.unet import UNetConfig
from t2ilab.presets import Preset
from t2ilab.tensors import from_uint8, generator
from t2ilab.training.fit import TrainState, fit

NET = UNetConfig(channels=8, channel_mult=(1, 2), blocks=1, attention=(False, True), head_channels=8, scale_shift_norm=True, resample="block", dropout=0.0, text_width=8)
TEXT = TextConfig(257, 40, text_layers=1, text_heads=2)                     # bytes, so that nothing has to be learned
BASE = GLIDEConfig(size=8, text=TEXT, net=NET, sampling_steps=3, objective=ObjectiveConfig(predict="x0", variance="learned", loss="hybrid", cond_drop_prob=0.2))
UPSAMPLER = replace(BASE, size=16, low_res=8, low_res_noise=0.1, guidance_scale=1.0, sampling_steps=2)


def built(model=BASE, *more, **changes):
    """The pipeline of a model and of those that enlarge its pictures, with networks that say something.  changes: of every model's fields."""
    torch.manual_seed(0)
    first, *rest = (replace(m, **changes).pipeline() for m in (model, *more))
    for k, pipeline in enumerate((first, *rest)):
        awake(pipeline.stages[0].denoiser.eval(), seed=k)
    return replace(first, stages=sum((pipeline.stages for pipeline in rest), first.stages))


def preset(**options) -> Preset:
    """A run of the smallest GLIDE, which paints around known pixels too.  options: fields of the model."""
    return replace(TINY, model=replace(BASE, known=0.5, **options))


def batch(size=8, n=4):
    """Captioned scenes."""
    examples = [Scenes(size=size).example(i, generator(i)) for i in range(n)]
    return Batch(from_uint8(torch.stack([e.image for e in examples])), [e.caption[:40] for e in examples], torch.tensor([e.label for e in examples]))


def a_step_and_pictures(model, config):
    """The model takes one training step, which changes it, and draws pictures of the right shape."""
    torch.manual_seed(0)
    pipeline, few = model.pipeline(), batch(model.size, 2)
    denoiser, config = pipeline.stages[0].denoiser, replace(config, batch_size=2, accumulate=1, precision="fp32", warmup=0)
    before = denoiser.net.unet.conv_out[-1].weight.detach().clone()
    log, _ = next(fit(denoiser, repeat(model.to_training_pair(few, generator(1))), config, state=TrainState(denoiser, config)))
    assert 0 < log.loss < 20 and 0 < log.grad_norm < float("inf") and not torch.equal(denoiser.net.unet.conv_out[-1].weight, before)
    captions, options = model.preview_inputs(few)
    images = pipeline(captions, **options)
    assert images.shape == (2, 3, model.size, model.size) and images.isfinite().all() and images.abs().max() <= 1


def count_texts(reader, monkeypatch):
    """A list that grows with every call of a class of text networks, by the number of texts in it."""
    lines, forward = [], reader.forward

    def counted(self, texts, mask):
        lines.append(len(texts))
        return forward(self, texts, mask)
    monkeypatch.setattr(reader, "forward", counted)
    return lines
