"""The judge of images: it can read, it is kept, and a poor one may not judge."""

import json
import types

import numpy as np
import pytest

from experiments import judge
from jmvae_jax import data


@pytest.fixture
def quick(monkeypatch, mnist_dir, tmp_path):
    """A judge trained for seconds on a part of MNIST, kept in a folder of its own."""
    seen = []

    class Data:
        num_steps = staticmethod(data.num_steps)

        @staticmethod
        def prepare(name, **options):
            info = types.SimpleNamespace(features={"image": 0, "label": 0})
            return types.SimpleNamespace(data_dir=tmp_path, info=info, name=name)

        @staticmethod
        def metadata(name, **options):
            return {}

        @staticmethod
        def load(name, split, **options):
            seen.append(split)
            return data.load(name, f"{split}[:2000]", data_dir=mnist_dir)

    monkeypatch.setattr(judge, "data", Data)
    small = {"channels": (8,), "hidden": 32, "epochs": 8, "learning_rate": 5e-3}
    monkeypatch.setattr(judge, "RECIPE", {**judge.RECIPE, **small})
    monkeypatch.setattr(judge, "REQUIRED", {})
    return seen


def test_a_judge_is_trained_once_and_kept_with_its_accuracy(quick, tmp_path, mnist_dir, capsys):
    first = judge.load_judge("mnist")
    assert quick == ["train", "test"]
    assert first.accuracy["grey"] > 0.7
    assert set(first.accuracy) == {"grey", "binarized"}
    again = judge.load_judge("mnist")
    assert quick == ["train", "test"]
    assert capsys.readouterr().out.count("training the judge") == 1
    kept = json.loads((tmp_path / "judge" / "judge.json").read_text())
    assert kept["accuracy"] == first.accuracy == again.accuracy
    images = data.load("mnist", "test[:50]", data_dir=mnist_dir)["image"] / np.float32(255)
    for a, b in zip(first.read(images), again.read(images), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_another_recipe_is_another_judge(quick, monkeypatch):
    judge.load_judge("mnist")
    monkeypatch.setattr(judge, "RECIPE", {**judge.RECIPE, "hidden": 8})
    assert judge.load_judge("mnist").read(np.zeros((1, 28, 28, 1), np.float32))[1].shape == (1, 8)
    assert len(quick) == 4


def test_a_judge_that_cannot_read_may_not_judge(quick, monkeypatch):
    monkeypatch.setattr(judge, "REQUIRED", {"mnist": ("grey", 1.0)})
    with pytest.raises(ValueError, match=r"the judge of mnist reads 0\.\d+ .* expected at least 1"):
        judge.load_judge("mnist")


def test_a_judge_of_attributes_reads_each_of_them(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)

    def examples(count):
        signs = np.where(rng.random((count, 3)) < 0.4, 1, -1).astype(np.int8)
        images = rng.integers(0, 90, (count, 16, 16, 3), dtype=np.uint8)
        images[:, :8] += 90 * (signs[:, 0] > 0).astype(np.uint8)[:, None, None, None]
        images[:, 8:] += 90 * (signs[:, 1] > 0).astype(np.uint8)[:, None, None, None]
        return {"image": images, "attributes": signs}

    splits = {"train": examples(640), "test": examples(300)}
    splits["test"]["attributes"][:, 2] = 1
    monkeypatch.setattr(judge.data, "load", lambda name, split, **options: splits[split])
    described = {"attributes": ["above", "below", "nowhere"], "visible": ["above", "below"]}
    monkeypatch.setattr(judge.data, "metadata", lambda name, **options: described)
    info = types.SimpleNamespace(features={"image": 0, "attributes": 0})
    config = types.SimpleNamespace(name="16")
    builder = types.SimpleNamespace(data_dir=tmp_path, info=info, name="own", builder_config=config)
    monkeypatch.setattr(judge.data, "prepare", lambda name, **options: builder)
    small = {"channels": (8, 8), "hidden": 16, "epochs": 8}
    monkeypatch.setattr(judge, "ATTRIBUTES_RECIPE", {**judge.ATTRIBUTES_RECIPE, **small})
    found = judge.load_judge("own/16")
    # What all of the test images have has no balanced accuracy.
    assert set(found.accuracy) == {"balanced_accuracy", "above", "below"}
    assert found.accuracy["balanced_accuracy"] > 0.95
    logits, features = found.read(splits["test"]["image"] / np.float32(255))
    assert (logits.shape, features.shape) == ((300, 3), (300, 16))
    monkeypatch.setattr(judge, "REQUIRED", {"own/16": ("balanced_accuracy", 1.1)})
    with pytest.raises(ValueError, match=r"of own/16 reads .* \(balanced accuracy\): expected"):
        judge.load_judge("own/16")


@pytest.mark.slow
def test_the_judge_of_mnist_reads_its_test_images(mnist_dir):
    accuracy = judge.load_judge("mnist", data_dir=mnist_dir).accuracy
    assert accuracy["grey"] >= 0.985
    assert accuracy["binarized"] >= 0.98
