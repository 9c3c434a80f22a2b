import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import zoo
from grids import some_of

import jmvae_jax as jm
from jmvae_jax import parallel, training
from jmvae_jax.data.pipeline import Epoch, padded_batches
from jmvae_jax.training import metrics

ROWS = 8

# Of one step of `pieces`, written down when the step was first tested against its parts.
GOLDEN = {
    "loss": 13.759335,
    "elbo": -13.788502,
    "rate": 0.34533501,
    "reconstruction/image": -11.539013,
    "reconstruction/label": -1.9041551,
    "alignment/image": 0.81222242,
    "alignment/label": 0.62277997,
    "beta": 0.5,
    "learning_rate": 0.001,
    "grad_norm": 3.8183801,
    "clipped": 0,
}
GOLDEN_PARAMETERS = 180.12448


def identity(keys, stored):
    return stored


def pieces(optimizer=None, objective=jm.jmvae_kl, batch_size=ROWS, **options):
    """A JMVAE-kl over two modalities with its state, step and stored rows."""
    model = zoo.jmvae("image", "label")
    stored = zoo.batch_of(model, rows=4 * ROWS)
    optimizer = optimizer or optax.chain(optax.clip_by_global_norm(5.0), optax.adam(1e-3))
    state = training.create_state(
        zoo.variables_of(model), optimizer, average="average_decay" in options
    )
    loss_fn = jm.make_loss_fn(model, objective)
    weights = {"alpha": lambda step: jnp.asarray(0.1), "beta": lambda step: jnp.asarray(0.5)}
    transforms = dict.fromkeys(model.modalities, identity)
    step = training.make_train_step(
        training.plain_update(loss_fn, optimizer, options.get("axis_name")),
        key=jax.random.key(7),
        batch_size=batch_size,
        transforms=transforms,
        weights=weights,
        learning_rate=lambda step: jnp.asarray(1e-3),
        clip_norm=5.0,
        **options,
    )
    tally = training.start_tally(loss_fn, transforms, weights, state, stored)
    return state, jax.jit(step), stored, tally


def rows(stored, start=0, count=ROWS):
    return {name: values[start : start + count] for name, values in stored.items()}


def test_golden_step():
    state, step, stored, _ = pieces()
    state, metrics_ = step(state, rows(stored))
    assert int(state.step) == 1
    found = {name: float(value) for name, value in metrics_.items()}
    expected = GOLDEN
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=2e-5, err_msg=name)
    total = sum(float(jnp.sum(jnp.abs(leaf))) for leaf in jax.tree.leaves(state.params))
    np.testing.assert_allclose(total, GOLDEN_PARAMETERS, rtol=2e-5)


def test_metrics_are_means_of_the_bounds_terms():
    state, step, stored, tally = pieces()
    _, found = step(state, rows(stored))
    assert set(found) == set(tally.sums)
    elbo = found["reconstruction/image"] + found["reconstruction/label"] - found["rate"]
    np.testing.assert_allclose(found["elbo"], elbo, rtol=1e-5)
    loss = -found["elbo"] - 0.5 * found["rate"]
    loss += 0.1 * (found["alignment/image"] + found["alignment/label"])
    np.testing.assert_allclose(found["loss"], loss, rtol=1e-5)


@pytest.mark.parametrize("limit", some_of([1e-3, 1e3], 1e-3))
def test_clipping_scales_the_update_by_the_expected_factor(limit):
    state, free, stored, _ = pieces(optax.sgd(1.0))
    after, found = free(state, rows(stored))
    state, clipped, stored, _ = pieces(
        optax.chain(optax.clip_by_global_norm(limit), optax.sgd(1.0))
    )
    limited, _ = clipped(state, rows(stored))
    factor = min(1.0, limit / float(found["grad_norm"]))
    for old, new, short in zip(
        *map(jax.tree.leaves, (state.params, after.params, limited.params)), strict=True
    ):
        np.testing.assert_allclose(short - old, factor * (new - old), rtol=1e-3, atol=1e-6)


