"""What a model remembers of the cells it was trained on, so that others can be held against them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from multiomics_vae.analysis.evidence import showing_only
from multiomics_vae.analysis.latent import latent_table
from multiomics_vae.analysis.mapping.cohort import Cohort
from multiomics_vae.analysis.mapping.hidden_halves import hidden_log_likelihood
from multiomics_vae.analysis.mapping.norms import feature_norms
from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.data.gaps import FeatureNorms
from multiomics_vae.errors import CheckpointError
from multiomics_vae.module import MultimodalModule

MOST_KNOWN, MOST_HELD_OUT = 5_000, 2_000
ALL_SUBSETS_UP_TO = 3  # modalities
MAX_MISSING = 0.2
GIVEN = r"\d{1,4}(\+\d{1,4})*"
NAME = re.compile(
    rf"keys|max_missing|norms/\d{{1,4}}|latent|held_out/{GIVEN}|cohort/{GIVEN}/\d{{1,4}}/[a-z_]+"
)

Subset = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class CellEvidence:
    """What is looked at in N cells.

    Parameters
    ----------
    latent
        E[z | x_A], ``(N, K)``.
    hidden
        `hidden_log_likelihood` of each modality, ``(N, M)``; NaN where it is not in A.
    log_depth
        ``(N, M)``; NaN where a modality is not in A.
    """

    latent: np.ndarray
    hidden: np.ndarray
    log_depth: np.ndarray

    def to_tensor(self) -> Tensor:
        """All of it side by side, ``(N, K + 2 M)``, float32."""
        return torch.from_numpy(np.hstack([self.latent, self.hidden, self.log_depth]).astype(np.float32))

    @classmethod
    def from_tensor(cls, table: Tensor, n_latent: int) -> CellEvidence:
        """The inverse of `to_tensor`."""
        values = table.double().numpy()
        hidden, log_depth = np.split(values[:, n_latent:], 2, axis=1)
        return cls(values[:, :n_latent], hidden, log_depth)


@dataclass(frozen=True, eq=False)
class ReferenceMemory:
    """Of the cells that a model was trained on, and of those that training held out.

    Parameters
    ----------
    norms
        Average cells, one a modality.
    known
        E[z | x] of at most 5 000 training cells, ``(n, K)``.
    held_out
        Modalities A -> evidence from A alone of at most 2 000 held-out cells that have them.
    keys
        `name_keys` of all held-out cells, by which they are found again, ``(n,)``, int64.
    max_missing
        Share of the features of a modality that a query may lack.
    cohorts
        Modalities A and one of them -> what the cells of a query share in it; only of a query.
    """

    norms: tuple[FeatureNorms | None, ...]
    known: np.ndarray
    held_out: Mapping[Subset, CellEvidence] = field(default_factory=dict)
    keys: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    max_missing: float = MAX_MISSING
    cohorts: Mapping[tuple[Subset, int], Cohort] = field(default_factory=dict)

    def to_tensors(self) -> dict[str, Tensor]:
        """All of it by name, for a checkpoint; no names of cells, and nothing that was measured in one."""
        tensors = {
            "latent": torch.from_numpy(self.known.astype(np.float32)),
            "keys": torch.from_numpy(self.keys),
            "max_missing": torch.tensor([self.max_missing], dtype=torch.float32),
        }
        for m, norms in enumerate(self.norms):
            if norms is not None:
                tensors[f"norms/{m}"] = torch.stack([norms.share, norms.usual, norms.square])
        for subset, evidence in self.held_out.items():
            given = list(subset)
            kept = CellEvidence(evidence.latent, evidence.hidden[:, given], evidence.log_depth[:, given])
            tensors["held_out/" + _written(subset)] = kept.to_tensor()
        for (subset, m), cohort in self.cohorts.items():
            for name, tensor in cohort.to_tensors().items():
                tensors[f"cohort/{_written(subset)}/{m}/{name}"] = tensor
        return tensors


def memory_from_tensors(tensors: Mapping[str, Tensor], module: MultimodalModule) -> ReferenceMemory | None:
    """The inverse of `ReferenceMemory.to_tensors`, believing nothing; None where there is nothing.

    Raises
    ------
    CheckpointError
        For a name, size or type that cannot be.
    """
    if not tensors:
        return None
    missing = {"latent", "keys", "max_missing"}.difference(tensors)
    if missing:
        raise CheckpointError(
            f"The saved weights lack {'reference/' + min(missing)!r}. Save the model again."
        )
    n_latent, n_modalities = module.n_latent, module.n_modalities
    norms: list[FeatureNorms | None] = [None] * n_modalities
    held_out: dict[Subset, CellEvidence] = {}
    known, keys, max_missing = np.empty((0, n_latent)), np.empty(0, dtype=np.int64), MAX_MISSING
    cohorts: dict[tuple[Subset, int], dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        positions = [int(digits) for digits in re.findall(r"\d+", name)]
        if not NAME.fullmatch(name) or any(m >= n_modalities for m in positions):
            raise CheckpointError(
                f"The saved weights hold {'reference/' + name!r}, which this model has no use for."
            )
        if name.startswith("norms/"):
            _check(name, tensor, (3, module.likelihoods[positions[0]].n_features))
            norms[positions[0]] = FeatureNorms(*tensor.clone())
        elif name == "latent":
            _check(name, tensor, (len(tensor), n_latent))
            known = tensor.double().numpy()
        elif name == "keys":
            _check(name, tensor, (len(tensor),), torch.int64)
            keys = tensor.numpy()
        elif name == "max_missing":
            _check(name, tensor, (1,))
            max_missing = round(min(max(float(tensor), 0.0), 0.999), 6)
        elif name.startswith("cohort/"):
            subset = _checked_subset(name, positions[:-1])
            cohorts.setdefault((subset, positions[-1]), {})[name.rsplit("/", 1)[1]] = tensor
        else:
            subset = _checked_subset(name, positions)
            _check(name, tensor, (len(tensor), n_latent + 2 * len(subset)))
            held_out[subset] = _in_place(CellEvidence.from_tensor(tensor, n_latent), subset, n_modalities)
    found = {
        place: Cohort.from_tensors(parts, module.likelihoods[place[1]].n_features, n_latent)
        for place, parts in cohorts.items()
    }
    for (subset, _), cohort in found.items():
        if subset not in held_out or len(held_out[subset].latent) != len(cohort.held_out):
            raise CheckpointError("What the saved query learned does not fit its reference. Save it again.")
    return ReferenceMemory(tuple(norms), known, held_out, keys, max_missing, found)


def _checked_subset(name: str, positions: list[int]) -> Subset:
    if positions != sorted(set(positions)):
        raise CheckpointError(f"The saved weights hold {name!r}, whose modalities are out of order.")
    return tuple(positions)


def _written(subset: Subset) -> str:
    return "+".join(map(str, subset))


def _in_place(evidence: CellEvidence, subset: Subset, n_modalities: int) -> CellEvidence:
    hidden, log_depth = (np.full((len(evidence.latent), n_modalities), np.nan) for _ in range(2))
    hidden[:, list(subset)], log_depth[:, list(subset)] = evidence.hidden, evidence.log_depth
    return CellEvidence(evidence.latent, hidden, log_depth)


def _check(name: str, tensor: Tensor, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> None:
    if tensor.dtype != dtype or tuple(tensor.shape) != shape:
        raise CheckpointError(
            f"The saved {'reference/' + name!r} has shape {tuple(tensor.shape)} and dtype {tensor.dtype}, "
            f"not {shape} and {dtype}. Save the model again."
        )


def learn_memory(
    module: MultimodalModule,
    data: MultimodalData,
    training: np.ndarray,
    held_out: np.ndarray,
    batch_size: int,
    subsets: Iterable[Subset] | None = None,
    norms: tuple[FeatureNorms | None, ...] | None = None,
    seed: int = 0,
) -> ReferenceMemory:
    """Look at the cells of a fitted model.

    Parameters
    ----------
    module, data, batch_size
        The model and its cells.
    training, held_out
        Positions of the cells that it was trained on, and of those that it was not.
    subsets
        From which modalities to infer the held-out cells; None takes all subsets of up to three modalities,
        of more each alone and all.
    norms
        Of the training cells where they are known already.
    seed
        Of the draws.
    """
    norms = feature_norms(module, data, training, seed) if norms is None else norms
    known = latent_table(module, data, some(training, MOST_KNOWN, seed), batch_size).mean
    tables = {}
    for subset in subsets_of(module.n_modalities) if subsets is None else subsets:
        having = some(having_all(data, held_out, subset), MOST_HELD_OUT, seed)
        if len(having):
            tables[subset] = cell_evidence(module, data, having, batch_size, subset, norms)
    return ReferenceMemory(norms, known.astype(np.float64), tables, name_keys(data.cell_names[held_out]))


def cell_evidence(
    module: MultimodalModule,
    data: MultimodalData,
    cells: np.ndarray,
    batch_size: int,
    given: Subset,
    norms: tuple[FeatureNorms | None, ...],
) -> CellEvidence:
    """Look at cells, reading some of their modalities, which all of them have."""
    seen = showing_only(data, given)
    hidden, log_depth = (np.full((len(cells), module.n_modalities), np.nan) for _ in range(2))
    for m in given:
        part = data.modalities[m]
        hidden[:, m] = hidden_log_likelihood(module, seen, cells, batch_size, m, norms[m])
        log_depth[:, m] = np.log(part.depth[part.row_of_cell[cells]])
    latent = latent_table(module, seen, cells, batch_size).mean.astype(np.float64)
    return CellEvidence(latent, hidden, log_depth)


def name_keys(cell_names: np.ndarray) -> np.ndarray:
    """A number for each name, from which the name cannot be read: ``(n,)``, int64."""
    digests = [hashlib.blake2b(str(name).encode(), digest_size=8).digest() for name in cell_names]
    return np.frombuffer(b"".join(digests), dtype="<i8").astype(np.int64)


def subsets_of(n_modalities: int) -> list[Subset]:
    """All subsets of up to three modalities, of more each alone and all."""
    everything = tuple(range(n_modalities))
    if n_modalities > ALL_SUBSETS_UP_TO:
        return [*((m,) for m in everything), everything]
    return [s for size in range(1, n_modalities + 1) for s in combinations(everything, size)]


def having_all(data: MultimodalData, cells: np.ndarray, subset: Subset) -> np.ndarray:
    """Those of the cells that have all of some modalities."""
    found: np.ndarray = cells[data.present[cells][:, np.asarray(subset, dtype=np.int64)].all(axis=1)]
    return found


def some(cells: np.ndarray, most: int, seed: int) -> np.ndarray:
    """At most so many of the cells, drawn at random."""
    if len(cells) <= most:
        return cells
    return np.sort(np.random.default_rng(seed).choice(cells, most, replace=False))
