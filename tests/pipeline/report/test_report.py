"""Laws of what a person looks at: pictures keep what they show, seams are told, text is escaped."""

import base64
import dataclasses
import html
import io
import itertools
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

from pipeline.base.errors import GeometryError
from pipeline.report import charts, pictures, report, run_figures, seams
from pipeline.report.drawn_text import draw_middle
from pipeline.report.plane_pictures import Tile
from pipeline.report.score_section import FigureTable, ScoreSection

NASTY = """<script>alert("1")</script> a|b `c` *d* [e](f) & 'g' \\ ~h~ _i_\nnext line"""


def small_picture(title="Middle slice"):
    square = np.full((4, 5, 3), 7, np.uint8)
    return report.Picture(title=title, png=pictures.png_bytes(square), caption="of a block")


def small_report(text="Run of today"):
    table = report.Table(title=text, rows=((text, text), ("voxels", "12")))
    return report.Report(
        title=text,
        summary=text,
        warnings=(text,),
        tables=(table,),
        pictures=(small_picture(text),),
        scores=(small_section(text),),
        verdict=report.Verdict(text=text, state="bad"),
        key_figures=((text, text),),
        legend=(report.LegendEntry(name=text, colour=(1, 2, 3), text=text),),
        planes=(small_plane(text),),
        charts=(
            charts.bar_chart([1, 2], title=text, caption=text, alt=text, x_labels=[(0.5, text)],
                             y_label=text),
        ),
        commands=(report.Command(text=text, command=text),),
        folded=(dataclasses.replace(table, note=text),),
    )  # fmt: skip


def small_section(text):
    table = FigureTable(title=text, header=("", text), rows=((text, text),), note=text)
    return ScoreSection(summary=text, notes=(text,), tables=(table,))


def small_plane(text):
    tile = Tile(title=text, picture=np.full((4, 5, 3), 7, np.uint8), alt=text)
    return report.Plane(title=text, tiles=(tile, tile), caption=text, um_per_px=0.1)


class TextOfHtml(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.text, self.sources, self.handlers = [], [], [], []
        self.labels = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.labels += [value for name, value in attrs if name in ("alt", "aria-label")]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        self.sources += [value for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data):
        self.text.append(data)


# Seams


@st.composite
def labels_and_edges(draw):
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=3, max_side=6))
    values = draw(hnp.arrays(np.uint8, shape, elements=st.integers(0, 2)))
    edges = [draw(st.lists(st.integers(1, s - 1), unique=True)) if s > 1 else [] for s in shape]
    return values, edges


def counted_one_by_one(values, edges):
    """Return (differ, pairs) across borders and elsewhere, per axis, from the definition."""
    for axis, border in enumerate(edges):
        across, elsewhere = [], []
        for at in itertools.product(*map(range, values.shape)):
            if at[axis] > 0:
                before = tuple(i - (n == axis) for n, i in enumerate(at))
                (across if at[axis] in border else elsewhere).append(values[at] != values[before])
        if across and elsewhere:
            yield len(across), np.mean(across), np.mean(elsewhere)


@given(labels_and_edges())
def test_seams_equal_a_count_of_pairs_one_by_one(labels):
    values, edges = labels
    found = seams.seam_statistics(values, block_edges=edges)
    axes = list(counted_one_by_one(values, edges))
    pairs = sum(count for count, _, _ in axes)
    assert found.border_pairs == pairs
    if pairs:
        assert found.across_borders == pytest.approx(sum(n * a for n, a, _ in axes) / pairs)
        assert found.elsewhere == pytest.approx(sum(n * e for n, _, e in axes) / pairs)


def test_noise_without_blocks_has_a_ratio_of_about_one_along_unlike_axes():
    rng = np.random.default_rng(0)
    noise = gaussian_filter(rng.random((40, 200, 200)), (0.4, 1, 4))
    labels = noise > 0.52  # changes most often along z, hardly ever along x
    found = seams.seam_statistics(labels, block_edges=[[20], [100], range(10, 200, 10)])
    assert found.ratio == pytest.approx(1.0, abs=0.1)


def test_blocks_that_disagree_are_reported_and_infinitely_so_where_nothing_else_changes():
    one_class_per_block = np.kron(np.array([[0, 1], [1, 0]]), np.ones((8, 8), int))
    found = seams.seam_statistics(one_class_per_block, block_edges=[[8], [8]])
    assert (found.across_borders, found.elsewhere, found.ratio) == (1.0, 0.0, math.inf)

    shifted = np.tile(np.arange(16) % 4 == 0, (16, 1))
    shifted[8:] = np.roll(shifted[8:], 2, axis=1)
    assert seams.seam_statistics(shifted, block_edges=[[8], []]).ratio == math.inf


