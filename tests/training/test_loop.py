import dataclasses
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import zoo

import jmvae_jax as jm
from jmvae_jax import parallel, training
from jmvae_jax.data.transforms import binarize
from jmvae_jax.training.checkpoints import Checkpoints
from jmvae_jax.training.metrics import RunLog, read_rows

ROWS, BATCH = 40, 8
PLAN = training.Plan(
    num_steps=20,
    steps_per_epoch=5,
    batch_size=BATCH,
    log_every=3,
    checkpoint_every=10,
    steps_per_dispatch=4,
)


def run(
    workdir,
    *,
    plan=PLAN,
    stop=lambda: False,
    learning_rate=1e-2,
    devices=None,
    streamed=False,
    **options,
):
    """Trains a VAE on random bytes, from the newest checkpoint in `workdir` if there is one."""
    model = jm.VAE(latent_dim=2, modalities=zoo.some("image"))
    optimizer = optax.adam(learning_rate)
    loss_fn = jm.make_loss_fn(model, jm.elbo)
    weights = {"beta": lambda step: jnp.asarray(1.0)}
    transforms = {"image": binarize}
    pixels = np.random.default_rng(0).integers(0, 256, (ROWS, 4, 4, 1), np.uint8)
    devices = devices or parallel.DataParallel((jax.devices()[0],))
    state = training.create_state(zoo.variables_of(model), optimizer)
    checkpoints = Checkpoints(workdir / "checkpoints")
    restored = checkpoints.restore(state)
    state = state if restored is None else restored[1]
    step = training.make_train_step(
        training.plain_update(loss_fn, optimizer, parallel.AXIS),
        key=jax.random.key(1),
        batch_size=BATCH,
        transforms=transforms,
        weights=weights,
        learning_rate=lambda step: jnp.asarray(learning_rate),
        axis_name=parallel.AXIS,
    )
    log, key = RunLog(workdir, int(state.step)), jax.random.key(2)
    feed = training.Resident({"image": pixels}, {}, key, BATCH, devices)
    if streamed:
        options_of = {"next_stop": plan.next_stop, "slots": plan.steps_per_dispatch}
        feed = training.Stream(Stored(pixels), key, BATCH, devices, **options_of)
    try:
        return training.train(
            state,
            plan=plan,
            dispatch=training.make_dispatch(step, BATCH, devices, streamed),
            feed=feed,
            tally=training.start_tally(loss_fn, transforms, weights, state, {"image": pixels}),
            devices=devices,
            log=log,
            checkpoints=checkpoints,
            stop=stop,
            progress=False,
            **options,
        )
    finally:
        log.close()


class Stored:
    def __init__(self, pixels):
        self.pixels = pixels

    def __len__(self):
        return len(self.pixels)

    def __getitem__(self, rows):
        return {"image": self.pixels[rows]}


def same(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.fixture(scope="module")
def whole_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("whole")


@pytest.fixture(scope="module")
def whole(whole_dir):
    """The last state of an unbroken run in `whole_dir`."""
    return run(whole_dir)


def test_a_run_that_was_stopped_ends_as_the_unbroken_one_to_the_last_bit(whole, tmp_path):
    calls = iter([False, False, True])
    part = run(tmp_path / "broken", stop=lambda: next(calls))
    assert 0 < int(part.step) < 20
    same(run(tmp_path / "broken"), whole)


@pytest.mark.parametrize("stop", [False, True])
def test_a_trace_of_some_steps_changes_nothing_else(stop, whole, tmp_path):
    plan = dataclasses.replace(PLAN, profile=(6, 9))
    assert [plan.next_stop(step) for step in (0, 5, 6, 9)] == [3, 6, 8, 10]
    calls = iter([False] * 4 + [stop] + [False] * 20)
    found = run(tmp_path, plan=plan, stop=lambda: next(calls), profile_dir=tmp_path / "traced")
    assert int(found.step) == (8 if stop else 20)
    assert list((tmp_path / "traced").rglob("*.xplane.pb"))
    same(run(tmp_path), whole)


def test_a_run_that_was_killed_goes_on_from_its_last_checkpoint(whole, whole_dir, tmp_path):
    def kill():
        kill.steps += 1
        if kill.steps == 9:
            raise KeyboardInterrupt
        return False

    kill.steps = 0
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "broken", stop=kill)
    assert Checkpoints(tmp_path / "broken" / "checkpoints").steps() == [10]
    same(run(tmp_path / "broken"), whole)

    def numbers(folder):
        rows = read_rows(folder)
        return [{k: v for k, v in row.items() if k != "examples_per_second"} for row in rows]

    assert numbers(tmp_path / "broken") == numbers(whole_dir)


