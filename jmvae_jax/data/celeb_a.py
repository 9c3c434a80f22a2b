"""CelebA, aligned and cropped, from the files that people have.

The images are `img_align_celeba.zip` or the unpacked folder of that name; if both are there, the
zip file is read, because its sums tell a damaged image. Attributes and splits are the official
`.txt` files or the `.csv` files of the Kaggle mirror; `.txt` goes first. The third source is the
stock `celeb_a` of TFDS, prepared in array_record, which is read if none of those files is found:
the one in `manual_dir`, or in `data_dir` where no `manual_dir` was passed.

The aligned images are 178 pixels wide and 218 high, with the eyes near row 111 and the mouth near
row 152. What is kept is a square of 148 pixels, as is usual with this data set: the whole width
but 15 pixels of background on each side, and rows 40 to 188, five below the middle of the image,
because the faces sit below it.
"""

import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from PIL import Image

from jmvae_jax.data import celeb_a_stock
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
from jmvae_jax.data.attributes import CELEB_A_ATTRIBUTES
from jmvae_jax.data.image_files import BadImageError, FolderImages, Images, ZipImages
from jmvae_jax.data.image_names import is_image, match_names
from jmvae_jax.data.words import some

_WIDTH, _HEIGHT = 178, 218
_CROP = (15, 40, 148)  # left, top, side
_URL = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
_IMAGES, _ATTRIBUTES, _PARTITION = "img_align_celeba", "list_attr_celeba", "list_eval_partition"
_CONFIG = re.compile(r"(\d{1,6})(?:_crop_(\d{1,6})_(\d{1,6})_(\d{1,6}))?", re.ASCII)
_VALUES = {"-1": -1, "1": 1}


class CelebAAligned(AttributeImages, skip_registration=True):  # type: ignore[call-arg]
    """CelebA's aligned faces with forty attributes, in the published splits."""

    name = "celeb_a_aligned"

    @classmethod
    def find_config(cls, text: str | None, manual_dir: pathlib.Path | None = None) -> ImageConfig:
        """Returns the configuration of `"64"` (the default) or `"64_crop_15_40_148"`.

        Args:
          text: Image size and, if it is not the default one, the crop's left, top and side.
          manual_dir: Without effect.

        Raises:
          ValueError: `text` is malformed, or the crop leaves the image.
        """
        text = "64" if text is None else text
        match = _CONFIG.fullmatch(text)
        if match is None:
            raise ValueError(
                f"{cls.name}: config {text!r} is malformed; expected an image size such as '64', "
                f"or one with a crop such as '64_crop_15_40_148' (left, top, side)."
            )
        try:
            size = parse_size(match[1], text)
        except ValueError as error:
            raise ValueError(f"{cls.name}: {error}") from error
        crop = _CROP if match[2] is None else (int(match[2]), int(match[3]), int(match[4]))
        left, top, side = crop
        if side < 1 or left + side > _WIDTH or top + side > _HEIGHT:
            raise ValueError(
                f"{cls.name}: config {text!r}: the square of {side} pixels at column {left}, row "
                f"{top} leaves the image; expected one within {_WIDTH}x{_HEIGHT} (width, height)."
            )
        name = str(size) if crop == _CROP else f"{size}_crop_{left}_{top}_{side}"
        return ImageConfig(name=name, image_size=size, crop=crop, attributes=CELEB_A_ATTRIBUTES)

    def _crop(self, image: Image.Image) -> Image.Image:
        if image.size != (_WIDTH, _HEIGHT):
            raise BadImageError(
                f"is {image.width}x{image.height}; expected {_WIDTH}x{_HEIGHT} (width, height), "
                f"the size of the aligned images"
            )
        left, top, side = self.builder_config.crop
        return image.crop((left, top, left + side, top + side))

    def _find_source(self, manual_dir: pathlib.Path | None) -> Source:
        folders = [] if manual_dir is None else _folders(manual_dir)
        images = _first(folders, [f"{_IMAGES}.zip"]) or _first(folders, [_IMAGES], is_file=False)
        attributes = _first(folders, [f"{_ATTRIBUTES}.txt", f"{_ATTRIBUTES}.csv"])
        partition = _first(folders, [f"{_PARTITION}.txt", f"{_PARTITION}.csv"])
        root = pathlib.Path(self.data_dir_root) if manual_dir is None else manual_dir
        if images is None and attributes is None and partition is None:
            stock = celeb_a_stock.find([root])
            if stock is not None:
                return stock
        if images is None or attributes is None or partition is None:
            found = {
                f"{_IMAGES}.zip (or the folder {_IMAGES})": images,
                f"{_ATTRIBUTES}.txt (or .csv)": attributes,
                f"{_PARTITION}.txt (or .csv)": partition,
            }
            raise FileNotFoundError(
                f"{self.name}: {', '.join(n for n, path in found.items() if path is None)}: not "
                f"found in manual_dir={None if manual_dir is None else str(manual_dir)!r}. They "
                f"cannot be fetched automatically: get them from {_URL} into a folder and pass "
                f"that as manual_dir. Without any of them, TFDS's own celeb_a, prepared in "
                f"array_record, is read from {root / 'celeb_a'}."
            )
        table = _read_table(attributes, partition)
        place: Images = FolderImages(images) if images.is_dir() else ZipImages(images)
        paths = match_names(table.names, _by_file_name(place), str(attributes), place.where)
        return ListedImages(place, table, paths, images.name)


