"""Small nnU-Net results folders, trained by nnU-Net for some steps on a synthetic patient. Needs nnunetv2.

Plans have the form of nnU-Net's planner; network, loss, preprocessing, checkpoint and prediction are nnU-Net's own
code, unchanged. Adam replaces its optimiser, which needs more steps than a test can run.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from DanteSegmenterLib.synthetic.sample import brain_mr
from DanteSegmenterLib.volume import Volume

CHANNELS = ("T1", "FLAIR")
LABELS = {"background": 0, "necrosis": 1, "edema": 2, "enhancing tumor": 3}
REGIONS = {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [1, 3], "enhancing tumor": [3]}
# Order of the image axes in the network where slices are thick along the last one.
THICK_LAST = (2, 0, 1)


@dataclass(frozen=True)
class Recipe:
    """The kind of model.

    Attributes:
        residual: with a residual encoder.
        regions: overlapping regions instead of labels.
        thick: sagittal slices four times as thick as wide, with anisotropic strides.
        old_plans: in the form of nnU-Net 2.0 to 2.3.
        tiny: a patient of 6 mm and few features, for a fixture of some kilobytes.
        large: a patient of 2 mm, 16 features and windows of 48 x 64 x 64, for benchmarks.
    """

    residual: bool = False
    regions: bool = False
    thick: bool = False
    old_plans: bool = False
    tiny: bool = False
    large: bool = False


def patient(recipe: Recipe, seed: int = 0) -> tuple[dict[str, Volume], np.ndarray]:
    """Volumes of a synthetic patient by nnU-Net channel name, and labels 0 to 3, [K, J, I]."""
    made = brain_mr(seed, 6.0 if recipe.tiny else 2.0 if recipe.large else 4.0)
    labels = np.where(made.labels.array == 4, 3, made.labels.array).astype(np.int16)
    matrix = made.labels.ijk_to_ras.copy()
    arrays = [made.volumes[name].array.astype(np.float32) for name in ("t1", "flair")]
    if recipe.thick:
        matrix[:3, 0] *= 4
        arrays, labels = [array[:, :, 1::4] for array in arrays], labels[:, :, 1::4]
    return {name: Volume(array, matrix, name) for name, array in zip(CHANNELS, arrays)}, labels


def plans_of(recipe: Recipe) -> dict[str, Any]:
    """Plans in the form of nnU-Net's planner, for a patch that is fast on a CPU."""
    features, patch = [4, 8, 8], [12, 24, 24] if recipe.thick else [16, 24, 24]
    spacing = [14.0, 3.5, 3.5] if recipe.thick else [3.6, 3.3, 3.3]
    if recipe.tiny:
        features, patch, spacing = [3, 4, 4], [n // 2 // 4 * 4 for n in patch], [1.5 * mm for mm in spacing]
    strides = [[1, 1, 1], [1, 2, 2] if recipe.thick else [2, 2, 2], [2, 2, 2]]
    kernels = [[1, 3, 3] if recipe.thick else [3, 3, 3], [3, 3, 3], [3, 3, 3]]
    blocks = [1, 2, 3] if recipe.residual else [2, 2, 2]
    up = [1, 1] if recipe.residual else [2, 1]
    if recipe.large:
        features, patch, spacing = [16, 32, 64], [48, 64, 64], [1.8, 1.7, 1.7]
    name = "ResidualEncoderUNet" if recipe.residual else "PlainConvUNet"
    kwargs = {
        "n_stages": 3, "features_per_stage": features, "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": kernels, "strides": strides,
        "n_blocks_per_stage" if recipe.residual else "n_conv_per_stage": blocks, "n_conv_per_stage_decoder": up,
        "conv_bias": True, "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True}, "dropout_op": None, "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU", "nonlin_kwargs": {"inplace": True},
    }  # fmt: skip
    network: dict[str, Any] = {
        "architecture": {
            "network_class_name": f"dynamic_network_architectures.architectures.unet.{name}",
            "arch_kwargs": kwargs,
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        }
    }
    if recipe.old_plans:
        network = {
            "UNet_class_name": name, "UNet_base_num_features": 4, "unet_max_num_features": 8,
            "n_conv_per_stage_encoder": blocks, "n_conv_per_stage_decoder": up, "num_pool_per_axis": [2, 2, 2],
            "pool_op_kernel_sizes": strides, "conv_kernel_sizes": kernels,
        }  # fmt: skip
    splines = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
    base = {
        "data_identifier": "nnUNetPlans_3d_fullres", "preprocessor_name": "DefaultPreprocessor", "batch_size": 2,
        "patch_size": patch, "spacing": spacing,
        "median_image_size_in_voxels": [40, 60, 60], "normalization_schemes": ["ZScoreNormalization"] * 2,
        "use_mask_for_norm": [not recipe.thick] * 2, "batch_dice": False,
        "resampling_fn_data": "resample_data_or_seg_to_shape", "resampling_fn_data_kwargs": splines,
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_seg_kwargs": {**splines, "is_seg": True, "order": 1},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": {**splines, "order": 1}, **network,
    }  # fmt: skip
    return {
        "dataset_name": "Dataset901_Synthetic", "plans_name": "nnUNetPlans",
        "image_reader_writer": "SimpleITKIO", "label_manager": "LabelManager",
        "experiment_planner_used": "ExperimentPlanner",
        "original_median_spacing_after_transp": base["spacing"], "original_median_shape_after_transp": [40, 60, 60],
        "transpose_forward": list(THICK_LAST if recipe.thick else (0, 1, 2)),
        "transpose_backward": [int(n) for n in np.argsort(THICK_LAST)] if recipe.thick else [0, 1, 2],
        "configurations": {
            "3d_small": base, "3d_fullres": {"inherits_from": "3d_small", "data_identifier": "nnUNetPlans_3d_fullres"},
        },
        "foreground_intensity_properties_per_channel": {
            str(n): {
                "max": 2000.0, "mean": 600.0, "median": 590.0, "min": 0.0, "percentile_00_5": 100.0,
                "percentile_99_5": 1200.0, "std": 150.0,
            }
            for n in range(2)
        },
    }  # fmt: skip


def dataset_of(recipe: Recipe) -> dict[str, Any]:
    """dataset.json."""
    regions = {"regions_class_order": [2, 1, 3]} if recipe.regions else {}
    return {
        "name": "Synthetic", "channel_names": {str(n): name for n, name in enumerate(CHANNELS)},
        "labels": REGIONS if recipe.regions else LABELS, "numTraining": 1, "file_ending": ".nii.gz", **regions,
    }  # fmt: skip


def write_results(folder: Path, recipe: Recipe = Recipe(), folds: int = 1, steps: int = 60) -> Path:
    """Write nnU-Net's results folder below `folder`, as left by its trainer."""
    _places(folder)
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
    from nnunetv2.training.nnUNetTrainer import nnUNetTrainer as trainer_file
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    plans, dataset = plans_of(recipe), dataset_of(recipe)
    manager = PlansManager(copy.deepcopy(plans))
    volumes, labels = patient(recipe, seed=1)
    data, seg, _ = DefaultPreprocessor(verbose=False).run_case_npy(
        np.stack([volume.array for volume in volumes.values()]), labels[None], properties_of(volumes), manager,
        manager.get_configuration("3d_fullres"), dataset,
    )  # fmt: skip
    root = folder / "results" / plans["dataset_name"] / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    ready = folder / "preprocessed" / plans["dataset_name"] / "nnUNetPlans_3d_fullres"
    ready.mkdir(parents=True, exist_ok=True)
    (ready / "case.b2nd").touch()  # by which the trainer recognises its kind of dataset
    for fold in range(folds):
        with contextlib.redirect_stdout(io.StringIO()), torch.random.fork_rng():
            torch.manual_seed(fold)
            given = {**copy.deepcopy(plans), "continue_training": False}
            trainer = trainer_file.nnUNetTrainer(given, "3d_fullres", fold, dataset, torch.device("cpu"))
            trainer.enable_deep_supervision = False
            trainer._do_i_compile = lambda: False
            trainer.initialize()
            trainer.inference_allowed_mirroring_axes = (0, 1) if recipe.thick else (0, 1, 2)
            _train(trainer, torch.from_numpy(np.asarray(data)), torch.from_numpy(np.asarray(seg)), recipe, steps)
            trainer.save_checkpoint(os.path.join(trainer.output_folder, "checkpoint_final.pth"))
    (root / "plans.json").write_text(json.dumps(plans))
    (root / "dataset.json").write_text(json.dumps(dataset))
    return root


def _train(trainer: Any, data: torch.Tensor, seg: torch.Tensor, recipe: Recipe, steps: int) -> None:
    """Train on patches around labelled voxels with nnU-Net's own loss."""
    optimizer = torch.optim.Adam(trainer.network.parameters(), 5e-3)
    patch = trainer.configuration_manager.patch_size
    room = [max(0, patch[axis] - data.shape[axis + 1]) for axis in range(3)]
    padding = [n for axis in (2, 1, 0) for n in (0, room[axis])]
    data, seg = torch.nn.functional.pad(data, padding), torch.nn.functional.pad(seg.clamp_min(0), padding)
    found = (seg[0] > 0).nonzero()
    trainer.network.train()
    for _step in range(steps):
        inputs, targets = [], []
        for _n in range(2):
            centre = found[torch.randint(len(found), ())]
            start = [int((centre[a] - patch[a] // 2).clamp(0, data.shape[a + 1] - patch[a])) for a in range(3)]
            where = (slice(None), *(slice(begin, begin + size) for begin, size in zip(start, patch)))
            inputs.append(data[where])
            targets.append(seg[where].float())
        target = torch.stack(targets)
        if recipe.regions:
            groups = [REGIONS[name] for name in REGIONS if name != "background"]
            target = torch.cat([torch.isin(target, torch.tensor(group).float()).float() for group in groups], dim=1)
        optimizer.zero_grad()
        loss = trainer.loss(trainer.network(torch.stack(inputs)), target)
        loss.backward()
        optimizer.step()
    trainer._best_ema = np.float64(0.5)
    trainer.current_epoch = 1


def properties_of(volumes: dict[str, Volume]) -> dict[str, Any]:
    """Image properties as returned by nnU-Net's reader."""
    return {"spacing": list(next(iter(volumes.values())).spacing_mm)}


def predicted(
    root: Path, volumes: dict[str, Volume], folds: int = 1, mirror: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """nnU-Net's label map [K, J, I] and probabilities."""
    return prediction_of(predictor_of(root, folds, mirror), volumes)


def predictor_of(root: Path, folds: int = 1, mirror: bool = False) -> Any:
    """nnU-Net's predictor on the CPU, with loaded networks."""
    _places(root.parent)
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    with contextlib.redirect_stdout(io.StringIO()):
        predictor = nnUNetPredictor(
            use_mirroring=mirror, perform_everything_on_device=False, device=torch.device("cpu"), allow_tqdm=False
        )
        predictor.initialize_from_trained_model_folder(str(root), tuple(range(folds)))
    return predictor


def prediction_of(predictor: Any, volumes: dict[str, Volume]) -> tuple[np.ndarray, np.ndarray]:
    """Label map [K, J, I] and probabilities."""
    return _predict(predictor, volumes, True)


def labels_by(predictor: Any, volumes: dict[str, Volume]) -> np.ndarray:
    """Only the label map, which nnU-Net computes faster."""
    return _predict(predictor, volumes, False)


def _predict(predictor: Any, volumes: dict[str, Volume], probabilities: bool) -> Any:
    image = np.stack([volume.array for volume in volumes.values()]).astype(np.float32)
    with contextlib.redirect_stdout(io.StringIO()):
        return predictor.predict_single_npy_array(
            image, properties_of(volumes), save_or_return_probabilities=probabilities
        )


def _places(folder: Path) -> None:
    """Set nnU-Net's folders, which it reads from the environment."""
    for name in ("raw", "preprocessed", "results"):
        os.environ[f"nnUNet_{name}"] = str(folder / name)
    with contextlib.redirect_stdout(io.StringIO()):
        import nnunetv2.paths  # noqa: F401
