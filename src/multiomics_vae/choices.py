"""From what a user asked for (often nothing) to the resolved configuration of a model.

The defaults are settled here and nowhere else, and follow from the data, never from the names of
modalities.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

from multiomics_vae.architecture import DECODERS, ModalityConfig, ModelConfig, fit_projection, head_class
from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.data.donors import donor_outcomes
from multiomics_vae.errors import InputError, did_you_mean
from multiomics_vae.fusion import FUSION_RULES
from multiomics_vae.heads import Head, NamedHead
from multiomics_vae.likelihoods import LIKELIHOODS, FeatureStatistics
from multiomics_vae.networks.projection import Projection
from multiomics_vae.networks.transforms import TRANSFORMS
from multiomics_vae.penalties.correction import CONDITIONAL, BatchCorrection, settled
from multiomics_vae.priors import PRIORS

Choice = TypeVar("Choice")
AUTO = "auto"
NOT_CHOSEN = -(2**31)

LSI_COMPONENTS = 50
WIDEST_DIRECT_INPUT = 30_000
# Of the prior on a linear decoder's weights, where features are seen in few cells and where they are not.
SPARSE_WEIGHT_PRECISION, WEIGHT_PRECISION = 100.0, 1.0


@dataclass(frozen=True)
class ModelChoices:
    """What a user may ask of a model; ``"auto"`` is settled from the data.

    Parameters
    ----------
    n_latent, n_hidden, n_layers, dropout, input_dropout, fusion, disagreement_gate, prior,
    n_prior_components, encode_covariates, seed
        As in `ModelConfig`.
    transforms, projections, decoders, dispersions
        One value for every modality, or a mapping from modality names to values.
    batch_correction
        A kind, or all there is to say.
    heads
        Outcome -> head.
    """

    n_latent: int
    n_hidden: int
    n_layers: int
    dropout: float
    input_dropout: float
    fusion: str
    disagreement_gate: bool
    prior: str
    n_prior_components: int
    encode_covariates: bool
    seed: int
    transforms: str | Mapping[str, str]
    projections: str | int | Mapping[str, int]
    decoders: str | Mapping[str, str]
    dispersions: str | Mapping[str, str]
    batch_correction: str | BatchCorrection = CONDITIONAL
    heads: Mapping[str, Head] = field(default_factory=dict)


@dataclass(frozen=True)
class ResolvedModel:
    """A configuration and what was measured to settle it, one a modality."""

    config: ModelConfig
    statistics: tuple[FeatureStatistics, ...]
    projections: tuple[Projection | None, ...]


def resolve(
    choices: ModelChoices, data: MultimodalData, statistics: tuple[FeatureStatistics, ...]
) -> ResolvedModel:
    """Settle every choice, fit the projections.

    Raises
    ------
    InputError
        For a name that no registry holds, or a mapping with an unknown modality.
    """
    names = data.schema.modality_names
    config = ModelConfig(
        n_latent=choices.n_latent,
        n_hidden=choices.n_hidden,
        n_layers=choices.n_layers,
        dropout=choices.dropout,
        input_dropout=choices.input_dropout,
        fusion=FUSION_RULES[choices.fusion].name,
        prior=PRIORS[choices.prior].name,
        n_prior_components=choices.n_prior_components,
        encode_covariates=choices.encode_covariates,
        seed=choices.seed,
        modalities=(),
        disagreement_gate=choices.disagreement_gate,
        batch_correction=settled(choices.batch_correction, data.schema),
        heads=resolve_heads(choices.heads, data),
    )
    modalities, projections = [], []
    for m, (modality, summary) in enumerate(zip(data.schema.modalities, statistics, strict=True)):
        likelihood = LIKELIHOODS[modality.likelihood]
        name = _pick(choices.transforms, modality.name, names, "transforms", AUTO)
        transform = TRANSFORMS[likelihood.default_transform if name == AUTO else name](summary)
        wanted = _pick_projection(choices.projections, modality.name, names)
        n_projection = _n_projection(wanted, transform.name, transform.n_outputs, modality.name)
        n_cells = int((data.modalities[m].row_of_cell >= 0).sum())
        projection = None
        if n_projection:
            projection = fit_projection(
                data, m, np.arange(data.n_cells), transform, n_projection, choices.seed
            )
        decoder = _pick(choices.decoders, modality.name, names, "decoders", AUTO)
        sparse = _is_sparse(summary, n_cells, choices.n_hidden, likelihood.support)
        if decoder == AUTO:
            decoder = "linear" if sparse else "mlp"
        if decoder not in DECODERS:
            raise InputError(f"There is no decoder called {decoder!r}. {did_you_mean(decoder, DECODERS)}")
        projections.append(projection)
        modalities.append(
            ModalityConfig(
                transform=transform.name,
                n_projection=projection.n_outputs if projection else 0,
                decoder=decoder,
                weight_precision=_weight_precision(decoder, sparse),
                dispersion=_pick(choices.dispersions, modality.name, names, "dispersions", "feature"),
                n_categories=tuple(summary.n_categories.tolist()) if likelihood.support == "codes" else None,
                has_unobserved=summary.has_unobserved,
            )
        )
    config = replace(config, modalities=tuple(modalities))
    return ResolvedModel(config, statistics, tuple(projections))


def resolve_heads(asked: Mapping[str, Head], data: MultimodalData) -> tuple[NamedHead, ...]:
    """Settle the kinds of heads, in alphabetical order of their outcomes, and check that they have labels.

    Raises
    ------
    InputError
        For an outcome that was not registered, a kind that cannot predict it, and a donor-level outcome
        without donors or with donors whose cells contradict one another.
    """
    if not isinstance(asked, Mapping):
        raise InputError(
            f"heads is a mapping from outcomes to heads, not {asked!r}: "
            "MultiVAE(mdata, heads={'response': Head(level='donor')})"
        )
    heads = []
    for name in sorted(asked):
        head, outcome = asked[name], data.schema.outcome(name)
        if not isinstance(head, Head):
            raise InputError(
                f"heads[{name!r}] must be a Head, not {head!r}: from multiomics_vae import Head; "
                f"MultiVAE(mdata, heads={{{name!r}: Head(level='cell')}})"
            )
        kind = head_class(NamedHead(name, head), data.schema)
        if head.level == "donor":
            donor_outcomes(data, outcome)
        heads.append(NamedHead(name, replace(head, kind=kind.name)))
    return tuple(heads)


def _pick(
    choice: Choice | Mapping[str, Choice], name: str, names: tuple[str, ...], argument: str, default: Choice
) -> Choice:
    if not isinstance(choice, Mapping):
        return choice
    for given in choice:
        if given not in names:
            raise InputError(
                f"{argument} names a modality {given!r} that was not registered. {did_you_mean(given, names)}"
            )
    return choice.get(name, default)


def _pick_projection(choice: str | int | Mapping[str, int], name: str, names: tuple[str, ...]) -> str | int:
    if not isinstance(choice, Mapping):
        return choice
    chosen = _pick(choice, name, names, "projections", NOT_CHOSEN)
    return AUTO if chosen == NOT_CHOSEN else chosen


def _n_projection(wanted: str | int, transform: str, width: int, modality: str) -> int:
    if wanted == AUTO:
        # One more than is kept: the direction that follows depth is left out.
        return (
            min(LSI_COMPONENTS + 1, width - 1) if transform == "tfidf" or width > WIDEST_DIRECT_INPUT else 0
        )
    if isinstance(wanted, bool) or not isinstance(wanted, int) or not 0 <= wanted < max(width, 1):
        raise InputError(
            f"projections[{modality!r}] is the number of directions, from 0 (none) to "
            f"{width - 1}, not {wanted!r}: MultiVAE(mdata, projections={{{modality!r}: 50}})"
        )
    return wanted


def _is_sparse(statistics: FeatureStatistics, n_cells: int, n_hidden: int, support: str) -> bool:
    """Whether a feature is seen in fewer cells than a hidden layer has weights for it."""
    if support in ("real", "codes", "fractions"):
        cells_a_feature = float(n_cells)
    else:
        cells_a_feature = float(statistics.nonzero_fraction.mean()) * n_cells
    return cells_a_feature < n_hidden


def _weight_precision(decoder: str, sparse: bool) -> float:
    if decoder != "linear":
        return 0.0
    return SPARSE_WEIGHT_PRECISION if sparse else WEIGHT_PRECISION
