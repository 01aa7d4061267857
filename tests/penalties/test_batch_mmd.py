"""The discrepancy between batches against the double loop, and what an exchange of batches leaves."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from test_hsic import draw, given, kernel, make


def discrepancy(z, w):
    """MMD² over pairs of different cells."""

    def within(cells):
        return np.mean([kernel(a, b) for a, b in permutations(cells, 2)])

    return within(z) + within(w) - 2 * np.mean([kernel(a, b) for a in z for b in w])


def test_it_is_the_double_loop_over_pairs_of_batches_by_their_cells():
    z, _ = draw(10)
    batch = torch.tensor([0, 0, 0, 0, 1, 1, 1, 2, 2, 2])
    cells = [z[batch == b].tolist() for b in range(3)]
    pairs = [(0, 1), (0, 2), (1, 2)]
    weights = [len(cells[a]) * len(cells[b]) for a, b in pairs]
    values = [discrepancy(cells[a], cells[b]) for a, b in pairs]
    value = make("batch_mmd")(given(z, batch))
    assert value.mean.item() == pytest.approx(np.average(values, weights=weights))
    assert value.n_counted == 10


def test_batches_of_one_cell_are_left_out():
    z, _ = draw(7)
    batch = torch.tensor([0, 0, 0, 1, 1, 1, 2])
    value = make("batch_mmd")(given(z, batch))
    assert value.mean.item() == pytest.approx(discrepancy(z[:3].tolist(), z[3:6].tolist()))
    assert value.n_counted == 6
    alone = make("batch_mmd")(given(z, torch.tensor([0, 0, 0, 0, 0, 0, 2])))
    assert alone.mean == 0
    assert alone.n_counted == 0


def test_its_mean_over_all_permutations_is_zero():
    z, _ = draw(6)
    batch = torch.tensor([0, 0, 0, 1, 1, 1])
    values = [make("batch_mmd")(given(z, batch[list(order)])).mean.item() for order in permutations(range(6))]
    assert np.mean(values) == pytest.approx(0.0, abs=1e-15)
    assert np.std(values) > 1e-3


def test_a_shift_is_seen():
    z, batch = draw(900)
    assert abs(make("batch_mmd")(given(z, batch)).mean.item()) < 5e-3
    assert make("batch_mmd")(given(z + 2.0 * batch.unsqueeze(1), batch)).mean.item() > 0.3
