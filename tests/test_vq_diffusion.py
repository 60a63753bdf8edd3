"""VQ-Diffusion from captions, labels or nothing: published sizes, six ways to sample, guidance that refuses what was never learned, edits, runs."""
import json
from dataclasses import replace
from itertools import combinations, repeat

import pytest
import torch
from tiny_glide import batch
from tiny_runs import saved
from tiny_vq import BASE, CLASSES, CODEC, FREE, NET, RUN, built, codec_run

from t2ilab.cli import commands as cli
from t2ilab.data.shapes import Scenes
from t2ilab.diffusion.cond import Cond
from t2ilab.diffusion.token_denoiser import TokenObjectiveConfig
from t2ilab.nets.token_transformer import TokenTransformer, TokenTransformerConfig
from t2ilab.pipeline.edit import Edit
from t2ilab.presets import PRESETS
from t2ilab.runs.folder import preset_from_dict
from t2ilab.runs.train import train
from t2ilab.tensors import generator
from t2ilab.training.fit import TrainState, fit

PUBLISHED = {"vq-coco": 388_780_871, "vq-coco-tune": 388_780_871 + 39_424, "vq-cub": 388_780_871, "vq-cub-s": 35_936_647, "vq-imagenet": 518_025_678,
             "vq-ffhq": 411_185_664, "vq-ithq": 1_359_274_624 + 39_424}
METHODS = {   # the six of the original's inference script, as arguments
    "plain": dict(guidance_scale=1.0, truncation=0.86), "guidance": dict(guidance_scale=3.0), "high quality": dict(guidance_scale=1.0, sampler="even", sampling_steps=40),
    "fast": dict(guidance_scale=1.0, sampling_steps=10), "purity": dict(guidance_scale=1.0, sampler="purity", prior_weight=1.0),
    "guidance and fast": dict(guidance_scale=3.0, sampling_steps=10)}
CAPTIONS = ["a red circle", "a large blue square on a white background"]


def codes_of(pipeline, captions=CAPTIONS, seed=0, **options):
    """The codes that a walk ends in, [B N]."""
    return [value.x for name, value in pipeline.walk(captions, seed, **options) if name == "frame"][-1]


# ---------------------------------------------------------------------------------------------------------------------------- sizes

@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_models_have_their_published_sizes(name):
    with torch.device("meta"):
        net = PRESETS[name].model.build().net
    assert sum(p.numel() for p in net.parameters()) == PUBLISHED[name]


def test_guidance_on_labels_learns_one_label_more():
    with torch.device("meta"):
        net = replace(PRESETS["vq-imagenet"].model, objective=TokenObjectiveConfig(cond_drop_prob=0.1)).build().net
    assert sum(p.numel() for p in net.parameters()) == 518_037_966


def test_the_published_line_of_497_million_is_counted_in_units_of_2_to_the_20():
    """"65.8 M + 431.3 M = 497.1 M": the codec, and the transformer with its learned "no caption" and CLIP's frozen text half inside."""
    with torch.device("meta"):
        codec = PRESETS["vq-codec-coco"].model.build().codec
        net = PRESETS["vq-coco-tune"].model.build().net
        from transformers import CLIPTextConfig, CLIPTextModelWithProjection
        clip = CLIPTextModelWithProjection(CLIPTextConfig(vocab_size=49408, hidden_size=512, intermediate_size=2048, num_hidden_layers=12,
                                                          num_attention_heads=8, projection_dim=512))
    codec, transformer, clip = (sum(p.numel() for p in model.parameters()) for model in (codec, net, clip))
    assert clip == 63_428_096
    assert [round(n / 2 ** 20, 1) for n in (codec, transformer + clip, codec + transformer + clip)] == [65.8, 431.3, 497.1]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in PRESETS if PRESETS[name].family == "vq_diffusion"])
