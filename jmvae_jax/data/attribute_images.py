"""What builders of images with attributes share: features, decoding in threads, bad images.

The images are stored decoded, so that an epoch decodes nothing. Threads do the decoding, because
Pillow lets go of Python's lock meanwhile and forking beside JAX's own threads is unsafe. A few
images a thread wait for TFDS's writer, which itself holds a whole split in memory, encoded.
"""

import abc
import collections
import concurrent.futures
import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Generator, Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from jmvae_jax.data import image_files
from jmvae_jax.data.attribute_sources import RawExample, Source

_MAX_IMAGE_SIZE = 1024
_IN_FLIGHT = 8  # images a thread that are read ahead
_MAX_THREADS = 32


@dataclasses.dataclass
class ImageConfig(tfds.core.BuilderConfig):
    """One size and crop.

    Attributes:
      image_size: Side of the stored images, in pixels.
      crop: Left, top and side of the square that is kept, or None for the builder's own choice.
      attributes: Names of the attributes; None if only the prepared data set knows them.
    """

    image_size: int = 64
    crop: tuple[int, int, int] | None = None
    attributes: tuple[str, ...] | None = None


def features(size: int, num_attributes: int) -> tfds.features.FeaturesDict:
    """What an example has: a square image, attributes in {-1, 1}, the name of its file."""
    encoding = tfds.features.Encoding.BYTES  # several times faster to write and to read
    return tfds.features.FeaturesDict(
        {
            "image": tfds.features.Tensor(shape=(size, size, 3), dtype=np.uint8, encoding=encoding),
            "attributes": tfds.features.Tensor(
                shape=(num_attributes,), dtype=np.int8, encoding=encoding
            ),
            "file_name": tfds.features.Text(),
        }
    )


