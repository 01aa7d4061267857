"""What every penalty owes, whatever its mathematics."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from penalty_inputs import (
    cells_of,
    leaves_of,
    make_penalty,
    mosaic,
    random_input,
    spoil_absent,
    with_gradients,
    with_leaves,
)

from multiomics_vae.data.share import Share, StepNoise
from multiomics_vae.distributions import Gaussian
from multiomics_vae.penalties import PENALTIES

pytestmark = pytest.mark.parametrize("name", list(PENALTIES))
components = pytest.mark.parametrize("n_components", [1, 3])


@components
@pytest.mark.parametrize("n_modalities", [1, 2, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_finite_number_and_how_many_cells_it_concerns(name, n_components, n_modalities, dtype):
    penalty = make_penalty(name, n_modalities=n_modalities, dtype=dtype)
    found = random_input(mosaic(12, n_modalities), n_components=n_components, dtype=dtype)
    value = penalty(found)
    assert value.mean.shape == value.n_counted.shape == ()
    assert value.mean.dtype == dtype
    assert value.mean.isfinite()
    assert value.n_counted.dtype == torch.int64
    assert 0 <= value.n_counted <= 12


@components
def test_float32_agrees_with_float64(name, n_components):
    values = [
        make_penalty(name, dtype=dtype)(random_input(mosaic(), n_components=n_components, dtype=dtype))
        for dtype in (torch.float32, torch.float64)
    ]
    torch.testing.assert_close(values[0].mean.double(), values[1].mean, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "present",
    [
        pytest.param(torch.zeros(4, 2, dtype=torch.bool), id="nothing"),
        pytest.param(torch.ones(1, 2, dtype=torch.bool), id="one cell"),
        pytest.param(torch.tensor([[True, False]] * 4), id="one modality"),
        pytest.param(torch.tensor([[True, False], [False, True]]), id="one cell each"),
        pytest.param(torch.tensor([[True, True], [True, False], [False, True]]), id="one whole cell"),
    ],
)
def test_few_cells_give_finite_values_and_gradients(name, present):
    found = with_gradients(random_input(present))
    penalty = make_penalty(name)
    value = penalty(found)
    assert value.mean.isfinite()
    if not value.n_counted:
        assert value.mean == 0
    (value.mean + sum(leaf.sum() for leaf in leaves_of(found))).backward()
    assert all(leaf.grad.isfinite().all() for leaf in leaves_of(found))


@components
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_what_is_absent_has_no_influence_and_no_gradient(name, n_components, value):
    penalty = make_penalty(name, n_modalities=3)
    clean = random_input(mosaic(12, 3), n_components=n_components)
    spoiled = with_gradients(spoil_absent(clean, value))
    answer = penalty(spoiled)
    torch.testing.assert_close(answer.mean, penalty(clean).mean, rtol=0, atol=0)
    (answer.mean + 0.0 * leaves_of(spoiled)[0].sum()).backward()
    absent = ~clean.present.T
    for leaf in leaves_of(spoiled)[-3:]:
        if leaf.grad is not None:
            assert (leaf.grad[absent] == 0).all()
            assert leaf.grad.isfinite().all()


@components
def test_the_order_of_cells_does_not_matter(name, n_components):
    found = random_input(mosaic(), n_components=n_components)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    penalty = make_penalty(name)
    first, second = penalty(found), penalty(cells_of(found, order))
    torch.testing.assert_close(first.mean, second.mean)
    assert first.n_counted == second.n_counted


def test_the_order_of_modalities_does_not_matter(name):
    found = random_input(mosaic(12, 3))
    order = torch.tensor([2, 0, 1])
    turned = replace(
        found,
        singles=Gaussian(found.singles.mean[order], found.singles.log_variance[order]),
        single_z=found.single_z[order],
        present=found.present[:, order],
    )
    penalty = make_penalty(name, n_modalities=3)
    torch.testing.assert_close(penalty(found).mean, penalty(turned).mean)


def test_only_a_penalty_that_compares_cells_is_more_than_the_average_of_its_parts(name):
    penalty = make_penalty(name)
    found = random_input(mosaic())
    parts = [penalty(cells_of(found, order)) for order in (torch.arange(7), torch.arange(7, 12))]
    whole, counts = penalty(found), torch.stack([part.n_counted for part in parts])
    average = (torch.stack([part.mean for part in parts]) * counts).sum() / counts.sum()
    if penalty.compares_cells:
        assert not torch.isclose(whole.mean, average)
    else:
        assert counts.sum() == whole.n_counted
        torch.testing.assert_close(whole.mean, average)


@components
def test_gradients_agree_with_finite_differences(name, n_components):
    penalty = make_penalty(name)
    found = random_input(mosaic(8), n_components=n_components)
    # What a posterior's weights and the joint posterior are is settled elsewhere: singles and their draws.
    *joint, mean, log_variance, z = leaves_of(found)
    inputs = [leaf.clone().requires_grad_() for leaf in (mean, log_variance, z)]

    def value(*singles):
        return penalty(with_leaves(found, [*joint, *singles])).mean + 0.0 * sum(s.sum() for s in singles)

    assert torch.autograd.gradcheck(value, inputs)


def test_only_the_given_noise_is_read_and_nothing_is_changed(name):
    penalty, found = make_penalty(name), random_input(mosaic())
    before, state = [leaf.clone() for leaf in leaves_of(found)], torch.get_rng_state()
    penalty(found)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(*pair) for pair in zip(before, leaves_of(found), strict=True))


def test_processes_that_share_a_step_stay_in_one_state(name):
    """Whichever cells a process has, it leaves the generator where the others leave theirs."""
    found, penalty = random_input(mosaic()), make_penalty(name)
    states = []
    for cells, share in ((torch.arange(3), Share(0, 3, 12)), (torch.arange(3, 12), Share(3, 9, 12))):
        generator = torch.Generator().manual_seed(0)
        penalty(replace(cells_of(found, cells), noise=StepNoise(generator, share)))
        states.append(generator.get_state())
    assert torch.equal(*states)


def test_state_dict_round_trip(name):
    penalty, other, found = make_penalty(name), make_penalty(name), random_input(mosaic())
    with torch.no_grad():
        for parameter in penalty.parameters():
            parameter.add_(0.1)
    other.load_state_dict(penalty.state_dict())
    assert torch.equal(penalty(found).mean, other(found).mean)


def test_it_says_whether_cells_are_compared(name):
    assert isinstance(PENALTIES[name].compares_cells, bool)
