"""Metadata of an ONNX file: enough to feed the network and interpret its output without any other file."""

from __future__ import annotations

import json
from typing import Any

from .. import __version__
from ..inference.sliding_window import OVERLAP, SIGMA_SHARE
from ..model_folder.spec import ModelSpec, Pathway
from ..preprocess.normalising import background_of
from ..result.regions import THRESHOLD
from ..strict_dataclass import to_plain

HOW_TO_FEED = (
    "1 Bring all images onto the grid of the first modality. 2 Let the array axes I, J, K point to 'orientation'. "
    "3 Crop to the box of voxels that are not background (MR: not 0; CT: above 'low') in some image. 4 Resample to "
    "'spacing_mm' so that the outer edges of both grids coincide: mean of the covered voxels when coarser, linear when "
    "finer. 5 Normalise each modality as 'normalisation' says: zscore_nonzero: mean 0 and deviation 1 over its voxels "
    "that are not 0, which stay 0; ct_window: clip to low and high, subtract mean, divide by std. 6 Stack in the order "
    "of 'modalities', axes K, J, I. 7 Windows of the input's size that overlap by half, smaller images padded with "
    "'background'; average the logits, weighted by a Gaussian of 'gaussian_sigma_share' of the window. 8 Apply "
    "'activation'; resample the probabilities "
    "back. 9 regions: write label_value where the probability is above 'threshold', later regions over earlier ones; "
    "labels: the most probable channel, channel 0 is background."
)


def metadata_of(spec: ModelSpec, name: str) -> dict[str, str]:
    """`metadata_props` for a pathway's file; values other than text are JSON."""
    table = _table(spec, name, spec.pathways[name])
    return {
        key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for key, value in table.items()
    }


def _table(spec: ModelSpec, name: str, pathway: Pathway) -> dict[str, Any]:
    preprocessing, modalities = spec.preprocessing, list(pathway.modalities)
    return {
        "model_name": spec.name,
        "model_version": spec.version,
        "task": spec.task,
        "pathway": name,
        "architecture": pathway.architecture,
        "weights_sha256": [member.sha256 for member in pathway.members],
        "written_by": f"SlicerDANTE {__version__}",
        "how_to_feed": HOW_TO_FEED,
        "input_axes": "batch, modality, K, J, I",
        "modalities": modalities,
        "modality_labels": [spec.modality(modality).label for modality in modalities],
        "orientation": preprocessing.orientation,
        "spacing_mm": list(preprocessing.spacing_mm),
        "normalisation": {modality: to_plain(preprocessing.normalisation[modality]) for modality in modalities},
        "background": list(background_of(preprocessing, modalities).values),
        "window": list(spec.patch),
        "overlap": OVERLAP,
        "gaussian_sigma_share": SIGMA_SHARE,
        "output": spec.output,
        "activation": "sigmoid" if spec.output == "regions" else "softmax",
        "threshold": THRESHOLD,
        "regions": [to_plain(region) for region in spec.regions],
        # Displayed probabilities are sigmoid(logit(p) / temperature + offset); masks are made from the raw ones.
        "scaling": {region.id: to_plain(pathway.scaling_of(region.id)) for region in spec.regions},
        "calibration": {region: to_plain(found) for region, found in pathway.calibration.items()},
        "scores": to_plain(spec.scores),
        "licence": spec.licence,
        "citations": list(spec.citations),
        "intended_use": spec.intended_use,
        "training_data": spec.training_data,
    }
