"""A schema as plain JSON types and back, with every type checked on the way in."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any, TypeVar

from multiomics_vae.data.schema import (
    OUTCOME_KINDS,
    CategoricalCovariate,
    ContinuousCovariate,
    ModalitySchema,
    OutcomeSchema,
    Schema,
)
from multiomics_vae.errors import CheckpointError

SCHEMA_VERSION = 2

Choice = TypeVar("Choice")


def to_json(schema: Schema) -> dict[str, Any]:
    """Write a schema as dictionaries, lists, strings, numbers, booleans and None.

    Examples
    --------
    >>> to_json(Schema(()))["version"]
    2
    """
    return {"version": SCHEMA_VERSION, **_lists(asdict(schema))}


def _lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _lists(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_lists(entry) for entry in value]
    return value


def from_json(document: object) -> Schema:
    """Read what `to_json` wrote.

    Raises
    ------
    CheckpointError
        Naming the entry that is missing, unknown or of the wrong type.
    """
    root = _Entry(document, "schema")
    version = root.integer("version")
    if version != SCHEMA_VERSION:
        raise CheckpointError(
            f"schema.version is {version}, this version of the package reads {SCHEMA_VERSION}. "
            "Upgrade it: `pip install --upgrade multiomics-vae`."
        )
    batch = root.optional_entry("batch")
    schema = Schema(
        modalities=tuple(_modality(entry) for entry in root.entries("modalities")),
        batch=None if batch is None else _categorical(batch),
        categorical=tuple(_categorical(entry) for entry in root.entries("categorical")),
        continuous=tuple(_continuous(entry) for entry in root.entries("continuous")),
        size_factor_key=root.optional_text("size_factor_key"),
        donor_key=root.optional_text("donor_key"),
        outcomes=tuple(_outcome(entry) for entry in root.entries("outcomes")),
        unlabelled=root.texts("unlabelled"),
    )
    root.refuse_unknown()
    _check_unique(tuple(outcome.name for outcome in schema.outcomes), "schema.outcomes")
    _check_unique(schema.modality_names, "schema.modalities")
    return schema


class _Entry:
    """One JSON object; remembers where it stands and which of its keys were read."""

    def __init__(self, value: object, place: str) -> None:
        if not isinstance(value, dict):
            raise CheckpointError(f"{place} must be an object, but is {type(value).__name__}.")
        self._value: dict[object, object] = value
        self._place = place
        self._read: set[str] = set()

    def _get(self, key: str, kinds: tuple[type, ...], meant: str) -> Any:
        if key not in self._value:
            raise CheckpointError(f"{self._place}.{key} is missing.")
        self._read.add(key)
        value = self._value[key]
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise CheckpointError(f"{self._place}.{key} must be {meant}, but is {type(value).__name__}.")
        return value

    def optional_entry(self, key: str) -> _Entry | None:
        value = self._get(key, (dict, type(None)), "an object or null")
        return None if value is None else _Entry(value, f"{self._place}.{key}")

    def text(self, key: str) -> str:
        return str(self._get(key, (str,), "a string"))

    def optional_text(self, key: str) -> str | None:
        value = self._get(key, (str, type(None)), "a string or null")
        return None if value is None else str(value)

    def one_of(self, key: str, allowed: tuple[Choice, ...]) -> Choice:
        value = self._get(key, (str,), "a string")
        for choice in allowed:
            if choice == value:
                return choice
        raise CheckpointError(f"{self._place}.{key} must be one of {', '.join(map(str, allowed))}.")

    def integer(self, key: str) -> int:
        return int(self._get(key, (int,), "a whole number"))

    def flag(self, key: str) -> bool:
        return bool(self._get(key, (bool,), "true or false"))

    def number(self, key: str) -> float:
        value = float(self._get(key, (int, float), "a number"))
        if not math.isfinite(value):
            raise CheckpointError(f"{self._place}.{key} must be finite, but is {value}.")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        values = self._get(key, (list,), "a list of strings")
        if not all(isinstance(value, str) for value in values):
            raise CheckpointError(f"{self._place}.{key} must be a list of strings.")
        _check_unique(tuple(values), f"{self._place}.{key}")
        return tuple(values)

    def entries(self, key: str) -> list[_Entry]:
        values = self._get(key, (list,), "a list")
        return [_Entry(value, f"{self._place}.{key}[{i}]") for i, value in enumerate(values)]

    def refuse_unknown(self) -> None:
        unknown = [key for key in self._value if key not in self._read]
        if unknown:
            raise CheckpointError(
                f"{self._place} has an entry {unknown[0]!r} that this version does not know."
            )


def _modality(entry: _Entry) -> ModalitySchema:
    found = ModalitySchema(
        name=entry.text("name"),
        likelihood=entry.text("likelihood"),
        layer=entry.optional_text("layer"),
        coverage_layer=entry.optional_text("coverage_layer"),
        features=entry.texts("features"),
        depth_from_values=entry.flag("depth_from_values"),
        depth_scale=entry.number("depth_scale"),
        note=entry.text("note"),
    )
    entry.refuse_unknown()
    return found


def _categorical(entry: _Entry) -> CategoricalCovariate:
    found = CategoricalCovariate(entry.text("key"), entry.texts("categories"))
    entry.refuse_unknown()
    return found


def _continuous(entry: _Entry) -> ContinuousCovariate:
    found = ContinuousCovariate(entry.text("key"), entry.number("mean"), entry.number("sd"))
    if found.sd <= 0:
        raise CheckpointError(f"schema.continuous {found.key!r}: sd must be positive, but is {found.sd:g}.")
    entry.refuse_unknown()
    return found


def _outcome(entry: _Entry) -> OutcomeSchema:
    found = OutcomeSchema(
        name=entry.text("name"),
        kind=entry.one_of("kind", OUTCOME_KINDS),
        keys=entry.texts("keys"),
        categories=entry.texts("categories"),
        mean=entry.number("mean"),
        sd=entry.number("sd"),
        time_scale=entry.number("time_scale"),
    )
    entry.refuse_unknown()
    place = f"schema.outcomes {found.name!r}"
    if min(found.sd, found.time_scale) <= 0:
        raise CheckpointError(f"{place}: sd and time_scale must be positive.")
    if len(found.keys) != found.n_columns:
        raise CheckpointError(f"{place}: a {found.kind} outcome has {found.n_columns} keys.")
    has_categories = found.kind not in ("continuous", "survival")
    fewest, most = (2, 2 if found.kind == "binary" else math.inf) if has_categories else (0, 0)
    if not fewest <= len(found.categories) <= most:
        raise CheckpointError(
            f"{place}: a {found.kind} outcome cannot have {len(found.categories)} categories."
        )
    return found


def _check_unique(names: tuple[str, ...], place: str) -> None:
    if len(set(names)) < len(names):
        raise CheckpointError(f"{place} holds the same name twice.")
