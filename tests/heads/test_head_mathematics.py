"""The costs of heads against scipy, scikit-learn, numerical integration, and sums written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from head_cases import OUTCOMES, make_features, make_head, make_labels, make_scores
from scipy import integrate, stats
from scipy.special import expit
from sklearn.metrics import log_loss

from multiomics_vae.data.schema import OutcomeSchema
from multiomics_vae.errors import InputError
from multiomics_vae.heads import HEADS, Head
from multiomics_vae.heads.cox import N_TIMES, Cox
from multiomics_vae.heads.survival import IntervalHazards


@pytest.mark.parametrize(("name", "kind"), [("binary", "binary"), ("categorical", "categorical")])
def test_cost_of_categories_is_the_log_loss(name, kind):
    head = make_head(name, kind)
    scores, labels = make_scores(head, 50), make_labels(kind, 50)
    expected = log_loss(
        labels[:, 0], head.log_probabilities(scores).exp(), labels=range(head.n_scores + 1)[:3]
    )
    assert head.negative_log_likelihood(scores, labels).mean().item() == pytest.approx(expected)


def test_binary_is_a_logistic_regression():
    head, features = make_head("binary", "binary"), make_features(6)
    expected = expit((features @ head.linear.weight[0] + head.linear.bias).detach().numpy())
    found = head.log_probabilities(head(features)).exp().detach()
    np.testing.assert_allclose(found[:, 1], expected)


def test_ordinal_is_a_difference_of_logistic_functions():
    head, features = make_head("ordinal", "ordinal"), make_features(6)
    cuts = head.cuts.detach()
    assert (cuts.diff() > 0).all()
    reached = stats.logistic.cdf(cuts[None] - (features @ head.linear.weight[0].detach())[:, None])
    expected = np.diff(reached, axis=1, prepend=0.0, append=1.0)
    np.testing.assert_allclose(head.log_probabilities(head(features)).exp().detach(), expected, atol=1e-12)


def test_ordinal_of_two_categories_is_binary():
    outcome = OutcomeSchema("stage", "ordinal", ("stage",), ("low", "high"))
    head = HEADS["ordinal"](3, outcome, Head()).double()
    scores = torch.tensor([[0.7], [-2.0]], dtype=torch.float64)
    np.testing.assert_allclose(head.log_probabilities(scores).exp()[:, 0], expit(scores[:, 0].numpy()))


def test_cost_of_a_number_is_gaussian_and_its_density_adds_up_to_one():
    head = make_head("continuous", "continuous")
    scores, labels = make_scores(head, 20), make_labels("continuous", 20)
    mean, sd = (part.detach().numpy() for part in head.mean_and_sd(scores))
    expected = -stats.norm(mean, sd).logpdf(labels[:, 0])
    np.testing.assert_allclose(head.negative_log_likelihood(scores, labels).detach(), expected)

    def density(value):
        label = torch.tensor([[value]], dtype=torch.float64)
        return (-head.negative_log_likelihood(scores[:1], label)).exp().item()

    total, _ = integrate.quad(density, mean[0] - 9 * sd[0], mean[0] + 9 * sd[0])
    assert total == pytest.approx(1.0)


def test_balanced_weights_let_every_category_count_the_same():
    outcome = OUTCOMES["categorical"]
    head = HEADS["categorical"](4, outcome, Head(class_weights="balanced")).double()
    labels = torch.tensor([[0.0]] * 8 + [[1.0]] * 2 + [[torch.nan]], dtype=torch.float64)
    head.learn_from(labels)
    counted = head.class_weights[labels[:10, 0].long()]
    assert counted[:8].sum().item() == pytest.approx(counted[8:].sum().item())
    assert counted.mean().item() == pytest.approx(1.0)
    assert head.class_weights[2] == 1.0  # not there: nothing to balance


# --- hazards of intervals -------------------------------------------------------------------------


def test_intervals_end_at_quantiles_of_the_event_times():
    head = make_head("survival", "survival", n_intervals=5)
    labels = make_labels("survival", 60, seed=1)
    events = labels[labels[:, 1] == 1, 0]
    assert head.ends[-1] == events.max()
    assert set(head.ends.tolist()) <= set(events.tolist())
    counts = np.histogram(events, bins=head.grid)[0]
    assert counts.max() - counts.min() <= 8  # as even as ties allow


def test_cost_of_intervals_written_out():
    head = make_head("survival", "survival", n_intervals=4)
    scores, labels = make_scores(head, 60), make_labels("survival", 60, seed=1)
    labels[-1] = torch.tensor([99.0, 1.0])  # past the last end: it is only known to have survived
    hazards = expit(scores.detach().numpy())
    cost = head.negative_log_likelihood(scores, labels)
    ends = head.ends.numpy()
    for row, (time, event) in enumerate(labels.numpy()):
        likelihood = 1.0
        for j, end in enumerate(ends):
            begin = 0.0 if j == 0 else ends[j - 1]
            if event and begin < time <= end:
                likelihood *= hazards[row, j]
            elif end <= time:
                likelihood *= 1.0 - hazards[row, j]
        assert float(cost[row]) == pytest.approx(-np.log(likelihood))


def test_probabilities_of_all_intervals_and_of_none_add_up_to_one():
    head = make_head("survival", "survival", n_intervals=4)
    scores = make_scores(head, 1).expand(5, -1)
    times = torch.cat([head.ends, head.ends[-1:]])
    events = torch.tensor([1.0, 1.0, 1.0, 1.0, 0.0], dtype=torch.float64)
    cost = head.negative_log_likelihood(scores, torch.stack([times, events], dim=1))
    assert (-cost).exp().sum().item() == pytest.approx(1.0)


def test_survival_at_the_ends_is_the_product_of_what_was_survived():
    head = make_head("survival", "survival", n_intervals=4)
    scores = make_scores(head, 3)
    expected = np.cumprod(1.0 - expit(scores.detach().numpy()), axis=1)
    np.testing.assert_allclose(head.log_survival(scores, head.ends).exp().detach(), expected)


def test_few_distinct_times_leave_intervals_empty_and_without_a_say():
    head = IntervalHazards(4, OUTCOMES["survival"], Head(n_intervals=6)).double()
    labels = torch.tensor([[1.0, 1.0], [2.0, 1.0], [2.0, 0.0]], dtype=torch.float64)
    head.learn_from(labels)
    assert head.ends.tolist() == [1.0, 2.0, 2.0, 2.0, 2.0, 2.0]
    scores = make_scores(head, 3).requires_grad_()
    head.negative_log_likelihood(scores, labels).sum().backward()
    assert (scores.grad[:, 2:] == 0).all()
    assert (scores.grad[:, :2] != 0).any()
    two = torch.tensor([2.0], dtype=torch.float64)
    np.testing.assert_allclose(
        head.log_survival(scores, two)[:, 0].exp().detach(),
        (1.0 - expit(scores.detach()[:, :2].numpy())).prod(1),
    )


def test_no_event_is_refused():
    head = IntervalHazards(4, OUTCOMES["survival"], Head())
    with pytest.raises(InputError, match="No event of the outcome 'os'"):
        head.learn_from(torch.tensor([[1.0, 0.0], [torch.nan, torch.nan]]))
    with pytest.raises(InputError, match="at time 0"):
        head.learn_from(torch.tensor([[0.0, 1.0]]))


def test_hazards_are_learned_back():
    """With the same features for all, the maximum is the life table: events over those at risk."""
    head = IntervalHazards(1, OUTCOMES["survival"], Head(n_intervals=3)).double()
    labels = make_labels("survival", 400, seed=4)
    head.learn_from(labels)
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=200, line_search_fn="strong_wolfe")
    features = torch.zeros(400, 1, dtype=torch.float64)

    def closure():
        optimizer.zero_grad()
        loss = head.negative_log_likelihood(head(features), labels).mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    time, event = labels.T.numpy()
    for j, (begin, end) in enumerate(zip(head.grid[:-1], head.grid[1:], strict=True)):
        n_events = ((event == 1) & (time > float(begin)) & (time <= float(end))).sum()
        n_survived = (time >= float(end)).sum() - ((event == 1) & (time == float(end))).sum()
        found = torch.sigmoid(head(features[:1]))[0, j].item()
        assert found == pytest.approx(n_events / (n_events + n_survived), rel=1e-4)


# --- proportional hazards -------------------------------------------------------------------------


def _efron(log_ratio: np.ndarray, time: np.ndarray, event: np.ndarray) -> float:
    total = 0.0
    for moment in np.unique(time[event == 1]):
        at_risk = np.exp(log_ratio[time >= moment]).sum()
        dying = log_ratio[(time == moment) & (event == 1)]
        total -= dying.sum()
        for rank in range(len(dying)):
            total += np.log(at_risk - rank / len(dying) * np.exp(dying).sum())
    return total


@pytest.mark.parametrize("seed", range(4))
def test_cox_is_the_partial_likelihood_with_efrons_ties(seed):
    head = make_head("cox", "survival", seed=seed)
    scores, labels = make_scores(head, 40, seed), make_labels("survival", 40, seed)
    assert len(labels[labels[:, 1] == 1, 0].unique()) < labels[:, 1].sum(), "no ties to test"
    expected = _efron(scores[:, 0].detach().numpy(), *labels.T.numpy())
    assert head.negative_log_likelihood(scores, labels).sum().item() == pytest.approx(expected)


def test_cox_does_not_mind_a_shift_of_all_scores():
    head = make_head("cox", "survival")
    scores, labels = make_scores(head, 20), make_labels("survival", 20)
    cost = head.negative_log_likelihood(scores, labels)
    torch.testing.assert_close(head.negative_log_likelihood(scores + 300.0, labels), cost)


def test_cox_without_ties_is_the_probability_of_the_order():
    """exp(−cost) is what a draw without replacement, weighted by exp(η), gives: summed over orders, 1."""
    from itertools import permutations

    head = Cox(4, OUTCOMES["survival"], Head()).double()
    log_ratio = torch.tensor([[0.3], [-1.0], [2.0], [0.5]], dtype=torch.float64)
    total = 0.0
    for order in permutations(range(4)):
        labels = torch.tensor([[float(place), 1.0] for place in order], dtype=torch.float64)
        total += (-head.negative_log_likelihood(log_ratio, labels).sum()).exp().item()
    assert total == pytest.approx(1.0)


def test_breslows_baseline_written_out():
    head = make_head("cox", "survival")
    scores, labels = make_scores(head, 40), make_labels("survival", 40)
    head.finish(scores, labels)
    time, event = labels.T.numpy()
    ratio = np.exp(scores[:, 0].numpy())
    for at in (0.1, 1.0, 2.2, float(time[event == 1].max())):
        hazard = sum(
            ((time == t) & (event == 1)).sum() / ratio[time >= t].sum()
            for t in np.unique(time[event == 1])
            if t <= at
        )
        found = head.log_survival(scores[:3], torch.tensor([at], dtype=torch.float64))
        np.testing.assert_allclose(found[:, 0], -hazard * ratio[:3])


def test_a_baseline_of_many_times_keeps_the_first_and_the_last():
    head = Cox(4, OUTCOMES["survival"], Head()).double()
    times = torch.arange(1.0, 3 * N_TIMES + 1.0, dtype=torch.float64)
    scores = torch.zeros(len(times), 1, dtype=torch.float64)
    head.finish(scores, torch.stack([times, torch.ones_like(times)], dim=1))
    assert (head.times[0], head.times[-1]) == (1.0, len(times))
    nelson_aalen = (1.0 / torch.arange(len(times), 0, -1, dtype=torch.float64)).cumsum(0)
    torch.testing.assert_close(head.cumulative[-1], nelson_aalen[-1])


def test_before_its_baseline_is_known_cox_says_nothing_of_survival():
    head = Cox(4, OUTCOMES["survival"], Head())
    assert head.log_survival(torch.zeros(2, 1), torch.tensor([0.0, 1.0])).isnan().all()


def test_cox_recovers_known_effects():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(3_000, 3, generator=generator, dtype=torch.float64)
    truth = torch.tensor([1.0, -0.5, 0.0], dtype=torch.float64)
    waits = -torch.rand(3_000, generator=generator, dtype=torch.float64).log() / (features @ truth).exp()
    censored = 3.0 * torch.rand(3_000, generator=generator, dtype=torch.float64)
    times = torch.minimum(waits, censored)
    labels = torch.stack([(20 * times).ceil() / 20, (waits <= censored).double()], dim=1)  # with ties
    head = Cox(3, OUTCOMES["survival"], Head()).double()
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=50, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = head.negative_log_likelihood(head(features), labels).mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    torch.testing.assert_close(head.linear.weight[0].detach(), truth, atol=0.08, rtol=0)
    head.finish(head(features).detach(), labels)
    known = torch.tensor([0.25, 0.5, 1.0], dtype=torch.float64)
    found = -head.log_survival(torch.zeros(1, 1, dtype=torch.float64), known)[0].detach()
    torch.testing.assert_close(found, known, atol=0.06, rtol=0)  # the baseline hazard is 1


@pytest.mark.parametrize("name", ["binary", "categorical", "ordinal"])
def test_heads_of_categories_start_at_the_frequencies_of_the_labels(name):
    outcome = OUTCOMES[name]
    head = HEADS[name](4, outcome, Head()).double()
    labels = make_labels(name, 400)
    labels[0] = torch.nan
    with torch.no_grad():
        head.start_from(labels)
    found = head.log_probabilities(head(torch.zeros(1, 4, dtype=torch.float64))).exp()[0]
    counts = torch.bincount(labels[1:, 0].long(), minlength=len(found)) + 1.0
    torch.testing.assert_close(found.detach(), (counts / counts.sum()).double())


def test_a_rare_category_does_not_stop_an_ordinal_head_from_starting():
    head = HEADS["ordinal"](4, OUTCOMES["ordinal"], Head())
    with torch.no_grad():
        head.start_from(torch.zeros(500, 1))
    assert all(parameter.isfinite().all() for parameter in head.parameters())
    assert (head.cuts.diff() > 0).all()


def test_hazards_start_with_events_spread_evenly():
    head = IntervalHazards(4, OUTCOMES["survival"], Head(n_intervals=4)).double()
    with torch.no_grad():
        head.start_from(make_labels("survival", 10))
    survival = head.log_survival(head(torch.zeros(1, 4, dtype=torch.float64)), head.ends).exp()[0]
    np.testing.assert_allclose(survival.detach(), [0.8, 0.6, 0.4, 0.2])
