"""Encoder inputs that are worked out once are those of every visit, and training does not notice."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from multiomics_vae.data.loader import make_minibatch
from multiomics_vae.training import fit as fit_module
from multiomics_vae.training.prepared import with_encoder_inputs
from small_models import make_cells, make_model, register, train

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:mudata", "ignore::UserWarning:anndata")


def test_inputs_are_the_projected_rows_of_the_visited_cells() -> None:
    mdata = register(make_cells(n_cells=30, lacking={"atac": [3, 4, 11]}))
    model = make_model(mdata, projections={"rna": 0, "atac": 4})
    cells = np.array([2, 3, 9, 20])
    data = with_encoder_inputs(model._data, model.module, cells)
    assert data.modalities[0].encoder_inputs is None
    inputs = data.modalities[1].encoder_inputs
    assert inputs is not None
    batch = make_minibatch(data, cells).modalities[1]
    assert batch.encoder_inputs is not None
    encoder = model.module.parts[1].encoder
    assert encoder.projection is not None
    expected = encoder.projection(encoder.transform(replace(batch, encoder_inputs=None)))
    torch.testing.assert_close(batch.encoder_inputs, expected, rtol=0, atol=1e-6)
    assert np.isnan(inputs).any(axis=1).sum() == len(inputs) - 3  # cell 3 lacks the modality


def test_hidden_inputs_are_drawn_anew_at_every_visit() -> None:
    model = make_model(projections={"rna": 0, "atac": 4})
    data = with_encoder_inputs(model._data, model.module, np.arange(8))
    batch = make_minibatch(data, np.arange(8)).modalities[1]
    encoder = model.module.parts[1].encoder.train()
    encoder.input_dropout.p = 0.5  # of so few inputs none is hidden by itself
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first, second = encoder.inputs(batch), encoder.inputs(batch)
    assert not torch.equal(first == 0, second == 0)
    encoder.eval()
    assert torch.equal(encoder.inputs(batch), batch.encoder_inputs)  # type: ignore[arg-type]


def test_training_is_the_same_with_and_without(monkeypatch: pytest.MonkeyPatch) -> None:
    mdata = register(make_cells(n_cells=40, lacking={"atac": [0, 7]}))

    def trained() -> tuple[object, torch.Tensor]:
        model = train(make_model(mdata, projections={"rna": 0, "atac": 4}), 2)
        return model.history.to_frame(), torch.cat([p.detach().flatten() for p in model.module.parameters()])

    prepared, weights = trained()
    monkeypatch.setattr(fit_module, "with_encoder_inputs", lambda data, module, cells: data)
    visited, same = trained()
    torch.testing.assert_close(weights, same, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(prepared, visited, rtol=1e-4)


def test_the_models_own_data_stay_as_they_are() -> None:
    model = train(make_model(projections={"rna": 0, "atac": 4}), 1)
    assert all(table.encoder_inputs is None for table in model._data.modalities)
