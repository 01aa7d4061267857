"""Images and their labels as two modalities: the experiment of the MVAE paper on scikit-learn's digits.

Wu & Goodman (2018) hold a multimodal VAE of MNIST images and labels against a VAE of the images alone, by the
variance of the log importance weights and by what one side says of the other. Here the same is done with the
1 797 digits of 8 x 8 pixels that come with scikit-learn, so nothing is downloaded.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields

import anndata
import mudata
import numpy as np
import pandas as pd
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC

from importance_weights import weight_variances
from markers import command_line, write_between_markers
from multiomics_vae import MultiVAE
from scores import held_out_split

mudata.set_options(pull_on_update=False)

FUSIONS = ("product", "gated", "mixture")
N_IMPORTANCE_SAMPLES = 200
SIZES = {"n_latent": 10, "n_hidden": 64, "n_layers": 1, "input_dropout": 0.0}


@dataclass(frozen=True)
class Digits:
    """Images in [0, 1], ``(N, 64)``, and labels 0 to 9, ``(N,)``, to fit on and held out."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


@dataclass(frozen=True)
class DigitScores:
    """What is reported of one model; None where it has no label.

    Parameters
    ----------
    marginal, joint, joint_from_image, conditional
        Mean over held-out digits of the variance of the log importance weights, see `weight_variances`.
    label_from_image
        Share of held-out digits whose label the label decoder finds at the mean of q(z | image).
    image_from_label
        Share of images decoded at draws from q(z | label) that a classifier of real images gives that label.
    linear_on_z
        Held-out accuracy of a logistic regression on the mean of q(z | image).
    seconds
        Of training, wall-clock.
    """

    marginal: float
    joint: float | None
    joint_from_image: float | None
    conditional: float | None
    label_from_image: float | None
    image_from_label: float | None
    linear_on_z: float
    seconds: float


def read_digits() -> Digits:
    """Four fifths to fit on, one fifth held out, always the same."""
    bunch = load_digits()
    images, labels = bunch.data.astype(np.float32) / 16.0, bunch.target.astype(np.float32)
    split = held_out_split(len(labels), 0)
    return Digits(images[split.train], labels[split.train], images[split.test], labels[split.test])


def as_mudata(images: np.ndarray, labels: np.ndarray | None, prefix: str) -> mudata.MuData:
    """Digits as cells of one or two modalities."""
    obs = pd.DataFrame(index=[f"{prefix}{i}" for i in range(len(images))])
    pixels = pd.DataFrame(index=[f"pixel{row}{column}" for row in range(8) for column in range(8)])
    parts = {"image": anndata.AnnData(images, obs=obs, var=pixels)}
    if labels is not None:
        parts["label"] = anndata.AnnData(labels[:, None], obs=obs, var=pd.DataFrame(index=["digit"]))
    return mudata.MuData(parts)


def fit(digits: Digits, fusion: str | None, seed: int, max_epochs: int | None = None) -> MultiVAE:
    """A model of images and labels, or of images alone (``fusion=None``)."""
    train = as_mudata(digits.train_images, None if fusion is None else digits.train_labels, "train")
    kinds = {"image": "gaussian", "label": "categorical"}
    MultiVAE.setup_mudata(train, likelihoods={name: kinds[name] for name in train.mod})
    # One noise level for all pixels: those of the rim hardly ever change, and would take all of the fit.
    model = MultiVAE(train, fusion=fusion or "product", dispersions={"image": "shared"}, seed=seed, **SIZES)
    model.train(max_epochs, seed=seed, accelerator="cpu", progress=False)
    return model


def images_of_labels(
    model: MultiVAE, labels: Sequence[int] | np.ndarray, prefix: str = "imagined"
) -> np.ndarray:
    """An image for every label, decoded at one draw from q(z | label): ``(N, 64)``; no pixel noise."""
    labels = np.asarray(labels, dtype=np.float32)
    # The images are not read: z is inferred from the label, and given= sees to it.
    blank = as_mudata(np.zeros((len(labels), 64), np.float32), labels, prefix)
    return model.get_normalized("image", blank, given=["label"], n_samples=1).to_numpy()


