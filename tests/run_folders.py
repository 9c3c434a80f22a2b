"""Folders of runs that were never trained, for the commands that read one."""

from experiments import build, workdir
from experiments.configs import mnist
from jmvae_jax.training.checkpoints import Checkpoints


def untrained(folder, config, statistics=None):
    """Makes a run's folder with the parameters that training begins with."""
    state = build.initial_state(config, build.build(config, 1000, statistics))
    folder.mkdir()
    if statistics is not None:
        workdir.write_arrays(folder / workdir.STATISTICS_FILE, statistics)
    workdir.write_config(folder, config)
    Checkpoints(workdir.checkpoints_path(folder)).save(1, state)
    return folder


def untrained_mnist(folder, variant, data_dir):
    config = mnist.get_config(variant)
    config.data.data_dir = str(data_dir)
    config.data.train_split = "train[:300]"
    return untrained(folder, config)
