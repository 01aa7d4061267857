"""Shares of some features equal those of a softmax over all, whatever the chunks."""

from __future__ import annotations

import pytest
import torch

from multiomics_vae.kernels import ChunkOptions, softmax_normaliser

N_CELLS, N_FEATURES, N_HIDDEN = 6, 25, 4


def layer(dtype: torch.dtype, scale: float = 1.0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(N_CELLS, N_HIDDEN, generator=generator, dtype=torch.float64)
    weight = scale * torch.randn(N_FEATURES, N_HIDDEN, generator=generator, dtype=torch.float64)
    bias = torch.randn(N_FEATURES, generator=generator, dtype=torch.float64)
    return hidden.to(dtype), weight.to(dtype), bias.to(dtype)


@pytest.mark.parametrize("chunk_size", [1, 7, 24, 25, 100, None])
@pytest.mark.parametrize("scale", [0.0, 1.0, 300.0])
def test_shares_are_the_softmax(chunk_size: int | None, scale: float) -> None:
    """Also of logits in the thousands, whose exponentials are not finite."""
    hidden, weight, bias = layer(torch.float64, scale)
    logits = hidden @ weight.T + bias
    normaliser = softmax_normaliser(hidden, weight, bias, ChunkOptions(chunk_size=chunk_size))
    torch.testing.assert_close(normaliser.highest, logits.amax(1, keepdim=True))
    some = torch.tensor([3, 24, 0, 3])
    expected = torch.softmax(logits, 1)
    torch.testing.assert_close(normaliser.shares(logits[:, some]), expected[:, some])
    torch.testing.assert_close(normaliser.shares(logits), expected)


def test_single_precision_agrees_with_double() -> None:
    hidden, weight, bias = layer(torch.float32, 10.0)
    shares = softmax_normaliser(hidden, weight, bias).shares(hidden @ weight.T + bias)
    assert shares.dtype == torch.float32
    exact = torch.softmax(hidden.double() @ weight.double().T + bias.double(), 1)
    torch.testing.assert_close(shares.double(), exact, rtol=1e-4, atol=1e-7)


def test_no_cells() -> None:
    hidden, weight, bias = layer(torch.float32)
    assert softmax_normaliser(hidden[:0], weight, bias).total.shape == (0, 1)