@pytest.mark.parametrize(
    ("count", "strategy"),
    [
        (1, "jit"),
        pytest.param(1, "pmap", marks=pytest.mark.slow),
        pytest.param(8, "jit", marks=pytest.mark.slow),
        pytest.param(8, "pmap", marks=pytest.mark.slow),
    ],
)
def test_a_streamed_run_is_the_resident_one_to_the_last_bit(count, strategy, tmp_path):
    """Two programs, compiled as users compile: the emitters of other tests round them apart."""
    flags = os.environ["XLA_FLAGS"].replace("fusion_emitters=false", "fusion_emitters=true")
    environment = {**os.environ, "XLA_FLAGS": flags, "PYTHONPATH": os.pathsep.join(sys.path)}
    words = [sys.executable, __file__, str(count), strategy, str(tmp_path)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "the same\n"


def run_streamed_and_resident(count, strategy, folder):
    devices = parallel.DataParallel(jax.devices()[: int(count)], strategy)
    whole = run(folder / "whole", devices=devices)
    options = {"workdir": folder / "parts", "devices": devices}
    calls = iter([False, False, True])
    run(**options, stop=lambda: next(calls), streamed=True)
    calls = iter([False, True])
    run(**options, stop=lambda: next(calls))
    parts = run(**options, streamed=True)
    assert int(whole.step) == int(parts.step) == PLAN.num_steps
    same(whole, parts)
    print("the same")


@pytest.mark.usefixtures("whole")
def test_rows_fall_where_the_plan_says(whole_dir):
    assert [row["step"] for row in read_rows(whole_dir)] == [3, 6, 9, 10, 12, 15, 18, 20]


@pytest.mark.usefixtures("whole")
def test_training_lowers_the_loss(whole_dir):
    rows = read_rows(whole_dir, "train")
    assert rows[-1]["loss"] < rows[0]["loss"]


def test_a_loss_that_is_not_finite_stops_with_a_report_and_keeps_the_last_checkpoint(tmp_path):
    run(tmp_path, plan=training.Plan(10, 5, BATCH))
    plan = training.Plan(40, 5, BATCH, log_every=40)
    with pytest.raises(training.NonFiniteError, match=r"step .* \d+: not finite: .*loss="):
        run(tmp_path, plan=plan, learning_rate=1e30)
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    assert checkpoints.steps() == [10]


def test_a_validation_that_is_not_finite_stops_as_well(tmp_path):
    with pytest.raises(training.NonFiniteError, match="validation after step 20: not finite: rate"):
        run(tmp_path, validate=lambda state, step: {"rate": float("nan"), "elbo": 1.0})


def test_a_finished_run_does_nothing(whole, whole_dir):
    same(run(whole_dir, stop=lambda: pytest.fail("a step was taken")), whole)


def test_stops_are_a_function_of_the_step_alone():
    plan = training.Plan(100, 30, 1, log_every=20, checkpoint_every=45, steps_per_dispatch=8)
    stops, step = [], 0
    while step < 100:
        step = plan.next_stop(step)
        stops.append(step)
    assert {20, 30, 40, 45, 60, 80, 90, 100} <= set(stops)
    assert all(b - a <= 8 for a, b in zip([0, *stops], stops, strict=False))
    assert all(plan.next_stop(s - 1) == s for s in stops)


@pytest.mark.parametrize("strategy", ["jit", pytest.param("pmap", marks=pytest.mark.slow)])
def test_the_number_of_devices_does_not_change_what_is_learned(whole, tmp_path, strategy):
    four = run(tmp_path, devices=parallel.DataParallel(tuple(jax.devices()[:4]), strategy))
    assert int(four.step) == 20
    for x, y in zip(jax.tree.leaves(whole.params), jax.tree.leaves(four.params), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-5)


if __name__ == "__main__":
    run_streamed_and_resident(*sys.argv[1:3], pathlib.Path(sys.argv[3]))
