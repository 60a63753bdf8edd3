"""Published checkpoints become runs: of VQ-Diffusion with its codec, and of GLIDE, with the same answers as before, or one line."""
import json
import pickle
from dataclasses import replace

import pytest
import torch
from make_diffusers_fixtures import stored
from test_pretrained_ddpm import published_folder as published_ddpm
from test_pretrained_glide import FEW, folder, resized  # noqa: F401  (a fixture)
from test_pretrained_vq import (
    CONFIG,
    GRID,
    HEADS,
    STEPS,
    TABLE,
    D,
    in_the_originals_names,
    literally,
    original_transformer,
    their_codec,
)
from test_pretrained_vq_diffusers import published_folder as published_vq
from tiny_imagen import ENCODER
from tiny_runs import TINY
from torch.testing import assert_close

from t2ilab.cli import commands as cli
from t2ilab.diffusion.cond import Cond
from t2ilab.diffusion.token_denoiser import TokenObjectiveConfig
from t2ilab.families.vq_diffusion import VQDiffusionConfig
from t2ilab.families.vqgan import VQGANRunConfig
from t2ilab.nets.token_transformer import TokenTransformerConfig
from t2ilab.presets import PRESETS
from t2ilab.pretrained.convert import ADAPTERS
from t2ilab.pretrained.glide import load_official, read_official
from t2ilab.pretrained.read import Published
from t2ilab.runs.folder import read_preset
from t2ilab.runs.load import load
from t2ilab.tensors import generator

pytestmark = pytest.mark.slow           # it trains, samples or converts models

NET = TokenTransformerConfig(width=D, layers=1, heads=HEADS, mlp_mult=2, text_width=6, position_table=GRID)
SMALL = VQDiffusionConfig(codec="runs/vq-codec-small", codebook_size=7, grid=GRID, size=2 * GRID, encoder=ENCODER, text_length=5, cache=False, net=NET, T=STEPS, sampling_steps=3,
                    objective=TokenObjectiveConfig(cond_drop_prob=0.1), guidance_scale=3.0)
KINDS = {"text": SMALL, "label": replace(SMALL, net=replace(NET, text_width=0, classes=5, position_table=TABLE)),
         "nothing": replace(SMALL, net=replace(NET, text_width=0, position_table=TABLE))}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with the presets of small published models, and their list of used codes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(PRESETS, "vq-codec-small", replace(TINY, model=VQGANRunConfig(size=2 * GRID, net=CONFIG)))
    for kind, model in KINDS.items():
        monkeypatch.setitem(PRESETS, f"vq-{kind}", replace(TINY, model=model))
    torch.save(torch.tensor([0, 1, 0, 2, 3, 4, 0, 5, 0, 6, 0]), "used.pt")                    # 7 of 11 codes: 0, 1, 3, 4, 5, 7, 9
    return tmp_path


