"""The score means what it says: 1 for the truth, 0 for what cannot be read, the analytic chance level for shuffled captions."""
from dataclasses import replace
from itertools import permutations, product
from math import erf

import numpy as np
import pytest
import torch
from parser_robustness import curves, draw_curves, whole_grammar
from torch.testing import assert_close

from t2ilab.data.scene_parser import parse
from t2ilab.data.shapes import (
    COLOURS,
    HELD_OUT,
    MARGIN,
    SHAPES,
    SIZES,
    Object,
    Scene,
    Scenes,
    describe,
    parse_caption,
    render,
)
from t2ilab.evaluation.alignment import (
    SLACK,
    alignment,
    chance_level,
    is_valid,
    mark,
    share,
    valid_share,
    verdicts,
)
from t2ilab.evaluation.corruptions import corrupt_image
from t2ilab.tensors import from_uint8, generator

RED, BLUE = Object("circle", "red", "small", 0.2, 0.5), Object("square", "blue", "large", 0.72, 0.5)
PAIR = Scene((RED, BLUE), "grey")
CAPTION = "a small red circle left of a large blue square on a grey background"
KNOWN = [pair for pair in product(COLOURS, SHAPES) if pair not in HELD_OUT]

def pictures(scenes, size=32):
    return torch.stack([from_uint8(render(s, size)) for s in scenes])


def wrong(reading, caption):
    return [name for name, right in verdicts(reading, parse_caption(caption)) if not right]


@pytest.mark.parametrize("split", ["train", "held_out"])
def test_true_captions_score_one(split):
    scenes, captions = zip(*(Scenes(split=split).draw(generator(1, i)) for i in range(60)))
    result = alignment(pictures(scenes), captions)
    assert result.score == 1 and result.abstained == 0 and result.per_image.tolist() == [1.0] * 60
    assert result.per_attribute == dict.fromkeys(["count", "background", "colour", "shape", "size", "position", "relation"], 1.0)


@pytest.mark.parametrize("change, attribute", [({"colour": "green"}, "colour"), ({"shape": "triangle"}, "shape"), ({"size": "large"}, "size")])
def test_one_wrong_attribute_costs_exactly_that_attribute(change, attribute):
    painted = replace(PAIR, objects=(replace(RED, **change, x=0.25), BLUE))
    result = alignment(pictures([painted]), [CAPTION])
    assert_close(result.per_image, torch.tensor([8 / 9]))
    assert result.per_attribute == dict.fromkeys(("count", "background", "colour", "shape", "size", "relation"), 1.0) | {attribute: 0.5}


def test_background_relation_position_and_count_are_checked():
    assert wrong(PAIR, CAPTION) == []
    assert wrong(replace(PAIR, background="black"), CAPTION) == ["background"]
    assert wrong(Scene((replace(RED, x=0.85), replace(BLUE, x=0.3)), "grey"), CAPTION) == ["relation"]
    assert wrong(Scene((replace(RED, y=0.1), replace(BLUE, y=0.8)), "grey"), CAPTION) == ["relation"]
    assert wrong(Scene((RED,), "grey"), "a small red circle at the left on a grey background") == []
    assert wrong(Scene((RED,), "grey"), "a small red circle at the top on a grey background") == ["position"]
    assert wrong(PAIR, "a small red circle on a grey background") == ["count"]
    assert wrong(Scene((RED,), "grey"), CAPTION) == ["count", "colour", "shape", "size", "relation"]


def test_objects_are_paired_in_the_best_way_whatever_their_order():
    mirrored = "a large blue square right of a small red circle on a grey background"
    assert wrong(PAIR, mirrored) == [] and wrong(replace(PAIR, objects=PAIR.objects[::-1]), mirrored) == []
    swapped = "a small blue square left of a large red circle on a grey background"              # colours and shapes crossed over
    assert wrong(PAIR, swapped) == ["size", "size", "relation"]
    twins = Scene((RED, replace(RED, x=0.7)), "grey")                                            # alike: the relation settles who is who
    assert wrong(twins, describe(replace(twins, objects=twins.objects[::-1]))) == []


