"""Checkers of the exercises: functions that look at an answer and say what is wrong with it.

`check("03a", answer)` calls EXERCISES["03a"](answer): None means right, a sentence is a hint that does not
give the answer away. A checker tests a property where it can (does your function invert itself?), and
compares with a number where it must.
"""
from math import prod

import torch

from ..diffusion.cond import Cond, Prediction
from ..diffusion.gaussian import variance_preserving
from ..diffusion.schedules import cosine
from ..tensors import generator, randn
from ..text.span_corruption import cut_out


def _call(function, *given):
    """What an answer returns, or None if it is no function."""
    return function(*given) if callable(function) else None


def near(target, *, within: float, hint: str):
    """A checker for a number or a tensor: right when every entry is at most `within` away from target."""
    target = torch.as_tensor(target, dtype=torch.float64)

    def checker(answer):
        answer = torch.as_tensor(answer, dtype=torch.float64)
        right = answer.shape == target.shape and bool(((answer - target).abs() <= within).all())
        return None if right else hint
    return checker


def exactly(target, *, hint: str):
    """A checker for words, whole numbers, lists and sets: right when equal."""
    return lambda answer: None if type(answer) is type(target) and answer == target else hint


# Lesson 01: data analysis

def normalises(function):
    """A checker for a function uint8 -> float32 in [-1, 1]."""
    u = torch.arange(256, dtype=torch.uint8)
    x = _call(function, u)
    if not isinstance(x, torch.Tensor) or x.dtype != torch.float32:
        return "return a float32 tensor: make floats of u before you divide"
    if not torch.allclose(x, torch.linspace(-1, 1, 256), atol=1e-6):
        return "0 must become -1, 255 must become 1, evenly in between"


# Lesson 02: noising

def jumps(function):
    """A checker for (alpha_bar, s, t) -> (a, b): x_t = a x_s + b eps must end where one jump to t does."""
    alpha_bar = cosine(100)
    for s, t in ((0, 40), (39, 40), (10, 70)):
        pair = _call(function, alpha_bar, s, t)
        if not isinstance(pair, tuple) or len(pair) != 2:
            return "return two numbers, a and b"
        a, b = map(float, pair)
        if abs(a * alpha_bar[s].sqrt() - alpha_bar[t].sqrt()) > 1e-9:
            return (f"from s={s} to t={t} the picture's weight is wrong: "
                    "first to s, then by a, must give sqrt(alpha_bar[t])")
        if abs(a**2 * (1 - alpha_bar[s]) + b**2 - (1 - alpha_bar[t])) > 1e-9:
            return (f"from s={s} to t={t} the variances do not add up: "
                    "a fades the noise already in x_s, and b**2 must fill up to 1 - alpha_bar[t]")


def quarters_the_snr(function):
    """A checker for a function table -> table [T+1] with a quarter of its SNR at every t >= 1."""
    before = cosine(100)
    after = _call(function, before)
    if not isinstance(after, torch.Tensor) or after.shape != before.shape:
        return "return a table as long as the one you were given"
    if after[0] != 1 or not after.isfinite().all():
        return "entry 0 is data: alpha_bar[0] is 1, and its SNR is infinite"
    ratio = (after / (1 - after) / (before / (1 - before)))[1:]
    if not torch.allclose(ratio, torch.full_like(ratio, 0.25), rtol=1e-6):
        return "solve SNR = alpha_bar / (1 - alpha_bar) for alpha_bar"


def tells_the_time(function):
    """A checker for a function (x0, x_t, diffusion) -> t, right to 30 steps of 1000."""
    diffusion = variance_preserving(cosine())
    x0 = 2 * torch.rand(16, 3, 32, 32, generator=generator(2)) - 1
    for t in (50, 300, 500, 700, 950):
        answer = _call(function, x0, diffusion.diffuse(x0, t, generator(2, t)), diffusion)
        if answer is None or abs(int(answer) - t) > 30:
            return (f"at t={t} it says {answer}: x0 . x_t / x0 . x0 is about sqrt(alpha_bar[t]); "
                    "which entry of the table is nearest?")


# Lesson 03: DDPM