def test_a_narrow_copy_of_a_preset_takes_a_training_step_and_samples(name, tmp_path):
    model = PRESETS[name].model
    codec = codec_run(tmp_path, replace(CODEC, size=2 * 4, net=replace(CODEC.net, codebook_size=9)))
    text = 16 if model.net.text_width else 0
    model = replace(model, codec=codec, codebook_size=9, grid=4, size=8, encoder=BASE.encoder, text_length=16, cache=False, sampling_steps=3,
                    net=replace(model.net, width=16, layers=1, heads=2, text_width=text, classes=18 if model.net.classes else 0))
    model, few = model.fit_to_dataset(Scenes(size=8)), batch(8, 4)
    few = few._replace(labels=few.labels.clamp(min=0))                                       # a model of labels that drops none wants one for each
    torch.manual_seed(0)
    pipeline, config = model.pipeline(), replace(PRESETS[name].fit, batch_size=4, accumulate=1, precision="fp32", warmup=0)
    before = pipeline.model.net.to_logits.weight.detach().clone()
    log, _ = next(fit(pipeline.model, repeat(model.to_training_pair(few, generator(1))), config, state=TrainState(pipeline.model, config)))
    assert 0 < log.loss < 1000 and not torch.equal(pipeline.model.net.to_logits.weight, before)
    captions, options = model.preview_inputs(few)
    images = pipeline(captions, **options)
    assert images.shape == (4, 3, 8, 8) and images.isfinite().all() and images.abs().max() <= 1


# ---------------------------------------------------------------------------------------------------------------------------- networks

def test_a_token_knows_its_row_and_its_column():
    net = TokenTransformer(replace(NET, text_width=0, position_table=6), codebook_size=9, grid=4).eval()
    places = net.places().view(4, 4, 16)
    rows, columns = net.rows.weight, net.columns.weight
    assert all(torch.equal(places[i, j], rows[i] + columns[j]) for i in range(4) for j in range(4))


def test_a_caption_and_the_time_reach_every_token():
    net = built().model.net
    x, text = torch.randint(10, (1, 16), generator=generator(0)), torch.randn(1, 5, 16, generator=generator(1))
    answers = [net(x, torch.tensor([t]), Cond(text + shift)) for t, shift in ((3, 0), (4, 0), (3, 0.5))]
    assert answers[0].shape == (1, 9, 16)
    assert all(((answers[0] - other).abs().amax(1) > 1e-6).all() for other in answers[1:])


@pytest.mark.parametrize("x, cond", [(torch.zeros(1, 15, dtype=torch.int64), Cond(torch.zeros(1, 5, 16))), (torch.zeros(1, 16, dtype=torch.int64), Cond()),
                                     (torch.zeros(1, 16, dtype=torch.int64), Cond(torch.zeros(1, 5, 8)))])
def test_wrong_shapes_are_one_line(x, cond):
    with pytest.raises(ValueError, match="this transformer takes"):
        built().model.net(x, torch.tensor([3]), cond)


@pytest.mark.parametrize("options, message", [
    (dict(width=10, heads=4), "multiple of heads"), (dict(mlp="x"), "conv, linear"), (dict(classes=3), "captions or labels")])
def test_networks_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        TokenTransformerConfig(**options)


def test_forgetting_activations_changes_no_gradient():
    nets = [TokenTransformer(replace(NET, gradient_checkpointing=again), codebook_size=9, grid=4).train() for again in (False, True)]
    nets[1].load_state_dict(nets[0].state_dict())
    x, cond = torch.randint(10, (2, 16), generator=generator(0)), Cond(torch.randn(2, 5, 16, generator=generator(1)))
    grads = []
    for net in nets:
        net(x, torch.tensor([3, 9]), cond).square().sum().backward()
        grads.append([p.grad for p in net.parameters() if p.grad is not None])
    assert all(torch.equal(a, b) for a, b in zip(*grads)) and len(grads[0]) > 20


# ---------------------------------------------------------------------------------------------------------------------------- guidance

def test_no_caption_is_learned_only_where_captions_are_dropped():
    """Improved VQ-Diffusion learnable guidance: one learned vector for each of the caption's positions, in the place of its features."""
    net, plain = built().model.net, built(guidance_scale=1.0, objective=TokenObjectiveConfig()).model.net
    text, mask = torch.randn(2, 16, 16, generator=generator(0)), torch.tensor([[True] * 16, [False] * 16])
    seen = net.condition(Cond(text, mask)).text
    assert torch.equal(seen[0], text[0]) and torch.equal(seen[1], net.null_embedding) and plain.null_embedding is None
    with pytest.raises(ValueError, match="never trained without captions"):
        plain.condition(Cond(text, mask))


