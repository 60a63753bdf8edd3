"""Every kind of picture file becomes upright RGB on white, or an error in one line that names the file."""
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from tiny_data import REAL, picture, real

from t2ilab.data.decode import Fit, open_rgb, read_image
from t2ilab.tensors import generator

RED, WHITE = [255, 0, 0], [255, 255, 255]


def save(image, path, **options):
    image.save(path, **options)
    return path


def pixel(path, x=0, y=0):
    return read_image(path)[:, y, x].tolist()


def test_a_colour_png_comes_back_exactly(tmp_path):
    path = picture(tmp_path / "a.png")
    image = read_image(path)
    assert image.shape == (3, 15, 20) and image.dtype == torch.uint8 and image.is_contiguous()
    assert np.array_equal(image.permute(1, 2, 0).numpy(), np.array(Image.open(path)))


@pytest.mark.parametrize("mode, colour, shown", [
    ("1", 1, WHITE), ("L", 100, [100] * 3), ("LA", (0, 255), [0] * 3), ("LA", (0, 0), WHITE), ("RGBA", (255, 0, 0, 255), RED),
    ("RGBA", (0, 0, 0, 0), WHITE), ("RGBA", (0, 0, 0, 128), [127] * 3), ("I;16", 65535, WHITE), ("I;16", 257 * 100, [100] * 3), ("I;16", 100, [0] * 3)])
def test_every_colour_mode_becomes_rgb_on_white(mode, colour, shown, tmp_path):
    assert pixel(save(Image.new(mode, (4, 3), colour), tmp_path / "a.png")) == shown


def test_a_palette_becomes_its_colours_and_its_see_through_entry_white(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    assert [pixel(save(image, tmp_path / "a.png"), x) for x in (0, 1)] == [RED, [0, 0, 255]]
    assert [pixel(save(image, tmp_path / "b.png", transparency=1), x) for x in (0, 1)] == [RED, WHITE]


def test_print_colours_become_screen_colours(tmp_path):
    red, green, blue = pixel(save(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), tmp_path / "a.jpg"), 8, 8)
    assert red > 240 and green < 15 and blue < 15


def test_an_animation_gives_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    assert pixel(save(frames[0], tmp_path / "a.gif", save_all=True, append_images=frames[1:])) == RED


