"""What every head owes, whatever its mathematics."""

from __future__ import annotations

import pytest
import torch
from head_cases import CASES, N_INPUTS, OUTCOMES, make_features, make_head, make_labels, make_scores

from multiomics_vae.heads import HEADS, ClassHead, NumberHead, TimeHead

pytestmark = pytest.mark.parametrize(("name", "kind"), CASES)


def test_it_is_of_one_of_the_three_sorts(name, kind):
    assert sum(issubclass(HEADS[name], sort) for sort in (ClassHead, NumberHead, TimeHead)) == 1
    assert kind in OUTCOMES


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shapes_and_types(name, kind, dtype):
    head = make_head(name, kind, dtype=dtype)
    scores = head(make_features(5, dtype=dtype))
    assert scores.shape == (5, head.n_scores)
    assert scores.dtype == dtype
    cost = head.negative_log_likelihood(scores, make_labels(kind, 5, dtype=dtype))
    assert cost.shape == (5,)
    assert cost.dtype == dtype
    assert cost.isfinite().all()


def test_draws_are_scored_as_rows_are(name, kind):
    head, features = make_head(name, kind), make_features(6)
    torch.testing.assert_close(head(features.view(2, 3, N_INPUTS)).flatten(0, 1), head(features))


def test_a_row_without_a_label_costs_nothing_and_changes_nothing(name, kind):
    head = make_head(name, kind)
    scores, labels = make_scores(head, 12), make_labels(kind, 12)
    labels[3:6] = torch.nan
    kept = torch.tensor([i for i in range(12) if i not in (3, 4, 5)])
    cost = head.negative_log_likelihood(scores, labels)
    assert (cost[3:6] == 0).all()
    torch.testing.assert_close(cost[kept], head.negative_log_likelihood(scores[kept], labels[kept]))


def test_no_labels_at_all_give_zero_with_a_gradient_of_zero(name, kind):
    head = make_head(name, kind)
    features = make_features(4).requires_grad_()
    cost = head.negative_log_likelihood(head(features), torch.full_like(make_labels(kind, 4), torch.nan))
    (gradient,) = torch.autograd.grad(cost.sum(), features)
    assert (cost == 0).all()
    assert (gradient == 0).all()


def test_gradient_is_that_of_the_cost(name, kind):
    head, labels = make_head(name, kind), make_labels(kind, 7)
    labels[2] = torch.nan
    weights = torch.linspace(0.5, 2.0, 7, dtype=torch.float64)

    def cost(scores):
        return (weights * head.negative_log_likelihood(scores, labels)).sum()

    assert torch.autograd.gradcheck(cost, make_scores(head, 7).requires_grad_())


@pytest.mark.parametrize("size", [1e2, 1e4])
def test_extreme_scores_stay_finite(name, kind, size):
    head = make_head(name, kind, dtype=torch.float32)
    features = (size * make_features(9, dtype=torch.float32)).requires_grad_()
    labels = make_labels(kind, 9, dtype=torch.float32)
    cost = head.negative_log_likelihood(head(features), labels).sum()
    (gradient,) = torch.autograd.grad(cost, features)
    assert cost.isfinite()
    assert gradient.isfinite().all()


def test_rows_are_permuted_with_their_costs(name, kind):
    head = make_head(name, kind)
    scores, labels = make_scores(head, 12), make_labels(kind, 12)
    if head.compares_rows:
        labels[:, 0] += 1e-3 * torch.arange(12)  # among ties the order decides who is charged what
    order = torch.randperm(12, generator=torch.Generator().manual_seed(3))
    cost = head.negative_log_likelihood(scores, labels)
    torch.testing.assert_close(head.negative_log_likelihood(scores[order], labels[order]), cost[order])
    if not head.compares_rows:
        alone = [head.negative_log_likelihood(scores[i : i + 1], labels[i : i + 1]) for i in range(12)]
        torch.testing.assert_close(torch.cat(alone), cost)


def test_every_weight_matters(name, kind):
    head = make_head(name, kind)
    head.negative_log_likelihood(head(make_features(40)), make_labels(kind, 40)).sum().backward()
    assert all(parameter.grad is not None and (parameter.grad != 0).any() for parameter in head.parameters())


def test_state_goes_into_another_head_and_back(name, kind):
    head, other = make_head(name, kind), make_head(name, kind, seed=8)
    other.load_state_dict(head.state_dict())
    scores = make_scores(head, 5)
    for found, expected in zip(_described(other, scores), _described(head, scores), strict=True):
        torch.testing.assert_close(found, expected, equal_nan=True)
    assert all(tensor.isfinite().all() for tensor in head.state_dict().values())


def test_the_distribution_is_one(name, kind):
    head = make_head(name, kind)
    scores = make_scores(head, 5)
    if isinstance(head, ClassHead):
        probabilities = head.log_probabilities(scores).exp()
        assert probabilities.shape == (5, len(OUTCOMES[kind].categories))
        torch.testing.assert_close(probabilities.sum(-1), torch.ones(5, dtype=torch.float64))
    elif isinstance(head, NumberHead):
        assert (head.mean_and_sd(scores)[1] > 0).all()
    else:
        times = torch.linspace(0.0, float(head.grid[-1]), 40, dtype=torch.float64)
        survival = head.log_survival(scores, times).exp()  # (5, 40)
        assert survival.shape == (5, 40)
        torch.testing.assert_close(survival[:, 0], torch.ones(5, dtype=torch.float64))
        assert (survival.diff(dim=1) <= 0).all()
        assert head.log_survival(scores, head.grid[-1:] + 1.0).isnan().all()
        risk = head.risk(scores)
        dominated = (survival[:, None] >= survival[None]).all(-1)  # (5, 5): the row lives longer at any time
        assert (risk[:, None] <= risk[None])[dominated].all()


def _described(head, scores):
    if isinstance(head, ClassHead):
        return (head.log_probabilities(scores),)
    if isinstance(head, NumberHead):
        return head.mean_and_sd(scores)
    return head.log_survival(scores, torch.tensor([0.3, 1.1, 2.9], dtype=torch.float64)), head.risk(scores)
