"""Where examples with attributes come from: images in a place, and the table that names them."""

from collections.abc import Generator, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from jmvae_jax.data import image_files
from jmvae_jax.data.attribute_tables import AttributeTable

SPLITS = ("train", "validation", "test")


class RawExample(NamedTuple):
    """An example as it is found.

    Attributes:
      name: Its file name, which is its key.
      values: int8 `[attributes]` of -1 and 1.
      image: The image's file, or why it could not be read.
      where: Where that is, for errors.
    """

    name: str
    values: np.ndarray
    image: bytes | image_files.BadImageError
    where: str


class Source(Protocol):
    """Verified files, ready to be read.

    Attributes:
      name: Which of several sources it is, for the metadata; empty where there is only one.
      sizes: Number of examples in each split; a split that is empty is left out.
    """

    name: str
    sizes: dict[str, int]

    def examples(self, split: str) -> Generator[RawExample, None, None]:
        """Reads a split."""


class ListedImages:
    """Images in a folder or a zip file, and the table that names them."""

    def __init__(
        self,
        images: image_files.Images,
        table: AttributeTable,
        paths: Sequence[str],
        name: str = "",
    ) -> None:
        self.name = name
        self._images, self._table, self._paths = images, table, paths
        self.sizes = {split: table.splits.count(split) for split in SPLITS if split in table.splits}

    def examples(self, split: str) -> Generator[RawExample, None, None]:
        with self._images.reader() as read:
            rows = zip(*self._table, self._paths, strict=True)
            for name, values, belongs, path in rows:
                if belongs == split:
                    content: bytes | image_files.BadImageError
                    try:
                        content = read(path)
                    except image_files.BadImageError as error:
                        content = error
                    yield RawExample(name, values, content, self._images.locate(path))
