"""Penalties as terms of the loss: what they add, what they see, and what they leave alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from evaluated_objectives import N_TRAINING, WEIGHTS, fix_noise, gradients, number
from handmade_models import mixed_data, module_for
from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.data.loader import make_minibatch
from multiomics_vae.data.share import Share
from multiomics_vae.errors import InputError
from multiomics_vae.fusion import FUSION_RULES
from multiomics_vae.loss_terms import LossTerm, LossTerms
from multiomics_vae.module import MultimodalModule
from multiomics_vae.objective import (
    Objective,
    ObjectiveConfig,
    PenaltyWeight,
    build_penalties,
    penalty_weights,
)
from multiomics_vae.penalties import PENALTIES, PenaltyInput

EVERY = penalty_weights({name: 0.5 + i for i, name in enumerate(PENALTIES)})


def evaluate(
    module: MultimodalModule,
    data: MultimodalData,
    config: ObjectiveConfig,
    cells: np.ndarray | None = None,
    part: Share | None = None,
    generator: torch.Generator | None = None,
) -> LossTerms:
    minibatch = make_minibatch(data, np.arange(data.n_cells) if cells is None else cells, part)
    penalties = build_penalties(config.penalties, module.n_latent, module.n_modalities, 2, seed=0)
    objective = Objective(config, WEIGHTS, N_TRAINING, penalties=penalties)
    return objective(module, minibatch, 1.0, generator or torch.Generator().manual_seed(0))


def of_penalties(terms: LossTerms) -> dict[str, LossTerm]:
    return {term.name: term for term in terms.terms if term.name in PENALTIES}


@pytest.mark.parametrize("kind", ["within", "none"])
@pytest.mark.parametrize("fusion", sorted(FUSION_RULES))
def test_they_are_added_to_what_the_loss_was(fusion: str, kind: str) -> None:
    data = mixed_data(20)
    module = module_for(data, fusion=fusion)
    plain = evaluate(module, data, ObjectiveConfig(subset_objective=kind))  # type: ignore[arg-type]
    config = ObjectiveConfig(subset_objective=kind, penalties=EVERY)  # type: ignore[arg-type]
    terms = evaluate(module, data, config)
    found = of_penalties(terms)
    assert {name: term.weight for name, term in found.items()} == {e.name: e.weight for e in EVERY}
    assert not of_penalties(plain)
    added = sum(term.weight * number(term.value) for term in found.values())
    assert number(terms.loss) == pytest.approx(number(plain.loss) + added, rel=1e-6)
    assert number(terms.elbo) == number(plain.elbo)
    assert all(bool(g.isfinite().all()) for g in gradients(module, terms.loss).values())


def test_a_term_is_the_average_over_the_minibatch_and_says_how_many_cells_it_concerns() -> None:
    data = mixed_data(20)
    module = module_for(data)
    found = of_penalties(evaluate(module, data, ObjectiveConfig(penalties=EVERY)))
    several = int((data.present.sum(1) > 1).sum())
    for name in ("info_nce", "distance_nce", "overconfidence", "triplet"):
        assert found[name].n_counted is not None
        assert int(found[name].n_counted) == several < 20
    only = np.flatnonzero(data.present.sum(1) > 1)
    fewer = of_penalties(evaluate(module, data, ObjectiveConfig(penalties=EVERY), cells=only))
    for name in ("info_nce", "distance_nce", "overconfidence", "triplet"):
        assert number(found[name].value) * 20 == pytest.approx(number(fewer[name].value) * several, rel=1e-5)


def seen_by(module: MultimodalModule, data: MultimodalData, config: ObjectiveConfig) -> PenaltyInput:
    """What the penalties were given."""
    seen: list[PenaltyInput] = []
    penalties = build_penalties(config.penalties, module.n_latent, module.n_modalities, 2, seed=0)
    (name,) = penalties
    penalties[name].register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    minibatch = make_minibatch(data, np.arange(data.n_cells))
    objective = Objective(config, WEIGHTS, N_TRAINING, penalties=penalties)
    objective(module, minibatch, 1.0, torch.Generator().manual_seed(0))
    return seen[0]


@pytest.mark.parametrize("fusion", sorted(FUSION_RULES))
def test_they_see_the_posteriors_of_the_model(fusion: str) -> None:
    data = mixed_data(20)
    module = module_for(data, fusion=fusion)
    found = seen_by(module, data, ObjectiveConfig(penalties=EVERY[:1]))
    evidence = module.encode(make_minibatch(data, np.arange(20)))
    joint = module.fuse(evidence).posterior
    torch.testing.assert_close(found.joint.mean, joint.mean)
    for m in range(3):
        alone = torch.zeros(3, dtype=torch.bool)
        alone[m] = True
        single = module.fuse(evidence, evidence.available & alone).posterior
        torch.testing.assert_close(found.singles.mean[m], single.mean)
        torch.testing.assert_close(found.singles.variance[m], single.variance)
        absent = ~evidence.available[:, m]
        if FUSION_RULES[fusion].robust_to_missing:
            assert (found.singles.mean[m, absent] == 0).all()
            assert (found.singles.log_variance[m, absent] == 0).all()
    assert torch.equal(found.present, evidence.available)
    assert torch.equal(found.covariates.batch, torch.arange(20) % 2)
    assert found.single_z.shape == (3, 20, 3)
    assert not torch.equal(found.single_z, found.singles.mean)


@pytest.mark.parametrize("kind", ["within", "none"])
def test_modality_dropout_hides_nothing_from_them(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fix_noise(monkeypatch)
    data = mixed_data(20)
    module = module_for(data).train()
    seen = [
        seen_by(
            module,
            data,
            ObjectiveConfig(subset_objective=kind, modality_dropout=rate, penalties=EVERY[:1]),  # type: ignore[arg-type]
        )
        for rate in (0.0, 1.0)
    ]
    torch.testing.assert_close(seen[0].joint.mean, seen[1].joint.mean)
    torch.testing.assert_close(seen[0].single_z, seen[1].single_z)


@pytest.mark.parametrize("name", sorted(PENALTIES))
def test_a_modality_that_no_cell_has_gets_no_gradient(name: str) -> None:
    data = mixed_data(20, missing=0.0)
    lacking = replace(
        data.modalities[2],
        values=data.modalities[2].values[:0],
        row_of_cell=np.full(20, -1, dtype=np.int64),
        depth=data.modalities[2].depth[:0],
        observed=None,
    )
    masked = replace(data, modalities=(*data.modalities[:2], lacking))
    module = module_for(data)
    config = ObjectiveConfig(penalties=penalty_weights({name: 1.0}))
    (term,) = of_penalties(evaluate(module, masked, config)).values()
    found = gradients(module, term.value + 0.0 * module.parts[0].encoder.head.mean.bias.sum())
    assert all(number(g.abs().max()) == 0.0 for n, g in found.items() if n.startswith("modalities.2."))


@pytest.mark.parametrize("name", sorted(PENALTIES))
def test_the_order_of_cells_does_not_matter(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fix_noise(monkeypatch)
    data = mixed_data(20)
    module = module_for(data)
    config = ObjectiveConfig(penalties=penalty_weights({name: 1.0}))
    order = np.random.default_rng(0).permutation(20)
    first, second = (of_penalties(evaluate(module, data, config, cells)) for cells in (None, order))
    assert number(first[name].value) == pytest.approx(number(second[name].value), rel=1e-4, abs=1e-6)


def test_processes_that_share_a_step_draw_as_often() -> None:
    data = mixed_data(20)
    module = module_for(data)
    states: list[Tensor] = []
    for cells, part in ((np.arange(6), Share(0, 6, 20)), (np.arange(6, 20), Share(6, 14, 20))):
        generator = torch.Generator().manual_seed(0)
        evaluate(module, data, ObjectiveConfig(penalties=EVERY), cells, part, generator)
        states.append(generator.get_state())
    assert torch.equal(*states)


def test_overconfidence_of_two_processes_is_that_of_one() -> None:
    data = mixed_data(20)
    module = module_for(data)
    config = ObjectiveConfig(penalties=penalty_weights({"overconfidence": 1.0}))
    whole = of_penalties(evaluate(module, data, config))["overconfidence"]
    parts = [
        6 * number(of_penalties(evaluate(module, data, config, np.arange(6)))["overconfidence"].value),
        14 * number(of_penalties(evaluate(module, data, config, np.arange(6, 20)))["overconfidence"].value),
    ]
    assert number(whole.value) == pytest.approx(sum(parts) / 20, rel=1e-5)


# --- what a user asks for --------------------------------------------------------------------------


def test_weights_are_sorted_and_zero_is_off() -> None:
    asked = {"triplet": 2, "mmd": 0.0, "info_nce": 0.1}
    assert penalty_weights(asked) == (PenaltyWeight("info_nce", 0.1), PenaltyWeight("triplet", 2.0))
    assert penalty_weights(None) == penalty_weights({}) == ()


@pytest.mark.parametrize(
    ("asked", "match"),
    [
        ({"info_nec": 1.0}, "no penalty called 'info_nec'. Did you mean 'info_nce'"),
        ({"mmd": -1.0}, r"penalties\['mmd'\] must be a number of at least 0, not -1.0: .*'mmd': 1.0"),
        ({"mmd": float("nan")}, "at least 0, not nan"),
        ({"mmd": "1"}, "at least 0, not '1'"),
        ({"mmd": True}, "at least 0, not True"),
        ({3: 1.0}, "no penalty called 3"),
        (["mmd"], r"a mapping from names to weights, not \['mmd'\]: model\.train\(penalties="),
    ],
)
def test_what_cannot_be_is_refused(asked: object, match: str) -> None:
    with pytest.raises(InputError, match=match):
        penalty_weights(asked)  # type: ignore[arg-type]


def test_start_weights_follow_the_seed_and_leave_the_global_state_alone() -> None:
    state = torch.get_rng_state()
    assert list(build_penalties(EVERY, 3, 2, 2, seed=1)) == sorted(PENALTIES)
    assert torch.equal(state, torch.get_rng_state())
