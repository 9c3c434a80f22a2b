"""Where a dispatch's rows come from: a data set on the devices, or a stream of blocks.

Both give the same rows to the same step, in an order that follows from the key and the step alone:
a run may go on with the other one, at any step.
"""

import functools
import os
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np

from jmvae_jax.data.pipeline import Epoch, epoch_order, num_steps
from jmvae_jax.parallel import DataParallel
from jmvae_jax.types import Key

Feed = Callable[[int], Epoch]
"""`feed(step)`: what the dispatch that begins after `step` reads from."""


class Rows(Protocol):
    """Stored rows: `data.StoredRows`, or whatever else can be read in any order.

    `rows[numbers]` gives modality -> `[len(numbers), ...]`; several threads may call it at once.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, rows: np.ndarray) -> Mapping[str, np.ndarray]: ...


class Resident:
    """A feed from a data set that lives on the devices.

    Args:
      arrays: modality -> stored values `[N, ...]`.
      mask: modality -> `bool[N]`, or {}.
      key: of the order.
      batch_size: of the global batch.
      devices: that hold a copy each.
    """

    def __init__(
        self,
        arrays: Mapping[str, Any],
        mask: Mapping[str, Any],
        key: Key,
        batch_size: int,
        devices: DataParallel,
    ):
        self._count = len(next(iter(arrays.values())))
        self._steps_per_epoch = num_steps(self._count, batch_size)
        self._arrays, self._mask = devices.place((dict(arrays), dict(mask)))
        self._key, self._devices = key, devices
        self._epoch = functools.lru_cache(maxsize=1)(self._new_epoch)

    def __call__(self, step: int) -> Epoch:
        return self._epoch(step // self._steps_per_epoch)

    def _new_epoch(self, number: int) -> Epoch:
        order = epoch_order(self._key, number, self._count)
        return Epoch(self._arrays, self._mask, self._devices.place(order))


def _give_way() -> None:
    """Lets a reader work where a CPU device is idle; on Linux priorities belong to threads."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        # Never up: that is not ours to do where the whole process gives way already.
        priority = max(10, os.getpriority(os.PRIO_PROCESS, thread))
        os.setpriority(os.PRIO_PROCESS, thread, priority)


class Stream:
    """A feed of blocks, read by threads while the devices compute, and placed ahead of time.

    A block holds the rows of one dispatch. It has a slot for each step, the step's number modulo
    their number, and each device gets its own rows of it alone; each process reads those of its
    devices. `make_dispatch(..., streamed=True)` takes them.

    Args:
      rows: the data set.
      key: of the order.
      batch_size: of the global batch.
      devices: that share it.
      next_stop: step -> the end of the dispatch that begins after it, see `Plan.next_stop`; no
        dispatch goes beyond its epoch.
      slots: the most steps of a dispatch.
      mask: modality -> `bool[N]`, or {}.
      ahead: blocks that are made ready before they are asked for; they bound the memory.
      workers: threads that read.

    Raises:
      ValueError: there is not one whole batch; `slots`, `ahead` or `workers` is less
        than 1.

    Use it as a context, so that its threads end.
    """

    def __init__(
        self,
        rows: Rows,
        key: Key,
        batch_size: int,
        devices: DataParallel,
        *,
        next_stop: Callable[[int], int],
        slots: int,
        mask: Mapping[str, np.ndarray] | None = None,
        ahead: int = 2,
        workers: int = 2,
    ):
        for name, number in (("slots", slots), ("ahead", ahead), ("workers", workers)):
            if number < 1:
                raise ValueError(f"{name}={number}: expected at least 1")
        self._rows, self._mask, self._key = rows, dict(mask or {}), key
        self._batch_size, self._steps_per_epoch = batch_size, num_steps(len(rows), batch_size)
        self._devices, self._positions = devices, devices.own_positions(batch_size)
        self._next_stop, self._slots, self._ahead = next_stop, slots, ahead
        self._pool = ThreadPoolExecutor(workers, "rows", _give_way)
        self._pending: dict[int, Future[Epoch]] = {}
        self._order = functools.lru_cache(maxsize=2)(self._new_order)

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def __call__(self, step: int) -> Epoch:
        start = step
        for _ in range(1 + self._ahead):
            end = self._next_stop(start)
            if end <= start:
                break
            if start not in self._pending:
                self._pending[start] = self._pool.submit(self._block, start, end)
            start = end
        return self._pending.pop(step).result()

    def _new_order(self, epoch: int) -> np.ndarray:
        return np.asarray(epoch_order(self._key, epoch, len(self._rows)))

    def _block(self, start: int, end: int) -> Epoch:
        """The rows of the steps from `start` to `end`, placed."""
        steps = np.arange(start, end)
        order = self._order(start // self._steps_per_epoch)
        first = steps % self._steps_per_epoch * self._batch_size
        numbers = order[first[:, None] + self._positions[:, None]]
        devices, _, size = numbers.shape

        def in_slots(values: np.ndarray) -> np.ndarray:
            event = values.shape[1:]
            block = np.zeros((devices, self._slots, size, *event), values.dtype)
            block[:, steps % self._slots] = values.reshape(*numbers.shape, *event)
            return block.reshape(devices, self._slots * size, *event)

        rows = numbers.ravel()
        arrays = {name: in_slots(values) for name, values in self._rows[rows].items()}
        mask = {name: in_slots(values[rows]) for name, values in self._mask.items()}
        places = np.tile(np.arange(self._slots * size, dtype=np.int32), (devices, 1))
        return self._devices.place_shards(Epoch(arrays, mask, places))
