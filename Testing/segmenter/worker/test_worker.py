"""The warm process itself, with real frames over real pipes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY
from in_worker import run_in_worker
from models import write_brain_model

from DanteSegmenterLib.errors import Cancelled, DanteError, ModelError, ResourceError
from DanteSegmenterLib.inference import load_model, segment
from DanteSegmenterLib.model_folder import Normalisation, read_spec, write_spec
from DanteSegmenterLib.priority import NICENESS
from DanteSegmenterLib.synthetic.sample import brain_mr
from DanteSegmenterLib.volume import Volume
from DanteSegmenterLib.worker.client import WorkerClient, WorkerDied

LPS_2MM = np.diag([-2.0, -2.0, 2.0, 1.0])
posix = pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")


def study(shape=(20, 24, 28), dtype=np.float32):
    rng = np.random.default_rng(0)
    array = np.zeros(shape, dtype)
    inside = tuple(slice(2, n - 2) for n in shape)
    volumes = {}
    for name in ("t1", "t2", "flair"):
        array[inside] = (100 * rng.uniform(1, 2, array[inside].shape)).astype(dtype)
        volumes[name] = Volume(array.copy(), LPS_2MM, name)
    return volumes


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_brain_model(tmp_path_factory.mktemp("models") / "one", with_full=True)


@pytest.fixture(scope="module")
def client():
    client = WorkerClient()
    yield client
    client.close()


def run(client, folder, volumes, **options):
    return run_in_worker(client, folder, volumes, "cpu", **options)


def gone(pid, seconds=5.0):
    """Whether a process exits within the given time; a zombie counts as exited."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            os.kill(pid, 0)
            if Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize("dtype", [np.float32, np.int16, np.uint8, np.float64])
def test_process_answers_like_segment(client, folder, dtype):
    volumes = study(dtype=dtype)
    here = segment(load_model(folder, "cpu"), volumes, probabilities=True)
    there = run(client, folder, volumes, probabilities=True)
    assert np.array_equal(here.label_map, there.label_map) and there.reference is volumes["t1"]
    assert here.report.findings == there.report.findings
    assert all(np.array_equal(here.masks[name], there.masks[name]) for name in here.masks)
    assert np.allclose(here.probabilities, there.probabilities, atol=1e-3)
    assert run(client, folder, volumes).probabilities is None


def with_notes(volumes):
    """The volumes in another order than the model's, each with two reading notes."""
    notes = {name: (f"WARNING: '{name}': left and right", f"'{name}' was taken") for name in volumes}
    return {name: replace(volumes[name], notes=notes[name]) for name in sorted(volumes)}


@pytest.mark.parametrize("more", ["nothing", "scan that is not used", "scan that is used"])
def test_reading_notes_are_in_the_result(client, folder, more):
    volumes = study()
    if more != "nothing":
        volumes["t1ce"] = Volume(volumes["t1"].array[::-1].copy(), LPS_2MM, "t1ce")
    volumes, limited = with_notes(volumes), more == "scan that is not used"
    here = segment(load_model(folder, "cpu"), volumes, limited=limited)
    there = run(client, folder, volumes, limited=limited)
    assert there.report.notes == here.report.notes
    read = ("t1", "t1ce", "t2", "flair") if more == "scan that is used" else ("t1", "t2", "flair")
    of_reading = [note for name in read for note in volumes[name].notes]
    first = 0 if more == "nothing" else 1  # a note about the choice of the network
    assert list(there.report.notes[first : first + len(of_reading)]) == of_reading
    assert sum(note in there.report.notes for volume in volumes.values() for note in volume.notes) == len(of_reading)


def test_notes_of_a_prepared_study_are_in_the_result(client, folder):
    volumes = with_notes({m: v for m, v in brain_mr(seed=3, spacing_mm=4.0).volumes.items() if m != "t1ce"})
    t1 = volumes["t1"]
    mask = Volume((t1.array > 0).astype(np.uint8), t1.ijk_to_ras, "mask", ("'mask': odd",))
    here = segment(load_model(folder, "cpu"), volumes, prepare=True, brain_mask=mask)
    there = run(client, folder, volumes, prepare=True, brain_mask=mask)
    assert there.report.notes == here.report.notes
    assert there.report.notes[:2] == volumes["flair"].notes


