"""Run a module's self-test in this process, under the application stand-in.

    python Testing/tools/run_self_test.py [MODULE]

With `--script FILE` run a script instead, with both modules loaded, as Slicer's `--python-script` does.

The environment variable DANTE_TEST_MODEL names a model folder to add, for a tree without embedded models.
"""

from __future__ import annotations

import logging
import os
import runpy
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / "Testing" / "app")]


def start_application() -> object:
    """Start the stand-in with both modules' folders on the path; returns `slicer.app`."""
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    import qt
    import slicer

    if os.environ.get("DANTE_TEST_MODEL"):
        qt.QSettings().setValue("DanteSegmenter/AddedModels", os.environ["DANTE_TEST_MODEL"])
    return slicer.app


def load_segmenter() -> object:
    """Load DanteSegmenter as Slicer does at start-up; returns its panel's Python widget."""
    import slicer

    slicer.app.load_module(REPOSITORY / "DanteSegmenter" / "DanteSegmenter.py")
    slicer.app.startup_completed()
    return slicer.util.getModuleWidget("DanteSegmenter")


def leave(status: int) -> None:
    """Exit the process here: the teardown of Qt's and VTK's globals may crash, and is not under test."""
    import slicer

    slicer.app.close()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    app = start_application()
    import slicer

    if sys.argv[1:2] == ["--script"]:
        for name in ("DanteSegmenter", "DanteTrainer"):
            app.load_module(REPOSITORY / name / f"{name}.py")
        app.startup_completed()
        runpy.run_path(sys.argv[2], run_name="__main__")
        leave(0)
    module = sys.argv[1] if len(sys.argv) > 1 else "DanteSegmenter"
    app.load_module(REPOSITORY / module / f"{module}.py")
    app.startup_completed()
    status = 0
    try:
        slicer.selfTests[module](msec=0)
        print(f"{module}: self-test passed")
    except Exception:
        logging.exception("%s: self-test failed", module)
        status = 1
    leave(status)


if __name__ == "__main__":
    main()