def score(model: MultiVAE, digits: Digits, classifier: SVC, seconds: float, n_samples: int) -> DigitScores:
    """Score a fitted model on the held-out digits."""
    has_label = "label" in model.schema.modality_names
    train = as_mudata(digits.train_images, digits.train_labels if has_label else None, "train")
    test = as_mudata(digits.test_images, digits.test_labels if has_label else None, "test")
    given = {"modalities": ["image"]} if has_label else {}
    z_train = model.get_latent_representation(train, **given)
    z_test = model.get_latent_representation(test, **given)
    linear = LogisticRegression(max_iter=2_000).fit(z_train, digits.train_labels)
    variances = weight_variances(model, test, n_samples)
    label_from_image = image_from_label = None
    if has_label:
        predicted = model.get_normalized("label", test, given=["image"]).to_numpy()[:, 0]
        label_from_image = float((predicted == digits.test_labels).mean())
        wanted = np.repeat(np.arange(10), 50)
        image_from_label = float((classifier.predict(images_of_labels(model, wanted)) == wanted).mean())
    return DigitScores(
        marginal=variances.marginal,
        joint=variances.joint,
        joint_from_image=variances.joint_from_first,
        conditional=variances.conditional,
        label_from_image=label_from_image,
        image_from_label=image_from_label,
        linear_on_z=float(linear.score(z_test, digits.test_labels)),
        seconds=seconds,
    )


def run(digits: Digits, seeds: Sequence[int], max_epochs: int | None, n_samples: int) -> pd.DataFrame:
    """Every model with every seed: a row each."""
    classifier = SVC().fit(digits.train_images, digits.train_labels)
    rows = []
    for seed in seeds:
        for fusion in (*FUSIONS, None):
            start = time.perf_counter()
            model = fit(digits, fusion, seed, max_epochs)
            seconds = time.perf_counter() - start
            found = score(model, digits, classifier, seconds, n_samples)
            name = "image alone" if fusion is None else fusion
            rows.append(
                {"model": name, "seed": seed, **{f.name: getattr(found, f.name) for f in fields(found)}}
            )
            print(f"{name} seed {seed}: {found}", flush=True)
    return pd.DataFrame(rows)


def as_text(table: pd.DataFrame, ceiling: float) -> str:
    """Mean (and range) over seeds, in Markdown."""
    heads = {
        "marginal": "marginal",
        "joint": "joint",
        "joint_from_image": "joint, from the image",
        "conditional": "conditional",
        "label_from_image": "label from image",
        "image_from_label": "image from label",
        "linear_on_z": "linear classifier on z",
        "seconds": "seconds",
    }
    lines = ["| model | " + " | ".join(heads.values()) + " |", "|---" * (len(heads) + 1) + "|"]
    for name, rows in table.groupby("model", sort=False):
        cells = [
            _cell(rows[column], ".3f" if column.startswith(("label", "image", "linear")) else ".1f")
            for column in heads
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    seeds = table["seed"].nunique()
    return "\n".join(
        [
            f"`{command_line()}`: mean and (range) over {seeds} seeds, {N_IMPORTANCE_SAMPLES} draws a digit.",
            "",
            *lines,
            "",
            "A support vector classifier of the real pixels, which judges the images, is right on "
            f"{ceiling:.3f} of the held-out real images.",
        ]
    )


def _cell(values: pd.Series, form: str) -> str:
    if values.isna().any():
        return "–"
    return f"{values.mean():{form}} ({values.min():{form}}–{values.max():{form}})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument(
        "--epochs", type=int, default=None, help="passes at the most (the model's own default)"
    )
    parser.add_argument("--tiny", action="store_true", help="try the script out; RESULTS.md stays as it is")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    digits = read_digits()
    ceiling = (
        SVC().fit(digits.train_images, digits.train_labels).score(digits.test_images, digits.test_labels)
    )
    seeds, epochs = ([0], 3) if arguments.tiny else (arguments.seeds, arguments.epochs)
    text = as_text(run(digits, seeds, epochs, N_IMPORTANCE_SAMPLES), ceiling)
    print(text)
    if not arguments.tiny:
        write_between_markers("digits", text)


if __name__ == "__main__":
    main()
