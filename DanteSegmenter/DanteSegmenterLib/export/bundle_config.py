"""A bundle's `configs/inference.json`, using MONAI's own components where they do what the model needs."""

from __future__ import annotations

import functools
from typing import Any

from ..model_folder.spec import ModelSpec, Normalisation, Pathway
from ..result.regions import THRESHOLD
from .source import Source

# Logit with practically zero probability, for voxels where no window was needed.
NO_LOGIT = -100.0
WINDOWS_AT_ONCE = 2
Item = dict[str, Any]


def inference_config(source: Source) -> Item:
    """Content of the file for `python -m monai.bundle run --config_file configs/inference.json`."""
    pathway = source.pathway
    return {
        "imports": ["$import glob", "$import os", "$import numpy as np", "$import torch", "$import scripts.dante"],
        "bundle_root": ".",
        "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
        "ckpt_path": "$@bundle_root + '/models/model.ts'",
        "dataset_dir": "$@bundle_root + '/data'",
        "output_dir": "$@bundle_root + '/eval'",
        "modalities": list(pathway.modalities),
        "cases": "$sorted(c for c in glob.glob(os.path.join(@dataset_dir, '*')) if os.path.isdir(c))",
        "datalist": "$[{m: sorted(glob.glob(c + '/' + m + '.nii*') + glob.glob(c + '/*_' + m + '.nii*'))[0] "
        "for m in @modalities} for c in @cases]",
        "network_def": "$torch.jit.load(@ckpt_path, map_location=@device)",
        "network": "$@network_def.eval()",
        "preprocessing": {"_target_": "Compose", "transforms": _before(source.spec, pathway)},
        "dataset": {"_target_": "Dataset", "data": "@datalist", "transform": "@preprocessing"},
        "dataloader": {
            "_target_": "DataLoader",
            "dataset": "@dataset",
            "batch_size": 1,
            "shuffle": False,
            "num_workers": 0,
        },
        "inferer": _inferer(source.spec, pathway),
        "postprocessing": {"_target_": "Compose", "transforms": _after(source.spec, pathway)},
        "handlers": [{"_target_": "StatsHandler", "iteration_log": False}],
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
            "val_handlers": "@handlers",
            "amp": False,
        },
        "initialize": [],
        "run": ["$@evaluator.run()"],
    }


def _before(spec: ModelSpec, pathway: Pathway) -> list[Item]:
    """Transforms from files to the network's input, equivalent to `preprocess.prepare`."""
    keys, preprocessing = list(pathway.modalities), spec.preprocessing
    normalisations = [preprocessing.normalisation[key] for key in keys]
    return [
        {"_target_": "LoadImaged", "keys": keys, "ensure_channel_first": True},
        *(
            # No effect on images that are on the grid of the first one already.
            {
                "_target_": "ResampleToMatchd",
                "keys": key,
                "key_dst": keys[0],
                "mode": "bilinear",
                "padding_mode": "border" if n.hounsfield else "zeros",
            }
            for key, n in list(zip(keys, normalisations))[1:]
        ),
        {"_target_": "Orientationd", "keys": keys, "axcodes": preprocessing.orientation},
        {
            "_target_": "scripts.dante.NetworkGridd",
            "keys": keys,
            "spacing": list(preprocessing.spacing_mm[::-1]),
            "air": [n.low if n.hounsfield else None for n in normalisations],
        },
        *(_normalising(key, n) for key, n in zip(keys, normalisations)),
        {"_target_": "ConcatItemsd", "keys": keys, "name": "image"},
    ]


def _normalising(key: str, normalisation: Normalisation) -> Item:
    if not normalisation.hounsfield:
        return {"_target_": "NormalizeIntensityd", "keys": key, "nonzero": True}
    low, high = _window(normalisation)
    return {
        "_target_": "ScaleIntensityRanged",
        "keys": key,
        "a_min": normalisation.low,
        "a_max": normalisation.high,
        "b_min": low,
        "b_max": high,
        "clip": True,
    }


def _window(normalisation: Normalisation) -> tuple[float, float]:
    """Normalised values of the ends of a CT window."""
    low, high = ((end - normalisation.mean) / normalisation.std for end in (normalisation.low, normalisation.high))
    return low, high


def _inferer(spec: ModelSpec, pathway: Pathway) -> Item:
    normalisations = [spec.preprocessing.normalisation[key] for key in pathway.modalities]
    nothing = [NO_LOGIT] * spec.out_channels
    if spec.output == "labels":
        nothing[0] = -NO_LOGIT  # background
    return {
        "_target_": "scripts.dante.EvenWindowsInferer",
        "roi_size": list(spec.patch[::-1]),
        "background": [_window(n)[0] if n.hounsfield else 0.0 for n in normalisations],
        "nothing": nothing,
        "inside_only": not any(n.hounsfield for n in normalisations),
        "sw_batch_size": WINDOWS_AT_ONCE,
    }


def _after(spec: ModelSpec, pathway: Pathway) -> list[Item]:
    """Transforms from logits to a label map on the first image's grid, as a NIfTI file."""
    regions = spec.output == "regions"
    return [
        {"_target_": "Activationsd", "keys": "pred", **({"sigmoid": True} if regions else {"softmax": True})},
        {
            "_target_": "Invertd",
            "keys": "pred",
            "transform": "@preprocessing",
            "orig_keys": pathway.modalities[0],
            "nearest_interp": False,
            "to_tensor": True,
        },
        {"_target_": "Lambdad", "keys": "pred", "func": _label_map(spec)},
        {
            "_target_": "SaveImaged",
            "keys": "pred",
            "output_dir": "@output_dir",
            "data_root_dir": "@dataset_dir",
            "output_postfix": "seg",
            "output_dtype": "$np.uint8",
            "separate_folder": False,
            "resample": False,
        },
    ]


def _label_map(spec: ModelSpec) -> str:
    """Probabilities -> label values [1, I, J, K], as an expression that a reader of the file understands."""
    values = [region.label_value for region in spec.regions]
    if spec.output == "labels":
        return f"$lambda p: torch.tensor({[0, *values]}, device=p.device)[p.argmax(dim=0, keepdim=True).long()]"
    nested = functools.reduce(
        lambda rest, n: f"torch.where(p[{n}:{n + 1}] > {THRESHOLD}, {float(values[n])}, {rest})",
        range(len(values)),
        "torch.zeros_like(p[:1])",
    )
    return f"$lambda p: {nested}"
