"""Active units: dimensions whose posterior mean follows the cells."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from known_models import known

from handmade_models import mixed_data, module_for
from multiomics_vae.analysis.evaluation.question import Question
from multiomics_vae.analysis.evaluation.units import active_units, unit_activity


def test_activity_is_the_variance_of_the_exact_means() -> None:
    model = known(80)
    found = unit_activity(model.question)
    assert list(found.columns) == ["all", "m0", "m1"]
    for given, modalities in (("all", (0, 1)), ("m0", (0,)), ("m1", (1,))):
        assert found[given].item() == pytest.approx(model.posterior(modalities)[0].var(), rel=1e-3)
    assert active_units(found) == {"all": 1, "m0": 1, "m1": 1}


def test_a_deaf_encoder_has_no_active_unit() -> None:
    model = known(80)
    with torch.no_grad():
        model.question.module.parts[1].encoder.head.mean.weight.zero_()
    assert active_units(unit_activity(model.question)) == {"all": 1, "m0": 1, "m1": 0}


def test_every_dimension_has_a_row() -> None:
    data = mixed_data(30)
    found = unit_activity(Question(module_for(data, n_latent=5), data, np.arange(30), 8, 5, 0))
    assert found.shape == (5, 4)
    assert found.notna().to_numpy().all()
