"""The entry points of the product, as used by the suites and the kills."""

from __future__ import annotations

import contextlib
import io
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from models import LIMITED, LPS_2MM, study

from DanteSegmenterLib.__main__ import main as segmenter
from DanteSegmenterLib.files import write_volume
from DanteSegmenterLib.program import DONE, REFUSED
from DanteSegmenterLib.volume import Volume
from faults.tally import Refused

SHAPE = (20, 24, 28)


def ask(
    command: Callable[[list[str]], int], arguments: Sequence[object], untouched: Path, but: Path | None = None
) -> None:
    """Run a command in this process.

    Args:
        untouched: a folder that a refusing command must not have changed.
        but: a folder inside it that the command may change: a training starts before it finds errors in images.

    Raises:
        Refused: the command refused, with its message.
        AssertionError: it failed in another way, or changed something although it refused.
    """
    before, errors = state_of(untouched), io.StringIO()
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()), own_signals():
        code = command([str(argument) for argument in arguments])
    output = errors.getvalue()
    last = (output.strip().splitlines() or [""])[-1]
    if code == DONE:
        return
    changed = {path for path, _ in set(before.items()) ^ set(state_of(untouched).items())}
    changed -= {path for path in changed if but is not None and Path(path).is_relative_to(but)}
    if changed:
        raise AssertionError(f"it refused, but changed '{min(changed)}'")
    if code == REFUSED and last.startswith("error: ") and "Traceback" not in output:
        raise Refused(last.removeprefix("error: "))
    raise AssertionError(f"exit code {code}, '{last}'")


def state_of(folder: Path) -> dict[str, tuple[int, int]]:
    """Everything below a folder with its size and date; folders without."""
    found = {}
    for path in folder.rglob("*"):
        status = path.lstat()
        found[str(path)] = (0, 0) if path.is_dir() else (status.st_size, status.st_mtime_ns)
    return found


@contextlib.contextmanager
def own_signals() -> Iterator[None]:
    """Restore this process's own handling of Ctrl-C afterwards."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Segmenting:
    """A good study and model in a folder; a bad input replaces one part of it."""

    def __init__(self, folder: Path) -> None:
        from models import write_brain_model

        self.folder = folder
        self.out = folder / "out"
        self.out.mkdir(parents=True)
        self.model = write_brain_model(folder / "model")
        self.paths = {name: folder / f"{name}.nii" for name in LIMITED}
        for name, volume in study(SHAPE).items():
            write_volume(self.paths[name], volume)

    def with_(self, modality: str, path: Path) -> Callable[[], None]:
        """Segment with one of the study's files replaced."""
        return lambda: self.segment({**self.paths, modality: path})

    def with_content(self, content: bytes, name: str = "bad.nii", modality: str = "t2") -> Callable[[], None]:
        """The same with a file that is written when the action runs."""

        def action() -> None:
            (self.folder / name).write_bytes(content)
            self.segment({**self.paths, modality: self.folder / name})

        return action

    def with_array(self, array: np.ndarray, matrix: np.ndarray = LPS_2MM, modality: str = "t2") -> Callable[[], None]:
        """The same with a volume."""

        def action() -> None:
            write_volume(self.folder / "bad.nii", Volume(array, matrix))
            self.segment({**self.paths, modality: self.folder / "bad.nii"})

        return action

    def segment(
        self, inputs: dict[str, Path], *more: object, output: Path | None = None, model: Path | None = None
    ) -> None:
        """Run the command line; its output is removed."""
        output = output or self.out / "o.seg.nrrd"
        pairs = [part for name, path in inputs.items() for part in ("--input", f"{name}={path}")]
        arguments = ["segment", "--model", model or self.model, *pairs, "--output", output, "--device", "cpu", *more]
        try:
            ask(segmenter, arguments, self.folder)
        finally:
            shutil.rmtree(self.out)
            self.out.mkdir()