def test_guidance_refuses_what_was_never_trained():
    with pytest.raises(ValueError, match="nothing to push away from: train it with --cond-drop-prob 0.1, or choose --zero-shot"):
        replace(BASE, objective=TokenObjectiveConfig()).pipeline()
    with pytest.raises(ValueError, match="never trained without labels"):
        built(CLASSES, guidance_scale=1.0, objective=TokenObjectiveConfig())(["", "3"])


def test_zero_shot_guidance_pushes_away_from_the_empty_caption():
    pipeline = built(objective=TokenObjectiveConfig(), zero_shot=True)
    by_hand = built(objective=TokenObjectiveConfig(), zero_shot=True, guidance_scale=1.0)
    text, mask = by_hand.encode_text([""])
    assert mask.any() and text.abs().sum() > 0                                               # the empty caption is read, not left out
    assert torch.equal(codes_of(pipeline), codes_of(replace(pipeline, negative_prompt=None), negative_prompt=[" "]))
    assert not torch.equal(codes_of(pipeline), codes_of(by_hand))


def test_guidance_is_a_lerp_of_log_probabilities():
    pipeline, x = built(guidance_scale=2.5), torch.full((1, 16), 9)
    cond = Cond(*pipeline.encode_text(["a red circle"]))
    with_caption, without = (pipeline.model(x, 20, pipeline.model.condition(c)).x0 for c in (cond, cond.null()))
    first = next(value for name, value in pipeline.walk(["a red circle"]) if name == "frame")
    torch.testing.assert_close(first.x0, without + 2.5 * (with_caption - without))


# ---------------------------------------------------------------------------------------------------------------------------- six ways

@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_every_method_draws_codes_and_pictures(method):
    pipeline, calls = built(**METHODS[method]), []
    pipeline.model.register_forward_hook(lambda *_: calls.append(1))
    images = pipeline(CAPTIONS, 3)
    assert images.shape == (2, 3, 8, 8) and images.abs().max() <= 1 and len(calls) == METHODS[method].get("sampling_steps", 5)
    assert codes_of(pipeline).max() < 9 and torch.equal(images, pipeline(CAPTIONS, 3)) and not torch.equal(images, pipeline(CAPTIONS, 4))


def test_a_second_call_uses_its_own_settings():
    """The original keeps the truncation of the first call for all that follow: here one network and the same samplers are called in both orders."""
    pipeline = built(guidance_scale=1.0)
    ways = [dict(truncation=1.0), dict(truncation=0.05), dict(sampler="purity", prior_weight=3.0), dict(sampler="even", sampling_steps=3)]
    stages = [replace(pipeline.stages[0], **{name: getattr(replace(BASE, guidance_scale=1.0, **way).pipeline().stages[0], name)
                                             for name in ("constrain", "sampler", "steps")}) for way in ways]
    first = [codes_of(replace(pipeline, stages=(stage,))) for stage in stages]
    again = [codes_of(replace(pipeline, stages=(stage,))) for stage in reversed(stages)][::-1]
    assert all(map(torch.equal, first, again)) and not any(torch.equal(a, b) for a, b in combinations(first, 2))


def test_the_smallest_truncation_is_the_likeliest_code():
    pipeline = built(guidance_scale=1.0, truncation=1e-6, sampling_steps=1)
    cond = Cond(*pipeline.encode_text(CAPTIONS))
    assert torch.equal(codes_of(pipeline), pipeline.model(torch.full((2, 16), 9), 20, cond).x0.argmax(1))
    assert torch.equal(codes_of(pipeline), codes_of(built(guidance_scale=1.0, top_k=1, sampling_steps=1)))