def noise_in_the_first_half(sampler):
    """A checker for a sampler of T = 1000: DDPM's own step while t > 500, then the posterior's mean."""
    diffusion, g = variance_preserving(cosine()), generator(3)
    x_t = randn((2, 3, 4, 4), g)
    pred = Prediction(randn((2, 3, 4, 4), g))
    step = _call(sampler, diffusion)
    if not callable(step):
        return "a sampler is a function that takes a diffusion and returns a step, as mean_only does"
    for t in (1000, 501, 500, 20):
        s = t - 10
        mean, _ = diffusion.posterior(pred.x0, x_t, t, s)
        wanted = diffusion.step(pred, x_t, t, s, generator(t)) if t > 500 else mean
        given = step(pred, x_t, t, s, generator(t))
        if not isinstance(given, torch.Tensor) or not torch.allclose(given, wanted, atol=1e-5):
            todo = "add noise, as diffusion.step does" if t > 500 else "go to the mean, without noise"
            return f"at t={t} it should {todo}"


def _echo(x_t, t, cond):
    """A denoiser whose x_0 is x_t times the number that is its text."""
    return Prediction(x_t * cond.text.view(-1, 1, 1, 1))


def _labelled(*numbers):
    """For each number a Cond of batch 2 that has it as its text."""
    return [Cond(torch.full((2, 1), number), torch.ones(2, 1, dtype=torch.bool)) for number in numbers]


def moves_away(function):
    """A checker for (denoiser, cond, other, scale) -> denoise: guidance away from another condition."""
    x_t = torch.ones(2, 3, 4, 4)
    cond, other = _labelled(5, 2)
    for scale, wanted in ((1.0, 5), (0.0, 2), (3.0, 11)):
        denoise = _call(function, _echo, cond, other, scale)
        pred = _call(denoise, x_t, 500)
        if not isinstance(pred, Prediction):
            return "return a function denoise(x_t, t) that returns a Prediction"
        if not torch.allclose(pred.x0, wanted * x_t):
            return (f"with scale={scale:g} the guesses {cond.text[0, 0]} and {other.text[0, 0]} "
                    f"should give {wanted}, not {pred.x0.mean():g}")


# Lesson 04: faster sampling

def _line(start, end):
    """[9] float64, evenly from start to end."""
    return torch.linspace(start, end, 9, dtype=torch.float64)


def climbs(function):
    """A checker for (x_s, eps, ab_s, ab_t) -> x_t: the same x_0 and eps in the proportions of t."""
    def mix(ab):
        return ab.sqrt() * x0 + (1 - ab).sqrt() * eps
    x0, eps = _line(-1, 1), _line(2, -1)
    for ab_s, ab_t in torch.tensor([(1.0, 0.9), (0.8, 0.3), (0.5, 0.01)], dtype=torch.float64):
        x_t = _call(function, mix(ab_s), eps, ab_s, ab_t)
        if not isinstance(x_t, torch.Tensor) or x_t.shape != x0.shape:
            return "return a tensor as large as x_s"
        if not torch.allclose(x_t, mix(ab_t)):
            return (f"from alpha_bar {ab_s:.2f} to {ab_t:.2f} it misses: "
                    "which x_0 gave x_s, and which x_t do that x_0 and eps give?")


def translates_v(function):
    """A checker for a function (v, x_t, ab_t) -> eps."""
    x0, eps = _line(-1, 1), _line(2, -1)
    for ab in torch.tensor([0.99, 0.5, 0.02], dtype=torch.float64):
        a, s = ab.sqrt(), (1 - ab).sqrt()
        answer = _call(function, a * eps - s * x0, a * x0 + s * eps, ab)
        if not isinstance(answer, torch.Tensor) or answer.shape != x0.shape:
            return "return a tensor as large as v"
        if not torch.allclose(answer, eps):
            return "take s x_t + a v, put in what x_t and v are made of, and see what is left"


# Lesson 05: GLIDE

