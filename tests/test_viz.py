"""Grids, strips, plots, panels and progress: exact pixels where pixels matter, the right number of things elsewhere."""
import io

import pytest
import torch
from PIL import Image, ImageChops

from t2ilab.viz import diagram, figures, notebook, plots, tiles
from t2ilab.viz.tiles import GAP

IMAGES = torch.linspace(-1, 1, 5 * 3 * 4 * 6).view(5, 3, 4, 6)             # B=5, H=4, W=6


def tile(sheet, i, j, *, size, top=GAP, foot=0):
    """The tile in row i, column j of a sheet."""
    w, h = size
    x, y = GAP + j * (w + GAP), top + i * (h + foot + GAP)
    return sheet.crop((x, y, x + w, y + h))


def test_a_grid_shows_every_image_pixel_for_pixel():
    sheet = tiles.grid(IMAGES, columns=3, scale=1)
    assert sheet.size == (GAP + 3 * (6 + GAP), GAP + 2 * (4 + GAP))
    for n, image in enumerate(IMAGES):
        shown = torch.tensor(list(tile(sheet, *divmod(n, 3), size=(6, 4)).tobytes())).view(4, 6, 3)
        assert torch.equal(shown, ((image + 1) * 127.5).round().long().permute(1, 2, 0))


def test_enlarging_repeats_pixels_and_blurs_nothing():
    small, large = (tile(tiles.grid(IMAGES, columns=3, scale=s), 1, 1, size=(6 * s, 4 * s)) for s in (1, 5))
    assert ImageChops.difference(large, small.resize((30, 20), Image.Resampling.NEAREST)).getbbox() is None


def test_values_outside_the_range_are_clamped_and_not_wrapped():
    sheet = tiles.grid(torch.full((1, 3, 2, 2), 7.0), scale=1)
    assert sheet.getpixel((GAP, GAP)) == (255, 255, 255)


def test_captions_get_room_and_ink():
    plain, written = tiles.grid(IMAGES, scale=9), tiles.grid(IMAGES, ["a red circle on white"] * 5, scale=9)
    below = written.crop((0, GAP + 36, written.width, written.height))
    assert written.height > plain.height and below.convert("L").getextrema()[0] < 100


def test_long_captions_break_between_words_and_keep_them_all():
    caption = "a small red circle left of a large blue square"
    lines = tiles._wrap(caption, 96).split("\n")
    assert " ".join(lines) == caption and all(tiles._font().getlength(line) <= 96 for line in lines) and len(lines) > 1
    assert tiles._wrap("incomprehensibilities", 10) == "incomprehensibilities"


def test_a_film_strip_has_a_row_per_image_and_a_column_per_moment():
    frames = [torch.full((2, 3, 4, 6), v) for v in (-1.0, 0.0, 1.0)]
    sheet = tiles.strip(frames, scale=1)
    for i in range(2):
        assert [tile(sheet, i, j, size=(6, 4)).getpixel((0, 0))[0] for j in range(3)] == [0, 128, 255]
    assert tiles.strip(frames, ["a", "b", "c"], captions=["x", "y"], scale=1).height > sheet.height


@pytest.mark.parametrize("images", [IMAGES[0], IMAGES[:, :1], IMAGES[:0], (IMAGES * 255).to(torch.uint8), [[1]], IMAGES / 0 * 0])
def test_what_is_not_a_batch_of_pictures_is_refused(images):
    with pytest.raises(ValueError, match="images"):
        tiles.grid(images)


def test_texts_that_do_not_fit_the_pictures_are_refused():
    for call in (lambda: tiles.grid(IMAGES, ["one"]), lambda: tiles.strip([IMAGES], ["a", "b"]), lambda: tiles.strip([IMAGES], captions=["a"])):
        with pytest.raises(ValueError, match="give one each"):
            call()


def test_a_path_gets_a_png_and_its_folder(tmp_path):
    calls = {"grid": lambda p: notebook.show_grid(IMAGES, path=p), "strip": lambda p: notebook.film_strip([IMAGES, IMAGES], path=p),
             "lines": lambda p: plots.plot_lines({"a": ([1, 2], [3, 4])}, path=p), "points": lambda p: plots.plot_points({"a": ([1], [3])}, path=p),
             "bars": lambda p: plots.plot_bars({"a": {"x": 1}}, path=p), "show": lambda p: notebook.show(IMAGES, path=p)}
    for name, call in calls.items():
        call(tmp_path / "new" / f"{name}.png")
        assert Image.open(tmp_path / "new" / f"{name}.png").format == "PNG"