def test_reading_notes_are_not_sent(client, folder):
    """They may name files and series."""
    client.begin(folder, with_notes(study()), "cpu")
    assert b"was taken" not in b"".join(bytes(piece) for piece in client._run.frame)
    while client.poll()[1] is None:
        time.sleep(0.01)


def test_models_and_process_are_reused_and_switched(client, folder, tmp_path):
    other = write_brain_model(tmp_path / "two", seed=1)
    first = run(client, folder, study())
    pid = client.pid
    assert (run(client, other, study()).label_map != first.label_map).any()
    again = run(client, folder, study())
    assert client.pid == pid and np.array_equal(again.label_map, first.label_map)
    assert again.report.seconds["load"] < 0.05


def test_model_replaced_on_disk_is_reloaded(client, tmp_path):
    folder = write_brain_model(tmp_path / "model")
    before = run(client, folder, study())
    write_brain_model(folder, seed=1)
    assert (run(client, folder, study()).label_map != before.label_map).any()


def test_invalid_input_is_refused_in_the_same_words_and_the_process_survives(client, folder):
    bad = study()
    bad["t2"].array[5, 5, 5] = np.nan
    with pytest.raises(DanteError, match="'t2' holds 1 voxels that are NaN"):
        run(client, folder, bad)
    with pytest.raises(DanteError, match="missing: flair"):
        run(client, folder, {name: volume for name, volume in study().items() if name != "flair"})
    pid = client.pid
    run(client, folder, study())
    assert client.pid == pid


def test_invalid_model_folder_is_refused_before_starting_a_process(tmp_path):
    client = WorkerClient()
    with pytest.raises(ModelError, match="no model folder"):
        client.begin(tmp_path, study())
    assert client.pid is None and not client.running


def test_altered_weights_file_is_refused(client, tmp_path):
    folder = write_brain_model(tmp_path / "model")
    spec = read_spec(folder)
    write_spec(folder, replace(spec, limited=replace(spec.limited, sha256="1" * 64)))
    with pytest.raises(DanteError, match="is not the file the model was released with"):
        run(client, folder, study())


def test_second_concurrent_run_is_refused(client, folder):
    client.begin(folder, study(), "cpu")
    with pytest.raises(ResourceError, match="running already"):
        client.begin(folder, study(), "cpu")
    while client.poll()[1] is None:
        time.sleep(0.01)


def test_run_can_be_cancelled_and_the_next_one_works(client, folder):
    run(client, folder, study())
    asked = iter([False, True])
    with pytest.raises(Cancelled):
        run(client, folder, study((40, 60, 60)), mirror=True, cancelled=lambda: next(asked, True))
    run(client, folder, study())


@posix
@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_dead_process_is_reported_and_the_next_run_starts_another(folder, number):
    client = WorkerClient()
    run(client, folder, study())
    first = client.pid
    client.begin(folder, study((40, 60, 60)), "cpu", mirror=True)
    client.poll()
    os.kill(first, number)
    outcome = None
    while outcome is None:
        outcome = client.poll()[1]
    assert isinstance(outcome, WorkerDied) and not client.running
    run(client, folder, study())
    second = client.pid
    assert second != first
    client.close()
    assert gone(second) and client.pid is None


def test_run_started_while_an_idle_process_exits_starts_another(folder):
    client = WorkerClient(idle_seconds=0.3)
    run(client, folder, study())
    first = client.pid
    assert gone(first)
    run(client, folder, study())
    second, process = client.pid, client._connection._child
    assert second != first and gone(second)
    ended, answers = process.poll, iter([None])  # when the run started, it seemed to be alive
    process.poll = lambda: next(answers, ended())
    run(client, folder, study())
    assert client.pid not in (first, second)
    client.close()


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc")
def test_every_thread_of_the_process_has_low_priority(client, folder):
    """Including those started by numpy on import, which would otherwise have the window's own priority."""
    run(client, folder, study())
    threads = [path.read_text() for path in Path(f"/proc/{client.pid}/task").glob("*/stat")]
    nice = [int(text.rpartition(")")[2].split()[16]) for text in threads]
    assert len(nice) > 1 and min(nice) >= NICENESS


