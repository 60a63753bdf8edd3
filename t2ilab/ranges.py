"""Ranges of the numbers that configs hold: one row per range, one name for one thing everywhere.

A config checks itself as it is made, so that a mistake is said before anything is loaded or written.
Left out: how numbers must fit each other, which each config says itself.
"""
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class Range(NamedTuple):
    """Numbers that are allowed, and the words for them."""
    words: str
    holds: Callable[[float], bool]                       # False for NaN and infinities


COUNT = Range("1 or more", lambda v: 1 <= v < math.inf)
FROM_0 = Range("0 or more", lambda v: 0 <= v < math.inf)
FROM_2 = Range("2 or more", lambda v: 2 <= v < math.inf)
POSITIVE = Range("more than 0", lambda v: 0 < v < math.inf)
SHARE = Range("a share from 0 to 1", lambda v: 0 <= v <= 1)
HALF = Range("a share from 0 to 0.5", lambda v: 0 <= v <= 0.5)
INSIDE = Range("a share between 0 and 1", lambda v: 0 < v < 1)
BELOW_1 = Range("0 or more and less than 1", lambda v: 0 <= v < 1)
ABOVE_0 = Range("a number above 0, at most 1", lambda v: 0 < v <= 1)
SCALE = Range("a number from -1000 to 1000; 1 = off", lambda v: abs(v) <= 1000)
INT64 = Range("a whole number from -2^63 to 2^63 - 1", lambda v: -2**63 <= v < 2**63)

NAMES = {
    # counts and sizes
    COUNT: "size channels channel_mult blocks head_channels patch width layers heads mlp_mult "
           "text_layers text_heads text_length encoder_width vocabulary z_channels codebook_dim "
           "latent_channels grid hidden span discriminator_channels discriminator_layers "
           "T sampling_steps steps batch_size accumulate keep limit threads tries seeds n",
    FROM_2: "codebook_size sentinels",
    FROM_0: "classes text_width position_table used low_res crop_size top_k discriminator_start "
            "warmup workers checkpoint_steps sample_steps validate_steps "
            # noise, and weights of losses
            "low_res_noise prior_weight weight_decay bound auxiliary absolute squared perceptual "
            "adversarial",
    POSITIVE: "scale temperature lr clip checkpoint_seconds timeout total megabytes wait",
    SHARE: "known augmentation replaced masked max_broken",
    HALF: "validation",
    INSIDE: "share",
    BELOW_1: "dropout cond_drop_prob betas ema_decay",
    ABOVE_0: "truncation percentile strength",
    SCALE: "guidance_scale",
    INT64: "seed",
}
RANGES = {name: allowed for allowed, names in NAMES.items() for name in names.split()}


def check_ranges(config, **own: Range | None) -> None:
    """ValueError for the first number of a config that is out of its range, NaN too.

    A tuple's numbers are checked one by one.  What is no number passes, None too.
    own: ranges of fields that this config takes otherwise; None = any number."""
    check_numbers(vars(config), RANGES | own)


def check_numbers(given: Mapping[str, Any], ranges: Mapping[str, Range | None] = RANGES) -> None:
    """ValueError for the first of some named values that is a number out of its range."""
    for name, value in given.items():
        values, allowed = value if isinstance(value, tuple) else (value,), ranges.get(name)
        numbers = [v for v in values if isinstance(v, int | float)]
        if allowed and not all(map(allowed.holds, numbers)):
            raise ValueError(f"{name}={value}: choose {allowed.words}")