def checkpoint(kind, *, learned=False, ema=False):
    """A whole checkpoint as the original saves it, and its transformer's weights; (theirs) of the averaged ones if there are any."""
    w = original_transformer(kind, "linear")
    if kind == "text":
        for name in ("height", "width"):
            w[f"content_emb.{name}_emb.weight"] = w[f"content_emb.{name}_emb.weight"][:GRID]
    if learned and kind == "label":
        w["blocks.0.ln2.emb.weight"] = torch.cat([w["blocks.0.ln2.emb.weight"], torch.ones(1, D)])
    inner = {f"transformer.{k}": v for k, v in w.items()} | {"log_at": torch.zeros(STEPS)}
    if learned and kind == "text":
        inner["empty_text_embed"] = torch.randn(5, 6, generator=generator(9), dtype=torch.float64)
    codec = {f"content_codec.{'dec' if 'decoder' in k or 'post' in k else 'enc'}.{k}": v for k, v in in_the_originals_names(their_codec().state_dict()).items()}
    state = {"model": codec | {f"transformer.{k}": v for k, v in inner.items()}, "last_epoch": 3, "optimizer_and_scheduler": {"lr": 0.1}}
    if ema:                                                                                  # the others have gone on since
        state["ema"], state["model"] = inner, {k: 2 * v if k.startswith("transformer.transformer") else v for k, v in state["model"].items()}
    return state, w


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("learned, ema", [(False, False), (True, True)])
def test_a_checkpoint_becomes_a_run_that_answers_the_same(here, capsys, kind, learned, ema):
    state, w = checkpoint(kind, learned=learned, ema=ema)
    torch.save(state, "published.pth")
    assert cli.main(["convert", f"vq-{kind}", "published.pth", "--out", "run", "--table", "used.pt"]) == 0
    assert "t2ilab sample run" in capsys.readouterr().out
    pipeline, model = load("run", guidance_scale=1.0).to("cpu"), read_preset(here / "run").model
    learned = learned and kind != "nothing"
    assert model.used == (0, 1, 3, 4, 5, 7, 9) and model.objective.cond_drop_prob == (0.1 if learned else 0.0) and model.guidance_scale == (3.0 if learned else 1.0)
    x, t, text, label = torch.randint(8, (3, 4), generator=generator(1)), torch.tensor([1, 4, 10]), torch.randn(3, 5, 6, generator=generator(2)), torch.tensor([0, 2, 4])
    seen, cond = {"text": (text, Cond(text)), "label": (label, Cond(label[:, None], torch.ones(3, 1, dtype=torch.bool))), "nothing": (None, Cond())}[kind]
    with torch.no_grad():
        assert_close(pipeline.model(x, t, cond).x0, literally(w, x, t, seen, kind, "linear").log_softmax(1), rtol=1e-4, atol=1e-5)
        codes, theirs = torch.randint(7, (2, 4), generator=generator(3)), their_codec()
        entries = theirs.quantize.embedding.weight[torch.tensor(model.used)[codes]].unflatten(1, (GRID, GRID)).movedim(-1, 1)
        assert_close(pipeline.stages[0].codec.decode(codes), theirs.decode(entries, force_not_quantize=True).sample, rtol=1e-4, atol=1e-4)
    if learned and kind == "text":
        assert torch.equal(pipeline.model.net.null_embedding, state["ema"]["empty_text_embed"].float())
    if kind == "nothing":
        assert cli.main(["sample", "run", "--n", "2", "--out", "s"]) == 0 and len(list((here / "s").glob("*.png"))) == 3
    if kind == "label":
        assert cli.main(["sample", "run", "3", "--out", "s"]) == 0


def test_openais_glide_becomes_a_run(here, folder, monkeypatch, capsys):  # noqa: F811
    monkeypatch.setitem(PRESETS, "glide-few", replace(TINY, model=replace(FEW, sampling_steps=2)))
    torch.save(resized(read_official(folder / "base.pt")), folder / "base.pt")
    assert cli.main(["convert", "glide-few", str(folder / "base.pt"), "--out", "run"]) == 1
    assert "give the file (--vocabulary vocab.bpe.gz)" in capsys.readouterr().err
    assert cli.main(["convert", "glide-few", str(folder / "base.pt"), "--vocabulary", str(folder / "vocab.bpe"), "--out", "run"]) == 0
    want = load_official(folder / "base.pt", replace(FEW, sampling_steps=2), folder / "vocab.bpe")(["low"], seed=1)
    assert torch.equal(load("run")(["low"], seed=1).cpu(), want)
    assert read_preset(here / "run").model.sampling_steps == (1000, 1, 0)                    # OpenAI's respacing "2"


@pytest.mark.parametrize("kind", ["text", "label"])
def test_an_embedding_for_no_caption_that_was_never_trained_can_be_ignored(here, capsys, kind):
    torch.save(checkpoint(kind, learned=True)[0], "published.pth")
    for take in ("learned", "ignore"):
        words = ["convert", f"vq-{kind}", "published.pth", "--table", "used.pt", "--out", take, "--null-embedding", take]
        assert cli.main(words) == 0
        said = capsys.readouterr().out
        assert f"It was {'taken as learned' if take == 'learned' else 'ignored'}" in said
        assert f"--null-embedding {'ignore' if take == 'learned' else 'learned'}" in said           # how to say otherwise
        assert ("a standard deviation of " in said) == (kind == "text")
        assert read_preset(here / take).model.objective.cond_drop_prob == (0.1 if take == "learned" else 0.0)
    learned, ignored = (load(take, guidance_scale=1.0).model.net for take in ("learned", "ignore"))
    assert learned.knows_none and not ignored.knows_none
    with pytest.raises(ValueError, match="this model was never trained without captions|so there is nothing to push away from"):
        load("ignore", guidance_scale=2.0)