class AttributeImages(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Images with attributes and a file name.

    A subclass has `find_config`, which reads the part of a data set's name after the slash,
    `_find_source` and `_crop`.

    Attributes:
      names_attributes: See `loading`.
      skip_bad_images: Whether an image that cannot be used is left out and counted, instead of
        ending the preparation.
    """

    VERSION = tfds.core.Version("1.0.0")

    names_attributes = True
    skip_bad_images = False
    _source: Source | None = None

    def __init__(self, *, config: ImageConfig | str | None = None, **options: Any) -> None:
        if isinstance(config, ImageConfig):
            self._check_config(config)
        else:
            config = self.find_config(config)
        super().__init__(config=config, **options)

    @classmethod
    @abc.abstractmethod
    def find_config(cls, text: str | None, manual_dir: pathlib.Path | None = None) -> ImageConfig:
        """Returns the configuration that `text` names, the default one for None.

        Raises:
          ValueError: It names none.
        """

    def _check_config(self, config: ImageConfig) -> None:
        """Raises ValueError if its name, and so its folder, is that of another configuration."""
        named = self.find_config(config.name)
        found, expected = (
            f"name={c.name!r}, image_size={c.image_size!r}, crop={c.crop!r}"
            for c in (config, named)
        )
        if found != expected:
            raise ValueError(
                f"{self.name}: config=ImageConfig({found}); expected ImageConfig({expected}), as "
                f"that name says. Pass config={config.name!r} alone, or the name of the other."
            )
        if named.attributes not in (None, config.attributes):
            raise ValueError(
                f"{self.name}: config=ImageConfig({found}) has other attributes than those of "
                f"{self.name}; expected {len(named.attributes)}. Pass config={config.name!r} alone."
            )

    @abc.abstractmethod
    def _find_source(self, manual_dir: pathlib.Path | None) -> Source:
        """Finds and verifies the source files."""

    @abc.abstractmethod
    def _crop(self, image: Image.Image) -> Image.Image:
        """Returns the square that is kept; raises BadImageError for an image without one."""

    def collect_sources(
        self, manual_dir: pathlib.Path | None = None, download: bool = False
    ) -> None:
        """Finds and verifies the source files, all but the pixels; writes nothing.

        Args:
          manual_dir: Folder with the user's own copies of the files.
          download: Without effect: nobody serves these files to programs.

        Raises:
          FileNotFoundError: A file, or `manual_dir` itself, is missing.
          ValueError: A file is not what it should be; the message names it, and its line.
        """
        del download
        if manual_dir is not None and not manual_dir.is_dir():
            raise FileNotFoundError(
                f"{self.name}: manual_dir={str(manual_dir)!r} is no folder. Pass the folder that "
                f"holds the files of this data set."
            )
        try:
            source = self._find_source(manual_dir)
            if "train" not in source.sizes:
                raise ValueError(
                    f"no image belongs to the train split; sizes are {source.sizes}. Assign some."
                )
        except ValueError as error:
            raise ValueError(f"{self.name}: {error}") from error
        # With these TFDS's progress bars know their ends, and it sees whether the disk has room.
        size = self.builder_config.image_size
        self.info.set_splits(
            tfds.core.SplitDict(
                tfds.core.SplitInfo(name=split, shard_lengths=[n], num_bytes=n * size * size * 3)
                for split, n in source.sizes.items()
            )
        )
        if source.name:
            self.info.metadata["source"] = source.name
        self._source = source

    def _info(self) -> tfds.core.DatasetInfo:
        config = self.builder_config
        if config.attributes is None:
            return tfds.core.DatasetInfo(builder=self)  # TFDS reads the rest where it is prepared
        size = config.image_size
        return tfds.core.DatasetInfo(
            builder=self,
            features=features(size, len(config.attributes)),
            metadata=tfds.core.MetadataDict(
                attributes=list(config.attributes),
                image_size=size,
                crop=None if config.crop is None else list(config.crop),
                num_skipped_images=0,
                skipped_images={},
            ),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[str, dict[str, Any]]]]:
        if self._source is None:
            self.collect_sources()
        # TFDS keeps builders for the life of the process: what they hold would never be freed.
        source, self._source = self._source, None
        assert source is not None
        return {split: self._generate_examples(source, split) for split in source.sizes}

    def _generate_examples(
        self, source: Source, split: str
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        used = 0
        with (  # an error ends the threads and closes the files at once
            contextlib.closing(source.examples(split)) as examples,
            contextlib.closing(self._decoded(examples)) as decoded,
        ):
            for example, outcome in decoded:
                if isinstance(outcome, image_files.BadImageError):
                    self._refuse(example, outcome)
                    continue
                used += 1
                yield (
                    example.name,
                    {"image": outcome, "attributes": example.values, "file_name": example.name},
                )
        if not used:
            raise ValueError(
                f"{self.name}: not one of the {source.sizes[split]} images of the {split} split "
                f"can be used. Prepare without skip_bad_images to see what is wrong with them."
            )

    def _refuse(self, example: RawExample, error: image_files.BadImageError) -> None:
        if not self.skip_bad_images:
            raise ValueError(
                f"{self.name}: {example.where} {error}. Replace that image, or pass "
                f"skip_bad_images=True to prepare (--skip_bad_images) to have all such images left "
                f"out and counted."
            ) from error
        metadata = self.info.metadata
        metadata["skipped_images"][example.name] = str(error)
        metadata["num_skipped_images"] = len(metadata["skipped_images"])

    def _decoded(
        self, examples: Iterator[RawExample]
    ) -> Generator[tuple[RawExample, np.ndarray | image_files.BadImageError], None, None]:
        """Decodes in threads, in the order that the examples come in."""
        threads = min(_num_cores(), _MAX_THREADS)
        waiting: collections.deque[tuple[RawExample, Any]] = collections.deque()
        with concurrent.futures.ThreadPoolExecutor(threads) as pool:
            try:
                for example in examples:
                    waiting.append((example, self._submit(pool, example.image)))
                    if len(waiting) >= threads * _IN_FLIGHT:
                        yield _finished(*waiting.popleft())
                while waiting:
                    yield _finished(*waiting.popleft())
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _submit(
        self,
        pool: concurrent.futures.ThreadPoolExecutor,
        content: bytes | image_files.BadImageError,
    ) -> concurrent.futures.Future[np.ndarray] | image_files.BadImageError:
        if isinstance(content, image_files.BadImageError):
            return content
        try:
            image = image_files.open_image(content)
        except image_files.BadImageError as error:
            return error
        size = self.builder_config.image_size
        return pool.submit(image_files.square_pixels, image, self._crop, size)


def parse_size(text: str, config: str) -> int:
    """Returns the side of an image that a configuration's name says."""
    if str(int(text)) != text or not 1 <= int(text) <= _MAX_IMAGE_SIZE:
        raise ValueError(
            f"config {config!r}: image size {text}; expected 1 to {_MAX_IMAGE_SIZE} pixels, "
            f"without leading zeros. Write for instance '64'."
        )
    return int(text)


def _num_cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _finished(
    example: RawExample, result: Any
) -> tuple[RawExample, np.ndarray | image_files.BadImageError]:
    if isinstance(result, image_files.BadImageError):
        return example, result
    try:
        return example, result.result()
    except image_files.BadImageError as error:
        return example, error
