import os
import subprocess
import sys
import time
import tracemalloc

import numpy as np
import pytest
from models import brain_regions, brain_spec
from PIL import Image

from DanteSegmenterLib.errors import ResourceError
from DanteSegmenterLib.pictures.contact_sheet import COLUMNS, GREYS, LEGEND, MARGIN, PANEL, ROWS, TITLE, Sheet
from DanteSegmenterLib.volume import Volume

WIDTH, HEIGHT = PANEL + 2 * MARGIN, PANEL + TITLE + 2 * MARGIN
GREEN, ORANGE, RED = (np.round(255 * np.array(region.color)) for region in brain_regions())


def case(spacing=(1.0, 1.0, 1.0)):
    """A bright square on a dark background, and masks that are largest in slice 4."""
    shape = (6, 64, 64)
    array = np.zeros(shape, np.float32)
    array[:, 8:56, 8:56] = 100
    image = Volume(array, np.diag([*spacing, 1.0]))
    masks = {region.id: np.zeros(shape, bool) for region in brain_regions()}
    masks["WT"][4, 16:48, 16:48] = True
    masks["WT"][2, 20:24, 20:24] = True
    masks["ET"][4, 30:34, 30:34] = True
    return image, masks


def size(path):
    with Image.open(path) as page:
        return page.size


def pixels(path, n=0):
    """A panel of a page, uint8 [rows, columns, 3]."""
    with Image.open(path) as file:
        page = np.array(file.convert("RGB"))
    top, left = n // COLUMNS * HEIGHT + TITLE + MARGIN, n % COLUMNS * WIDTH + MARGIN
    return page[top : top + PANEL, left : left + PANEL]


def count(panel, colour):
    return int((panel == colour).all(axis=2).sum())


def test_fullest_slice_is_drawn_with_a_solid_outline_of_the_result(tmp_path):
    sheet, (image, masks) = Sheet(brain_spec()), case()
    sheet.add("A", image, None, masks)
    sheet.save(tmp_path / "sheet.png")
    panel = pixels(tmp_path / "sheet.png")
    # 32 voxels of 4 pixels: a closed line, about 4 x 128 pixels long, at the edge of the mask.
    assert 490 <= count(panel, GREEN) <= 530 and 50 <= count(panel, RED) <= 80
    rows = np.flatnonzero((panel == GREEN).all(axis=2).any(axis=1))
    assert abs(rows[0] - 64) <= 2 and abs(rows[-1] - 191) <= 2
    assert (panel[2, 2] == 0).all() and (panel[100, 50] == 255).all()  # the image itself


def test_truth_is_dashed_and_drawn_below(tmp_path):
    sheet, (image, masks) = Sheet(brain_spec()), case()
    nothing = {region: np.zeros_like(mask) for region, mask in masks.items()}
    sheet.add("truth alone", image, masks, nothing)
    sheet.add("both", image, masks, masks)
    sheet.save(tmp_path / "sheet.png")
    assert 200 <= count(pixels(tmp_path / "sheet.png", 0), GREEN) <= 310
    assert 490 <= count(pixels(tmp_path / "sheet.png", 1), GREEN) <= 530


def test_legend_names_each_region_and_both_outlines(tmp_path):
    legends = []
    for truth in (None, case()[1]):
        sheet, (image, masks) = Sheet(brain_spec()), case()
        sheet.add("A", image, truth, masks)
        sheet.add("without truth", image, None, masks)
        sheet.save(tmp_path / "sheet.png")
        with Image.open(tmp_path / "sheet.png") as file:
            legends.append(np.array(file.convert("RGB"))[-LEGEND:])
    for legend in legends:
        assert [count(legend, colour) for colour in (GREEN, ORANGE, RED)] == [8 * 8] * 3
        columns = [np.flatnonzero((legend == colour).all(axis=2).any(axis=0))[0] for colour in (GREEN, ORANGE, RED)]
        assert columns == sorted(columns)  # in the model's order
    assert not np.array_equal(*legends)  # with an expert's mask it says what dashes are


