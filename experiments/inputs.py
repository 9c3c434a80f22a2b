"""The data of a configuration: in memory, or streamed from where they are prepared."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from experiments import recipe
from experiments.models import Statistics
from jmvae_jax import data, parallel, training
from jmvae_jax.training.feeds import Feed

RESIDENT_SHARE = 0.25
"""Of a device's memory, that a training split may take before it is streamed."""


def places(config: ConfigDict) -> dict[str, Any]:
    """Where the configuration's data set comes from: arguments of the data room's functions."""
    return {name: config.data[name] for name in ("data_dir", "manual_dir", "download")}


def load_arrays(config: ConfigDict, split: str) -> dict[str, np.ndarray]:
    """Everything that is stored of a split of the configuration's data set, with `index`."""
    return data.load(config.data.dataset, split, **places(config))


def load_statistics(config: ConfigDict) -> Statistics:
    """What the configuration's run keeps of its data set, by name.

    The mean and deviation of each modality that is standardised, the names of attributes, and the
    data set, where it has configurations, with the key that a file of one's own has.
    """
    found: dict[str, np.ndarray] = {}
    for name, entry in config.modalities.items():
        if entry.transform == "standardize":
            moments = data.pixel_statistics(config.data.dataset, **places(config))
            found |= {f"{name}/{moment}": values for moment, values in moments.items()}
    if "attributes" in config.modalities:
        described = data.metadata(config.data.dataset, **places(config))
        found |= {
            key: np.array(described[key]) for key in ("attributes", "visible") if key in described
        }
    name = _name_with_key(config)
    return {**found, "dataset": np.array(name)} if "/" in name else found


def check_dataset(
    config: ConfigDict, trained_on: Statistics, now: Statistics | None = None
) -> None:
    """Raises ValueError where the data set is another than the one that a run was trained on.

    Args:
      config: of the run, or of what goes on with it.
      trained_on: what the run keeps of its data set, see `load_statistics`.
      now: that of the data set that is there, where it is known already.
    """
    if "dataset" not in trained_on:
        return
    found = _name_with_key(config) if now is None else str(now.get("dataset", "another"))
    if found != str(trained_on["dataset"]):
        raise ValueError(
            f"data.dataset={config.data.dataset!r} with data.manual_dir={config.data.manual_dir!r} "
            f"is {found}, and the run was trained on {trained_on['dataset']}: give its data, or "
            "another folder for the run"
        )


def check_count(num_examples: int, split: str, available: int) -> None:
    """Raises ValueError where more examples are asked for than a split has."""
    if num_examples > available:
        raise ValueError(f"num_examples={num_examples}: the split {split!r} has {available}")


def _name_with_key(config: ConfigDict) -> str:
    builder = data.prepare(config.data.dataset, **places(config))
    config_name = builder.builder_config and builder.builder_config.name
    return f"{builder.name}/{config_name}" if config_name else str(builder.name)


def load_split(config: ConfigDict, split: str) -> dict[str, np.ndarray]:
    """Stored arrays of the configuration's modalities, with `index`.

    Raises:
      ValueError: the data set lacks a modality of the configuration, or has other shapes.
    """
    arrays = load_arrays(config, split)
    return _checked(config, arrays) | {"index": arrays["index"]}


class ModalityRows:
    """The rows of a split where they lie on disk, see `data.StoredRows`; checked as they are read.

    `rows[numbers]` raises ValueError as `load_split` does.

    Attributes:
      mask: modality -> `bool[N]`, true where a row has the modality; {}: all have all.
    """

    def __init__(self, config: ConfigDict, split: str):
        self._config, self._split = config, split
        self._rows = data.StoredRows(config.data.dataset, split, **places(config))
        self.mask: dict[str, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, rows: Any) -> dict[str, np.ndarray]:
        return _checked(self._config, self._rows[rows])

    def load(self) -> dict[str, np.ndarray]:
        """All of them in memory: modality -> `[N, ...]`."""
        stored = load_split(self._config, self._split)
        stored.pop("index")
        return stored

    @property
    def streamed(self) -> bool:
        """`data.streamed`; where that is not set, whether a device had better not hold them all."""
        if self._config.data.streamed is not None:
            return bool(self._config.data.streamed)
        size = len(self) * self._rows.row_bytes
        return size > RESIDENT_SHARE * _device_memory()


