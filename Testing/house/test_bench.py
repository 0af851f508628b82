"""`make bench` runs; nothing else calls it."""

import json
import os
import subprocess
import sys

import pytest
from conftest import REPOSITORY


@pytest.mark.slow
def test_window_is_measured_while_computing_and_cancelling():
    command = [sys.executable, str(REPOSITORY / "Testing" / "bench" / "window.py")]
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-3000:]
    report = json.loads(result.stdout.strip().splitlines()[-1])
    first, warm = report["first_click_seconds"], report["warm_click_seconds"]
    assert {"import", "prepare", "network", "restore"} <= set(first) and "network" in warm
    # A click takes longer than computing; the first one also imports torch.
    computed = sum(seconds for phase, seconds in warm.items() if phase != "all")
    assert report["warm_click_vs_compute"] == pytest.approx(warm["all"] / computed) and warm["all"] > computed
    assert first["all"] > first["import"] and 0 < report["cancel_s"] < 5
