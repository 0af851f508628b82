"""Coded meaning of a segment, as stored by Slicer and exported to DICOM SEG."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import ModelError

# Slicer looks up a segment's codes in these lists; the codes themselves are SNOMED CT.
CATEGORY_CONTEXT = "Segmentation category and type - 3D Slicer General Anatomy list"
ANATOMY_CONTEXT = "Anatomic codes - DICOM master list"
SEPARATORS = "~^|"  # of codes, of their parts, and of a segment's tags in a file


@dataclass(frozen=True)
class Code:
    """A coded term, for example SCT 12738006 "Brain".

    Attributes:
        scheme: coding scheme, e.g. "SCT" for SNOMED CT.
        value: the code.
        meaning: the meaning in words.
    """

    scheme: str
    value: str
    meaning: str

    def __post_init__(self) -> None:
        for part in (self.scheme, self.value, self.meaning):
            if not isinstance(part, str) or not part or any(mark in part for mark in SEPARATORS):
                raise ModelError(f"a terminology code needs three non-empty texts without '~', '^' and '|'; got {self}")

    def __str__(self) -> str:
        return f"{self.scheme}^{self.value}^{self.meaning}"


@dataclass(frozen=True)
class Terminology:
    """Category, type and anatomical location of a segment.

    Attributes:
        category: e.g. 49755003 "Morphologically Altered Structure".
        type: e.g. 108369006 "Neoplasm".
        anatomy: e.g. 12738006 "Brain".
    """

    category: Code
    type: Code
    anatomy: Code

    def entry(self) -> str:
        """The seven `~`-separated fields of Slicer's TerminologyEntry tag."""
        no_modifier = "^^"
        fields = (CATEGORY_CONTEXT, self.category, self.type, no_modifier, ANATOMY_CONTEXT, self.anatomy, no_modifier)
        return "~".join(str(field) for field in fields)
