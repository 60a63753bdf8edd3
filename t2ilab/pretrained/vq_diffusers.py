"""diffusers' VQ-Diffusion (microsoft/vq-diffusion-ithq) as a run: a folder of parts, of which the codec and the text encoder lie inside of the run.

VQ-Diffusion (Gu et al. 2022). What shapes do not show stands in the parts' config files, and is checked. The run samples as diffusers' pipeline does
if nothing else is asked for. Left out: fetching the folder.
"""
import shutil
from dataclasses import replace
from pathlib import Path

from ..families.frozen_codec import fingerprint
from ..families.vq_diffusion import VQDiffusion
from ..presets.preset import Preset
from ..vqgan.networks import VQGANConfig
from .adapter import Extras, write_run
from .read import Published, check, differing, one_of, refuse_another, with_new_names
from .vq_diffusion import convert_codec, convert_transformer
from .vq_original import codec_of

GUIDANCE, TRUNCATION = 5.0, 1.0                              # of their pipeline, where a call says nothing
# What they call it: (what our model does, what theirs does where its config says nothing).
FIXED_NET = {"activation_fn": ("geglu-approximate", "geglu"), "attention_bias": (True, False), "norm_type": ("ada_norm", "ada_norm"),
             "norm_elementwise_affine": (True, True), "only_cross_attention": (False, False), "double_self_attention": (False, False)}
FIXED_CODEC = {"act_fn": ("silu", "silu"), "in_channels": (3, 3), "out_channels": (3, 3), "norm_num_groups": (32, 32),
               "norm_type": ("group", "group"), "mid_block_add_attention": (True, True)}
FIXED_PROCESS = {"alpha_cum_start": (0.99999, 0.99999), "alpha_cum_end": (0.000009, 0.000009), "gamma_cum_start": (0.000009, 0.000009),
                 "gamma_cum_end": (0.99999, 0.99999)}
ATTENTION = {"AttnDownEncoderBlock2D": True, "DownEncoderBlock2D": False}
NULL = "learned_classifier_free_sampling_embeddings"


def detect(given: Published) -> bool:
    """Whether this is the folder of a VQDiffusionPipeline."""
    return given.path.is_dir() and given.config("model_index.json").get("_class_name") == "VQDiffusionPipeline"


def to_run(given: Published, preset: Preset, folder: Path, out: Path, extras: Extras) -> list[str]:
    """A run of diffusers' VQ-Diffusion (see adapter.py).  ValueError where the preset is of another model."""
    parts = {name: Published(given.path / name) for name in ("transformer", "vqvae", "scheduler", NULL)}
    codec, painter = codec_of(preset)
    process = parts["scheduler"].needed("scheduler_config.json")
    try:
        net = codec_of_folder(parts["vqvae"].config("config.json"), codec.model.net)
        model = model_of(parts["transformer"].config("config.json"), process, preset.model)
    except (LookupError, TypeError, AttributeError, ZeroDivisionError) as error:
        raise ValueError(f"{given.path}: its config files are of no VQ-Diffusion ({type(error).__name__}: {error})") from error
    differs = [*differing(preset.model.net, model.net), *differing(replace(preset.model, net=model.net), model), *differing(codec.model.net, net)]
    refuse_another(given.path, preset.name, differs)
    painter.codec.load_state_dict(convert_codec(with_new_names(parts["vqvae"].weights()), painter.codec, "diffusers"))
    learned = parts[NULL].config("config.json").get("learnable", False) and extras.null_embedding == "learned"
    null = parts[NULL].weights() if learned else {}
    model = replace(
        model, codec=str((out / "codec").resolve()), codec_weights=fingerprint(painter.codec), used=(), encoder_normalised=True,
        attend_padding=True, text_length=len(null.get("embeddings", range(model.text_length))), guidance_scale=GUIDANCE,
        truncation=TRUNCATION, zero_shot=not learned, objective=replace(model.objective, drop=0.1 if learned else 0.0))
    model, said = _with_encoder(given, model, folder, out)
    denoiser = model.build().model
    denoiser.net.load_state_dict(convert_transformer(parts["transformer"].weights() | null, denoiser.net, "diffusers"))
    write_run(painter, codec, folder / "codec")
    write_run(denoiser, replace(preset, model=model, start=None), folder)
    return [*said, f"It is guided away from {'the embedding that was learned for that' if learned else 'the empty caption'}, as in diffusers."]


def model_of(config: dict, process: dict, model: VQDiffusion) -> VQDiffusion:
    """The model that the config files of a transformer and its scheduler describe; the rest is another model's.

    ValueError for what our model does not do."""
    check(config, FIXED_NET)
    check(process, FIXED_PROCESS)
    heads, codes, T = config["num_attention_heads"], config["num_vector_embeds"] - 1, config["num_embeds_ada_norm"]
    check(process, {"num_vec_classes": (codes + 1, codes + 1), "num_train_timesteps": (T, 100)})
    net = replace(model.net, width=heads * config["attention_head_dim"], layers=config["num_layers"], heads=heads, mlp="linear", mlp_mult=4,
                  text_width=config["cross_attention_dim"], classes=0, flat_places=False)
    return replace(model, codes=codes, grid=config["sample_size"], net=net, T=T, replaced=1e-6, masked=0.99999)


def codec_of_folder(config: dict, net: VQGANConfig) -> VQGANConfig:
    """The codec that a VQModel's config describes; how its codebook was learned is another codec's.  ValueError for what ours does not do."""
    check(config, FIXED_CODEC)
    widths, attention = config["block_out_channels"], [one_of(kind, ATTENTION, "down_block_types") for kind in config["down_block_types"]]
    up = ["AttnUpDecoderBlock2D" if here else "UpDecoderBlock2D" for here in reversed(attention)]
    check({"up_block_types": list(config["up_block_types"])}, {"up_block_types": (up, up)})
    z_channels = config["latent_channels"]
    return replace(net, channels=widths[0], mults=tuple(width // widths[0] for width in widths), blocks=config["layers_per_block"],
                   attention=tuple(attention), z_channels=z_channels, code_width=config.get("vq_embed_dim") or z_channels,
                   codes=config["num_vq_embeddings"], patch=1)


def _with_encoder(given: Published, model: VQDiffusion, folder: Path, out: Path) -> tuple[VQDiffusion, list[str]]:
    """The same model reading captions with the folder's own encoder, which is copied; without one in the folder, with that of its preset."""
    text_encoder, tokenizer = given.path / "text_encoder", given.path / "tokenizer"
    weights = [path for kind in ("*.safetensors", "pytorch_model*.bin") for path in sorted(text_encoder.glob(kind))]
    if not weights or not tokenizer.is_dir():
        return model, [f"The folder has no text_encoder and tokenizer: captions are read with {model.encoder}."]
    (folder / "encoder").mkdir()
    same_kind = [path for path in weights if path.suffix == weights[0].suffix]
    for path in (*same_kind, *text_encoder.glob("*.json"), *tokenizer.glob("*.json"), *tokenizer.glob("*.txt")):
        shutil.copyfile(path, folder / "encoder" / path.name)
    return replace(model, encoder=str((out / "encoder").resolve())), []
