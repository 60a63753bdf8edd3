"""VQ-Diffusion so small that it takes a step in milliseconds: a codec of 4 x 4 cells with random weights, and a transformer over its codes."""
import json
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp

import torch
from test_unet import awake
from tiny_imagen import ENCODER
from tiny_runs import TINY

from t2ilab.diffusion.token_denoiser import TokenObjectiveConfig
from t2ilab.families.vq_diffusion import VQDiffusionConfig
from t2ilab.families.vqgan import VQGANRunConfig
from t2ilab.nets.token_transformer import TokenTransformerConfig
from t2ilab.training.checkpoint import save_weights
from t2ilab.vqgan.networks import VQGANConfig
from t2ilab.vqgan.objective import VQGANLossConfig

CODEC = VQGANRunConfig(size=8, net=VQGANConfig(channels=8, channel_mult=(1, 2), blocks=1, attention=(False, False), z_channels=6, codebook_dim=4, codebook_size=9),
                loss=VQGANLossConfig(perceptual=0.0, adversarial=0.0))


def codec_run(folder, codec=CODEC) -> str:
    """A folder with a codec of random weights, as a run leaves one behind."""
    model = awake(codec.build())
    with torch.no_grad():
        model.codec.quantizer.codebook.normal_(generator=torch.Generator().manual_seed(0))
    save_weights(model, Path(folder) / "model.safetensors")
    (Path(folder) / "config.json").write_text(json.dumps(replace(TINY, model=codec).to_dict()), encoding="utf8")
    return str(folder)


NET = TokenTransformerConfig(width=16, layers=2, heads=2, text_width=16)
BASE = VQDiffusionConfig(codec=codec_run(mkdtemp()), codebook_size=9, grid=4, size=8, encoder=ENCODER, text_length=16, cache=False, net=NET, T=20,
                   objective=TokenObjectiveConfig(cond_drop_prob=0.2), sampling_steps=5, guidance_scale=2.0)
CLASSES = replace(BASE, net=replace(NET, text_width=0, classes=18))
FREE = replace(BASE, net=replace(NET, text_width=0), guidance_scale=1.0, objective=TokenObjectiveConfig())
RUN = replace(TINY, model=BASE)


def built(model=BASE, **changes):
    """The pipeline of a model with a transformer that says something.  changes: of the model's fields."""
    torch.manual_seed(0)
    pipeline = replace(model, **changes).pipeline()
    awake(pipeline.model.eval())
    return pipeline
