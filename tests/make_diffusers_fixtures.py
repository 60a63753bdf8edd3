"""What diffusers answers, written to data/diffusers_*.safetensors, so that tests need no diffusers.

Its VQ-Diffusion is deprecated. Weights are a formula of names and shapes (`weights` of test_pretrained_glide),
so files hold inputs, answers, shapes and configs alone. Write them anew with
`PYTHONPATH=. python tests/make_diffusers_fixtures.py`.
"""
import json
from functools import cache
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from test_pretrained_glide import shapes_of, weights
from toys import pixels, wave

DATA = Path(__file__).parent / "data"

# google/ddpm-cifar10-32, as published.
CIFAR10 = dict(
    block_out_channels=(128, 256, 256, 256), layers_per_block=2, sample_size=32, attention_head_dim=None,
    down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"), downsample_padding=0,
    flip_sin_to_cos=False, freq_shift=1, norm_eps=1e-6)
UNETS = {   # as published; a quarter as wide; with improved DDPM's clock, scales and heads
    "published": CIFAR10, "tiny": CIFAR10 | dict(block_out_channels=(32, 64, 64, 64), sample_size=16),
    "improved": dict(
        block_out_channels=(32, 64), layers_per_block=1, sample_size=8, attention_head_dim=16,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        attn_norm_num_groups=32, resnet_time_scale_shift="scale_shift")}
PROCESS = dict(num_train_timesteps=1000, beta_start=1e-4, beta_end=0.02, beta_schedule="linear",
               variance_type="fixed_large", clip_sample=True)
TIMES, STEPS = torch.tensor([0, 1, 700, 999]), 25

CODEC = dict(
    down_block_types=("DownEncoderBlock2D", "AttnDownEncoderBlock2D"),
    up_block_types=("AttnUpDecoderBlock2D", "UpDecoderBlock2D"), block_out_channels=(32, 64),
    layers_per_block=2, latent_channels=16, num_vq_embeddings=11, vq_embed_dim=8)
TRANSFORMER = dict(
    num_attention_heads=4, attention_head_dim=8, num_layers=2, cross_attention_dim=16, attention_bias=True,
    sample_size=4, num_vector_embeds=12, activation_fn="geglu-approximate", num_embeds_ada_norm=100,
    norm_type="ada_norm")
# microsoft/vq-diffusion-ithq, as published.
ITHQ_CODEC = CODEC | dict(
    down_block_types=("DownEncoderBlock2D",) * 3 + ("AttnDownEncoderBlock2D",),
    up_block_types=("AttnUpDecoderBlock2D",) + ("UpDecoderBlock2D",) * 3,
    block_out_channels=(64, 128, 256, 512), latent_channels=256, num_vq_embeddings=4096, vq_embed_dim=128)
ITHQ = TRANSFORMER | dict(
    num_attention_heads=16, attention_head_dim=88, num_layers=36, cross_attention_dim=512, sample_size=32,
    num_vector_embeds=4097)
LENGTH, GUIDANCE, TRUNCATION = 5, 3.0, 0.86


def with_vq():
    """diffusers, or a skip if it is not here or has dropped VQ-Diffusion."""
    diffusers = pytest.importorskip("diffusers")
    wanted = ("VQDiffusionPipeline", "VQDiffusionScheduler", "VQModel", "Transformer2DModel")
    if not all(hasattr(diffusers, name) for name in wanted):
        pytest.skip("this diffusers has no VQ-Diffusion")
    return diffusers


def filled(net):
    """The network with the weights of the formula."""
    net.load_state_dict(weights(shapes_of(net)))
    return net.eval()


def config_of(net) -> dict:
    """What its config.json holds."""
    return json.loads(net.to_json_string())


