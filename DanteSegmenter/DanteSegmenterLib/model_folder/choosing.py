"""Choose the pathway for the given modalities, and check whether a raw study can be prepared for a model."""

from __future__ import annotations

from collections.abc import Collection

from ..errors import InputError
from .spec import ModelSpec, Pathway


def choose_pathway(spec: ModelSpec, given: Collection[str], limited: bool = False) -> tuple[Pathway, tuple[str, ...]]:
    """The pathway for these modality ids: f_F if the model has it and all its inputs are given, else f_L.

    Args:
        limited: always choose f_L.

    Returns:
        the pathway and messages to the user about the choice.

    Raises:
        InputError: a modality is missing or unknown.
    """
    known = [modality.id for modality in spec.modalities]
    unknown = [modality for modality in given if modality not in known]
    if unknown:
        raise InputError(f"unknown modality {', '.join(unknown)}; '{spec.name}' knows {', '.join(known)}.")
    if not limited and spec.full is not None and set(spec.full.modalities) <= set(given):
        extra = [m.label for m in spec.modalities if m.id in given and m.id not in spec.limited.modalities]
        return spec.full, (f"{', '.join(extra)} is given: the full-modality network was used.",)
    missing = [modality for modality in spec.limited.modalities if modality not in given]
    if missing:
        raise InputError(
            f"missing: {', '.join(missing)}. '{spec.name}' needs {', '.join(spec.limited.modalities)}; "
            f"given: {', '.join(given) or 'nothing'}."
        )
    ignored = [spec.modality(modality).label for modality in given if modality not in spec.limited.modalities]
    return spec.limited, (f"{', '.join(ignored)} is not used by this model.",) if ignored else ()


def check_can_prepare(spec: ModelSpec) -> None:
    """Check that registration and brain extraction make sense for a model.

    Raises:
        InputError: the model is not for skull-stripped volumes.
    """
    if not spec.skull_stripped:
        raise InputError(
            f"Prepare is for brains in MR: it aligns the volumes and cuts out the brain. '{spec.name}' reads something "
            "else. Segment without it."
        )
