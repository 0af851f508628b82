"""A bundle's README and licence."""

from __future__ import annotations

from ..model_folder.about import about
from ..model_folder.spec import ModelSpec
from .agreement import Agreement
from .source import Source

HOMEPAGE = "https://github.com/SlicerDANTE/SlicerDANTE"


def readme(source: Source, found: Agreement) -> str:
    """`docs/README.md`: description of the model, how to run it, and the agreement of the bundle with the original."""
    spec = source.spec
    return f"""# {spec.name} {spec.version}, {source.name} pathway

{spec.intended_use}

## Run

    pip install "monai[fire,ignite,nibabel]"
    python -m monai.bundle run --config_file configs/inference.json --dataset_dir FOLDER --output_dir OUT

in this folder (from elsewhere: with this folder in PYTHONPATH and as `--bundle_root`). FOLDER has one folder a patient:

{_inputs(source)}

{_wanted(spec)} OUT then has a label map a patient, on the grid of the first image:

{_values(spec)}

## What is in it

{_contents(source)}
- {found}.

## About the model

{about(spec)}

Written by SlicerDANTE, {HOMEPAGE}.
"""


def _inputs(source: Source) -> str:
    modalities = source.pathway.modalities
    return "\n".join(f"- `{m}.nii.gz` or `NAME_{m}.nii.gz`: {source.spec.modality(m).label}" for m in modalities)


def _wanted(spec: ModelSpec) -> str:
    if spec.skull_stripped:
        return "All of one examination, registered, the skull taken away (0 outside the brain)."
    return "All of one examination, registered, in Hounsfield units."


def _values(spec: ModelSpec) -> str:
    """Meaning of each label value; a region also includes the voxels of regions inside it."""
    lines = []
    for region in spec.regions:
        within = [other.name for other in spec.regions if set(other.labels) < set(region.labels)]
        also = f" (which also has the voxels of: {', '.join(within)})" if within else ""
        lines.append(f"- {region.label_value}: {region.name}{also}")
    return "\n".join(lines)


def _contents(source: Source) -> str:
    image = ", ".join(["B", str(len(source.pathway.modalities)), *map(str, source.spec.patch[::-1])])
    weights = ", ".join(member.sha256 for member in source.pathway.members)
    return f"""- `models/model.ts`: the network as TorchScript, [{image}] -> logits, axes I, J, K, made of the weights
  with SHA-256 {weights}. A TorchScript file is a program: take it from those you trust.
- `scripts/dante.py`: what MONAI has no part for: a grid whose edges are those of the brain or body, with means where it
  is coarser, and windows that are spread evenly. With it the label map is SlicerDANTE's. MONAI's own `CropForegroundd`,
  `Spacingd` and `SlidingWindowInferer` run too, but give another one: on generated patients the Dice between both was
  0.98 to 0.99 for a brain tumour's regions and 0.89 for emboli."""


def licence_text(spec: ModelSpec) -> str:
    """`LICENSE`: the model's licence for the weights, ours for the rest."""
    return f"""Weights (models/): {spec.licence or "no licence was stated with the model"}

configs/, docs/ and scripts/: Copyright SlicerDANTE contributors. Licensed under the Apache License, Version 2.0; you
may obtain a copy at http://www.apache.org/licenses/LICENSE-2.0. Distributed on an "AS IS" BASIS, WITHOUT WARRANTIES OR
CONDITIONS OF ANY KIND, either express or implied.
"""