def test_swapped_attributes_are_seen():
    """Attribute binding: the right words on the wrong objects must cost something."""
    crossed = Scene((replace(RED, colour="blue"), replace(BLUE, colour="red")), "grey")
    assert wrong(crossed, CAPTION) == ["colour", "colour"]


def test_a_centre_just_outside_its_zone_still_counts_and_the_next_zone_does_not():
    def at(y):
        return Scene((Object("circle", "red", "small", 0.5, y),), "grey")
    caption = "a small red circle at the top on a grey background"
    assert wrong(at(0.34), caption) == [] and wrong(at(0.36), caption) == ["position"] == wrong(at(0.5), caption)      # the zone ends at 0.32


@pytest.mark.slow
def test_noise_blank_and_mean_pictures_score_zero():
    scenes, captions = zip(*(Scenes().draw(generator(2, i)) for i in range(200)))
    noise = torch.randn(200, 3, 32, 32, generator=generator(0)).clamp(-1, 1)
    mean = pictures(scenes).mean(0).expand(200, -1, -1, -1)
    for images in [noise, mean, *(torch.full((200, 3, 32, 32), v) for v in (-1.0, 0.0, 1.0))]:
        result = alignment(images, captions)
        assert result.score == 0 and result.abstained == 1 and set(result.per_attribute.values()) == {0}
        assert valid_share(images) == 0


def test_an_unread_picture_counts_as_wrong_not_as_absent():
    images = torch.cat([pictures([PAIR]), torch.zeros(3, 3, 32, 32)])
    result = alignment(images, [CAPTION] * 4)
    assert result.score == 0.25 == result.per_attribute["colour"] and result.abstained == 0.75 and result.per_image.tolist() == [1, 0, 0, 0]


def shuffled_score(n, **options):
    """Score of n scenes with n captions drawn without them, and its standard error. The scenes are taken as read: parse is proved elsewhere."""
    data = Scenes(**options)
    result = mark([data.draw(generator(5, i))[0] for i in range(n)], [data.draw(generator(6, i))[1] for i in range(n)])
    return result, result.per_image.std().item() / n**0.5


def zone_chance():
    """P(a one-object scene has its centre in the zone that another caption names), from the grammar's numbers."""
    inside = 0
    for radius in SIZES.values():
        free = 1 - 2 * (MARGIN + radius)
        edge = 0.32 + SLACK - MARGIN - radius                           # how far a side zone reaches into where centres can be
        inside += (4 * edge * (0.2 + 2 * SLACK) + (0.16 + 2 * SLACK) ** 2) / free**2 / 5 / 2
    return (1 / 5 + inside) / 2                                         # half were placed in one of five zones, half anywhere


@pytest.mark.slow
def test_shuffled_captions_of_one_object_score_the_analytic_chance_level():
    colour = (3 * 2**2 + 3 * 3**2) / 15**2                              # three colours have 2 shapes in training, three have 3
    chance = {"count": 1, "background": 1 / 3, "colour": colour, "shape": 1 / 3, "size": 1 / 2, "position": zone_chance()}
    n = 8000
    result, error = shuffled_score(n, objects=(1,))
    for name, p in chance.items():
        stated = n / 2 if name == "position" else n
        assert abs(result.per_attribute[name] - p) <= 4 * (p * (1 - p) / stated) ** 0.5, (name, result.per_attribute[name], p)
    plain = 1 + 1 / 3 + colour + 1 / 3 + 1 / 2
    expected = (plain / 5 + (plain + chance["position"]) / 6) / 2       # half the captions state a position
    assert abs(result.score - expected) <= 4 * error and error < 0.003, (result.score, expected, error)


