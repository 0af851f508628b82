"""A contact sheet of many cases: outlines of prediction and, if known, truth on each case's fullest slice.

Each case is drawn immediately into some ten kilobytes, from which pages are assembled at the end, in seconds and with
little memory for a thousand cases. Not with matplotlib, where a figure with so many panels takes gigabytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..guard.atomic import write_atomically
from ..guard.plain_text import one_line
from ..model_folder.spec import ModelSpec
from ..volume import Volume

if TYPE_CHECKING:
    from PIL.Image import Image

CONTACT_SHEET_FILE = "contact_sheet.png"
COLUMNS, ROWS = 6, 20  # of a page
PANEL = 256  # pixels along the longer side of a slice
MARGIN, TITLE = 4, 18  # pixels around a panel, and above it
LEGEND = 24  # pixels below the panels of a page
FONT_SIZE = 11
LONGEST_NAME = 60
DASH = 4  # pixels
# A page is a palette image: first the grey values, then a colour for each region.
GREYS = 192

Masks = dict[str, np.ndarray]
Tile = tuple[str, np.ndarray]


@dataclass
class Sheet:
    """Collects one slice per case; dashed outlines are the truth, solid ones the prediction.

    tiles: name and panel of each case, the panel as uint8 [rows, columns] palette indices.
    with_truth: whether any case has a truth.
    """

    spec: ModelSpec
    tiles: list[Tile] = field(default_factory=list)
    with_truth: bool = False

    def add(self, name: str, image: Volume, truth: Masks | None, prediction: Masks) -> None:
        """Draw the slice K where truth (or else prediction) is largest; a case that cannot be drawn is an empty panel.

        Args:
            name: of the case; shown as plain text.
            image: the volume below the outlines.
            truth: experts' masks, bool [K, J, I] by region id; None if unknown.
            prediction: bool [K, J, I] by region id.
        """
        try:
            panel = _panel(self.spec, image, truth or {}, prediction)
        except Exception:  # one picture must never cost the results of all cases
            panel = np.zeros((PANEL, PANEL), np.uint8)
            name = f"{one_line(name, LONGEST_NAME - 15)} (not drawn)"
        self.tiles.append((name, panel))
        self.with_truth |= truth is not None

    def save(self, path: Path) -> None:
        """Write the pages to `path`, and if there are several to NAME_2.png etc. beside it.

        Raises:
            ResourceError: a page cannot be written; an existing one is kept.
        """
        size = COLUMNS * ROWS
        pages = [self.tiles[start : start + size] for start in range(0, len(self.tiles), size)] or [[]]
        paths = _page_paths(Path(path))
        for tiles, target in zip(pages, paths):
            write_atomically(target, partial(_page(tiles, self.spec, self.with_truth).save, format="PNG"))
        for left in paths:  # left by an earlier run with more cases
            if not left.is_file():
                break
            left.unlink()


def _page_paths(path: Path) -> Iterator[Path]:
    yield path
    for number in count(2):
        yield path.with_name(f"{path.stem}_{number}{path.suffix}")


# One case


def _panel(spec: ModelSpec, image: Volume, truth: Masks, prediction: Masks) -> np.ndarray:
    """A case's slice in grey with its outlines, uint8 [rows, columns]."""
    regions = [region.id for region in spec.regions]
    k = _fullest_slice(image, truth.get(regions[0]), prediction.get(regions[0]))
    _k, spacing_j, spacing_i = image.spacing_mm
    length_mm = np.array(image.shape[1:]) * (spacing_j, spacing_i)
    rows, columns = np.maximum(1, np.round(PANEL * length_mm / length_mm.max())).astype(int)
    panel = _scaled(_greys(image.array[k]), rows, columns)
    down, across = np.indices(panel.shape)
    dashes = (down + across) // DASH % 2 == 0
    for masks, drawn in ((truth, dashes), (prediction, np.True_)):
        for number, region in enumerate(regions):
            mask = masks.get(region)
            if mask is not None and mask[k].any():
                panel[_outline(mask[k], rows, columns) & drawn] = _colour_number(number)
    return panel


def _fullest_slice(image: Volume, *masks: np.ndarray | None) -> int:
    """Index of the slice with most voxels of the first non-empty mask; the middle if all are empty."""
    for mask in masks:
        if mask is not None and mask.any():
            return int(np.count_nonzero(mask, axis=(1, 2)).argmax())
    return image.shape[0] // 2


