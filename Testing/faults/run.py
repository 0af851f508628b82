"""Tests the reaction to bad inputs and kills: `make faults`. Prints problems and a summary, and writes faults.json.

Bad inputs go through the command lines, the protocol, the live process, the window's logic and the import of models;
each must be refused with one clear sentence (a `DanteError`), at once, with nothing written. Then commands and
processes are killed at random moments, by kill -9 and by SIGTERM; each time the next run must give the same result as
before, and nothing may be left behind. Exit code 0 if all of this holds, else 1.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PATHS = [str(REPOSITORY / name) for name in ("Testing", "DanteSegmenter", "DanteTrainer")]
if __name__ == "__main__":
    sys.path[0:1] = PATHS  # replaces this folder

from faults.kills import KILLS  # noqa: E402
from faults.suites import (  # noqa: E402
    batches,
    datasets,
    files,
    geometry,
    messages,
    model_folders,
    nodes,
    outputs,
    plausibility,
    streams,
    zips,
)
from faults.tally import Case, Tally  # noqa: E402
from faults.traces import MARK, Traces, hidden_below, processes_with  # noqa: E402

Suite = Callable[[Path, random.Random], Iterator[Case]]
SUITES: dict[str, Suite] = {
    "files": files.cases,
    "geometry": geometry.cases,
    "plausibility": plausibility.cases,
    "models": model_folders.cases,
    "zips": zips.cases,
    "messages": messages.cases,
    "streams": streams.cases,
    "nodes": nodes.cases,
    "outputs": outputs.cases,
    "batches": batches.cases,
    "datasets": datasets.cases,
}

TEMPORARY = "temporary"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=REPOSITORY / "faults.json")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", metavar="NAME", help=f"of {', '.join([*SUITES, *KILLS])}")
    options = parser.parse_args()
    place = Path(os.environ.get(MARK, "nowhere"))
    if os.environ.get("TMPDIR") != str(place / TEMPORARY):
        begin_apart()
    try:
        tally = tried(place, options)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    options.out.write_text(json.dumps(tally.report(), indent=1) + "\n")
    for kind, text in tally.remarks:
        print(f"{kind}: {text}")
    print(tally.sentence())
    print(f"wrote {options.out}")
    return 0 if tally.good else 1


def begin_apart() -> None:
    """Restart this program with a mark and a temporary folder of its own."""
    place = tempfile.mkdtemp(prefix="dante-faults-")
    temporary = os.path.join(place, TEMPORARY)
    os.mkdir(temporary)
    apart = {
        MARK: place,
        "TMPDIR": temporary,
        # torch keeps compiled code for the next process.
        "TORCHINDUCTOR_CACHE_DIR": os.path.join(place, "compiled"),
        "PYTHONPATH": os.pathsep.join(PATHS),
        "QT_QPA_PLATFORM": "offscreen",
    }
    # Two concurrent kills share the processor.
    os.execve(sys.executable, sys.orig_argv, {"OMP_NUM_THREADS": "1", **os.environ, **apart})


def tried(place: Path, options: argparse.Namespace) -> Tally:
    """Run every suite and every kind of kill, and look for leftovers."""
    tally, traces, work = Tally(), Traces(str(place)), place / "work"
    with traces.followed():
        for name, suite in SUITES.items():
            if not options.only or name in options.only:
                try_suite(tally, name, suite(work / name, random.Random(f"{options.seed} {name}")))
        kill(tally, work / "kills", options)
    for what in (*map("process {}".format, processes_with(f"{MARK}={place}")), *traces.left_in_memory()):
        tally.note("left_behind", what, "it is of this run")
    for path in (*sorted((place / TEMPORARY).iterdir()), *hidden_below(work)):
        tally.note("left_behind", str(path), "nobody needs it any more")
    return tally


def try_suite(tally: Tally, name: str, cases: Iterator[Case]) -> None:
    before, start = tally.bad_inputs, time.monotonic()
    for case, action in cases:
        tally.expect_refusal(f"{name}: {case}", action)
    print(f"{name:<12} {tally.bad_inputs - before:>5} bad inputs {time.monotonic() - start:6.1f} s", flush=True)


def kill(tally: Tally, folder: Path, options: argparse.Namespace) -> None:
    """Two at a time: each spends half its time waiting and half computing on one core."""
    with ThreadPoolExecutor(2) as pool:
        for name, count in shares(options.kills).items():
            if options.only and name not in options.only:
                continue
            start = time.monotonic()
            with KILLS[name].start(folder / name, tally) as attempt:
                chances = [random.Random(f"{options.seed} {name} {n}") for n in range(count)]
                for _ in pool.map(attempt, range(count), chances):
                    pass
            print(f"{name:<12} {count:>5} kills      {time.monotonic() - start:6.1f} s", flush=True)


def shares(kills: int) -> dict[str, int]:
    """The number of kills of each kind; their sum is `kills`."""
    parts, given, total = {}, 0, 0.0
    for name, kind in KILLS.items():
        total += kind.share
        parts[name] = round(kills * total) - given
        given += parts[name]
    return parts


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # Qt and VTK may crash during teardown