def two_object_chance():
    """E[best of both pairings], summed over every pair of two-object scenes of the grammar."""
    number = {word: i for i, word in enumerate([*COLOURS, *SHAPES, *SIZES])}
    scenes = [(*a, y, *b, z) for (a, b), y, z in product(permutations(KNOWN, 2), SIZES, SIZES)]
    looks = np.array([[number[word] for word in scene] for scene in scenes])                        # [840 6]
    same = sum(np.equal.outer(looks[:, k], looks[:, k]).astype(int) for k in range(6))              # [840 840] caption i, picture j as they stand
    crossed = sum(np.equal.outer(looks[:, k], looks[:, (k + 3) % 6]).astype(int) for k in range(6))
    as_stated, opposite, neither = (np.maximum(same + a, crossed + b).mean() for a, b in [(1, 0), (0, 1), (0, 0)])
    best = [as_stated, opposite, neither, neither]                                                  # of four equally likely relations
    return (np.mean(best) + 1 + 1 / 3) / 9                              # count is always right, the background one time in three


@pytest.mark.slow
def test_shuffled_captions_of_two_objects_score_the_analytic_chance_level():
    result, error = shuffled_score(5000, objects=(2,))
    assert abs(result.score - two_object_chance()) <= 4 * error and error < 0.003, (result.score, two_object_chance(), error)


def test_chance_level_is_the_mean_over_all_shuffles():
    scenes, captions = zip(*(Scenes().draw(generator(8, i)) for i in range(5)))
    shuffles = [mark(scenes, [captions[i] for i in order]).score for order in permutations(range(5))]
    assert_close(chance_level(scenes, captions), sum(shuffles) / len(shuffles), rtol=1e-6, atol=0)
    assert chance_level([None, None], captions) == 0


def test_valid_share_counts_what_the_grammar_has_a_caption_for():
    diagonal = Scene((replace(RED, y=0.2), replace(BLUE, y=0.7)), "grey")
    assert parse(pictures([diagonal])[0]) is not None and not is_valid(diagonal)
    images = torch.cat([pictures([PAIR, diagonal, Scene((RED,), "white")]), torch.zeros(1, 3, 32, 32)])
    assert valid_share(images) == 0.5


def test_a_share_is_right_over_stated():
    assert share([("count", True), ("colour", False), ("shape", True), ("size", False)]) == 0.5


@pytest.mark.parametrize("captions, words", [([CAPTION], "2 pictures and 1 captions"), ([CAPTION, "a dog"], "outside the grammar")])
def test_captions_that_do_not_fit_are_refused(captions, words):
    with pytest.raises(ValueError, match=words):
        alignment(torch.zeros(2, 3, 32, 32), captions)


def test_spoiling_does_what_its_levels_say():
    grey = torch.zeros(3, 64, 64)
    assert torch.equal(corrupt_image(grey, generator(0)), grey)
    assert abs(corrupt_image(grey, generator(0), noise=0.1).std() - 0.1) < 0.005
    drifted = corrupt_image(grey, generator(0), drift=0.2)
    assert (drifted.std(dim=(1, 2)) < 1e-6).all() and 0 < drifted.abs().max() <= 0.2
    edge = torch.cat([-torch.ones(3, 64, 32), torch.ones(3, 64, 32)], dim=2)
    right_of_edge = corrupt_image(edge, generator(0), blur=2.0)[0, 32, 33].item()                       # its middle is 1.5 pixels from the edge
    assert_close(right_of_edge, erf(1.5 / (2 * 2**0.5)), rtol=0, atol=0.02)


@pytest.mark.slow
def test_the_degradation_curves_fall_and_can_be_drawn():
    result = curves(whole_grammar(6), sizes=(32,))
    assert result[32]["together"]["right"] == 1 and all(c[0.0]["right"] == 1 for c in (result[32][k] for k in ("blur", "noise", "drift")))
    assert result[32]["blur"][2.0]["right"] < 1 and result[32]["noise"][0.3]["right"] < 1
    assert all(abs(sum(rates.values()) - 1) < 1e-9 for rates in result[32]["noise"].values())
    assert draw_curves(result).width > 600
