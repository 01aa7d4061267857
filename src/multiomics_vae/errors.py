"""Errors of the toolkit, and the sentence that helps a person out of a typo.

Every error says what is wrong, where, the value seen, and a line to paste that mends it. Catch
`MultiomicsError` to catch them all.
"""

from __future__ import annotations

import difflib
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path

_PACKAGE = str(Path(__file__).parent)


class MultiomicsError(Exception):
    """Base of all errors that this package raises on purpose."""


class InputError(MultiomicsError, ValueError):
    """The data or an argument cannot be used as it is."""


class NotFittedError(MultiomicsError, RuntimeError):
    """A question was asked of a model that has not been trained."""


class TrainingDivergedError(MultiomicsError, RuntimeError):
    """A term of the loss, or a gradient, stopped being finite; the last good weights are kept."""


class CheckpointError(MultiomicsError, RuntimeError):
    """A saved model is damaged, foreign, or of a format that this version does not read."""


class DeviceError(MultiomicsError, RuntimeError):
    """The accelerator that was asked for is absent or out of memory."""


class UnsupportedError(MultiomicsError, NotImplementedError):
    """Something that scvi-tools' models have and a model of this package has not."""


class MultiomicsWarning(UserWarning):
    """Something was handled that a person should know of."""


def is_out_of_memory(error: BaseException) -> bool:
    """True if an error says that memory ran out, of whatever device and library."""
    # torch has a class of its own for CUDA only; it is not imported here, which would take seconds.
    words = ("out of memory", "can't allocate memory", "not enough memory")
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or any(word in str(error) for word in words)
    )


def did_you_mean(name: object, allowed: Iterable[object]) -> str:
    """Return the end of an error message: the closest allowed name, and all of them.

    Upper and lower case count as the same, unless allowed names differ in nothing else.

    Parameters
    ----------
    name
        What the user wrote.
    allowed
        What could have been meant.

    Examples
    --------
    >>> did_you_mean("rma", ["rna", "atac"])
    "Did you mean 'rna'? Allowed: 'atac', 'rna'."
    >>> did_you_mean("RNA", ["rna", "atac"])
    "Did you mean 'rna'? Allowed: 'atac', 'rna'."
    """
    choices = sorted({str(choice) for choice in allowed})
    if not choices:
        return "There is nothing to choose from."
    close = _closest(str(name), choices)
    guess = f"Did you mean {close!r}? " if close is not None else ""
    shown = ", ".join(repr(choice) for choice in choices[:20])
    more = f", … ({len(choices)} in all)" if len(choices) > 20 else ""
    return f"{guess}Allowed: {shown}{more}."


def _closest(name: str, choices: list[str]) -> str | None:
    """The choice that is closest to a name whatever its case; among equals the closest as it is written."""
    folded: dict[str, list[str]] = {}
    for choice in choices:
        folded.setdefault(choice.casefold(), []).append(choice)
    close = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.5)
    if not close:
        return None
    return max(folded[close[0]], key=lambda choice: difflib.SequenceMatcher(None, name, choice).ratio())


def warn(message: str) -> None:
    """Issue a `MultiomicsWarning` that points at the user's line, outside this package."""
    depth = 2
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame, depth = frame.f_back, depth + 1
    warnings.warn(message, MultiomicsWarning, stacklevel=depth)
