"""diffusers' VQ-Diffusion folder becomes a run that answers as diffusers does, and walks token for token.

Every comparison runs twice: with what diffusers once answered (data/diffusers_vq.safetensors), and with
diffusers itself as long as it has the class.
"""
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from make_diffusers_fixtures import GUIDANCE, ITHQ, LENGTH, SEED, TRUNCATION, ithq_inputs, stored, vq, with_vq
from safetensors.torch import save_file
from test_padding import clip  # noqa: F401  (a fixture)
from test_pretrained_glide import weights
from test_pretrained_vq import CONFIG, NET
from tiny_runs import TINY
from torch.testing import assert_close
from toys import pixels

from t2ilab.cli import commands as cli
from t2ilab.diffusion.cond import Cond
from t2ilab.diffusion.token_denoiser import TokenObjectiveConfig
from t2ilab.families.vq_diffusion import VQDiffusionConfig
from t2ilab.families.vqgan import VQGANRunConfig
from t2ilab.nets.token_transformer import TokenTransformer
from t2ilab.presets import PRESETS
from t2ilab.pretrained.read import OLD_NAMES, with_new_names
from t2ilab.pretrained.vq_diffusers import codec_of_folder, model_of
from t2ilab.pretrained.vq_diffusion import convert_codec, convert_transformer
from t2ilab.runs.folder import read_preset
from t2ilab.runs.load import load
from t2ilab.vqgan.networks import VQGAN

pytestmark = pytest.mark.slow           # it trains, samples or converts models

NULL = "learned_classifier_free_sampling_embeddings"
SMALL = VQDiffusionConfig(codec="runs/vq-codec-small", codebook_size=11, grid=4, size=8, encoder="nobody/here", cache=False,
                    net=NET, objective=TokenObjectiveConfig(cond_drop_prob=0.1))
