"""Checkers of lesson 04 tell the right answer from the mistakes that people make."""
from t2ilab.diffusion.losses import WEIGHTS
from t2ilab.teach.exercises import EXERCISES


def test_up_keeps_the_picture_and_the_noise():
    def up(x_s, eps, ab_s, ab_t):
        x0 = (x_s - (1 - ab_s).sqrt() * eps) / ab_s.sqrt()
        return ab_t.sqrt() * x0 + (1 - ab_t).sqrt() * eps
    check = EXERCISES["04a"]
    assert check(up) is None
    assert "misses" in check(lambda x_s, eps, ab_s, ab_t: x_s) and "as large" in check(None)


def test_min_snr_must_be_divided_by_what_the_output_weighs_already():
    check = EXERCISES["04b"]
    assert check(lambda predict, snr: snr.clamp(max=5) / WEIGHTS[predict](snr)) is None
    assert "'eps'" in check(lambda predict, snr: snr.clamp(max=5))                  # the colleague's line
    assert "one weight" in check(lambda predict, snr: 1.0)


def test_ten_calls_must_beat_ten_even_ones():
    check = EXERCISES["04c"]
    assert check([1000, 800, 650, 530, 430, 340, 260, 180, 110, 50, 0]) is None
    assert "0.0642" in check(list(range(1000, -1, -100)))
    assert "12 network calls" in check([1000, *range(990, 100, -90), 50, 0])
    assert "begins with 1000" in check([999, 0]) and "smaller" in check([1000, 500, 500, 0])
