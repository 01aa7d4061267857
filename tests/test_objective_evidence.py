"""What the loss reads: only what was measured, in any order, through every part of the model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from evaluated_objectives import WEIGHTS, evaluate, fix_noise, gradients, number
from handmade_models import mixed_data, module_for
from multiomics_vae.data.loader import make_minibatch
from multiomics_vae.distributions import Gaussian
from multiomics_vae.fusion import FUSION_RULES
from multiomics_vae.likelihoods import CellContext
from multiomics_vae.module import MultimodalModule
from multiomics_vae.objective import ObjectiveConfig


@pytest.fixture
def fixed_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    fix_noise(monkeypatch)


# --- what was not measured -------------------------------------------------------------------------


@pytest.mark.parametrize("fusion", sorted(FUSION_RULES))
def test_unmeasured_entries_have_no_influence(fusion: str) -> None:
    data = mixed_data(20)
    module = module_for(data, fusion=fusion)
    real = data.modalities[2]
    assert real.observed is not None
    hidden = replace(real, values=np.where(real.observed, real.values, np.float32(37.0)))
    changed = replace(data, modalities=(*data.modalities[:2], hidden))
    first, second = (evaluate(module, d, ObjectiveConfig()) for d in (data, changed))
    assert number(first.loss) == number(second.loss)
    for g, h in zip(
        gradients(module, first.loss).values(), gradients(module, second.loss).values(), strict=True
    ):
        torch.testing.assert_close(g, h, rtol=0.0, atol=0.0)


def test_a_feature_unmeasured_in_all_cells_has_no_gradient() -> None:
    data = mixed_data(20)
    module = module_for(data)
    real = data.modalities[2]
    assert real.observed is not None
    observed = real.observed.copy()
    observed[:, 1] = False
    values = np.where(observed, real.values, np.float32(0.0))
    changed = replace(
        data, modalities=(*data.modalities[:2], replace(real, values=values, observed=observed))
    )
    weight = module.parts[2].decoder.last_layers[0].weight
    (found,) = torch.autograd.grad(evaluate(module, changed, ObjectiveConfig()).loss, weight)
    assert number(found[1].abs().max()) == 0.0
    assert number(found[0].abs().max()) > 0.0


@pytest.mark.usefixtures("fixed_noise")
@pytest.mark.parametrize("kind", ["within", "cross", "none"])
def test_a_modality_removed_equals_a_modality_that_no_cell_has(kind: str) -> None:
    data = mixed_data(20, missing=0.0)
    module = module_for(data)
    lacking = replace(
        data.modalities[2],
        values=data.modalities[2].values[:0],
        row_of_cell=np.full(20, -1, dtype=np.int64),
        depth=data.modalities[2].depth[:0],
        observed=None,
    )
    masked = replace(data, modalities=(*data.modalities[:2], lacking))
    removed = replace(
        data,
        modalities=data.modalities[:2],
        schema=replace(data.schema, modalities=data.schema.modalities[:2]),
    )
    smaller = MultimodalModule(
        module.parts[:2], FUSION_RULES["product"](2, 3, 8), module.prior, module.covariates
    )
    config = ObjectiveConfig(subset_objective=kind)
    expected = evaluate(smaller, removed, config, WEIGHTS[:2])
    found = evaluate(module, masked, config)
    assert number(found.loss) == pytest.approx(number(expected.loss), rel=1e-6)
    assert number(found.elbo) == pytest.approx(number(expected.elbo), rel=1e-6)
    touched = gradients(module, found.loss)
    assert all(number(g.abs().max()) == 0.0 for n, g in touched.items() if n.startswith("modalities.2."))


@pytest.mark.usefixtures("fixed_noise")
@pytest.mark.parametrize("fusion", ["product", "mixture"])
@pytest.mark.parametrize("kind", ["within", "cross"])
def test_the_order_of_modalities_does_not_matter(kind: str, fusion: str) -> None:
    data = mixed_data(20)
    module = module_for(data, fusion=fusion)
    order = (2, 0, 1)
    turned = replace(
        data,
        modalities=tuple(data.modalities[m] for m in order),
        schema=replace(data.schema, modalities=tuple(data.schema.modalities[m] for m in order)),
    )
    other = MultimodalModule(
        tuple(module.parts[m] for m in order), module.fusion, module.prior, module.covariates
    )
    config = ObjectiveConfig(subset_objective=kind, free_bits=0.1)
    first = evaluate(module, data, config).loss
    second = evaluate(other, turned, config, tuple(WEIGHTS[m] for m in order)).loss
    assert number(first) == pytest.approx(number(second), rel=1e-5)


@pytest.mark.usefixtures("fixed_noise")
@pytest.mark.parametrize("fusion", sorted(FUSION_RULES))
def test_the_order_of_cells_does_not_matter(fusion: str) -> None:
    data = mixed_data(20)
    module = module_for(data, fusion=fusion)
    order = np.random.default_rng(0).permutation(20)
    first = evaluate(module, data, ObjectiveConfig()).loss
    second = evaluate(module, data, ObjectiveConfig(), cells=order).loss
    assert number(first) == pytest.approx(number(second), rel=1e-5)


# --- modality dropout ------------------------------------------------------------------------------


def hidden_by_dropout(
    rate: float, monkeypatch: pytest.MonkeyPatch, in_training: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """What the joint posterior was given, and what was there: ``(B, M)`` each."""
    data = mixed_data(1500, missing=0.4)
    module = module_for(data).train(in_training)
    seen: list[Tensor] = []
    fuse = module.fuse

    def spy(evidence: object, available: Tensor | None = None) -> object:
        assert available is not None
        seen.append(available)
        return fuse(evidence, available)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "fuse", spy)
    with torch.no_grad():
        evaluate(module, data, ObjectiveConfig(subset_objective="none", modality_dropout=rate))
    return seen[0].numpy(), data.present


def test_dropout_hides_one_modality_and_never_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    given, present = hidden_by_dropout(1.0, monkeypatch)
    several = present.sum(1) > 1
    assert several.any()
    assert (~several).any()
    assert not (given & ~present).any()
    np.testing.assert_array_equal(given[~several], present[~several])
    np.testing.assert_array_equal(given[several].sum(1), present[several].sum(1) - 1)
    lost = (present & ~given)[present.all(1)].mean(0)  # cells with three lose each equally often
    np.testing.assert_allclose(lost, 1 / 3, atol=0.1)


def test_dropout_hides_at_its_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    given, present = hidden_by_dropout(0.3, monkeypatch)
    several = present.sum(1) > 1
    share = (given != present).any(1)[several].mean()
    assert share == pytest.approx(0.3, abs=0.06)


def test_validation_hides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    given, present = hidden_by_dropout(1.0, monkeypatch, in_training=False)
    np.testing.assert_array_equal(given, present)


def test_what_dropout_hides_is_still_predicted() -> None:
    data = mixed_data(30, missing=0.0)
    module = module_for(data).train()
    terms = evaluate(module, data, ObjectiveConfig(subset_objective="none", modality_dropout=1.0))
    np.testing.assert_array_equal(terms.n_cells.numpy(), [30, 30, 30])
    assert all(number(v) < 0.0 for v in terms.log_likelihood[:2])


# --- mixtures, gates, noise ------------------------------------------------------------------------


@pytest.mark.parametrize("fusion", ["mixture", "mixture_of_products"])
@pytest.mark.parametrize("prior", ["standard_normal", "gaussian_mixture", "vamp"])
def test_stratified_estimates_are_those_of_plain_sampling(fusion: str, prior: str) -> None:
    """The estimate with one draw a component and direct draws from the mixture have the same mean."""
    n_cells, n_draws = 6, 4000
    data = mixed_data(n_cells, missing=0.4, seed=2)
    module = module_for(data, fusion=fusion, prior=prior)
    repeated = np.repeat(np.arange(n_cells), n_draws)
    with torch.no_grad():
        config = ObjectiveConfig(subset_objective="none")
        terms = evaluate(module, data, config, (1.0,) * 3, cells=repeated)
        minibatch = make_minibatch(data, repeated)
        posterior = module.fuse(module.encode(minibatch)).posterior
        z = _draw(posterior.log_weights, posterior.components)  # (B, K)
        for m, batch in enumerate(minibatch.modalities):
            own = minibatch.covariates.rows(batch.rows)
            outputs = module.decode(m, z[batch.rows], own)
            cells = CellContext(batch.depth, own.batch, batch.coverage)
            each = module.parts[m].likelihood.log_prob(batch.dense, outputs, cells)
            each = (each if batch.observed is None else each * batch.observed).sum(-1)  # (B_m,)
            error = number(each.std()) / np.sqrt(n_draws)
            assert number(terms.log_likelihood[m]) / len(each) == pytest.approx(
                number(each.mean()), abs=3 * error
            )
        ratio = posterior.log_prob(z) - module.prior_mixture().log_prob(z)
    (kl,) = [t for t in terms.terms if t.name == "kl"]
    error = number(ratio.std()) / np.sqrt(n_draws)
    assert number(kl.value) == pytest.approx(number(ratio.mean()), abs=3 * error)


def _draw(log_weights: Tensor, components: Gaussian) -> Tensor:
    torch_mixture = MixtureSameFamily(
        Categorical(logits=log_weights.T),
        Independent(Normal(components.mean.transpose(0, 1), components.variance.sqrt().transpose(0, 1)), 1),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return torch_mixture.sample()  # (B, K)


@pytest.mark.parametrize("kind", ["within", "none"])
def test_the_gate_learns(kind: str) -> None:
    data = mixed_data(20)
    module = module_for(data, fusion="gated")
    found = gradients(module, evaluate(module, data, ObjectiveConfig(subset_objective=kind)).loss)
    gate = {name: g for name, g in found.items() if name.startswith("fusion.gate.2")}
    assert len(gate) == 2
    assert all(number(g.abs().max()) > 1e-6 for g in gate.values())


@pytest.mark.parametrize("prior", ["standard_normal", "gaussian_mixture", "vamp"])
@pytest.mark.parametrize("fusion", sorted(FUSION_RULES))
def test_every_parameter_gets_a_finite_gradient(fusion: str, prior: str) -> None:
    data = mixed_data(20)
    module = module_for(data, fusion=fusion, prior=prior, decoder="mlp")
    found = gradients(module, evaluate(module, data, ObjectiveConfig()).loss)
    assert all(bool(g.isfinite().all()) for g in found.values())
    without = {name for name, g in found.items() if number(g.abs().max()) == 0.0}
    # A gate whose last layer starts at 0 passes nothing further down in the first step; early fusion
    # has no use for the experts of single modalities.
    unused = ("fusion.", "encoder.head.") if fusion == "concatenation" else ("fusion.",)
    assert all(any(part in name for part in unused) for name in without)


def test_the_teacher_of_the_subsets_sees_all_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dropout hides a modality from the joint view, never from the posterior that subsets must match."""
    fix_noise(monkeypatch)
    data = mixed_data(40, missing=0.0)
    module = module_for(data).train()
    matching = [
        [
            t.value.item()
            for t in evaluate(module, data, ObjectiveConfig(modality_dropout=rate)).terms
            if t.name == "subset_matching"
        ]
        for rate in (0.0, 1.0)
    ]
    np.testing.assert_allclose(matching[0], matching[1], rtol=1e-5)
