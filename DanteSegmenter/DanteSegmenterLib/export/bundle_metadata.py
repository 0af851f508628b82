"""A bundle's `configs/metadata.json`, following MONAI's schema."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..model_folder.spec import ModelSpec
from .source import Source

SCHEMA_URL = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
# Versions that our bundles were run with.
MADE_FOR_MONAI = "1.6.1"
PACKAGES = {"nibabel": "5.4.2", "pytorch-ignite": "0.5.5", "fire": "0.7.1"}


def bundle_metadata(source: Source) -> dict[str, Any]:
    """The fields that MONAI's specification requires, and those that its model zoo shows."""
    spec, pathway = source.spec, source.pathway
    labels = [spec.modality(modality).label for modality in pathway.modalities]
    names = (["Background"] if spec.output == "labels" else []) + [region.name for region in spec.regions]
    ct = any(spec.preprocessing.normalisation[modality].hounsfield for modality in pathway.modalities)
    values = ", ".join(f"{region.label_value} {region.name}" for region in spec.regions)
    return {
        "schema": SCHEMA_URL,
        "version": spec.version,
        "changelog": {spec.version: "written by SlicerDANTE"},
        "monai_version": MADE_FOR_MONAI,
        "pytorch_version": torch.__version__.partition("+")[0],
        "numpy_version": np.__version__,
        "required_packages_version": PACKAGES,
        "optional_packages_version": {},
        "supported_apps": {},
        "name": spec.name,
        "task": f"{spec.task}: {', '.join(region.name for region in spec.regions)}",
        "description": f"Segments {', '.join(region.name for region in spec.regions)} from {', '.join(labels)}.",
        "authors": "the authors of the model; see docs/README.md",
        "copyright": spec.licence or "not stated",
        "data_source": spec.training_data or "not stated",
        "data_type": "nibabel",
        "image_classes": ", ".join(labels),
        "label_classes": values,
        "pred_classes": values,
        "eval_metrics": {
            f"{title}: {name}": value for title, table in spec.scores.items() for name, value in table.items()
        },
        "intended_use": spec.intended_use,
        "references": list(spec.citations),
        "network_data_format": {
            "inputs": {"image": _image("hounsfield" if ct else "magnitude", "CT" if ct else "MR", labels, spec)},
            "outputs": {"pred": _image("segmentation", "", names, spec)},
        },
    }


def _image(kind: str, modality: str, channels: list[str], spec: ModelSpec) -> dict[str, Any]:
    """One array of the network, in MONAI's axis order I, J, K."""
    return {
        "type": "image",
        "format": kind,
        **({"modality": modality} if modality else {}),
        "num_channels": len(channels),
        "spatial_shape": list(spec.patch[::-1]),
        "dtype": "float32",
        "value_range": [],
        "is_patch_data": True,
        "channel_def": {str(n): channel for n, channel in enumerate(channels)},
    }
