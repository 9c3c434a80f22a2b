"""Streamed rows are the rows of a data set on the devices, whatever the step and the devices."""

import threading

import jax
import numpy as np
import pytest

from jmvae_jax import parallel, training
from jmvae_jax.data.pipeline import take

ROWS, BATCH, SLOTS = 46, 8, 3
PLAN = training.Plan(23, ROWS // BATCH, BATCH, log_every=4, steps_per_dispatch=SLOTS)
ARRAYS = {
    "image": np.random.default_rng(0).integers(0, 256, (ROWS, 2, 3), np.uint8),
    "label": np.arange(ROWS, dtype=np.int32),
}
MASK = {"label": np.arange(ROWS) % 3 > 0}
KEY = jax.random.key(5)


class Stored:
    """Rows that remember which of them were read, and by how many threads at once."""

    def __init__(self, wait=None):
        self.read, self.wait = [], wait

    def __len__(self):
        return ROWS

    def __getitem__(self, rows):
        if self.wait is not None:
            self.wait(timeout=60)
        self.read.append(np.array(rows))
        return {name: values[rows] for name, values in ARRAYS.items()}


def devices_of(count, strategy="jit"):
    return parallel.DataParallel(jax.devices()[:count], strategy)


def stream(rows, devices=None, plan=PLAN, **options):
    return training.Stream(
        rows,
        KEY,
        BATCH,
        devices or devices_of(1),
        next_stop=plan.next_stop,
        slots=SLOTS,
        **options,
    )


def dispatches(plan=PLAN, first=0):
    while first < plan.num_steps:
        yield first, plan.next_stop(first)
        first = plan.next_stop(first)


@pytest.mark.parametrize("first", [0, 4, 14])
def test_a_stream_has_the_rows_of_the_resident_data(first):
    resident = training.Resident(ARRAYS, MASK, KEY, BATCH, devices_of(1))
    positions = np.arange(BATCH)
    with stream(Stored(), mask=MASK) as streamed:
        for start, end in dispatches(first=first):
            block = jax.tree.map(lambda x: x[0], streamed(start))
            for step in range(start, end):
                expected = take(resident(start), step, positions, BATCH)
                found = take(block, step, positions, BATCH)
                jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_each_device_has_its_own_rows_alone():
    devices = devices_of(len(jax.devices()))
    count = len(devices.devices)
    assert BATCH % count == 0
    resident = training.Resident(ARRAYS, {}, KEY, BATCH, devices)
    with stream(Stored(), devices) as streamed:
        block = streamed(0)
        assert block.order.shape == (count, SLOTS * BATCH // count)
        for number in range(count):
            own = jax.tree.map(lambda x, number=number: np.asarray(x)[number], block)
            size = BATCH // count
            rows = number * size + np.arange(size)
            expected, _ = take(resident(0), 1, rows, BATCH)
            found, _ = take(own, 1, np.arange(size), size)
            jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_blocks_are_read_by_several_threads_before_they_are_asked_for():
    # Each read waits until another one has begun: one thread alone would never end.
    both = threading.Barrier(2)
    plan = training.Plan(4, 4, BATCH, log_every=1, steps_per_dispatch=1)
    rows = Stored(both.wait)
    with stream(rows, plan=plan, ahead=3, workers=2) as streamed:
        for step in range(plan.num_steps):
            streamed(step)
    assert sorted(np.concatenate(rows.read)) == sorted(set(np.concatenate(rows.read)))
    assert len(rows.read) == plan.num_steps


def test_memory_is_bounded_by_the_blocks_ahead():
    rows = Stored()
    with stream(rows, ahead=1, workers=1) as streamed:
        streamed(0)
    assert len(rows.read) <= 2


def test_an_error_of_a_reader_reaches_the_loop():
    class Broken(Stored):
        def __getitem__(self, rows):
            raise ValueError("the prepared train split is damaged")

    with stream(Broken()) as streamed, pytest.raises(ValueError, match="damaged"):
        streamed(0)


@pytest.mark.parametrize("option", ["ahead", "workers"])
def test_a_stream_needs_a_thread_and_a_block(option):
    with pytest.raises(ValueError, match=f"{option}=0: expected at least 1"):
        stream(Stored(), **{option: 0})
