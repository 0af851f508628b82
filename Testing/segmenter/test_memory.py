import os
import platform
import subprocess
import sys

import pytest
from conftest import REPOSITORY

from DanteSegmenterLib.memory import available_bytes

PROGRAM = """
import numpy as np
from DanteSegmenterLib.memory import give_back_freed_memory, keep_freed_memory

def resident_mb():
    pages = int(open("/proc/self/statm").read().split()[1])
    return pages * 4096 / 1e6

keep_freed_memory()
before = resident_mb()
for _ in range(3):
    block = np.ones(25_000_000)  # 200 MB
    del block
print(resident_mb() - before)
give_back_freed_memory()
print(resident_mb() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_freed_memory_is_held_until_returned():
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "DanteSegmenter")}
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True
    )
    kept, left = map(float, result.stdout.split())
    assert 190 < kept < 600 and left < 20


def test_other_c_libraries_are_ignored(monkeypatch):
    from DanteSegmenterLib import memory

    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: object())
    memory.keep_freed_memory()
    memory.give_back_freed_memory()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux says")
def test_free_memory_respects_process_limits():
    free = available_bytes()
    assert free is not None and 1 << 20 < free < 1 << 50
    code = "from DanteSegmenterLib.memory import available_bytes; print(available_bytes())"
    limited = f"ulimit -v 500000; exec {sys.executable} -c '{code}'"
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "DanteSegmenter")}
    left = int(subprocess.run(["bash", "-c", limited], capture_output=True, env=environment, check=True).stdout)
    assert 0 < left < 512_000_000
