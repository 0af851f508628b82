"""Pictures of the module's window without a screen: `python Testing/tools/render_window.py [--out FOLDER]`.

Writes window-empty.png, -ready, -running, -done, -warning and -error, as on a laptop with 1280 x 800 pixels: the
module panel of the application stand-in beside the slice and 3D views, rendered by Slicer's own displayable managers.
Slicer's menus and status bar are grey strips.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from run_self_test import leave, load_segmenter, start_application

if TYPE_CHECKING:
    from slicer.panel import ModulePanel

SCREEN = (1280, 800)
ABOVE = 62  # height of Slicer's menus and toolbars
GAP = 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for the pictures (default: demo)")
    parser.add_argument("--spacing-mm", type=float, default=1.0, help="of the sample patient")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    app = start_application()
    panel = load_segmenter()
    import slicer
    from slicer.panel import ModulePanel

    panel.parent.enter()
    window = ModulePanel(panel.parent)

    def save(name: str, views: bool = True) -> None:
        save_picture(window, options.out / f"window-{name}.png", views)

    save("empty")
    module = sys.modules["DanteSegmenter"]
    module.loadSamplePatient(spacingMm=options.spacing_mm)
    app.processEvents()
    save("ready")
    panel.ui.segmentButton.click()
    wait(app, lambda: panel.ui.progressBar.value >= 50 or not panel.runner.running)
    save("running")
    wait(app, lambda: not panel.runner.running)
    save("done")
    done = panel.choices.output() is not None
    for name, modality, change in (("error", "flair", spoil), ("warning", "t2", add_air)):
        node = panel.choices.parameters.inputVolume(modality)
        before = slicer.util.arrayFromVolume(node).copy()
        slicer.util.updateVolumeFromArray(node, change(before.astype(np.float32)))
        panel.ui.segmentButton.click()
        wait(app, lambda: not panel.runner.running)
        save(name)
        slicer.util.updateVolumeFromArray(node, before)
    panel.logic.inference.close()
    leave(0 if done else 1)


def wait(app: object, condition: Callable[[], bool], seconds: float = 120) -> None:
    """Process events until the condition holds."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        app.processEvents()
        time.sleep(0.005)


def spoil(array: np.ndarray) -> np.ndarray:
    """Set some voxels of an input to NaN, which Segment must refuse."""
    array[array.shape[0] // 2, 40:44, 40:44] = np.nan
    return array


def add_air(array: np.ndarray) -> np.ndarray:
    """Add air that is not 0, as in studies from a scanner, which leads to a warning."""
    return array + 5


def save_picture(window: ModulePanel, path: Path, views: bool = True) -> None:
    """Save the module panel and the four views beside it as one picture of a laptop's screen."""
    from PySide6 import QtGui

    window.settle()
    width, height = window.width(), window.height()
    picture = QtGui.QImage(*SCREEN, QtGui.QImage.Format_RGB32)
    picture.fill(QtGui.QColor("#d6d6d6"))
    painter = QtGui.QPainter(picture)
    painter.setPen(QtGui.QColor("#8a8a8a"))
    painter.drawText(12, ABOVE // 2 + 5, "Slicer's menus and toolbars")
    painter.drawPixmap(0, ABOVE, window.grab())
    if views:
        size = ((SCREEN[0] - width - 2 * GAP) // 2, (height - GAP) // 2)
        for n, image in enumerate(view_pictures(size)):
            left, top = width + GAP + (n % 2) * (size[0] + GAP), ABOVE + (n // 2) * (size[1] + GAP)
            painter.drawImage(left, top, image)
    painter.end()
    picture.save(str(path))
    print(f"wrote {path}", flush=True)


def view_pictures(size: tuple[int, int]) -> list[object]:
    """Axial, 3D, coronal, sagittal: Slicer's four-up layout; each of `size` (columns, rows)."""
    from PySide6 import QtGui
    from views import slice_picture, three_d_picture

    arrays = [
        slice_picture("Red", size),
        three_d_picture(size),
        slice_picture("Green", size),
        slice_picture("Yellow", size),
    ]
    arrays = [np.ascontiguousarray(array) for array in arrays]
    return [QtGui.QImage(a.data, *size, 3 * size[0], QtGui.QImage.Format_RGB888).copy() for a in arrays]


if __name__ == "__main__":
    main()
