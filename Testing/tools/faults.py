"""What happens when things go wrong: `make faults`. Prints a table and writes faults.json.

Bad inputs go through the command line, the protocol, the live process and the window; each must end in one clear
sentence (a `DanteError`), at once, with nothing written. Then the computing process and its parent are killed at random
moments; each time the next run must give the same segmentation as before, and nothing may be left behind.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import pickle
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / "DanteSegmenter"), str(REPOSITORY / "Testing")]

from in_worker import run_in_worker  # noqa: E402
from models import write_brain_model  # noqa: E402

from DanteSegmenterLib.__main__ import main as command_line  # noqa: E402
from DanteSegmenterLib.errors import DanteError  # noqa: E402
from DanteSegmenterLib.files import write_volume  # noqa: E402
from DanteSegmenterLib.volume import Volume  # noqa: E402
from DanteSegmenterLib.worker.client import WorkerClient  # noqa: E402
from DanteSegmenterLib.worker.protocol import FrameReader, Grid, SegmentRequest, encode  # noqa: E402

LPS_2MM = np.diag([-2.0, -2.0, 2.0, 1.0])
HANG_SECONDS = 30.0
MODALITIES = ("t1", "t2", "flair")

Case = tuple[str, Callable[[], None]]
"""A name, and a function that must raise a DanteError."""


class Refused(DanteError):
    """The command line printed one line that begins with 'error:' and returned 2."""


class Tally:
    """Counts what was tried and how it ended."""

    def __init__(self) -> None:
        self.tried = self.refused = self.kills = self.lost = self.hung = self.left_behind = 0
        self.remarks: list[str] = []

    def expect_refusal(self, name: str, action: Callable[[], None]) -> None:
        """Run an action that must be refused, soon, with a sentence."""
        self.tried += 1
        start = time.monotonic()
        try:
            action()
            self._remark("lost", name, "it was accepted")
        except DanteError as error:
            if len(str(error)) > 10:
                self.refused += 1
            else:
                self._remark("lost", name, f"an unclear message: '{error}'")
        except Exception as error:  # a defect that a user would see as a traceback
            self._remark("lost", name, f"{type(error).__name__}: {error}")
        if time.monotonic() - start > HANG_SECONDS:
            self._remark("hung", name, f"{time.monotonic() - start:.0f} s")

    def _remark(self, kind: str, name: str, text: str) -> None:
        setattr(self, kind, getattr(self, kind) + 1)
        self.remarks.append(f"{kind}: {name}: {text}")

    def note(self, kind: str, name: str, text: str = "") -> None:
        self._remark(kind, name, text)

    def report(self) -> dict:
        return {
            "bad_inputs": self.tried,
            "refused": self.refused,
            "kills": self.kills,
            "lost": self.lost,
            "hung": self.hung,
            "left_behind": self.left_behind,
            "remarks": self.remarks,
        }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=REPOSITORY / "faults.json")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    tally = Tally()
    with tempfile.TemporaryDirectory() as folder:
        before = _left_over()
        for name, cases in SUITES.items():
            count = tally.tried
            for case, action in cases(Path(folder) / name):
                tally.expect_refusal(f"{name}: {case}", action)
            print(f"{name:<10} {tally.tried - count} bad inputs", flush=True)
        kill_at_random(tally, Path(folder) / "kills", options.kills, random.Random(options.seed))
        time.sleep(2)
        for path in sorted(_left_over() - before):
            tally.note("left_behind", str(path))
    report = tally.report()
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    for remark in tally.remarks:
        print(remark)
    print(", ".join(f"{key} {value}" for key, value in report.items() if key != "remarks"))
    print(f"wrote {options.out}")
    return 0 if tally.refused == tally.tried and not (tally.lost or tally.hung or tally.left_behind) else 1


def _left_over() -> set[str]:
    """Temporary files, shared memory and computing processes that exist now."""
    found = {str(path) for path in Path(tempfile.gettempdir()).iterdir()}
    shared = Path("/dev/shm")
    found |= {str(path) for path in shared.iterdir()} if shared.is_dir() else set()
    for status in Path("/proc").glob("[0-9]*/cmdline") if Path("/proc").is_dir() else ():
        with contextlib.suppress(OSError):
            if b"DanteSegmenterLib.worker.server" in status.read_bytes():
                found.add(f"process {status.parent.name}")
    return found


# ------------------------------------------------------------------------------------------------ command line


def study(shape: tuple[int, int, int] = (20, 24, 28)) -> dict[str, Volume]:
    rng = np.random.default_rng(0)
    volumes = {}
    for name in MODALITIES:
        array = np.zeros(shape, np.float32)
        array[2:-2, 2:-2, 2:-2] = rng.uniform(1, 2, tuple(n - 4 for n in shape))
        volumes[name] = Volume(array, LPS_2MM, name)
    return volumes


def write_study(folder: Path) -> dict[str, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for name, volume in study().items():
        paths[name] = folder / f"{name}.nii"
        write_volume(paths[name], volume)
    return paths


def segment_files(model: Path, inputs: dict[str, Path], output: Path) -> None:
    """The command line; raises what it printed if it refused."""
    arguments = ["segment", "--model", str(model), "--output", str(output), "--device", "cpu"]
    arguments += [part for name, path in inputs.items() for part in ("--input", f"{name}={path}")]
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
        code = command_line(arguments)
    last = errors.getvalue().strip().splitlines()[-1:] or [""]
    if output.exists():
        output.unlink()
        if code:
            raise AssertionError("an output was written although it was refused")
    if code == 2 and last[0].startswith("error: "):
        raise Refused(last[0].removeprefix("error: "))


def bad_files(folder: Path) -> Iterator[Case]:
    """Image files cut, damaged or of another kind."""
    paths, model, output = write_study(folder / "study"), write_brain_model(folder / "model"), folder / "out.seg.nrrd"
    whole = paths["t2"].read_bytes()
    bad = folder / "bad.nii"

    def using(content: bytes, name: str = "bad.nii") -> Callable[[], None]:
        def action() -> None:
            (folder / name).write_bytes(content)
            segment_files(model, {**paths, "t2": folder / name}, output)

        return action

    for cut in [0, 1, 4, 40, 100, 200, 300, 347, 348, 351, 352, 353, 400, 1000, len(whole) // 2, len(whole) - 1]:
        yield f"cut to {cut} bytes", using(whole[:cut])
    # Header fields (offset, format): number of axes, sizes, data type, bits, voxel sizes, where the voxels begin.
    fields = {"dim0": (40, "h"), "dim1": (42, "h"), "dim3": (46, "h"), "datatype": (70, "h"), "vox_offset": (108, "f")}
    for name, (offset, kind) in fields.items():
        for value in (-1, 0, 32767) if kind == "h" else (-1.0, float("nan"), 1e30):
            damaged = bytearray(whole)
            struct.pack_into(f"<{kind}", damaged, offset, value)
            yield f"{name} = {value}", using(bytes(damaged))
    for value in (float("nan"), float("inf"), 0.0):
        damaged = bytearray(whole)
        for row in range(3):  # srow_x, srow_y, srow_z and pixdim
            struct.pack_into("<4f", damaged, 280 + 16 * row, *([value] * 4))
        struct.pack_into("<3f", damaged, 80, value, value, value)
        yield f"matrix of {value}", using(bytes(damaged))
    for name, content in {
        "text": b"hello",
        "html": b"<html>",
        "json": b"{}",
        "zip": b"PK\3\4" + bytes(500),
        "pickle": pickle.dumps([1]),
        "png": b"\x89PNG\r\n\x1a\n" + bytes(300),
        "zeros": bytes(5000),
        "noise": os.urandom(5000),
    }.items():
        for ending in (".nii", ".nii.gz", ".nrrd", ".mha"):
            yield f"{name} as {ending}", using(content, f"x{ending}")
    yield "a missing file", lambda: segment_files(model, {**paths, "t2": folder / "none.nii"}, output)
    yield "a folder", lambda: segment_files(model, {**paths, "t2": folder}, output)
    yield "an unknown ending", using(whole, "x.jpg")
    yield "a missing modality", lambda: segment_files(model, {"t1": paths["t1"]}, output)
    yield "an unknown modality", lambda: segment_files(model, {**paths, "pet": paths["t1"]}, output)
    yield "no output folder", lambda: segment_files(model, paths, folder / "none" / "x.seg.nrrd")
    yield "an unknown output", lambda: segment_files(model, paths, folder / "x.docx")
    for name, array in bad_arrays().items():

        def action(array: np.ndarray = array) -> None:
            write_volume(bad, Volume(array, LPS_2MM))
            segment_files(model, {**paths, "t2": bad}, output)

        yield f"voxels: {name}", action


def bad_arrays() -> dict[str, np.ndarray]:
    shape = (20, 24, 28)
    one_nan, one_infinite = np.ones(shape, np.float32), np.ones(shape, np.float32)
    one_nan[3, 3, 3], one_infinite[3, 3, 3] = np.nan, np.inf
    return {
        "all zero": np.zeros(shape, np.float32),
        "constant": np.ones(shape, np.float32),
        "infinite": one_infinite,
        "one slice": np.ones((1, 24, 28), np.float32),
        "one row": np.ones((1, 1, 28), np.float32),
    }


def bad_models(folder: Path) -> Iterator[Case]:
    """Model folders that are incomplete, contradict themselves, or try something."""
    paths, good = write_study(folder / "study"), write_brain_model(folder / "good")
    plain = json.loads((good / "model.json").read_text())
    weights = (good / "limited.safetensors").read_bytes()

    def using(description: object = plain, content: bytes | None = weights) -> Callable[[], None]:
        def action() -> None:
            model = folder / "model"
            shutil.rmtree(model, ignore_errors=True)
            model.mkdir()
            text = description if isinstance(description, str) else json.dumps(description)
            (model / "model.json").write_text(text)
            if content is not None:
                (model / "limited.safetensors").write_bytes(content)
            segment_files(model, paths, folder / "out.seg.nrrd")

        return action

    needed = [key for key in plain if key in ("format_version", "name", "modalities", "regions", "network", "limited")]
    for key in needed:
        yield f"without {key}", using({k: v for k, v in plain.items() if k != key})
    for key in plain:
        wrong = 7 if not isinstance(plain[key], int) else "seven"
        if plain[key] is not None:
            yield f"{key} = {wrong!r}", using({**plain, key: wrong})
    for key in plain["network"]:
        yield f"network.{key} is text", using({**plain, "network": {**plain["network"], key: "x"}})
    yield "an unknown key", using({**plain, "command": "rm -rf /"})
    yield "a format of the future", using({**plain, "format_version": 99})
    for features in ([1 << 30, 1 << 30], [0, 1], [], [2] * 50, [2]):
        yield f"features {features[:3]}", using({**plain, "network": {**plain["network"], "features": features}})
    for patch in ([1 << 20] * 3, [0, 0, 0], [15, 15, 15], [16, 16]):
        yield f"patch {patch}", using({**plain, "patch": patch})
    for name in (
        "../good/limited.safetensors",
        "/etc/passwd",
        "weights.pkl",
        "",
        "a/b.safetensors",
        "..\\x.safetensors",
    ):
        yield f"weights '{name}'", using({**plain, "limited": {**plain["limited"], "weights": name}})
    for text in ("", "{", "[]", "null", "[" * 100_000, '{"a": NaN}', "\x00" * 50):
        yield f"model.json of {text[:8]!r}", using(text)
    yield "a huge model.json", using(json.dumps({**plain, "name": "x" * (4 << 20)}))
    yield "no weights", using(content=None)
    for name, content in {
        "a pickle": pickle.dumps({"w": 1}),
        "cut weights": weights[:-5],
        "empty weights": b"",
        "a claim of 10 GB": struct.pack("<Q", 60) + b'{"w":{"dtype":"F32","shape":[2684354560],"data_offsets":[0,1]}}',
        "a header of 2^60 bytes": struct.pack("<Q", 1 << 60) + b"{}",
        "noise": os.urandom(4000),
    }.items():
        import hashlib

        digest = hashlib.sha256(content).hexdigest()
        yield f"weights are {name}", using(content=content)
        limited = {**plain["limited"], "sha256": digest}
        yield f"weights are {name}, with its digest", using({**plain, "limited": limited}, content)

    def link() -> None:
        model = folder / "linked"
        shutil.rmtree(model, ignore_errors=True)
        model.mkdir()
        (model / "model.json").write_text(json.dumps(plain))
        (model / "limited.safetensors").symlink_to(good / "limited.safetensors")
        segment_files(model, paths, folder / "out.seg.nrrd")

    yield "weights are a symbolic link", link
    yield "weights are not finite", _not_finite(folder, good, plain, paths)


def _not_finite(folder: Path, good: Path, plain: dict, paths: dict[str, Path]) -> Callable[[], None]:
    def action() -> None:
        from safetensors.numpy import load_file, save_file

        from DanteSegmenterLib.model_folder import sha256_of

        model = folder / "nan"
        shutil.copytree(good, model, dirs_exist_ok=True)
        tensors = load_file(str(good / "limited.safetensors"))
        next(iter(tensors.values())).flat[0] = np.nan
        save_file(tensors, str(model / "limited.safetensors"))
        digest = sha256_of(model / "limited.safetensors")
        (model / "model.json").write_text(json.dumps({**plain, "limited": {**plain["limited"], "sha256": digest}}))
        segment_files(model, paths, folder / "out.seg.nrrd")

    return action


# ------------------------------------------------------------------------------------------------ protocol


def bad_messages(folder: Path) -> Iterator[Case]:
    """A request cut at every byte of its prefix and header: what comes next is no rest of it."""
    grids = tuple(Grid(name, name, tuple(map(float, LPS_2MM.ravel()))) for name in MODALITIES)
    request = SegmentRequest(1, "model", "cpu", grids)
    volumes = {name: np.zeros((4, 4, 4), np.float32) for name in MODALITIES}
    pieces = [bytes(piece) for piece in encode(request, tuple(volumes.values()))]
    whole, head = b"".join(pieces), len(pieces[0]) + len(pieces[1])

    def feed(stream: bytes) -> Callable[[], None]:
        return lambda: _must_not_be_read(stream)

    for cut in range(1, head):
        yield f"cut at byte {cut}", feed(whole[:cut] + whole)
    for cut in range(head, len(whole), 97):  # the voxels of this message end in the middle of the next one
        yield f"cut at byte {cut}", feed(whole[:cut] + whole)


def _must_not_be_read(stream: bytes) -> None:
    frames = list(FrameReader().feed(stream))
    raise AssertionError(f"{len(frames)} frames were read")


def bad_streams(folder: Path) -> Iterator[Case]:
    """What is no message at all, sent to a live process: it must end with a reason."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "DanteSegmenter")}
    command = [sys.executable, "-m", "DanteSegmenterLib.worker.server"]
    for name, stream in {
        "http": b"GET / HTTP/1.1\r\n\r\n" * 3,
        "pickle": pickle.dumps([1, 2, 3]) * 5,
        "noise": os.urandom(4000),
        "another version": struct.pack("<4sHIQ", b"DNTE", 9, 2, 0) + b"{}",
        "a claim of a petabyte": struct.pack("<4sHIQ", b"DNTE", 1, 2, 1 << 50) + b"{}",
    }.items():

        def action(stream: bytes = stream) -> None:
            result = subprocess.run(command, input=stream, env=environment, capture_output=True, timeout=60)
            if result.returncode == 3:
                raise Refused(result.stderr.decode().strip().splitlines()[-1])

        yield name, action


