"""What every fusion rule owes, whatever its mathematics."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from fusion_evidence import RULES, every_mask, random_evidence, random_rule, spoil_masked, with_gradients

from multiomics_vae.distributions import Gaussian
from multiomics_vae.errors import InputError

pytestmark = pytest.mark.parametrize("name", RULES)
n_modalities_of_interest = pytest.mark.parametrize("n_modalities", [1, 2, 3, 4])


def moments(fused):
    return fused.posterior.mean, fused.posterior.variance


@n_modalities_of_interest
def test_shapes_and_names(name, n_modalities):
    rule = random_rule(name, n_modalities)
    available = every_mask(n_modalities)
    fused = rule(random_evidence(available))
    n_cells = len(available)
    components = fused.posterior.components
    assert components.mean.shape == components.log_variance.shape
    assert components.mean.shape[1:] == (n_cells, 3)
    assert fused.posterior.log_weights.shape == components.mean.shape[:2]
    assert fused.weights.shape == (len(rule.experts), n_cells)
    assert rule.experts[0] == ()
    assert len(set(rule.experts)) == len(rule.experts)
    assert all(modality in range(n_modalities) for subset in rule.experts for modality in subset)


@n_modalities_of_interest
def test_weights_and_component_weights_sum_to_one_in_every_cell(name, n_modalities):
    fused = random_rule(name, n_modalities)(random_evidence(every_mask(n_modalities)))
    one = torch.ones(2**n_modalities, dtype=torch.float64)
    torch.testing.assert_close(fused.weights.sum(0), one)
    torch.testing.assert_close(fused.posterior.log_weights.exp().sum(0), one)
    assert (fused.weights >= 0).all()


@n_modalities_of_interest
def test_nothing_available_is_exactly_the_standard_normal(name, n_modalities):
    rule = random_rule(name, n_modalities)
    fused = rule(random_evidence(every_mask(n_modalities)))
    nothing = fused.posterior.gaussian
    assert (nothing.mean[0] == 0).all()
    assert (nothing.log_variance[0] == 0).all()
    z = torch.linspace(-3, 3, 7, dtype=torch.float64)[:, None, None].expand(7, 2**n_modalities, 3)
    normal = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(-1)
    torch.testing.assert_close(fused.posterior.log_prob(z)[:, 0], normal[:, 0])
    expected = torch.zeros(len(rule.experts), dtype=torch.float64)
    expected[0] = 1
    assert torch.equal(fused.weights[:, 0], expected)
    if rule.name != "product":  # the only rule in which the prior is an expert beside the others
        assert (fused.weights[0, 1:] == 0).all()


@n_modalities_of_interest
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1e300, 1e300])
def test_a_masked_modality_has_no_influence(name, n_modalities, value):
    rule = random_rule(name, n_modalities)
    evidence = random_evidence(every_mask(n_modalities))
    clean, spoiled = rule(evidence), rule(spoil_masked(evidence, value))
    assert torch.equal(clean.weights, spoiled.weights)
    assert torch.equal(clean.posterior.log_weights, spoiled.posterior.log_weights)
    assert torch.equal(clean.posterior.components.mean, spoiled.posterior.components.mean)
    assert torch.equal(clean.posterior.components.log_variance, spoiled.posterior.components.log_variance)


@n_modalities_of_interest
def test_an_expert_whose_modality_is_masked_has_weight_zero(name, n_modalities):
    rule = random_rule(name, n_modalities)
    if not rule.robust_to_missing:
        pytest.skip("the rule has one expert for every pattern")
    available = every_mask(n_modalities)
    weights = rule(random_evidence(available)).weights
    for subset, row in zip(rule.experts[1:], weights[1:], strict=True):
        usable = available[:, list(subset)].all(1)
        assert (row[~usable] == 0).all()
        assert (row[usable] > 0).all()


@n_modalities_of_interest
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_are_finite_with_any_mask_and_zero_where_masked(name, n_modalities, dtype):
    rule = random_rule(name, n_modalities, dtype=dtype)
    evidence = with_gradients(spoil_masked(random_evidence(every_mask(n_modalities), dtype=dtype), 1e30))
    fused = rule(evidence)
    assert fused.weights.dtype == fused.posterior.mean.dtype == dtype
    z = torch.ones(2**n_modalities, 3, dtype=dtype)
    value = fused.posterior.log_prob(z).sum() + fused.posterior.entropy_bound().sum()
    value = value + (fused.weights**2).sum() + fused.posterior.components.at(z).sum()
    value.backward()
    assert value.isfinite()
    masked = ~evidence.available.T
    for leaf in (evidence.experts.mean, evidence.experts.log_variance, evidence.features):
        if leaf.grad is not None:
            assert leaf.grad.isfinite().all()
            assert (leaf.grad[masked] == 0).all()
    assert all(parameter.grad.isfinite().all() for parameter in rule.parameters())


@n_modalities_of_interest
def test_cells_do_not_influence_one_another(name, n_modalities):
    rule = random_rule(name, n_modalities)
    evidence = random_evidence(every_mask(n_modalities))
    order = torch.randperm(2**n_modalities, generator=torch.Generator().manual_seed(1))
    experts = evidence.experts
    shuffled = replace(
        evidence,
        experts=Gaussian(experts.mean[:, order], experts.log_variance[:, order]),
        features=evidence.features[:, order],
        available=evidence.available[order],
    )
    for before, after in zip(moments(rule(evidence)), moments(rule(shuffled)), strict=True):
        torch.testing.assert_close(before[order], after)


@n_modalities_of_interest
def test_extreme_log_variances_stay_finite_in_float32(name, n_modalities):
    rule = random_rule(name, n_modalities, dtype=torch.float32)
    evidence = random_evidence(torch.ones(8, n_modalities, dtype=torch.bool), dtype=torch.float32)
    signs = (
        torch.randint(0, 2, evidence.experts.mean.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    )
    evidence = with_gradients(replace(evidence, experts=Gaussian(evidence.experts.mean, 60.0 * signs)))
    posterior = rule(evidence).posterior
    assert posterior.mean.isfinite().all()
    assert posterior.components.log_variance.isfinite().all()
    (posterior.mean.sum() + posterior.components.log_variance.sum()).backward()
    if evidence.experts.mean.grad is not None:
        assert evidence.experts.mean.grad.isfinite().all()
        assert evidence.experts.log_variance.grad.isfinite().all()


def test_state_dict_round_trip(name):
    evidence = random_evidence(every_mask(3))
    first, second = random_rule(name, 3, seed=1), random_rule(name, 3, seed=2)
    second.load_state_dict(first.state_dict())
    for before, after in zip(moments(first(evidence)), moments(second(evidence)), strict=True):
        assert torch.equal(before, after)
    assert set(first.state_dict()) == {key for key, _ in first.named_parameters()}


def test_global_random_state_and_evidence_are_untouched(name):
    rule = random_rule(name, 2)
    evidence = random_evidence(every_mask(2))
    copies = [t.clone() for t in (evidence.experts.mean, evidence.experts.log_variance, evidence.features)]
    state = torch.get_rng_state()
    rule(evidence)
    assert torch.equal(state, torch.get_rng_state())
    now = (evidence.experts.mean, evidence.experts.log_variance, evidence.features)
    assert all(torch.equal(before, after) for before, after in zip(copies, now, strict=True))


@pytest.mark.parametrize("field", ["mean", "log_variance", "features", "available", "dtype"])
def test_evidence_of_another_shape_is_refused(name, field):
    rule = random_rule(name, 2)
    good = random_evidence(every_mask(2))
    wrong = {
        "mean": replace(good, experts=Gaussian(good.experts.mean[:1], good.experts.log_variance)),
        "log_variance": replace(
            good, experts=Gaussian(good.experts.mean, good.experts.log_variance[..., :1])
        ),
        "features": replace(good, features=good.features[:, :1]),
        "available": replace(good, available=good.available[:, :1]),
        "dtype": replace(good, available=good.available.double()),
    }
    seen = "float64" if field == "dtype" else r"has shape .* built for"
    with pytest.raises(
        InputError, match=rf"Evidence\.(experts\.)?{field if field != 'dtype' else 'available'}.*{seen}"
    ):
        rule(wrong[field])


def test_a_rule_computes_on_the_device_of_its_evidence(name):
    rule = random_rule(name, 3).to("meta")
    evidence = random_evidence(every_mask(3))
    moved = replace(
        evidence,
        experts=Gaussian(evidence.experts.mean.to("meta"), evidence.experts.log_variance.to("meta")),
        features=evidence.features.to("meta"),
        available=evidence.available.to("meta"),
    )
    fused = rule(moved)
    assert {fused.weights.device.type, *(m.device.type for m in moments(fused))} == {"meta"}


def test_mixed_precision_keeps_the_posterior_in_the_dtype_of_the_experts(name):
    rule = random_rule(name, 3, dtype=torch.float32)
    evidence = random_evidence(every_mask(3), dtype=torch.float32)
    exact = rule(evidence)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = rule(evidence)
    assert mixed.weights.dtype == mixed.posterior.mean.dtype == torch.float32
    torch.testing.assert_close(mixed.posterior.mean, exact.posterior.mean, atol=0.1, rtol=0.05)
    torch.testing.assert_close(mixed.weights.sum(0), torch.ones(8))