def test_plots_draw_what_they_are_given():
    flat, steep = (plots.lines({"a": ([0, 1], torch.tensor([0.0, y])), "b": ([0, 1], [0, 9])}) for y in (1.0, 9.0))
    assert flat.size == steep.size and ImageChops.difference(flat, steep).getbbox()
    assert plots.lines({"a": ([1, 2], [1, 2])}).tobytes() != plots.lines({"a": ([1, 2], [1, 2])}, dashed=("a",)).tobytes()
    assert plots.lines({"a": ([1, 2], [1, 2])}).tobytes() != plots.lines({"a": ([1, 2], [1, 2], [0.5, 0.5])}).tobytes()
    assert plots.bars({"a": {"x": 1, "y": 2}}).tobytes() != plots.bars({"a": {"x": 2, "y": 1}}).tobytes()
    assert plots.points({"a": ([1, 2], [1, 9])}).tobytes() != plots.points({"a": ([1, 2], [1, 9])}, log=("y",)).tobytes()


def test_a_dashed_curve_leaves_the_one_below_it_visible():
    both = {"a": ([0, 1], [0, 1]), "b": ([0, 1], [0, 1])}
    solid, dashed = plots.lines(both), plots.lines(both, dashed=("b",))
    def blue(picture):
        return sum(n for n, (r, g, b) in picture.convert("RGB").getcolors(9999) if b > r + 60)
    assert blue(dashed) > 1.5 * blue(solid)


def test_bars_named_after_a_colour_have_it():
    picture = plots.bars({"red": {"x": 1}, "blue": {"x": 1}}).convert("RGB")
    found = {colour: n for n, colour in picture.getcolors(9999)}
    assert min(found.get((255, 0, 0), 0), found.get((0, 0, 255), 0)) > 1000


def test_long_labels_of_bars_break_at_blanks_before_they_turn(monkeypatch):
    from matplotlib.axes import Axes
    seen = []
    monkeypatch.setattr(Axes, "set_xticks", lambda self, ticks, labels, rotation: seen.append((labels[0], rotation)))
    for n, label in ((6, "colour"), (6, "another background"), (18, "another background"), (6, "shapes-upsampler")):
        plots.bars({"a": {f"{label} {k:02}": k for k in range(n)}})
    assert seen == [("colour 00", 0), ("another\nbackground\n00", 0), ("another background 00", 90), ("shapes-upsampler 00", 90)]


def test_beside_keeps_both_pictures():
    left, right = Image.new("RGB", (3, 5), "red"), Image.new("RGB", (2, 4), "blue")
    both = tiles.beside(left, right)
    assert both.size == (5, 5) and both.getpixel((2, 4)) == (255, 0, 0) and both.getpixel((3, 3)) == (0, 0, 255) and both.getpixel((4, 4)) == (255,) * 3


def test_moving_a_slider_draws_again():
    p = notebook.panel("demo", lambda n, word: IMAGES[:n] * len(word), {"n": range(1, 5), "word": ("one", "three")})
    before = p.image.value
    assert len(p.picture) == 1 and repr(p) == "<panel demo>"
    p.controls["n"].value = 3
    assert len(p.picture) == 3 and p.image.value != before
    p.controls["word"].value = "three"
    assert torch.equal(p.picture, IMAGES[:3] * 5)


def test_a_caption_box_shows_what_is_typed_and_says_what_is_refused():
    def draw(caption):
        if "wug" in caption:
            raise ValueError("this model has never read 'wug'")
        return IMAGES[:len(caption.split())]
    p = notebook.panel("demo", draw, {"caption": "a red circle"})
    p.controls["caption"].value = "a circle"
    before = p.image.value
    assert len(p.picture) == 2 and p.message == ""
    p.controls["caption"].value = "a wug"
    assert p.message == "this model has never read 'wug'" and p.image.value == before
    p.controls["caption"].value = "a red circle"
    assert len(p.picture) == 3 and p.message == ""


def test_few_colours_keep_the_hue_of_a_small_thing():
    sheet = Image.effect_noise((64, 64), 30).convert("RGB")
    sheet.paste((220, 30, 30), (30, 30, 34, 34))
    red, green, blue = tiles.few_colours(sheet, 32).convert("RGB").getpixel((32, 32))
    assert red > 190 and green < 60 and blue < 60


def test_an_almost_even_background_becomes_one_colour():
    grey = Image.effect_noise((64, 64), 1).point(lambda v: 128 + max(-3, min(3, v - 128))).convert("RGB")
    assert len(grey.getcolors()) > 3 and tiles.few_colours(grey).convert("RGB").getcolors() == [(64 * 64, (128,) * 3)]


