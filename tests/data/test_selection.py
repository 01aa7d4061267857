"""Cells, features, modalities and batches from whatever a user names them by."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from multiomics_vae.data.registration import SetupOptions, register
from multiomics_vae.data.selection import (
    select_batches,
    select_cells,
    select_features,
    select_modalities,
    select_modality,
)
from multiomics_vae.errors import InputError
from strategies import make_mdata

DATA = register(make_mdata(), SetupOptions(batch_key="batch"))
SCHEMA = DATA.schema


@pytest.mark.parametrize(
    ("indices", "expected"),
    [
        (None, list(range(12))),
        ([], []),
        ([3, 1, 1], [3, 1, 1]),
        ([-1, -12], [11, 0]),
        (range(2), [0, 1]),
        (np.array([200, 4], dtype=np.uint8) % 100, [0, 4]),
        (np.arange(12) > 9, [10, 11]),
        ([True] + [False] * 11, [0]),
        (pd.Series(np.arange(12) < 1), [0]),
        (["c7", "c2"], [7, 2]),
        (pd.Index(["c7"]), [7]),
        (pd.Series(["c7"], dtype="category"), [7]),
    ],
)
def test_cells(indices: Any, expected: list[int]) -> None:
    found = select_cells(DATA, indices)
    assert found.dtype == np.int64
    assert found.tolist() == expected


@pytest.mark.parametrize(
    ("indices", "match"),
    [
        (3, "one list"),
        ("c3", "one list"),
        ([[3]], r"shape \(1, 1\)"),
        ([True], r"mask of 1 entries, but there are 12 cells.*to_numpy\(\)"),
        ([12], r"reaches 12, but there are 12 cells: indices=range\(12\)"),
        ([-13], "reaches -13"),
        (["c3", "c99", "x"], r"'c99' that is not there \(2 of 3 are unknown\)\. Did you mean"),
    ],
)
def test_cells_that_are_not_there(indices: Any, match: str) -> None:
    with pytest.raises(InputError, match=match):
        select_cells(DATA, indices)


def test_modalities() -> None:
    assert select_modality(SCHEMA, "atac")[0] == 1
    assert select_modalities(SCHEMA, None) is None
    assert select_modalities(SCHEMA, ["atac", "rna", "atac"]) == (0, 1)
    assert select_modalities(SCHEMA, iter(["atac"])) == (1,)
    with pytest.raises(InputError, match=r"no modality 'atak'\. Did you mean 'atac'"):
        select_modality(SCHEMA, "atak")
    with pytest.raises(InputError, match=r"modalities=\['rna'\]"):
        select_modalities(SCHEMA, "rna")
    with pytest.raises(InputError, match="modalities is empty"):
        select_modalities(SCHEMA, [])


def test_features() -> None:
    rna = SCHEMA.modalities[0]
    assert select_features(rna, None).tolist() == [0, 1, 2, 3, 4]
    assert select_features(rna, ["rna:f3", "rna:f0", "rna:f3"]).tolist() == [3, 0, 3]
    assert select_features(rna, []).tolist() == []
    with pytest.raises(InputError, match=r"'rna' has no feature 'rna:f9' \(1 of 2.*Did you mean"):
        select_features(rna, ["rna:f0", "rna:f9"])
    with pytest.raises(InputError, match=r"features=\['rna:f0'\]"):
        select_features(rna, "rna:f0")


def test_batches() -> None:
    assert select_batches(SCHEMA, None) is None
    assert select_batches(SCHEMA, "b1") == (1,)
    assert select_batches(SCHEMA, ["b1", "b0"]) == (1, 0)
    with pytest.raises(InputError, match=r"no batch 'b2' in 'batch'\. Did you mean"):
        select_batches(SCHEMA, ["b0", "b2"])
    with pytest.raises(InputError, match="no batch '2'"):
        select_batches(SCHEMA, 2)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"transform_batch is empty.*transform_batch='b0'"):
        select_batches(SCHEMA, [])
    with pytest.raises(InputError, match="batch_key="):
        select_batches(register(make_mdata()).schema, "b0")


def test_numbered_batches_are_named_by_their_numbers() -> None:
    mdata = make_mdata()
    mdata.obs["batch"] = np.arange(12) % 2 + 3
    schema = register(mdata, SetupOptions(batch_key="batch")).schema
    assert select_batches(schema, 4) == select_batches(schema, "4") == (1,)  # type: ignore[arg-type]
