import json
import os

import demo
import numpy as np
import pytest
from datasets import BRATS_2023, write_case
from models import brain_regions, write_brain_model
from PIL import Image

from DanteSegmenterLib.errors import InputError
from DanteSegmenterLib.files import read_volume
from DanteSegmenterLib.pictures.three_planes import render_view
from DanteSegmenterLib.volume import Volume


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_brain_model(tmp_path_factory.mktemp("model"))


def test_demo_writes_segmentation_picture_and_report(model, tmp_path):
    arguments = ["--out", str(tmp_path / "demo"), "--model", str(model), "--device", "cpu", "--spacing-mm", "4"]
    assert demo.main(arguments) == 0
    assert sorted(os.listdir(tmp_path / "demo")) == [
        "report.json",
        "segmentation.nii.gz",
        "segmentation.seg.nrrd",
        "view.png",
    ]
    report = json.loads((tmp_path / "demo" / "report.json").read_text())
    assert {"volumes_ml", "dice", "seconds", "device", "model"} <= set(report)
    assert set(report["dice"]) == set(report["volumes_ml"]) == {"WT", "TC", "ET"}
    assert {"prepare", "network", "restore"} <= set(report["seconds"])
    voxels = (read_volume(tmp_path / "demo" / "segmentation.nii.gz").array > 0).sum()
    assert report["volumes_ml"]["WT"] == pytest.approx(voxels * 0.064, abs=0.01)


def test_demo_segments_embolism_in_a_synthetic_chest(tmp_path):
    assert demo.main(["--kind", "chest", "--out", str(tmp_path / "demo"), "--device", "cpu"]) == 0
    report = json.loads((tmp_path / "demo" / "report.json").read_text())
    assert report["dice"]["PE"] > 0.5 and report["model"]["name"].startswith("Embolism")


def test_case_folder_in_2023_naming_is_scored_against_its_mask(model, tmp_path):
    case = write_case(tmp_path / "BraTS-GLI-1", 0, BRATS_2023, joint="-")
    report = demo.run(case, tmp_path / "out", model, "cpu")
    enhancing = next(region.label_value for region in brain_regions() if region.id == "ET")
    found = read_volume(tmp_path / "out" / "segmentation.nii.gz").array == enhancing
    mask = read_volume(case / "BraTS-GLI-1-seg.nii.gz").array == 3
    overlap = (found & mask).sum()
    assert overlap and report["dice"]["ET"] == pytest.approx(2 * overlap / (found.sum() + mask.sum()), abs=1e-4)
    assert report["case"] == "BraTS-GLI-1"


def test_case_without_mask_has_no_dice(model, tmp_path):
    report = demo.run(write_case(tmp_path / "case", 0, mask=""), tmp_path / "out", model, "cpu")
    assert report["dice"] is None


def test_case_without_a_modality_is_refused_in_one_line(model, tmp_path, capsys):
    case = write_case(tmp_path / "case", 0)
    (case / "case_flair.nii.gz").unlink()
    assert demo.main(["--case", str(case), "--out", str(tmp_path / "out"), "--model", str(model)]) == 2
    error = capsys.readouterr().err
    assert "missing: flair" in error and error.count("\n") == 1 and not (tmp_path / "out").exists()
    with pytest.raises(InputError):
        demo.run(tmp_path / "nowhere", tmp_path / "out", model, "cpu")


def tumour(shape=(40, 44, 48)):
    """A grey head with a tumour in the patient's left front upper part (LPS: high I, low J, high K)."""
    head = np.zeros(shape, np.float32)
    head[4:-4, 4:-4, 4:-4] = 100
    masks = {id: np.zeros(shape, bool) for id in ("WT", "TC", "ET")}
    masks["WT"][24:34, 8:18, 30:42] = True
    masks["TC"][26:32, 10:16, 32:40] = True
    masks["ET"][28:31, 11:15, 34:38] = True
    return head, masks


def coloured(path):
    """Share of pixels in a region's colour in each quarter of the picture: axial, coronal, sagittal, 3D."""
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    green = (pixels[..., 1] > pixels[..., 0] + 40) & (pixels[..., 1] > pixels[..., 2] + 40)
    rows, columns = (n // 2 for n in green.shape)
    quarters = green[:rows, :columns], green[:rows, columns:], green[rows:, :columns], green[rows:, columns:]
    return [quarter.mean() for quarter in quarters], quarters


def test_view_shows_the_regions_in_all_planes_and_in_3d(tmp_path):
    head, masks = tumour()
    render_view(tmp_path / "v.png", Volume(head, np.diag([-4.0, -4, 4, 1])), masks, brain_regions(), "title")
    assert min(coloured(tmp_path / "v.png")[0]) > 1e-4


def test_axial_plane_is_radiological(tmp_path):
    head, masks = tumour()
    render_view(tmp_path / "v.png", Volume(head, np.diag([-4.0, -4, 4, 1])), masks, brain_regions())
    rows, columns = np.nonzero(coloured(tmp_path / "v.png")[1][0])
    height, width = coloured(tmp_path / "v.png")[1][0].shape
    assert columns.mean() > width / 2 and rows.mean() < height / 2


def test_view_does_not_depend_on_the_storage_order(tmp_path):
    head, masks = tumour()
    matrix = np.diag([-4.0, -4, 4, 1])
    render_view(tmp_path / "a.png", Volume(head, matrix), masks, brain_regions())
    swap = matrix @ np.array([[0, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]])
    turned = {id: mask.transpose(2, 1, 0) for id, mask in masks.items()}
    render_view(tmp_path / "b.png", Volume(head.transpose(2, 1, 0), swap), turned, brain_regions())
    a, b = (np.asarray(Image.open(tmp_path / name)).astype(int) for name in ("a.png", "b.png"))
    assert np.abs(a - b).mean() < 0.5


def test_view_without_findings_is_drawn(tmp_path):
    head, masks = tumour()
    nothing = {id: np.zeros_like(mask) for id, mask in masks.items()}
    render_view(tmp_path / "v.png", Volume(head, np.eye(4)), nothing, brain_regions())
    assert (tmp_path / "v.png").stat().st_size > 1000
