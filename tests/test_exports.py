"""What is written to disk is what the answers return."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import anndata
import mudata
import numpy as np
import pytest

from multiomics_vae import MultiVAE
from multiomics_vae.analysis.table_file import write_table
from multiomics_vae.errors import InputError
from small_models import make_cells, make_model, train


@pytest.fixture(scope="module")
def model() -> MultiVAE:
    return train(make_model())


def test_written_values_are_those_returned(model: MultiVAE, tmp_path: Path) -> None:
    choices = {"indices": [5, 3, 8], "features": ["rna:f4", "rna:f1"], "library_size": 1e4, "n_samples": 2}
    for name, arguments in {"all": {}, "some": choices}.items():
        model.write_normalized(tmp_path / f"{name}.h5ad", "rna", batch_size=7, **arguments)
        found = anndata.read_h5ad(tmp_path / f"{name}.h5ad")
        expected = model.get_normalized("rna", batch_size=7, **arguments)
        assert list(found.obs_names) == list(expected.index)
        assert list(found.var_names) == list(expected.columns)
        np.testing.assert_array_equal(found.X, expected.to_numpy())
    backed = anndata.read_h5ad(tmp_path / "all.h5ad", backed="r")
    assert backed.X.shape == (40, 10)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.h5ad", "some.h5ad"]


def test_from_disk_to_disk(model: MultiVAE, tmp_path: Path) -> None:
    cells = make_cells()
    cells.write_h5mu(tmp_path / "cells.h5mu")
    backed = mudata.read_h5mu(tmp_path / "cells.h5mu", backed=True)
    model.write_normalized(tmp_path / "out.h5ad", "atac", backed, batch_size=9)
    found = anndata.read_h5ad(tmp_path / "out.h5ad")
    np.testing.assert_allclose(found.X, model.get_normalized("atac", cells).to_numpy(), rtol=1e-5)


def test_no_cells(model: MultiVAE, tmp_path: Path) -> None:
    model.write_normalized(tmp_path / "none.h5ad", "rna", indices=[])
    assert anndata.read_h5ad(tmp_path / "none.h5ad").shape == (0, 10)


def test_a_place_where_nothing_can_be_written(model: MultiVAE, tmp_path: Path) -> None:
    (tmp_path / "there.h5ad").write_text("precious")
    with pytest.raises(InputError, match=r"is there already.*os\.remove"):
        model.write_normalized(tmp_path / "there.h5ad", "rna")
    assert (tmp_path / "there.h5ad").read_text() == "precious"
    with pytest.raises(InputError, match=r"must end in \.h5ad"):
        model.write_normalized(tmp_path / "out.csv", "rna")
    with pytest.raises(InputError, match="There is no folder"):
        model.write_normalized(tmp_path / "absent" / "out.h5ad", "rna")
    with pytest.raises(InputError, match="library_size must be a number above 0"):
        model.write_normalized(tmp_path / "out.h5ad", "rna", library_size=0.0)


def test_after_an_error_nothing_is_left(tmp_path: Path) -> None:
    def blocks() -> Iterator[np.ndarray]:
        yield np.ones((2, 3), dtype=np.float32)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_table(tmp_path / "out.h5ad", blocks(), np.array(["a", "b", "c"]), np.array(["x", "y", "z"]))
    assert list(tmp_path.iterdir()) == []
