"""The captioned scenes: areas are exact, captions are true, held-out pairs stay out, and a seed is a picture."""
from collections import Counter
from itertools import combinations, product
from math import dist, pi

import pytest
import torch
from torch.testing import assert_close

from t2ilab.data.example import ENDLESS
from t2ilab.data.loaders import stream
from t2ilab.data.shapes import (
    BACKGROUNDS,
    COLOURS,
    GAP,
    HELD_OUT,
    MARGIN,
    POSITIONS,
    RELATIONS,
    SHAPES,
    SIZES,
    Object,
    Scene,
    Scenes,
    coverage,
    describe,
    parse_caption,
    position,
    relation,
    render,
)
from t2ilab.tensors import generator

AREA = {"circle": pi, "square": 4.0, "triangle": 2.0}       # of a shape in the box [-1, 1] x [-1, 1], from school


def drawn(n, **options):
    data = Scenes(**options)
    return [data.draw(generator(3, i)) for i in range(n)]


def pairs_of(scene):
    return [(o.colour, o.shape) for o in scene.objects]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [24, 32, 64, 129])
def test_a_shape_covers_exactly_its_area(shape, size):
    for radius, centre in product(SIZES.values(), [(0.5, 0.5), (0.413, 0.527), (0.351, 0.688)]):
        alpha = coverage(shape, centre, radius, (size, size))
        assert_close(alpha.sum() / size**2, AREA[shape] * radius**2, rtol=2e-3, atol=0)
        assert alpha.min() >= 0 and alpha.max() <= 1 + 1e-9


def test_coverage_is_the_share_of_points_inside_the_shape():
    """Against counting 64 points per pixel, with the insides typed as inequalities, on a picture that is not square."""
    inside = {"circle": lambda u, v: u**2 + v**2 < 1, "square": lambda u, v: (u.abs() < 1) & (v.abs() < 1),
              "triangle": lambda u, v: (v < 1) & (2 * u.abs() < v + 1)}
    H, W, x, y, r = 40, 32, 0.43, 0.52, 0.2
    v, u = torch.meshgrid(((torch.arange(H * 8) + 0.5) / (H * 8) - y) / r, ((torch.arange(W * 8) + 0.5) / (W * 8) - x) / r, indexing="ij")
    for shape, test in inside.items():
        counted = test(u, v).double().reshape(H, 8, W, 8).mean(dim=(1, 3))
        assert_close(torch.from_numpy(coverage(shape, (x, y), r, (H, W))), counted, rtol=0, atol=0.07)


def test_the_same_scene_at_64_pixels_averaged_in_fours_is_the_scene_at_32():
    for scene, _ in drawn(40):
        small, large = render(scene, 32).float(), render(scene, 64).float()
        off = (torch.nn.functional.avg_pool2d(large, 2) - small).abs()
        assert off.max() < 12 and off.mean() < 0.1          # of 255: the two cut the shape into slices of different thickness


def test_a_picture_has_the_colours_of_its_scene_and_plain_corners():
    image = render(Scene((Object("square", "red", "large", 0.5, 0.5),), "grey"), 32)
    assert image.shape == (3, 32, 32) and image.dtype == torch.uint8
    assert tuple(image[:, 16, 16].tolist()) == COLOURS["red"] and tuple(image[:, 0, 0].tolist()) == BACKGROUNDS["grey"]


def test_colours_are_far_apart_and_far_from_the_backgrounds():
    palette = COLOURS | BACKGROUNDS
    assert min(dist(palette[a], palette[b]) for a, b in combinations(palette, 2)) > 140
    assert len(palette) == 9


@pytest.mark.parametrize("split", ["train", "held_out"])
def test_objects_lie_inside_the_picture_and_never_touch(split):
    for scene, _ in drawn(1000, split=split):
        boxes = [(o.x, o.y, SIZES[o.size]) for o in scene.objects]
        for x, y, r in boxes:
            assert min(x, y, 1 - x, 1 - y) - r >= MARGIN - 1e-9
        for (x, y, r), (X, Y, R) in combinations(boxes, 2):
            assert max(abs(x - X), abs(y - Y)) >= r + R + GAP - 1e-9


def test_captions_are_true_and_say_all_that_their_grammar_can():
    """Truth judged from coordinates typed here, not by the functions that wrote the caption."""
    true = {"left of": lambda a, b: a.x < b.x, "right of": lambda a, b: a.x > b.x, "above": lambda a, b: a.y < b.y, "below": lambda a, b: a.y > b.y,
            "left": lambda o: o.x < 0.33, "right": lambda o: o.x > 0.67, "top": lambda o: o.y < 0.33, "bottom": lambda o: o.y > 0.67,
            "centre": lambda o: abs(o.x - 0.5) < 0.1 and abs(o.y - 0.5) < 0.1}
    words = Counter()
    for scene, caption in drawn(2000):
        said = parse_caption(caption)
        assert [(o.shape, o.colour, o.size) for o in said.objects] == [(o.shape, o.colour, o.size) for o in scene.objects]
        assert said.background == scene.background
        assert len(scene.objects) == 1 or said.relation
        word = said.position or said.relation
        assert word is None or true[word](*scene.objects), (caption, scene)
        words[word] += 1
    assert set(words) == {None, *POSITIONS, *RELATIONS}
    assert abs(words[None] / 1000 - 0.5) < 0.1                  # half of the one-object captions state no position


