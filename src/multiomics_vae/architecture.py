"""From choices to networks: the resolved configuration of a model, and the module it describes.

A `ModelConfig` together with a `Schema` describes the module completely; both are written to a
checkpoint, and `build_module` makes the same module again.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.data.loader import make_minibatch
from multiomics_vae.data.schema import Schema
from multiomics_vae.errors import InputError
from multiomics_vae.fusion import FUSION_RULES
from multiomics_vae.heads import HEADS, NamedHead, OutcomeHead
from multiomics_vae.heads.reader import OutcomeReader
from multiomics_vae.kernels import SparseRows
from multiomics_vae.likelihoods import LIKELIHOODS, FeatureStatistics
from multiomics_vae.module import ModalityParts, MultimodalModule
from multiomics_vae.networks.covariates import CovariateEncoding
from multiomics_vae.networks.decoder import Decoder
from multiomics_vae.networks.encoder import Encoder
from multiomics_vae.networks.projection import Projection
from multiomics_vae.networks.transforms import TRANSFORMS, InputTransform
from multiomics_vae.penalties.correction import BatchCorrection
from multiomics_vae.priors import PRIORS

DECODERS = ("linear", "mlp")
ROWS_AT_ONCE = 512
PROJECTION_CELLS = 20_000
PROJECTION_BYTES = 1 << 28
FEWEST_TO_HIDE = 32


@dataclass(frozen=True)
class ModalityConfig:
    """How one modality is modelled.

    Parameters
    ----------
    transform
        Name in the transform registry.
    n_projection
        Outputs of the fixed projection; 0 for none.
    decoder
        ``"linear"`` or ``"mlp"``.
    weight_precision
        Precision of the Gaussian prior on the decoder's last weights.
    dispersion
        As the likelihood knows it.
    n_categories
        Categories of each feature, for codes; None otherwise.
    has_unobserved
        True if entries of present cells may be unmeasured.
    """

    transform: str
    n_projection: int
    decoder: str
    weight_precision: float
    dispersion: str
    n_categories: tuple[int, ...] | None = None
    has_unobserved: bool = False


@dataclass(frozen=True)
class ModelConfig:
    """Everything that shapes a model, beside the schema.

    Parameters
    ----------
    n_latent, n_hidden, n_layers
        K, width of the hidden layers, hidden layers of an encoder.
    dropout, input_dropout
        Shares dropped in training of hidden units and of inputs of encoders with `FEWEST_TO_HIDE` of these.
    fusion, prior
        Names in their registries.
    n_prior_components
        Components of a mixture prior.
    encode_covariates
        True if encoders read the covariates.
    seed
        Of the start weights and of the projections.
    modalities
        In the schema's order.
    disagreement_gate
        True if experts that disagree by more than their variances allow lose weight.
    batch_correction
        How the effect of batches is kept out of z.
    heads
        What predicts outcomes from z, their kinds settled.
    """

    n_latent: int
    n_hidden: int
    n_layers: int
    dropout: float
    input_dropout: float
    fusion: str
    prior: str
    n_prior_components: int
    encode_covariates: bool
    seed: int
    modalities: tuple[ModalityConfig, ...]
    disagreement_gate: bool = False
    batch_correction: BatchCorrection = field(default_factory=BatchCorrection)
    heads: tuple[NamedHead, ...] = ()

    def __post_init__(self) -> None:
        for name in ("n_latent", "n_hidden", "n_layers", "n_prior_components"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError(
                    f"{name} must be a whole number of at least 1, not {value!r}: MultiVAE(mdata, {name}=20)"
                )
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or not 0 <= self.seed < 2**32:
            raise InputError(f"seed must be a whole number from 0 to 2**32 - 1, not {self.seed!r}: seed=0")
        if not isinstance(self.disagreement_gate, bool):
            raise InputError(
                f"disagreement_gate is True or False, not {self.disagreement_gate!r}: "
                "MultiVAE(mdata, disagreement_gate=True)"
            )
        for name in ("dropout", "input_dropout"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not 0.0 <= value < 1.0:
                raise InputError(
                    f"{name} is a share from 0 to below 1, not {value!r}: MultiVAE(mdata, {name}=0.1)"
                )


def build_module(
    config: ModelConfig,
    schema: Schema,
    statistics: tuple[FeatureStatistics, ...] | None = None,
    projections: tuple[Projection | None, ...] | None = None,
) -> MultimodalModule:
    """Make the module that a configuration and a schema describe.

    The start weights follow ``config.seed``; the global random state stays as it was.

    Parameters
    ----------
    config, schema
        The description.
    statistics, projections
        Of the training cells, one a modality; None where the weights will come from a checkpoint.
    """
    if statistics is None:
        statistics = tuple(
            FeatureStatistics.empty(m.n_features, schema.n_batches, c.n_categories, c.has_unobserved)
            for m, c in zip(schema.modalities, config.modalities, strict=True)
        )
    if projections is None:
        projections = (None,) * len(schema.modalities)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        covariates = CovariateEncoding(schema)
        parts = tuple(
            _modality_parts(
                config,
                chosen,
                modality.likelihood,
                covariates.n_outputs,
                summary,
                projections[m],
            )
            for m, (modality, chosen, summary) in enumerate(
                zip(schema.modalities, config.modalities, statistics, strict=True)
            )
        )
        n_modalities = len(parts)
        fusion = FUSION_RULES[config.fusion](n_modalities, config.n_latent, config.n_hidden)
        if config.disagreement_gate:
            fusion.with_disagreement_gate()
        prior = PRIORS[config.prior](
            config.n_latent, n_modalities, config.n_hidden, config.n_prior_components
        )
        heads = tuple(
            OutcomeReader(named, head_class(named, schema), schema.outcome(named.outcome), config.n_latent)
            for named in config.heads
        )
    return MultimodalModule(parts, fusion, prior, covariates, heads)


def head_class(named: NamedHead, schema: Schema) -> type[OutcomeHead]:
    """Class of a head: that of its kind, or of the kind of its outcome.

    Raises
    ------
    InputError
        If there is no such kind, or it cannot predict such an outcome.
    """
    outcome = schema.outcome(named.outcome)
    found = HEADS[named.head.kind or outcome.kind]
    if outcome.kind not in found.serves:
        fitting = [name for name in HEADS if outcome.kind in HEADS[name].serves]
        raise InputError(
            f"A head of kind {found.name!r} cannot predict {named.outcome!r}, a {outcome.kind} outcome. "
            f"Kinds that can: {', '.join(map(repr, fitting))}. "
            f"MultiVAE(mdata, heads={{{named.outcome!r}: Head(kind={fitting[0]!r})}})"
        )
    return found


def _modality_parts(
    config: ModelConfig,
    chosen: ModalityConfig,
    likelihood_name: str,
    n_covariates: int,
    statistics: FeatureStatistics,
    projection: Projection | None,
) -> ModalityParts:
    likelihood = LIKELIHOODS[likelihood_name](statistics, chosen.dispersion)
    transform = TRANSFORMS[chosen.transform](statistics)
    if chosen.n_projection and projection is None:
        projection = Projection.empty(transform.n_outputs, chosen.n_projection)
    n_inputs = projection.n_outputs if projection else transform.n_outputs
    encoder = Encoder(
        transform=transform,
        projection=projection,
        n_covariates=n_covariates if config.encode_covariates else 0,
        n_hidden=config.n_hidden,
        n_layers=config.n_layers,
        dropout=config.dropout if n_inputs >= FEWEST_TO_HIDE else 0.0,
        n_latent=config.n_latent,
        # Of few inputs each may be the only one that says something, and what is hidden widens q(z|x).
        input_dropout=config.input_dropout if n_inputs >= FEWEST_TO_HIDE else 0.0,
    )
    decoder = Decoder(
        n_latent=config.n_latent,
        n_covariates=n_covariates,
        n_hidden=config.n_hidden,
        n_layers=0 if chosen.decoder == "linear" else 1,
        dropout=0.0,
        weight_precision=chosen.weight_precision,
        start_biases=likelihood.start_biases(statistics),
    )
    return ModalityParts(encoder, decoder, likelihood)


def fit_projection(
    data: MultimodalData,
    modality: int,
    cells: np.ndarray,
    transform: InputTransform,
    n_outputs: int,
    seed: int,
) -> Projection:
    """Fit the fixed projection of one modality on those of some cells that have it.

    Of values on disk a random sample of the cells is read, drawn with ``seed``: at most
    `PROJECTION_CELLS`, and not more than fit `PROJECTION_BYTES`. Directions of common structure do not
    need more.
    """
    table = data.modalities[modality]
    cells = cells[table.row_of_cell[cells] >= 0]
    if table.on_disk:
        most = min(PROJECTION_CELLS, max(n_outputs + 1, int(PROJECTION_BYTES / max(1.0, table.bytes_a_row))))
        if len(cells) > most:
            cells = np.sort(np.random.default_rng(seed).choice(cells, most, replace=False))
    blocks = []
    for start in range(0, len(cells), ROWS_AT_ONCE):
        batch = make_minibatch(data, cells[start : start + ROWS_AT_ONCE]).modalities[modality]
        blocks.append(_as_csr(transform(batch)))
    log_depth = np.log(table.depth[table.row_of_cell[cells]].astype(np.float64))
    return Projection.fit(sp.vstack(blocks, format="csr"), log_depth, n_outputs, seed)


def _as_csr(rows: Tensor | SparseRows) -> sp.csr_matrix:
    if not isinstance(rows, SparseRows):
        return sp.csr_matrix(rows.numpy())
    parts = (rows.values.numpy(), rows.columns.numpy(), rows.row_pointers.numpy())
    return sp.csr_matrix(parts, shape=(rows.n_cells, rows.n_features))


def describe_config(config: ModelConfig, schema: Schema) -> str:
    """How the modalities are modelled, as text."""
    gate = " with disagreement gate" if config.disagreement_gate else ""
    lines = [
        f"{config.n_latent} latent dimensions, fusion {config.fusion!r}{gate}, prior {config.prior!r}, "
        f"{config.n_layers} hidden layers of {config.n_hidden}"
    ]
    for modality, chosen in zip(schema.modalities, config.modalities, strict=True):
        reads = chosen.transform + (f" -> {chosen.n_projection} directions" if chosen.n_projection else "")
        lines.append(f"{modality.name}: encoder reads {reads}; {chosen.decoder} decoder")
    correction = config.batch_correction
    if correction.penalty is not None:
        within = f", within {correction.conditional_on!r}" if correction.conditional_on else ""
        lines.append(f"batch correction: {correction.kind} on {', '.join(correction.keys or ())}{within}")
    for named in config.heads:
        head = named.head
        whose = f"each donor, {head.pooling} over its cells" if head.level == "donor" else "each cell"
        lines.append(f"head of {named.outcome!r}: {head.kind}, of {whose}, weight {head.weight:g}")
    return "\n".join(lines)