# ------------------------------------------------------------------------------------------------ window


def bad_nodes(folder: Path) -> Iterator[Case]:
    """Volume nodes that cannot be segmented, through the module's logic in the application stand-in."""
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    sys.path.insert(0, str(REPOSITORY / "Testing" / "app"))
    import slicer

    slicer.app.load_module(REPOSITORY / "DanteSegmenter" / "DanteSegmenter.py")
    module = sys.modules["DanteSegmenter"]
    logic = module.DanteSegmenterLogic(embeddedModels=write_brain_model(folder / "models" / "tiny").parent)

    def node(array: np.ndarray, name: str, matrix: np.ndarray = LPS_2MM) -> object:
        return slicer.util.addVolumeFromArray(array, matrix, name)

    good = {name: node(volume.array, name) for name, volume in study().items()}
    for name, array in bad_arrays().items():
        for modality in MODALITIES:
            bad = {**good, modality: node(array, name)}
            yield f"{modality} is {name}", lambda bad=bad: logic.segment(bad, device="cpu", show3D=False)
    for modality in MODALITIES:
        yield f"{modality} is missing", lambda m=modality: logic.segment({**good, m: None}, device="cpu")
        empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
        yield f"{modality} has no image", lambda m=modality, e=empty: logic.segment({**good, m: e}, device="cpu")
        text = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTextNode", "text")
        yield f"{modality} is a text", lambda m=modality, t=text: logic.segment({**good, m: t}, device="cpu")
    for scale in (0.0, float("nan"), float("inf")):
        odd = node(good["t1"].GetImageData() and np.ones((20, 24, 28), np.float32), "odd", np.diag([scale] * 3 + [1.0]))
        yield f"spacing {scale}", lambda odd=odd: logic.segment({**good, "t2": odd}, device="cpu")
    yield "an unknown model", lambda: logic.segment(good, model="nowhere", device="cpu")
    yield "an unknown device", lambda: logic.segment(good, device="abacus")
    yield "a device that is not there", lambda: logic.segment(good, device="cuda:99")
    logic.inference.close()
    slicer.app._folder.cleanup()  # the stand-in's own temporary folder


