"""The Pyro program has the module's own log p(x, z), reads what was measured only, and touches nothing."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import MCMC, NUTS

from handmade_models import mixed_data, module_for
from multiomics_vae.analysis.pyro_program import GenerativeProgram, generative_program, pyro_prior
from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.data.loader import make_minibatch
from multiomics_vae.errors import InputError, NotFittedError
from multiomics_vae.fusion import FUSION_RULES
from multiomics_vae.likelihoods import LIKELIHOODS
from multiomics_vae.module import MultimodalModule
from multiomics_vae.priors import PRIORS
from small_models import make_cells, make_model, register, train

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:mudata", "ignore::UserWarning:anndata")
CELLS = np.array([3, 0, 7, 12])


def generator_of_numpy() -> bytes:
    return bytes(np.random.get_state()[1])  # noqa: NPY002  (the global one is meant)


def states(n_cells: int, n_latent: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n_cells, n_latent, generator=generator, dtype=torch.float64)


def log_joint(program: GenerativeProgram, z: torch.Tensor) -> float:
    return float(poutine.trace(poutine.condition(program, {"z": z})).get_trace().log_prob_sum())


def module_log_joint(
    module: MultimodalModule,
    data: MultimodalData,
    cells: np.ndarray,
    z: torch.Tensor,
    modalities: tuple[int, ...] | None = None,
) -> float:
    """Σ log p(z) + Σ_m log p(x_m | z) as training computes it, fused where it is."""
    minibatch = make_minibatch(data, cells)
    total = module.prior_mixture().log_prob(z.float()).double().sum()
    for m, batch in enumerate(minibatch.modalities):
        if len(batch.rows) and (modalities is None or m in modalities):
            found = module.log_likelihood(m, batch, z.float().unsqueeze(0), minibatch.covariates)
            total = total + found.per_cell.double().sum()
    return float(total)


def make_z_matter(module: MultimodalModule) -> MultimodalModule:
    with torch.no_grad():
        for part in module.parts:
            for layer in part.decoder.last_layers:
                layer.weight.mul_(20.0)
    return module.eval()


@pytest.mark.parametrize(
    ("likelihood", "dispersion"),
    [(name, each) for name in LIKELIHOODS for each in LIKELIHOODS[name].dispersions],
)
def test_log_joint_is_the_modules_for_every_likelihood(likelihood: str, dispersion: str) -> None:
    kinds = {"rna": "nb", "other": likelihood}
    mdata = make_cells(kinds, lacking={"rna": [0], "other": [3]}, missing_entries=True)
    register(mdata, kinds, batch_key="batch", continuous_covariate_keys=["age"], size_factor_key="factor")
    model = make_model(mdata, dispersions={"other": dispersion})
    module, data = make_z_matter(model.module), model._data
    program = generative_program(module, data, CELLS)
    for seed in range(2):
        z = states(len(CELLS), module.n_latent, seed)
        assert log_joint(program, z) == pytest.approx(module_log_joint(module, data, CELLS, z), rel=1e-5)
        assert float(program.log_joint(z)) == pytest.approx(log_joint(program, z), rel=1e-12)


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("fusion", FUSION_RULES)
@pytest.mark.parametrize("n_latent", [1, 3])
def test_every_prior_is_the_modules(prior: str, fusion: str, n_latent: int) -> None:
    module = module_for(mixed_data(), fusion=fusion, prior=prior, n_latent=n_latent)
    program = generative_program(module, mixed_data(), CELLS)
    z = 2.0 * states(len(CELLS), n_latent)
    found = pyro_prior(program.prior, len(CELLS)).log_prob(z)
    torch.testing.assert_close(
        found, module.prior_mixture().log_prob(z.float()).double(), rtol=1e-5, atol=1e-5
    )
    torch.testing.assert_close(found, program.prior.log_prob(z))
    draws = poutine.trace(program).get_trace().nodes["z"]["value"]
    assert draws.shape == (len(CELLS), n_latent)


def test_sites_are_named_and_shaped() -> None:
    data = mixed_data()
    cells = np.flatnonzero(~data.present[:, 1])[:2]
    program = generative_program(module_for(data), data, np.array([0, *cells]))
    trace = poutine.trace(program).get_trace()
    sites = {name: node for name, node in trace.nodes.items() if name == "z" or name.startswith("x_")}
    assert set(sites) == {"z", "x_m0", "x_m1", "x_m2"}
    assert sites["x_m1"]["value"].shape == (1, 15)  # the first cell only
    assert [name for name, node in sites.items() if node["is_observed"]] == ["x_m0", "x_m1", "x_m2"]
    assert program.cell_names[0] == "cell0"


def test_what_stands_behind_the_mask_is_not_read() -> None:
    data = mixed_data()
    module = module_for(data)
    z = states(len(CELLS), 3)
    before = log_joint(generative_program(module, data, CELLS), z)
    real = data.modalities[2]
    values = np.where(real.observed, real.values, np.float32(1e6))
    changed = replace(data, modalities=(*data.modalities[:2], replace(real, values=values)))
    assert log_joint(generative_program(module, changed, CELLS), z) == before
    values = np.where(real.observed, real.values + np.float32(1), real.values)
    moved = replace(data, modalities=(*data.modalities[:2], replace(real, values=values)))
    assert log_joint(generative_program(module, moved, CELLS), z) != before


def test_modalities_that_are_not_given_are_summed_out() -> None:
    data = mixed_data()
    module = module_for(data)
    z = states(len(CELLS), 3)
    found = log_joint(generative_program(module, data, CELLS, given=(0, 2)), z)
    assert found == pytest.approx(module_log_joint(module, data, CELLS, z, (0, 2)), rel=1e-5)
    assert found != pytest.approx(module_log_joint(module, data, CELLS, z), rel=1e-3)


def test_cells_are_independent() -> None:
    data = mixed_data()
    program = generative_program(module_for(data), data, np.arange(12))
    z = states(12, 3)
    apart = [log_joint(program.only(i), z[i : i + 1]) for i in range(12)]
    assert log_joint(program, z) == pytest.approx(sum(apart))
    assert program.only(5).cell_names == ("cell5",)


def test_weights_are_constants_and_z_has_a_gradient() -> None:
    data = mixed_data()
    module = module_for(data).train()
    program = generative_program(module, data, CELLS)
    assert module.training
    z = states(len(CELLS), 3).requires_grad_()
    trace = poutine.trace(poutine.condition(program, {"z": z})).get_trace()
    before = trace.log_prob_sum()
    (gradient,) = torch.autograd.grad(before, z)
    assert bool((gradient != 0).all())
    assert all(parameter.grad is None for parameter in module.parameters())
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(1.0)
    assert log_joint(program, z.detach()) == float(before.detach())


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_observed_sites_can_be_drawn_instead(likelihood: str) -> None:
    kinds = {"only": likelihood}
    model = make_model(register(make_cells(kinds), kinds))
    program = generative_program(make_z_matter(model.module), model._data, np.array([4]))
    (modality,) = program.modalities
    z = states(1, 3)
    free = poutine.uncondition(
        poutine.condition(program, {"z": z}),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        drawn = poutine.trace(free).get_trace().nodes["x_only"]["value"]
        many = modality.given(z).sample(torch.Size([800]))
    assert drawn.shape == modality.values.shape
    assert many.shape == (800, *modality.values.shape)
    site = modality.given(z)
    assert bool(torch.isfinite(site.log_prob(drawn)).all())
    if LIKELIHOODS[likelihood].support != "codes":
        error = many.std(0) / np.sqrt(len(many))
        expected = site.likelihood.mean(site.outputs, site.cells)
        assert bool(((many.mean(0) - expected).abs() <= 5 * error + 1e-6).all())


@pytest.mark.parametrize("prior", ["standard_normal", "gaussian_mixture"])
def test_pyros_own_sampler_takes_it_as_a_model(prior: str) -> None:
    data = mixed_data()
    program = generative_program(module_for(data, prior=prior), data, CELLS)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        run = MCMC(NUTS(program), num_samples=5, warmup_steps=5, disable_progbar=True)
        run.run()
    draws = run.get_samples()
    assert set(draws) == {"z"}
    assert draws["z"].shape == (5, len(CELLS), 3)
    assert bool(torch.isfinite(draws["z"]).all())


def test_nothing_global_is_touched() -> None:
    data = mixed_data()
    module = module_for(data)
    pyro.clear_param_store()
    pyro.param("mine", torch.tensor(2.0))
    before = random.getstate(), generator_of_numpy(), torch.get_rng_state()
    try:
        log_joint(generative_program(module, data, CELLS), states(len(CELLS), 3))
        assert list(pyro.get_param_store().keys()) == ["mine"]
        assert random.getstate() == before[0]
        assert generator_of_numpy() == before[1]
        assert torch.equal(torch.get_rng_state(), before[2])
    finally:
        pyro.clear_param_store()


def test_the_models_method_answers_for_other_cells_and_refuses_what_is_not_there() -> None:
    model = make_model()
    with pytest.raises(NotFittedError, match=r"model\.train"):
        model.to_pyro(indices=[0])
    train(model)
    program = model.to_pyro(indices=["c2", "c1"])
    assert program.cell_names == ("c2", "c1")
    z = states(2, 3)
    expected = module_log_joint(model.module, model._data, np.array([2, 1]), z)
    assert log_joint(program, z) == pytest.approx(expected, rel=1e-5)
    other = make_cells(seed=3)
    assert log_joint(model.to_pyro(other, ["c2", "c1"]), z) != pytest.approx(expected, rel=1e-5)
    one = model.to_pyro(indices=[0], modalities=["atac"])
    assert [modality.name for modality in one.modalities] == ["atac"]
    with pytest.raises(InputError, match="'c2000'"):
        model.to_pyro(indices=["c2000"])
    with pytest.raises(InputError, match="reaches 40"):
        model.to_pyro(indices=[40])
    with pytest.raises(InputError, match="chooses no cell"):
        model.to_pyro(indices=[])
    with pytest.raises(InputError, match="Did you mean 'rna'"):
        model.to_pyro(indices=[0], modalities=["rma"])
