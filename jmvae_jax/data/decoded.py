"""Prepared examples as arrays, with a decoded copy of each split beside the prepared files.

The statistics of the pixels are kept in the same way. A copy carries the SHA-256 of the files that
it was made from, is written whole or not at all, and is made anew when it is damaged or stale.
"""

import contextlib
import hashlib
import logging
import os
import pathlib
import time
import uuid
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from jmvae_jax.data.words import one_line

_VERSION = b"1"  # part of the fingerprint: raise it when decoding changes
_ABANDONED = 86_400.0  # age in seconds of a temporary file that nobody writes any more
_CHUNK = 1000  # examples read at once: one by one takes half as long again

# What zipfile and NumPy raise, wherever in the file the damage is.
_DAMAGE = (
    OSError,
    ValueError,
    KeyError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)

_ArraySpec = tuple[tuple[int, ...], np.dtype]


def decoded(builder: Any, split: str) -> dict[str, np.ndarray]:
    """Returns a base split as arrays, from the decoded copy if there is a good one."""
    path = pathlib.Path(builder.data_dir) / f"{split}.decoded.npz"
    fingerprint = _fingerprint(builder, split)
    specs = array_specs(builder, split)
    arrays = _read_copy(path, fingerprint, specs)
    if arrays is None:
        arrays = _decode(builder, split, specs)
        _keep_copy(path, fingerprint, arrays)
    return arrays


def read_statistics(builder: Any) -> dict[str, np.ndarray]:
    """Returns mean and deviation of the train split's pixels, kept if there is a good copy.

    Raises:
      ValueError: The data set has no uint8 `image`, or no train split.
    """
    features = builder.info.features
    feature = dict(features.items()).get("image")
    if "train" not in builder.info.splits or feature is None or feature.np_dtype != np.uint8:
        raise ValueError(
            f"{builder.name} has no statistics of pixels; expected a data set with a train split "
            f"and a feature 'image' of dtype uint8. Choose another data set."
        )
    path = pathlib.Path(builder.data_dir) / "train.pixel_statistics.npz"
    fingerprint = _fingerprint(builder, "train")
    dtype = np.dtype(np.float32)
    specs = {"mean": (feature.shape, dtype), "deviation": (feature.shape, dtype)}
    statistics = _read_copy(path, fingerprint, specs)
    if statistics is None:
        only = {"image": array_specs(builder, "train")["image"]}
        chunks = (chunk["image"] for _, chunk in _chunks(builder, "train", only))
        statistics = _measure(chunks, feature.shape)
        _keep_copy(path, fingerprint, statistics)
    return statistics