@pytest.mark.parametrize(
    ("values", "edges"),
    [
        (np.zeros((8, 8), int), [[4], [4]]),  # nothing changes anywhere
        (np.arange(64).reshape(8, 8), [[], []]),  # one block
        (np.arange(4), [[1, 2, 3]]),  # blocks of one voxel: no elsewhere
        (np.zeros((0, 8), int), [[], []]),
    ],
)
def test_where_nothing_can_be_compared_or_nothing_changes_no_seam_is_claimed(values, edges):
    found = seams.seam_statistics(values, block_edges=edges)
    assert found.ratio == 1.0
    assert run_figures.seam_table(found, plane="XY").rows


def test_a_step_of_scores_at_a_border_shows_and_channels_are_not_compared():
    scores_cyx = np.stack([np.tile(np.linspace(0, 0.4, 40), (6, 1))] * 2) * [[[1.0]], [[-1.0]]]
    smooth = seams.seam_statistics(scores_cyx, block_edges=[None, [], [20]])
    scores_cyx[..., 20:] += 0.3
    stepped = seams.seam_statistics(scores_cyx, block_edges=[None, [], [20]])
    assert smooth.ratio == pytest.approx(1.0)
    assert stepped.ratio > 20


@pytest.mark.parametrize("edges", [[[0], []], [[8], []], [[-1], []], [[4]]])
def test_edges_outside_of_the_array_are_refused(edges):
    with pytest.raises(GeometryError, match="edges"):
        seams.seam_statistics(np.zeros((8, 8), int), block_edges=edges)


# Text

marked_text = st.text(max_size=12) | st.text(alphabet="|\\`*_[]<>&~ \nab", max_size=12)


def test_html_shows_every_text_as_it_is_and_makes_no_tag_of_it():
    page = TextOfHtml()
    page.feed(report.to_html(small_report(NASTY)))
    assert "script" not in page.tags
    assert {"a", "b1", "i"} & set(page.tags) == set()
    shown = [text for text in page.text if text.strip() == NASTY]
    assert len(shown) >= 29, "every text of the report, as it is"
    assert page.handlers == []
    assert page.labels == [NASTY] * 4, "two pictures of the plane, a picture, a chart"


def test_html_asks_for_nothing_from_outside_and_its_pictures_are_whole():
    picture = small_picture()
    page = TextOfHtml()
    text = report.to_html(dataclasses.replace(small_report(), pictures=(picture,)))
    page.feed(text)
    assert "url(" not in text
    assert "@import" not in text
    *tiles, source = page.sources
    assert len(tiles) == 2
    assert all(tile.startswith("data:image/png;base64,") for tile in tiles)
    assert base64.b64decode(source.removeprefix("data:image/png;base64,")) == picture.png


def test_html_closes_what_it_opens():
    text = report.to_html(small_report(NASTY))
    tags = "section|table|figure|div|main|tr|td|th|h1|h2|h3|p|pre|code|svg|text|details|ul|li|dl"
    opened = re.findall(rf"<(/?)({tags})\b", text)
    for tag in {tag for _, tag in opened}:
        assert opened.count(("", tag)) == opened.count(("/", tag)), tag


@given(marked_text, marked_text)
def test_markdown_tables_keep_two_cells_a_row_whatever_is_in_them(name, value):
    table = report.Table(title="T", rows=((name, value),))
    text = report.to_markdown(report.Report(title="R", tables=(table,)))
    row = text.rstrip("\n").split("\n")[-1]
    borders = re.findall(r"(?<!\\)(?:\\\\)*\|", row)
    assert len(borders) == 3
    cells = re.fullmatch(r"\| (.*) \| (.*) \|", row)
    assert cells is not None
    read_back = [
        html.unescape(re.sub(r"\\([\\`*_\[\]|~])", r"\1", cell)) for cell in cells.groups()
    ]
    assert read_back == [" ".join(name.split()), " ".join(value.split())]


def test_markdown_makes_no_html_and_no_link_of_a_text():
    text = report.to_markdown(small_report(NASTY), picture_link=lambda _: "p.png")
    assert "<script" not in text
    assert "\\[e\\](f)" in text
    assert "next line" in text
    assert "\nnext line" not in text


def test_markdown_links_pictures_or_embeds_them():
    picture = small_picture()
    pictured = report.Report(title="R", pictures=(picture,))
    linked = report.to_markdown(pictured, picture_link=lambda p: f"my pictures/({p.title}).png")
    assert "![Middle slice](my%20pictures/%28Middle%20slice%29.png)" in linked
    embedded = re.search(r"\(data:image/png;base64,([^)]*)\)", report.to_markdown(pictured))
    assert embedded is not None
    assert base64.b64decode(embedded[1]) == picture.png


