"""Rows of a prepared split where they lie on disk, for data that do not fit in memory."""

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from jmvae_jax.data.decoded import Examples, array_specs
from jmvae_jax.data.loading import parse_split, prepare


class StoredRows:
    """A split that is read row by row, in any order: what `load` gives, without the memory.

    Args:
      name: See `prepare`.
      split: See `load`.
      **places: `data_dir`, `manual_dir` and `download` of `prepare`.

    Raises:
      ValueError: As `load`.
      FileNotFoundError: As `load`.
      OSError: As `load`.

    Example:
      rows = StoredRows("mnist", "train[:50000]", data_dir="data")
      rows[[3, 1]]["image"].shape  # (2, 28, 28, 1)
    """

    def __init__(self, name: str, split: str, **places: Any):
        self._builder = prepare(name, **places)
        self._pieces = parse_split(self._builder, split)
        self._specs = {base: array_specs(self._builder, base) for base, _ in self._pieces}
        self._ends = np.cumsum([len(positions) for _, positions in self._pieces])
        self._threads = threading.local()

    def __len__(self) -> int:
        return int(self._ends[-1])

    @property
    def row_bytes(self) -> int:
        """Bytes of a row as it is stored."""
        specs = self._specs[self._pieces[0][0]].values()
        return sum(int(np.prod(shape[1:])) * dtype.itemsize for shape, dtype in specs)

    def __getitem__(self, rows: Sequence[int] | np.ndarray) -> dict[str, np.ndarray]:
        """Arrays `[len(rows), ...]` by name, with `index`; threads may read at once.

        Raises:
          IndexError: A row that the split does not have, or no numbers (a mask, say).
          ValueError: The prepared files are damaged.
        """
        rows = np.asarray(rows)
        numbers = rows.ndim == 1 and rows.size and rows.dtype.kind in "iu"  # a mask has none
        if not numbers or rows.min() < 0 or rows.max() >= len(self):
            raise IndexError(f"rows={rows!r}: expected a list of numbers from 0 to {len(self) - 1}")
        if len(self._pieces) == 1:
            return self._read(0, rows)
        piece = np.searchsorted(self._ends, rows, side="right")
        places = [np.flatnonzero(piece == number) for number in np.unique(piece)]
        parts = [self._read(piece[here[0]], rows[here]) for here in places]
        back = np.argsort(np.concatenate(places))
        return {name: np.concatenate([part[name] for part in parts])[back] for name in parts[0]}

    def _read(self, number: int, rows: np.ndarray) -> dict[str, np.ndarray]:
        base, positions = self._pieces[number]
        first = self._ends[number] - len(positions)
        places = (positions.start + rows - first).tolist()
        arrays = self._examples(base).read(places)
        return arrays | {"index": np.array(places, np.int32)}

    def _examples(self, base: str) -> Examples:
        # A reader for each thread: array_record's holds a position in its file.
        own = vars(self._threads)
        if base not in own:
            own[base] = Examples(self._builder, base, self._specs[base])
        return own[base]
