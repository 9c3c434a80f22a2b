"""A folder of images and a CSV file of attributes, as a data set of one's own.

The folder holds one CSV file (or one called `attributes.csv`), and the images in it or in its
subfolder `images`. The CSV file's first line names the columns: first the image's file, then the
attributes, and `split` if the file says where each image belongs; the values are -1 and 1, or 0
and 1. Without that column an image's split follows from its name: 80 per cent train, 10
validation, 10 test, and adding an image moves no other.

The data set's name ends in the first digits of the CSV file's SHA-256: other attributes, another
data set. What is prepared is used as it is: other images beside the same CSV file are not noticed,
and want a `data_dir` of their own. Images of any size become the square in their middle, turned as
their EXIF data say.
"""

import hashlib
import pathlib
import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image

from jmvae_jax.data.attribute_images import AttributeImages, ImageConfig, parse_size
from jmvae_jax.data.attribute_sources import SPLITS, ListedImages, Source
from jmvae_jax.data.attribute_tables import (
    AttributeTable,
    Row,
    check_header,
    check_length,
    check_unique,
    parse_values,
    read_rows,
)
from jmvae_jax.data.image_files import FolderImages, upright
from jmvae_jax.data.image_names import match_names, relative_path

_CONFIG = re.compile(r"(\d{1,6})(?:_([0-9a-f]{12}))?", re.ASCII)
_KEY_LENGTH = 12
_SPLIT = "split"
_IMAGES = "images"
_MEANING = {"-1": -1, "0": -1, "1": 1}


class ImageAttributes(AttributeImages, skip_registration=True):  # type: ignore[call-arg]
    """Images with attributes from a CSV file."""

    name = "image_attributes"

    @classmethod
    def find_config(cls, text: str | None, manual_dir: pathlib.Path | None = None) -> ImageConfig:
        """Returns the configuration of `"64"` (the default) or `"64_3f2a91c04b7d"`.

        Args:
          text: Image size and, for a data set that is prepared already, the key of its CSV file.
          manual_dir: Folder with the CSV file, which the key is taken from if `text` has none.

        Raises:
          ValueError: `text` is malformed, there is neither a key nor a `manual_dir`, or the CSV
            file is not what it should be.
          FileNotFoundError: There is no CSV file.
        """
        text = "64" if text is None else text
        match = _CONFIG.fullmatch(text)
        if match is None:
            raise ValueError(
                f"{cls.name}: config {text!r} is malformed; expected an image size such as '64', "
                f"or one with the key of a prepared data set such as '64_3f2a91c04b7d'."
            )
        if match[2] is None and manual_dir is None:
            raise ValueError(
                f"{cls.name}: manual_dir=None, and config {text!r} has no key; expected one of the "
                f"two. Pass the folder of the CSV file as manual_dir, or name the prepared data "
                f"set, such as '{cls.name}/{text}_3f2a91c04b7d'."
            )
        try:
            size = parse_size(match[1], text)
            attributes, key = None, match[2]
            paths = [] if manual_dir is None else _csv_files(manual_dir)
            if key is None or len(paths) == 1:
                content = (path := cls._csv_file(manual_dir)).read_bytes()
                if key in (None, _key(content)):
                    attributes, key = tuple(_read_head(path, content)[0]), _key(content)
        except ValueError as error:
            raise ValueError(f"{cls.name}: {error}") from error
        return ImageConfig(name=f"{size}_{key}", image_size=size, attributes=attributes)

    @classmethod
    def _csv_file(cls, manual_dir: pathlib.Path | None) -> pathlib.Path:
        """Returns the one CSV file; raises FileNotFoundError or ValueError if it is not one."""
        paths = [] if manual_dir is None else _csv_files(manual_dir)
        if not paths:
            is_folder = manual_dir is not None and manual_dir.is_dir()
            raise FileNotFoundError(
                f"{cls.name}: manual_dir={None if manual_dir is None else str(manual_dir)!r} "
                f"{'holds no CSV file of attributes' if is_folder else 'is no folder'}. Pass the "
                f"folder that holds the CSV file and the images."
            )
        if len(paths) > 1:
            raise ValueError(
                f"manual_dir={str(manual_dir)!r} holds {len(paths)} CSV files: "
                f"{', '.join(path.name for path in paths)}; expected one. Call the one with the "
                f"attributes attributes.csv."
            )
        return paths[0]

    def _crop(self, image: Image.Image) -> Image.Image:
        image = upright(image)
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        return image.crop((left, top, left + side, top + side))

    def _find_source(self, manual_dir: pathlib.Path | None) -> Source:
        path = self._csv_file(manual_dir)
        content = path.read_bytes()
        expected = self.builder_config.name.partition("_")[2]
        if _key(content) != expected:
            raise ValueError(
                f"{path} has the key {_key(content)}; expected {expected}, the key in the name of "
                f"the data set. Leave the key out of the name, or pass the folder of that file."
            )
        table = _read_table(path, content)
        inside = path.parent / _IMAGES
        images = FolderImages(inside if inside.is_dir() else path.parent)
        called = table.names
        if inside.is_dir():  # the CSV file may name them from where it stands itself
            called = [
                name if name in images.members else name.removeprefix(f"{_IMAGES}/")
                for name in called
            ]
        paths = {member: member for member in images.members}
        return ListedImages(images, table, match_names(called, paths, str(path), images.where))


