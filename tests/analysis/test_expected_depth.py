"""Values at a predicted depth: those of `impute`, and at a cell's own depth where that is given."""

from __future__ import annotations

import copy

import mudata
import numpy as np
import pytest
import scipy.sparse as sp

from multiomics_vae import MultiVAE
from multiomics_vae.analysis.aids import PredictionAids
from multiomics_vae.analysis.direction import Direction
from multiomics_vae.errors import InputError, MultiomicsWarning
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


@pytest.mark.parametrize("batch", [None, "b1", ["b0", "b1"]])
@pytest.mark.parametrize(("target", "given"), [("rna", "atac"), ("atac", "rna")])
def test_values_at_the_predicted_depth_are_the_mean_of_impute(
    model: MultiVAE, target: str, given: str, batch: str | list[str] | None
) -> None:
    cells = make_cells(seed=3)
    asked = {"given": [given], "n_samples": 20, "transform_batch": batch}
    values = model.get_normalized(target, cells, library_size="predicted", **asked)
    found = model.impute(target, cells, quantiles=(), **asked).X
    # A mixture of two batches gives each draw to one of them, an average takes all draws of both.
    np.testing.assert_allclose(values, found, rtol=0.3 if isinstance(batch, list) else 1e-4)


def test_the_depth_of_a_direction_is_learned_once_and_kept(model: MultiVAE) -> None:
    twin = copy.deepcopy(model)
    twin._aids = PredictionAids()
    twin.get_normalized("atac", given=["rna", "atac"], library_size="predicted")
    [direction] = twin._aids.depths
    assert direction == Direction(1, (0,))
    kept = twin._aids.depths[direction]
    twin.get_normalized_accessibility(library_size="predicted")
    twin.impute("atac", make_cells(seed=3), n_samples=2)
    twin.predict_values("atac", make_cells(seed=3), held_out=list(range(12, 20)))
    assert list(twin._aids.depths) == [direction]
    assert twin._aids.depths[direction] is kept


def test_no_depth_is_learned_where_every_cell_shows_its_own(model: MultiVAE) -> None:
    twin = copy.deepcopy(model)
    twin._aids = PredictionAids()
    twin.get_normalized("rna", make_cells(seed=3), library_size="predicted")
    assert not twin._aids.depths


def test_a_direction_that_no_cell_shows_is_warned_of() -> None:
    cells = make_cells(lacking={"atac": range(20), "rna": range(20, 40)})
    model = train(make_model(register(cells)), 2)
    with pytest.warns(MultiomicsWarning, match=r"training cells have 'atac' together with any of \['rna'\]"):
        model.get_normalized("atac", indices=[0], library_size="predicted")


@pytest.mark.parametrize("wrong", ["latent", 0, -1.0])
def test_a_wrong_library_size_is_refused(model: MultiVAE, wrong: object) -> None:
    with pytest.raises(InputError, match="library_size"):
        model.get_normalized("rna", library_size=wrong)  # type: ignore[arg-type]
