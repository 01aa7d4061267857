"""Depths told from z and the depths of what is given: exact on simulated cells, and blind to the target."""

from __future__ import annotations

import mudata
import numpy as np
import pytest
import scipy.sparse as sp

from multiomics_vae import MultiVAE
from multiomics_vae.analysis.predicted_depth import DepthModel
from multiomics_vae.errors import InputError
from small_models import make_cells, make_model, register, train

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:mudata", "ignore::UserWarning:anndata")

N_RNA, N_ATAC = 12, 40


def deep_and_shallow(n_cells: int = 200, seed: int = 0) -> mudata.MuData:
    """Cells without structure but depth: log library and log openness share one normal variable."""
    from strategies import modality

    rng = np.random.default_rng(seed)
    size = rng.normal(size=n_cells)
    counts = rng.poisson(np.exp(2.0 + 0.8 * size)[:, None] * np.ones(N_RNA)).astype(np.float32)
    odds = np.exp(-1.0 + 0.8 * size)[:, None] * np.ones(N_ATAC)
    peaks = (rng.random((n_cells, N_ATAC)) < odds / (1 + odds)).astype(np.float32)
    names = [f"c{i}" for i in range(n_cells)]
    return mudata.MuData(
        {
            "rna": modality(sp.csr_matrix(counts), names, [f"rna:f{j}" for j in range(N_RNA)]),
            "atac": modality(sp.csr_matrix(peaks), names, [f"atac:f{j}" for j in range(N_ATAC)]),
        }
    )


@pytest.fixture(scope="module")
def model() -> MultiVAE:
    cells = make_cells(lacking={"atac": range(6), "rna": range(6, 12)})
    return train(make_model(register(cells, batch_key="batch")), 3, learning_rate=1e-2)


def test_regression_is_ridge_with_its_degrees_of_freedom() -> None:
    rng = np.random.default_rng(0)
    n, p = 4_000, 3
    x = rng.normal(2.0, [1.0, 5.0, 0.1], size=(n, p))
    truth = np.array([0.5, -0.1, 3.0])
    y = 1.0 + x @ truth + 0.3 * rng.normal(size=n)
    found = DepthModel.fit(x, y)
    np.testing.assert_allclose(found.slope / found.scale, truth, atol=0.15)
    assert found.sd == pytest.approx(0.3, rel=0.05)
    # E[exp(y)] of a log-normal, which its median is not.
    fresh = 1.0 + x @ truth + 0.3 * rng.normal(size=(50, n))
    np.testing.assert_allclose((np.exp(fresh).mean(0) / found.expected(x)).mean(), 1.0, rtol=0.02)


def test_an_input_that_never_varied_has_no_say() -> None:
    x = np.column_stack([np.linspace(0, 1, 20), np.zeros(20)])
    found = DepthModel.fit(x, 2 * x[:, 0])
    assert found.slope[1] == 0.0
    np.testing.assert_array_equal(found.expected([[0.5, 0.0]]), found.expected([[0.5, 9.0]]))


def test_depth_follows_the_depth_of_what_is_given() -> None:
    cells = deep_and_shallow()
    MultiVAE.setup_mudata(cells, likelihoods={"rna": "nb", "atac": "bernoulli"})
    model = MultiVAE(cells, n_latent=2, n_hidden=8).train(2, progress=False)
    fresh = deep_and_shallow(seed=1)
    openness = np.asarray(fresh["atac"].X.sum(1)).ravel()
    at_one_depth = model.get_normalized("atac", fresh, given=["rna"]).to_numpy().sum(1)
    expected = model.get_normalized("atac", fresh, given=["rna"], library_size="predicted").to_numpy().sum(1)
    assert np.corrcoef(expected, openness)[0, 1] > 0.8
    assert np.corrcoef(expected, openness)[0, 1] > np.corrcoef(at_one_depth, openness)[0, 1]
    assert expected.mean() == pytest.approx(openness.mean(), rel=0.1)


def test_nothing_of_the_target_is_read(model: MultiVAE) -> None:
    cells = make_cells(seed=3)
    blind = mudata.MuData({"rna": cells["rna"]})
    blind.obs["batch"] = cells.obs["batch"]
    asked = {"given": ["rna"], "library_size": "predicted"}
    seen = model.get_normalized("atac", cells, **asked)
    np.testing.assert_array_equal(seen, model.get_normalized("atac", blind, **asked))


def test_a_measured_depth_is_taken_where_the_modality_is_given(model: MultiVAE) -> None:
    cells = model.get_normalized("rna", library_size="predicted", given=["rna", "atac"])
    shares = model.get_normalized("rna", given=["rna", "atac"])
    ratio = (cells / shares).to_numpy()
    own = model._data.modalities[0]
    has = own.row_of_cell >= 0
    measured = own.depth[own.row_of_cell[has]]
    np.testing.assert_allclose(ratio[has], np.repeat(measured[:, None], ratio.shape[1], 1), rtol=1e-4)
    assert (ratio[~has] > 0).all()
    assert not np.allclose(ratio[~has], ratio[~has][0, 0])


def test_a_cell_does_not_depend_on_those_beside_it(model: MultiVAE) -> None:
    whole = model.get_normalized("atac", given=["rna", "atac"], library_size="predicted")
    some = model.get_normalized("atac", indices=[3, 20, 8], given=["rna", "atac"], library_size="predicted")
    np.testing.assert_allclose(some, whole.iloc[[3, 20, 8]], rtol=1e-5)
    few = model.get_normalized("atac", features=["atac:f4"], library_size="predicted", batch_size=7)
    everything = model.get_normalized("atac", library_size="predicted")
    np.testing.assert_allclose(few["atac:f4"], everything["atac:f4"], rtol=1e-5)


def test_a_direction_that_no_cell_shows_is_refused() -> None:
    cells = make_cells(lacking={"atac": range(20), "rna": range(20, 40)})
    model = train(make_model(register(cells)), 2)
    with pytest.raises(InputError, match=r"0 training cells have 'atac' together with \['rna'\]"):
        model.get_normalized("atac", indices=[0], library_size="predicted")


@pytest.mark.parametrize("wrong", ["latent", 0, -1.0])
def test_a_wrong_library_size_is_refused(model: MultiVAE, wrong: object) -> None:
    with pytest.raises(InputError, match="library_size"):
        model.get_normalized("rna", library_size=wrong)  # type: ignore[arg-type]
