"""Images corrupted by a known amount: blur, noise, colour jitter."""
import torch
from scipy import ndimage
from torch import Tensor

LEVELS = {      # what is corrupted -> how much
    # standard deviation of a Gaussian, in pixels
    "blur": (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0),
    # standard deviation, pixels in [-1, 1]
    "noise": (0.0, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3),
    # each channel times 1 +- drift and plus +- drift, both uniform
    "drift": (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3),
}
TOGETHER = {"blur": 0.5, "noise": 0.05, "drift": 0.1}       # a little of each at once
UNITS = {"blur": "blur sigma (pixels)", "noise": "noise sigma (pixels in [-1, 1])", "drift": "colour drift"}


def corrupt_image(image: Tensor, generator: torch.Generator, *, blur: float = 0.0, noise: float = 0.0,
                  drift: float = 0.0) -> Tensor:
    """An image blurred, its colours shifted, noise added, and clamped.

    image: [3 H W] in [-1, 1]; the levels are explained at LEVELS."""
    soft = torch.from_numpy(ndimage.gaussian_filter(image.numpy(), (0, blur, blur), mode="nearest"))
    gain, bias = drift * (2 * torch.rand(2, 3, 1, 1, generator=generator) - 1)
    shifted = soft * (1 + gain) + bias
    return (shifted + noise * torch.randn(image.shape, generator=generator)).clamp(-1, 1)