@cache
@torch.no_grad()
def ddpm(diffusers):
    """(tensors, {"shapes", "configs"} by network): what the networks say, and 25 of DDPM's steps."""
    out, about = {}, {"shapes": {}, "configs": {}}
    for name, options in UNETS.items():
        net = filled(diffusers.UNet2DModel(**options))
        about["shapes"][name], about["configs"][name] = shapes_of(net), config_of(net)
        x, times = wave(4, 3, 16, 8).float(), TIMES
        if name == "published":
            x, times = wave(1, 3, 32, 32).float(), torch.tensor([321])
        out |= {f"{name}.x": x, f"{name}.t": times, f"{name}.out": net(x, times).sample}
        if name == "tiny":
            process, g = diffusers.DDPMScheduler(**PROCESS), torch.Generator().manual_seed(0)
            process.set_timesteps(STEPS)
            about["configs"]["process"] = config_of(process)
            x = out["walk.x_T"] = 1.4 * wave(2, 3, 16, 16, seed=1).float()
            for k, t in enumerate(process.timesteps):
                x = process.step(net(x, t).sample, t, x, generator=g).prev_sample
                out |= {f"walk.{k}": x} if k in (0, STEPS // 2, STEPS - 1) else {}
    return out, about


def ithq_inputs():
    """(tokens [1 1024], features of a caption [1 7 512]) for the network as wide as published."""
    return (wave(1, 1024, seed=4) * 2048 + 2048).long(), F.normalize(wave(1, 7, 512, seed=5).float(), dim=2)


@cache
@torch.no_grad()
def vq(diffusers):
    """(tensors, {"shapes", "configs"} by network, "margin"): codec, transformer, and a whole run.

    The run has 100 steps, guided and truncated.  margin: by how much the nearest choice of a token was won,
    so that other rounding makes the same choices."""
    module = diffusers.pipelines.deprecated.vq_diffusion.pipeline_vq_diffusion
    null = module.LearnedClassifierFreeSamplingEmbeddings
    nets = {"vqvae": diffusers.VQModel(**CODEC), "transformer": diffusers.Transformer2DModel(**TRANSFORMER),
            "learned_classifier_free_sampling_embeddings": null(True, 16, LENGTH)}
    scheduler = diffusers.VQDiffusionScheduler(num_vec_classes=12)
    about = {"shapes": {}, "configs": {"scheduler": config_of(scheduler)}}
    for name, net in nets.items():
        about["shapes"][name], about["configs"][name] = shapes_of(filled(net)), config_of(net)
    codec, transformer, learned = nets.values()

    images = pixels(2, 3, 16, 24).float()
    latents = codec.encode(images).latents
    codes = codec.quantize(latents)[2][2].view(2, 8, 12)
    out = {"images": images, "latents": latents, "codes": codes, "again": codec(images).sample}
    out["x"] = x = (wave(3, 16, seed=2) * 6 + 6).long().clamp(0, 11)
    out["text"] = text = F.normalize(wave(3, LENGTH, 16, seed=3).float(), dim=2)
    for t in (0, 36, 99):
        said = transformer(x, encoder_hidden_states=text, timestep=torch.tensor(t))
        out[f"log_p.{t}"] = said.sample.float()

    wide = filled(diffusers.Transformer2DModel(**ITHQ | {"num_layers": 1}))
    codec_wide = filled(diffusers.VQModel(**ITHQ_CODEC))
    about["shapes"] |= {"ithq transformer": shapes_of(wide), "ithq vqvae": shapes_of(codec_wide)}
    about["configs"] |= {"ithq transformer": config_of(wide), "ithq vqvae": config_of(codec_wide)}
    x_wide, text_wide = ithq_inputs()
    log_p = wide(x_wide, encoder_hidden_states=text_wide, timestep=torch.tensor(36)).sample.float()
    again = codec_wide(pixels(1, 3, 32, 32, seed=6).float()).sample
    out |= {"ithq.log_p": log_p[:, ::64, ::16], "ithq.again": again}

    class Reads(diffusers.VQDiffusionPipeline):
        def _encode_prompt(self, *_):
            return torch.cat([learned.embeddings.expand(3, -1, -1), text])
    pipeline = Reads(vqvae=codec, text_encoder=None, tokenizer=None, transformer=transformer,
                     scheduler=scheduler, learned_classifier_free_sampling_embeddings=learned)
    pipeline.set_progress_bar_config(disable=True)
    states, margins, draw = [], [], diffusers.schedulers.scheduling_vq_diffusion.gumbel_noised

    def watched(logits, generator):
        noised = draw(logits, generator)
        margins.append((-noised.topk(2, 1).values.diff(dim=1)).min().item())
        return noised
    diffusers.schedulers.scheduling_vq_diffusion.gumbel_noised = watched
    try:
        g = torch.Generator().manual_seed(SEED)
        painted = pipeline([""] * 3, 100, GUIDANCE, TRUNCATION, generator=g, output_type="np",
                           callback=lambda k, t, sample: states.append(sample)).images
    finally:
        diffusers.schedulers.scheduling_vq_diffusion.gumbel_noised = draw
    out |= {"tokens": torch.stack(states), "painted": torch.from_numpy(painted).movedim(-1, 1)}
    return out, about | {"margin": min(margins)}


SEED = 0                                                 # of the run's noise


def stored(name):
    """(tensors, about) of one of the files."""
    with safe_open(DATA / f"diffusers_{name}.safetensors", "pt") as file:
        about = {k: json.loads(v) for k, v in file.metadata().items()}
        return {key: file.get_tensor(key) for key in file.keys()}, about


if __name__ == "__main__":
    import diffusers
    for name, answers in {"ddpm": ddpm, "vq": vq}.items():
        tensors, about = answers(diffusers)
        path = DATA / f"diffusers_{name}.safetensors"
        save_file({k: v.contiguous().clone() for k, v in tensors.items()}, path,
                  {k: json.dumps(v, separators=(",", ":")) for k, v in about.items()})
        print(path, path.stat().st_size, "bytes", about.get("margin", ""))