def guides_noise(function):
    """A checker for (x0_c, x0_0, x_t, ab_t, s) -> eps: guidance in noise, from two predicted x_0."""
    x0_c, x0_0, x_t = _line(-1, 1), _line(0.5, -0.5), _line(1, 1)
    for ab, s in ((0.9, 1.0), (0.5, 0.0), (0.2, 3.0)):
        ab = torch.tensor(ab, dtype=torch.float64)
        answer = _call(function, x0_c, x0_0, x_t, ab, s)
        if not isinstance(answer, torch.Tensor) or answer.shape != x_t.shape:
            return "return a tensor as large as x_t"
        eps_c, eps_0 = ((x_t - ab.sqrt() * x0) / (1 - ab).sqrt() for x0 in (x0_c, x0_0))
        if not torch.allclose(answer, eps_0 + s * (eps_c - eps_0)):
            return (f"at s={s:g} it misses: which noise does each predicted picture leave in x_t? "
                    "Then the line of the lesson")


def pulls_twice(function):
    """A checker for (denoiser, first, second, nothing, a, b) -> denoise: guidance by two conditions."""
    x_t = torch.ones(2, 3, 4, 4)
    conds = _labelled(5, 3, 2)
    for a, b, wanted in ((1.0, 0.0, 5), (0.0, 1.0, 3), (0.0, 0.0, 2), (2.0, 3.0, 11)):
        denoise = _call(function, _echo, *conds, a, b)
        pred = _call(denoise, x_t, 500)
        if not isinstance(pred, Prediction):
            return "return a function denoise(x_t, t) that returns a Prediction"
        if not torch.allclose(pred.x0, wanted * x_t):
            return (f"with a={a:g}, b={b:g} the guesses 5, 3 and 2 (for nothing) "
                    f"should give {wanted}, not {pred.x0.mean():g}")


# Lesson 06: Imagen

def repairs(function):
    """A checker for (inputs, targets, sentinels) -> ids: undo span corruption."""
    text, sentinels = torch.tensor([5, 7, 5, 6, 9, 5, 8, 7]), [90, 91, 92, 93]
    for spans in ([(2, 4)], [(0, 1), (3, 5)], [(1, 2), (4, 5), (6, 8)], [(0, 8)], []):
        inputs, targets = cut_out(text, spans, sentinels)
        ids = _call(function, inputs, targets, sentinels)
        if not isinstance(ids, torch.Tensor) or ids.dtype != torch.int64 or ids.ndim != 1:
            return "return a one-dimensional tensor of int64"
        if not ids.equal(text):
            return (f"from {inputs.tolist()} and {targets.tolist()} comes {ids.tolist()}, "
                    f"and the text was {text.tolist()}")


def sees_the_bug(function):
    """A checker for (v, ab) -> (mean, std) of a pixel noised in [0, 1] and mapped to [-1, 1] afterwards."""
    for v, ab in ((0.0, 0.99), (1.0, 0.25), (-0.6, 0.5)):
        pair = _call(function, v, ab)
        if not isinstance(pair, tuple) or len(pair) != 2:
            return "return two numbers, the mean and the standard deviation"
        if abs(float(pair[1]) - 2 * (1 - ab) ** 0.5) > 1e-6:
            return (f"for v={v:g}, ab={ab:g} the standard deviation is another: "
                    "what does the last line do to the noise?")
        if abs(float(pair[0]) - (ab**0.5 * (v + 1) - 1)) > 1e-6:
            return (f"for v={v:g}, ab={ab:g} the mean is another: "
                    "follow v through the three lines, without the noise")


# Lesson 07: a codec

def rounds_through(function):
    """A checker for a straight-through estimator: x -> x rounded to whole numbers, with a gradient of 1."""
    x = torch.tensor([-1.7, -0.2, 0.4, 2.6], requires_grad=True)
    y = _call(function, x)
    if not isinstance(y, torch.Tensor) or not torch.allclose(y, x.round()):
        return "going forward, return x.round()"
    if not y.requires_grad:
        return "no gradient passes: it has to come from x itself, and the rest must have none"
    (slope,) = torch.autograd.grad(y.sum(), x)
    if not torch.allclose(slope, torch.ones_like(x)):
        return f"the slope is {slope.tolist()}, and should be 1 everywhere"


