"""The loss is the sum that its formula says, term by term."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from evaluated_objectives import N_TRAINING, SHIFT, WEIGHTS, evaluate, fix_noise, gradients, number
from handmade_models import data_of, linear_module, mixed_data, module_for, table
from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.data.loader import make_minibatch
from multiomics_vae.errors import InputError
from multiomics_vae.likelihoods import CellContext
from multiomics_vae.module import MultimodalModule
from multiomics_vae.objective import Objective, ObjectiveConfig

SINGLES = ((0,), (1,), (2,))


@pytest.fixture
def fixed_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    fix_noise(monkeypatch)


# --- the formula, written out cell by cell -----------------------------------------------------------


class ByHand:
    """One cell of a `product` model: posteriors and log likelihoods, from the definitions."""

    def __init__(self, module: MultimodalModule, data: MultimodalData, cell: int) -> None:
        self.module = module
        self.batch = make_minibatch(data, np.array([cell]))
        self.present = {m for m in range(module.n_modalities) if bool(self.batch.present[0, m])}
        self.experts = module.encode(self.batch).experts

    def posterior(self, subset: Iterable[int]) -> Normal:
        chosen = sorted(self.present & set(subset))
        precision = 1.0 + sum(self.experts.log_variance[m, 0].neg().exp() for m in chosen)
        weighted = sum(self.experts.mean[m, 0] * self.experts.log_variance[m, 0].neg().exp() for m in chosen)
        return Normal(weighted / precision, precision**-0.5)

    def log_likelihood(self, q: Normal, modality: int, at_mean: bool = False) -> Tensor:
        z = (q.mean if at_mean else q.mean + SHIFT * q.stddev).unsqueeze(0)
        batch, covariates = self.batch.modalities[modality], self.batch.covariates
        outputs = self.module.decode(modality, z, covariates)
        cells = CellContext(batch.depth, covariates.batch, batch.coverage)
        each = self.module.parts[modality].likelihood.log_prob(batch.dense, outputs, cells)
        return each[batch.observed].sum() if batch.observed is not None else each.sum()

    def kl(self, q: Normal) -> Tensor:
        return kl_divergence(q, Normal(torch.zeros_like(q.mean), torch.ones_like(q.mean)))  # (K,)


def loss_by_hand(
    module: MultimodalModule,
    data: MultimodalData,
    config: ObjectiveConfig,
    beta: float,
    subsets: Iterable[tuple[int, ...]],
) -> float:
    total = torch.zeros(())
    for cell in range(data.n_cells):
        hand = ByHand(module, data, cell)
        joint = hand.posterior(hand.present)
        total -= sum(WEIGHTS[m] * hand.log_likelihood(joint, m) for m in hand.present)
        total += beta * hand.kl(joint).sum()
        for subset in subsets:
            available = hand.present & set(subset)
            if not available or available == hand.present or config.subset_objective == "none":
                continue
            q = hand.posterior(available)
            targets = available if config.subset_objective == "within" else hand.present
            unseen = set(targets) - available if config.subset_objective == "both" else set()
            part = -sum(WEIGHTS[m] * hand.log_likelihood(q, m, m in unseen) for m in targets)
            part = part + beta * hand.kl(q).sum()
            if config.subset_objective in ("within", "both"):
                part = part + beta * kl_divergence(joint, q).sum()
            total += config.subset_weight * part
    return number(total / data.n_cells - module.log_prior_of_weights() / N_TRAINING)


@pytest.mark.usefixtures("fixed_noise")
@pytest.mark.parametrize("decoder", ["linear", "mlp"])
@pytest.mark.parametrize("kind", ["within", "cross", "both", "none"])
def test_loss_is_the_sum_written_by_hand(kind: str, decoder: str) -> None:
    data = mixed_data(12)
    module = module_for(data, decoder=decoder, weight_precision=0.5)
    config = ObjectiveConfig(subset_objective=kind, subset_weight=0.6, kl_weight=1.7)
    with torch.no_grad():
        found = evaluate(module, data, config, kl_scale=0.4).loss
        by_hand = loss_by_hand(module, data, config, 1.7 * 0.4, SINGLES)
    assert number(found) == pytest.approx(by_hand, rel=2e-5)


@pytest.mark.usefixtures("fixed_noise")
def test_a_cell_counts_for_a_subset_only_if_it_has_more_and_some_of_it() -> None:
    everything = mixed_data(9, missing=0.0)
    one_each = data_of(
        [table(np.ones((9, 4)), present=np.arange(9) % 3 == m) for m in range(3)],
        ["gaussian"] * 3,
    )
    config = ObjectiveConfig(subset_objective="within")
    names = Counter(term.name for term in evaluate(module_for(one_each), one_each, config).terms)
    assert names == {"log_likelihood": 3, "kl": 1, "weight_prior": 1}
    names = Counter(term.name for term in evaluate(module_for(everything), everything, config).terms)
    assert names["subset_kl"] == names["subset_matching"] == names["subset_log_likelihood"] == 3


@pytest.mark.usefixtures("fixed_noise")
def test_terms_are_named_and_belong_to_their_modality() -> None:
    data = mixed_data(15)
    module = module_for(data)
    terms = evaluate(module, data, ObjectiveConfig(subset_objective="cross"))
    assert Counter(t.name for t in terms.terms)["subset_matching"] == 0
    for m in range(3):
        (own,) = [t for t in terms.terms if t.name == "log_likelihood" and t.modality == m]
        assert own.weight == -WEIGHTS[m]
        assert number(own.value) * 15 == pytest.approx(number(terms.log_likelihood[m]), rel=1e-6)
    np.testing.assert_array_equal(terms.n_cells.numpy(), data.present.sum(0))


@pytest.mark.usefixtures("fixed_noise")
def test_elbo_has_every_weight_one_whatever_training_uses() -> None:
    data = mixed_data(20)
    module = module_for(data, weight_precision=2.0)
    odd = ObjectiveConfig(kl_weight=0.1, free_bits=3.0, subset_weight=9.0)
    plain = evaluate(module, data, ObjectiveConfig(subset_objective="none"), (1.0, 1.0, 1.0))
    without_prior = plain.loss + module.log_prior_of_weights() / N_TRAINING
    found = evaluate(module, data, odd, (5.0, 0.1, 2.0), kl_scale=0.3).elbo
    assert number(found) == pytest.approx(-number(without_prior), rel=1e-5)
    assert not found.requires_grad


@pytest.mark.usefixtures("fixed_noise")
@pytest.mark.parametrize("free_bits", [0.01, 0.3, 5.0])
def test_free_bits_are_free_in_each_dimension(free_bits: float) -> None:
    data = mixed_data(16)
    module = module_for(data)
    config = ObjectiveConfig(subset_objective="none", free_bits=free_bits)
    (kl,) = [t for t in evaluate(module, data, config).terms if t.name == "kl"]
    hands = [ByHand(module, data, cell) for cell in range(16)]
    each = torch.stack([hand.kl(hand.posterior(hand.present)) for hand in hands]).mean(0)  # (K,)
    assert number(kl.value) == pytest.approx(number(each.clamp(min=free_bits).sum()), rel=1e-5)


def test_a_dimension_below_its_free_bits_has_no_gradient() -> None:
    data = mixed_data(16)
    module = module_for(data)
    terms = evaluate(module, data, ObjectiveConfig(subset_objective="none", free_bits=100.0))
    (kl,) = [t for t in terms.terms if t.name == "kl"]
    assert all(number(g.abs().max()) == 0.0 for g in gradients(module, kl.value).values())


# --- subsets -----------------------------------------------------------------------------------------


def four_modalities() -> MultimodalData:
    rng = np.random.default_rng(0)
    return data_of([table(rng.normal(size=(4, 3))) for _ in range(4)], ["gaussian"] * 4)


def drawn_subsets(n_subsets: int | None, n_steps: int) -> list[tuple[int, ...]]:
    """The subsets of each step, read off the modalities of the terms."""
    data = four_modalities()
    module = linear_module(data, n_latent=1)
    objective = Objective(ObjectiveConfig(n_subsets=n_subsets), (1.0,) * 4, 4)
    minibatch, generator = make_minibatch(data, np.arange(4)), torch.Generator().manual_seed(0)
    found: list[tuple[int, ...]] = []
    with torch.no_grad():
        for _ in range(n_steps):
            current: list[int] = []
            for term in objective(module, minibatch, 1.0, generator).terms:
                if term.name == "subset_log_likelihood":
                    assert term.modality is not None
                    current.append(term.modality)
                elif term.name == "subset_kl":
                    found.append(tuple(current))
                    current = []
    return found


def test_subsets_are_drawn_evenly_from_the_proper_ones() -> None:
    counts = Counter(drawn_subsets(None, 350))
    assert sum(counts.values()) == 700  # two a step
    assert len(counts) == 14
    assert all(0 < len(subset) < 4 for subset in counts)
    assert sum((n - 50) ** 2 / 50 for n in counts.values()) < 34.5  # chi-square, 13 degrees, p = .001


@pytest.mark.parametrize("n_subsets", [1, 3])
def test_as_many_subsets_as_asked_for(n_subsets: int) -> None:
    assert len(drawn_subsets(n_subsets, 10)) == 10 * n_subsets


def test_matching_teaches_the_subset_and_not_the_joint() -> None:
    data = mixed_data(12, missing=0.0)
    module = module_for(data)
    terms = evaluate(module, data, ObjectiveConfig()).terms
    matching = [t for t in terms if t.name == "subset_matching"]
    for m, term in enumerate(matching):
        found = gradients(module, term.value)
        for other in range(3):
            size = sum(
                number(g.abs().sum()) for n, g in found.items() if n.startswith(f"modalities.{other}.")
            )
            assert (size > 0.0) == (other == m)


# --- noise and choices ---------------------------------------------------------------------------


def test_noise_comes_from_the_generator_alone() -> None:
    data = mixed_data(20)
    module = module_for(data)
    before = torch.random.get_rng_state()
    first, again, other = (evaluate(module, data, ObjectiveConfig(), seed=s).loss for s in (1, 1, 2))
    assert number(first) == number(again) != number(other)
    torch.testing.assert_close(torch.random.get_rng_state(), before)


def test_watch_sees_the_joint_draws_once_for_each_modality() -> None:
    data = mixed_data(20)
    seen: list[int] = []

    def watch(z: Tensor, modality: int) -> Tensor:
        seen.append(modality)
        return z.detach()

    module = module_for(data)
    objective = Objective(ObjectiveConfig(subset_objective="none"), WEIGHTS, N_TRAINING, watch)
    generator = torch.Generator().manual_seed(0)
    terms = objective(module, make_minibatch(data, np.arange(20)), 0.0, generator)
    assert seen == [0, 1, 2]
    found = gradients(module, terms.loss)  # β = 0 and z cut off: nothing reaches the encoders
    assert all(number(g.abs().max()) == 0.0 for name, g in found.items() if ".encoder." in name)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("subset_objective", "wihtin"),
        ("subset_weight", -1.0),
        ("kl_weight", float("nan")),
        ("free_bits", -0.1),
        ("modality_dropout", 1.5),
        ("n_subsets", 0),
    ],
)
def test_impossible_choices_are_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(InputError, match=field):
        ObjectiveConfig(**{field: value})  # type: ignore[arg-type]