def test_the_average_of_the_weights_is_exponential():
    state, step, stored, _ = pieces(average_decay=0.9)
    start = state.average
    first, _ = step(state, rows(stored))
    second, _ = step(first, rows(stored, ROWS))
    for a, p1, p2, found in zip(
        *map(jax.tree.leaves, (start, first.params, second.params, second.average)), strict=True
    ):
        # The decay is min(0.9, (1 + step) / (10 + step)): 1/10, then 2/11.
        once = 0.1 * a + 0.9 * p1
        np.testing.assert_allclose(found, (2 * once + 9 * p2) / 11, rtol=1e-4, atol=1e-6)
    assert second.variables["params"] is second.average
    assert pieces()[0].variables["params"] is not pieces()[0].average


def test_an_average_that_the_state_does_not_keep_is_refused():
    _, step, stored, _ = pieces(average_decay=0.9)
    state, *_ = pieces()
    with pytest.raises(ValueError, match=r"average_decay=0\.9, and the state has no average"):
        step(state, rows(stored))


def test_noise_changes_with_the_step_and_nothing_else():
    state, step, stored, _ = pieces(optax.sgd(0.0))
    one, first = step(state, rows(stored))
    _, again = step(state, rows(stored))
    _, second = step(one, rows(stored))
    assert first["elbo"] == again["elbo"]
    assert first["elbo"] != second["elbo"]


def dispatched(step, state, tally, stored, counts):
    devices = parallel.DataParallel((jax.devices()[0],))
    dispatch = training.make_dispatch(step, ROWS, devices)
    epoch = devices.place(Epoch(dict(stored), {}, jnp.arange(4 * ROWS)))
    state, tally = devices.place((state, tally))
    for count in counts:
        state, tally = dispatch(state, tally, epoch, devices.place(np.int32(count)))
    return state, tally, dispatch


def test_a_dispatch_of_steps_equals_single_steps_to_the_bit_however_divided():
    state, step, stored, tally = pieces()
    found = [
        dispatched(step, jax.tree.map(jnp.copy, state), jax.tree.map(jnp.copy, tally), stored, c)
        for c in ([4], [1, 3], [1, 1, 1, 1])
    ]
    for other, sums, _ in found[1:]:
        assert sums.steps == 4
        for a, b in zip(jax.tree.leaves(found[0][0]), jax.tree.leaves(other), strict=True):
            np.testing.assert_array_equal(a, b)
    single = state
    for number in range(4):
        single, _ = step(single, rows(stored, number * ROWS))
    for a, b in zip(jax.tree.leaves(found[0][0]), jax.tree.leaves(single), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_the_step_is_traced_once():
    state, step, stored, tally = pieces()
    traces = []

    def counted(*args):
        traces.append(1)
        return step(*args)

    dispatched(counted, state, tally, stored, [1, 2, 1, 3])
    assert len(traces) == 1


def test_the_tally_remembers_the_first_step_that_was_not_finite():
    tally = metrics.empty_tally(("loss", "rate"))
    for step, loss in enumerate((1.0, np.nan, np.inf)):
        values = {"loss": jnp.asarray(loss), "rate": jnp.asarray(2.0 + step)}
        tally = metrics.add_metrics(tally, values, jnp.asarray(step))
    assert int(tally.bad_step) == 1
    assert np.isnan(tally.bad["loss"])
    assert float(tally.bad["rate"]) == 3.0
    assert float(tally.sums["rate"]) == 9.0


def test_evaluation_counts_every_row_once_whatever_the_padding():
    model = zoo.jmvae("image", "label")
    state = training.create_state(zoo.variables_of(model), optax.sgd(0.1))
    loss_fn = jm.make_loss_fn(model, jm.jmvae_kl)
    weights = {"alpha": lambda step: 0.1, "beta": lambda step: 1.0}
    step = training.make_eval_step(loss_fn, dict.fromkeys(model.modalities, identity), weights)
    stored = zoo.batch_of(model, rows=6) | {"index": jnp.arange(6)}
    whole = step(state, (stored, None))
    found = [(step(state, (part, None)), weight) for part, weight in padded_batches(stored, 4)]
    assert [weight.sum() for _, weight in found] == [4, 2]
    for name, value in whole.items():
        rows = np.concatenate([terms[name][weight > 0] for terms, weight in found])
        np.testing.assert_allclose(rows, value, rtol=1e-5, err_msg=name)
