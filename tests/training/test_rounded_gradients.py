"""Gradients that stay in bfloat16 change nothing but the memory that they take.

Where several products add up to a gradient, as in a last minibatch of few cells, their sum is rounded once.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from multiomics_vae import MultiVAE
from multiomics_vae.kernels import ChunkOptions, SparseRows, bernoulli_log_likelihood
from multiomics_vae.training.averaging import WeightAverage
from multiomics_vae.training.config import TrainingConfig
from multiomics_vae.training.groups import make_optimizer
from multiomics_vae.training.optimizer import AveragingAdamW
from multiomics_vae.training.rounded_gradients import RoundedGradients
from small_models import make_cells, make_model, register, train

WIDE = 1_200  # × 64 hidden units: wide enough for the walk, and with 128 cells for the compiled loops

needs_types_of_gradients = pytest.mark.skipif(
    not hasattr(Tensor, "grad_dtype"), reason="this PyTorch gives a gradient the type of its weight"
)


def wide_model(**choices: Any) -> MultiVAE:
    cells = register(make_cells(n_cells=160, n_features=WIDE))
    return make_model(cells, n_hidden=64, decoders="mlp", **choices)


def of(model: MultiVAE, precision: str = "bfloat16") -> RoundedGradients:
    optimizer = make_optimizer(
        model.module.parameters(), model.module.heads, TrainingConfig(precision=precision), walks=True
    )
    assert isinstance(optimizer, AveragingAdamW)
    optimizer.attach(WeightAverage(model.module, 0.9), others=())
    return RoundedGradients.of(model.module, optimizer)


def weights_after(monkeypatch: pytest.MonkeyPatch, *, stay_rounded: bool) -> tuple[list[Tensor], set[Any]]:
    """Weights of a model trained for two passes, and the types of gradient that its optimiser has met."""
    seen = set()
    piece_of = AveragingAdamW._piece_of

    def watched(self: AveragingAdamW, parameter: Tensor, group: dict[str, Any]) -> Any:
        seen.add(parameter.grad.dtype)
        return piece_of(self, parameter, group)

    with monkeypatch.context() as patch:
        patch.setattr(AveragingAdamW, "_piece_of", watched)
        if not stay_rounded:
            patch.setattr(RoundedGradients, "of", classmethod(lambda cls, *_: cls()))
        model = train(wide_model(), 2, precision="bfloat16", batch_size=144)
    for parameter in model.module.parameters():
        assert parameter.grad is None
        assert getattr(parameter, "grad_dtype", torch.float32) == torch.float32
    return [parameter.detach() for parameter in model.module.parameters()], seen


@needs_types_of_gradients
def test_training_is_bitwise_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """One product makes the gradient of a step, and it is as rounded as that product."""
    rounded, of_rounded = weights_after(monkeypatch, stay_rounded=True)
    wide, of_wide = weights_after(monkeypatch, stay_rounded=False)
    assert torch.bfloat16 in of_rounded
    assert torch.bfloat16 not in of_wide
    for one, other in zip(rounded, wide, strict=True):
        assert torch.equal(one, other)


@needs_types_of_gradients
def test_only_what_products_alone_teach_and_the_walk_reads() -> None:
    model = wide_model()
    parts = model.module.parts
    last = [id(part.decoder.last_layers[0].weight) for part in parts]
    first = [id(part.encoder.hidden.layers[0].weight) for part in parts if part.encoder.projection is None]
    assert len(first) > 0
    assert {id(weight) for weight in of(model).weights} == {*first, *last}
    parts[0].decoder.weight_precision = 1.0  # a prior adds float32
    assert {id(weight) for weight in of(model).weights} == {*first, last[1]}
    assert of(make_model()).weights == []  # too narrow
    assert RoundedGradients.of(model.module, torch.optim.AdamW(model.module.parameters())).weights == []
    unfused = {"rna": "zinb", "atac": "bernoulli"}
    cells = register(make_cells(unfused, n_cells=160, n_features=WIDE), unfused)
    model = make_model(cells, n_hidden=64, decoders="mlp")
    found = {id(weight) for weight in of(model).weights}
    rna, atac = model.module.parts
    assert found == {id(rna.encoder.hidden.layers[0].weight), id(atac.decoder.last_layers[0].weight)}


@needs_types_of_gradients
@pytest.mark.parametrize("compiled", [False, True])
def test_the_gradient_comes_as_asked(compiled: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    data = SparseRows.from_dense((torch.rand(16, 300, generator=generator) < 0.2).float())
    hidden, bias = torch.randn(16, 8, generator=generator), torch.zeros(300)
    options = ChunkOptions(chunk_size=64, product_dtype=torch.bfloat16, compiled=compiled)
    start = torch.randn(300, 8, generator=generator)
    found = {}
    for dtype in (torch.float32, torch.bfloat16):
        weight = torch.nn.Parameter(start.clone())
        rounded = RoundedGradients([weight])
        rounded.ask_for(dtype)
        bernoulli_log_likelihood(hidden, weight, bias, data, options=options).total.neg().backward()
        assert weight.grad is not None
        assert weight.grad.dtype == dtype
        found[dtype] = weight.grad.float()
        rounded.restore()
        assert weight.grad is None
        assert weight.grad_dtype == torch.float32
    assert torch.equal(found[torch.float32], found[torch.bfloat16])
    weight = torch.nn.Parameter(start.clone())  # products in float32: as always
    bernoulli_log_likelihood(hidden, weight, bias, data).total.backward()
    assert weight.grad is not None
    assert weight.grad.dtype == torch.float32