def _measure(chunks: Iterable[np.ndarray], shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Mean and deviation over the examples of uint8 images, in units of pixel / 255."""
    count = 0
    total = np.zeros(shape, np.int64)
    squares = np.zeros(shape, np.int64)
    for chunk in chunks:
        count += len(chunk)
        total += chunk.sum(0, dtype=np.int64)
        squares += np.square(chunk, dtype=np.uint16).sum(0, dtype=np.int64)
    # Whole numbers up to here, so that nothing cancels: they fit for ten million images.
    variance = (count * squares - total**2) / count**2
    return {
        "mean": (total / (255 * count)).astype(np.float32),
        "deviation": np.maximum(np.sqrt(variance) / 255, 1 / 255).astype(np.float32),
    }


def _fingerprint(builder: Any, split: str) -> str:
    digest = hashlib.sha256(_VERSION)
    for path in sorted(map(str, builder.info.splits[split].filepaths)):
        with open(path, "rb") as shard:
            digest.update(hashlib.file_digest(shard, "sha256").digest())
    return digest.hexdigest()


def array_specs(builder: Any, split: str) -> dict[str, _ArraySpec]:
    """Returns what a base split decodes to: every feature but text."""
    import tensorflow_datasets as tfds

    count = builder.info.splits[split].num_examples
    dtypes = {
        key: np.dtype(
            np.int32 if isinstance(feature, tfds.features.ClassLabel) else feature.np_dtype
        )
        for key, feature in builder.info.features.items()
    }
    return {
        key: ((count, *builder.info.features[key].shape), dtype)
        for key, dtype in dtypes.items()
        if dtype.kind in "biuf"
    }


def _decode(builder: Any, split: str, specs: dict[str, _ArraySpec]) -> dict[str, np.ndarray]:
    arrays = {key: np.empty(*spec) for key, spec in specs.items()}
    for part, chunk in _chunks(builder, split, specs):
        for key, array in arrays.items():
            array[part] = chunk[key]
    return arrays


def _chunks(
    builder: Any, split: str, specs: dict[str, _ArraySpec]
) -> Iterator[tuple[slice, dict[str, np.ndarray]]]:
    """A base split in order, some examples at a time."""
    examples = Examples(builder, split, specs)
    for start in range(0, len(examples), _CHUNK):
        part = slice(start, min(start + _CHUNK, len(examples)))
        yield part, examples.read(list(range(part.start, part.stop)))


class Examples:
    """Some features of a base split, read at any positions; the others are not decoded."""

    def __init__(self, builder: Any, split: str, specs: dict[str, _ArraySpec]):
        import tensorflow_datasets as tfds

        features = {key: builder.info.features[key] for key in specs}
        self._features = tfds.features.FeaturesDict(features)
        self._builder, self._split, self._specs = builder, split, specs
        with _named_damage(builder, split):
            self._records = builder.as_data_source(split=split).data_source

    def __len__(self) -> int:
        return len(self._records)

    def read(self, positions: list[int]) -> dict[str, np.ndarray]:
        """Arrays `[len(positions), ...]` by name."""
        with _named_damage(self._builder, self._split):
            records = self._records.__getitems__(positions)
            examples = [self._features.deserialize_example_np(record) for record in records]
        return {
            key: np.stack([example[key] for example in examples]).astype(dtype, copy=False)
            for key, (_, dtype) in self._specs.items()
        }


@contextlib.contextmanager
def _named_damage(builder: Any, split: str) -> Iterator[None]:
    """Says which file is damaged, whatever array_record or Pillow stumbles over."""
    try:
        with without_log("OpenCV"):  # TFDS advises to install it: Pillow does
            yield
    except (RuntimeError, IndexError, OSError, SyntaxError) as error:
        raise ValueError(
            f"{builder.name}: the prepared {split} split in {builder.data_dir} is damaged "
            f"({one_line(error)}). Delete that folder to have it prepared again"
        ) from error


@contextlib.contextmanager
def without_log(phrase: str) -> Iterator[None]:
    """Drops what TFDS logs with that phrase in it."""

    def keep(record: logging.LogRecord) -> bool:
        return phrase.lower() not in record.getMessage().lower()

    logger = logging.getLogger("absl")
    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)


def _read_copy(
    path: pathlib.Path, fingerprint: str, specs: dict[str, _ArraySpec]
) -> dict[str, np.ndarray] | None:
    try:
        # Opened here, because NumPy does not close a file that it finds damaged.
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as copy:
            if copy["fingerprint"] != fingerprint:
                return None
            arrays = {key: copy[key] for key in specs}
    except _DAMAGE:
        return None  # missing or damaged: the cure is a new one
    # A damaged header can shorten an array, and a read that stops early checks no sum.
    found = {key: (array.shape, array.dtype) for key, array in arrays.items()}
    return arrays if found == specs else None


def _keep_copy(path: pathlib.Path, fingerprint: str, arrays: dict[str, np.ndarray]) -> None:
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    _remove_abandoned(path)
    try:
        with open(temporary, "wb") as file:
            contents: dict[str, Any] = {"fingerprint": np.array(fingerprint), **arrays}
            np.savez(file, **contents)
        os.replace(temporary, path)
    except OSError as error:
        warnings.warn(
            f"no decoded copy could be kept at {path} ({error.strerror}): the data set will be "
            f"decoded again each time it is loaded.",
            stacklevel=2,
        )
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _remove_abandoned(path: pathlib.Path) -> None:
    """Removes what killed processes left half-written of a copy."""
    for left_over in path.parent.glob(f".{path.name}.*"):
        with contextlib.suppress(OSError):  # gone already, or not ours to remove
            if time.time() - left_over.stat().st_mtime > _ABANDONED:
                left_over.unlink()
