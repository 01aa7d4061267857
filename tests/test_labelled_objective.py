"""Heads as terms of the loss: averaged over what has a label, the same however the cells are cut."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from handmade_models import mixed_data
from multiomics_vae.architecture import build_module
from multiomics_vae.data.dataset import Labels, MultimodalData
from multiomics_vae.data.loader import make_minibatch
from multiomics_vae.data.schema import OutcomeSchema
from multiomics_vae.data.share import StepNoise
from multiomics_vae.data.statistics import feature_statistics
from multiomics_vae.errors import InputError
from multiomics_vae.fusion import FUSION_RULES
from multiomics_vae.heads import Head, NamedHead
from multiomics_vae.module import MultimodalModule
from multiomics_vae.objective import Objective, ObjectiveConfig, settle_heads, supervise
from multiomics_vae.objective.labelled import head_terms
from multiomics_vae.objective.views import joint_view
from small_models import make_cells, make_model, register

N = 24
TYPE = OutcomeSchema("type", "categorical", ("type",), ("a", "b", "c"))
RESPONSE = OutcomeSchema("response", "binary", ("response",), ("no", "yes"))
DONOR = np.array([0] * 10 + [1] * 6 + [2] * 4 + [-1] * 4)


def _data() -> MultimodalData:
    data = mixed_data(N)
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 3, N).astype(np.float32)
    kind[::3] = np.nan
    response = np.array([0.0, 1.0, np.nan, np.nan], np.float32)[DONOR]
    schema = replace(data.schema, donor_key="donor", outcomes=(TYPE, RESPONSE))
    return replace(data, schema=schema, labels=Labels(DONOR, ("x", "y", "z"), np.stack([kind, response], 1)))


def _module(data: MultimodalData, fusion: str = "product", **heads: Head) -> MultimodalModule:
    from handmade_models import module_for

    config = make_model(register(make_cells(n_cells=12))).config
    plain = module_for(data, fusion=fusion)
    named = tuple(NamedHead(name, head) for name, head in sorted(heads.items()))
    modalities = tuple(
        replace(config.modalities[0], transform=part.encoder.transform.name, n_projection=0, decoder="linear")
        for part in plain.parts
    )
    config = replace(config, fusion=fusion, modalities=modalities, heads=named, dropout=0.0)
    statistics = tuple(feature_statistics(data, m, np.arange(N)) for m in range(3))
    config = replace(
        config,
        modalities=tuple(
            replace(each, has_unobserved=summary.has_unobserved)
            for each, summary in zip(modalities, statistics, strict=True)
        ),
    )
    module = build_module(config, data.schema, statistics).eval()
    with torch.no_grad():
        for parameter in module.heads.parameters():
            parameter.normal_(generator=torch.Generator().manual_seed(len(parameter.flatten())))
    return module


def _terms(
    module: MultimodalModule, data: MultimodalData, cells: np.ndarray, trained: np.ndarray | None = None
):
    known = supervise(data, module.readers, np.arange(N) if trained is None else trained)
    minibatch = make_minibatch(data, cells)
    noise = StepNoise(torch.Generator().manual_seed(0), minibatch.share)
    view = joint_view(module, module.encode(minibatch), minibatch.present, noise)
    return view, {term.name: term for term in head_terms(module.readers, minibatch, view, known)}


@pytest.mark.parametrize("fusion", sorted(FUSION_RULES))
def test_cost_of_cells_written_out(fusion):
    data = _data()
    module = _module(data, fusion, type=Head(weight=2.0, kind="categorical"))
    view, terms = _terms(module, data, np.arange(N))
    (reader,) = module.readers
    codes = data.outcomes[:, 0]
    known = np.flatnonzero(~np.isnan(codes))
    expected = 0.0
    for i in known:
        for z, weight in zip(view.z[:, i], view.weights[:, i], strict=True):
            log_prob = torch.log_softmax(reader.output.linear(z), dim=-1)[int(codes[i])]
            expected -= float((weight * log_prob).detach())
    term = terms["head_type"]
    assert term.n_counted == len(known)
    assert term.value.item() == pytest.approx(expected / N, rel=1e-5)
    # w times the average over what has a label, if labels are spread evenly over the minibatches.
    assert term.weight * term.value.item() == pytest.approx(2.0 * expected / len(known), rel=1e-5)


def test_every_labelled_donor_counts_the_same():
    data = _data()
    module = _module(data, response=Head(level="donor", kind="binary"))
    view, terms = _terms(module, data, np.arange(N))
    (reader,) = module.readers
    costs = []
    for code, label in ((0, 0.0), (1, 1.0)):
        own = torch.from_numpy(np.flatnonzero(code == DONOR))
        scores = reader.of_groups(
            view.z[:, own], view.posterior.log_weights[:, own], torch.zeros(len(own), dtype=torch.int64), 1
        )
        costs.append(reader.output.negative_log_likelihood(scores, torch.tensor([[label]])).item())
    term = terms["head_response"]
    assert term.weight * term.value.item() == pytest.approx(np.mean(costs), rel=1e-5)
    assert term.n_counted.item() == pytest.approx(16.0)  # cells of labelled donors


def test_a_pass_in_pieces_counts_every_donor_the_same():
    """A cell weighs by the size of its donor, so bags of any size add up to equal donors."""
    data = _data()
    module = _module(data, response=Head(level="donor", kind="binary"))
    of_donor = [0.0, 0.0, 0.0]
    for cells in (np.arange(4), np.arange(4, 13), np.arange(13, N)):
        for code in range(3):
            own = cells[DONOR[cells] == code]
            if len(own):
                of_donor[code] += _terms(module, data, own)[1]["head_response"].n_counted.item()
    assert of_donor == pytest.approx([8.0, 8.0, 0.0])


def test_without_a_label_there_is_a_gradient_of_zero_for_every_weight():
    data = _data()
    heads = {"type": Head(kind="categorical"), "response": Head(level="donor", kind="binary", n_hidden=4)}
    module = _module(data, **heads)
    for cells in (np.array([0]), np.arange(20, N), np.arange(16, 20)):
        _, terms = _terms(module, data, cells[np.isnan(data.outcomes[cells]).all(1)])
        sum(term.value for term in terms.values()).backward()
        for parameter in module.heads.parameters():
            assert parameter.grad is not None
            assert (parameter.grad == 0).all()


@pytest.mark.parametrize("detach", [True, False])
@pytest.mark.parametrize("fusion", ["product", "mixture_of_products"])
def test_detached_heads_leave_the_encoders_alone(detach, fusion):
    data = _data()
    said = {"detach": detach}
    module = _module(
        data,
        fusion,
        type=Head(kind="categorical", **said),
        response=Head(level="donor", kind="binary", **said),
    )
    _, terms = _terms(module, data, np.arange(N))
    sum(term.value for term in terms.values()).backward()
    reached = [p.grad is not None and bool((p.grad != 0).any()) for p in module.modalities.parameters()]
    assert any(reached) is not detach
    assert all((parameter.grad != 0).any() for parameter in module.readers[1].parameters())


def test_cox_counts_every_donor_once_whatever_its_cells():
    outcome = OutcomeSchema("os", "survival", ("time", "event"))
    data = _data()
    times = np.array([[1.0, 1.0], [2.0, 1.0], [3.0, 0.0], [np.nan, np.nan]], np.float32)[DONOR]
    schema = replace(data.schema, outcomes=(outcome,))
    data = replace(data, schema=schema, labels=replace(data.labels, outcomes=times))
    module = _module(data, os=Head(level="donor", kind="cox"))
    view, terms = _terms(module, data, np.arange(N))
    (reader,) = module.readers
    group = torch.from_numpy(DONOR[DONOR >= 0])
    there = torch.from_numpy(DONOR >= 0)
    scores = reader.of_groups(view.z[:, there], view.posterior.log_weights[:, there], group, 3)
    expected = reader.output.negative_log_likelihood(
        scores, torch.tensor([[1.0, 1.0], [2.0, 1.0], [3.0, 0.0]])
    )
    term = terms["head_os"]
    assert term.weight * term.value.item() == pytest.approx(expected.mean().item(), rel=1e-5)


def test_no_label_in_the_training_is_refused():
    data = _data()
    module = _module(data, response=Head(level="donor", kind="binary"))
    with pytest.raises(InputError, match=r"No training cell has a label of the outcome 'response'"):
        supervise(data, module.readers, np.arange(16, N))


def test_heads_settle_on_the_donors_that_are_trained_on():
    data = _data()
    module = _module(data, response=Head(level="donor", kind="binary", class_weights="balanced"))
    cells = np.arange(12)
    settle_heads(module.readers, supervise(data, module.readers, cells), data, cells)
    assert module.readers[0].output.class_weights.tolist() == [1.0, 1.0]  # donors, not 10 cells against 2


def test_the_rest_of_the_loss_is_what_it_was():
    data = _data()
    module = _module(data, type=Head(kind="categorical"), response=Head(level="donor", kind="binary"))
    minibatch = make_minibatch(data, np.arange(N))
    known = supervise(data, module.readers, np.arange(N))
    config = ObjectiveConfig()
    found = [
        Objective(config, (1.0,) * 3, N, supervision=each)(
            module, minibatch, 1.0, torch.Generator().manual_seed(0)
        )
        for each in ({}, known)
    ]
    plain, with_heads = ({term.name: term.value.item() for term in terms.terms} for terms in found)
    assert {name: with_heads[name] for name in plain} == plain
    assert set(with_heads) - set(plain) == {"head_type", "head_response"}
    assert found[0].elbo == found[1].elbo
