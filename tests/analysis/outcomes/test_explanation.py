"""Attributions add up to the prediction, and find what drives an outcome."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from donors_with_outcomes import OUTCOMES, make_donors
from multiomics_vae import Head, MultiVAE
from multiomics_vae.analysis.outcomes.path_gradients import encoder_inputs, unit_scores
from multiomics_vae.data.loader import make_minibatch
from multiomics_vae.errors import InputError, UnsupportedError

HEADS = {
    "response": Head(level="donor"),
    "severity": Head(level="donor"),
    "site_of_origin": Head(level="cell"),
    "score": Head(level="cell"),
    "survival": Head(level="donor", kind="cox"),
}


@pytest.fixture(scope="module")
def model() -> MultiVAE:
    mdata = make_donors(8, 4)
    lacking = mdata["prot"][5:].copy()
    parts = {"rna": mdata["rna"], "prot": lacking}
    import mudata

    with mudata.set_options(pull_on_update=False):
        cut = mudata.MuData(parts)
        cut.obs = mdata.obs.loc[cut.obs_names]
    MultiVAE.setup_mudata(cut, donor_key="donor", outcomes=OUTCOMES, likelihoods={"prot": "gaussian"})
    made = MultiVAE(
        cut,
        n_latent=2,
        n_hidden=8,
        n_layers=1,
        heads=HEADS,
        projections={"rna": 3},
        transforms={"rna": "tfidf"},
    )
    return made.train(3, batch_size=16, accelerator="cpu", progress=False)


@pytest.mark.parametrize("outcome", list(HEADS))
def test_attributions_add_up_to_the_prediction(model: MultiVAE, outcome: str) -> None:
    pytest.importorskip("captum")
    found = model.explain(outcome, n_steps=256)
    moved = found.modalities.sum(axis=1)
    assert found.error.abs().max() < 0.02 * moved.abs().max() + 1e-4
    n_units = 8 if HEADS[outcome].level == "donor" else 32
    assert len(found.modalities) == n_units
    assert len(found.features) == 16
    rna = found.features.query("modality == 'rna'")
    np.testing.assert_allclose(
        (rna["attribution"] * rna["n"]).sum(), found.modalities["rna"].sum(), rtol=1e-4, atol=1e-5
    )
    assert "They are no effects" in repr(found)


def test_what_a_cell_lacks_moves_nothing(model: MultiVAE) -> None:
    pytest.importorskip("captum")
    found = model.explain("score")
    assert found.modalities["prot"].isna().sum() == 5
    assert found.features.set_index("feature")["n"].to_dict()["prot:f0"] == 27


def test_the_score_that_is_explained_is_the_one_that_is_predicted(model: MultiVAE) -> None:
    for reader in model.module.readers:
        model.module.eval()
        with torch.no_grad():
            donor = np.flatnonzero(model._data.donor == 2)
            minibatch = make_minibatch(model._data, donor)
            inputs = encoder_inputs(model.module, minibatch)
            n_units = 1 if reader.of_donors else len(donor)
            shaped = tuple(each.reshape(n_units, len(donor) // n_units, -1) for each in inputs)
            found = unit_scores(
                model.module, minibatch, reader, len(reader.output.outcome.categories) - 1, shaped
            )
            twice = unit_scores(
                model.module, minibatch, reader, len(reader.output.outcome.categories) - 1,
                tuple(torch.cat([each, each]) for each in shaped),
            )  # fmt: skip
        torch.testing.assert_close(twice, torch.cat([found, found]))
        scores = model.predict_scores(reader.name, indices=donor, n_samples=0).at_mean
        head = reader.output
        if head.outcome.categories:
            expected = torch.logit(head.log_probabilities(scores)[:, -1].exp())
        elif head.outcome.kind == "survival":
            expected = head.risk(scores)
        else:
            expected = head.mean_and_sd(scores)[0] * head.outcome.sd + head.outcome.mean
        torch.testing.assert_close(found, expected.detach(), rtol=1e-4, atol=1e-4)


def test_the_driving_features_come_first() -> None:
    """Only the first two of eight features follow the donors' state."""
    pytest.importorskip("captum")
    mdata = make_donors(40, 4, signal=2.0)
    rng = np.random.default_rng(0)
    x = np.asarray(mdata["prot"].X).copy()
    state = (mdata.obs["score"].to_numpy() - 10.0) / 3.0
    x[:] = rng.normal(size=x.shape)
    x[:, :2] = state[:, None] + 0.2 * x[:, :2]
    mdata["prot"].X = x.astype(np.float32)
    MultiVAE.setup_mudata(
        mdata, donor_key="donor", outcomes={"score": "continuous"}, likelihoods={"prot": "gaussian"},
        modalities=["prot"],
    )  # fmt: skip
    made = MultiVAE(mdata, n_latent=3, n_hidden=16, n_layers=1, heads={"score": Head(weight=20.0)})
    made.train(60, batch_size=32, accelerator="cpu", progress=False, early_stopping=False)
    found = made.explain("score")
    assert set(found.features["feature"].head(2)) == {"prot:f0", "prot:f1"}
    others = found.features["magnitude"].iloc[2:]
    assert found.features["magnitude"].iloc[1] > 2.0 * others.max()


def test_unknown_categories_and_outcomes_are_refused(model: MultiVAE) -> None:
    with pytest.raises(InputError, match="Did you mean 'severe'"):
        model.explain("severity", category="sever")
    with pytest.raises(InputError, match="has no category 'high'"):
        model.explain("score", category="high")
    with pytest.raises(InputError, match="Did you mean 'severity'"):
        model.explain("severty")


def test_without_captum_it_is_said_how_to_get_it(model: MultiVAE, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "captum", None)
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(UnsupportedError, match=r"pip install 'multiomics-vae\[explain\]'"):
        model.explain("response")
