"""The data set of drawn faces: prepared without TensorFlow, the same wherever and however often."""

import json
import sys

import numpy as np
import pytest

from jmvae_jax.data import synthetic_faces
from jmvae_jax.data.faces import ATTRIBUTES, VISIBLE_ATTRIBUTES
from jmvae_jax.data.synthetic_faces import SyntheticFaces, SyntheticFacesConfig

COUNTS = {"train": 1000, "validation": 200, "test": 200}


def prepared(folder, config):
    builder = SyntheticFaces(config=config, data_dir=folder)
    builder.collect_sources()
    builder.download_and_prepare(download_dir=folder / "downloads", file_format="array_record")
    return builder


def tiny(**changes):
    """A configuration of fourteen faces."""
    numbers = {"image_size": 32, "num_train": 8, "num_validation": 3, "num_test": 3}
    return SyntheticFacesConfig(name="tiny", **{**numbers, **changes})


def arrays(builder, split):
    """The examples of a split by name of file."""
    return {e["file_name"].decode(): e for e in builder.as_data_source(split)}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return prepared(tmp_path_factory.mktemp("faces"), "64_small")


def test_splits_have_their_sizes_and_names(small):
    assert {name: split.num_examples for name, split in small.info.splits.items()} == COUNTS
    for split, count in COUNTS.items():
        assert sorted(arrays(small, split)) == [f"{split}_{k:05d}" for k in range(count)]
    assert small.name == "synthetic_faces"
    assert "tensorflow" not in sys.modules


def test_an_example_has_picture_and_attributes(small):
    example = small.as_data_source("validation")[0]
    assert set(example) == {"image", "attributes", "file_name"}
    assert (example["image"].shape, example["image"].dtype) == ((64, 64, 3), np.uint8)
    assert (example["attributes"].shape, example["attributes"].dtype) == ((40,), np.int8)
    assert set(np.unique(example["attributes"])) == {-1, 1}


def test_no_picture_comes_twice(small):
    images = [e["image"].tobytes() for split in COUNTS for e in small.as_data_source(split)]
    assert len(set(images)) == sum(COUNTS.values())


def test_the_prepared_files_say_that_the_faces_are_synthetic(small):
    again = SyntheticFaces(config="64_small", data_dir=small.data_path.parents[2])
    assert again.info.metadata["attributes"] == list(ATTRIBUTES)
    assert again.info.metadata["visible"] == list(VISIBLE_ATTRIBUTES)
    assert again.info.metadata["synthetic"] is True
    told = json.loads((small.data_path / "dataset_info.json").read_text())["description"]
    assert "Synthetic" in told
    assert "no photographs" in told


def test_configurations():
    configs = {config.name: config for config in SyntheticFaces.BUILDER_CONFIGS}
    sizes = {
        name: (c.image_size, c.num_train, c.num_validation, c.num_test)
        for name, c in configs.items()
    }
    assert sizes == {
        "64": (64, 20_000, 2_000, 2_000),
        "64_small": (64, 1_000, 200, 200),
        "32_small": (32, 1_000, 200, 200),
        "128": (128, 20_000, 2_000, 2_000),
    }
    assert SyntheticFaces.BUILDER_CONFIGS[0].name == "64"  # the default


def test_faces_follow_the_seed_and_not_the_piece_of_work(tmp_path, monkeypatch):
    first = arrays(prepared(tmp_path / "first", tiny()), "train")
    monkeypatch.setattr(synthetic_faces, "_BATCH", 3)
    again = arrays(prepared(tmp_path / "again", tiny()), "train")
    other = arrays(prepared(tmp_path / "other", tiny(seed=1)), "train")
    for name, example in first.items():
        np.testing.assert_array_equal(example["image"], again[name]["image"])
        np.testing.assert_array_equal(example["attributes"], again[name]["attributes"])
        assert (example["image"] != other[name]["image"]).any()


def test_a_failure_leaves_no_data_set_behind(tmp_path, monkeypatch):
    draw, calls = synthetic_faces.draw_faces, []

    def fail_at_last(*args):
        calls.append(args)
        if len(calls) == 3:
            raise MemoryError("no room to draw")
        return draw(*args)

    monkeypatch.setattr(synthetic_faces, "_BATCH", 3)
    monkeypatch.setattr(synthetic_faces, "draw_faces", fail_at_last)
    with pytest.raises(MemoryError, match="no room to draw"):
        prepared(tmp_path, tiny())
    assert not list(tmp_path.rglob("dataset_info.json"))
    monkeypatch.undo()
    assert len(arrays(prepared(tmp_path, tiny()), "train")) == 8
