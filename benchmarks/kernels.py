"""Time of one training step of the widest layers: plain PyTorch against the fused log likelihoods.

    OMP_NUM_THREADS=1 python benchmarks/kernels.py --repeats 9

Forward and backward, B = 128 cells and H = 128 hidden units. Variants take turns, so that a change in
the machine's load meets all of them; medians are shown, of wall-clock and of processor time.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from statistics import median
from time import perf_counter, process_time

import torch
from torch import Tensor
from torch.nn import functional

from multiomics_vae.kernels import (
    ChunkOptions,
    SparseRows,
    bernoulli_log_likelihood,
    negative_binomial_log_likelihood,
    poisson_log_likelihood,
)
from multiomics_vae.kernels.reference import (
    bernoulli_reference,
    negative_binomial_reference,
    poisson_reference,
)

N_CELLS, N_HIDDEN = 128, 128
COMPILE = "--compile"
FUSED = {
    "fused": ChunkOptions(),
    "fused, bf16 products": ChunkOptions(product_dtype=torch.bfloat16),
    "fused, nothing held": ChunkOptions(memory_budget=0),
}


@dataclass(frozen=True)
class Layer:
    """Inputs of one step; the counts are those of a typical modality."""

    hidden: Tensor
    weight: Tensor
    bias: Tensor
    offset: Tensor
    log_dispersion: Tensor
    data: SparseRows
    depth: Tensor

    @classmethod
    def random(cls, n_features: int, entries_a_cell: int) -> Layer:
        generator = torch.Generator().manual_seed(0)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator)

        fraction = entries_a_cell / n_features
        chosen = torch.rand(N_CELLS, n_features, generator=generator) < fraction
        counts = chosen * torch.ceil(-torch.rand(N_CELLS, n_features, generator=generator).log())
        bias = torch.logit(torch.tensor(fraction)) + 0.5 * normal(n_features)
        return cls(
            normal(N_CELLS, N_HIDDEN).requires_grad_(),
            (0.05 * normal(n_features, N_HIDDEN)).requires_grad_(),
            bias.requires_grad_(),
            (0.3 * normal(N_CELLS)).requires_grad_(),
            (0.5 * normal(n_features)).requires_grad_(),
            SparseRows.from_dense(counts),
            counts.sum(1),
        )

    @property
    def leaves(self) -> tuple[Tensor, ...]:
        return (self.hidden, self.weight, self.bias, self.offset, self.log_dispersion)


def bernoulli_steps(layer: Layer) -> dict[str, Callable[[], Tensor]]:
    core = (layer.hidden, layer.weight, layer.bias, layer.data)
    steps = {"plain": lambda: bernoulli_reference(*core, offset=layer.offset).total}
    if COMPILE in sys.argv:
        offset = layer.offset
        steps["plain, torch.compile"] = lambda: compiled_plain(*core[:3], offset, dense_of(layer.data))
    for name, options in list(FUSED.items())[:2]:
        steps[name] = lambda o=options: bernoulli_log_likelihood(*core, offset=layer.offset, options=o).total
    return steps


@cache
def dense_of(data: SparseRows) -> Tensor:
    """The counts as a dense matrix, made once."""
    return data.to_dense()


def compiled_plain(hidden: Tensor, weight: Tensor, bias: Tensor, offset: Tensor, x: Tensor) -> Tensor:
    """The Bernoulli log likelihood as PyTorch's compiler makes it, from a dense matrix of counts."""
    return _compiled()(hidden, weight, bias, offset, x)


@cache
def _compiled() -> Callable[..., Tensor]:
    def log_likelihood(hidden: Tensor, weight: Tensor, bias: Tensor, offset: Tensor, x: Tensor) -> Tensor:
        logits = functional.linear(hidden, weight, bias) + offset.unsqueeze(1)  # (B, F)
        return (torch.where(x > 0, logits, 0.0) - functional.softplus(logits)).sum()

    return torch.compile(log_likelihood)


def poisson_steps(layer: Layer) -> dict[str, Callable[[], Tensor]]:
    core = (layer.hidden, layer.weight, layer.bias, layer.data, layer.depth)
    steps = {"plain": lambda: poisson_reference(*core).total}
    for name, options in FUSED.items():
        steps[name] = lambda o=options: poisson_log_likelihood(*core, options=o).total
    return steps


def negative_binomial_steps(layer: Layer) -> dict[str, Callable[[], Tensor]]:
    core = (layer.hidden, layer.weight, layer.bias, layer.data, layer.depth, layer.log_dispersion)
    steps = {"plain": lambda: negative_binomial_reference(*core).total}
    for name, options in FUSED.items():
        steps[name] = lambda o=options: negative_binomial_log_likelihood(*core, options=o).total
    return steps


CASES: dict[str, tuple[Callable[[Layer], dict[str, Callable[[], Tensor]]], int, int]] = {
    "bernoulli": (bernoulli_steps, 80_000, 3_800),
    "poisson": (poisson_steps, 80_000, 3_800),
    "nb": (negative_binomial_steps, 15_000, 2_300),
}


def timed(step: Callable[[], Tensor], layer: Layer) -> tuple[float, float]:
    """Milliseconds of one forward and backward pass, by the wall clock and of processor time."""
    for leaf in layer.leaves:
        leaf.grad = None
    wall, cpu = perf_counter(), process_time()
    (-step()).backward()
    return 1e3 * (perf_counter() - wall), 1e3 * (process_time() - cpu)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(COMPILE, action="store_true", help="torch.compile as well; needs a C++ compiler")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(
        f"B = {N_CELLS}, H = {N_HIDDEN}, {arguments.threads} thread(s), torch {torch.__version__}, medians\n"
    )
    print(f"{'likelihood':<11}{'F':>7}  {'variant':<22}{'wall ms':>9}{'cpu ms':>9}{'speed-up':>10}")
    for case in arguments.cases:
        make_steps, n_features, entries_a_cell = CASES[case]
        layer = Layer.random(n_features, entries_a_cell)
        steps = make_steps(layer)
        for step in steps.values():
            timed(step, layer)
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
        for _ in range(arguments.repeats):
            for name, step in steps.items():
                times[name].append(timed(step, layer))
        plain = median(cpu for _, cpu in times["plain"])
        for name, each in times.items():
            wall, cpu = median(w for w, _ in each), median(c for _, c in each)
            print(f"{case:<11}{n_features:>7}  {name:<22}{wall:>9.1f}{cpu:>9.1f}{plain / cpu:>9.1f}x")


if __name__ == "__main__":
    main()