def test_prepared_data_are_part_of_the_result(client, folder):
    volumes = {name: volume for name, volume in brain_mr(seed=3, spacing_mm=4.0).volumes.items() if name != "t1ce"}
    t1 = volumes["t1"]
    mask = t1.with_array((t1.array > 0).astype(np.uint8), "mask")
    result = run(client, folder, volumes, prepare=True, brain_mask=mask, probabilities=True)
    assert np.array_equal(result.brain, mask.array) and result.probabilities is not None
    assert set(result.alignments) == {"t2", "flair"}
    for matrix in result.alignments.values():
        np.testing.assert_allclose(matrix, np.eye(4), atol=1.5)
        np.testing.assert_allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-6)
    plain = run(client, folder, volumes)
    assert plain.brain is None and plain.alignments == {}


def test_model_that_cannot_be_prepared_for_is_refused(client, folder, tmp_path):
    write_brain_model(tmp_path / "ct")
    spec = read_spec(tmp_path / "ct")
    window = Normalisation("ct_window", -1000.0, 1000.0, 0.0, 500.0)
    preprocessing = replace(spec.preprocessing, normalisation=dict.fromkeys(spec.preprocessing.normalisation, window))
    write_spec(tmp_path / "ct", replace(spec, preprocessing=preprocessing))
    with pytest.raises(DanteError, match="Prepare is for brains"):
        run(client, tmp_path / "ct", study(), prepare=True)


PARENT = """
import sys, time
import numpy as np
from DanteSegmenterLib.volume import Volume
from DanteSegmenterLib.worker.client import WorkerClient
from in_worker import run_in_worker
volume = Volume(np.random.default_rng(0).uniform(1, 2, (20, 24, 28)), np.diag([-2.0, -2.0, 2.0, 1.0]))
client, study = WorkerClient(), dict.fromkeys(("t1", "t2", "flair"), volume)
run_in_worker(client, sys.argv[1], study, "cpu")
print(client.pid, flush=True)
time.sleep(60)
"""


@posix
def test_process_exits_with_its_parent(folder):
    paths = [str(REPOSITORY / name) for name in ("DanteSegmenter", "Testing")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(folder)], env=environment, stdout=subprocess.PIPE
    ) as parent:
        pid = int(parent.stdout.readline())
        parent.kill()
    assert gone(pid)


@pytest.mark.parametrize("stream", [b"GET / HTTP/1.1\r\n\r\n" * 3, b"DNTE" + b"\xff" * 40, b"\x80\x04\x95" * 20])
def test_invalid_stream_ends_the_process_with_a_reason(stream):
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "DanteSegmenter")}
    command = [sys.executable, "-m", "DanteSegmenterLib.worker.server"]
    result = subprocess.run(command, input=stream, env=environment, capture_output=True, timeout=60)
    assert result.returncode == 3 and b"DANTE worker:" in result.stderr


@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
def test_unsupported_number_types_are_converted(client, folder, dtype):
    volumes = study()
    odd = {**volumes, "t2": volumes["t2"].with_array((volumes["t2"].array * 100).astype(dtype), "t2")}
    wanted = {**odd, "t2": odd["t2"].with_array(odd["t2"].array.astype(np.float64), "t2")}
    assert np.array_equal(run(client, folder, odd).label_map, run(client, folder, wanted).label_map)


def test_failed_request_leaves_the_client_usable(client, folder, monkeypatch):
    def refuse(*arguments):
        raise ValueError("a defect")

    with monkeypatch.context() as patch:
        patch.setattr("DanteSegmenterLib.worker.client.encode", refuse)
        with pytest.raises(ValueError, match="a defect"):
            client.begin(folder, study(), "cpu")
    assert not client.running and run(client, folder, study()).label_map.any()


def test_dead_reader_thread_ends_its_process_with_a_reason(tmp_path):
    code = (
        "from DanteSegmenterLib.worker import server\n"
        "server.FrameReader.feed = lambda self, data: (_ for _ in ()).throw(MemoryError())\n"
        "raise SystemExit(server.main([]))"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "DanteSegmenter")}
    result = subprocess.run([sys.executable, "-c", code], input=b"x", env=environment, capture_output=True, timeout=60)
    assert result.returncode == 5 and b"not enough memory for the volumes" in result.stderr
    assert b"Traceback" not in result.stderr
