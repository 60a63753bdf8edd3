"""Checkers of exercises tell the right answer from the mistakes that people make."""
import torch

from t2ilab.exercises import EXERCISES


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