UPRIGHT = {1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1], 5: lambda a: a.swapaxes(0, 1),
           6: lambda a: np.rot90(a, -1), 7: lambda a: a[::-1, ::-1].swapaxes(0, 1), 8: lambda a: np.rot90(a)}


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_a_turned_photo_is_set_upright(orientation, tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, (3, 5, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(Image.fromarray(pixels), tmp_path / "a.png", exif=exif)
    upright = UPRIGHT[orientation](pixels)
    assert np.array_equal(read_image(path).permute(1, 2, 0).numpy(), upright)
    assert open_rgb(path)[1] == (upright.shape[1], upright.shape[0])


@pytest.mark.parametrize("suffix", ["webp", "png", "jpg"])
@pytest.mark.parametrize("exif", [b"Exif\0\0no exif", b"Exif\0\0II*\0\xff\xff\xff\x7f", b"Exif\0\0MM\0*\0\0\0\x08\0\x09", b"II"], ids=["words", "far away", "cut off", "short"])
def test_a_photo_with_damaged_exif_is_read_as_it_lies_there(exif, suffix, tmp_path):
    path = save(Image.new("RGB", (30, 20), "red"), tmp_path / f"a.{suffix}", exif=exif)
    image, size = open_rgb(path)
    assert image.size == size == (30, 20) and image.getpixel((9, 9))[0] > 250


def with_orientation(path, kind, value):
    """A JPEG of 30 x 20 whose orientation tag is of another type than it should be."""
    Image.new("RGB", (30, 20), "red").save(path)
    exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<HHHI4s", 1, 0x0112, kind, len(value) // (2 if kind == 3 else 1), value.ljust(4, b"\0")) + b"\0\0\0\0"
    path.write_bytes(path.read_bytes()[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + path.read_bytes()[2:])
    return path


@pytest.mark.parametrize("kind, value", [(2, b"6\0"), (7, b"6"), (7, b"\x06\0"), (1, b"\x09"), (3, b"\x2c\x01")],
                         ids=["text", "undefined", "two bytes", "number 9", "number 300"])
def test_an_orientation_of_a_wrong_type_is_none(kind, value, tmp_path):
    path = with_orientation(tmp_path / "a.jpg", kind, value)
    assert read_image(path).shape == (3, 20, 30) and open_rgb(path)[1] == (30, 20)


def test_a_png_with_megabytes_of_text_or_of_colour_profile_is_a_picture(tmp_path):
    text = PngInfo()
    text.add_text("workflow", "x" * 2_000_000, zip=True)
    red = Image.new("RGB", (3, 2), "red")
    assert pixel(save(red, tmp_path / "a.png", pnginfo=text)) == pixel(save(red, tmp_path / "b.png", icc_profile=b"\0" * 2_000_000)) == RED


def truncated(path):
    path.write_bytes(path.read_bytes()[:-100])
    return path


def claims_to_be_huge(path):
    """A PNG of a hundred bytes whose header says 20,000 x 20,000."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">2I5B", 20_000, 20_000, 8, 2, 0, 0, 0)) + chunk(b"IDAT", b"x"))
    return path


@pytest.mark.parametrize("corrupt_image, said", [
    (lambda d: truncated(picture(d / "a.jpg")), "truncated"), (lambda d: truncated(picture(d / "a.png")), "truncated|broken"),
    (lambda d: (d / "a.jpg").write_text("hello"), "not a picture"), (lambda d: (d / "a.jpg").write_bytes(b""), "not a picture"),
    (lambda d: (d / "a.jpg").mkdir(), "directory|denied"), (lambda d: claims_to_be_huge(d / "a.png"), "400000000 pixels"),
    (lambda d: save(Image.new("F", (2, 2)), d / "a.tif"), "floating-point"),
    (lambda d: save(Image.new("I", (2, 2), 200), d / "a.tif"), "32 bits or with a sign"),
    (lambda d: (d / "a.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"), "not a picture")],
    ids=["truncated jpg", "truncated png", "text", "empty", "folder", "bomb", "float", "32 bits", "postscript"])
@pytest.mark.parametrize("at_least", [None, 8])
def test_a_file_that_is_no_picture_is_an_error_of_one_line_that_names_it(corrupt_image, said, at_least, tmp_path):
    corrupt_image(tmp_path)
    (path,) = tmp_path.iterdir()
    with pytest.raises(ValueError, match=said) as error:
        open_rgb(path, at_least)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)


def test_a_missing_file_is_reported_as_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="none.jpg"):
        read_image(tmp_path / "none.jpg")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system does not tell how much memory a process took")
def test_a_picture_of_12000_pixels_is_never_in_memory_at_full_size(tmp_path):
    path = save(Image.new("L", (12_000, 12_000), 90), tmp_path / "a.jpg", quality=20)
    code = ("import re, sys; from t2ilab.data.decode import open_rgb; peak = lambda: int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]); "
            "before = peak(); image, size = open_rgb(sys.argv[1], 64); print(peak() - before, min(image.size), *size)")
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])
    grown, side, *size = map(int, done.stdout.split())
    assert size == [12_000, 12_000] and 64 <= side <= 256 and done.stderr == ""
    assert grown < 60 * 1024                                            # KiB; at full size even this grey one takes 137 MiB


def test_reading_small_shows_the_same_picture_as_reading_in_full(tmp_path):
    smooth = Image.radial_gradient("L").resize((900, 600)).convert("RGB")
    for name in ("a.jpg", "a.png"):
        path = save(smooth, tmp_path / name)
        small, full = (Fit(32)(open_rgb(path, n)[0], generator(0)).float() for n in (32, None))
        assert open_rgb(path, 32)[0].width < 900
        assert (small - full).abs().mean() < 1.5


# From any shape to a square

def stripes(width, height):
    """A picture whose red tells the column and whose green tells the row."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return Image.fromarray(np.stack([x, y, 0 * x], -1).astype(np.uint8))


@pytest.mark.parametrize("shape, columns, rows", [((40, 10), range(15, 25), range(10)), ((10, 41), range(10), range(15, 25)), ((10, 10), range(10), range(10))])
def test_the_centre_crop_is_the_middle_square_untouched(shape, columns, rows):
    image = Fit(10)(stripes(*shape), generator(0))
    assert image[0, 0].tolist() == list(columns) and image[1, :, 0].tolist() == list(rows)


def test_the_random_crop_reaches_both_ends_and_depends_on_the_generator_alone():
    fit, image = Fit(10, "random"), stripes(14, 10)
    lefts = [int(fit(image, generator(k))[0, 0, 0]) for k in range(60)]
    assert set(lefts) == {0, 1, 2, 3, 4}
    assert lefts == [int(fit(image, generator(k))[0, 0, 0]) for k in range(60)]


def test_the_flip_mirrors_about_half_of_the_pictures():
    mirrored = [int(Fit(10, flip=True)(stripes(10, 10), generator(k))[0, 0, 0]) == 9 for k in range(200)]
    assert 70 < sum(mirrored) < 130
    assert not any(int(Fit(10)(stripes(10, 10), generator(k))[0, 0, 0]) for k in range(20))


def test_shrinking_is_antialiased():
    checks = Image.fromarray(np.kron(np.indices((64, 64)).sum(0) % 2, np.ones((1, 1))).astype(np.uint8) * 255).convert("RGB")
    image = Fit(8)(checks, generator(0)).float()
    assert (image - 127.5).abs().max() < 30


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (3, 2)])
def test_a_tiny_picture_is_enlarged(shape):
    assert Fit(16)(stripes(*shape), generator(0)).shape == (3, 16, 16)


@pytest.mark.parametrize("options, said", [(dict(size=0), "at least 1"), (dict(size=8, crop="left"), "choose one of .'centre', 'random'")])
def test_a_fit_that_cannot_be_is_refused(options, said):
    with pytest.raises(ValueError, match=said):
        Fit(**options)


@real("imagenet_sample")
def test_real_photographs_of_every_kind_decode():
    paths = sorted((REAL / "imagenet_sample").glob("*.JPEG"))
    images = [Fit(64)(open_rgb(path, 64)[0], generator(0)) for path in paths]
    assert len(images) == 78 and all(image.shape == (3, 64, 64) and image.float().std() > 5 for image in images)
