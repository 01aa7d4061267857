"""The contrastive penalties against their definitions."""

from __future__ import annotations

import math

import pytest
import torch
from penalty_inputs import leaves_of, make_penalty, mosaic, random_input, with_leaves
from torch.nn import functional


def whole_cells(found):
    both = found.present.all(1)
    return found.singles.mean[0, both], found.singles.mean[1, both]


def test_info_nce_is_the_cross_entropy_of_recognising_a_cell():
    found = random_input(mosaic())
    first, second = whole_cells(found)
    logits = functional.cosine_similarity(first.unsqueeze(1), second.unsqueeze(0), dim=-1) / 0.1
    own = torch.arange(len(first))
    expected = (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)) / 2
    value = make_penalty("info_nce")(found)
    torch.testing.assert_close(value.mean, expected)
    assert value.n_counted == len(first) == 7


def test_distance_nce_is_the_cross_entropy_of_recognising_a_cell_by_distance():
    found = random_input(mosaic())
    first, second = whole_cells(found)
    logits = -0.5 * torch.cdist(first, second).square()
    own = torch.arange(len(first))
    expected = (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)) / 2
    value = make_penalty("distance_nce")(found)
    torch.testing.assert_close(value.mean, expected)
    assert value.n_counted == len(first) == 7


def test_triplet_is_the_average_over_all_triples():
    found = random_input(mosaic())
    first, second = (mean.tolist() for mean in whole_cells(found))

    def distance(a, b):
        return sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) / len(a)

    hinges = [
        max(0.0, 0.5 + distance(one[i], other[i]) - distance(one[i], other[j]))
        for one, other in ((first, second), (second, first))
        for i in range(len(first))
        for j in range(len(first))
        if i != j
    ]
    assert 0.0 in hinges
    assert make_penalty("triplet")(found).mean.item() == pytest.approx(sum(hinges) / len(hinges))


@pytest.mark.parametrize("name", ["info_nce", "distance_nce", "triplet"])
def test_pairs_of_modalities_count_by_their_cells(name):
    present = torch.ones(9, 3, dtype=torch.bool)
    present[:4, 2] = False
    found = random_input(present)
    penalty = make_penalty(name, n_modalities=3)
    of_pair, cells = [], []
    for a, b in ((0, 1), (0, 2), (1, 2)):
        kept = torch.zeros(3, dtype=torch.bool)
        kept[[a, b]] = True
        value = penalty(random_input(present & kept))
        of_pair.append(value.mean.item())
        cells.append(value.n_counted.item())
    assert cells == [9, 5, 5]
    expected = sum(value * n for value, n in zip(of_pair, cells, strict=True)) / sum(cells)
    value = penalty(found)
    assert value.mean.item() == pytest.approx(expected)
    assert value.n_counted == 9


@pytest.mark.parametrize("name", ["info_nce", "distance_nce", "triplet"])
def test_cells_of_one_modality_carry_no_term(name):
    present = mosaic()
    found = random_input(present)
    *joint, mean, log_variance, z = leaves_of(found)
    moved = mean.masked_fill(~present.all(1, keepdim=True), 7.0)
    penalty = make_penalty(name)
    assert penalty(found).mean == penalty(with_leaves(found, [*joint, moved, log_variance, z])).mean
    mean = mean.clone().requires_grad_()
    penalty(with_leaves(found, [*joint, mean, log_variance, z])).mean.backward()
    assert (mean.grad[:, ~present.all(1)] == 0).all()
    assert (mean.grad[:, present.all(1)] != 0).any()


def aligned(means):
    """Cells that both modalities see at the same place."""
    found = random_input(torch.ones(len(means), 2, dtype=torch.bool), n_latent=means.shape[1])
    *joint, _, log_variance, z = leaves_of(found)
    return with_leaves(found, [*joint, torch.stack([means, means]), log_variance, z])


def test_cells_that_are_told_apart_cost_nothing_and_equal_cells_the_most():
    apart = aligned(10.0 * torch.eye(4, dtype=torch.float64))
    equal = aligned(torch.ones(4, 4, dtype=torch.float64))
    info_nce, triplet = make_penalty("info_nce"), make_penalty("triplet")
    assert info_nce(apart).mean.item() == pytest.approx(math.log1p(3 * math.exp(-10.0)))
    assert info_nce(equal).mean.item() == pytest.approx(math.log(4))
    by_distance = make_penalty("distance_nce")
    assert by_distance(apart).mean.item() == pytest.approx(math.log1p(3 * math.exp(-100.0)))
    assert by_distance(equal).mean.item() == pytest.approx(math.log(4))
    assert triplet(apart).mean == 0
    assert triplet(equal).mean == 0.5


def test_info_nce_ignores_lengths():
    found = random_input(mosaic())
    *joint, mean, log_variance, z = leaves_of(found)
    shorter = mean * torch.tensor([1.0, 0.2])[:, None, None]
    penalty = make_penalty("info_nce")
    shrunk = with_leaves(found, [*joint, shorter, log_variance, z])
    torch.testing.assert_close(penalty(shrunk).mean, penalty(found).mean)
    by_distance = make_penalty("distance_nce")
    assert not torch.isclose(by_distance(shrunk).mean, by_distance(found).mean)


def test_a_mean_at_the_origin_keeps_a_finite_gradient():
    found = aligned(torch.zeros(3, 2, dtype=torch.float64))
    *joint, mean, log_variance, z = leaves_of(found)
    mean = mean.clone().requires_grad_()
    make_penalty("info_nce")(with_leaves(found, [*joint, mean, log_variance, z])).mean.backward()
    assert mean.grad.isfinite().all()
