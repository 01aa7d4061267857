"""From cells to donors: weights that add up, no order among cells, and the same in pieces as at once."""

from __future__ import annotations

import pytest
import torch
from head_cases import OUTCOMES

from multiomics_vae.analysis.outcomes.pooled import PooledSums
from multiomics_vae.heads import HEADS, Head, NamedHead
from multiomics_vae.heads.pooling import POOLINGS, pool
from multiomics_vae.heads.reader import OutcomeReader

GROUP = torch.tensor([0, 1, 0, 2, 1, 0])


def _reader(pooling: str, n_hidden: int = 0) -> OutcomeReader:
    named = NamedHead("response", Head(level="donor", kind="binary", pooling=pooling, n_hidden=n_hidden))
    reader = OutcomeReader(named, HEADS["binary"], OUTCOMES["binary"], n_latent=3).double().eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in reader.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return reader


def _z(n_draws: int = 1) -> torch.Tensor:
    return torch.randn(n_draws, 6, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_weights_add_up_to_one_and_averages_are_weighted():
    generator = torch.Generator().manual_seed(0)
    features, logs = torch.randn(6, 2, generator=generator), torch.randn(6, generator=generator)
    pooled, weights = pool(features, logs, GROUP, 3)
    for g in range(3):
        own = g == GROUP
        expected = logs[own].softmax(0)
        torch.testing.assert_close(weights[own], expected)
        torch.testing.assert_close(pooled[g], (expected[:, None] * features[own]).sum(0))


def test_rows_that_are_left_out_have_no_weight_and_no_gradient():
    features = torch.ones(3, 2, requires_grad=True)
    logs = torch.tensor([0.0, -torch.inf, 1.0], requires_grad=True)
    pooled, weights = pool(features, logs, torch.tensor([0, 0, 1]), 2)
    pooled.sum().backward()
    assert weights.tolist() == [1.0, 0.0, 1.0]
    assert features.grad.isfinite().all()
    assert logs.grad.isfinite().all()


@pytest.mark.parametrize("pooling", list(POOLINGS))
@pytest.mark.parametrize("n_hidden", [0, 5])
def test_the_order_of_cells_does_not_matter(pooling, n_hidden):
    reader, z, order = _reader(pooling, n_hidden), _z(), torch.tensor([3, 5, 1, 0, 4, 2])
    mass = torch.zeros(1, 6, dtype=torch.float64)
    expected = reader.of_groups(z, mass, GROUP, 3)
    torch.testing.assert_close(reader.of_groups(z[:, order], mass, GROUP[order], 3), expected)


@pytest.mark.parametrize("pooling", list(POOLINGS))
def test_a_cell_twice_is_a_cell_of_twice_the_mass(pooling):
    reader, z = _reader(pooling), _z()
    mass = torch.zeros(1, 6, dtype=torch.float64)
    doubled = torch.cat([z, z[:, :1]], dim=1)
    twice = reader.of_groups(doubled, torch.zeros(1, 7).double(), torch.cat([GROUP, GROUP[:1]]), 3)
    mass[0, 0] = torch.log(torch.tensor(2.0))
    torch.testing.assert_close(reader.of_groups(z, mass, GROUP, 3), twice)


def test_components_of_a_mixture_count_as_their_weights():
    """Two components with the same draw are one component, whatever their weights."""
    reader, z = _reader("attention"), _z()
    logs = torch.tensor([[0.3], [0.7]], dtype=torch.float64).log().expand(2, 6)
    one = reader.of_groups(z, torch.zeros(1, 6, dtype=torch.float64), GROUP, 3)
    torch.testing.assert_close(reader.of_groups(z.expand(2, -1, -1), logs, GROUP, 3), one)


def test_gated_attention_is_what_ilse_wrote():
    reader, z = _reader("attention"), _z()[0]
    v, u, w = reader.pooling.content, reader.pooling.gate, reader.pooling.weight.weight[0]
    expected = [
        w @ (torch.tanh(v.weight @ row + v.bias) * torch.sigmoid(u.weight @ row + u.bias)) for row in z
    ]
    torch.testing.assert_close(reader.pooling(z), torch.stack(expected))


def test_attention_has_the_right_gradient():
    reader = _reader("attention")
    mass = torch.zeros(1, 6, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda z: reader.of_groups(z, mass, GROUP, 3), _z().requires_grad_())


@pytest.mark.parametrize("scale", [1.0, 800.0])
def test_sums_in_pieces_are_the_sums_at_once(scale):
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 6, 4, generator=generator)
    logs = scale * torch.randn(2, 6, generator=generator)
    sums = PooledSums(2, 3, 4)
    for start in range(0, 6, 2):
        here = slice(start, start + 2)
        sums.add(features[:, here], logs[:, here], GROUP[here])
    for draw in range(2):
        pooled, weights = pool(features[draw], logs[draw], GROUP, 3)
        torch.testing.assert_close(sums.averages()[draw], pooled, atol=1e-6, rtol=1e-5)
        found = sums.weights(logs[draw], GROUP, draw)
        torch.testing.assert_close(found.float(), weights, atol=1e-6, rtol=1e-5)
