"""Tables of attributes in text files: their rows, with the line that each stands on.

Every error names the file and the line.
"""

import csv
import io
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np


class Row(NamedTuple):
    """The fields of one line, and its number in the file, from 1."""

    line: int
    fields: list[str]


class AttributeTable(NamedTuple):
    """What is known of images.

    Attributes:
      names: The file name of each image, `N` of them.
      values: int8 `[N, attributes]` of -1 and 1.
      splits: The split that each belongs to.
    """

    names: list[str]
    values: np.ndarray
    splits: list[str]


def read_rows(path: pathlib.Path, content: bytes | None = None) -> Iterator[Row]:
    """Yields the rows of a text file, blank lines left out.

    Args:
      path: The file. `.csv`: fields between commas, with the quotes of CSV; anything else: fields
        between spaces.
      content: Its bytes, if they have been read already.

    Raises:
      ValueError: It is not UTF-8 text (with or without a mark of byte order), or no CSV.
    """
    content = path.read_bytes() if content is None else content
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ValueError(
            f"{path}, line {line}: byte {content[error.start]:#04x} is no UTF-8 text; expected a "
            f"plain text file. Save it as UTF-8."
        ) from error
    if path.suffix.lower() == ".csv":
        yield from _csv_rows(path, text)
    else:
        for line, words in enumerate(text.split("\n"), 1):  # what editors count as lines
            if fields := words.split():
                yield Row(line, fields)


def _csv_rows(path: pathlib.Path, text: str) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    line = 1  # where the record starts: a quote may hold ends of lines
    try:
        for record in reader:
            fields = [field.strip() for field in record]
            if fields not in ([], [""]):  # commas alone are no blank line
                yield Row(line, fields)
            line = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(
            f"{path}, line {line}: no line of a CSV file ({error}). Save it as "
            f"comma-separated values."
        ) from error


def check_header(path: pathlib.Path, row: Row, attributes: Sequence[str]) -> None:
    """Raises ValueError if a name is empty or stands twice."""
    for name in attributes:
        if not name or attributes.count(name) > 1:
            raise ValueError(
                f"{path}, line {row.line}: the attribute {name!r} "
                f"{'stands there twice' if name else 'has no name'}; expected different names. "
                f"Mend that line."
            )


def check_length(path: pathlib.Path, row: Row, expected: int) -> None:
    """Raises ValueError if a line has fewer or more fields than there should be."""
    came = len(row.fields)
    if came != expected:
        wrong = "short" if came < expected else "long"
        raise ValueError(
            f"{path}, line {row.line} ({row.fields[0]}) is too {wrong}: it has {came} fields; "
            f"expected {expected}, the name and the values. Mend that line."
        )


def check_unique(path: pathlib.Path, row: Row, lines: dict[str, int]) -> None:
    """Notes the line of the row's name in `lines`; raises ValueError if it has one already."""
    name = row.fields[0]
    first = lines.setdefault(name, row.line)
    if first != row.line:
        raise ValueError(
            f"{path}, line {row.line}: {name} stands in line {first} too; expected each name once. "
            f"Remove one of the two lines."
        )


def parse_values(
    path: pathlib.Path,
    row: Row,
    attributes: Sequence[str],
    fields: Sequence[str],
    meaning: Mapping[str, int],
) -> list[int]:
    """Returns the value of each field; raises ValueError for one that `meaning` lacks."""
    try:
        return [meaning[field] for field in fields]
    except KeyError as error:
        name, field = next(
            (name, field)
            for name, field in zip(attributes, fields, strict=True)
            if field not in meaning
        )
        raise ValueError(
            f"{path}, line {row.line} ({row.fields[0]}): {name} is {field!r}; expected "
            f"{' or '.join(meaning)}. Mend that line."
        ) from error
