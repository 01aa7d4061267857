"""Held-out donors stay unseen, numbers follow the seed, and a result prints and becomes a table."""

from __future__ import annotations

import inspect
from dataclasses import fields, replace

import mudata
import numpy as np
import pandas as pd
import pytest

from donors_with_outcomes import OUTCOMES, make_donors
from multiomics_vae import Head, ModelSettings, MultiVAE, TrainingSettings, cross_validate
from multiomics_vae.analysis.outcomes.folds import Fold
from multiomics_vae.analysis.outcomes.validated import CrossValidation
from multiomics_vae.cross_validation.donors import read_donors
from multiomics_vae.cross_validation.fold import Recipe, model_of_fold, predict_fold
from multiomics_vae.cross_validation.validate import permuted_outcomes
from multiomics_vae.errors import InputError
from small_models import fingerprint

SMALL = ModelSettings(n_latent=2, n_hidden=4, n_layers=1)
SHORT = TrainingSettings(max_epochs=2, batch_size=32, accelerator="cpu")
RECIPE = Recipe(Head(level="donor"), SMALL, SHORT, 0.3, 0.7, 0)


def set_up(mdata: mudata.MuData) -> mudata.MuData:
    MultiVAE.setup_mudata(mdata, donor_key="donor", outcomes=OUTCOMES, likelihoods={"prot": "gaussian"})
    return mdata


def validated(mdata: mudata.MuData, outcome: str = "response", **choices: object) -> CrossValidation:
    usual: dict[str, object] = {
        "covariates": ["age", "sex"], "model": SMALL, "training": SHORT, "n_folds": 2, "n_permuted": 0,
        "n_draws": 20, "progress": False, "level": 0.7,
    }  # fmt: skip
    return cross_validate(mdata, outcome, **{**usual, **choices})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def result() -> CrossValidation:
    return validated(set_up(make_donors(unknown=(5,))), n_permuted=1)


@pytest.mark.parametrize("outcome", ["response", "score", "survival"])
def test_labels_of_held_out_donors_change_nothing(outcome: str) -> None:
    held_out = np.array([1, 4, 9])
    fold = Fold(0, 0, np.setdiff1d(np.arange(12), held_out), held_out)
    honest, corrupt = make_donors(), make_donors()
    whose = corrupt.obs["donor"].isin([read_names(corrupt)[i] for i in held_out]).to_numpy()
    corrupt.obs.loc[whose, "response"] = "yes"
    corrupt.obs.loc[whose, "severity"] = "severe"
    corrupt.obs.loc[whose, ["score", "time"]] = 1e6
    corrupt.obs.loc[whose, "event"] = 1.0
    found = []
    for mdata in (honest, corrupt):
        options = MultiVAE.setups.get(set_up(mdata))
        assert options is not None
        donors = read_donors(mdata, options, outcome, ["age"])
        # What the columns are called may be known; the scale of times and numbers is each fold's own.
        found.append(predict_fold(donors, RECIPE, fold).predicted)
    np.testing.assert_array_equal(found[0], found[1])


def test_labels_of_training_donors_do_change_predictions() -> None:
    """So that the test above cannot pass because nothing is read at all."""
    held_out = np.array([1, 4, 9])
    fold = Fold(0, 0, np.setdiff1d(np.arange(12), held_out), held_out)
    mdata = set_up(make_donors())
    options = MultiVAE.setups.get(mdata)
    assert options is not None
    donors = read_donors(mdata, options, "response", [])
    permutation = np.arange(12)
    permutation[fold.training] = fold.training[::-1]
    own, dealt = predict_fold(donors, RECIPE, fold), predict_fold(donors, RECIPE, fold, permutation)
    assert not np.array_equal(own.predicted, dealt.predicted)


def read_names(mdata: mudata.MuData) -> list[str]:
    return sorted(mdata.obs["donor"].unique())


def test_what_a_fold_is_asked_about_has_no_column_of_an_outcome_and_what_it_learns_from_no_other_donor() -> (
    None
):
    mdata = set_up(make_donors(unknown=(5,)))
    mdata["rna"].obs["response"] = mdata.obs.loc[mdata["rna"].obs_names, "response"]
    options = MultiVAE.setups.get(mdata)
    assert options is not None
    donors = read_donors(mdata, options, "response", ["age"])
    held_out = np.array([0, 3])
    asked = donors.unlabelled(held_out)
    assert not set(asked.obs.columns) & {"response", "severity", "site_of_origin", "score", "time", "event"}
    assert all(part.obs.shape[1] == 0 for part in asked.mod.values())
    assert set(asked.obs["donor"]) == set(donors.names[held_out])
    model = model_of_fold(donors, RECIPE, Fold(0, 0, np.setdiff1d(np.arange(12), held_out), held_out))
    known = model.adata.obs_names
    assert not set(mdata.obs.loc[known, "donor"]) & set(donors.names[held_out])
    inner = mdata.obs.loc[known[model.validation_indices], "donor"]
    trained = mdata.obs.loc[known[model.train_indices], "donor"]
    assert len(set(inner)) == 3
    assert not set(inner) & set(trained)


def test_a_permutation_deals_outcomes_to_donors_and_leaves_cells_alone() -> None:
    mdata = set_up(make_donors(unknown=(5,)))
    options = MultiVAE.setups.get(mdata)
    assert options is not None
    donors = read_donors(mdata, options, "severity", [])
    permutation = permuted_outcomes(donors.known, np.random.default_rng(0))
    assert permutation[~donors.known] == np.flatnonzero(~donors.known)
    part = donors.labelled(np.arange(12), permutation)
    given = part.obs.groupby("donor")["severity"].first()
    own = mdata.obs.groupby("donor")["severity"].first()
    for i, name in enumerate(donors.names):
        expected = own[donors.names[permutation[i]]]
        assert given[name] == expected or (pd.isna(given[name]) and pd.isna(expected))
    assert list(part.obs["severity"].cat.categories) == ["mild", "moderate", "severe"]
    assert (part["rna"].X != mdata["rna"].X).nnz == 0