def counts_evenly(function):
    """A checker for a function (codes, K) -> perplexity."""
    evenly, one = torch.arange(12).view(3, 4) % 4, torch.zeros(5, dtype=torch.int64)
    for codes, K, wanted in ((evenly, 4, 4.0), (one, 9, 1.0), (torch.tensor([0, 0, 1]), 3, 1.8899)):
        answer = _call(function, codes, K)
        if answer is None or not abs(float(answer) - wanted) < 1e-3:
            return f"for codes {codes.flatten().tolist()} of {K} it should be {wanted:.4g}, not {answer}"


def renumbers(function):
    """A checker for (entries [K D], in_use) -> table [K]: place in in_use of a code or of its nearest."""
    entries = torch.tensor([0.0, 1.0, 4.0, 0.4, 5.0, 9.0, 7.5, 2.1])[:, None]
    in_use = [1, 2, 5]
    table = _call(function, entries, in_use)
    if not isinstance(table, torch.Tensor) or table.shape != (8,) or table.dtype != torch.int64:
        return "return an int64 tensor with a new number for each old code"
    if table[in_use].tolist() != [0, 1, 2]:
        return f"the codes {in_use} are in use: they should become 0, 1, 2, not {table[in_use].tolist()}"
    wrong = [k for k, wanted in enumerate([0, 0, 1, 0, 1, 2, 2, 0]) if table[k] != wanted]
    if wrong:
        return f"code {wrong[0]} is not in use: which of the used entries is nearest to its own?"


# Lesson 08: VQ-Diffusion

def shows_masks(function):
    """A checker for (gamma_s, gamma_t) -> the chance that a token masked at t is shown at s."""
    for gamma_s, gamma_t in ((0.0, 0.3), (0.5, 1.0), (0.6, 0.8)):
        answer = _call(function, gamma_s, gamma_t)
        if answer is None or abs(float(answer) - (1 - gamma_s / gamma_t)) > 1e-9:
            return (f"at gamma_s={gamma_s:g}, gamma_t={gamma_t:g} it is {answer}: of 100 tokens, "
                    "how many are masked at t, and how many of *those* still at s?")


def trusts(function):
    """A checker for (alpha_bar, beta_bar, K) -> the chance that a visible token is the true one."""
    for alpha_bar, beta_bar, K in ((0.4, 0.1, 3), (0.9, 0.0, 512), (0.0, 0.01, 9)):
        answer = _call(function, alpha_bar, beta_bar, K)
        wanted = (alpha_bar + beta_bar) / (alpha_bar + K * beta_bar)
        if answer is None or abs(float(answer) - wanted) > 1e-9:
            return (f"at {alpha_bar:g}, {beta_bar:g}, {K} it is {answer}: "
                    "how likely is x_t from x_0 = x_t, and how likely from any x_0 at all?")


EXERCISES = {
    "01a": exactly(648, hint="multiply the number of choices; a position has five words, or is not stated"),
    "01b": normalises,
    "01c": exactly([2, 7], hint="a caption that is wholly true scores 1; "
                                "collect the indices of the pictures that score less"),
    "02a": jumps,
    "02b": quarters_the_snr,
    "02c": tells_the_time,
    "03a": near(108.87, within=0.5,
                hint="divide two entries of weight: the one at t = 2 by the one at t = 500"),
    "03b": noise_in_the_first_half,
    "03c": moves_away,
    "04a": climbs,
    "04b": translates_v,
    "04c": near((160, 57), within=1, hint="the error falls to an eighth: which factor in the steps "
                                          "does that take at order 1, and which at order 2?"),
    "05a": exactly(227, hint="100 steps of a doubled batch, and then the upsampler's list of times: "
                             "how many steps does it make?"),
    "05b": guides_noise,
    "05c": pulls_twice,
    "06a": repairs,
    "06b": sees_the_bug,
    "06c": near(152.6, within=0.5,
                hint="captions x tokens x numbers a token x 2 bytes, in units of 2**30 bytes"),
    "07a": rounds_through,
    "07b": counts_evenly,
    "07c": renumbers,
    "08a": shows_masks,
    "08b": trusts,
    "08c": near(64 * prod(s / (s + 1) for s in range(90, 0, -10)), within=0.05,
                hint="by 08a, what does a step from s + 1 to s leave of the masks? "
                     "There are nine before the last"),
}