class TrainingRows(ModalityRows):
    """The rows of the training split, from which modalities were removed at random if asked for.

    What `data.missing_rates` and `data.missing_seed` say is done to this split and to no other.
    With `data.missing_rows` "keep" all rows are there, and `mask` says what each has kept; with
    "drop" only those are that have lost nothing, numbered anew. Either way the same rows lose the
    same modalities, in memory or streamed. What was removed is still read: masked, it reaches
    neither a network nor a density. Networks see zeros in its place, which batch norm counts in its
    statistics (`model.norm=group` has none); `load_statistics` are those of all stored rows.

    Attributes:
      num_stored: rows of the split.
      num_complete: rows that have lost nothing.

    Raises:
      ValueError: see `recipe.removal`; no row is left.
    """

    def __init__(self, config: ConfigDict):
        removal = recipe.removal(config)
        super().__init__(config, config.data.train_split)
        self.num_stored = self.num_complete = len(self._rows)
        self._numbers: np.ndarray | None = None  # of the rows that are left in the split
        if not any(removal.rates.values()):
            return
        kept = data.remove_at_random(removal.rates, self.num_stored, removal.seed)
        complete = np.flatnonzero(np.all(list(kept.values()), axis=0))
        self.num_complete = len(complete)
        if removal.rows == "keep":
            self.mask = {name: kept[name] for name, rate in removal.rates.items() if rate}
        elif self.num_complete:
            self._numbers = complete
        else:
            raise ValueError(
                f"data.missing_rows='drop': none of the {self.num_stored} rows of "
                f"{config.data.train_split!r} keeps every modality; expected lower rates in "
                f"data.missing_rates, which has {removal.rates}"
            )

    def __len__(self) -> int:
        return self.num_stored if self._numbers is None else len(self._numbers)

    def __getitem__(self, rows: Any) -> dict[str, np.ndarray]:
        return super().__getitem__(rows if self._numbers is None else self._numbers[rows])

    def load(self) -> dict[str, np.ndarray]:
        stored = super().load()
        if self._numbers is None:
            return stored
        return {name: values[self._numbers] for name, values in stored.items()}


@contextlib.contextmanager
def open_feed(
    config: ConfigDict,
    rows: ModalityRows,
    plan: training.Plan,
    key: jax.Array,
    devices: parallel.DataParallel,
) -> Iterator[Feed]:
    """What a run's dispatches read: `rows` on the devices, or a stream of them."""
    if not rows.streamed:
        yield training.Resident(rows.load(), rows.mask, key, plan.batch_size, devices)
        return
    with training.Stream(
        rows,
        key,
        plan.batch_size,
        devices,
        next_stop=plan.next_stop,
        slots=plan.steps_per_dispatch,
        mask=rows.mask,
        ahead=config.data.blocks_ahead,
        workers=config.data.workers,
    ) as stream:
        yield stream


def _device_memory() -> int:
    """Bytes: of an accelerator its own, of a CPU the machine's."""
    stats = jax.local_devices()[0].memory_stats() or {}
    return stats.get("bytes_limit") or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _checked(config: ConfigDict, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of the configuration's modalities."""
    lacking = sorted(set(config.modalities) - set(arrays))
    if lacking:
        raise ValueError(
            f"modalities {lacking} are not in {config.data.dataset}: it has "
            f"{sorted(set(arrays) - {'index'})}"
        )
    for name, entry in config.modalities.items():
        _check_stored(name, entry, arrays[name])
    return {name: arrays[name] for name in config.modalities}


def _check_stored(name: str, entry: ConfigDict, values: np.ndarray) -> None:
    """Raises ValueError where stored values do not fit the modality's shape."""
    labels = entry.transform == "one_hot"
    expected = () if labels else tuple(entry.shape)
    if values.shape[1:] != expected:
        raise ValueError(
            f"modalities.{name}.shape={tuple(entry.shape)}: the data set has {values.shape[1:]}"
        )
    if labels and not 0 <= values.min() <= values.max() < entry.shape[-1]:
        raise ValueError(
            f"modalities.{name}.shape={tuple(entry.shape)}: the data set has labels from "
            f"{values.min()} to {values.max()}"
        )