def _key(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:_KEY_LENGTH]


def _csv_files(manual_dir: pathlib.Path) -> list[pathlib.Path]:
    """Returns `attributes.csv`, or else all CSV files, of the first folder with any."""
    for folder in (manual_dir / ImageAttributes.name, manual_dir):
        if folder.is_dir():
            paths = sorted(
                path
                for path in folder.iterdir()
                if path.suffix.lower() == ".csv" and path.name[0] != "." and path.is_file()
            )
            if paths:
                return [path for path in paths if path.name == "attributes.csv"] or paths
    return []


class _Head(NamedTuple):
    attributes: list[str]
    split_column: int | None  # among the fields after the name
    rows: Iterator[Row]


def _read_head(path: pathlib.Path, content: bytes) -> _Head:
    rows = read_rows(path, content)
    row = next(rows, Row(1, [""]))
    columns = row.fields[1:]
    check_header(path, row, columns)
    attributes = [name for name in columns if name != _SPLIT]
    if not attributes:
        raise ValueError(
            f"{path}, line {row.line}: {','.join(row.fields)[:60]!r} names no attribute; expected "
            f"a header such as 'file,Smiling,Male'. Mend that line."
        )
    return _Head(attributes, columns.index(_SPLIT) if _SPLIT in columns else None, rows)


def _read_table(path: pathlib.Path, content: bytes) -> AttributeTable:
    """Reads and verifies the CSV file."""
    attributes, split_column, rows = _read_head(path, content)
    width = 1 + len(attributes) + (split_column is not None)
    lines: dict[str, int] = {}
    values, splits = [], []
    seen: dict[str, Row] = {}  # value -> the first line that has it
    for row in rows:
        check_length(path, row, width)
        row = Row(row.line, [_file_name(path, row), *row.fields[1:]])
        check_unique(path, row, lines)
        fields = row.fields[1:]
        if split_column is not None:
            splits.append(_split(path, row, fields.pop(split_column)))
        else:
            splits.append(_split_of(row.fields[0]))
        values.append(parse_values(path, row, attributes, fields, _MEANING))
        for field in set(fields):
            seen.setdefault(field, row)
    if "0" in seen and "-1" in seen:
        raise ValueError(
            f"{path} has 0 in line {seen['0'].line} and -1 in line {seen['-1'].line}; expected "
            f"values of -1 and 1, or of 0 and 1, in the whole file. Mend one of them."
        )
    if not values:
        raise ValueError(f"{path} names no image; expected a line for each. Add them.")
    return AttributeTable(list(lines), np.array(values, np.int8), splits)


def _file_name(path: pathlib.Path, row: Row) -> str:
    """Returns the name in its shortest form: each image has one."""
    name = row.fields[0]
    if not name:
        raise ValueError(
            f"{path}, line {row.line}: no file name; expected one in the first column. Mend that "
            f"line."
        )
    try:
        return relative_path(name)
    except ValueError as error:
        raise ValueError(f"{path}, line {row.line}: {name!r} {error}. Mend that line.") from error


def _split(path: pathlib.Path, row: Row, split: str) -> str:
    if split not in SPLITS:
        raise ValueError(
            f"{path}, line {row.line} ({row.fields[0]}): split is {split!r}; expected "
            f"{', '.join(SPLITS)}. Mend that line."
        )
    return split


def _split_of(name: str) -> str:
    """Eight of ten hashes are train, one is validation, one is test."""
    tenth = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % 10
    return SPLITS[max(tenth - 7, 0)]
