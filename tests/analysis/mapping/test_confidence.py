"""Which cells a model says it does not know, on simulated types with a known one left out."""

from __future__ import annotations

from collections.abc import Sequence

import anndata
import mudata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from multiomics_vae import MultiVAE
from multiomics_vae.analysis.mapping.confidence import normal_scores, p_values
from multiomics_vae.analysis.mapping.labels import (
    check_balance,
    labelled,
    neighbour_votes,
    transfer_table,
)
from multiomics_vae.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:mudata", "ignore::FutureWarning")
N_GENES = 60


def typed_cells(types: Sequence[str], n_cells: int, seed: int) -> mudata.MuData:
    """Counts of cells whose type raises ten genes of its own."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(list(types), n_cells)
    rates = np.full((n_cells, N_GENES), 1.0)
    for place, name in enumerate("abcdef"):
        rates[labels == name, 10 * place : 10 * place + 10] = 5.0
    counts = rng.poisson(rates * rng.lognormal(0.0, 0.3, (n_cells, 1)))
    obs = pd.DataFrame({"cell_type": labels}, index=[f"s{seed}_{i}" for i in range(n_cells)])
    var = pd.DataFrame(index=[f"g{j}" for j in range(N_GENES)])
    rna = anndata.AnnData(sp.csr_matrix(counts.astype(np.float32)), obs, var)
    mdata = mudata.MuData({"rna": rna})
    mdata.obs["cell_type"] = labels
    return mdata


@pytest.fixture(scope="module")
def reference_cells() -> mudata.MuData:
    return typed_cells("abcd", 500, seed=0)


@pytest.fixture(scope="module")
def reference(reference_cells: mudata.MuData) -> MultiVAE:
    MultiVAE.setup_mudata(reference_cells, likelihoods={"rna": "nb"})
    model = MultiVAE(reference_cells, n_latent=5, n_hidden=32)
    return model.train(30, validation_size=0.4, progress=False, accelerator="cpu")


def test_false_alarms_are_at_the_stated_rate_and_a_left_out_type_is_found(reference: MultiVAE) -> None:
    new = typed_cells("abcde", 400, seed=1)
    is_new = (new.obs["cell_type"] == "e").to_numpy()
    query = MultiVAE.map_query(new, reference, progress=False)
    for rate in (0.05, 0.2):
        table = query.mapping_confidence(false_alarms=rate)
        unknown = (table["verdict"] == "unknown").to_numpy()
        # 200 held-out cells set the level, 320 are asked: three standard errors of both.
        error = 3 * np.sqrt(rate * (1 - rate) * (1 / 200 + 1 / 320))
        assert abs(unknown[~is_new].mean() - rate) < error
        assert unknown[is_new].mean() > 0.8
    assert list(table.index) == list(new.obs_names)
    assert ((table["verdict"] == "unknown") == (table["p_value"] < 0.2)).all()


def test_what_many_new_cells_share_is_found_and_is_asked_for(
    reference: MultiVAE, reference_cells: mudata.MuData
) -> None:
    new = typed_cells("abcdf", 300, seed=2)
    is_new = (new.obs["cell_type"] == "f").to_numpy()
    query = MultiVAE.map_query(new, reference, progress=False)
    assert query.mapping_confidence()["shared"].isna().all()
    table = query.mapping_confidence(shared=True)
    assert table["shared"][is_new].median() > table["shared"][~is_new].quantile(0.95)
    assert (table["p_value"] < 0.05)[is_new].mean() > 0.6
    assert (table["p_value"] < 0.05)[~is_new].mean() < 0.15
    # The same cells asked about as others, some of them.
    pd.testing.assert_frame_equal(
        query.mapping_confidence(new, new.obs_names[:7], shared=True), table.iloc[:7], rtol=1e-3, atol=1e-3
    )
    with pytest.raises(InputError, match=r"reference_mdata=reference_mdata"):
        reference.mapping_confidence(new, shared=True)


def test_a_cell_s_confidence_does_not_depend_on_the_others(reference: MultiVAE) -> None:
    new = typed_cells("abcde", 60, seed=3)
    query = MultiVAE.map_query(new, reference, progress=False)
    whole, chosen = query.mapping_confidence(), [41, 7, 20]
    pd.testing.assert_frame_equal(query.mapping_confidence(indices=chosen), whole.iloc[chosen], rtol=1e-4)
    pd.testing.assert_frame_equal(reference.mapping_confidence(new), whole, rtol=1e-4)


def test_labels_are_transferred_and_a_left_out_type_is_unknown(
    reference: MultiVAE, reference_cells: mudata.MuData
) -> None:
    new = typed_cells("abcde", 300, seed=4)
    truth = new.obs["cell_type"].to_numpy().astype(str)
    query = MultiVAE.map_query(new, reference, progress=False)
    table = query.transfer_labels("cell_type", reference_cells)
    known = truth != "e"
    assert (table["nearest_label"] == truth)[known].mean() > 0.8
    assert (table["label"] == "unknown")[~known].mean() > 0.8
    assert table["probability"].between(0, 1).all()
    without_a = query.transfer_labels("cell_type", reference_cells, unlabelled=["a"], false_alarms=0)
    assert "a" not in set(without_a["nearest_label"])
    series = pd.Series(reference_cells.obs["cell_type"].to_numpy(), reference_cells.obs_names)
    pd.testing.assert_frame_equal(query.transfer_labels(series, reference_cells), table)
    with pytest.raises(InputError, match="cell_type"):
        query.transfer_labels("cell_typ", reference_cells)
    with pytest.raises(InputError, match="least_probability is a share"):
        query.transfer_labels("cell_type", reference_cells, least_probability=2.0)
    with pytest.raises(InputError, match="balance is a number from 0"):
        query.transfer_labels("cell_type", reference_cells, balance=2.0)


def test_too_few_held_out_cells_are_said(reference_cells: mudata.MuData) -> None:
    MultiVAE.setup_mudata(reference_cells, likelihoods={"rna": "nb"})
    model = MultiVAE(reference_cells, n_latent=2, n_hidden=8)
    model.train(1, validation_size=0.01, progress=False, accelerator="cpu")
    with pytest.raises(InputError, match=r"remembers 5 held-out cells.*validation_size=0\.2"):
        model.mapping_confidence()
    with pytest.raises(InputError, match="false_alarms is a share"):
        model.mapping_confidence(false_alarms=1.0)


def test_the_latent_of_cells_that_lack_features_stays_near(
    reference: MultiVAE, reference_cells: mudata.MuData
) -> None:
    """Nearer than with zeros in their place, which are read as zeros and make cells shallow."""
    new = typed_cells("abcd", 200, seed=5)
    dropped = np.random.default_rng(0).choice(N_GENES, N_GENES // 10, replace=False)
    gone = np.isin(np.arange(N_GENES), dropped)
    whole = reference.get_latent_representation(new)
    lacking = mudata.MuData({"rna": new["rna"][:, ~gone].copy()})
    zeros = new.copy()
    zeros["rna"].X = sp.csr_matrix(zeros["rna"].X.toarray() * ~gone)
    near = MultiVAE.map_query(lacking, reference, progress=False).get_latent_representation()
    far = reference.get_latent_representation(zeros)
    by_gaps, by_zeros = (np.square(each - whole).sum(1).mean() for each in (near, far))
    assert by_gaps < 0.7 * by_zeros
    assert by_gaps < 0.15 * whole.var(0).sum()


def test_p_values_are_ranks() -> None:
    np.testing.assert_allclose(p_values(np.arange(9.0), np.array([-1.0, 8.0, 9.0])), [1.0, 0.2, 0.1])
    rng = np.random.default_rng(0)
    found = p_values(rng.normal(size=999), rng.normal(size=20_000))
    assert abs((found <= 0.1).mean() - 0.1) < 0.03


def test_normal_scores_rise_beyond_the_strangest_held_out_cell() -> None:
    held_out, asked = normal_scores(np.arange(100.0), np.array([0.0, 50.0, 99.0, 150.0, 200.0]))
    assert (np.diff(asked) > 0).all()
    assert abs(asked[1]) < 0.05
    assert abs(held_out.mean()) < 0.05


@pytest.mark.parametrize(("balance", "expected"), [(0.0, 1 / 21), (0.5, 0.183), (1.0, 0.5)])
def test_votes_where_two_labels_are_equally_dense(balance: float, expected: float) -> None:
    """Half-way between two equal shapes the rarer, of a twentieth of the cells, has 1/(1 + 20^(1 − b))."""
    rng = np.random.default_rng(0)
    known = np.concatenate([rng.normal(0, 1, 40_000), rng.normal(2, 1, 2_000)])[:, None]
    labels = np.repeat(["common", "rare"], [40_000, 2_000])
    asked = np.linspace(0.97, 1.03, 50)[:, None]
    votes = neighbour_votes(known, labels, asked, n_neighbors=4000, balance=balance)
    assert votes["rare"].mean() == pytest.approx(expected, abs=0.03)


def test_near_neighbours_count_more() -> None:
    known, labels = np.array([[0.0], [0.9], [-1.0], [1.1]]), np.array(["x", "y", "y", "x"])
    votes = neighbour_votes(known, labels, np.array([[0.1]]), n_neighbors=4, balance=0.0)
    distances = np.array([0.1, 0.8, 1.1, 1.0])
    weights = np.exp(-0.5 * (distances / (0.5 * distances.mean())) ** 2)
    assert votes["x"][0] == pytest.approx((weights[0] + weights[3]) / weights.sum())


@pytest.mark.parametrize("value", [-0.1, 1.5, True, "half"])
def test_balances_that_make_no_sense(value: object) -> None:
    with pytest.raises(InputError, match=r"balance is a number from 0 .* to 1 .*balance=0.5"):
        check_balance(value)


def test_votes_are_shares_of_the_nearest() -> None:
    known = np.array([[0.0], [0.1], [5.0]])
    votes = neighbour_votes(known, np.array(["x", "x", "y"]), np.array([[0.05], [5.0]]), n_neighbors=2)
    np.testing.assert_allclose(votes.sum(axis=1), 1.0)
    assert votes["x"][0] == 1.0
    assert votes["y"][1] > 0.5
    table = transfer_table(votes, np.array([0.01, 0.9]), 0.5, 0.05)
    assert list(table["label"]) == ["unknown", "y"]
    with pytest.raises(InputError, match="has a label"):
        labelled(np.array([None, "none"], dtype=object), ["none"])
