"""Digits: the split, the picture imagined from a label, the scores and the table."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.svm import SVC

from digits import Digits, as_mudata, as_text, fit, images_of_labels, read_digits, score
from multiomics_vae import MultiVAE

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:mudata", "ignore::UserWarning:anndata")


@pytest.fixture(scope="module")
def digits() -> Digits:
    whole = read_digits()
    return Digits(*(part[:120] for part in vars(whole).values()))


@pytest.fixture(scope="module")
def model(digits: Digits) -> MultiVAE:
    return fit(digits, "product", seed=0, max_epochs=1)


def test_nothing_is_in_both_parts() -> None:
    whole = read_digits()
    assert (len(whole.train_labels), len(whole.test_labels)) == (1438, 359)
    train = {image.tobytes() for image in whole.train_images}
    assert not any(image.tobytes() in train for image in whole.test_images)
    assert whole.train_images.min() == 0.0
    assert whole.train_images.max() == 1.0


def test_an_imagined_image_reads_the_label_and_not_the_pixels(model: MultiVAE) -> None:
    imagined = images_of_labels(model, [3, 3, 8])
    assert imagined.shape == (3, 64)
    assert np.abs(imagined[0] - imagined[1]).max() > 1e-3  # two draws
    other = as_mudata(np.ones((3, 64), np.float32), np.array([3, 3, 8], np.float32), "imagined")
    again = model.get_normalized("image", other, given=["label"], n_samples=1).to_numpy()
    np.testing.assert_array_equal(again, imagined)


def test_scores_are_those_of_a_model_with_and_without_labels(model: MultiVAE, digits: Digits) -> None:
    classifier = SVC().fit(digits.train_images, digits.train_labels)
    found = score(model, digits, classifier, 1.0, n_samples=5)
    assert found.label_from_image is not None
    assert 0.0 <= found.label_from_image <= 1.0
    assert min(found.marginal, found.joint, found.conditional) > 0
    alone = score(fit(digits, None, seed=0, max_epochs=1), digits, classifier, 1.0, n_samples=5)
    assert (alone.joint, alone.label_from_image, alone.image_from_label) == (None, None, None)
    assert alone.marginal > 0
    rows = [
        {"model": "product", "seed": 0, **vars(found)},
        {"model": "image alone", "seed": 0, **vars(alone)},
    ]
    lines = as_text(pd.DataFrame(rows), 0.9).splitlines()
    assert f"{found.linear_on_z:.3f}" in next(line for line in lines if line.startswith("| product"))
    assert next(line for line in lines if line.startswith("| image alone")).count("–") >= 5
