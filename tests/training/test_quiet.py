"""Which of Lightning's messages a user sees while a model is trained."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import pytest

from multiomics_vae.training import fit as fit_module
from small_models import make_model, train

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:mudata", "ignore::UserWarning:anndata")

MODULE = "lightning.pytorch.trainer.connectors.data_connector"


def warn_as_lightning(message: str) -> None:
    warnings.warn_explicit(message, UserWarning, "data_connector.py", 1, module=MODULE)


@pytest.mark.parametrize("choices", [{}, {"validation_size": 0.0}, {"gradient_clip": 1.0}])
def test_training_says_nothing(choices: dict[str, Any]) -> None:
    model = make_model()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(model, 1, **choices)


@pytest.mark.parametrize(
    ("message", "is_shown"),
    [
        ("The dataloader yields no cell names, and results will be wrong.", True),
        ("GPU available but not used. You can set it by doing `Trainer(accelerator='gpu')`.", False),
    ],
)
def test_only_harmless_messages_are_kept_back(
    monkeypatch: pytest.MonkeyPatch, message: str, is_shown: bool
) -> None:
    make_trainer = fit_module.make_trainer

    def warning_trainer(*arguments: Any) -> Any:
        warn_as_lightning(message)
        return make_trainer(*arguments)

    monkeypatch.setattr(fit_module, "make_trainer", warning_trainer)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train(make_model(), 1)
    assert (message in [str(each.message) for each in caught]) == is_shown


def test_levels_and_filters_are_put_back() -> None:
    logger = logging.getLogger("lightning.pytorch")
    level, filters = logger.level, list(warnings.filters)
    train(make_model(), 1)
    assert logger.level == level
    assert list(warnings.filters) == filters