@pytest.mark.parametrize("changes, message", [
    (dict(sampler="ddim"), "ancestral, even, purity"), (dict(truncation=0.0), "truncation=0.0"), (dict(top_k=-1), "top_k=-1"),
    (dict(sampling_steps=0), "sampling_steps=0"), (dict(replaced=2.0), "replaced=2.0"), (dict(replaced=0.5), "add up to 1"), (dict(prior_weight=-1.0), "prior_weight=-1"),
    (dict(prior_weight=1.0), "for sampler='purity'"), (dict(sampler="even", replaced=1.0, masked=0.0), "choose ancestral")])
def test_options_that_make_no_sense_are_one_line(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(BASE, **changes)


# ---------------------------------------------------------------------------------------------------------------------------- labels, nothing, edits

def test_labels_by_name_and_number_and_nothing_at_all():
    pipeline = built(CLASSES.fit_to_dataset(Scenes()))
    assert torch.equal(pipeline(["red circle", ""]), pipeline(["0", ""])) and pipeline(["17"]).shape == (1, 3, 8, 8)
    assert built(FREE)(3).shape == (3, 3, 8, 8)
    with pytest.raises(ValueError, match="no class"):
        pipeline(["a dog"])
    with pytest.raises(ValueError, match="takes no captions"):
        built(FREE)(["a dog"])
    with pytest.raises(ValueError, match="the data set has 18"):
        replace(CLASSES, net=replace(CLASSES.net, classes=5)).fit_to_dataset(Scenes())


def test_a_weak_edit_keeps_most_codes_and_kept_cells_keep_all():
    pipeline = built(guidance_scale=1.0, sampler="even")                                    # which touches nothing that is shown
    image = torch.rand(1, 3, 8, 8, generator=generator(5)) * 2 - 1
    codes = pipeline.stages[0].codec.encode(image)
    near = codes_of(pipeline, edit=Edit(image, strength=0.25))
    assert 0.6 < (near == codes).double().mean() < 1
    keep = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    keep[..., :5] = True                                                                     # two columns of cells whole, and half of the third
    painted = codes_of(pipeline, edit=Edit(image, keep)).view(2, 4, 4)
    assert torch.equal(painted[:, :, :2], codes.view(1, 4, 4)[:, :, :2].expand(2, -1, -1)) and not torch.equal(painted[:, :, 2:], codes.view(1, 4, 4)[:, :, 2:])


def test_codes_from_other_codecs_are_refused():
    with pytest.raises(ValueError, match="has 9 codes on a grid of 4 x 4, the model wants 10"):
        replace(BASE, codebook_size=10).to_training_pair(batch(8, 2))


# ---------------------------------------------------------------------------------------------------------------------------- runs

@pytest.mark.slow
def test_a_run_killed_on_the_way_ends_bit_for_bit_as_if_nothing_had_happened(tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for _ in train(RUN, whole):
        pass
    preset = replace(RUN, save=replace(RUN.save, checkpoint_steps=2))
    for log, _ in train(preset, parts):
        if log.step == 5:
            break
    for _ in train(preset, parts):
        pass
    assert saved(whole) == saved(parts)


def test_a_run_is_built_from_its_config_alone():
    for model in (BASE, CLASSES, FREE):
        preset = replace(RUN, model=model)
        assert preset_from_dict(json.loads(json.dumps(preset.to_dict()))) == preset


def test_every_way_to_sample_is_an_option_of_the_command_line(tmp_path, capsys):
    for _ in train(RUN, tmp_path / "run"):
        pass
    options = ["--sampler", "purity", "--prior-weight", "1", "--truncation", "0.9", "--guidance-scale", "3", "--sampling-steps", "7", "--zero-shot"]
    assert cli.main(["sample", str(tmp_path / "run"), "a red circle/../x", *options, "--out", str(tmp_path / "out")]) == 0
    record = json.loads((tmp_path / "out" / "samples.json").read_text())
    assert record["prior_weight"] == 1 and record["truncation"] == 0.9 and record["zero_shot"] is True
    picture = next((tmp_path / "out").glob("000_*.png"))
    assert "/" not in picture.stem and ".." not in picture.stem
    from PIL import Image
    assert Image.open(picture).text["Description"] == "a red circle/../x"
    assert cli.main(["sample", "ddpm-shapes", "--truncation", "0.9", "--out", str(tmp_path / "no")]) == 1
    assert "has no truncation to choose" in capsys.readouterr().err
