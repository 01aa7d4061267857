"""Whether the modalities of a cell tell the same story, as a model's answer; and the gate in a model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import mudata
import numpy as np
import pytest
import torch
from scipy.stats import chi2

from multiomics_vae import MultiVAE
from multiomics_vae.data.loader import make_minibatch
from multiomics_vae.errors import CheckpointError, InputError, NotFittedError
from multiomics_vae.training import manifest
from multiomics_vae.training.checkpoint import load_checkpoint, save_checkpoint
from small_models import make_cells, make_model, register, train

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
KINDS = {"rna": "nb", "atac": "bernoulli", "ephys": "gaussian"}


@pytest.fixture(scope="module")
def cells() -> mudata.MuData:
    return register(make_cells(KINDS, lacking={"atac": range(6), "rna": range(6, 12)}), KINDS)


@pytest.fixture(scope="module")
def model(cells: mudata.MuData) -> MultiVAE:
    return train(make_model(cells, disagreement_gate=True))


def test_it_is_the_distance_of_the_experts_over_the_quantile(model: MultiVAE, cells: mudata.MuData) -> None:
    found = model.get_disagreement()
    assert list(found.index) == list(cells.obs_names)
    assert list(found.columns) == ["rna|atac", "rna|ephys", "atac|ephys"]
    minibatch = make_minibatch(model._data, np.arange(cells.n_obs))
    with torch.no_grad():
        experts = model.module.encode(minibatch).experts
    mean, variance = experts.mean.double().numpy(), experts.variance.double().numpy()
    for column, (a, b) in zip(found, ((0, 1), (0, 2), (1, 2)), strict=True):
        expected = ((mean[a] - mean[b]) ** 2 / (variance[a] + variance[b])).sum(1) / chi2.ppf(0.99, 3)
        both = model._data.present[:, [a, b]].all(1)
        assert 0 < both.sum() < cells.n_obs
        np.testing.assert_allclose(found[column][both], expected[both], rtol=1e-4)
        assert found[column][~both].isna().all()


def test_a_cell_does_not_depend_on_its_neighbours(model: MultiVAE, cells: mudata.MuData) -> None:
    whole = model.get_disagreement()
    some = model.get_disagreement(cells, indices=[3, 17, 8], batch_size=2)
    np.testing.assert_allclose(some, whole.iloc[[3, 17, 8]], rtol=1e-5)


def test_questions_that_cannot_be_answered(cells: mudata.MuData) -> None:
    with pytest.raises(NotFittedError, match=r"model\.train\(\)"):
        make_model(cells).get_disagreement()
    early = train(make_model(cells, fusion="concatenation"), 1)
    with pytest.raises(InputError, match=r"'concatenation' has no experts of single.*fusion='product'"):
        early.get_disagreement()


def test_the_gate_takes_weight_where_modalities_contradict_each_other(cells: mudata.MuData) -> None:
    """Experts are set by hand: agreeing in all cells, then far apart."""
    model = train(make_model(cells, disagreement_gate=True), 1)
    with torch.no_grad():
        for part, place in zip(model.module.parts, (0.2, 0.2, 9.0), strict=True):
            part.encoder.head.mean.weight.zero_()
            part.encoder.head.mean.bias.fill_(place)
            part.encoder.head.log_variance.weight.zero_()
            part.encoder.head.log_variance.bias.zero_()
        model.module.fusion.log_powers.zero_()
    whole = model._data.present.all(1)
    found = model.get_disagreement()
    assert (found["rna|atac"][whole] == 0).all()
    assert (found["rna|ephys"][whole] > 1).all()
    weights = model.get_expert_weights()[whole]
    np.testing.assert_allclose(weights["rna"], weights["atac"], rtol=1e-4)
    assert (weights["ephys"] < 0.01 * weights["rna"]).all()
    model.module.fusion.disagreement_gate = None
    np.testing.assert_allclose(model.get_expert_weights()[whole]["ephys"], 0.25, rtol=1e-4)


@pytest.mark.parametrize("fusion", ["product", "gated"])
def test_row_50_the_gate_is_saved_and_said(fusion: str, cells: mudata.MuData, tmp_path: Path) -> None:
    model = train(make_model(cells, fusion=fusion, disagreement_gate=True), 1)
    assert "with disagreement gate" in model.summary()
    model.save(tmp_path / "model")
    loaded = MultiVAE.load(tmp_path / "model", cells)
    assert loaded.config == model.config
    assert loaded.module.fusion.disagreement_gate == model.module.fusion.disagreement_gate is not None
    np.testing.assert_array_equal(loaded.get_latent_representation(), model.get_latent_representation())
    plain = make_model(cells, fusion=fusion)
    assert plain.module.fusion.disagreement_gate is None
    assert "gate," not in plain.summary()


def test_row_56_a_model_of_the_third_format_has_no_gate(
    cells: mudata.MuData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = train(make_model(cells), 1)
    model.save(tmp_path / "new")
    new = load_checkpoint(tmp_path / "new")
    config = {name: value for name, value in new.config.items() if name != "disagreement_gate"}
    with monkeypatch.context() as patch:
        patch.setattr(manifest, "FORMAT_VERSION", 3)
        save_checkpoint(tmp_path / "old", replace(new, config=config))
    loaded = MultiVAE.load(tmp_path / "old", cells)
    assert loaded.config == model.config
    np.testing.assert_array_equal(loaded.get_latent_representation(), model.get_latent_representation())


def test_gates_that_cannot_be(cells: mudata.MuData, model: MultiVAE, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="fusion='mixture' has no disagreement gate"):
        make_model(cells, fusion="mixture", disagreement_gate=True)
    with pytest.raises(InputError, match="disagreement_gate is True or False, not 'yes'"):
        make_model(cells, disagreement_gate="yes")
    model.save(tmp_path / "model")
    kept = load_checkpoint(tmp_path / "model")
    save_checkpoint(tmp_path / "bad", replace(kept, config={**kept.config, "disagreement_gate": 1}))
    with pytest.raises(CheckpointError, match="disagreement_gate is 1"):
        MultiVAE.load(tmp_path / "bad", cells)
