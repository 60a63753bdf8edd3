"""Image decoding: one file in, one square of RGB pixels out.

Real folders hold rotated phone photos, print colours, transparent logos and half-downloaded files; all of
that ends here.
Left out on purpose: vector graphics, camera raw, colour profiles, video, and anything that would run another
program (Pillow's EPS).
"""
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageOps, PngImagePlugin
from PIL.Image import Transpose as Turn
from torch import Tensor

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
SUFFIXES = frozenset((".jpg", ".jpeg", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff",
                      ".ppm", ".pgm"))
OTHER_SUFFIXES = frozenset((".heic", ".heif", ".avif", ".jp2", ".j2k", ".jxl", ".svg", ".tga", ".psd", ".eps",
                            ".dng", ".cr2", ".nef", ".arw"))
ORIENTATION = 0x0112                    # EXIF tag, and what its numbers ask for
UPRIGHT = {2: Turn.FLIP_LEFT_RIGHT, 3: Turn.ROTATE_180, 4: Turn.FLIP_TOP_BOTTOM, 5: Turn.TRANSPOSE,
           6: Turn.ROTATE_270, 7: Turn.TRANSVERSE, 8: Turn.ROTATE_90}
SWAPS = (Turn.TRANSPOSE, Turn.ROTATE_270, Turn.TRANSVERSE, Turn.ROTATE_90)     # width and height
EIGHT_BITS = [(value + 128) // 257 for value in range(65536)]       # 65535 / 257 = 255

# The warning comes from 89 million pixels; the error, from 178 million, stays.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
PngImagePlugin.MAX_TEXT_CHUNK = 2**26                           # bytes: workflows, profiles
PngImagePlugin.MAX_TEXT_MEMORY = 2**28


def read_image(path) -> Tensor:
    """An image file as RGB. [3 H W] uint8, 0..255: upright, first frame, on white where it is transparent.

    Raises FileNotFoundError, or ValueError with the reason if the file cannot be decoded to its end or holds
    over 178 million pixels.
    Lesson: notebooks/01_data_analysis.ipynb"""
    return to_tensor(open_rgb(path)[0])


def to_tensor(image: Image.Image) -> Tensor:
    """[3 H W] uint8 of an RGB image."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def open_rgb(path, at_least: int | None = None) -> tuple[Image.Image, tuple[int, int]]:
    """The RGB image and its true (width, height).

    at_least: huge images come back smaller, but no side under that many pixels. Shrinking starts inside the
    JPEG decoder, so a 12,000 pixel photograph never stands in memory at full size.
    Errors: see read_image."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            return _decode(image, at_least)
    except FileNotFoundError:
        raise
    except Exception as error:          # on damaged bytes Pillow raises nearly every type there is
        raise ValueError(f"{path}: {_reason(error)}") from error


def _decode(image, at_least):
    _check_pixels(image)
    turn = _turn(image)
    width, height = image.size
    if turn in SWAPS:
        width, height = height, width
    if at_least:
        image.draft(None, (2 * at_least, 2 * at_least))         # JPEG only: decode at 1/2, 1/4 or 1/8
    if turn is not None:
        image = image.transpose(turn)
    factor = min(image.size) // (2 * at_least) if at_least else 1
    if factor > 1 and image.mode in ("L", "LA", "RGB", "RGBA", "CMYK"):
        image = image.reduce(factor)
    return _rgb(image), (width, height)


def _turn(image):
    """How to turn an image upright, by its EXIF; None if it is, or where its EXIF is damaged."""
    try:
        return UPRIGHT.get(image.getexif().get(ORIENTATION))    # of a wrong type or number it is none
    except Exception:                   # as nearly every type there is
        return None


def _check_pixels(image):
    if image.mode == "F":
        raise ValueError("floating-point pixels, and nothing says which number is white")
    if image.mode == "I" and image.format == "TIFF":            # 16 bits without a sign are "I;16"
        raise ValueError("pixels of 32 bits or with a sign, and nothing says which number is white")


def _rgb(image):
    """Any colour mode as RGB.

    Pillow alone would clip 16-bit greys to white and show transparent parts in a random colour."""
    if image.mode.startswith("I"):                              # 16-bit grey
        image = image.convert("I").point(EIGHT_BITS, "L")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _reason(error):
    """The error in a few words: no path, no object addresses, one line."""
    if isinstance(error, Image.UnidentifiedImageError):
        return "not a picture in any format read here"
    return " ".join(str(error).split()) or type(error).__name__


def measure(path) -> tuple[int, int]:
    """True (width, height) of an image that decodes to its last byte; errors as in read_image.

    Decodes at a small size, so it is fast."""
    return open_rgb(path, at_least=1)[1]


def centre(slack: int, generator) -> int:
    """Centre crop: the same pixels every time."""
    return slack // 2


def anywhere(slack: int, generator) -> int:
    """Random crop along the longer side."""
    return int(torch.randint(slack + 1, (), generator=generator))


CROPS = {"centre": centre, "random": anywhere}      # (pixels left over, generator) -> pixels to skip


@dataclass(frozen=True)
class Fit:
    """Crop and resize to S x S: a square of the full shorter side, antialiased, perhaps mirrored."""
    size: int                   # S, pixels
    crop: str = "centre"        # or "random", see CROPS
    flip: bool = False          # mirror every second picture (not for captions that say left or right)

    def __post_init__(self):
        if self.crop not in CROPS:
            raise ValueError(f"crop={self.crop!r}: choose one of {sorted(CROPS)}")
        if self.size < 1:
            raise ValueError(f"size={self.size}: pictures need at least 1 pixel")

    def __call__(self, image: Image.Image, generator: torch.Generator) -> Tensor:
        """[3 S S] uint8 of an RGB image; crop and mirroring come from the generator alone."""
        side = min(image.size)
        skip = CROPS[self.crop](max(image.size) - side, generator)
        left, top = (skip, 0) if image.width > image.height else (0, skip)
        square = (left, top, left + side, top + side)
        image = image.resize((self.size, self.size), Image.Resampling.BICUBIC, box=square, reducing_gap=3.0)
        if self.flip and torch.rand((), generator=generator) < 0.5:
            image = ImageOps.mirror(image)
        return to_tensor(image)
