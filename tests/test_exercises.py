"""Checkers of exercises tell the right answer from the mistakes that people make."""
import torch
import torch.nn.functional as F

from t2ilab.data.loaders import stream
from t2ilab.data.shapes import Scenes
from t2ilab.teach.exercises import EXERCISES


def repair(inputs, targets, sentinels):
    stood = {}
    for token in targets.tolist():
        if token in sentinels:
            noted = stood.setdefault(token, [])
        else:
            noted.append(token)
    return torch.tensor([t for token in inputs.tolist() for t in stood.get(token, [token])])


def test_a_text_put_together_again_must_be_the_text():
    check = EXERCISES["06a"]
    assert check(repair) is None
    assert "comes" in check(lambda inputs, targets, sentinels: inputs)
    assert "comes" in check(lambda inputs, targets, sentinels: torch.tensor([t for t in torch.cat([inputs, targets]).tolist() if t not in sentinels]))
    assert "int64" in check(lambda *pieces: repair(*pieces).tolist())


def test_the_bug_doubles_the_noise_and_shifts_the_mean():
    check = EXERCISES["06b"]
    assert check(lambda v, ab: (ab**0.5 * (v + 1) - 1, 2 * (1 - ab) ** 0.5)) is None
    assert "standard deviation" in check(lambda v, ab: (ab**0.5 * v, (1 - ab) ** 0.5))                  # what training shows
    assert "mean" in check(lambda v, ab: (ab**0.5 * v, 2 * (1 - ab) ** 0.5))
    assert "two numbers" in check(lambda v, ab: ab)


def test_features_are_counted_in_gib_of_bf16():
    assert EXERCISES["06c"](10**6 * 20 * 4096 * 2 / 2**30) is None
    assert EXERCISES["06c"](10**6 * 20 * 4096 * 4 / 2**30) == EXERCISES["06c"](10**6 * 20 * 4096 * 2 / 10**9) == EXERCISES["06c"](1953.1)


def test_rounding_must_keep_the_value_and_the_slope():
    check = EXERCISES["07a"]
    assert check(lambda x: x + (x.round() - x).detach()) is None
    assert "no gradient" in check(lambda x: x.round().detach())
    assert "slope" in check(lambda x: x.round())                                            # torch's own slope of rounding is 0
    assert "going forward" in check(lambda x: x.round() + (x - x.round()).detach()) and "going forward" in check(lambda x: None)


def test_perplexity_counts_codes_as_if_they_were_even():
    check = EXERCISES["07b"]

    def perplexity(codes, K):
        p = torch.bincount(codes.flatten(), minlength=K) / codes.numel()
        return (-torch.special.xlogy(p, p).sum()).exp()
    assert check(perplexity) is None
    assert "should be 1" in check(lambda codes, K: K)                                       # all codes, used or not
    assert "should be 1.89" in check(lambda codes, K: len(codes.unique()))                  # used ones, even or not
    assert "not nan" in check(lambda codes, K: (lambda p: (-(p * p.log()).sum()).exp())(torch.bincount(codes.flatten(), minlength=K) / codes.numel()))


def test_an_unused_code_must_go_to_the_nearest_used_one():
    check = EXERCISES["07c"]
    assert check(lambda entries, in_use: torch.cdist(entries, entries[in_use]).argmin(1)) is None

    def all_to_the_first(entries, in_use):
        table = torch.zeros(len(entries), dtype=torch.int64)
        table[in_use] = torch.arange(len(in_use))
        return table
    assert "not in use" in check(all_to_the_first)
    assert "should become 0, 1, 2" in check(lambda entries, in_use: torch.tensor(in_use)[torch.cdist(entries, entries[in_use]).argmin(1)])
    assert "int64" in check(lambda entries, in_use: torch.cdist(entries, entries[in_use]))


