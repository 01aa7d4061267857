"""What regression adds to the decoder: ridge exactly, only where held-out cells gain, blind to the target."""

from __future__ import annotations

import mudata
import numpy as np
import pytest
from sklearn.linear_model import Ridge

from multiomics_vae import MultiVAE
from multiomics_vae.analysis.readout import Moments
from multiomics_vae.errors import InputError
from small_models import make_cells, make_model, register, train

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:mudata", "ignore::UserWarning:anndata")


@pytest.fixture(scope="module")
def cells() -> mudata.MuData:
    """Cells of which some lack RNA and some lack ATAC; read only."""
    lacking = {"atac": range(20), "rna": range(20, 40)}
    return register(make_cells(n_cells=240, n_features=12, lacking=lacking), batch_key="batch")


@pytest.fixture(scope="module")
def model(cells: mudata.MuData) -> MultiVAE:
    return train(make_model(cells), 3, learning_rate=1e-2, validation_size=0.2)


@pytest.mark.parametrize("penalty", [0.1, 10.0, 1e4])
def test_sums_over_blocks_give_ridge_regression(penalty: float) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(3.0, [1.0, 10.0, 0.1, 1e-12], size=(300, 4))
    y = x @ rng.normal(size=(4, 6)) + rng.normal(size=(300, 6)) + 5.0
    sums = Moments()
    for rows in np.array_split(np.arange(300), 4):
        sums.add(x[rows], y[rows])
    [found] = sums.solve(np.array([penalty]))
    standard = (x - x.mean(0)) / x.std(0)
    standard[:, 3] = 0.0  # does not vary
    expected = Ridge(alpha=penalty).fit(standard, y).predict(standard)
    np.testing.assert_allclose(found.correction(x), expected, rtol=1e-6, atol=1e-8)


def test_regression_mends_a_decoder_that_has_not_learned(cells: mudata.MuData) -> None:
    whole = make_cells(n_cells=240, n_features=12)  # what the model's cells are a part of
    hidden = [f"c{i}" for i in range(20, 40)]  # their RNA was not there in training
    model = train(make_model(cells), 1, learning_rate=1e-6, validation_size=0.2)
    truth = np.log1p(whole["rna"][hidden].X.toarray())

    def error(values: np.ndarray) -> float:
        return float(np.square(np.log1p(values) - truth).mean())

    plain = model.get_normalized("rna", indices=hidden, library_size="predicted").to_numpy()
    mended = model.predict_values("rna", indices=hidden).to_numpy()
    assert error(mended) < 0.95 * error(plain)


def test_where_nothing_is_to_be_learned_the_decoder_speaks_alone() -> None:
    asked = {"given": ["rna"]}
    away = []
    for seed in range(1, 4):
        noise = make_cells(n_cells=200, n_features=8)
        noise["atac"].X = (np.random.default_rng(seed).random((200, 8)) < 0.3).astype(np.float32)
        model = train(make_model(register(noise)), 2, validation_size=0.3)
        decoded = model.get_normalized("atac", library_size="predicted", **asked)
        away.append(np.abs(model.predict_values("atac", **asked) - decoded).to_numpy())
    # The penalty is chosen on sixty held-out cells, so chance may leave a trace now and then: in one of the
    # three, and on average of nothing like the size of the values, which are 0.3.
    assert np.median([each.max() for each in away]) < 0.05
    assert max(each.mean() for each in away) < 0.06


def test_nothing_of_the_target_is_read(model: MultiVAE, cells: mudata.MuData) -> None:
    having = cells["rna"].obs_names[:30]
    blind = mudata.MuData({"rna": cells["rna"][having].copy()})
    blind.obs["batch"] = cells.obs.loc[having, "batch"]
    seen = model.predict_values("atac", cells, indices=list(having), given=["rna"])
    np.testing.assert_allclose(seen, model.predict_values("atac", blind), rtol=1e-5)


def test_values_are_in_range_in_order_and_of_the_features_asked_for(model: MultiVAE) -> None:
    has_rna = np.flatnonzero(model._data.present[:, 0])
    whole = model.predict_values("atac", indices=has_rna)
    assert ((whole >= 0) & (whole <= 1)).all(axis=None)
    has_atac = np.flatnonzero(model._data.present[:, 1])
    assert (model.predict_values("rna", indices=has_atac) >= 0).all(axis=None)
    some = model.predict_values("atac", indices=has_rna[[5, 2, 9]], batch_size=2)
    np.testing.assert_allclose(some, whole.iloc[[5, 2, 9]], rtol=1e-4, atol=1e-6)
    assert list(some.index) == list(model._data.cell_names[has_rna[[5, 2, 9]]])
    few = model.predict_values("atac", indices=has_rna[:4], features=["atac:f3", "atac:f1"])
    assert list(few.columns) == ["atac:f3", "atac:f1"]


def test_wrong_questions_are_refused(model: MultiVAE) -> None:
    with pytest.raises(InputError, match="given holds 'rna', which is to be imputed"):
        model.predict_values("rna", given=["rna", "atac"])
    with pytest.raises(InputError, match="cells have none of"):
        model.predict_values("rna")
    with pytest.raises(InputError, match=r"held_out=mdata.obs_names\[:500\]"):
        model.predict_values("rna", indices=[50], held_out=[])
    with pytest.raises(InputError, match="must stand beside"):
        model.predict_values("rna", indices=[50], held_out=[0, 1])