def test_a_notebook_gets_few_colours_of_a_drawing_and_a_jpeg_of_photographs_and_a_file_gets_all(tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(notebook, "in_notebook", lambda: True)
    monkeypatch.setattr(notebook, "_display", lambda data, text: shown.extend(Image.open(io.BytesIO(file)) for file in data.values()))
    picture = Image.merge("RGB", [Image.linear_gradient("L"), Image.linear_gradient("L").rotate(90), Image.radial_gradient("L")])
    notebook.show(picture)
    notebook.show(tiles.few_colours(picture, 8))
    notebook.show_photographs(picture)
    notebook.show(picture, path=tmp_path / "all.png")
    drawing, fewer, photographs = shown
    assert drawing.format == fewer.format == "PNG" and photographs.format == "JPEG"
    assert 64 < len(drawing.getcolors()) <= 96 and len(fewer.getcolors()) <= 8
    assert max(high for _, high in ImageChops.difference(photographs, picture).getextrema()) < 25
    assert ImageChops.difference(Image.open(tmp_path / "all.png"), picture).getbbox() is None


def test_a_large_heat_map_has_a_scale_in_place_of_numbers(monkeypatch):
    written = []
    monkeypatch.setattr(plots, "_write_numbers", lambda axes, values: written.append(len(values)))
    for n in (10, 11):
        plots.heatmap(torch.rand(n, n), rows=range(n), columns=range(n))
    assert written == [10]


def test_a_heat_map_has_a_row_and_a_column_per_name():
    assert plots.heatmap([[0.1, 0.9], [1.0, 0.0]], rows=("a", "b"), columns=("x", "y"), title="attention").width > 100
    with pytest.raises(ValueError, match=r"values \[2\] for 2 rows and 1 columns"):
        plots.heatmap([0.1, 0.9], rows=("a", "b"), columns=("x",))


FIGURES = [figure for name, figure in vars(figures).items() if name.endswith("_figure")]


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.__name__)
def test_in_a_drawn_figure_no_box_covers_another_and_it_fits_into_a_notebook(figure, monkeypatch):
    seen = {}
    monkeypatch.setattr(figures, "diagram", lambda boxes, arrows, **options: seen.update(boxes) or diagram.diagram(boxes, arrows, **options))
    assert figure().width <= 1000
    boxes = list(seen.values())
    for k, a in enumerate(boxes):
        for b in boxes[k + 1:]:
            assert abs(a.x - b.x) >= (a.width + b.width) / 2 or abs(a.y - b.y) >= (a.height + b.height) / 2, (a.text, b.text)


def test_an_arrow_between_boxes_that_are_not_there_is_refused():
    assert len(FIGURES) == 5
    with pytest.raises(KeyError):
        diagram.diagram({"a": diagram.Box("a", 0, 0)}, [diagram.Arrow("a", "b")])


def test_progress_passes_everything_on_and_outside_a_notebook_prints_nothing(capfd):
    assert list(notebook.progress(iter("abc"), 3, "letters")) == ["a", "b", "c"]
    assert capfd.readouterr() == ("", "")


def test_in_a_notebook_everything_stands_under_a_text_that_never_changes(monkeypatch):
    shown = []
    monkeypatch.setattr(notebook, "in_notebook", lambda: True)
    pictures = []
    monkeypatch.setattr(notebook, "_display", lambda data, text: (shown.append((set(data), text)), pictures.append(data.get("image/png", b""))))
    notebook.show_grid(IMAGES, title="noise")
    notebook.film_strip([IMAGES])
    notebook.panel("demo", lambda n: IMAGES, {"n": (1, 2)})
    assert list(notebook.progress(range(3), 3, "train")) == [0, 1, 2]
    view = {"application/vnd.jupyter.widget-view+json"}
    assert {type(picture) for picture in pictures} == {bytes}               # a memoryview is sent as a list of numbers
    assert shown == [({"image/png"}, "<picture: noise>"), ({"image/png"}, "<picture>"), (view | {"image/png"}, "<panel demo>"), (view, "<progress train>")]


def test_progress_updates_at_most_twice_a_second(monkeypatch):
    clock = iter(range(10_000))
    monkeypatch.setattr(notebook, "in_notebook", lambda: True)
    monkeypatch.setattr(notebook, "_display_widget", lambda widget, text: updates.append(widget.children[0]))
    monkeypatch.setattr(notebook.time, "monotonic", lambda: next(clock) / 100)              # every look at the clock takes 0.01 s
    updates, seen = [], []
    for n in notebook.progress(range(1000), 1000, "train"):
        seen.append(updates[0].value)
    assert 10 <= len(set(seen)) <= 21 and updates[0].value == 1000
