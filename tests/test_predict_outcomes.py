"""What a model predicts of cells and donors: one row each, in order, whatever stands beside it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from multiomics_vae import Head, MultiVAE
from multiomics_vae.analysis.outcomes.tables import mixture_quantile
from multiomics_vae.errors import InputError, MultiomicsWarning, NotFittedError
from small_models import make_cells, make_model, permuted, register, train

HEADS = {
    "response": Head(level="donor"),
    "stage": Head(level="donor", pooling="mean", kind="categorical"),
    "os": Head(level="donor"),
    "cox": Head(level="cell", kind="cox"),
    "years": Head(),
    "type": Head(n_hidden=6),
}
OF_CELLS, OF_DONORS = ("cox", "type", "years"), ("os", "response", "stage")
CLASSES = {"response": ["no", "yes"], "stage": ["1", "2", "3"], "type": ["B", "T"]}


def _cells(n_cells: int = 60, seed: int = 0):
    mdata = make_cells(n_cells=n_cells, n_features=6, seed=seed, lacking={"atac": range(5)})
    position = np.array([int(name[1:]) for name in mdata.obs_names])
    donor = position % 6
    mdata.obs["donor"] = [f"p{i}" for i in donor]
    mdata.obs["response"] = np.where(donor % 2, "yes", "no")
    mdata.obs["stage"] = donor % 3 + 1
    mdata.obs["days"], mdata.obs["dead"] = 10.0 + 7.0 * donor, (donor % 2).astype(int)
    mdata.obs["years"] = 2.0 * position
    mdata.obs["type"] = np.where(position % 2, "B", "T")
    return mdata


@pytest.fixture(scope="module")
def mdata():
    outcomes = {
        "response": "binary",
        "stage": "ordinal",
        "os": ("days", "dead"),
        "cox": ("days", "dead"),
        "years": "continuous",
        "type": "categorical",
    }
    return register(_cells(), batch_key="batch", donor_key="donor", outcomes=outcomes)


@pytest.fixture(scope="module")
def model(mdata) -> MultiVAE:
    return train(make_model(mdata, heads=HEADS), 4, learning_rate=1e-2)


@pytest.mark.parametrize("name", HEADS)
def test_one_row_each_in_order(model, mdata, name):
    prediction = model.predict(name)
    of_donors = name in OF_DONORS
    expected = [f"p{i}" for i in range(6)] if of_donors else list(mdata.obs_names)
    assert prediction.table.index.tolist() == expected
    assert (prediction.outcome, prediction.level) == (name, "donor" if of_donors else "cell")
    assert ("n_cells" in prediction.table) == of_donors
    assert repr(name) in repr(prediction)


@pytest.mark.parametrize("name", CLASSES)
def test_probabilities_add_up_and_lie_in_their_intervals(model, name):
    table = model.predict(name, level=0.8).table
    probabilities = table[[f"p_{category}" for category in CLASSES[name]]].to_numpy()
    np.testing.assert_allclose(probabilities.sum(1), 1.0)
    best = probabilities.max(1)
    assert (table["prediction"] == np.array(CLASSES[name])[probabilities.argmax(1)]).all()
    assert (table["lower"] <= best + 1e-9).all()
    assert (best <= table["upper"] + 1e-9).all()
    wide = model.predict(name, level=0.99).table
    assert (wide["upper"] - wide["lower"] >= table["upper"] - table["lower"]).all()
    assert wide["abstain"].sum() >= table["abstain"].sum()
    labels = model.predict(name, level=0.99).labels
    assert ((labels == "unknown") == wide["abstain"]).all()


@pytest.mark.parametrize("name", OF_CELLS)
def test_a_cell_does_not_depend_on_those_beside_it(model, name):
    whole = model.predict(name).table
    chosen = [7, 3, 30]
    pd.testing.assert_frame_equal(
        model.predict(name, indices=chosen, batch_size=2).table, whole.iloc[chosen], rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("name", OF_DONORS)
def test_a_donor_does_not_depend_on_other_donors_or_on_minibatches(model, mdata, name):
    whole = model.predict(name).table
    own = mdata.obs["donor"].isin(["p1", "p4"]).to_numpy()
    part = model.predict(name, indices=own, batch_size=7).table
    pd.testing.assert_frame_equal(part, whole.loc[["p1", "p4"]], rtol=1e-4, atol=1e-5)
    few = model.predict(name, indices=np.flatnonzero(own)[:3])
    assert few.table["n_cells"].sum() == 3


@pytest.mark.parametrize("name", HEADS)
def test_the_order_of_cells_and_features_does_not_matter(model, mdata, name):
    shuffled = permuted(mdata)
    found, expected = model.predict(name, shuffled).table, model.predict(name).table
    pd.testing.assert_frame_equal(found.loc[expected.index], expected, rtol=1e-3, atol=1e-4)


def test_attention_adds_up_in_every_donor(model, mdata):
    attention = model.predict("response").attention
    assert set(attention.index) == set(mdata.obs_names)
    total = attention.groupby(mdata.obs["donor"].reindex(attention.index)).sum()
    np.testing.assert_allclose(total, 1.0)
    assert len(model.predict("type").attention) == 0
    even = model.predict("stage").attention
    np.testing.assert_allclose(even, 0.1)


def test_numbers_have_the_moments_of_their_mixture(model):
    prediction = model.predict("years", n_samples=30)
    table, head = prediction.table, prediction.head
    means, sds = head.mean_and_sd(prediction.scores.draws)
    outcome = head.outcome
    np.testing.assert_allclose(table["mean"], outcome.mean + outcome.sd * means.mean(0).detach(), rtol=1e-5)
    assert (table["sd"] >= outcome.sd * sds.min().item() * (1 - 1e-6)).all()
    assert ((table["q05"] < table["mean"]) & (table["mean"] < table["q95"])).all()


def test_quantiles_of_a_mixture_are_those_of_its_draws():
    means = torch.tensor([[-2.0], [0.0], [3.0]], dtype=torch.float64)
    sds = torch.tensor([[0.5], [1.0], [0.2]], dtype=torch.float64)
    rng = np.random.default_rng(0)
    component = rng.integers(0, 3, 200_000)
    draws = means[component, 0].numpy() + sds[component, 0].numpy() * rng.normal(size=200_000)
    for share in (0.05, 0.5, 0.95):
        expected = np.quantile(draws, share)
        assert mixture_quantile(means, sds, share)[0].item() == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("name", ["os", "cox"])
def test_survival_falls_from_one_and_its_median_is_where_it_is_one_half(model, name):
    prediction = model.predict(name)
    times = np.linspace(0.0, 45.0, 200)
    survival = prediction.survival_at(times)
    assert (survival[0.0] == 1.0).all()
    assert (survival.diff(axis=1).iloc[:, 1:] <= 1e-9).all(axis=None)
    assert prediction.survival_at(1e6).isna().all(axis=None)
    assert prediction.survival_at(20.0).shape == (len(prediction.table), 1)
    median = prediction.table["median_time"]
    for unit, time in median.items():
        if np.isnan(time):
            assert (survival.loc[unit] > 0.5).all()
        else:
            assert prediction.survival_at([time]).loc[unit].item() <= 0.5 + 1e-6
            assert prediction.survival_at([0.98 * time]).loc[unit].item() > 0.45


def test_other_donors_without_labels_and_of_new_batches(model):
    new = _cells(12, seed=3)
    new.obs = new.obs[["donor", "batch"]].copy()
    new.obs["donor"] = ["x", "y", "z"] * 4
    expected = model.predict("response", new)
    assert expected.table.index.tolist() == ["x", "y", "z"]
    assert np.isnan(expected.scores.labels).all()
    new.obs["batch"] = "never seen"
    with pytest.warns(MultiomicsWarning, match=r"12 of 12 cells are of batches.*'never seen'"):
        averaged = model.predict("response", new)
    assert not np.allclose(averaged.table["p_yes"], expected.table["p_yes"])
    with pytest.raises(InputError, match="never seen"):
        model.get_latent_representation(new)
    del new.obs["donor"]
    with pytest.raises(InputError, match="`donor_key`: there is no column 'donor'"):
        model.predict("response", new)
    new.obs["batch"] = "b0"
    assert len(model.predict("type", new).table) == 12


def test_cells_of_unknown_donors_are_left_out(model):
    new = _cells(12)
    new.obs = new.obs[["batch"]].copy()
    new.obs["donor"] = ["x", None] * 6
    assert model.predict("response", new).table["n_cells"].to_dict() == {"x": 6}
    new.obs["donor"] = ["x"] * 6 + [None] * 6
    with pytest.raises(InputError, match="the donor of none of these cells is known"):
        model.predict("response", new, range(6, 12))
    new.obs["response"] = ["no", "yes"] * 6
    with pytest.raises(InputError, match=r"'response' differs between cells of donor 'x'"):
        model.predict("response", new)


def test_scores_come_with_their_labels(model, mdata):
    scores = model.predict_scores("stage", n_samples=3)
    assert scores.draws.shape == (3, 6, 3)
    assert scores.labels[:, 0].tolist() == [0.0, 1.0, 2.0] * 2
    assert model.predict_scores("type", n_samples=0).draws.shape == (0, 60, 2)
    again = model.predict_scores("stage", n_samples=3)
    assert torch.equal(again.draws, scores.draws)
    assert not torch.equal(model.predict_scores("stage", n_samples=3, seed=1).draws, scores.draws)


def test_one_modality_can_be_asked_alone(model):
    by_rna = model.predict("type", modalities=["rna"]).table
    assert not np.allclose(by_rna["p_B"], model.predict("type").table["p_B"])


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda m: m.predict("respons"), r"no outcome 'respons'. Did you mean 'response'"),
        (lambda m: m.predict("type", level=1.0), r"level is a share between 0 and 1"),
        (lambda m: m.predict("type", n_samples=0), r"n_samples"),
        (lambda m: m.predict("type", modalities=["protein"]), r"no modality 'protein'"),
        (lambda m: m.predict("type").survival_at([1.0]), r"categorical outcome and has no survival"),
        (lambda m: m.predict("os").survival_at([-1.0]), r"times must be a list of numbers of at least 0"),
        (lambda m: m.predict("os").labels, r"has no categories"),
    ],
)
def test_what_cannot_be_asked(model, call, match):
    with pytest.raises(InputError, match=match):
        call(model)


def test_a_model_without_the_head_says_how_to_have_it(mdata):
    model = make_model(mdata)
    with pytest.raises(NotFittedError):
        model.predict("type")
    train(model, 1)
    with pytest.raises(InputError, match=r"no head that predicts 'type'. It has none.*heads=\{'type': Head"):
        model.predict("type")


@pytest.mark.parametrize(
    ("heads", "match"),
    [
        ({"typ": Head()}, r"no outcome 'typ'. Did you mean 'type'"),
        ({"type": "donor"}, r"heads\['type'\] must be a Head.*from multiomics_vae import Head"),
        (["type"], r"heads is a mapping"),
        ({"type": Head(level="donor")}, r"'type' differs between cells of donor"),
        ({"type": Head(kind="ordinal")}, r"cannot predict 'type', a categorical outcome.*'categorical'"),
        ({"type": Head(kind="categoricl")}, r"no head called 'categoricl'. Did you mean 'categorical'"),
    ],
)
def test_heads_that_cannot_be(mdata, heads, match):
    cells = _cells()
    cells.obs["type"] = np.where(np.arange(60) % 7 < 3, "B", "T")
    register(cells, donor_key="donor", outcomes={"type": "categorical", "response": "binary"})
    with pytest.raises(InputError, match=match):
        make_model(cells, heads=heads)


def test_donors_must_be_known_to_be_predicted():
    cells = register(_cells(), outcomes={"response": "binary"})
    with pytest.raises(InputError, match=r'setup_mudata\(mdata, donor_key="donor"'):
        make_model(cells, heads={"response": Head(level="donor")})
    cells = register(_cells())
    with pytest.raises(InputError, match=r"none was registered: MultiVAE.setup_mudata\(mdata, outcomes="):
        make_model(cells, heads={"response": Head()})


@pytest.mark.parametrize(
    "said",
    [
        {"level": "patient"},
        {"pooling": "max"},
        {"weight": -1.0},
        {"weight": float("nan")},
        {"weight": True},
        {"dropout": 1.0},
        {"n_hidden": -1},
        {"n_hidden": 2.5},
        {"n_intervals": 0},
        {"cells_per_donor": 0},
        {"class_weights": "even"},
        {"detach": 1},
        {"kind": 3},
    ],
)
def test_values_that_no_head_has(said):
    (name,) = said
    with pytest.raises(InputError, match=name):
        Head(**said)
