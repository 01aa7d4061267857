"""The history: a mapping of series over epochs, which goes through JSON and back."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from multiomics_vae.errors import CheckpointError, InputError
from multiomics_vae.training.history import History

ROWS = [{"elbo_train": -3.0, "elbo_validation": -4.0}, {"elbo_train": -2.0, "atac_x": math.nan}]


def test_series_over_epochs() -> None:
    history = History(ROWS)
    assert list(history) == ["elbo_train", "elbo_validation", "atac_x"]
    assert (len(history), history.n_epochs) == (3, 2)
    series = history["elbo_train"]
    assert list(series.index) == [1, 2]
    assert series.index.name == "epoch"
    assert list(series) == [-3.0, -2.0]
    assert history.last == ROWS[1]
    pd.testing.assert_series_equal(history.to_frame()["elbo_train"], series)
    assert "2 epochs: elbo_train" in repr(history)


def test_a_quantity_that_an_epoch_lacks_is_nan() -> None:
    np.testing.assert_array_equal(History(ROWS)["elbo_validation"], [-4.0, math.nan])


def test_names_that_are_not_there() -> None:
    history = History(ROWS)
    with pytest.raises(InputError, match=r"no 'elbo_trian'\. Did you mean 'elbo_train'"):
        history["elbo_trian"]
    assert "elbo_trian" not in history
    assert history.get("elbo_trian") is None
    assert history.get("elbo_trian", 3) == 3
    assert list(history.get("elbo_train")) == [-3.0, -2.0]


def test_empty() -> None:
    history = History()
    assert (len(history), history.n_epochs, list(history), history.last) == (0, 0, [], {})
    assert history.to_frame().empty
    with pytest.raises(InputError, match="nothing to choose from"):
        history["elbo_train"]


def test_what_is_given_is_not_changed() -> None:
    rows = [{"loss": 1.0}]
    history = History(rows)
    row = {"loss": 2.0}
    history.append(row)
    row["loss"] = 3.0
    assert len(rows) == 1
    assert list(history["loss"]) == [1.0, 2.0]


def test_through_json_and_back() -> None:
    rows = [*ROWS, {"elbo_train": math.inf}]
    document = History(rows).to_json()
    assert document[1]["atac_x"] is None
    assert document[2]["elbo_train"] is None
    again = History.from_json(document)
    np.testing.assert_array_equal(again["elbo_train"], [-3.0, -2.0, math.nan])
    assert again.to_json() == document


@pytest.mark.parametrize("rows", [None, 3, {"loss": [1.0]}, [3], [{"loss": "x"}], [{"loss": True}], [[1.0]]])
def test_json_that_is_no_history(rows: object) -> None:
    with pytest.raises(CheckpointError, match=r"history\.json"):
        History.from_json(rows)