def test_a_linear_codec_must_beat_k_means():
    check = EXERCISES["07d"]
    x = F.pixel_unshuffle(next(stream(Scenes(size=64), batch_size=100)).images, 8).movedim(1, -1).flatten(0, 2)
    mean = x.mean(0)
    basis = torch.linalg.svd(x - mean, full_matrices=False)[2][:8].T
    assert check((mean, basis)) is None
    assert "beaten" in check((mean, torch.eye(192)[:, :8])) and "orthonormal" in check((mean, 2 * basis))
    assert "tuple" in check(basis) and "[192, 8]" in check((mean, basis.T))


def test_masks_shown_are_a_share_of_those_there():
    check = EXERCISES["08a"]
    assert check(lambda gamma_s, gamma_t: (gamma_t - gamma_s) / gamma_t) is None
    assert "of *those*" in check(lambda gamma_s, gamma_t: gamma_t - gamma_s) and "of *those*" in check(lambda gamma_s, gamma_t: gamma_s / gamma_t)


def test_trust_is_bayes_over_all_codes():
    check = EXERCISES["08b"]
    assert check(lambda a, b, K: (a + b) / (a + K * b)) is None
    assert "any x_0 at all" in check(lambda a, b, K: a + b) and "any x_0 at all" in check(lambda a, b, K: a / (a + K * b))


def test_the_fast_bug_leaves_most_tokens_to_the_last_call():
    left = 64.0
    for s in range(90, 0, -10):
        left *= s / (s + 1)
    assert EXERCISES["08c"](left) is None
    assert EXERCISES["08c"](6.4) == EXERCISES["08c"](52.6) == EXERCISES["08c"](64 * 0.99 ** 9)                 # the exact posterior; t to t - 1; always 1 %


def test_a_normaliser_is_tried_on_every_level_and_must_make_floats():
    check = EXERCISES["01a"]
    assert check(lambda u: u.float() / 127.5 - 1) is None
    assert "float32" in check(lambda u: u) and "-1" in check(lambda u: u.float() / 255)


def test_a_reader_of_colours_must_beat_the_mean_of_all_pixels():
    from t2ilab.data.shapes import COLOURS
    check, names = EXERCISES["01b"], list(COLOURS)
    palette = torch.tensor(list(COLOURS.values())) / 127.5 - 1

    def nearest(pixels):
        return [names[i] for i in torch.cdist(pixels, palette).argmin(1)]

    def furthest_from_the_corner(images):
        pixels = images.flatten(2).mT                                                           # [B 1024 3]
        distance = (pixels - pixels[:, :1]).norm(dim=2)
        return nearest(pixels[torch.arange(len(pixels)), distance.argmax(1)])
    assert check(furthest_from_the_corner) is None
    assert "23% are right" in check(lambda images: nearest(images.mean((2, 3))))
    assert "one name" in check(lambda images: "red")


def test_swapped_captions_are_found_by_their_alignment_only():
    from t2ilab.evaluation.alignment import alignment
    from t2ilab.teach.exercises.lesson_01 import swapped_captions
    false = (alignment(*swapped_captions()).per_image < 1).nonzero().flatten().tolist()
    assert 3 <= len(false) <= 6 and EXERCISES["01c"](false) is None
    assert "smallest first" in EXERCISES["01c"](false[::-1]) and "smallest first" in EXERCISES["01c"](false[:2])


def test_noise_of_a_batch_must_not_go_along_the_columns():
    check = EXERCISES["02d"]

    def buggy(x0, alpha_bar, t, eps):
        return alpha_bar[t].sqrt() * x0 + (1 - alpha_bar[t]).sqrt() * eps

    def right(x0, alpha_bar, t, eps):
        kept = alpha_bar[t].view(-1, 1, 1, 1)
        return kept.sqrt() * x0 + (1 - kept).sqrt() * eps
    assert check(right) is None
    assert "another image's t" in check(buggy) and "as large as x0" in check(lambda x0, *others: 0)
    assert "stops" in check(lambda x0, alpha_bar, t, eps: right(x0, alpha_bar, t, eps) if len(x0) == 8 else buggy(x0, alpha_bar, t, eps))
