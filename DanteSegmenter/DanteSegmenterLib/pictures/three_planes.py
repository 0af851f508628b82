"""Picture of a result: three planes with outlines, and regions in 3D. matplotlib and scikit-image, no OpenGL."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from ..guard.plain_text import one_line
from ..model_folder.spec import Region
from ..preprocess.preparing import reorient
from ..preprocess.resampling import resample
from ..volume import Volume, triple
from .figure import new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BACKGROUND = "#101418"
TEXT = "#d8dee4"
# Resolution of surfaces: smooth enough to look at, few enough triangles for matplotlib.
SURFACE_MM = 2.0
LIGHT = np.array([-0.4, 0.6, 0.7]) / np.linalg.norm([-0.4, 0.6, 0.7])


def render_view(
    path: Path | str,
    reference: Volume,
    masks: dict[str, np.ndarray],
    regions: Sequence[Region],
    caption: str = "",
    truth: dict[str, np.ndarray] | None = None,
) -> None:
    """Write a PNG of axial, coronal and sagittal planes through the finding, and of its surfaces.

    Args:
        path: file to write.
        reference: image below the outlines, on any grid.
        masks: bool [K, J, I] by region id, on the reference's grid.
        regions: names and colours, larger before smaller.
        caption: one line above the picture.
        truth: experts' masks, drawn dashed.
    """
    whole = reorient(reference, "LPS")
    box = _foreground(whole)
    image = Volume(whole.array[box], whole.ijk_to_ras, whole.name)
    turned = {r.id: reorient(reference.with_array(masks[r.id]), "LPS").array[box] for r in regions}
    expert = {k: reorient(reference.with_array(m), "LPS").array[box] for k, m in (truth or {}).items()}
    figure = new_figure(figsize=(11, 10), facecolor=BACKGROUND, layout="constrained")
    grid = figure.add_gridspec(2, 2)
    centre = _centre(turned, regions)
    for n, cell in enumerate(((0, 0), (0, 1), (1, 0))):
        _plane(figure.add_subplot(grid[cell]), n, centre[n], image, turned, expert, regions)
    _surfaces(figure.add_subplot(grid[1, 1], projection="3d"), image, turned, regions)
    figure.suptitle(one_line(caption), color=TEXT, fontsize=13, parse_math=False)
    figure.savefig(path, dpi=100, facecolor=BACKGROUND)


def _foreground(volume: Volume) -> tuple[slice, slice, slice]:
    """Bounding box of the foreground with a margin of 5 mm."""
    found = ndimage.find_objects((volume.array > volume.array.min()).astype(np.uint8))[0]
    margins = [round(5 / spacing) for spacing in volume.spacing_mm]
    return triple(slice(max(0, s.start - m), s.stop + m) for s, m in zip(found, margins))


def _centre(masks: dict[str, np.ndarray], regions: Sequence[Region]) -> tuple[int, int, int]:
    """Slice indices K, J, I with the largest area of the innermost non-empty region."""
    for region in reversed(regions):
        mask = masks[region.id]
        if mask.any():
            return triple(int(mask.sum(axis=tuple(a for a in range(3) if a != axis)).argmax()) for axis in range(3))
    return triple(n // 2 for n in masks[regions[0].id].shape)


# Per plane: title, and the letters left, right, top and bottom; radiological convention, LPS arrays.
_PLANES = (("Axial", "RLAP"), ("Coronal", "RLSI"), ("Sagittal", "APSI"))


def _plane(
    axes: Axes,
    axis: int,
    index: int,
    image: Volume,
    masks: dict[str, np.ndarray],
    truth: dict[str, np.ndarray],
    regions: Sequence[Region],
) -> None:
    title, letters = _PLANES[axis]
    rows, columns = (s for n, s in enumerate(image.spacing_mm) if n != axis)
    pixels = image.array.take(index, axis)
    low, high = np.percentile(image.array, [1, 99.7])
    axes.imshow(
        pixels, cmap="gray", vmin=low, vmax=high, aspect=rows / columns, origin="upper" if axis == 0 else "lower"
    )
    for group, style, width in ((truth, "dashed", 0.9), (masks, "solid", 1.4)):
        for region in regions:
            mask = group.get(region.id)
            if mask is not None and mask.take(index, axis).any():
                axes.contour(mask.take(index, axis), [0.5], colors=[region.color], linewidths=width, linestyles=style)
    axes.set_title(title, color=TEXT, fontsize=10)
    axes.axis("off")
    places = ((0.02, 0.5), (0.98, 0.5), (0.5, 0.98), (0.5, 0.02))
    for letter, (x, y), h, v in zip(
        letters, places, ("left", "right", "center", "center"), ("center", "center", "top", "bottom")
    ):
        axes.text(x, y, letter, color=TEXT, transform=axes.transAxes, ha=h, va=v, fontsize=10)


def _surfaces(axes: Any, image: Volume, masks: dict[str, np.ndarray], regions: Sequence[Region]) -> None:
    """Translucent outer surface and nested regions, viewed from the front left and above."""
    head = ndimage.binary_fill_holes(_coarse(image.array > image.array.min(), image) > 0.5)
    _surface(axes, head.astype(np.float32), image, (0.75, 0.78, 0.82), 0.1)
    volume_ml = image.voxel_volume_ml
    handles = []
    for n, region in enumerate(regions):
        _surface(
            axes,
            _coarse(masks[region.id], image),
            image,
            region.color,
            1.0 if n == len(regions) - 1 else 0.15 + 0.15 * n,
        )
        text = f"{region.name}: {masks[region.id].sum() * volume_ml:.1f} mL"
        handles.append(axes.plot([], [], [], "s", color=region.color, label=text)[0])
    extent = np.array(image.shape[::-1]) * np.array(image.spacing_mm[::-1])
    for set_limits, length in zip((axes.set_xlim, axes.set_ylim, axes.set_zlim), extent):
        set_limits(0, length)
    axes.set_box_aspect(extent, zoom=1.35)
    axes.view_init(elev=20, azim=-60)
    axes.set_facecolor(BACKGROUND)
    axes.axis("off")
    legend = axes.legend(
        handles=handles, loc="upper left", labelcolor=TEXT, facecolor=BACKGROUND, edgecolor="#30363d", fontsize=9
    )
    for text in legend.get_texts():
        text.set_parse_math(False)  # a name with dollar signs is not a formula


def _coarse(mask: np.ndarray, image: Volume) -> np.ndarray:
    shape = [max(2, round(n * s / SURFACE_MM)) for n, s in zip(mask.shape, image.spacing_mm)]
    return resample(mask.astype(np.float32), shape)


def _surface(axes: Any, coarse: np.ndarray, image: Volume, color: Sequence[float], alpha: float) -> None:
    """Add the 0.5 isosurface of a mask, shaded by its normals; nothing if there is none."""
    from mpl_toolkits.mplot3d.art3d import Poly3DCollection
    from skimage.measure import marching_cubes

    smooth = ndimage.gaussian_filter(np.pad(coarse, 1), 0.8)
    if smooth.max() <= 0.5:
        return
    # Real size of a coarse voxel along K, J, I.
    spacing = tuple(n * s / c for n, s, c in zip(image.shape, image.spacing_mm, coarse.shape))
    step = 1 if alpha > 0.1 else 2  # the outer surface is large and barely visible
    points, faces, normals, _ = marching_cubes(smooth, 0.5, spacing=spacing, step_size=step)
    points = (points - spacing)[:, ::-1]  # I, J, K
    points[:, 1] = image.shape[1] * image.spacing_mm[1] - points[:, 1]  # posterior to the back
    normal = normals[faces].mean(axis=1)[:, ::-1] * [1, -1, 1]
    brightness = 0.45 + 0.55 * np.abs(normal @ LIGHT)
    colors = np.column_stack([np.clip(brightness[:, None] * color, 0, 1), np.full(len(faces), alpha)])
    axes.add_collection3d(Poly3DCollection(points[faces], facecolors=colors, edgecolors="none", rasterized=True))
