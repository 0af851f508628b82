"""A study's series -> one for each modality of a model: as taken, as asked for, or asked of the user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ..errors import InputError
from ..guard.plain_text import LONG, one_line
from ..model_folder.spec import ModelSpec
from .sequence_guess import MODALITIES, Taken, take
from .series import Series, Study
from .stack import Stack, stack_of

LEFT_OUT = "none"  # `--series t1ce=none`


@dataclass(frozen=True)
class Row:
    """A series in the table: what it was taken for, and whether it is a volume.

    Attributes:
        problem: why its slices are no volume; empty if they are.
    """

    series: Series
    taken: Taken
    stack: Stack | None
    problem: str

    @property
    def size(self) -> str:
        """Slices and spacing, for a sentence."""
        if self.stack is None:
            return f"{len(self.series.frames)} slices"
        return f"{len(self.stack.frames)} slices, {' x '.join(f'{mm:.3g}' for mm in self.stack.spacing_mm)} mm"

    @property
    def said(self) -> str:
        return f"{self.series.said} ({self.size}; {self.series.uid})"

    def plain(self) -> dict[str, object]:
        """As JSON has it."""
        return {
            "number": self.series.number,
            "uid": self.series.uid,
            "description": self.series.description,
            "dicom_modality": self.series.acquisition.modality,
            "slices": len(self.series.frames),
            "spacing_mm": None if self.stack is None else [round(mm, 6) for mm in self.stack.spacing_mm],
            "taken_for": self.taken.kind,
            "why": list(self.taken.reasons),
            "problem": self.problem,
        }

    @property
    def line(self) -> str:
        """As a terminal shows it."""
        number = "-" if self.series.number is None else str(self.series.number)
        why = "; ".join([*self.taken.reasons, *([f"cannot be used: {self.problem}"] if self.problem else [])])
        name = f"{self.series.description or '-'} ({self.size})"
        return f"{number:>5}  {self.taken.kind or 'unclear':<10}  {one_line(name)}  [{one_line(why, LONG)}]"


def table(study: Study) -> list[Row]:
    """Every series of a study, with what it was taken for; slices are looked at where it may be one of ours."""
    rows = []
    for series in study.series:
        taken = take(series)
        stack, problem = None, ""
        if taken.modality or not taken.kind:
            try:
                stack = stack_of(series)
            except InputError as error:
                problem = str(error)
        rows.append(Row(series, taken, stack, problem))
    return rows


def choose_series(rows: Sequence[Row], spec: ModelSpec, asked: Mapping[str, str], command: str = "") -> dict[str, Row]:
    """A series for every modality of the model for which there is one.

    Args:
        asked: by modality id, a series' number or UID, or "none".
        command: by which the user can ask for a series, where this is not the command that is running.

    Raises:
        InputError: a modality has several series, one that is needed has none, or what was asked for is not there.
    """
    known = [modality.id for modality in spec.modalities]
    for modality in asked:
        if modality not in known:
            raise InputError(f"--series {modality}: '{spec.name}' knows {', '.join(known)}.")
    chosen: dict[str, Row] = {}
    for modality in known:
        if modality in asked:
            found = _asked_for(rows, modality, asked[modality])
        else:
            found = _taken_for(rows, modality, command)
        if found is not None:
            chosen[modality] = found
    _check_chosen(chosen)
    missing = [modality for modality in spec.limited.modalities if modality not in chosen]
    if missing:
        taken = {row.series.uid for row in chosen.values()}
        raise InputError(_missing(missing, rows, [row for row in rows if row.series.uid not in taken], command))
    return chosen


def notes_of(chosen: Mapping[str, Row]) -> dict[str, tuple[str, ...]]:
    """By modality, what a user should know of the choice."""
    notes: dict[str, tuple[str, ...]] = {}
    first = next(iter(chosen.values()))
    for modality, row in chosen.items():
        notes[modality] = (f"{row.series.said} was taken for {modality}: {'; '.join(row.taken.reasons)}.",)
        if _place(row) != _place(first):
            notes[modality] += (
                f"WARNING: {row.series.said} and {first.series.said} have different frames of reference: the "
                "patient was placed anew between them, so what their headers say of places does not match. Prepare it.",
            )
    return notes


def _place(row: Row) -> str:
    return row.series.instances[0].frame_of_reference


def _taken_for(rows: Sequence[Row], modality: str, command: str) -> Row | None:
    candidates = [row for row in rows if row.taken.modality == modality]
    if len(candidates) > 1:
        listed = "; ".join(row.said for row in candidates)
        raise InputError(
            f"{len(candidates)} series are taken for {modality}: {listed}. {_asking(modality, command)} chooses."
        )
    return candidates[0] if candidates else None


def _asked_for(rows: Sequence[Row], modality: str, which: str) -> Row | None:
    if which == LEFT_OUT:
        return None
    found = [row for row in rows if which in (row.series.uid, str(row.series.number))]
    if not found:
        listed = "; ".join(row.series.said for row in rows)
        raise InputError(f"--series {modality}={which}: no such series; there are {listed}.")
    if len(found) > 1:
        listed = "; ".join(row.said for row in found)
        raise InputError(f"--series {modality}={which}: {len(found)} series have this number: {listed}. Give the UID.")
    return replace(found[0], taken=Taken(modality, ("it was asked for",)))


def _check_chosen(chosen: Mapping[str, Row]) -> None:
    """
    Raises:
        InputError: a chosen series is no volume, or was chosen twice.
    """
    first: dict[str, str] = {}
    for modality, row in chosen.items():
        if row.problem:
            raise InputError(row.problem)
        if row.stack is None:  # asked for, whatever it was taken for
            stack_of(row.series)
        other = first.setdefault(row.series.uid, modality)
        if other != modality:
            raise InputError(f"{row.series.said} is given as {other} and as {modality}; each needs its own.")


def _missing(missing: Sequence[str], rows: Sequence[Row], left: Sequence[Row], command: str) -> str:
    """What to say of modalities without a series; `left` are the series that are not taken for another."""
    none = f"no series was taken for {', '.join(missing)}"
    look = f"{_option('--list', command)} shows what each was taken for"
    if not left:
        return f"{none}, and all {len(rows)} are taken for others. Look whether the study is whole; {look}."
    open_ones = [row for row in left if not row.taken.kind] or [row for row in left if row.taken.modality in MODALITIES]
    listed = "; ".join(f"{row.said}: {'; '.join(row.taken.reasons)}" for row in open_ones)
    example = f", for example of {listed}" if listed else ""
    return f"{none}. {_asking(missing[0], command)} gives one{example}; {look}."


def _asking(modality: str, command: str) -> str:
    """How the user asks for a series."""
    option = _option(f"--series {modality}=NUMBER", command)
    return f"{f'Segment it alone: {option}' if command else option} (or UID)"


def _option(option: str, command: str) -> str:
    return f"{command} {option}" if command else option
