"""Apple's graphics lack operators that losses are made of; PyTorch lets a processor compute these if it is asked."""

import subprocess
import sys

import pytest
from conftest import REPOSITORY

PROGRAM = """
import os, sys
sys.path[:0] = ["DanteSegmenter", "DanteTrainer"]
from DanteTrainerLib import __main__ as command_line
def main(stop):
    print(os.environ.get("PYTORCH_ENABLE_MPS_FALLBACK"), "torch" in sys.modules, flush=True)
    return 0
command_line.main = main
command_line.run()
"""


@pytest.mark.parametrize(("chosen", "asked"), [({}, "1"), ({"PYTORCH_ENABLE_MPS_FALLBACK": "0"}, "0")])
def test_pytorch_is_asked_before_it_is_imported_and_the_users_own_choice_stays(monkeypatch, chosen, asked):
    monkeypatch.delenv("PYTORCH_ENABLE_MPS_FALLBACK", raising=False)
    for name, value in chosen.items():
        monkeypatch.setenv(name, value)
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == (f"{asked} False\n", "")