SUITES: dict[str, Callable[[Path], Iterator[Case]]] = {
    "files": bad_files,
    "models": bad_models,
    "messages": bad_messages,
    "streams": bad_streams,
    "nodes": bad_nodes,
}


# ------------------------------------------------------------------------------------------------ kills

PARENT = """
import sys, time
from faults import study
from in_worker import run_in_worker
from DanteSegmenterLib.worker.client import WorkerClient
client = WorkerClient()
print("ready", flush=True)
while True:
    run_in_worker(client, sys.argv[1], study((40, 48, 56)), "cpu", mirror=True)
"""


def kill_at_random(tally: Tally, folder: Path, kills: int, rng: random.Random) -> None:
    """Half of the kills hit the computing process, which must be replaced; half its parent, with which it must end."""
    model, volumes = write_brain_model(folder / "model"), study((40, 48, 56))
    client = WorkerClient()
    wanted = run_in_worker(client, model, volumes, "cpu").label_map
    for n in range(kills // 2):
        tally.kills += 1
        client.begin(model, volumes, "cpu", mirror=True)
        moment, outcome = time.monotonic() + rng.uniform(0, 0.5 if n % 4 else 3.0), None
        while outcome is None and time.monotonic() < moment:
            outcome = client.poll()[1]
            time.sleep(0.002)
        process = client._process  # None if the kill before hit after a result, and this run met a dying process
        with contextlib.suppress(OSError):
            if process is not None:
                os.kill(client.pid or process.pid, signal.SIGKILL)
        end = time.monotonic() + HANG_SECONDS
        while outcome is None and time.monotonic() < end:
            outcome = client.poll()[1]
            time.sleep(0.002)
        if outcome is None:
            tally.note("hung", f"kill {n}", "the killed process was not noticed")
            client.kill()
    if not np.array_equal(run_in_worker(client, model, volumes, "cpu").label_map, wanted):
        tally.note("lost", "after the kills", "another segmentation than before")
    client.close()
    paths = [str(REPOSITORY / name) for name in ("DanteSegmenter", "Testing")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    for _ in range(kills - kills // 2):
        tally.kills += 1
        command = [sys.executable, "-c", PARENT, str(model)]
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as parent:
            parent.stdout.readline()
            time.sleep(rng.uniform(0, 3.0))
            parent.kill()
    print(f"{'kills':<10} {tally.kills}", flush=True)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # Qt and VTK can crash while they tear down
