"""Stand-in for slicer.i18n: every text stays English."""

from __future__ import annotations


def tr(text: str) -> str:
    return text


def translate(context: str, text: str) -> str:
    return text