def test_every_caption_of_the_grammar_survives_being_parsed_and_described():
    at = {None: (0.3, 0.3), "left": (0.3, 0.5), "right": (0.7, 0.5), "top": (0.5, 0.3), "bottom": (0.5, 0.7), "centre": (0.5, 0.5)}
    for shape, colour, size, ground, place in product(SHAPES, COLOURS, SIZES, BACKGROUNDS, [None, *POSITIONS]):
        scene = Scene((Object(shape, colour, size, *at[place]),), ground)
        said = parse_caption(describe(scene))
        assert (said.objects, said.background, said.position, said.relation) == ((Object(shape, colour, size),), ground, place, None)
        assert parse_caption(describe(scene, state_position=False)).position is None


def test_captions_read_as_the_lessons_quote_them():
    ball = Object("circle", "red", "large", 0.5, 0.25)
    assert describe(Scene((ball,), "white")) == "a large red circle at the top on a white background"
    assert describe(Scene((ball,), "white"), state_position=False) == "a large red circle on a white background"
    pair = Scene((Object("circle", "red", "small", 0.2, 0.5), Object("square", "blue", "large", 0.6, 0.5)), "grey")
    assert describe(pair) == "a small red circle left of a large blue square on a grey background"
    assert describe(Scene(pair.objects[::-1], "grey")) == "a large blue square right of a small red circle on a grey background"


def test_corners_have_no_position_and_diagonals_no_relation():
    corner, other = Object("circle", "red", "small", 0.2, 0.2), Object("circle", "blue", "small", 0.7, 0.7)
    assert position(corner) is None and relation(corner, other) is None
    with pytest.raises(ValueError, match="no words for 2 objects"):
        describe(Scene((corner, other), "white"))
    with pytest.raises(ValueError, match="no words for 3 objects"):
        describe(Scene((corner, other, corner), "white"))


@pytest.mark.parametrize("caption", [
    "", "a dog", "a large red circle", "a large pink circle on a white background", "large red circle on a white background",
    "a large red circle at the top on a white background.", "a small red circle near a large blue square on a grey background"])
def test_a_caption_outside_the_grammar_is_one_clear_line(caption):
    with pytest.raises(ValueError, match="outside the grammar") as caught:
        parse_caption(caption)
    assert "\n" not in str(caught.value) and repr(caption) in str(caught.value)


def test_held_out_pairs_never_train_and_always_appear_in_the_held_out_split():
    trained = [pair for scene, _ in drawn(3000) for pair in pairs_of(scene)]
    assert set(trained) == set(product(COLOURS, SHAPES)) - set(HELD_OUT)                         # all 15 others do appear
    assert {c for c, _ in trained} == set(COLOURS) and {s for _, s in trained} == set(SHAPES)
    unseen = [[pair in HELD_OUT for pair in pairs_of(scene)] for scene, _ in drawn(1000, split="held_out")]
    assert all(sum(u) == 1 for u in unseen)
    assert {(len(u), u.index(True)) for u in unseen} == {(1, 0), (2, 0), (2, 1)}                 # as subject and as the other


def test_every_attribute_is_drawn_about_equally_often():
    scenes = [scene for scene, _ in drawn(3000)]
    objects = [o for s in scenes for o in s.objects]
    for counts, k in [(Counter(s.background for s in scenes), 3), (Counter(len(s.objects) for s in scenes), 2),
                      (Counter(o.size for o in objects), 2), (Counter(o.shape for o in objects), 3)]:
        total = sum(counts.values())
        assert len(counts) == k and all(abs(n - total / k) < 5 * (total / k) ** 0.5 for n in counts.values()), counts


def test_a_seed_is_a_picture():
    data = Scenes(size=24)
    a, b, c = (data.example(i, generator(s)) for i, s in [(0, 5), (77, 5), (0, 6)])
    assert a.caption == b.caption and a.label == b.label and torch.equal(a.image, b.image)
    assert not torch.equal(a.image, c.image)


def test_it_is_a_data_set_whose_labels_are_right():
    data = Scenes(size=24)
    assert len(data) == ENDLESS and len(data.classes) == 18 and data.size == 24
    batch = next(stream(data, batch_size=64))
    assert batch.images.shape == (64, 3, 24, 24) and batch.images.min() >= -1 and batch.images.max() <= 1
    for caption, label in zip(batch.captions, batch.labels.tolist()):
        said = parse_caption(caption).objects
        assert (label == -1) if len(said) == 2 else (data.classes[label] == f"{said[0].colour} {said[0].shape}")
    assert {-1} < set(batch.labels.tolist())


@pytest.mark.parametrize("n", [1, 2])
def test_the_number_of_objects_can_be_chosen(n):
    assert {len(scene.objects) for scene, _ in drawn(50, objects=(n,))} == {n}


@pytest.mark.parametrize("options, words", [({"split": "test"}, "choose 'train' or 'held_out'"), ({"objects": (3,)}, "1 or 2 objects"),
                                            ({"objects": ()}, "1 or 2 objects")])
def test_an_unknown_split_or_number_of_objects_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        Scenes(**options)