def test_figures_of_a_run_name_failed_blocks_and_divide_by_no_zero():
    figures = run_figures.RunFigures(
        shape=(4, 8, 8), voxels=0, blocks=2, blocks_done=0, failed_blocks=("0/0/1",), seconds=0.0
    )
    run, phases = (dict(table.rows) for table in figures.tables())
    assert run["blocks failed"] == "0/0/1"
    assert run["speed"] == "0.00 Mvoxel/s, 0.00 blocks/s"
    assert set(phases.values()) == {"0.0 s (0%)"}


def test_a_resumed_run_counts_its_own_voxels_in_the_speed_and_all_blocks_as_done():
    figures = run_figures.RunFigures(
        shape=(4, 8, 8), voxels=64, blocks=4, blocks_done=4, blocks_done_before=3, blocks_timed=1,
        seconds=2.0,
    )  # fmt: skip
    assert figures.voxels_per_s == 32
    assert figures.blocks_per_s == 0.5
    assert dict(figures.tables()[0].rows)["blocks done"] == "4 of 4"


# Pictures


@settings(max_examples=40)
@given(hnp.arrays(np.float32, (6, 9), elements=st.floats(width=32)))
def test_any_slice_makes_a_grey_picture_of_its_shape(image_yx):
    picture = pictures.grey_picture(image_yx)
    assert picture.shape == (6, 9, 3)
    assert picture.dtype == np.uint8
    assert (picture == picture[..., :1]).all()
    assert (picture[np.isnan(image_yx)] == 0).all()


@given(hnp.arrays(np.uint16, (6, 9)), st.integers(1, 9), st.integers(-50, 50))
def test_grey_pictures_do_not_depend_on_gain_and_offset(image_yx, gain, offset):
    original = pictures.grey_picture(image_yx).astype(int)
    changed = pictures.grey_picture(image_yx.astype(np.int64) * gain + offset).astype(int)
    assert np.abs(original - changed).max() <= 1


def test_one_bright_speck_does_not_darken_a_slice():
    image_yx = np.tile(np.arange(100, dtype=np.float32), (100, 1))
    image_yx[0, 0] = 1e6
    assert pictures.grey_picture(image_yx)[..., 0].mean() > 100


def test_three_channels_of_uint8_are_shown_as_colours_and_others_as_grey():
    image_cyx = np.random.default_rng(0).integers(0, 256, (3, 5, 7), dtype=np.uint8)
    np.testing.assert_array_equal(pictures.grey_picture(image_cyx), np.moveaxis(image_cyx, 0, -1))
    grey = pictures.grey_picture(image_cyx.astype(np.uint16))
    assert (grey == grey[..., :1]).all()


@pytest.mark.parametrize("shape", [(1024, 1024), (1500, 40), (40, 3001), (2048, 2048)])
def test_large_slices_are_shown_smaller_in_their_own_proportions(shape):
    for picture in (
        pictures.grey_picture(np.zeros(shape, np.uint8)),
        pictures.classes_picture(np.zeros(shape, np.uint8)),
        pictures.scores_picture(np.zeros((2, *shape), np.float32)),
    ):
        assert max(picture.shape) == 1024
        assert picture.shape[0] / picture.shape[1] == pytest.approx(shape[0] / shape[1], rel=0.05)


def test_classes_made_smaller_show_no_colour_that_is_not_a_class():
    classes_yx = np.random.default_rng(0).integers(0, 4, (1700, 1300), dtype=np.uint8)
    colours = np.unique(pictures.classes_picture(classes_yx).reshape(-1, 3), axis=0)
    assert {tuple(c) for c in colours.tolist()} == set(pictures.CLASS_COLOURS[:4])


def test_background_has_a_colour_that_no_other_class_has_however_many_there_are():
    colours = pictures.classes_picture(np.arange(300, dtype=np.uint16)[None])[0]
    assert not (colours[1:] == colours[0]).all(axis=-1).any()


def test_scores_of_one_class_alone_have_that_class_colour_and_doubt_lies_between():
    sure = np.zeros((3, 1, 3), np.float32)
    sure[[0, 1, 2], 0, [0, 1, 2]] = 1
    np.testing.assert_array_equal(
        pictures.scores_picture(sure), pictures.classes_picture(np.array([[0, 1, 2]]))
    )
    doubt = pictures.scores_picture(np.full((2, 1, 1), 0.5, np.float32))[0, 0]
    low, high = np.sort(np.array(pictures.CLASS_COLOURS[:2]), axis=0)
    assert ((low < doubt) & (doubt < high)).all()


