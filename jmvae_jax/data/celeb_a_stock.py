"""The stock `celeb_a` of TFDS, prepared in array_record, as a source of images.

Its images are taken as the JPEG files that it stores, so that they go through the same decoder as
any others. It stores no file names: an example is called after its split and its position there.
"""

import json
import pathlib
from collections.abc import Generator, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from jmvae_jax.data.attribute_sources import SPLITS, RawExample
from jmvae_jax.data.attributes import CELEB_A_ATTRIBUTES
from jmvae_jax.data.words import one_line, some

_FORMAT = "array_record"
_FILE_NAMES = ("file_name", "filename", "image/filename")


class StockImages:
    """The examples of a prepared stock data set.

    Raises:
      ValueError: It is damaged, or its features are not those of CelebA.
      FileNotFoundError: One of its files is missing.
    """

    name = "celeb_a"

    def __init__(self, folder: pathlib.Path) -> None:
        self._folder = folder
        self._builder = _read_description(folder)
        features = _entries(self._builder.info.features)
        attributes = _entries(features.get("attributes"))
        image = features.get("image")
        wrong = sorted(set(attributes) ^ set(CELEB_A_ATTRIBUTES))
        if wrong or not isinstance(image, tfds.features.Image):
            raise ValueError(
                f"{folder} has other features than TFDS's celeb_a "
                f"({some(wrong) if wrong else 'image'}); expected an image and the "
                f"{len(CELEB_A_ATTRIBUTES)} attributes. Remove it from there, or pass a manual_dir "
                f"with the original files."
            )
        self._name_feature = next((key for key in _FILE_NAMES if key in features), None)
        splits = self._builder.info.splits
        missing = [
            path.name for split in splits.values() for path in split.filepaths if not path.exists()
        ]
        if missing:
            raise FileNotFoundError(
                f"celeb_a_aligned: {folder} lacks {some(missing)}. Complete that data set, or pass "
                f"a manual_dir with the original files."
            )
        self.sizes = {
            split: splits[split].num_examples
            for split in SPLITS
            if split in splits and splits[split].num_examples
        }

    def examples(self, split: str) -> Generator[RawExample, None, None]:
        skip = {"image": tfds.decode.SkipDecoding()}
        try:
            source = self._builder.as_data_source(split, decoders=skip)
            for position in range(len(source)):
                yield self._example(source[position], split, position)
        except (RuntimeError, IndexError, OSError) as error:  # array_record
            raise self._damaged(split, one_line(error)) from error

    def _damaged(self, split: str, why: str) -> ValueError:
        return ValueError(
            f"celeb_a_aligned: the {split} split in {self._folder} is damaged ({why}). Prepare "
            f"that data set again, or pass a manual_dir with the original files."
        )

    def _example(self, stored: dict[str, Any], split: str, position: int) -> RawExample:
        signs = [stored["attributes"][key] for key in CELEB_A_ATTRIBUTES]
        if stored["image"] is None or None in signs:  # what array_record reads of a cut file
            raise self._damaged(split, f"example {position} is empty")
        name = f"{split}_{position:06d}"
        if self._name_feature is not None:
            given = stored[self._name_feature]
            name = given.decode() if isinstance(given, bytes) else str(given)
        values = np.where(signs, 1, -1).astype(np.int8)
        where = f"{self._folder}, {split} example {position}"
        return RawExample(name, values, bytes(stored["image"]), where)


def _read_description(folder: pathlib.Path) -> Any:
    try:
        builder = tfds.builder_from_directory(folder)
        if builder.info.features is None:
            raise ValueError("it has no features.json")
    except Exception as error:  # whatever TFDS stumbles over in damaged JSON
        raise _undescribed(folder, one_line(error)) from error
    return builder


def _undescribed(folder: pathlib.Path, why: str) -> ValueError:
    return ValueError(
        f"the description of the data set in {folder} is damaged ({why}). Prepare that data set "
        f"again, or pass a manual_dir with the original files."
    )


def _entries(feature: Any) -> dict[str, Any]:
    return dict(feature.items()) if isinstance(feature, tfds.features.FeaturesDict) else {}


def find(roots: Sequence[pathlib.Path]) -> StockImages | None:
    """Returns the newest stock data set in the first of some folders that has one.

    Raises:
      ValueError: What is there is in a format that only TensorFlow reads, or is not CelebA.
      FileNotFoundError: One of its files is missing.
    """
    complaints = []
    for root in roots:
        usable = []
        for path in sorted(root.glob("celeb_a/*/dataset_info.json")):
            try:
                _check_format(path)
                usable.append(path.parent)
            except ValueError as error:
                complaints.append(error)
        if usable:
            return StockImages(max(usable, key=_version))
    if complaints:
        raise complaints[0]
    return None


def _check_format(path: pathlib.Path) -> None:
    """Raises ValueError if it cannot be read without TensorFlow."""
    try:
        described = json.loads(path.read_bytes())
        if not isinstance(described, dict):
            raise ValueError(f"{path.name} holds a {type(described).__name__}")
    except (ValueError, RecursionError) as error:
        raise _undescribed(path.parent, one_line(error)) from error
    form = described.get("fileFormat", "tfrecord")
    if form != _FORMAT:
        raise ValueError(
            f"{path.parent} was prepared in the format {form}, which only TensorFlow can read; "
            f"expected {_FORMAT}. Prepare it in {_FORMAT}, or pass a manual_dir with the original "
            f"files."
        )


def _version(folder: pathlib.Path) -> list[int]:
    return [int(part) if part.isdecimal() else -1 for part in folder.name.split(".")]
