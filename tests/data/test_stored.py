"""Values left on disk are the values that are read into memory: same checks, same rows, same statistics."""

from __future__ import annotations

import multiprocessing
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anndata
import h5py
import mudata
import numpy as np
import pytest
import scipy.sparse as sp
import torch

from multiomics_vae.data import disk, stored
from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.data.options import SetupOptions
from multiomics_vae.data.registration import read, register
from multiomics_vae.data.statistics import feature_statistics
from multiomics_vae.data.stored import StoredRows
from multiomics_vae.errors import InputError
from small_models import make_cells
from strategies import make_mdata

KINDS = {
    "rna": "nb",
    "atac": "bernoulli",
    "real": "gaussian",
    "codes": "categorical",
    "meth": "beta_binomial",
}
OPTIONS = SetupOptions(
    likelihoods=KINDS, layers={"meth": None}, coverage_layers={"meth": "coverage"}, batch_key="batch"
)
Opened = tuple[mudata.MuData, mudata.MuData]


@pytest.fixture(autouse=True)
def small_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads of a few rows, so that small matrices are read in many pieces."""
    monkeypatch.setattr(stored, "SCAN_BYTES", 256)
    monkeypatch.setattr(stored, "RUN_BYTES", 300)
    monkeypatch.setattr(stored, "HOLE_BYTES", 60)


def cells_of_every_kind() -> mudata.MuData:
    mdata = make_cells(KINDS, n_cells=50, lacking={"rna": [1, 5, 7], "real": [40, 41]}, missing_entries=True)
    mdata["real"].X[3] = np.nan
    return mdata


def through_h5mu(mdata: mudata.MuData, folder: Path) -> mudata.MuData:
    mdata.write_h5mu(folder / "cells.h5mu")
    return mudata.read_h5mu(folder / "cells.h5mu", backed=True)


def through_chunked_h5mu(mdata: mudata.MuData, folder: Path) -> mudata.MuData:
    mdata.write_h5mu(folder / "cells.h5mu", compression="gzip")
    return mudata.read_h5mu(folder / "cells.h5mu", backed="r+")


def through_zarr(mdata: mudata.MuData, folder: Path) -> mudata.MuData:
    zarr = pytest.importorskip("zarr")
    mdata.write_zarr(folder / "cells.zarr")
    store = zarr.open(folder / "cells.zarr", mode="r")
    parts = {}
    for name, adata in mdata.mod.items():
        sparse = sp.issparse(adata.X)
        x = store[f"mod/{name}/X"]
        parts[name] = anndata.AnnData(
            anndata.io.sparse_dataset(x) if sparse else x, obs=adata.obs, var=adata.var
        )
        for layer in adata.layers:
            there = store[f"mod/{name}/layers/{layer}"]
            is_array = isinstance(there, zarr.Array)
            parts[name].layers[layer] = there if is_array else anndata.io.sparse_dataset(there)
    return mudata.MuData(parts, obs=mdata.obs)


@pytest.fixture(params=[through_h5mu, through_chunked_h5mu, through_zarr], ids=["h5mu", "gzip", "zarr"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opened]:
    mdata = cells_of_every_kind()
    on_disk: mudata.MuData = request.param(mdata, tmp_path)
    yield mdata, on_disk[:, :] if on_disk.is_view else on_disk
    if on_disk.file is not None and on_disk.isbacked:
        on_disk.file.close()


def in_order(data: MultimodalData, names: np.ndarray) -> np.ndarray:
    return np.array([list(data.cell_names).index(name) for name in names], dtype=np.int64)


def test_rows_are_those_in_memory(opened: Opened) -> None:
    memory, disked = (register(mdata, OPTIONS) for mdata in opened)
    assert disked.on_disk
    assert not memory.on_disk
    assert disked.schema == memory.schema
    rng = np.random.default_rng(0)
    for cells in (np.arange(50), rng.permutation(50), np.array([9, 9, 2]), np.array([], dtype=int)):
        ours = disked.loaded(in_order(disked, memory.cell_names[cells]))
        theirs = memory.loaded(cells)
        assert list(ours.cell_names) == list(theirs.cell_names)
        for found, expected in zip(ours.modalities, theirs.modalities, strict=True):
            assert sp.issparse(found.values) == sp.issparse(expected.values)
            np.testing.assert_array_equal(stored_dense(found.values), stored_dense(expected.values))
            np.testing.assert_array_equal(found.row_of_cell, expected.row_of_cell)
            np.testing.assert_array_equal(found.depth, expected.depth)
            assert (found.observed is None) == (expected.observed is None)
            if expected.observed is not None:
                np.testing.assert_array_equal(found.observed, expected.observed)
            if expected.coverage is not None:
                np.testing.assert_array_equal(stored_dense(found.coverage), stored_dense(expected.coverage))


def stored_dense(values: Any) -> np.ndarray:
    assert values.dtype == np.float32
    return values.toarray() if sp.issparse(values) else values


def test_statistics_are_those_in_memory(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    from multiomics_vae.data import stored_statistics

    monkeypatch.setattr(stored_statistics, "CHUNK_BYTES", 400)
    memory, disked = (register(mdata, OPTIONS) for mdata in opened)
    cells = np.flatnonzero(np.random.default_rng(1).random(50) < 0.7)
    ours_cells = in_order(disked, memory.cell_names[cells])
    for m in range(len(KINDS)):
        ours, theirs = feature_statistics(disked, m, ours_cells), feature_statistics(memory, m, cells)
        for name, expected in vars(theirs).items():
            found = getattr(ours, name)
            if isinstance(expected, torch.Tensor):
                torch.testing.assert_close(
                    found, expected, rtol=1e-5, atol=1e-6, msg=lambda t, n=name: f"{n}: {t}"
                )
            else:
                assert found == pytest.approx(expected), name


def test_features_in_another_order(opened: Opened) -> None:
    memory, disked = opened
    schema = register(memory, OPTIONS).schema
    order = [4, 2, 0, 1, 3, 9, 8, 7, 6, 5]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        turned = mudata.MuData(
            {name: adata[:, order].copy() for name, adata in memory.mod.items()}, obs=memory.obs
        )
    other = register(turned, OPTIONS).schema
    found, expected = read(disked, other), read(memory, other)
    assert other != schema
    for ours, theirs in zip(found.modalities, expected.modalities, strict=True):
        rows = theirs.row_of_cell[in_order(expected, found.cell_names)]
        np.testing.assert_array_equal(
            stored_dense(ours.loaded(np.arange(50)).values), stored_dense(theirs.values[rows[rows >= 0]])
        )


FAULTS: list[tuple[str, float, str]] = [
    ("rna", 0.5, r"mdata\['rna'\]\.X must hold counts.*cell 'c30', feature 'rna:f7' is 0\.5"),
    ("rna", -1.0, r"cell 'c30', feature 'rna:f7' is -1, negative"),
    ("real", np.inf, r"mdata\['real'\]\.X: cell 'c30', feature 'real:f7' is inf"),
    ("codes", 1.5, r"mdata\['codes'\]\.X must hold counts.*cell 'c30', feature 'codes:f7' is 1\.5"),
    ("meth", 1e6, r"cell 'c30', feature 'meth:f7'.*more than the"),
]


@pytest.mark.parametrize(("name", "value", "message"), FAULTS)
def test_a_fault_on_disk_is_named_as_in_memory(name: str, value: float, message: str, tmp_path: Path) -> None:
    mdata = cells_of_every_kind()
    adata = mdata[name]
    x = stored_dense(adata.X.astype(np.float32))
    x[list(adata.obs_names).index("c30"), 7] = value
    adata.X = sp.csr_matrix(x) if sp.issparse(adata.X) else x
    errors = []
    for given in (mdata, through_h5mu(mdata, tmp_path)):
        with pytest.raises(InputError, match=message) as caught:
            register(given, OPTIONS)
        errors.append(str(caught.value))
    assert errors[0] == errors[1]


def test_features_never_observed_on_disk(tmp_path: Path) -> None:
    mdata = cells_of_every_kind()
    mdata["real"].X[:, 4] = np.nan
    with pytest.raises(InputError, match="1 features are NaN in every cell: 'real:f4'"):
        register(through_h5mu(mdata, tmp_path), OPTIONS)


def test_unsorted_duplicate_and_zero_entries_on_disk(tmp_path: Path) -> None:
    x = sp.csr_matrix(
        (np.array([1.0, 2.0, 3.0, 0.0, 5.0]), np.array([3, 1, 1, 0, 2]), np.array([0, 3, 4, 5, 5])), (4, 5)
    )
    expected = x.toarray()
    obs_names = [f"c{i}" for i in range(4)]
    adata = anndata.AnnData(x)
    adata.obs_names = obs_names
    mdata = mudata.MuData({"rna": adata})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        values = register(through_h5mu(mdata, tmp_path)).modalities[0].values
    assert isinstance(values, StoredRows)
    taken = values.take(np.array([3, 0, 2]))
    assert taken.has_canonical_format
    np.testing.assert_array_equal(taken.toarray(), expected[[3, 0, 2]])
    assert taken.nnz == 3


def test_stored_by_columns_is_refused(tmp_path: Path) -> None:
    mdata = make_mdata()
    mdata["rna"].X = sp.csc_matrix(mdata["rna"].X)
    with pytest.raises(InputError, match=r"stored by columns.*tocsr\(\)"):
        register(through_h5mu(mdata, tmp_path))


def test_row_64_backed_mudata_and_one_backed_modality(tmp_path: Path) -> None:
    mdata = make_mdata()
    expected = register(mdata)
    found = register(through_h5mu(mdata, tmp_path))
    assert found.schema == expected.schema
    mdata["rna"].write_h5ad(tmp_path / "rna.h5ad")
    rna = anndata.read_h5ad(tmp_path / "rna.h5ad", backed="r")
    mixed = register(mudata.MuData({"rna": rna, "atac": mdata["atac"]}))
    assert [part.on_disk for part in mixed.modalities] == [True, False]


def test_row_64_the_users_handle_may_be_closed(tmp_path: Path) -> None:
    mdata = make_mdata()
    backed = through_h5mu(mdata, tmp_path)
    found = register(backed)
    backed.file.close()
    expected = register(mdata).loaded(np.arange(12))
    for ours, theirs in zip(found.loaded(np.arange(12)).modalities, expected.modalities, strict=True):
        np.testing.assert_array_equal(stored_dense(ours.values), stored_dense(theirs.values))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
def test_row_64_a_forked_process_opens_the_file_anew(tmp_path: Path) -> None:
    found = register(through_h5mu(make_mdata(), tmp_path))
    expected = sum_of(found)
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    child = context.Process(target=lambda: results.put(sum_of(found)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        child.start()
    assert results.get(timeout=60) == expected
    child.join()
    assert sum_of(found) == expected


def sum_of(data: MultimodalData) -> float:
    loaded = data.loaded(np.arange(data.n_cells))
    return float(sum(part.values.sum() for part in loaded.modalities))


def test_a_closed_file_is_refused(tmp_path: Path) -> None:
    mdata = make_mdata()
    mdata.write_h5mu(tmp_path / "cells.h5mu")
    file = h5py.File(tmp_path / "cells.h5mu")
    lazily = anndata.AnnData(
        anndata.io.sparse_dataset(file["mod/rna/X"]), obs=mdata["rna"].obs, var=mdata["rna"].var
    )
    given = mudata.MuData({"rna": lazily})
    file.close()
    with pytest.raises(InputError, match="is closed"):
        register(given)


def test_a_file_that_changed_or_went_is_refused(tmp_path: Path) -> None:
    def opened_anew(change: Callable[[Path], None]) -> None:
        backed = through_h5mu(make_mdata(), tmp_path)
        found = register(backed)
        backed.file.close()
        for part in found.modalities:
            part.values.matrix.table._place._opened = None  # as in another process
        change(tmp_path / "cells.h5mu")
        found.loaded(np.arange(3))

    with pytest.raises(InputError, match="has changed since"):
        opened_anew(lambda path: os.utime(path, (1, 1)))
    with pytest.raises(InputError, match="cannot be found any more"):
        opened_anew(Path.unlink)


@pytest.mark.parametrize(("place", "damage"), [("indices", 99), ("indptr", -5)])
def test_a_damaged_matrix_is_refused(place: str, damage: int, tmp_path: Path) -> None:
    make_mdata().write_h5mu(tmp_path / "cells.h5mu")
    with h5py.File(tmp_path / "cells.h5mu", "r+") as file:
        file[f"mod/rna/X/{place}"][2] = damage
    with pytest.raises(InputError, match=r"mdata\['rna'\]\.X is damaged on disk"):
        register(mudata.read_h5mu(tmp_path / "cells.h5mu", backed=True))


def test_runs_are_bounded_and_holes_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.arange(400, dtype=np.float32).reshape(100, 4)  # 16 bytes a row
    adata = anndata.AnnData(values)
    backed = through_h5mu(mudata.MuData({"real": adata}), tmp_path)
    rows = register(backed, SetupOptions(likelihoods={"real": "gaussian"})).modalities[0].values
    reads: list[tuple[int, int]] = []
    monkeypatch.setattr(
        disk.DiskDense, "read", lambda self, a, b: (reads.append((a, b)), values[a:b])[1], raising=True
    )
    wanted = np.array([0, 1, 4, 30, 31, 99, 50, 51])
    np.testing.assert_array_equal(rows.take(wanted), values[wanted])
    assert reads == [(0, 5), (30, 32), (50, 52), (99, 100)]
    reads.clear()
    rows.take(np.arange(100))
    assert max(stop - start for start, stop in reads) <= 300 // 16 + 1
    assert sorted(reads)[0][0] == 0
    assert sorted(reads)[-1][1] == 100