@pytest.mark.parametrize("shape", [(30, 40), (2000, 1100)])
def test_an_overlay_leaves_background_clear_and_tints_the_rest(shape):
    rng = np.random.default_rng(0)
    image, classes = rng.integers(0, 256, shape, dtype=np.uint8), np.zeros(shape, np.uint8)
    classes[:, shape[1] // 2 :] = 1
    plain, overlay = pictures.grey_picture(image), pictures.overlay_picture(image, classes)
    half = plain.shape[1] // 2
    np.testing.assert_array_equal(overlay[:, :half], plain[:, :half])
    assert (overlay[:, half:, 0] > overlay[:, half:, 2]).all()  # orange


def test_a_panel_holds_every_picture_whole_whatever_the_titles():
    squares = [np.full((500, 400, 3), value, np.uint8) for value in (10, 90, 170, 250)]
    titles = [
        "Image",
        "A title that is much too long for a picture of this width",
        NASTY,
        "µ × é 細胞",
    ]
    legend = pictures.Legend(class_names=("background", "membrane") * 8)
    sheet = pictures.panel(list(zip(titles, squares, strict=True)), legend=legend)
    for square in squares:
        assert (sheet == square[0, 0]).all(axis=-1).sum() >= 500 * 400
    assert (sheet[:8] == 255).all()
    assert (sheet[:, :8] == 255).all()


def length_of_white_bar(sheet):
    """Return the length of the scale bar: the longest white run within the dark ground."""
    rows = (sheet.min(axis=-1) == 255) & (np.arange(sheet.shape[1]) >= 16)
    return max(
        len(list(run))
        for row in rows[-40:]
        for white, run in itertools.groupby(row[16:-16])
        if white
    )


@pytest.mark.parametrize(
    ("um_per_px", "bar_um"), [(0.1, 10.0), (0.5, 50.0), (0.02, 2.0), (3.0, 200.0)]
)
def test_a_scale_bar_is_as_long_as_it_says(um_per_px, bar_um):
    square = np.zeros((420, 420, 3), np.uint8)
    sheet = pictures.panel([("Image", square)], um_per_px=um_per_px)
    assert pictures.scale_bar_um(420 * um_per_px) == bar_um
    assert length_of_white_bar(sheet[:-16]) == pytest.approx(bar_um / um_per_px, abs=1)


def test_a_small_picture_is_enlarged_and_its_scale_bar_with_it():
    small = pictures.panel([("Image", np.zeros((105, 105, 3), np.uint8))], um_per_px=0.4)
    large = pictures.panel([("Image", np.zeros((420, 420, 3), np.uint8))], um_per_px=0.1)
    np.testing.assert_array_equal(small, large)


def test_micrometres_are_written_with_their_sign():
    drawn = {}
    for text in ("5 µm", "5 um"):
        sheet = Image.new("RGB", (120, 40))
        draw_middle(ImageDraw.Draw(sheet), (60, 5), text, size=20, fill=(255, 255, 255))
        drawn[text] = np.asarray(sheet)[..., 0] > 127
    rows, columns = np.nonzero(drawn["5 µm"] & ~drawn["5 um"])
    letters = np.nonzero(drawn["5 um"])
    assert rows.min() > letters[0].max() - 1, "below the other letters"
    assert 3 <= np.ptp(rows) + 1 <= 7
    assert 1 <= np.ptp(columns) + 1 <= 3
    assert letters[1].min() < columns.min() < letters[1].mean(), "under the u, not under the m"
    assert not (drawn["5 um"] & ~drawn["5 µm"]).any()


@given(st.floats(1e-2, 1e6))
def test_scale_bars_are_round_and_fit_in_a_quarter(width_um):
    bar = pictures.scale_bar_um(width_um)
    assert width_um / 10.001 <= bar <= width_um / 4
    assert f"{bar:e}"[0] in "125"


def test_a_png_holds_the_same_pixels():
    picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    with Image.open(io.BytesIO(pictures.png_bytes(picture))) as read:
        np.testing.assert_array_equal(np.asarray(read), picture)


@pytest.mark.parametrize(
    "make",
    [
        lambda: pictures.grey_picture(np.zeros((0, 5))),
        lambda: pictures.grey_picture(np.zeros(5)),
        lambda: pictures.classes_picture(np.zeros((2, 5, 5), int)),
        lambda: pictures.scores_picture(np.zeros((5, 5))),
        lambda: pictures.overlay_picture(np.zeros((5, 5)), np.zeros((5, 6), int)),
        lambda: pictures.panel([]),
        lambda: pictures.panel(
            [("a", np.zeros((5, 5, 3), np.uint8)), ("b", np.zeros((5, 6, 3), np.uint8))]
        ),
    ],
)
def test_what_is_no_slice_is_refused(make):
    with pytest.raises(GeometryError):
        make()


def test_a_border_that_stands_out_of_all_other_lines_is_distinguished_from_one_that_does_not():
    labels = np.random.default_rng(0).integers(0, 2, (40, 60))
    usual = seams.seam_statistics(labels, block_edges=[[20], [30]])
    assert usual.lines_like_worst > 0
    labels[20] = 1 - labels[19]
    seam = seams.seam_statistics(labels, block_edges=[[20], [30]])
    assert seam.lines_like_worst == 0
