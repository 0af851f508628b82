"""The window during a run: its longest unresponsive time, the time to cancel, and the overhead of a repeated click.

Runs in the application stand-in, with the real worker process; part of `make bench`.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "Testing" / "tools"))

from run_self_test import leave, load_segmenter, start_application  # noqa: E402

from DanteSegmenterLib.errors import DanteError  # noqa: E402

TICK_MS = 20


def main() -> None:
    app, panel = start_application(), load_segmenter()
    panel.parent.enter()
    module = sys.modules["DanteSegmenter"]
    module.loadSamplePatient(spacingMm=1.0)
    app.processEvents()
    report = bench(app, panel)
    print(json.dumps(report), flush=True)
    panel.logic.inference.close()
    leave(0)


def bench(app: object, panel: object, clicks: int = 5) -> dict:
    """Keys: window_max_gap_ms, cancel_s, warm_click_vs_compute and the seconds they are computed from."""
    from PySide6 import QtCore

    gaps, last = [], [time.perf_counter()]

    def tick() -> None:
        now = time.perf_counter()
        gaps.append(now - last[0])
        last[0] = now

    timer = QtCore.QTimer()
    timer.timeout.connect(tick)

    def run(until: float | None = None) -> tuple[float, dict]:
        """Click and wait; returns the seconds to the end, and those of the worker process."""
        outcomes = []
        poll = panel.logic.inference.poll

        def remembering() -> tuple:
            update, outcome = poll()
            if outcome is not None:
                outcomes.append(outcome)
            return update, outcome

        panel.logic.inference.poll = remembering
        start = last[0] = time.perf_counter()
        panel.ui.segmentButton.click()
        timer.start(TICK_MS)
        while panel.runner.running:
            QtCore.QCoreApplication.processEvents()
            if until is not None and time.perf_counter() - start > until:
                panel.ui.cancelButton.click()
                start, until = time.perf_counter(), None
            time.sleep(0.0005)
        timer.stop()
        panel.logic.inference.poll = poll
        outcome = outcomes[-1]
        return time.perf_counter() - start, {} if isinstance(outcome, DanteError) else outcome.report.seconds

    first, compute = run()
    client = panel.logic.inference._client
    parts = {**client.seconds, **compute}
    warm = [run() for _ in range(clicks)]
    warm.sort(key=lambda click: click[0])
    seconds, compute = warm[len(warm) // 2]
    panel.choices.parameters.mirror = True  # long enough to be cancelled
    cancels = [run(until)[0] for until in (0.05, 0.5, 1.0)]
    return {
        "window_max_gap_ms": 1000 * max(gaps),
        "cancel_s": max(cancels),
        "first_click_seconds": {"all": first, **parts},
        "warm_click_seconds": {"all": seconds, **compute},
        "warm_click_vs_compute": seconds / sum(compute.values()),
    }


if __name__ == "__main__":
    main()
