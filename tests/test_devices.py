"""One device, eight of them by either strategy, and two processes of four: the same run."""

import collections
import functools
import json
import os
import subprocess
import sys

import equivalence
import jax
import numpy as np
import pytest

from benchmarks.programs import collectives
from experiments import build
from jmvae_jax import data, parallel, training
from jmvae_jax.training.checkpoints import Checkpoints

EIGHT = tuple(jax.devices())
ONE = EIGHT[:1]
STRATEGIES = ["jit", pytest.param("pmap", marks=pytest.mark.slow)]
NAMES = ["jmvae_kl", pytest.param("jmvae_gan", marks=pytest.mark.slow)]


@pytest.fixture(scope="module")
def data_dir(mnist_dir):
    data.prepare("synthetic_faces/32_small", data_dir=mnist_dir)
    return mnist_dir


@functools.cache
def run(name, data_dir, count=1, strategy="jit"):
    config = equivalence.config_of(name, data_dir)
    return equivalence.run(config, parallel.DataParallel(EIGHT[:count], strategy))


def resolution(values):
    """1e-4 nats, or a few units in the last place of float32 where values are in thousands."""
    return max(1e-4, 4 * np.spacing(np.abs(values).max()))


def assert_same(found, expected):
    """Losses and gradients within 1e-5, parameters within 1e-4, relative, and estimates."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        apart = np.abs(found[name].astype(np.float64) - value)
        if name == "loss":
            assert np.all(apart <= 1e-5 * np.abs(value))
        elif name.startswith("estimate"):
            assert apart.max() <= resolution(value), name
        else:
            limit = 1e-5 if name.startswith("gradient") else 1e-4
            assert np.linalg.norm(apart) <= limit * np.linalg.norm(value), name


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("name", NAMES)
def test_eight_devices_are_one(name, strategy, data_dir):
    assert_same(run(name, data_dir, 8, strategy)[0], run(name, data_dir)[0])


@pytest.mark.parametrize("name", NAMES)
def test_a_spread_evaluation_is_that_of_one_device(name, data_dir):
    config = equivalence.config_of(name, data_dir)
    experiment, _ = equivalence.experiment_of(config)
    _, state = run(name, data_dir)
    here, there = (
        equivalence.named("", equivalence.estimates(config, experiment, state, place))
        for place in (lambda tree: tree, parallel.replicate)
    )
    for key, value in here.items():
        apart = np.abs(there[key].astype(np.float64) - value)
        assert apart.max() <= resolution(value), key


@pytest.mark.parametrize("name", NAMES)
def test_gradients_in_parts_are_those_of_the_whole(name, data_dir):
    config = equivalence.config_of(name, data_dir)
    config.train.accumulate = 3
    found, _ = equivalence.run(config, parallel.DataParallel(EIGHT[:4]), steps=1)
    expected, _ = run(name, data_dir)
    if name == "jmvae_gan":  # batch norm sees a part of the batch
        assert not np.allclose(found["loss"], expected["loss"][:1], rtol=1e-5)
        assert np.allclose(found["loss"], expected["loss"][:1], rtol=0.1)
    else:
        np.testing.assert_allclose(found["loss"], expected["loss"][:1], rtol=1e-5)
        for key in (key for key in found if key.startswith("gradient")):
            apart = np.linalg.norm(found[key] - expected[key])
            assert apart <= 1e-5 * np.linalg.norm(expected[key]), key


# What devices say to one another


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("name", NAMES)
def test_a_step_reduces_gradients_once_and_nothing_but_means(name, strategy, data_dir):
    config = equivalence.config_of(name, data_dir)
    experiment, stored = equivalence.experiment_of(config)
    devices = parallel.DataParallel(EIGHT, strategy)
    state = build.initial_state(config, experiment)
    empty = experiment.start_tally(state, stored)
    dispatch = build.compile_dispatch(config, experiment, devices, jax.random.key(1))
    epoch = training.Resident(stored, {}, jax.random.key(2), config.train.batch_size, devices)(0)
    args = (*devices.place((state, empty)), epoch, devices.place(np.int32(1)))
    found = collectives(dispatch.lower(*args).compile().as_text())
    assert {kind for kind, _ in found} == {"all-reduce"}
    reduced = [size for _, sizes in found for size in sizes]
    parameters = [4 * x.size for x in jax.tree.leaves((state.params, state.adversary))]
    further = sum(reduced) - sum(parameters)
    if name == "jmvae_kl":
        # Its terms: loss, elbo, rate, and two of each modality.
        assert further == 7 * 4
        assert len(found) == 1
    else:
        # Each gradient once; else metrics, running statistics, and the sums of each batch norm,
        # two a feature, forward and backward.
        sizes, own = collections.Counter(reduced), collections.Counter(parameters)
        assert not own - sizes
        statistics = max(4 * x.size for x in jax.tree.leaves(state.model_state))
        assert max(sizes - own) <= 2 * statistics
        assert 0 < further < min(sum(parameters) / 50, 20 * 1024)


# Two processes


def two_processes(folder, port, configs, start=None):
    """Runs `configs` on two processes of four devices each; `start` holds checkpoints to go on."""
    folder.mkdir()
    (folder / "configs.json").write_text(json.dumps({n: c.to_dict() for n, c in configs.items()}))
    flags = os.environ["XLA_FLAGS"].replace("device_count=8", "device_count=4")
    environment = {**os.environ, "XLA_FLAGS": flags}
    words = [sys.executable, equivalence.__file__, folder / "configs.json", folder, start or ""]
    words += [f"127.0.0.1:{port}", "2"]
    running = [
        subprocess.Popen(
            [*map(str, words), str(number)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for number in range(2)
    ]
    outputs = [process.communicate(timeout=500)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0], outputs
    return {name: dict(np.load(folder / f"{name}.npz")) for name in configs}


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["jit", "pmap"])
def test_two_processes_that_read_their_own_rows_are_one(strategy, data_dir, tmp_path, free_port):
    config = equivalence.config_of("jmvae_kl", data_dir)
    config.train.strategy, config.data.streamed = strategy, True
    found = two_processes(tmp_path / "run", free_port(), {"streamed": config})["streamed"]
    assert_same(found, run("jmvae_kl", data_dir)[0])


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["jit", "pmap"])
@pytest.mark.parametrize("name", NAMES)
def test_two_processes_are_one_and_go_on_from_its_checkpoint(
    name, strategy, data_dir, tmp_path, free_port
):
    config = equivalence.config_of(name, data_dir)
    config.train.strategy = strategy
    expected, state = run(name, data_dir)
    assert_same(two_processes(tmp_path / "anew", free_port(), {name: config})[name], expected)
    # What two processes saved is restored on one device.
    saved = Checkpoints(tmp_path / "anew" / name).restore(state)
    assert saved is not None
    assert saved[0] == equivalence.STEPS
    for a, b in zip(jax.tree.leaves(saved[1].params), jax.tree.leaves(state.params), strict=True):
        assert np.linalg.norm(a - b) <= 1e-4 * np.linalg.norm(b)
    # What eight devices saved is restored by two processes, which go on as one device does.
    eight = parallel.DataParallel(EIGHT)
    start = tmp_path / "saved"
    Checkpoints(start / name).save(equivalence.STEPS, eight.replicate(state))
    found = two_processes(tmp_path / "on", free_port(), {name: config}, start)[name]
    further, _ = equivalence.run(config_on_one(config), parallel.DataParallel(ONE), state=state)
    np.testing.assert_allclose(found["loss"], further["loss"], rtol=1e-5)


def config_on_one(config):
    other = config.copy_and_resolve_references()
    other.train.strategy = "jit"
    return other
