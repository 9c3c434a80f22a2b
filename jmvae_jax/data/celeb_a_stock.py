"""The stock `celeb_a` of TFDS, prepared in array_record, as a source of images.

Its images are taken as the JPEG files that it stores, so that they go through the same decoder as
any others. It stores no file names: an example is called after its split and its position there.
"""

import json
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from jmvae_jax.data.attribute_images import SPLITS, RawExample
from jmvae_jax.data.attributes import CELEB_A_ATTRIBUTES
from jmvae_jax.data.image_files import one_line, some

_FORMAT = "array_record"
_FILE_NAMES = ("file_name", "filename", "image/filename")


class StockImages:
    """The examples of a prepared stock data set.

    Raises:
      ValueError: Its features are not those of CelebA.
      FileNotFoundError: One of its files is missing.
    """

    def __init__(self, folder: pathlib.Path) -> None:
        self._folder = folder
        self._builder = tfds.builder_from_directory(folder)
        features = self._builder.info.features
        attributes = list(features["attributes"]) if "attributes" in features else []
        image = dict(features.items()).get("image")
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

    def examples(self, split: str) -> Iterator[RawExample]:
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


def find(roots: Sequence[pathlib.Path]) -> StockImages | None:
    """Returns the newest stock data set in the first of some folders that has one.

    Raises:
      ValueError: What is there is in a format that only TensorFlow reads, or is not CelebA.
      FileNotFoundError: One of its files is missing.
    """
    for root in roots:
        found = {path.parent: _format(path) for path in root.glob("celeb_a/*/dataset_info.json")}
        usable = [folder for folder, form in found.items() if form == _FORMAT]
        if usable:
            return StockImages(max(usable, key=_version))
        if found:
            folder, form = next(iter(found.items()))
            raise ValueError(
                f"{folder} was prepared in the format {form}, which only TensorFlow can read; "
                f"expected {_FORMAT}. Prepare it in {_FORMAT}, or pass a manual_dir with the "
                f"original files."
            )
    return None


def _format(path: pathlib.Path) -> str:
    try:
        return str(json.loads(path.read_bytes()).get("fileFormat", "tfrecord"))
    except ValueError as error:
        raise ValueError(
            f"{path} is damaged ({one_line(error)}). Prepare that data set again, or remove it."
        ) from error


def _version(folder: pathlib.Path) -> list[int]:
    return [int(part) if part.isdecimal() else -1 for part in folder.name.split(".")]