def test_the_same_seed_gives_the_same_numbers_and_nothing_of_the_users_is_changed() -> None:
    mdata = set_up(make_donors())
    before = fingerprint(mdata)
    state = np.random.get_state()[1].tolist()  # noqa: NPY002
    one, two = validated(mdata), validated(mdata)
    pd.testing.assert_frame_equal(one.to_frame(), two.to_frame())
    pd.testing.assert_frame_equal(one.predictions, two.predictions)
    assert fingerprint(mdata) == before
    assert np.random.get_state()[1].tolist() == state  # noqa: NPY002


def test_every_donor_with_an_outcome_is_predicted_once_a_run(result: CrossValidation) -> None:
    counts = result.predictions.groupby("run")["donor"].agg(["size", "nunique"])
    assert (counts == 11).all().all()
    assert set(counts.index) == {"model", "clinical", "permuted"}
    assert "d5" not in set(result.predictions["donor"])
    p = result.predictions[["p_no", "p_yes"]]
    np.testing.assert_allclose(p.sum(axis=1), 1.0)


def test_a_result_prints_and_becomes_a_table(result: CrossValidation) -> None:
    text = str(result)
    for part in (
        "'response' (binary) of 11 donors",
        "age, sex",
        "auroc",
        "clinical",
        "permuted",
        "Permutation",
    ):
        assert part in text
    frame = result.to_frame()
    assert set(frame["what"]) == {"score", "model minus clinical", "fold", "p_value"}
    scores = frame[(frame["what"] == "score") & (frame["run"] == "model")].set_index("measure")
    assert (scores["low"] <= scores["value"]).all()
    assert (scores["value"] <= scores["high"]).all()
    with pytest.raises(KeyError):
        result.run("none")


def test_permuted_truth_is_what_the_permuted_run_is_judged_by(result: CrossValidation) -> None:
    own, dealt = result.run("model").results.truth, result.run("permuted").results.truth
    assert not np.array_equal(own, dealt)
    np.testing.assert_array_equal(np.sort(own), np.sort(dealt))


@pytest.mark.parametrize("outcome", ["severity", "score", "survival"])
def test_other_kinds_of_outcome(outcome: str) -> None:
    found = validated(set_up(make_donors()), outcome, head=Head(level="cell"), calibration_share=0.0)
    assert found.coverage.empty
    assert found.scores["value"].notna().all()
    if outcome != "survival":
        assert "No conformal sets" in str(found)


def test_cells_of_a_donor_are_averaged_where_the_head_is_of_cells() -> None:
    mdata = set_up(make_donors())
    options = MultiVAE.setups.get(mdata)
    assert options is not None
    donors = read_donors(mdata, options, "response", [])
    fold = Fold(0, 0, np.arange(2, 12), np.arange(2))
    recipe = replace(RECIPE, head=Head(level="cell"))
    model = model_of_fold(donors, recipe, fold)
    asked = donors.unlabelled(fold.held_out)
    table = model.predict("response", mdata=asked, level=0.7).table
    expected = table["p_yes"].groupby(asked.obs["donor"].loc[table.index]).mean()
    found = predict_fold(donors, recipe, fold)
    np.testing.assert_allclose(found.predicted[:, 1], expected[donors.names[:2]])
    assert found.sets is None


def test_settings_have_the_defaults_of_what_they_are_handed_to() -> None:
    for settings, call in ((ModelSettings(), MultiVAE.__init__), (TrainingSettings(), MultiVAE.train)):
        defaults = {name: p.default for name, p in inspect.signature(call).parameters.items()}
        for each in fields(settings):
            if each.name != "other_heads":
                assert getattr(settings, each.name) == defaults[each.name], each.name


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"n_folds": 1}, "n_folds must be a whole number of at least 2"),
        ({"n_folds": 13}, "12 donors with a known outcome cannot be dealt into 13 folds"),
        ({"covariates": "age"}, r"covariates=\['age'\]"),
        ({"covariates": ["age", "response"]}, "it would be predicted from itself"),
        ({"level": 1.0}, "level is a share from 0 to below 1"),
        ({"groups": "doner"}, "Did you mean 'donor'"),
        ({"outcome": "respons"}, "Did you mean 'response'"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_trained(choices: dict, message: str) -> None:
    mdata = set_up(make_donors())
    with pytest.raises(InputError, match=message):
        validated(mdata, **choices)


def test_a_mudata_without_set_up_or_donors_is_refused() -> None:
    mdata = make_donors()
    with pytest.raises(InputError, match="This MuData was not set up"):
        validated(mdata)
    MultiVAE.setup_mudata(mdata, outcomes={"response": "binary"}, likelihoods={"prot": "gaussian"})
    with pytest.raises(InputError, match=r"cross_validate\(mdata, 'response', groups=\"donor\"\)"):
        validated(mdata)
    assert validated(mdata, groups="donor").scores["value"].notna().all()


def test_outcomes_of_cells_are_refused() -> None:
    mdata = make_donors()
    mdata.obs["response"] = np.where(np.arange(len(mdata.obs)) % 2, "yes", "no")
    with pytest.raises(InputError, match="is no outcome of donors"):
        validated(set_up(mdata))
