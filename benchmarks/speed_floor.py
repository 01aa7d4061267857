"""What the machine can do at best, and which share of it the exact step reaches.

Of PyTorch's two libraries for float32 products the faster one counts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from time import perf_counter

import torch

from multiomics_vae.kernels.products import product_with_transposed
from speed_contenders import N_HIDDEN, Multivae, Prepared
from speed_data import spaced
from speed_records import PartRecord, Plan, Sheet
from speed_step import note_prepared
from speed_variants import multivae_variants
from speed_worker import Worker

SECONDS = 120.0
ADAM_BYTES = 28  # a float32 parameter: read weight, gradient and two moments, write all but the gradient
AVERAGE_BYTES = 12  # the running average of the weights: read both, write one
BEST_OF = 5


@dataclass(frozen=True)
class Rates:
    """What was reached: FLOP/s of products, bytes/s of a copy and of a sum (the better of both)."""

    square_float32: float
    square_bfloat16: float
    layer_float32: float
    bytes: float


class Machine:
    """Measures rates, in a worker like the others."""

    def __init__(self, accelerator: str) -> None:
        self.device = "cuda" if accelerator == "gpu" else "cpu"

    def rates(self, size: int, n_features: int, batch_size: int, n_floats: int) -> Rates:
        """Products of square matrices and of an output layer's shape; a copy and a sum of long vectors."""
        return Rates(
            square_float32=self._product_rate(size, size, size, torch.float32),
            square_bfloat16=self._product_rate(size, size, size, torch.bfloat16),
            layer_float32=self._product_rate(n_features, N_HIDDEN, batch_size, torch.float32),
            bytes=self._bandwidth(n_floats),
        )

    def _product_rate(self, n: int, k: int, m: int, dtype: torch.dtype) -> float:
        a = torch.randn(n, k, device=self.device).to(dtype)  # (n, k)
        b = torch.randn(k, m, device=self.device).to(dtype)  # (k, m)
        out = torch.empty(n, m, device=self.device, dtype=dtype)  # (n, m)
        seconds = self._best(lambda: torch.mm(a, b, out=out))
        if dtype == torch.float32 and self.device == "cpu":
            columns = b.t().contiguous()  # (m, k)
            seconds = min(seconds, self._best(lambda: product_with_transposed(a, columns)))
        return 2.0 * n * k * m / seconds

    def _bandwidth(self, n: int) -> float:
        a, b, c = (torch.ones(n, device=self.device) for _ in range(3))
        copied = 8.0 * n / self._best(lambda: b.copy_(a))
        summed = 12.0 * n / self._best(lambda: torch.add(a, b, out=c))
        return max(copied, summed)

    def _best(self, run: Callable[[], object]) -> float:
        seconds = []
        for _ in range(BEST_OF):
            start = perf_counter()
            run()
            if self.device == "cuda":
                torch.cuda.synchronize()
            seconds.append(perf_counter() - start)
        return min(seconds[1:])


def floor(plan: Plan) -> PartRecord:
    """Rates and exact steps in turn, so that both meet the same load."""
    sheet, sizes = Sheet("floor", SECONDS), plan.sizes
    batch_size = plan.batch_sizes[0]
    n_cells = max(3, sizes.step.n_cells // batch_size) * batch_size
    spec = replace(sizes.step, n_cells=n_cells)
    exact = multivae_variants(sizes.features_per_step)[:2]
    case = f"batch {spaced(batch_size)}"
    with (
        Worker(Machine, plan.accelerator, plan.threads) as machine,
        Worker(Multivae, plan.accelerator, plan.threads) as ours,
    ):
        sheet.say(f"{spec.text}; making the model")
        prepared: Prepared = ours.call("prepare", spec, "mlp")
        note_prepared(sheet, "MultiVAE", prepared)
        for variant in exact:
            flops = ours.call("product_flops", variant.training(batch_size, 1))
            sheet.fact(f"matrix products of a step, {variant.label}", flops / 1e9, "GFLOP")
        sheet.fact("bytes that Adam moves a step", ADAM_BYTES * prepared.n_parameters / 1e9, "GB")
        moved = AVERAGE_BYTES * prepared.n_parameters / 1e9
        sheet.fact("bytes that the average of the weights moves a step", moved, "GB")
        for _ in sheet.rounds(plan.repeats):
            rates: Rates = machine.call(
                "rates", sizes.product, spec.n_peaks, batch_size, sizes.bandwidth_floats
            )
            square = f"{sizes.product} × {sizes.product}"
            sheet.add("machine", f"product, {square}", "float32", "GFLOP/s", rates.square_float32 / 1e9)
            sheet.add("machine", f"product, {square}", "bfloat16", "GFLOP/s", rates.square_bfloat16 / 1e9)
            layer = f"product, {spaced(spec.n_peaks)} × {N_HIDDEN} × {batch_size}"
            sheet.add("machine", layer, "float32", "GFLOP/s", rates.layer_float32 / 1e9)
            sheet.add("machine", "memory", "copy or sum", "GB/s", rates.bytes / 1e9)
            for variant in exact:
                times = ours.call("steps", variant.training(batch_size, 1))
                sheet.add(case, "MultiVAE", variant.label, "s", times.wall, times.cpu)
    return sheet.record(spec.text, plan)
