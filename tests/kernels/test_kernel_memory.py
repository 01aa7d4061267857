"""The fused log likelihoods never hold a whole (B, F) tensor; the plain one does."""

from __future__ import annotations

import subprocess
import sys

import pytest

N_CELLS, N_FEATURES, N_HIDDEN = 256, 400_000, 8
DENSE_MB = N_CELLS * N_FEATURES * 4 / 1e6

PROGRAM = """
import sys, torch
from multiomics_vae.kernels import *
from multiomics_vae.kernels.reference import bernoulli_reference
torch.set_num_threads(1)
def run(name, B, F, H):
    torch.manual_seed(0)
    hidden, weight = torch.randn(B, H).requires_grad_(), (0.1 * torch.randn(F, H)).requires_grad_()
    bias = torch.full((F,), -4.0).requires_grad_()
    columns = torch.randint(0, F, (B, 300)).sort(1).values
    data = SparseRows(torch.arange(B + 1) * 300, columns.reshape(-1), torch.ones(B * 300), F)
    depth, log_dispersion = torch.full((B,), 300.0), torch.zeros(F, requires_grad=True)
    before = peak()
    if name == "bernoulli":
        cost = bernoulli_log_likelihood(hidden, weight, bias, data)
    elif name == "poisson":
        cost = poisson_log_likelihood(hidden, weight, bias, data, depth)
    elif name == "nb":
        cost = negative_binomial_log_likelihood(hidden, weight, bias, data, depth, log_dispersion)
    else:
        cost = bernoulli_reference(hidden, weight, bias, data)
    (-cost.total).backward()
    assert weight.grad is not None and bool(weight.grad.isfinite().all())
    return peak() - before
def peak():
    # Not ru_maxrss: that of a new process starts at what the process that started it holds.
    line = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1e3
run(sys.argv[1], 32, 20_000, {n_hidden})  # compiles, or loads what was compiled
print(run(sys.argv[1], {n_cells}, {n_features}, {n_hidden}))
"""


def peak_megabytes(name: str) -> float:
    program = PROGRAM.format(n_cells=N_CELLS, n_features=N_FEATURES, n_hidden=N_HIDDEN)
    done = subprocess.run([sys.executable, "-c", program, name], capture_output=True, text=True, check=True)
    return float(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak where Linux keeps it")
@pytest.mark.parametrize("name", ["bernoulli", "poisson", "nb"])
def test_peak_memory_is_far_below_a_dense_tensor(name: str) -> None:
    assert peak_megabytes(name) < 0.25 * DENSE_MB


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak where Linux keeps it")
def test_the_measure_sees_a_dense_tensor() -> None:
    assert peak_megabytes("plain") > DENSE_MB