def test_a_checkpoint_without_such_an_embedding_says_nothing_of_it(here, capsys):
    torch.save(checkpoint("text")[0], "published.pth")
    assert cli.main(["convert", "vq-text", "published.pth", "--table", "used.pt", "--out", "run"]) == 0
    assert "no caption" not in capsys.readouterr().out


@pytest.mark.parametrize("words, message", [
    (["imagen-base", "published.pth"], "imagen-base: no published weights fit it"),
    (["nothing", "published.pth"], "nothing: no published weights fit it"),
    (["vq-text", "gone.pth"], "gone.pth: no such weights file"), (["vq-text", "text.pth"], "text.pth: no file of weights alone"),
    (["vq-text", "hostile.pth"], "hostile.pth: no file of weights alone"),
    (["vq-text", "used.pt"], "used.pt is of no layout that is known here; vq-text is made of the original VQ-Diffusion (.pth)"),
    (["vq-text", "."], ". is of no layout that is known here"),
    (["vq-text", "published.pth"], "draws 7 of its codec's 11 codes: give the list of them"),
    (["vq-text", "published.pth", "--table", "published.pth"], "is no list of used codes"),
    (["vq-text", "published.pth", "--table", "few.pt"], "few.pt lists 3 codes up to number 2; tiny draws 7 of 11"),
    (["vq-text", "published.pth", "--vocabulary", "few.pt"], "--vocabulary means nothing for the original VQ-Diffusion"),
    (["vq-label", "published.pth", "--table", "used.pt"], "these weights are of another model"),
    (["glide-tiny", "published.pth"], "published.pth is the original VQ-Diffusion (.pth); glide-tiny is made of OpenAI's GLIDE (.pt)"),
    (["vq-text", "published.pth", "--out", "taken"], "taken is there already")])
def test_what_is_no_checkpoint_is_one_line_and_leaves_nothing(here, capsys, words, message):
    torch.save(checkpoint("text")[0], "published.pth")
    (here / "text.pth").write_text("hello")
    torch.save(torch.tensor([0, 1, 2]), "few.pt")
    with open("hostile.pth", "wb") as file:
        pickle.dump(Hostile(), file, protocol=2)
    (here / "taken").mkdir()
    (here / ".run").mkdir()
    (here / ".run" / "kept").touch()
    before = sorted(path.name for path in here.iterdir())
    assert cli.main(["convert", *words, *([] if "--out" in words else ["--out", "run"])]) == 1
    said = capsys.readouterr().err.strip()
    assert message in said and "\n" not in said and sorted(path.name for path in here.iterdir()) == before
    assert (here / ".run" / "kept").is_file()


def test_help_names_every_layout(capsys):
    with pytest.raises(SystemExit):
        cli.main(["convert", "--help"])
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert len(ADAPTERS) == 4 and all(adapter.name in text for adapter in ADAPTERS)


def test_no_layout_is_taken_for_another(here, folder):  # noqa: F811
    """Each of the layouts, as the tests of its adapter write it, is told by its own row alone."""
    torch.save(checkpoint("text")[0], "published.pth")
    published_ddpm(here / "ddpm", stored("ddpm")[1], "tiny")
    published_ddpm(here / "flat", stored("ddpm")[1], "tiny", flat=True)
    published_vq(here / "vq", stored("vq")[1])
    given = {folder / "base.pt": 0, here / "published.pth": 1, here / "ddpm": 2, here / "flat": 2, here / "vq": 3, here / "used.pt": None, here: None}
    for path, row in given.items():
        assert [k for k, adapter in enumerate(ADAPTERS) if adapter.detect(Published(path))] == ([] if row is None else [row]), path


class Hostile:
    """Would leave a file behind if it were ever unpickled."""

    def __reduce__(self):
        return open, ("was_executed", "w")


def test_a_converted_run_says_what_it_is(here):
    torch.save(checkpoint("label")[0], "published.pth")
    assert cli.main(["convert", "vq-label", "published.pth", "--table", "used.pt"]) == 0
    config = json.loads((here / "runs" / "vq-label" / "config.json").read_text())
    assert config["model"]["codec"] == str(here / "runs" / "vq-label" / "codec") and len(config["model"]["codec_weights"]) == 16 and config["model"]["net"]["flat_positions"] is True
