"""The two models, prepared alike and run through their own training loops, inside a worker process."""

from __future__ import annotations

import inspect
import logging
import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from speed_clock import PeakMemory, StepClock, StepTimes, peak_memory
from speed_data import CellSpec, make_cells

N_HIDDEN, N_LATENT = 128, 20


@dataclass(frozen=True)
class Prepared:
    """What making a model took, and what came of it."""

    seconds: float
    n_parameters: int
    description: str


@dataclass(frozen=True)
class Training:
    """A run of the training loop on all cells, without validation.

    ``options`` are passed on to ``train`` of the model: the choices that a variant is made of.
    """

    batch_size: int
    n_epochs: int
    options: tuple[tuple[str, object], ...] = ()


def _flops_of_addmm(_: object, left: tuple[int, int], right: tuple[int, int], **__: object) -> int:
    """Two a multiplication, from the shapes of the factors."""
    return 2 * left[0] * left[1] * right[1]


def _flops_with_transposed(left: tuple[int, int], right: tuple[int, int], *_: object, **__: object) -> int:
    """Two a multiplication, from the shapes of the factors, both with the summed dimension last."""
    return 2 * left[0] * left[1] * right[0]


class Contender(ABC):
    """A model that can be timed."""

    def __init__(self, accelerator: str) -> None:
        self.accelerator = accelerator
        self.model: Any = None
        self.n_cells = 0
        warnings.filterwarnings("ignore")
        logging.disable(logging.WARNING)

    def prepare(self, spec: CellSpec, decoders: str) -> Prepared:
        """Make the cells and a model of them; only the model is timed."""
        mdata = make_cells(spec)
        self.model, self.n_cells = None, spec.n_cells
        self._import()
        start = perf_counter()
        self.model = self._make(mdata, decoders)
        seconds = perf_counter() - start
        parameters = [p for p in self.model.module.parameters() if p.requires_grad]
        return Prepared(seconds, sum(p.numel() for p in parameters), self._describe())

    def steps(self, training: Training) -> StepTimes:
        """Time the steps of a training run."""
        with StepClock(self._synchronise) as clock:
            self._train(training)
        return clock.times(self.n_cells, training.batch_size, training.n_epochs)

    def memory(self, training: Training) -> PeakMemory:
        """Peak memory of a training run beyond what the data and the model hold before."""
        return peak_memory(lambda: self._train(training), self.accelerator)

    def product_flops(self, training: Training) -> float:
        """Floating-point operations of the matrix products of one step, counted as it runs."""
        import torch
        from torch.utils.flop_counter import FlopCounterMode

        # Operations that the counter does not know, and it sees those of one thread only.
        more = {
            torch.ops.aten.addmm_: _flops_of_addmm,
            torch.ops.mkldnn._linear_pointwise: _flops_with_transposed,
        }
        n_threads = torch.get_num_threads()
        torch.set_num_threads(1)
        with FlopCounterMode(display=False, custom_mapping=more) as counter:
            self._train(training)
        torch.set_num_threads(n_threads)
        n_steps = training.n_epochs * -(-self.n_cells // training.batch_size)
        return float(counter.get_total_flops()) / n_steps

    def train(self, training: Training) -> None:
        """Train, untimed."""
        self._train(training)

    def latent(self, batch_size: int | None) -> float:
        """Seconds for the latent means of all cells; None leaves the batch size to the model."""
        self._synchronise()
        start = perf_counter()
        latent = self.model.get_latent_representation(
            **({} if batch_size is None else {"batch_size": batch_size})
        )
        seconds = perf_counter() - start
        if latent.shape != (self.n_cells, N_LATENT):
            raise RuntimeError(f"the latent representation has the shape {latent.shape}")
        return seconds

    def latent_batch_size(self) -> int:
        """Batch size that the model takes for its latent representation if none is given."""
        return int(self._default_latent_batch_size())

    def _synchronise(self) -> None:
        if self.accelerator == "gpu":
            import torch

            torch.cuda.synchronize()

    @abstractmethod
    def _import(self) -> None:
        """Import what is needed, before a clock runs."""

    @abstractmethod
    def _make(self, mdata: Any, decoders: str) -> Any: ...

    @abstractmethod
    def _describe(self) -> str: ...

    @abstractmethod
    def _train(self, training: Training) -> None: ...

    @abstractmethod
    def _default_latent_batch_size(self) -> int: ...


class Multivi(Contender):
    """MULTIVI of scvi-tools with its defaults but for the two widths."""

    def _import(self) -> None:
        import scvi  # noqa: F401

    def _make(self, mdata: Any, decoders: str) -> Any:
        import scvi

        scvi.settings.seed = 0
        scvi.model.MULTIVI.setup_mudata(mdata, modalities={"rna_layer": "rna", "atac_layer": "atac"})
        return scvi.model.MULTIVI(mdata, n_hidden=N_HIDDEN, n_latent=N_LATENT)

    def _describe(self) -> str:
        return "its own"

    def _train(self, training: Training) -> None:
        self.model.train(
            max_epochs=training.n_epochs,
            batch_size=training.batch_size,
            accelerator=self.accelerator,
            devices=1,
            train_size=1.0,
            early_stopping=False,
            enable_progress_bar=False,
            **dict(training.options),
        )

    def _default_latent_batch_size(self) -> int:
        import scvi

        return int(scvi.settings.batch_size)


class Multivae(Contender):
    """MultiVAE with its defaults but for the kind of decoders."""

    def _import(self) -> None:
        from multiomics_vae import MultiVAE  # noqa: F401

    def _make(self, mdata: Any, decoders: str) -> Any:
        from multiomics_vae import MultiVAE

        MultiVAE.setup_mudata(mdata, likelihoods={"rna": "nb", "atac": "bernoulli"})
        return MultiVAE(mdata, n_hidden=N_HIDDEN, n_latent=N_LATENT, decoders=decoders)

    def _describe(self) -> str:
        chosen = zip(self.model.schema.modalities, self.model.config.modalities, strict=True)
        return ", ".join(f"{modality.name} {config.decoder}" for modality, config in chosen)

    def _train(self, training: Training) -> None:
        self.model.train(
            training.n_epochs,
            batch_size=training.batch_size,
            accelerator=self.accelerator,
            validation_size=0.0,
            progress=False,
            **dict(training.options),
        )

    def _default_latent_batch_size(self) -> int:
        signature = inspect.signature(type(self.model).get_latent_representation)
        return int(signature.parameters["batch_size"].default)
