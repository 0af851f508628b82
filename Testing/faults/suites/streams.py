"""Invalid streams sent to a live process, which must exit with a reason."""

from __future__ import annotations

import pickle
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from DanteSegmenterLib.child_process import child_environment
from DanteSegmenterLib.worker.server import ENDED_BY_PROTOCOL
from faults.suites.messages import CANCEL, broken_rules, frame
from faults.tally import HANG_SECONDS, Case, Refused

RULES = ("a newer version", "a payload of a petabyte", "a header of 2 GB", "no JSON", "an unknown type")


def cases(folder: Path, chance: random.Random) -> Iterator[Case]:
    streams = {
        "http": b"GET / HTTP/1.1\r\n\r\n" * 3,
        "pickle": pickle.dumps([1, 2, 3]) * 5,
        "noise": chance.randbytes(4000),
        "zeros": bytes(1 << 20),
        "a message for the window": frame({"type": "hello", "pid": 1, "version": "1", "seconds": 1.0, "arrays": []}),
        "noise after a message": frame(CANCEL) + chance.randbytes(4000),
        **{name: stream for name, stream in broken_rules().items() if name in RULES},
    }
    for name, stream in streams.items():
        yield name, sent(stream)


def sent(stream: bytes) -> Callable[[], None]:
    def action() -> None:
        command = [sys.executable, "-m", "DanteSegmenterLib.worker.server"]
        result = subprocess.run(
            command, input=stream, env=child_environment(), capture_output=True, timeout=2 * HANG_SECONDS
        )
        errors = result.stderr.decode("utf-8", "replace").strip()
        if result.returncode != ENDED_BY_PROTOCOL or "Traceback" in errors:
            raise AssertionError(f"exit code {result.returncode}, '{errors[-300:]}'")
        raise Refused(errors.splitlines()[-1])

    return action
