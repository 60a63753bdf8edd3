"""Checkers of lesson 05: GLIDE."""
import torch

from ...diffusion.cond import Prediction
from ...evaluation.alignment import alignment
from ...evaluation.caption_metrics import fresh_scenes
from .answers import call, echo, labelled, line


def guides_noise(function):
    """A checker for (x0_c, x0_0, x_t, ab_t, w) -> eps: guidance in noise, from two predicted x_0."""
    x0_c, x0_0, x_t = line(-1, 1), line(0.5, -0.5), line(1, 1)
    for ab, w in ((0.9, 1.0), (0.5, 0.0), (0.2, 3.0)):
        ab = torch.tensor(ab, dtype=torch.float64)
        answer = call(function, x0_c, x0_0, x_t, ab, w)
        if not isinstance(answer, torch.Tensor) or answer.shape != x_t.shape:
            return "return a tensor as large as x_t"
        eps_c, eps_0 = ((x_t - ab.sqrt() * x0) / (1 - ab).sqrt() for x0 in (x0_c, x0_0))
        if not torch.allclose(answer, eps_0 + w * (eps_c - eps_0)):
            return (f"at w={w:g} it misses: which noise does each predicted image leave in x_t? "
                    "Then the line of the lesson")


def steers_to_the_caption(function):
    """A checker for (denoiser, cond, w) -> denoise: guidance from no caption to the caption."""
    x_t, (cond,) = torch.ones(2, 3, 4, 4), labelled(5)

    def answers(x_t, t, cond):                         # 5 with the caption, 2 without one
        return Prediction(x_t * torch.where(cond.mask, cond.text, 2).view(-1, 1, 1, 1))

    for w, wanted in ((1.0, 5), (0.0, 2), (3.0, 11)):
        pred = call(call(function, answers, cond, w), x_t, 500)
        if not isinstance(pred, Prediction) or pred.x0.shape != x_t.shape:
            return "return a function denoise(x_t, t) that returns a Prediction as large as x_t"
        if not torch.allclose(pred.x0, wanted * x_t):
            return (f"with the predictions 5 (caption) and 2 (none), w={w:g} "
                    f"should give {wanted}, not {pred.x0.mean():g}")


def pulls_twice(function):
    """A checker for (denoiser, first, second, nothing, a, b) -> denoise: guidance by two conditions."""
    x_t = torch.ones(2, 3, 4, 4)
    conds = labelled(5, 3, 2)
    for a, b, wanted in ((1.0, 0.0, 5), (0.0, 1.0, 3), (0.0, 0.0, 2), (2.0, 3.0, 11)):
        denoise = call(function, echo, *conds, a, b)
        pred = call(denoise, x_t, 500)
        if not isinstance(pred, Prediction):
            return "return a function denoise(x_t, t) that returns a Prediction"
        if not torch.allclose(pred.x0, wanted * x_t):
            return (f"with a={a:g}, b={b:g} the guesses 5, 3 and 2 (for nothing) "
                    f"should give {wanted}, not {pred.x0.mean():g}")


def follows_24_captions(images):
    """A checker for images [24 3 H W] of 24 captions of two objects: at least 0.95 of what they say."""
    captions = [caption for _, caption in fresh_scenes("two_objects", 24)]
    if not isinstance(images, torch.Tensor) or images.shape[:2] != (24, 3):
        return "hand in 24 images [24 3 32 32], one for each caption, in their order"
    score = alignment(images.detach().cpu(), captions).score
    if score < 0.95:
        return f"{score:.2f} of what the captions say is right, and 0.95 is wanted"


EXERCISES = {
    "05a": guides_noise,
    "05b": steers_to_the_caption,
    "05c": pulls_twice,
    "05d": follows_24_captions,
}