CLOSE = dict(rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module", params=["stored", "live"])
def theirs(request):
    """(tensors, about) by diffusers: what it answered once, and what it answers now if it can."""
    return stored("vq") if request.param == "stored" else vq(with_vq())


@pytest.fixture(scope="module")
def kept():
    """(tensors, about): what diffusers answered once."""
    return stored("vq")


def test_diffusers_still_answers_what_was_stored(kept):
    (now, about), (then, known) = vq(with_vq()), kept
    assert about["shapes"] == known["shapes"] and now.keys() == then.keys() and known["margin"] > 1e-3
    for name, v in then.items():
        assert_close(now[name], v, **CLOSE, msg=name)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with presets of the small models."""
    monkeypatch.chdir(tmp_path)
    codec = replace(TINY, model=VQGANRunConfig(size=8, net=CONFIG))
    monkeypatch.setitem(PRESETS, "vq-codec-small", codec)
    monkeypatch.setitem(PRESETS, "vq-small", replace(TINY, model=SMALL))
    return tmp_path


def published_folder(folder, about, *, text=None, learnable=True, pickled=False, old=False):
    """A folder as diffusers writes it.  text: a folder with a CLIP to read captions.  old: as of 2022."""
    configs = about["configs"] | {NULL: about["configs"][NULL] | {"learnable": learnable}}
    for name in ("transformer", "vqvae", NULL):
        (folder / name).mkdir(parents=True)
        later = ("norm_type", "norm_elementwise_affine", "mid_block_add_attention") if old else ()
        config = {k: v for k, v in configs[name].items() if k not in later}
        (folder / name / "config.json").write_text(json.dumps(config))
        state = weights(about["shapes"][name])
        for then, new in OLD_NAMES.items() if old and name == "vqvae" else ():
            state = {k.replace(f".{new}.", f".{then}."): v for k, v in state.items()}
        if pickled:
            torch.save(state, folder / name / "diffusion_pytorch_model.bin")
        elif name != NULL or learnable:
            save_file(state, folder / name / "diffusion_pytorch_model.safetensors")
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(configs["scheduler"]))
    (folder / "model_index.json").write_text('{"_class_name": "VQDiffusionPipeline"}')
    if text:
        encoder = {"text_encoder": ("config.json", "model.safetensors"), "tokenizer": ("tokenizer*.json",)}
        for part, kinds in encoder.items():
            (folder / part).mkdir()
            for path in (path for kind in kinds for path in Path(text).glob(kind)):
                shutil.copyfile(path, folder / part / path.name)
    return folder


def by_gumbel(diffusion):
    """The posterior's draw as diffusers makes it: the largest of the log-probabilities with Gumbel noise.

    Their last step leaves [MASK] out."""
    g = torch.Generator().manual_seed(SEED)

    def step(pred, x_t, t, s, generator=None):
        log_p = diffusion.posterior(pred.x0.softmax(1), x_t, t, s).log()[:, :diffusion.K + (s > 0)]
        u = torch.rand(log_p.shape, generator=g)
        return (log_p - (1e-30 - (u + 1e-30).log()).log()).argmax(1)
    return step


@pytest.mark.parametrize("layout", [{}, {"pickled": True, "old": True}], ids=["today", "2022"])
def test_a_folder_becomes_a_run_that_walks_token_for_token_as_diffusers_does(here, theirs, layout):
    """100 steps, guided and truncated, and the pictures of the last tokens, from given noise and features."""
    answers, about = theirs
    published_folder(here / "given", about, **layout)
    assert cli.main(["convert", "vq-small", "given", "--out", "run"]) == 0
    pipeline = load("run", guidance_scale=GUIDANCE, truncation=TRUNCATION).to("cpu")
    assert pipeline.stages[0].steps == 100 and len(answers["tokens"]) == 100 and about["margin"] > 1e-3
    text = answers["text"]
    mask = torch.ones(text.shape[:2], dtype=torch.bool)
    pipeline = replace(pipeline, encode_text=lambda captions: (text, mask),
                       stages=(replace(pipeline.stages[0], sampler=by_gumbel),))
    walk = list(pipeline.walk(3))
    tokens = torch.stack([frame.x for name, frame in walk if name == "frame"])
    assert (answers["tokens"][50] == 11).any() and (answers["tokens"][-1] < 11).all()
    assert torch.equal(tokens, answers["tokens"])
    name, image = walk[-1]
    assert name == "image" and answers["painted"].std() > 0.1
    assert_close((image + 1) / 2, answers["painted"], **CLOSE)


@torch.no_grad()
def test_codec_and_transformer_answer_as_diffusers_do(here, theirs):
    answers, about = theirs
    published_folder(here / "given", about)
    assert cli.main(["convert", "vq-small", "given", "--out", "run"]) == 0
    net, codec = load("run").to("cpu").model, load("run/codec").to("cpu").model.codec
    for t in (0, 36, 99):
        want = answers[f"log_p.{t}"]
        assert want.std() > 0.5
        assert_close(net(answers["x"], t + 1, Cond(answers["text"])).x0, want, **CLOSE)
    assert len(answers["codes"].unique()) == 11 and answers["again"].std() > 0.1
    assert_close(codec.features(answers["images"]), answers["latents"], **CLOSE)
    assert torch.equal(codec.encode(answers["images"]), answers["codes"])
    assert_close(codec(answers["images"])[0], answers["again"], **CLOSE)


@torch.no_grad()
def test_the_published_width_answers_as_diffusers_does(theirs):
    """microsoft/vq-diffusion-ithq: one of its 36 blocks and its whole codec, in the presets' networks."""
    answers, about = theirs
    preset, codec_preset = PRESETS["vq-ithq"].model, PRESETS["vq-codec-ithq"].model.net
    configs = about["configs"]
    config = configs["ithq transformer"] | {"num_layers": 36}
    process = configs["scheduler"] | {"num_vec_classes": 4097}
    assert model_of(config, process, preset) == preset
    assert codec_of_folder(configs["ithq vqvae"], codec_preset) == codec_preset
    net = TokenTransformer(replace(preset.net, layers=1), codebook_size=preset.codebook_size, grid=preset.grid).eval()
    net.load_state_dict(convert_transformer(weights(about["shapes"]["ithq transformer"]), net, "diffusers"))
    x, text = ithq_inputs()
    log_p = net(x, torch.tensor([37]), Cond(text)).log_softmax(1)
    assert answers["ithq.log_p"].std() > 0.5
    assert_close(log_p[:, ::64, ::16], answers["ithq.log_p"], **CLOSE)
    codec = VQGAN(codec_preset).eval()
    state = with_new_names(weights(about["shapes"]["ithq vqvae"]))
    codec.load_state_dict(convert_codec(state, codec, "diffusers"))
    assert answers["ithq.again"].std() > 0.1
    assert_close(codec(pixels(1, 3, 32, 32, seed=6).float())[0], answers["ithq.again"], **CLOSE)


def test_the_preset_takes_all_weights_of_the_published_transformer():
    """1,359,274,624 of them, without their numbers."""
    with torch.device("meta"):
        theirs = with_vq().Transformer2DModel(**ITHQ).state_dict()
        net = TokenTransformer(PRESETS["vq-ithq"].model.net, codebook_size=4096, grid=32)
        net.load_state_dict(convert_transformer(theirs, net, "diffusers"), assign=True)
    sizes = [sum(v.numel() for v in state.values()) for state in (theirs, net.state_dict())]
    assert sizes == [1_359_274_624] * 2


def test_the_folders_own_encoder_reads_captions(here, kept, clip, capsys):  # noqa: F811
    """It lies inside of the run; guidance and truncation are the defaults of diffusers' pipeline."""
    published_folder(here / "given", kept[1], text=clip[0])
    assert cli.main(["convert", "vq-small", "given", "--out", "run"]) == 0
    assert "guided away from the embedding that was learned" in capsys.readouterr().out
    shutil.rmtree(here / "given")
    model = read_preset(here / "run").model
    assert model.encoder == str(here / "run" / "encoder")
    assert (model.guidance_scale, model.truncation, model.text_length) == (5.0, 1.0, LENGTH)
    assert model.encoder_normalised and model.attend_padding and not model.zero_shot
    features, _ = model.text_encoder(["on"])
    assert features.shape == (1, LENGTH, 16) and features.norm(dim=2).allclose(torch.ones(1, LENGTH))
    assert cli.main(["sample", "run", "on", "--sampling-steps", "3", "--out", "s"]) == 0


@pytest.mark.parametrize("learnable, words", [(False, []), (True, ["--null-embedding", "ignore"])])
def test_without_a_learned_embedding_it_is_guided_away_from_the_empty_caption(
        here, kept, clip, capsys, learnable, words):  # noqa: F811
    published_folder(here / "given", kept[1], text=clip[0], learnable=learnable)
    assert cli.main(["convert", "vq-small", "given", "--out", "run", *words]) == 0
    assert "guided away from the empty caption" in capsys.readouterr().out
    model = read_preset(here / "run").model
    assert model.zero_shot and model.guidance_scale == 5.0 and model.objective.cond_drop_prob == 0
    assert load("run", text_length=5, sampling_steps=2)(["on"]).isfinite().all()


def test_without_an_encoder_the_presets_own_is_named(here, kept, capsys):
    published_folder(here / "given", kept[1])
    assert cli.main(["convert", "vq-small", "given", "--out", "run"]) == 0
    assert "captions are read with nobody/here" in capsys.readouterr().out
    assert read_preset(here / "run").model.encoder == "nobody/here"


def changed(folder, file, **values):
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


NETWORK, CODEC, PROCESS = "transformer/config.json", "vqvae/config.json", "scheduler/scheduler_config.json"
NO_CODEC = "its config files are of no VQ-Diffusion (TypeError"


def weights_of(folder, part):
    return folder / part / "diffusion_pytorch_model.safetensors"


@pytest.mark.parametrize("preset, break_it, message", [
    ("vq-coco", lambda f: None, "given is another model than vq-coco, which has width=1024 for 32"),
    ("ddpm-cifar10", lambda f: None, "VQ-Diffusion (a folder); ddpm-cifar10 is made of diffusers' DDPM"),
    ("vq-small", lambda f: (f / "model_index.json").unlink(), "given is of no layout that is known here"),
    ("vq-small", lambda f: changed(f, NETWORK, activation_fn="geglu"), "activation_fn='geglu': this"),
    ("vq-small", lambda f: changed(f, NETWORK, num_attention_heads=None), NO_CODEC),
    ("vq-small", lambda f: changed(f, NETWORK, num_attention_heads=2, attention_head_dim=16), "heads=4 "),
    ("vq-small", lambda f: changed(f, CODEC, num_vq_embeddings=12), "which has codebook_size=11 for 12"),
    ("vq-small", lambda f: changed(f, CODEC, down_block_types=["Other"]), "down_block_types='Other'"),
    ("vq-small", lambda f: changed(f, PROCESS, gamma_cum_end=0.9), "gamma_cum_end=0.9: this model has"),
    ("vq-small", lambda f: shutil.rmtree(f / "scheduler"), "scheduler_config.json: no such file"),
    ("vq-small", lambda f: shutil.rmtree(f / "vqvae"), "config.json: no such file"),
    ("vq-small", lambda f: weights_of(f, "vqvae").unlink(), "diffusion_pytorch_model.bin: no such"),
    ("vq-small", lambda f: weights_of(f, NULL).unlink(), "diffusion_pytorch_model.bin: no such"),
    ("vq-small", lambda f: save_file({"x": torch.zeros(1)}, weights_of(f, NULL)), "embeddings is missing"),
    ("vq-small", lambda f: save_file({"x": torch.zeros(1)}, weights_of(f, "transformer")), "x is unexp")])
def test_a_folder_that_does_not_fit_is_one_line_and_no_run(here, kept, capsys, preset, break_it, message):
    break_it(published_folder(here / "given", kept[1]))
    assert cli.main(["convert", preset, "given", "--out", "run"]) == 1
    said = capsys.readouterr().err.strip()
    assert message in said and "\n" not in said and [path.name for path in here.iterdir()] == ["given"]
