"""Five steps of a configuration and an evaluation, on whatever devices: what they gave, by name.

As a script it is one of several processes: `equivalence.py CONFIGS OUT START COORDINATOR COUNT
NUMBER`. CONFIGS is the JSON of a dictionary name -> configuration, OUT a folder for `name.npz` and
checkpoints, and START one with checkpoints to go on from, or empty.
"""

import contextlib
import dataclasses
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import jax
import numpy as np
import optax
from ml_collections import ConfigDict

import jmvae_jax as jm
from experiments import build, inputs
from experiments.configs import mnist, synthetic_faces
from jmvae_jax import data, evaluation, parallel, training
from jmvae_jax.training.checkpoints import Checkpoints

BATCH, STEPS = 96, 5
ROWS, SAMPLES = 21, 30


def config_of(name, data_dir):
    """JMVAE-kl on MNIST, or JMVAE-GAN on synthetic faces, small."""
    module = mnist if name == "jmvae_kl" else synthetic_faces
    size = "" if name == "jmvae_kl" else ",image_size=32"
    config = module.get_config(f"{name},smoke{size}")
    config.train.batch_size = BATCH
    config.data.train_split = "train[:500]"
    config.data.data_dir = str(data_dir)
    return config


def recorded():
    """Passes gradients on, and keeps the last one in the optimiser's state."""
    return optax.GradientTransformation(
        lambda params: jax.tree.map(jax.numpy.zeros_like, params),
        lambda grads, state, params=None: (grads, grads),
    )


def experiment_of(config):
    stored = inputs.load_split(config, config.data.train_split)
    count = len(stored.pop("index"))
    experiment = build.build(config, count, inputs.load_statistics(config))
    optimizers = (optax.chain(recorded(), other) for other in experiment.optimizers)
    experiment = dataclasses.replace(experiment, optimizers=training.GroupOptimizers(*optimizers))
    return experiment, stored


def gradients(opt_state):
    groups = opt_state if isinstance(opt_state, dict) else {"all": opt_state}
    return {name: state[0] for name, state in groups.items()}


def named(prefix, tree):
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {prefix + jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


@contextlib.contextmanager
def feed_of(config, stored, devices, num_steps):
    """The rows of one step after the other, resident or streamed."""
    key = jax.random.key(2)
    if not config.data.streamed:
        yield training.Resident(stored, {}, key, BATCH, devices)
        return
    rows = inputs.ModalityRows(config, config.data.train_split)
    ends = {"next_stop": lambda step: min(step + 1, num_steps), "slots": 3}
    with training.Stream(rows, key, BATCH, devices, **ends) as stream:
        yield stream


def run(config, devices, steps=STEPS, state=None):
    """`loss`, each gradient of the first step, each parameter after the last, each estimate.

    Begins anew, or from a given state. Also gives back the last state.
    """
    experiment, stored = experiment_of(config)
    state = build.initial_state(config, experiment) if state is None else state
    first, empty = int(state.step), jax.device_get(experiment.start_tally(state, stored))
    streamed, key = bool(config.data.streamed), jax.random.key(1)
    dispatch = build.compile_dispatch(config, experiment, devices, key, streamed)
    placed, found, losses = devices.place(jax.tree.map(np.array, state)), {}, []
    with feed_of(config, stored, devices, first + steps) as feed:
        for step in range(first, first + steps):
            args = (devices.place(empty), feed(step), devices.place(np.int32(1)))
            placed, tally = dispatch(placed, *args)
            sums = devices.fetch(tally).sums
            losses.append([float(sums[name]) for name in sorted(sums) if "loss" in name])
            if step == first:
                found |= named("gradient", gradients(devices.fetch(placed).opt_state))
    last = devices.fetch(placed)
    found |= named("parameter", (last.params, last.adversary, last.model_state))
    found |= named("estimate", estimates(config, experiment, last, parallel.replicate))
    return found | {"loss": np.array(losses)}, last


def estimates(config, experiment, state, place):
    """Likelihoods and draws of the prior, from variables that were put somewhere by `place`."""
    test = inputs.load_split(config, f"test[:{ROWS}]")
    batch, keys = data.evaluation_batch(experiment.transforms, test)
    model, variables = experiment.model, place(state.variables)
    # The joint, and a conditional of the same draws.
    queries = evaluation.standard_queries(model)[:4:3]
    likelihoods = jm.estimate(model, variables, keys, batch, queries, SAMPLES)
    drawn = jm.generate(model, variables, jax.random.key(3), {}, targets=("image",), num_samples=3)
    return [one.value for one in likelihoods], drawn


def main(configs, out, start, coordinator, count, number):
    jax.distributed.initialize(coordinator, int(count), int(number), initialization_timeout=60)
    for name, entry in json.loads(pathlib.Path(configs).read_text()).items():
        config = ConfigDict(entry)
        devices = parallel.data_parallel(BATCH, config.train.strategy)
        state = None
        if start:
            experiment, _ = experiment_of(config)
            target = build.initial_state(config, experiment)
            _, state = Checkpoints(pathlib.Path(start) / name).restore(target)
        found, state = run(config, devices, state=state)
        whole = devices.replicate(state)
        Checkpoints(pathlib.Path(out) / name).save(int(state.step), whole)
        if parallel.is_first():
            np.savez(pathlib.Path(out) / f"{name}.npz", **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