def _greys(pixels: np.ndarray) -> np.ndarray:
    """Scale a slice between its 1st and 99.8th percentile to grey palette indices."""
    pixels = np.nan_to_num(pixels.astype(np.float64), posinf=0.0, neginf=0.0)
    low, high = np.percentile(pixels, (1, 99.8))
    share = (pixels - low) / (high - low) if high > low else np.zeros_like(pixels)
    return (np.clip(share, 0, 1) * (GREYS - 1)).astype(np.uint8)


def _outline(mask: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """The outermost pixels of a mask, bool [rows, columns]."""
    from scipy.ndimage import binary_erosion

    shrinks = rows < mask.shape[0] or columns < mask.shape[1]
    # Where a slice is shrunk, any covered voxel counts, so that small lesions stay visible.
    covered = _scaled(mask.astype(np.uint8) * 255, rows, columns, smooth=not shrinks) > (0 if shrinks else 127)
    return covered & ~binary_erosion(covered)


def _scaled(pixels: np.ndarray, rows: int, columns: int, smooth: bool = True) -> np.ndarray:
    from PIL import Image

    filter = Image.Resampling.BILINEAR if smooth else Image.Resampling.BOX
    return np.array(Image.fromarray(pixels).resize((columns, rows), filter))


def _colour_number(region: int) -> int:
    return GREYS + region % (256 - GREYS)


# A page


def _page(tiles: Sequence[Tile], spec: ModelSpec, with_truth: bool) -> Image:
    """Draw at most `COLUMNS` x `ROWS` panels with their names, and a legend below."""
    from PIL import Image, ImageDraw

    width, height = PANEL + 2 * MARGIN, PANEL + TITLE + 2 * MARGIN
    panels = height * max(1, -(-len(tiles) // COLUMNS))
    page = Image.new("L", (width * COLUMNS, panels + LEGEND))
    draw, font = ImageDraw.Draw(page), _font()
    for n, (name, panel) in enumerate(tiles):
        left, top = n % COLUMNS * width, n // COLUMNS * height
        title = _fitting(one_line(name, LONGEST_NAME), font, PANEL)
        draw.text((left + width // 2, top + MARGIN + TITLE // 2), title, fill=GREYS - 1, font=font, anchor="mm")
        rows, columns = panel.shape
        corner = left + (width - columns) // 2, top + MARGIN + TITLE + (PANEL - rows) // 2
        page.paste(Image.fromarray(panel), corner)
    _draw_legend(draw, spec, with_truth, panels + LEGEND // 2, font)
    page.putpalette(_palette(spec))
    return page


def _draw_legend(draw: Any, spec: ModelSpec, with_truth: bool, middle: int, font: Any) -> None:
    """What the outlines are, and the name and colour of each region, centred on the row `middle`."""
    left, square, top = 2 * MARGIN, 8, middle - 4
    outlines = "solid: prediction, dashed: expert's mask" if with_truth else "outlines: prediction"
    draw.text((left, middle), outlines, fill=GREYS - 1, font=font, anchor="lm")
    left += round(font.getlength(outlines)) + 5 * MARGIN
    for number, region in enumerate(spec.regions):
        draw.rectangle((left, top, left + square - 1, top + square - 1), _colour_number(number))
        name = _fitting(one_line(region.name, LONGEST_NAME), font, PANEL)
        draw.text((left + square + MARGIN, middle), name, fill=GREYS - 1, font=font, anchor="lm")
        left += square + round(font.getlength(name)) + 6 * MARGIN


def _palette(spec: ModelSpec) -> bytes:
    """Red, green and blue of each palette index."""
    colours = np.zeros((256, 3))
    colours[:GREYS] = np.linspace(0, 1, GREYS)[:, None]
    for number, region in enumerate(spec.regions):
        colours[_colour_number(number)] = region.color
    return np.round(255 * colours).astype(np.uint8).tobytes()


def _font() -> Any:
    """matplotlib's font, which has more characters than Pillow's, if matplotlib is installed."""
    from PIL import ImageFont

    matplotlib = find_spec("matplotlib")  # not imported: an invalid MPLBACKEND would make the import fail
    if matplotlib is not None and matplotlib.origin:
        file = Path(matplotlib.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
        if file.is_file():
            return ImageFont.truetype(str(file), FONT_SIZE, layout_engine=ImageFont.Layout.BASIC)
    return ImageFont.load_default(FONT_SIZE)


def _fitting(title: str, font: Any, width: int) -> str:
    """As much of a title as fits."""
    while title and font.getlength(title) > width:
        title = title.removesuffix("...")[:-1] + "..." if len(title) > 4 else title[:-1]
    return title
