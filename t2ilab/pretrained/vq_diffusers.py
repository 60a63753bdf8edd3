"""diffusers' VQ-Diffusion (microsoft/vq-diffusion-ithq) as a run, its codec and text encoder inside of it.

VQ-Diffusion (Gu et al. 2022). What shapes do not show stands in its config files, and is checked.
The run samples as diffusers' pipeline does where nothing else is asked for. Left out: fetching the folder.
"""
import shutil
from dataclasses import replace
from pathlib import Path

from ..families.frozen_codec import fingerprint
from ..families.vq_diffusion import VQDiffusionConfig
from ..presets.preset import Preset
from ..vqgan.networks import VQGANConfig
from .adapter import Extras, write_run
from .read import Published, check, differing, one_of, refuse_another, with_new_names
from .vq_diffusion import convert_codec, convert_transformer
from .vq_original import codec_of

GUIDANCE, TRUNCATION = 5.0, 1.0              # of their pipeline, where a call says nothing
NULL = "learned_classifier_free_sampling_embeddings"
# What they call it -> (what our model does, what theirs does where its config says nothing).
FIXED_NET = {
    "activation_fn": ("geglu-approximate", "geglu"), "attention_bias": (True, False),
    "norm_type": ("ada_norm", "ada_norm"), "norm_elementwise_affine": (True, True),
    "only_cross_attention": (False, False), "double_self_attention": (False, False)}
FIXED_CODEC = {
    "act_fn": ("silu", "silu"), "in_channels": (3, 3), "out_channels": (3, 3), "norm_num_groups": (32, 32),
    "norm_type": ("group", "group"), "mid_block_add_attention": (True, True)}
FIXED_PROCESS = {
    "alpha_cum_start": (0.99999, 0.99999), "alpha_cum_end": (0.000009, 0.000009),
    "gamma_cum_start": (0.000009, 0.000009), "gamma_cum_end": (0.99999, 0.99999)}
ATTENTION = {"AttnDownEncoderBlock2D": True, "DownEncoderBlock2D": False}


def detect(given: Published) -> bool:
    """Whether this is the folder of a VQDiffusionPipeline."""
    index = given.config("model_index.json") if given.path.is_dir() else {}
    return index.get("_class_name") == "VQDiffusionPipeline"


def to_run(given: Published, preset: Preset, folder: Path, out: Path, extras: Extras) -> list[str]:
    """A run of diffusers' VQ-Diffusion (see adapter.py).  ValueError where the preset is of another model."""
    transformer, vqvae, null = (Published(given.path / name) for name in ("transformer", "vqvae", NULL))
    codec, network = codec_of(preset)
    model = _checked(given, preset, codec)
    codec_weights = convert_codec(with_new_names(vqvae.weights()), network.codec, "diffusers")
    network.codec.load_state_dict(codec_weights)
    learned = null.config("config.json").get("learnable", False) and extras.null_embedding == "learned"
    embedding = null.weights() if learned else {}
    L = len(embedding["embeddings"]) if "embeddings" in embedding else model.text_length
    objective = replace(model.objective, cond_drop_prob=0.1 if learned else 0.0)
    model = replace(
        model, codec=str((out / "codec").resolve()), codec_weights=fingerprint(network.codec), used=(),
        encoder_normalised=True, attend_padding=True, text_length=L,
        guidance_scale=GUIDANCE, truncation=TRUNCATION, zero_shot=not learned, objective=objective)
    model, said = _with_encoder(given, model, folder, out)
    denoiser = model.build()
    weights = transformer.weights() | embedding
    denoiser.net.load_state_dict(convert_transformer(weights, denoiser.net, "diffusers"))
    write_run(network, codec, folder / "codec")
    write_run(denoiser, replace(preset, model=model, init_from=None), folder)
    away = "the embedding that was learned for that" if learned else "the empty caption"
    return [*said, f"It is guided away from {away}, as in diffusers."]


def _checked(given: Published, preset: Preset, codec: Preset) -> VQDiffusionConfig:
    """The model that the folder describes.  ValueError unless that and its codec are the presets'."""
    config = Published(given.path / "transformer").needed("config.json")
    codec_config = Published(given.path / "vqvae").needed("config.json")
    process = Published(given.path / "scheduler").needed("scheduler_config.json")
    try:
        model, net = model_of(config, process, preset.model), codec_of_folder(codec_config, codec.model.net)
    except (LookupError, TypeError, AttributeError, ZeroDivisionError) as error:
        why = f"{type(error).__name__}: {error}"
        raise ValueError(f"{given.path}: its config files are of no VQ-Diffusion ({why})") from error
    differs = differing(preset.model.net, model.net)
    differs += differing(replace(preset.model, net=model.net), model)
    differs += differing(codec.model.net, net)
    refuse_another(given.path, preset.name, differs)
    return model


def model_of(config: dict, process: dict, model: VQDiffusionConfig) -> VQDiffusionConfig:
    """The model that the configs of a transformer and its scheduler describe; the rest is another model's.

    ValueError for what our model does not do."""
    check(config, FIXED_NET)
    check(process, FIXED_PROCESS)
    heads = config["num_attention_heads"]
    width = heads * config["attention_head_dim"]
    codes, T = config["num_vector_embeds"] - 1, config["num_embeds_ada_norm"]
    check(process, {"num_vec_classes": (codes + 1, None), "num_train_timesteps": (T, 100)})
    net = replace(
        model.net, width=width, layers=config["num_layers"], heads=heads, mlp="linear", mlp_mult=4,
        text_width=config["cross_attention_dim"], classes=0, flat_positions=False)
    return replace(model, net=net, T=T, codebook_size=codes, grid=config["sample_size"], replaced=1e-6,
                   masked=0.99999)


def codec_of_folder(config: dict, net: VQGANConfig) -> VQGANConfig:
    """The codec that a VQModel's config describes; how its codebook was learned is another codec's.

    ValueError for what ours does not do."""
    check(config, FIXED_CODEC)
    attention = [one_of(kind, ATTENTION, "down_block_types") for kind in config["down_block_types"]]
    up = ["AttnUpDecoderBlock2D" if here else "UpDecoderBlock2D" for here in reversed(attention)]
    check({"up_block_types": list(config["up_block_types"])}, {"up_block_types": (up, up)})
    widths, z_channels = config["block_out_channels"], config["latent_channels"]
    mult = tuple(w // widths[0] for w in widths)
    return replace(
        net, channels=widths[0], channel_mult=mult, attention=tuple(attention), patch=1,
        blocks=config["layers_per_block"], z_channels=z_channels,
        codebook_size=config["num_vq_embeddings"], codebook_dim=config.get("vq_embed_dim") or z_channels)


def _with_encoder(given: Published, model: VQDiffusionConfig, folder: Path,
                  out: Path) -> tuple[VQDiffusionConfig, list[str]]:
    """(the same model, reading captions with a copy of the folder's encoder; what to say if it has none)."""
    text_encoder, tokenizer = given.path / "text_encoder", given.path / "tokenizer"
    weights = sorted(text_encoder.glob("*.safetensors")) or sorted(text_encoder.glob("pytorch_model*.bin"))
    if not weights or not tokenizer.is_dir():
        return model, [f"No text_encoder and tokenizer are there: captions are read with {model.encoder}."]
    (folder / "encoder").mkdir()
    files = [*text_encoder.glob("*.json"), *tokenizer.glob("*.json"), *tokenizer.glob("*.txt")]
    for path in (*weights, *files):
        shutil.copyfile(path, folder / "encoder" / path.name)
    return replace(model, encoder=str((out / "encoder").resolve())), []
