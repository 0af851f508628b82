"""Pictures of the module's window without a screen: `python Testing/render_window.py [--out FOLDER]`.

Writes window-empty.png, -ready, -running, -done and -error: the panel in the application stand-in, and beside it the
slice and 3D views, rendered by Slicer's own displayable managers.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

from run_self_test import leave, load_segmenter, start_application

PANEL_WIDTH = 400
VIEW = 410
GAP = 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for the pictures (default: demo)")
    parser.add_argument("--spacing-mm", type=float, default=1.0, help="of the sample patient")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    app = start_application()
    panel = load_segmenter()
    panel.parent.enter()
    save(panel, options.out / "window-empty.png", views=False)
    module = sys.modules["DanteSegmenter"]
    module.loadSamplePatient(spacingMm=options.spacing_mm)
    app.processEvents()
    panel._inputSelectors["t1ce"].setCurrentNode(None)  # to do without it is what this is about
    save(panel, options.out / "window-ready.png")
    panel.ui.segmentButton.click()
    wait(app, lambda: panel.ui.progressBar.value >= 50 or not panel.isRunning())
    save(panel, options.out / "window-running.png")
    wait(app, lambda: not panel.isRunning())
    save(panel, options.out / "window-done.png")
    done = panel.output() is not None
    spoil(panel)
    panel.ui.segmentButton.click()
    wait(app, lambda: not panel.isRunning())
    save(panel, options.out / "window-error.png")
    panel.logic.inference.close()
    leave(0 if done else 1)


def wait(app: object, condition: Callable[[], bool], seconds: float = 120) -> None:
    """Let the window live until something is so."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        app.processEvents()
        time.sleep(0.005)


def spoil(panel: object) -> None:
    """A voxel of an input becomes NaN: what Segment must refuse."""
    import numpy as np
    import slicer

    node = panel._parameterNode.inputVolume("flair")
    array = slicer.util.arrayFromVolume(node).astype(np.float32)
    array[array.shape[0] // 2, 40:44, 40:44] = np.nan
    slicer.util.updateVolumeFromArray(node, array)


def save(panel: object, path: Path, views: bool = True) -> None:
    """Write the panel, and the four views beside it, as one picture."""
    from PySide6 import QtCore, QtGui

    height = 2 * VIEW + GAP
    panel.parent.setAttribute(QtCore.Qt.WA_DontShowOnScreen)
    panel.parent.resize(PANEL_WIDTH, height)
    panel.parent.show()
    for _ in range(3):  # layouts settle one level a round
        QtCore.QCoreApplication.processEvents()
    picture = QtGui.QImage(PANEL_WIDTH + (2 * (VIEW + GAP) if views else 0), height, QtGui.QImage.Format_RGB32)
    picture.fill(QtGui.QColor("#efefef"))
    painter = QtGui.QPainter(picture)
    painter.drawPixmap(0, 0, panel.parent.grab())
    if views:
        for n, image in enumerate(pictures()):
            left, top = PANEL_WIDTH + GAP + (n % 2) * (VIEW + GAP), (n // 2) * (VIEW + GAP)
            painter.drawImage(left, top, image)
    painter.end()
    picture.save(str(path))
    print(f"wrote {path}", flush=True)


def pictures() -> list[object]:
    """Axial, 3D, coronal, sagittal: Slicer's four-up layout."""
    import numpy as np
    from PySide6 import QtGui
    from views import slice_picture, three_d_picture

    size = (VIEW, VIEW)
    arrays = [
        slice_picture("Red", size),
        three_d_picture(size),
        slice_picture("Green", size),
        slice_picture("Yellow", size),
    ]
    arrays = [np.ascontiguousarray(array) for array in arrays]
    return [QtGui.QImage(a.data, VIEW, VIEW, 3 * VIEW, QtGui.QImage.Format_RGB888).copy() for a in arrays]


if __name__ == "__main__":
    main()
