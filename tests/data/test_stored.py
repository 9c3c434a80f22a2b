"""Rows read from where they lie are those that `load` gives."""

import threading

import numpy as np
import pytest

from jmvae_jax import data


@pytest.fixture(scope="module")
def data_dir(mnist_dir):
    return mnist_dir


SPLITS = ("train", "train[10:700]", "test[5:40]+train[:100]", "train[:3]+train[-3:]+test[7:8]")


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("name", ["mnist", "synthetic_faces/32_small"])
def test_any_rows_in_any_order(name, split, data_dir):
    rows = data.StoredRows(name, split, data_dir=data_dir)
    arrays = data.load(name, split, data_dir=data_dir)
    assert len(rows) == len(arrays["index"])
    chosen = np.random.default_rng(0).integers(0, len(rows), 50)
    found = rows[chosen]
    assert found.keys() == arrays.keys()
    for key, values in arrays.items():
        assert found[key].dtype == values.dtype
        np.testing.assert_array_equal(found[key], values[chosen])


def test_a_row_has_as_many_bytes_as_it_takes_in_memory(data_dir):
    arrays = data.load("mnist", "test", data_dir=data_dir)
    size = sum(values.nbytes for key, values in arrays.items() if key != "index")
    rows = data.StoredRows("mnist", "test", data_dir=data_dir)
    assert len(rows) * rows.row_bytes == size


def test_threads_read_at_once(data_dir):
    rows = data.StoredRows("mnist", "test", data_dir=data_dir)
    images = data.load("mnist", "test", data_dir=data_dir)["image"]
    wrong = []

    def read(number):
        for _ in range(5):
            chosen = np.random.default_rng(number).integers(0, len(rows), 40)
            if not np.array_equal(rows[chosen]["image"], images[chosen]):
                wrong.append(number)

    threads = [threading.Thread(target=read, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("rows", [[10_000], [-1], [], 3, [[1]], [True, False], [1.0], ["a"]])
def test_a_row_that_is_not_there_is_named(rows, data_dir):
    stored = data.StoredRows("mnist", "test", data_dir=data_dir)
    with pytest.raises(IndexError, match="expected a list of numbers from 0 to 9999"):
        stored[rows]
