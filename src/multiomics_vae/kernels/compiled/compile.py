"""How the loops over single entries are compiled: at first use, for the processor they run on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])

# Sums may be taken in any order, which is what lets a loop use vector instructions. Not-a-number and
# infinity keep their meaning: a diverged training must be seen.
LOOP_MATHEMATICS = {"reassoc", "contract", "nsz", "arcp"}
# Differences that recover a rounding error would be "simplified" to 0 if sums could be regrouped.
EXACT_MATHEMATICS = {"contract"}


def _fingerprint() -> str:
    texts = [path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py"))]
    return hashlib.sha256(b"".join(texts)).hexdigest()[:12]


SOURCES = _fingerprint()


def compiled_loop(function: Function) -> Function:
    """Compile a function of arrays that loops over their entries; it lets go of Python's lock.

    Parameters
    ----------
    function
        Of numpy arrays and numbers.

    Examples
    --------
    >>> import numpy as np
    >>> @compiled_loop
    ... def total(values):
    ...     result = 0.0
    ...     for value in values:
    ...         result += value
    ...     return result
    >>> float(total(np.arange(4.0)))
    6.0
    """
    return _compiled(function, LOOP_MATHEMATICS)


def compiled_formula(function: Function) -> Function:
    """Compile a function of numbers, to be called in a `compiled_loop`; its sums are taken as written."""
    return _compiled(function, EXACT_MATHEMATICS)


def inlined_formula(function: Function) -> Function:
    """As `compiled_formula`, for a long one: it becomes part of the loop, whose rules for sums it takes."""
    return cast(Function, numba.njit(inline="always")(function))


def _compiled(function: Function, mathematics: set[str]) -> Function:
    # Machine code is kept under this name, and thrown away when the function's own file changes. The name
    # makes that true of the formulas too, which are compiled into it and lie in other files.
    function.__qualname__ = f"{function.__qualname__}_{SOURCES}"

    def compile_(cache: bool) -> Function:
        made = numba.njit(fastmath=mathematics, error_model="numpy", nogil=True, cache=cache)(function)
        return cast(Function, made)

    try:
        return compile_(cache=True)
    except RuntimeError:
        # Nowhere to keep machine code: neither beside this file nor in the user's cache folder can be
        # written to. It is then compiled in every process.
        return compile_(cache=False)
