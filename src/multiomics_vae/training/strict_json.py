"""JSON written strictly, and read without trust.

What the reader refuses, it refuses before it builds anything, and it reads back all that the writer
accepts.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from multiomics_vae.errors import CheckpointError
from multiomics_vae.training.untrusted import MEND, shown, what_it_looks_like

MAX_DEPTH = 32
MAX_INTEGER = 2**64

_NOT_BRACKETS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?|[^\[\]{}"]+', re.DOTALL)


def json_bytes(document: Mapping[str, Any], where: str, max_bytes: int, nan_as_null: bool = False) -> bytes:
    r"""Return a JSON object as bytes: strict JSON, ASCII, keys in the given order.

    Parameters
    ----------
    document
        Mappings with string keys, lists, tuples (written as lists), strings, numbers, booleans, None.
    where
        What it is, as errors call it.
    max_bytes
        Size above which it is refused.
    nan_as_null
        Write a number that is not finite as null; otherwise it is refused.

    Raises
    ------
    CheckpointError
        If something in it is not JSON, with its place.

    Examples
    --------
    >>> json_bytes({"n_latent": 20}, "config", 100)
    b'{\n "n_latent": 20\n}\n'
    """
    if not isinstance(document, Mapping):
        raise CheckpointError(f"{where} must be a mapping, not {type(document).__name__}.")
    plain = _plain(document, where, MAX_DEPTH, nan_as_null)
    data = (json.dumps(plain, indent=1, allow_nan=False) + "\n").encode("ascii")
    if len(data) > max_bytes:
        raise CheckpointError(
            f"{where} takes {len(data):,} bytes as JSON; at most {max_bytes:,} can be saved."
        )
    return data


def parse_json(data: bytes, path: Path) -> dict[str, Any]:
    """Read a JSON object strictly: no NaN, no duplicate keys, no deep nesting.

    Parameters
    ----------
    data
        Content of the file.
    path
        The file, for errors.

    Raises
    ------
    CheckpointError
        If it is anything else.

    Examples
    --------
    >>> parse_json(b'{"n_latent": 20}', Path("config.json"))
    {'n_latent': 20}
    """
    brackets = np.frombuffer(_NOT_BRACKETS.sub(b"", data), dtype=np.uint8)
    steps = np.where((brackets == ord("[")) | (brackets == ord("{")), 1, -1).astype(np.int8)
    if steps.cumsum(dtype=np.int32).max(initial=0) > MAX_DEPTH:
        raise CheckpointError(f"{path} is nested more than {MAX_DEPTH} levels deep. {MEND}")
    try:
        document = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_int=_below_limit,
            parse_float=_finite,
            parse_constant=_not_json,
        )
    except ValueError as error:  # of the decoder, the parser, or a hook
        raise CheckpointError(f"{path} is not JSON: {error}. {what_it_looks_like(data)}") from error
    if not isinstance(document, dict):
        raise CheckpointError(f"{path} must hold a JSON object, not a {type(document).__name__}. {MEND}")
    return document


def _plain(value: object, where: str, levels: int, nan_as_null: bool) -> object:
    """Return a value in JSON's own types, or refuse it with its place."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, float) and (nan_as_null or math.isfinite(value)):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, int) and abs(value) < MAX_INTEGER:
        return int(value)
    if isinstance(value, Mapping | list | tuple) and levels == 0:
        raise CheckpointError(f"{where} is nested more than {MAX_DEPTH} levels deep and cannot be saved.")
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {
            key: _plain(item, f"{where}[{key!r}]", levels - 1, nan_as_null) for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{i}]", levels - 1, nan_as_null) for i, item in enumerate(value)]
    raise CheckpointError(
        f"{where} is {shown(value)} ({type(value).__name__}), which JSON does not hold. Use finite numbers "
        "below 2**64, strings, booleans, None, lists, and mappings whose keys are strings; "
        "a numpy or torch value: .item() or .tolist()"
    )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a key occurs twice")
    return document


def _below_limit(text: str) -> int:
    if len(text) > 21 or abs(int(text)) >= MAX_INTEGER:
        raise ValueError(f"the number {text[:20]} is too large")
    return int(text)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:20]} is too large")
    return number


def _not_json(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a number in JSON")
