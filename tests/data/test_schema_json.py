"""A schema survives JSON, and nothing else is taken for one."""

from __future__ import annotations

import copy
import gc
import json
import weakref
from typing import Any

import pytest

from multiomics_vae.data.schema import (
    CategoricalCovariate,
    ContinuousCovariate,
    ModalitySchema,
    OutcomeSchema,
    Schema,
)
from multiomics_vae.data.schema_json import from_json, to_json
from multiomics_vae.data.setup_store import SetupStore
from multiomics_vae.errors import CheckpointError

SCHEMA = Schema(
    modalities=(
        ModalitySchema("rna", "nb", "counts", None, ("GAPDH", "γ"), False, 812.5, "named by you"),
        ModalitySchema("a/b", "beta_binomial", None, "coverage", ("x",)),
    ),
    batch=CategoricalCovariate("batch", ("1", "2")),
    categorical=(CategoricalCovariate("donor", ("d0",)),),
    continuous=(ContinuousCovariate("age", 41.25, 3.5),),
    size_factor_key="factor",
    donor_key="patient",
    outcomes=(
        OutcomeSchema("stage", "ordinal", ("stage",), ("I", "II", "III")),
        OutcomeSchema("age", "continuous", ("age",), mean=41.25, sd=3.5),
        OutcomeSchema("os", "survival", ("days", "dead"), time_scale=365.0),
    ),
    unlabelled=("unknown",),
)


@pytest.mark.parametrize("schema", [SCHEMA, Schema(SCHEMA.modalities[1:])])
def test_round_trip_through_text(schema: Schema) -> None:
    assert from_json(json.loads(json.dumps(to_json(schema), allow_nan=False))) == schema


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(leaf for key, entry in items for leaf in _leaves(entry, (*path, key)))]


@pytest.mark.parametrize("path", [path for path in _leaves(to_json(SCHEMA)) if path], ids=str)
def test_every_entry_is_checked_for_its_type(path: tuple[Any, ...]) -> None:
    for wrong in ({"no": 1}, [{}], float("nan"), b"bytes"):
        document = copy.deepcopy(to_json(SCHEMA))
        holder: Any = document
        for key in path[:-1]:
            holder = holder[key]
        holder[path[-1]] = wrong
        with pytest.raises(CheckpointError, match="schema"):
            from_json(document)


@pytest.mark.parametrize("path", [path for path in _leaves(to_json(SCHEMA)) if path], ids=str)
def test_no_entry_may_be_missing(path: tuple[Any, ...]) -> None:
    document: Any = copy.deepcopy(to_json(SCHEMA))
    holder = document
    for key in path[:-1]:
        holder = holder[key]
    if isinstance(holder, list):
        return
    del holder[path[-1]]
    with pytest.raises(CheckpointError, match=rf"{path[-1]} is missing"):
        from_json(document)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda d: d.update(version=3), r"version is 3.*pip install --upgrade"),
        (lambda d: d.update(version=True), r"schema\.version must be a whole number, but is bool"),
        (lambda d: d.update(extra=1), r"schema has an entry 'extra'"),
        (lambda d: d["modalities"][0].update(extra=1), r"schema\.modalities\[0\] has an entry 'extra'"),
        (
            lambda d: d["modalities"].append(d["modalities"][0]),
            r"schema\.modalities holds the same name twice",
        ),
        (
            lambda d: d["batch"]["categories"].append("1"),
            r"schema\.batch\.categories holds the same name twice",
        ),
        (lambda d: d["continuous"][0].update(sd=0), r"'age': sd must be positive"),
        (
            lambda d: d["modalities"][0].update(depth_from_values=1),
            r"depth_from_values must be true or false",
        ),
    ],
)
def test_documents_of_another_kind(change: Any, match: str) -> None:
    document = to_json(SCHEMA)
    change(document)
    with pytest.raises(CheckpointError, match=match):
        from_json(document)


@pytest.mark.parametrize("document", [None, [], "schema", 3])
def test_something_else_is_no_schema(document: object) -> None:
    with pytest.raises(CheckpointError, match="schema must be an object"):
        from_json(document)


class Owner:
    """Stands in for a MuData: can be copied, compared by identity, and weakly referenced."""


def test_store_forgets_with_its_owner_and_ignores_copies() -> None:
    store, owner = SetupStore[str](), Owner()
    store.put(owner, "first")
    store.put(owner, "second")
    assert store.get(owner) == "second"
    assert store.get(copy.copy(owner)) is None
    alive = weakref.ref(owner)
    del owner
    gc.collect()
    assert alive() is None, "the store kept its owner alive"
    assert len(store) == 0
