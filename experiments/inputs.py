"""The data of a configuration: in memory, or streamed from where they are prepared."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

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

    The mean and deviation of each modality that is standardised, and the names of attributes.
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
    return found


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
    """

    def __init__(self, config: ConfigDict, split: str):
        self._config = config
        self._rows = data.StoredRows(config.data.dataset, split, **places(config))

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, rows: Any) -> dict[str, np.ndarray]:
        return _checked(self._config, self._rows[rows])

    @property
    def streamed(self) -> bool:
        """`data.streamed`; where that is not set, whether a device had better not hold them all."""
        if self._config.data.streamed is not None:
            return bool(self._config.data.streamed)
        size = len(self) * self._rows.row_bytes
        return size > RESIDENT_SHARE * _device_memory()


@contextlib.contextmanager
def open_feed(
    config: ConfigDict,
    rows: ModalityRows,
    plan: training.Plan,
    key: jax.Array,
    devices: parallel.DataParallel,
) -> Iterator[Feed]:
    """What a run's dispatches read: the training split on the devices, or a stream of `rows`."""
    if not rows.streamed:
        stored = load_split(config, config.data.train_split)
        stored.pop("index")
        yield training.Resident(stored, {}, key, plan.batch_size, devices)
        return
    with training.Stream(
        rows,
        key,
        plan.batch_size,
        devices,
        next_stop=plan.next_stop,
        slots=plan.steps_per_dispatch,
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