def test_anisotropic_voxels_keep_their_aspect(tmp_path):
    sheet, (image, masks) = Sheet(brain_spec()), case(spacing=(1.0, 0.5, 1.0))
    sheet.add("A", image, None, masks)
    assert sheet.tiles[0][1].shape == (PANEL // 2, PANEL)


def test_one_voxel_lesion_is_visible_in_a_downscaled_slice():
    sheet, image = Sheet(brain_spec()), Volume(np.ones((2, 1000, 1000)), np.eye(4))
    masks = {region.id: np.zeros(image.shape, bool) for region in brain_regions()}
    masks["ET"][1, 101, 203] = masks["WT"][1, 101, 203] = True
    sheet.add("A", image, None, masks)
    assert (sheet.tiles[0][1] >= GREYS).any()


@pytest.mark.parametrize(
    "name",
    ["$^$", "x$^^$y", r"\frac{", "emoji 😀", "Müller", "頭", "\ud800\udcfc", "\x00\x1b[31m\n", "", "n" * 250, "שלום"],
)
def test_any_name_is_drawn_as_plain_text(tmp_path, name):
    sheet, (image, masks) = Sheet(brain_spec()), case()
    sheet.add(name, image, None, masks)
    sheet.save(tmp_path / "sheet.png")
    assert size(tmp_path / "sheet.png") == (WIDTH * COLUMNS, HEIGHT + LEGEND)


def test_many_cases_are_paged_and_old_pages_removed(tmp_path):
    sheet, (image, masks) = Sheet(brain_spec()), case()
    (tmp_path / "contact_sheet_4.png").write_text("somebody's")  # not ours: page 3 never existed
    for number in range(COLUMNS * ROWS + 1):
        sheet.add(f"case {number}", image, None, masks)
    sheet.save(tmp_path / "contact_sheet.png")
    assert size(tmp_path / "contact_sheet.png") == (WIDTH * COLUMNS, HEIGHT * ROWS + LEGEND)
    assert size(tmp_path / "contact_sheet_2.png") == (WIDTH * COLUMNS, HEIGHT + LEGEND)
    one = Sheet(brain_spec())
    one.add("A", image, None, masks)
    one.save(tmp_path / "contact_sheet.png")
    assert sorted(os.listdir(tmp_path)) == ["contact_sheet.png", "contact_sheet_4.png"]


def test_thousand_cases_take_seconds_and_little_memory(tmp_path):
    sheet = Sheet(brain_spec())
    image = Volume(np.random.default_rng(0).random((2, 240, 240)).astype(np.float32), np.eye(4))
    masks = {region.id: np.zeros(image.shape, bool) for region in brain_regions()}
    masks["WT"][:, 50:90, 50:90] = True
    tracemalloc.start()
    for number in range(20):
        sheet.add(f"case {number}", image, None, masks)
    each = tracemalloc.get_traced_memory()[0] / 20
    tracemalloc.stop()
    sheet.tiles *= 50
    start = time.process_time()
    sheet.save(tmp_path / "sheet.png")
    assert each < 100_000 and time.process_time() - start < 15
    assert len(os.listdir(tmp_path)) == -(-1000 // (COLUMNS * ROWS))


def spoilt(change):
    image, masks = case()
    return change(image, masks)


@pytest.mark.parametrize(
    ("image", "truth", "masks"),
    [
        spoilt(lambda i, m: (i.with_array(np.full(i.shape, np.nan)), None, m)),
        spoilt(lambda i, m: (i.with_array(np.full(i.shape, np.inf)), None, m)),
        spoilt(lambda i, m: (i.with_array(np.zeros(i.shape)), None, m)),
        spoilt(lambda i, m: (i.with_array(np.full(i.shape, 1e308)), m, m)),
        spoilt(lambda i, m: (i.with_array(np.ones(i.shape, bool)), m, m)),
        spoilt(lambda i, m: (i, {}, {})),
        spoilt(lambda i, m: (i, m, {"WT": m["WT"][:2, :5]})),
        spoilt(lambda i, m: (i, {"WT": np.zeros((9, 2, 2), bool)}, m)),
        spoilt(lambda i, m: (Volume(i.array[:, :1], i.ijk_to_ras), None, {k: x[:, :1] for k, x in m.items()})),
        (None, None, {}),
    ],
)
def test_sheet_is_drawn_for_any_case_content(tmp_path, image, truth, masks):
    sheet, good = Sheet(brain_spec()), case()
    sheet.add("strange", image, truth, masks)
    sheet.add("good", good[0], None, good[1])
    sheet.save(tmp_path / "sheet.png")
    assert count(pixels(tmp_path / "sheet.png", 1), GREEN) >= 490


def test_sheet_without_cases_is_an_empty_page(tmp_path):
    Sheet(brain_spec()).save(tmp_path / "sheet.png")
    assert size(tmp_path / "sheet.png") == (WIDTH * COLUMNS, HEIGHT + LEGEND)


def test_unwritable_page_keeps_the_old_one(tmp_path, monkeypatch):
    sheet, (image, masks) = Sheet(brain_spec()), case()
    sheet.add("A", image, None, masks)
    sheet.save(tmp_path / "sheet.png")
    before = (tmp_path / "sheet.png").read_bytes()

    def full(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(ResourceError, match=r"sheet\.png"):
        sheet.save(tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").read_bytes() == before and os.listdir(tmp_path) == ["sheet.png"]


def test_invalid_mplbackend_is_ignored(tmp_path):
    code = f"""
import numpy as np
from models import brain_regions, brain_spec
from DanteSegmenterLib.pictures.contact_sheet import Sheet
from DanteSegmenterLib.pictures.figure import new_figure
from DanteSegmenterLib.volume import Volume
sheet = Sheet(brain_spec())
sheet.add("A", Volume(np.ones((2, 3, 4)), np.eye(4)), None, {{}})
sheet.save({str(tmp_path / "sheet.png")!r})
new_figure().savefig({str(tmp_path / "figure.png")!r})
"""
    env = {**os.environ, "MPLBACKEND": "nonsense", "PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert sorted(os.listdir(tmp_path)) == ["figure.png", "sheet.png"]
