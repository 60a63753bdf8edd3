"""Grids and film strips of images, as pillow images."""
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..tensors import to_uint8

GAP, TEXT, WIDTH = 6, 12, 96                    # pixels: between tiles, height of letters, narrowest tile


def grid(images: Tensor, captions=None, *, columns=8, scale=None, title=None) -> Image.Image:
    """All images in rows as one pillow image, each with its caption below.

    images: [B 3 H W], shown as [-1, 1]; what lies outside is clamped.  captions: B strings or None.
    scale: whole-number enlargement, nearest neighbour (None: tiles become about 100 pixels wide).
    ValueError on any other shape, on NaN, and where captions and images differ in number."""
    tiles = _tiles(images, scale)
    if captions is not None and len(captions) != len(tiles):
        raise ValueError(f"{len(captions)} captions for {len(tiles)} images: give one each, or None")
    columns = min(columns, len(tiles))
    rows = [tiles[i:i + columns] for i in range(0, len(tiles), columns)]
    return _sheet(rows, below=captions, title=title)


def strip(frames, labels=None, *, captions=None, scale=None, title=None) -> Image.Image:
    """One row per image, one column per moment: how a batch changes over time.

    frames: F tensors [B 3 H W], shown as [-1, 1].  labels: F headings, or None.
    captions: B strings, one below each row, or None.
    ValueError where frames, labels and captions do not fit together."""
    columns = [_tiles(frame, scale) for frame in frames]
    expected = (("labels", labels, len(columns)), ("captions", captions, len(columns[0])))
    for what, texts, number in expected:
        if texts is not None and len(texts) != number:
            raise ValueError(f"{len(texts)} {what} for {number}: give one each, or None")
    rows = [list(row) for row in zip(*columns, strict=True)]
    return _sheet(rows, heads=labels, below=captions, span=len(columns), title=title)


def _tiles(images, scale):
    """[B 3 H W] in [-1, 1] -> B pillow images, enlarged."""
    is_batch = torch.is_tensor(images) and images.ndim == 4 and images.shape[1] == 3 and len(images)
    if not (is_batch and images.is_floating_point()):
        given = f"{images.dtype} {list(images.shape)}" if torch.is_tensor(images) else type(images).__name__
        raise ValueError(f"images: {given}: give floats [B 3 H W] in [-1, 1], B >= 1")
    if images.isnan().any():
        raise ValueError("images: some values are NaN, which no colour can show")
    scale = scale or max(1, round(WIDTH / images.shape[-1]))
    pixels = to_uint8(images.detach()).repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    return [Image.fromarray(p) for p in pixels.permute(0, 2, 3, 1).cpu().numpy()]


def _sheet(rows, *, heads=None, below=None, span=1, title=None):
    """Rows of equal tiles on white.

    heads: texts above the columns.  below: one text under every `span` tiles."""
    w, h = rows[0][0].size
    wide = GAP + len(rows[0]) * (w + GAP)
    heads = [_wrap(t, w) for t in heads or []]
    below = [_wrap(t, span * w) for t in below or []]
    head, foot = _height(heads), _height(below)
    title = _wrap(title, wide) if title else ""
    top = GAP + _height([title]) + head
    sheet = Image.new("RGB", (wide, top + len(rows) * (h + foot + GAP)), "white")
    write = ImageDraw.Draw(sheet)
    if title:
        write.text((GAP, GAP), title, fill="black", font=_font())
    for j, text in enumerate(heads):
        write.text((GAP + j * (w + GAP), top - head), text, fill="black", font=_font())
    for n, tile in enumerate(t for row in rows for t in row):
        i, j = divmod(n, len(rows[0]))
        x, y = GAP + j * (w + GAP), top + i * (h + foot + GAP)
        # a white image has edges too
        write.rectangle((x - 1, y - 1, x + w, y + h), outline="lightgrey")
        sheet.paste(tile, (x, y))
        if below and n % span == 0:
            write.text((x, y + h), below[n // span], fill="black", font=_font())
    return sheet


def _font():
    return ImageFont.load_default(TEXT)


def _height(texts):
    """Pixels that the tallest of some wrapped texts needs."""
    return max((4 + (TEXT + 4) * (1 + t.count("\n")) for t in texts if t), default=0)


def _wrap(text, width):
    """Break a text into lines that fit into so many pixels, at blanks."""
    lines = [""]
    for word in str(text).split():
        longer = f"{lines[-1]} {word}".strip()
        fits = not lines[-1] or _font().getlength(longer) <= width
        lines = [*lines[:-1], longer] if fits else [*lines, word]
    return "\n".join(lines)


def beside(*pictures: Image.Image) -> Image.Image:
    """Pillow images next to each other on white, top-aligned."""
    sheet = Image.new("RGB", (sum(p.width for p in pictures), max(p.height for p in pictures)), "white")
    for k, picture in enumerate(pictures):
        sheet.paste(picture, (sum(p.width for p in pictures[:k]), 0))
    return sheet


def few_colours(picture: Image.Image, colours: int = 96) -> Image.Image:
    """The same picture in at most so many colours, each near its own hue.

    As a PNG it weighs a fifth, and noise a third.  An octree, because a median cut spends its colours
    where most pixels are, and turns a small red circle on a large white background brown.
    colours: 2..256."""
    # to multiples of 8, or an almost even grey falls into two cells of the octree, whose border is 128
    rounded = picture.convert("RGB").point([min(255, (v + 4) // 8 * 8) for v in range(256)] * 3)
    return rounded.quantize(colours, method=Image.Quantize.FASTOCTREE)
