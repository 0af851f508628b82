"""Guess a volume's modality from its name: that of a node, a file, or a DICOM SeriesDescription.

In the GUI the guess is a default that the user sees and can change; in a folder it decides. It therefore prefers no
answer to a wrong one: names that it does not understand, and choices between equally good volumes, stay open.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from functools import lru_cache

from . import vocabulary as words


def guess_modality(name: str) -> str | None:
    """One of "t1", "t1ce", "t2", "flair", "nct", "ctpa"; None if the name is not conclusive."""
    return guess_from_words(words_of(name))


def guess_from_words(spoken: Sequence[str]) -> str | None:
    """Like `guess_modality`, from the result of `words_of`."""
    known = set(spoken)
    if known & words.OTHER:
        return None
    contrast, native = contrast_mentioned(spoken)
    if known & (words.CT | words.NATIVE_CT | words.CONTRAST_CT):
        return _guess_ct(known, contrast, native)
    return _guess_mr(known, contrast, native)


def assign(names: Sequence[str], modalities: Sequence[str]) -> dict[str, int | None]:
    """Assign a volume to every modality.

    Args:
        names: names of the available volumes.
        modalities: ids to find a volume for.

    Returns:
        For every modality the index of a name, each used at most once, or None. Among several candidates, the one whose
        remaining words match the most other modalities is chosen (same patient, same plane); None if two are equally
        good.
    """
    guesses = [guess_modality(name) for name in names]
    rests = [_rest(name) for name in names]
    found: dict[str, int | None] = {}
    for modality in modalities:
        candidates = [n for n, guess in enumerate(guesses) if guess == modality]
        scores = [_companions(n, rests, guesses, modalities) for n in candidates]
        best = [n for n, score in zip(candidates, scores) if score == max(scores)]
        found[modality] = best[0] if len(best) == 1 else None
    return found


def same_patient(names: Sequence[str], name: str) -> list[int]:
    """Indices of the names that differ from `name` only in words that indicate the modality."""
    rest = _rest(name)
    return [n for n, other in enumerate(names) if _rest(other) == rest]


def doubts_of_names(names: Mapping[str, str], labels: Mapping[str, str]) -> tuple[str, ...]:
    """Warnings for volumes whose name indicates another modality than the one they were given as.

    Args:
        names: volume names by the modality id that each was given as.
        labels: display names of the model's modalities by id.
    """
    guesses = {modality: guess_modality(name) for modality, name in names.items()}
    return tuple(
        f"WARNING: '{names[modality]}' was given as {labels[modality]}, but its name says {labels[guess]}. If the name "
        f"is right, choose another volume for {labels[modality]}: the result cannot be relied on."
        for modality, guess in guesses.items()
        if guess is not None and guess in labels and guess != modality
    )


@lru_cache(maxsize=4096)  # the GUI asks for the same names repeatedly
def words_of(name: str) -> tuple[str, ...]:
    """Split into lower-case words without accents, also where words are joined: "BraTS_T1ce" -> brats, t1, ce."""
    text = unicodedata.normalize("NFKD", name).lower()
    text = "".join(letter for letter in text if not unicodedata.combining(letter))
    for pattern, spelt_out in words.SPELLINGS:
        text = re.sub(pattern, spelt_out, text)
    return tuple(word for piece in re.split(r"[^a-z0-9]+", text) if piece for word in _unglue(piece))


def _guess_mr(known: set[str], contrast: bool, native: bool) -> str | None:
    t1 = "t1" in known or (bool(known & words.T1_SEQUENCES) and "t2" not in known and not known & words.FLAIR)
    if known & words.FLAIR and not t1:
        return "flair"
    if t1 and "t2" in known:
        return None
    if t1:  # "T1 FLAIR" is T1-weighted too
        return None if contrast and native else "t1ce" if contrast else "t1"
    if "t2" in known:
        return None if known & words.NOT_WITH_T2 else "t2"
    return "t1ce" if known & words.GADOLINIUM and contrast and not native else None


def _guess_ct(known: set[str], contrast: bool, native: bool) -> str | None:
    contrast, native = contrast or bool(known & words.CONTRAST_CT), native or bool(known & words.NATIVE_CT)
    return None if contrast == native else "ctpa" if contrast else "nct"


def contrast_mentioned(spoken: Sequence[str]) -> tuple[bool, bool]:
    """Whether the words say that contrast was given, and whether they say that it was not; "pre and post" says both.

    So does a T1 with a mark that may stand for contrast: "T1 FS +", "T1 after XY".
    """
    return (True, True) if left_open(spoken) else _plainly_mentioned(without_marks(spoken))


def left_open(spoken: Sequence[str]) -> bool:
    """Whether the words of a T1 include a possible hint of contrast, but no clear statement."""
    return not _plainly_mentioned(without_marks(spoken))[0] and _left_open(spoken)


def _plainly_mentioned(spoken: Sequence[str]) -> tuple[bool, bool]:
    contrast = native = False
    negated: set[int] = set()
    for n, word in enumerate(spoken):
        following = spoken[n + 1] if n + 1 < len(spoken) else ""
        if word in words.AMBIGUOUS:
            return True, True
        if word in words.PRE:
            native |= not following.startswith(words.TREATMENTS)
        elif word in words.POST:
            contrast |= not following.startswith(words.TREATMENTS)
        elif word in words.NATIVE or (word in words.CONTRAST and following in words.NONE_OF_IT):
            native = True
        elif word in words.CONTRAST and n not in negated:
            contrast = True
        elif word in words.WITH and _after(spoken, n + 1, words.AND) in words.WITHOUT:
            contrast = True  # "with and without contrast"
        if word in words.NEGATIONS or word in words.PRE:
            denies, those = _denied(spoken, n + 1)
            native |= denies or (not following and word in words.WITHOUT)
            negated |= those
    return contrast, native


def without_marks(spoken: Sequence[str]) -> list[str]:
    """Remove "+"; replace "cm" and "k" by a word where they mean contrast, and remove them where they do not."""
    meant = (("km" if _is_agent(spoken, n) else "") if word in words.WEAK else word for n, word in enumerate(spoken))
    return [word for word in meant if word and word not in words.PLUS]


def _is_agent(spoken: Sequence[str], n: int) -> bool:
    """Whether "cm" or "k" at `n` means contrast, rather than a length or initials before the weighting."""
    before, following = _neighbours(spoken, n)
    added = before == "plus" or following == "plusbehind"
    led = before in words.WITH | words.AFTER | words.POST | words.NEGATIONS | words.PRE
    if words.WEIGHTINGS & set(spoken[n:]) and not words.WEIGHTINGS & set(spoken[:n]):
        return added or led
    return added or led or before == "plusbetween" or (spoken[n] == "cm" and not before.isdigit())


def _left_open(spoken: Sequence[str]) -> bool:
    """Whether something after the name of a T1 may mean contrast, or something else."""
    begin = next((n for n, word in enumerate(spoken) if word == "t1" or word in words.T1_SEQUENCES), len(spoken))
    return any(_may_be_contrast(spoken, n) for n in range(begin + 1, len(spoken)))


def _may_be_contrast(spoken: Sequence[str], n: int) -> bool:
    word = spoken[n]
    before, following = _neighbours(spoken, n)
    if word in words.JOINING:
        if following in words.PLANES or following.isdigit():  # "sag + cor", "1+2"; but "T1 + sag", "T1 + 5 min"
            return not (before in words.PLANES if following in words.PLANES else before.isdigit())
        return following not in words.TECHNIQUE | words.WEIGHTINGS
    if word in words.WITH | words.AFTER:
        return _with_something_unknown(spoken, n)
    return word in words.UNCLEAR or word == "plusbehind" or (word == "cm" and before.isdigit())


def _with_something_unknown(spoken: Sequence[str], n: int) -> bool:
    """ "T1 with XY", "T1 nach"; not "T1 with fat sat", "T1 after surgery", nor the "w" of "weighted" and of water."""
    passed_over = words.WITH | words.AFTER | words.AND | words.FILLERS | words.PLUS
    following = _after(spoken, n + 1, passed_over)
    if len(spoken[n]) == 1 and (not following.isalpha() or any(word.endswith("dixon") for word in spoken)):
        return False
    known = words.TECHNIQUE | words.TELLING | words.PLANES | words.OTHER
    return following not in known and not following.startswith(words.TREATMENTS)


def _neighbours(spoken: Sequence[str], n: int) -> tuple[str, str]:
    return spoken[n - 1] if n else "", spoken[n + 1] if n + 1 < len(spoken) else ""


def _denied(spoken: Sequence[str], begin: int) -> tuple[bool, set[int]]:
    """Whether a negation before `begin` is about contrast, and which words for contrast it negates.

    "without and with contrast" and "before and after contrast" are about contrast, but negate none of it.
    """
    shared = False
    given = words.WITH | words.AFTER
    while begin < len(spoken) and spoken[begin] in words.FILLERS | words.AND | given:
        shared |= spoken[begin] in given
        begin += 1
    end = begin
    while end < len(spoken) and spoken[end] in words.CONTRAST | words.FILLERS:
        end += 1
    return end > begin, set() if shared else set(range(begin, end))


def _after(spoken: Sequence[str], begin: int, passed_over: set[str]) -> str:
    return next((word for word in spoken[begin:] if word not in passed_over), "")


def _unglue(piece: str) -> list[str]:
    """ "t1ce" -> t1, ce; "axt1" -> ax, t1; "mprage3d" -> mprage, 3d; anything else stays whole."""
    match = re.fullmatch(r"([a-z]*?|3d)(t[12])(?!\d)([a-z0-9]*)", piece)
    before = _before_weighting(match[1]) if match else None
    if match is None or before is None:
        return _in_known_words(piece) or [_inflected(piece)]
    after = _after_weighting(match[2], match[3])
    return [piece] if after is None else [*before, match[2], *after]


def _before_weighting(letters: str) -> list[str] | None:
    if letters in words.PLANES:
        return [letters]
    word = words.BEFORE_WEIGHTING.get(letters)
    return None if word is None else [word] if word else []


def _after_weighting(weighting: str, letters: str) -> list[str] | None:
    endings = words.AFTER_T1 if weighting == "t1" else words.AFTER_T2
    for rest in (letters, letters.removeprefix("w"), letters.removeprefix("wi")):
        if rest in endings:
            return [endings[rest]] if endings[rest] else []
        known = _in_known_words(rest)
        if known:
            return known
    return None


def _inflected(piece: str) -> str:
    """Reduce inflected forms such as "kontrastu", "contrastee" or "kontraście" to one word."""
    return next((word for beginning, word in words.STEMS if piece.startswith(beginning)), piece)


@lru_cache(maxsize=4096)
def _known_words(piece: str) -> tuple[str, ...] | None:
    """Split into the fewest words of the vocabulary, with numbers in between; None if that is impossible."""
    if not piece:
        return ()
    found = None
    for end in range(len(piece), 0, -1):
        start = piece[:end]
        if start in words.GLUABLE or start.isdigit():
            rest = _known_words(piece[end:])
            if rest is not None and (found is None or len(rest) + 1 < len(found)):
                found = (start, *rest)
    return found


def _in_known_words(piece: str) -> list[str]:
    return list(_known_words(piece) or ()) if len(piece) < 40 else []


def _rest(name: str) -> frozenset[str]:
    """The words of a name without those that indicate the modality, and without a series number "5: "."""
    telling = words.TELLING - words.AND - words.FILLERS  # "e" and "d" may be patients, too
    return frozenset(without_marks(words_of(re.sub(r"^\s*\d+\s*:", "", name)))) - telling


def _companions(
    candidate: int, rests: list[frozenset[str]], guesses: list[str | None], modalities: Sequence[str]
) -> int:
    same = {guess for guess, rest in zip(guesses, rests) if rest == rests[candidate]}
    return len(same & set(modalities) - {guesses[candidate]})
