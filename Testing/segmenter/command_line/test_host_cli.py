"""The option `--host`, with a real sshd on this computer as the remote host."""

import json
import shutil
import sys

import numpy as np
import pytest
from batches import summary
from datasets import write_case
from models import write_brain_model
from nifti_files import write_nifti
from ssh_server import NAME, ssh_server

from DanteSegmenterLib.__main__ import main
from DanteSegmenterLib.batch.finished import read_report
from DanteSegmenterLib.files.images import read_volume


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cases") / "P0"
    assert main(["sample", str(folder), "--spacing-mm", "8"]) == 0
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_brain_model(tmp_path_factory.mktemp("models") / "one")


def arguments(case, model, out):
    inputs = [f"--input={name}={case / f'P0_{name}.nii.gz'}" for name in ("t1", "t2", "flair")]
    return ["segment", "--model", str(model), *inputs, "--output", str(out), "--device", "cpu"]


def batch_arguments(folder, model, out):
    return ["batch", str(folder), "--model", str(model), "--out", str(out), "--device", "cpu"]


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        (["--host", "ssh:-oProxyCommand=x"], "is no computer"),
        (["--host=-oProxyCommand=x"], "is no computer"),
        (["--host-python", "python3"], "--host-python is used with --host only"),
    ],
)
def test_invalid_host_is_refused_before_reading(case, model, tmp_path, capsys, more, wanted):
    assert main([*arguments(case, model, tmp_path / "out.nii.gz"), *more]) == 2
    assert wanted in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_cluster_and_host_are_mutually_exclusive(case, model, tmp_path, capsys):
    more = ["--model", str(model), "--out", str(tmp_path / "out"), "--host", "ssh:gpu", "--cluster", "tcp://x:1"]
    assert main(["batch", str(case.parent), *more]) == 2
    assert "exclude each other" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_batch_stops_when_no_case_could_be_computed(case, model, tmp_path, capsys):
    with ssh_server(tmp_path / "far") as far:
        far.write_client_settings(key="wrong_key")
        out = tmp_path / "out"
        assert main(["batch", str(case.parent), "--model", str(model), "--out", str(out), "--host", f"ssh:{NAME}"]) == 2
    assert "did not let you in" in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == ["summary.csv"]


@pytest.mark.slow
def test_files_and_batches_are_segmented_remotely_as_locally(case, model, tmp_path):
    shutil.copytree(case, tmp_path / "cases" / "P0")
    shutil.copytree(case, tmp_path / "cases" / "P1")
    for file in (tmp_path / "cases" / "P1").iterdir():
        file.rename(file.with_name(file.name.replace("P0", "P1")))
    here, there, out = tmp_path / "here.nii.gz", tmp_path / "there.nii.gz", tmp_path / "out"
    assert main(arguments(case, model, here)) == 0
    with ssh_server(tmp_path / "far") as far:
        host = ["--host", f"ssh:{NAME}", "--host-python", sys.executable]
        assert main([*arguments(case, model, there), *host]) == 0
        assert main([*batch_arguments(tmp_path / "cases", model, out), *host]) == 0
        assert {file.rpartition("/")[2] for file in far.files()} == {"model.json", "limited.safetensors"}
    assert np.array_equal(read_volume(here).array, read_volume(there).array)
    for name in ("P0", "P1"):
        report = read_report(out / f"{name}.seg.nrrd")
        assert report.device.endswith(f" at {NAME}")


def test_reading_notes_and_probabilities_are_the_same_remotely(model, tmp_path, capsys):
    """T2's voxel sizes differ from those of its matrix: one is negative."""
    case = write_case(tmp_path / "cases" / "P0", seed=0)
    t2 = read_volume(case / "P0_t2.nii.gz")
    write_nifti(case / "P0_t2.nii.gz", t2.array, t2.ijk_to_ras, pixdim=[1, -4, 4, 4, 0, 0, 0, 0])
    (note,) = read_volume(case / "P0_t2.nii.gz").notes
    found = {}
    with ssh_server(tmp_path / "far"):
        host = ["--host", f"ssh:{NAME}", "--host-python", sys.executable]
        for where, more in (("here", []), ("there", host)):
            files = [tmp_path / f"{where}{ending}" for ending in (".nii.gz", "-p.nii.gz", ".json")]
            written = ["--probabilities", str(files[1]), "--report", str(files[2])]
            assert main([*arguments(case, model, files[0]), *written, *more]) == 0
            assert f"note: {note}" in capsys.readouterr().out
            probabilities = [read_volume(files[1], component=n).array for n in range(3)]
            found[where] = probabilities, json.loads(files[2].read_text())["notes"]
        assert main([*batch_arguments(case.parent, model, tmp_path / "out"), *host]) == 0
    for here, there in zip(found["here"][0], found["there"][0]):
        assert there.dtype == np.float32 and np.allclose(here, there, atol=5e-3) and there.any()
    assert found["here"][1] == found["there"][1]
    assert note in summary(tmp_path / "out")["P0"]["message"]
