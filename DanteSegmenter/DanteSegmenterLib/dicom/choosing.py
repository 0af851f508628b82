"""Choose one of a study's series for each modality of a model: by guess, or as the user specifies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ..errors import InputError
from ..guard.plain_text import LONG, one_line
from ..model_folder.spec import ModelSpec
from .sequence_guess import MODALITIES, SeriesGuess, guess_series
from .series import Series, Study
from .stack import Stack, stack_of

LEFT_OUT = "none"  # `--series t1ce=none`


@dataclass(frozen=True)
class Row:
    """A series in the table of a study.

    Attributes:
        series: the series.
        guess: what it is, as far as its header shows.
        stack: its slices as a volume; None if they are not one, or were not read.
        problem: why its slices are not a volume; empty if they are.
    """

    series: Series
    guess: SeriesGuess
    stack: Stack | None
    problem: str

    @property
    def size(self) -> str:
        """Number of slices and spacing, for a sentence."""
        if self.stack is None:
            return f"{len(self.series.frames)} slices"
        return f"{len(self.stack.frames)} slices, {' x '.join(f'{mm:.3g}' for mm in self.stack.spacing_mm)} mm"

    @property
    def label(self) -> str:
        return f"{self.series.label} ({self.size}; {self.series.uid})"

    def plain(self) -> dict[str, object]:
        """The row as a JSON object."""
        return {
            "number": self.series.number,
            "uid": self.series.uid,
            "description": self.series.description,
            "dicom_modality": self.series.acquisition.modality,
            "slices": len(self.series.frames),
            "spacing_mm": None if self.stack is None else [round(mm, 6) for mm in self.stack.spacing_mm],
            "taken_for": self.guess.kind,
            "why": list(self.guess.reasons),
            "problem": self.problem,
        }

    @property
    def line(self) -> str:
        """The row as a line for a terminal."""
        number = "-" if self.series.number is None else str(self.series.number)
        why = "; ".join([*self.guess.reasons, *([f"cannot be used: {self.problem}"] if self.problem else [])])
        name = f"{self.series.description or '-'} ({self.size})"
        return f"{number:>5}  {self.guess.kind or 'unclear':<10}  {one_line(name)}  [{one_line(why, LONG)}]"


def table(study: Study) -> list[Row]:
    """All series of a study with guesses; slices are checked if the series may be one of our modalities."""
    rows = []
    for series in study.series:
        guess = guess_series(series)
        stack, problem = None, ""
        if guess.modality or not guess.kind:
            try:
                stack = stack_of(series)
            except InputError as error:
                problem = str(error)
        rows.append(Row(series, guess, stack, problem))
    return rows


def choose_series(rows: Sequence[Row], spec: ModelSpec, asked: Mapping[str, str], command: str = "") -> dict[str, Row]:
    """Choose a series for every modality of the model that has one.

    Args:
        asked: by modality id, a series' number or UID, or "none".
        command: command with which the user can specify a series, if it is not the running one.

    Raises:
        InputError: a modality has several series, a required one has none, or a specified series does not exist.
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
    """Notes on the choice for the user, by modality id."""
    notes: dict[str, tuple[str, ...]] = {}
    first = next(iter(chosen.values()))
    for modality, row in chosen.items():
        notes[modality] = (f"{row.series.label} was taken for {modality}: {'; '.join(row.guess.reasons)}.",)
        if _place(row) != _place(first):
            notes[modality] += (
                f"WARNING: {row.series.label} and {first.series.label} have different frames of reference: the "
                "patient was placed anew between them, so what their headers say of places does not match. Prepare it.",
            )
    return notes


def _place(row: Row) -> str:
    return row.series.instances[0].frame_of_reference


def _taken_for(rows: Sequence[Row], modality: str, command: str) -> Row | None:
    candidates = [row for row in rows if row.guess.modality == modality]
    if len(candidates) > 1:
        listed = "; ".join(row.label for row in candidates)
        raise InputError(
            f"{len(candidates)} series are taken for {modality}: {listed}. {_asking(modality, command)} chooses."
        )
    return candidates[0] if candidates else None


def _asked_for(rows: Sequence[Row], modality: str, which: str) -> Row | None:
    if which == LEFT_OUT:
        return None
    found = [row for row in rows if which in (row.series.uid, str(row.series.number))]
    if not found:
        listed = "; ".join(row.series.label for row in rows)
        raise InputError(f"--series {modality}={which}: no such series; there are {listed}.")
    if len(found) > 1:
        listed = "; ".join(row.label for row in found)
        raise InputError(f"--series {modality}={which}: {len(found)} series have this number: {listed}. Give the UID.")
    return replace(found[0], guess=SeriesGuess(modality, ("it was asked for",)))


def _check_chosen(chosen: Mapping[str, Row]) -> None:
    """Check the chosen series.

    Raises:
        InputError: a series is not a volume, or was chosen twice.
    """
    first: dict[str, str] = {}
    for modality, row in chosen.items():
        if row.problem:
            raise InputError(row.problem)
        if row.stack is None:  # specified by the user, whatever it was guessed to be
            stack_of(row.series)
        other = first.setdefault(row.series.uid, modality)
        if other != modality:
            raise InputError(f"{row.series.label} is given as {other} and as {modality}; each needs its own.")


def _missing(missing: Sequence[str], rows: Sequence[Row], left: Sequence[Row], command: str) -> str:
    """Message about modalities without a series; `left` are the series not used for another modality."""
    none = f"no series was taken for {', '.join(missing)}"
    look = f"{_option('--list', command)} shows what each was taken for"
    if not left:
        return f"{none}, and all {len(rows)} are taken for others. Look whether the study is whole; {look}."
    open_ones = [row for row in left if not row.guess.kind] or [row for row in left if row.guess.modality in MODALITIES]
    listed = "; ".join(f"{row.label}: {'; '.join(row.guess.reasons)}" for row in open_ones)
    example = f", for example of {listed}" if listed else ""
    return f"{none}. {_asking(missing[0], command)} gives one{example}; {look}."


def _asking(modality: str, command: str) -> str:
    """The option with which the user specifies a series."""
    option = _option(f"--series {modality}=NUMBER", command)
    return f"{f'Segment it alone: {option}' if command else option} (or UID)"


def _option(option: str, command: str) -> str:
    return f"{command} {option}" if command else option