def _folders(manual_dir: pathlib.Path) -> list[pathlib.Path]:
    """Where files are looked for: also in the official download's own subfolders."""
    bases = (manual_dir / CelebAAligned.name, manual_dir / "celeb_a", manual_dir)
    return [base / inside for base in bases for inside in ("", "Img", "Anno", "Eval")]


def _first(
    folders: list[pathlib.Path], names: list[str], is_file: bool = True
) -> pathlib.Path | None:
    candidates = (folder / name for folder in folders for name in names)
    return next((p for p in candidates if (p.is_file() if is_file else p.is_dir())), None)


def _by_file_name(images: Images) -> dict[str, str]:
    """File name -> path: the mirrors nest the images in different depths."""
    paths: dict[str, str] = {}
    for path in images.members:
        name = path.rpartition("/")[2]
        other = paths.setdefault(name, path)
        if other != path and is_image(name):
            raise ValueError(
                f"{images.where} holds {name} twice, as {other} and as {path}; expected each image "
                f"once. Remove one of the two."
            )
    return paths


def _read_table(attributes: pathlib.Path, partition: pathlib.Path) -> AttributeTable:
    """Reads and verifies both text files.

    Raises:
      ValueError: A line is not what it should be, or the files name different images.
    """
    splits = _read_partition(partition)
    rows = read_rows(attributes)
    columns, count = _read_head(attributes, rows)
    lines: dict[str, int] = {}
    values = []
    for row in rows:
        check_length(attributes, row, 1 + len(columns))
        _check_name(attributes, row)
        check_unique(attributes, row, lines)
        values.append(parse_values(attributes, row, columns, row.fields[1:], _VALUES))
    if count is not None and count != len(values):
        raise ValueError(
            f"{attributes} has {len(values)} lines of attributes; expected the {count} that its "
            f"first line says. Fetch the file again, or mend that line."
        )
    _check_same_names(lines, splits, attributes, partition)
    _check_same_names(splits, lines, partition, attributes)
    if not values:
        raise ValueError(f"{attributes} names no image; expected a line for each. Fetch it again.")
    order = [columns.index(name) for name in CELEB_A_ATTRIBUTES]
    names = list(lines)
    table = np.array(values, np.int8)[:, order]
    return AttributeTable(names, table, [splits[name] for name in names])


def _check_same_names(
    names: Mapping[str, Any], others: Mapping[str, Any], named: pathlib.Path, lacking: pathlib.Path
) -> None:
    absent = [name for name in names if name not in others]
    if absent:
        raise ValueError(
            f"{named} names {some(absent)} without a line in {lacking}; expected the same images "
            f"in both. Complete that file, or remove those lines."
        )


def _read_head(path: pathlib.Path, rows: Iterator[Row]) -> tuple[list[str], int | None]:
    """Returns the attributes in the order of the file, and how many lines it says to have."""
    count = None
    row = next(rows, Row(1, []))
    if path.suffix.lower() != ".csv":
        if len(row.fields) != 1 or not re.fullmatch(r"\d{1,9}", row.fields[0], re.ASCII):
            raise ValueError(
                f"{path}, line {row.line}: {' '.join(row.fields)[:60]!r}; expected the number of "
                f"images alone. Fetch the file again."
            )
        count = int(row.fields[0])
        row = next(rows, Row(row.line + 1, []))
        columns = row.fields
    else:
        columns = row.fields[1:]
    check_header(path, row, columns)
    unknown = [name for name in columns if name not in CELEB_A_ATTRIBUTES]
    absent = [name for name in CELEB_A_ATTRIBUTES if name not in columns]
    if unknown or absent:
        raise ValueError(
            f"{path}, line {row.line}: "
            + (f"{some(unknown)}: unknown; " if unknown else "")
            + (f"{some(absent)}: absent; " if absent else "")
            + f"expected the {len(CELEB_A_ATTRIBUTES)} attributes of CelebA, in any order. Fetch "
            f"the file again."
        )
    return columns, count


def _read_partition(path: pathlib.Path) -> dict[str, str]:
    """Returns the split of each image."""
    meaning = {str(number): number for number in range(len(SPLITS))}
    rows = read_rows(path)
    if path.suffix.lower() == ".csv":
        head = next(rows, Row(1, []))
        if len(head.fields) != 2 or head.fields[1] != "partition":
            raise ValueError(
                f"{path}, line {head.line}: {','.join(head.fields)[:60]!r}; expected the header "
                f"'image_id,partition'. Fetch the file again."
            )
    splits: dict[str, str] = {}
    lines: dict[str, int] = {}
    for row in rows:
        check_length(path, row, 2)
        _check_name(path, row)
        check_unique(path, row, lines)
        (number,) = parse_values(path, row, ["partition"], row.fields[1:], meaning)
        splits[row.fields[0]] = SPLITS[number]
    return splits


def _check_name(path: pathlib.Path, row: Row) -> None:
    name = row.fields[0]
    if "/" in name or "\\" in name or name in ("", ".", ".."):
        raise ValueError(
            f"{path}, line {row.line}: {name!r} is no name of a file in the folder of images; "
            f"expected one such as '000001.jpg'. Mend that line."
        )
