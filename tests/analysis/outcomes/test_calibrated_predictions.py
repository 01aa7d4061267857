"""Predictions of a model are calibrated on what its training held out, say so, and keep it when saved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar

from donors_with_outcomes import OUTCOMES, make_donors
from multiomics_vae import Head, MultiVAE
from multiomics_vae.analysis.outcomes.calibrated_outcome import OutcomeCalibration, learn_calibration
from multiomics_vae.analysis.outcomes.conformal import HeldOutScores
from multiomics_vae.analysis.outcomes.scores import OutcomeScores
from multiomics_vae.data.schema import OutcomeSchema
from multiomics_vae.errors import CheckpointError
from multiomics_vae.heads.binary import Binary
from multiomics_vae.heads.ordinal import Ordinal

HEADS = {
    "response": Head(level="donor"),
    "severity": Head(level="donor"),
    "site_of_origin": Head(level="cell"),
    "score": Head(level="donor"),
    "survival": Head(level="donor"),
}


@pytest.fixture(scope="module")
def model() -> MultiVAE:
    mdata = make_donors(30, 4)
    MultiVAE.setup_mudata(mdata, donor_key="donor", outcomes=OUTCOMES, likelihoods={"prot": "gaussian"})
    made = MultiVAE(mdata, n_latent=2, n_hidden=8, n_layers=1, heads=HEADS)
    return made.train(4, batch_size=32, accelerator="cpu", progress=False, validation_size=0.4)


def test_probabilities_carry_the_temperature_of_the_held_out_donors(model: MultiVAE) -> None:
    held_out = model.predict_scores("response", indices=model.validation_indices, n_samples=50)
    codes = held_out.labels[:, 0].astype(int)

    def loss(log_t: float) -> float:
        p = torch.sigmoid(held_out.draws[..., 0].double() / np.exp(log_t)).mean(0).numpy()
        return float(-np.log(np.where(codes == 1, p, 1 - p)).sum() + 0.5 * log_t**2)

    expected = np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x)
    found = model.predict("response")
    assert found.calibration is not None
    assert found.calibration.temperature == pytest.approx(expected, rel=1e-3)
    assert found.calibration.n_groups == 12
    scores = model.predict_scores("response")
    p = torch.sigmoid(scores.draws[..., 0].double() / found.calibration.temperature).mean(0)
    np.testing.assert_allclose(found.table["p_yes"], p.numpy(), rtol=1e-6)


@pytest.mark.parametrize("outcome", ["response", "severity", "site_of_origin"])
def test_sets_hold_the_held_out_rows_as_often_as_is_promised(model: MultiVAE, outcome: str) -> None:
    found = model.predict(outcome, indices=model.validation_indices, level=0.8)
    assert found.sets is not None
    truth = found.scores.labels[:, 0].astype(int)
    inside = found.sets.to_numpy()[np.arange(len(truth)), truth]
    assert inside.mean() >= 0.8
    assert (found.table["abstain"] == (found.sets.sum(axis=1) != 1)).all()
    first = found.sets.iloc[0]
    assert found.table["set"].iloc[0] == " | ".join(first.index[first])
    assert "Sets hold the truth of 80% of new donors, by 12 held-out donors" in found.note
    assert found.note in repr(found)
    assert set(found.labels[found.table["abstain"]]) <= {"unknown"}


def test_ordinal_sets_are_contiguous(model: MultiVAE) -> None:
    sets = model.predict("severity", level=0.8).sets
    assert sets is not None
    assert not (sets["mild"] & ~sets["moderate"] & sets["severe"]).any()


def test_intervals_of_numbers_hold_the_held_out_donors(model: MultiVAE) -> None:
    found = model.predict("score", indices=model.validation_indices, level=0.8)
    truth = found.scores.labels[:, 0] * found.head.outcome.sd + found.head.outcome.mean
    inside = (found.table["lower"] <= truth) & (truth <= found.table["upper"])
    assert inside.mean() >= 0.8
    assert "lower to upper holds the truth of 80% of new donors" in found.note
    assert found.sets is None


def test_too_few_held_out_donors_are_said_and_promise_nothing(model: MultiVAE) -> None:
    found = model.predict("response", level=0.95)
    assert found.sets is None
    assert "set" not in found.table
    assert "Only 12 held-out donors have a label, and 19 are needed" in repr(found)


def test_survival_and_given_modalities_promise_nothing(model: MultiVAE) -> None:
    assert "nothing is promised of the times" in model.predict("survival").note
    found = model.predict("response", modalities=["rna"])
    assert found.calibration is None
    assert "Not calibrated" in found.note


def test_nothing_held_out_is_not_calibrated() -> None:
    mdata = make_donors(6, 3)
    MultiVAE.setup_mudata(
        mdata, donor_key="donor", outcomes={"response": "binary"}, likelihoods={"prot": "gaussian"}
    )
    made = MultiVAE(mdata, n_latent=2, n_hidden=4, n_layers=1, heads={"response": Head(level="donor")})
    made.train(2, accelerator="cpu", progress=False, validation_size=0.0)
    assert "Not calibrated: nothing with a label was held out" in repr(made.predict("response"))


def test_a_saved_model_keeps_its_calibration(model: MultiVAE, tmp_path: Path) -> None:
    before = {name: model.predict(name, level=0.8).table for name in HEADS}
    model.save(tmp_path / "model")
    mdata = make_donors(30, 4)
    loaded = MultiVAE.load(tmp_path / "model", mdata)
    for name, table in before.items():
        found = loaded.predict(name, level=0.8)
        assert list(found.table.columns) == list(table.columns)
        numbers = table.select_dtypes("number").columns
        np.testing.assert_allclose(found.table[numbers], table[numbers], rtol=1e-5, atol=1e-6)
    loaded.train(1, accelerator="cpu", progress=False, validation_size=0.0)
    assert loaded.predict("response").calibration is None


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(3, 4, dtype=torch.float64),
        torch.ones(2, 4, dtype=torch.float32),
        torch.tensor([[0.0, 2.0, 0.1, 0.2], [1.0, 0.0, 0.3, 0.6]], dtype=torch.float64),
        torch.tensor([[1.0, 2.0, 0.3, 0.2], [1.0, 0.0, 0.3, 0.6]], dtype=torch.float64),
        torch.tensor([[1.0, 2.0, 0.1, torch.nan], [1.0, 0.0, 0.3, 0.6]], dtype=torch.float64),
    ],
)
def test_numbers_that_no_calibration_has_are_refused(model: MultiVAE, tensor: torch.Tensor) -> None:
    from multiomics_vae.analysis.aids import aids_from_tensors

    with pytest.raises(CheckpointError, match="outcome/0"):
        aids_from_tensors({"outcome/0": tensor}, model.module)
    with pytest.raises(CheckpointError, match="which this model has no use for"):
        aids_from_tensors({"outcome/77": tensor}, model.module)


def test_a_calibration_becomes_a_tensor_and_comes_back() -> None:
    rng = np.random.default_rng(0)
    held_out = HeldOutScores.of(rng.random(40_000), rng.integers(500, size=40_000))
    ours = OutcomeCalibration(1.7, held_out, True)
    found = OutcomeCalibration.from_tensor(ours.to_tensor())
    assert (found.temperature, found.n_groups, found.of_donors) == (1.7, 500, True)
    assert len(found.held_out.scores) == 10_000
    for level in (0.5, 0.9, 0.99):
        assert found.held_out.threshold(level) == pytest.approx(held_out.threshold(level), abs=1e-3)


def _scores(logits: torch.Tensor, labels: np.ndarray) -> OutcomeScores:
    n = len(labels)
    return OutcomeScores(
        np.arange(n).astype(str),
        logits,
        logits[None],
        labels[:, None].astype(np.float32),
        np.ones(n),
        np.empty(0),
        np.empty(0),
    )


def test_donors_count_the_same_however_many_cells_they_have() -> None:
    """A large donor that is always wrong, and twenty small ones that are right."""
    rng = np.random.default_rng(0)
    donor = np.r_[np.zeros(400, dtype=int), np.arange(1, 21)]
    codes = (rng.random(420) < 0.5).astype(float)
    logits = torch.from_numpy(3.0 * (2 * codes - 1) * np.where(donor == 0, -1, 1))[:, None]
    head = Binary(1, OutcomeSchema("response", "binary", ("response",), ("no", "yes")), Head())
    by_donor = learn_calibration(head, _scores(logits, codes), donor, True)
    by_cell = learn_calibration(head, _scores(logits, codes), None, False)
    assert by_donor is not None
    assert by_cell is not None
    assert by_donor.temperature < 2.0
    assert by_cell.temperature > 10.0
    assert (by_donor.n_groups, by_cell.n_groups) == (21, 420)


def test_a_known_temperature_is_found_through_an_ordinal_head() -> None:
    rng = np.random.default_rng(1)
    cuts, score = np.array([-1.0, 1.0]), 3.0 * rng.normal(size=8000)
    codes = ((score + 2.5 * rng.logistic(size=8000))[:, None] > cuts * 1.0).sum(1)
    # The cumulative logits (c - s) / 2.5 are the true ones, those of the head 2.5 times as large.
    head = Ordinal(1, OutcomeSchema("s", "ordinal", ("s",), ("a", "b", "c")), Head())
    found = learn_calibration(head, _scores(torch.from_numpy(cuts - score[:, None]), codes), None, False)
    assert found is not None
    assert found.temperature == pytest.approx(2.5, rel=0.06)
