"""Order, batching and position: what a step reads is a function of the step alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jmvae_jax.data import Epoch, num_steps, padded_batches
from jmvae_jax.data.pipeline import epoch_order, take

ROWS, BATCH = 23, 5


@pytest.fixture
def epoch():
    """Rows that say which they are."""
    arrays = {"image": jnp.arange(ROWS * 4).reshape(ROWS, 2, 2), "label": jnp.arange(ROWS)}
    order = epoch_order(jax.random.key(3), 0, ROWS)
    return Epoch(arrays, {"label": jnp.arange(ROWS) % 3 == 0}, order)


@pytest.mark.parametrize("number", [0, 1, 7])
def test_an_order_is_a_permutation(key, number):
    order = epoch_order(key, number, 100)
    assert order.shape == (100,)
    assert order.dtype == jnp.int32
    np.testing.assert_array_equal(np.sort(order), np.arange(100))
    assert (np.asarray(order) != np.arange(100)).any()


def test_an_order_depends_on_the_key_and_the_epoch_alone():
    def order(seed, number):
        return np.asarray(epoch_order(jax.random.key(seed), number, 100))

    np.testing.assert_array_equal(order(0, 1), order(0, 1))
    np.testing.assert_array_equal(order(0, 1), order(0, jnp.asarray(1)))
    assert (order(0, 1) != order(0, 2)).mean() > 0.9
    assert (order(0, 1) != order(1, 1)).mean() > 0.9


def test_an_epoch_reads_whole_batches_and_no_row_twice(epoch):
    steps = num_steps(ROWS, BATCH)
    assert steps == 4
    parts = [take(epoch, step, jnp.arange(BATCH), BATCH)[0] for step in range(steps)]
    labels = np.concatenate([part["label"] for part in parts])
    assert len(labels) == len(set(labels.tolist())) == steps * BATCH
    np.testing.assert_array_equal(labels, epoch.order[: steps * BATCH])


def test_all_modalities_and_masks_of_a_row_travel_together(epoch):
    batch, mask = take(epoch, 2, jnp.arange(BATCH), BATCH)
    assert batch["image"].shape == (BATCH, 2, 2)
    np.testing.assert_array_equal(batch["image"][:, 0, 0], 4 * batch["label"])
    assert set(mask) == {"label"}
    np.testing.assert_array_equal(mask["label"], batch["label"] % 3 == 0)


def test_nothing_masked_is_no_mask(epoch):
    batch, mask = take(epoch._replace(mask={}), 0, jnp.arange(BATCH), BATCH)
    assert mask is None
    assert set(batch) == {"image", "label"}


def test_shards_side_by_side_are_the_batch(epoch):
    positions, cut = jnp.arange(BATCH), 2
    whole = take(epoch, 3, positions, BATCH)
    shards = [take(epoch, 3, part, BATCH) for part in (positions[:cut], positions[cut:])]
    assert shards[0][0]["label"].shape == (cut,)
    joined = jax.tree.map(lambda *parts: jnp.concatenate(parts), *shards)
    jax.tree.map(np.testing.assert_array_equal, joined, whole)


def test_a_step_reads_the_same_whatever_was_read_before(epoch):
    steps = num_steps(ROWS, BATCH)
    compiled = jax.jit(take, static_argnums=3)

    def labels(step):
        return np.asarray(compiled(epoch, jnp.asarray(step), jnp.arange(BATCH), BATCH)[0]["label"])

    forwards = [labels(step) for step in range(steps)]
    backwards = [labels(step) for step in reversed(range(steps))]
    np.testing.assert_array_equal(forwards, backwards[::-1])
    # Steps count over the whole training; an epoch has its own order, not its own count.
    np.testing.assert_array_equal(labels(3 * steps + 1), forwards[1])


@pytest.mark.parametrize(
    ("num_examples", "batch_size", "expected"), [(10, 5, 2), (11, 5, 2), (5, 5, 1), (7, 1, 7)]
)
def test_steps_are_the_whole_batches(num_examples, batch_size, expected):
    assert num_steps(num_examples, batch_size) == expected


@pytest.mark.parametrize(("num_examples", "batch_size"), [(10, 0), (10, -1), (10, 11), (0, 1)])
def test_a_batch_that_does_not_fit_is_refused(num_examples, batch_size):
    with pytest.raises(ValueError, match=f"batch_size={batch_size}:.*{num_examples} examples"):
        num_steps(num_examples, batch_size)


@pytest.mark.parametrize("batch_size", [1, 5, 6, 23, 40])
def test_padded_batches_hold_every_row_once_under_weight_one(batch_size):
    arrays = {"label": np.arange(ROWS), "image": np.arange(ROWS * 2).reshape(ROWS, 2)}
    batches = list(padded_batches(arrays, batch_size))
    assert len(batches) == -(-ROWS // batch_size)
    counted = []
    for batch, weight in batches:
        assert weight.dtype == np.float32
        assert set(np.unique(weight)) <= {0.0, 1.0}
        assert weight.shape == (batch_size,)
        assert batch["image"].shape == (batch_size, 2)
        np.testing.assert_array_equal(batch["image"][:, 0], 2 * batch["label"])
        assert (batch["label"][weight == 0] == ROWS - 1).all()
        counted += batch["label"][weight == 1].tolist()
    assert counted == list(range(ROWS))


def test_padded_batches_name_a_bad_batch_size():
    with pytest.raises(ValueError, match="batch_size=0"):
        list(padded_batches({"label": np.arange(3)}, 0))
