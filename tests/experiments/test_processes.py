"""Several processes of one run: their flags, a stop that all agree on, and one that is lost."""

import pathlib
import re
import signal
import time

import pytest
from absl import flags
from absl.testing import flagsaver

from experiments import processes
from jmvae_jax.training.checkpoints import Checkpoints
from jmvae_jax.training.metrics import read_rows

MNIST = pathlib.Path(__file__).resolve().parents[2] / "experiments" / "configs" / "mnist.py"
ENDLESS = (
    f"--config={MNIST}:jmvae_kl,smoke",
    "--config.train.epochs=5000",
    "--config.train.validate_every=5000",
    "--config.train.checkpoint_every=5000",
)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"num_processes": 2}, "--coordinator is missing"),
        ({"coordinator": "here:1", "num_processes": 2}, "--process_id is missing"),
        ({"coordinator": "here", "num_processes": 2, "process_id": 0}, "expected HOST:PORT"),
        ({"coordinator": "h:1", "num_processes": 2, "process_id": 2}, "process_id=2: expected"),
        ({"distributed": True, "process_id": 1}, "--distributed finds out what --process_id says"),
    ],
)
def test_flags_that_name_no_processes_are_refused(given, words):
    flags.FLAGS.mark_as_parsed()
    with flagsaver.flagsaver(**given), pytest.raises(ValueError, match=words):
        processes.join()


def test_without_a_cluster_there_is_nothing_to_join(command, tmp_path):
    refused = command("train", *ENDLESS, f"--workdir={tmp_path / 'run'}", "--distributed")
    assert refused.returncode == 1
    assert "error: --distributed found no cluster" in refused.stderr
    assert not (tmp_path / "run").exists()


def test_without_flags_a_process_is_alone():
    flags.FLAGS.mark_as_parsed()
    processes.join()


@pytest.fixture
def pair(command, tmp_path, free_port):
    """Two processes that train in one folder; afterwards none of them is left."""
    address, running = f"127.0.0.1:{free_port()}", []
    for number in range(2):
        among = (f"--coordinator={address}", "--num_processes=2", f"--process_id={number}")
        output = f"output_{number}.txt"
        flags = (*ENDLESS, f"--workdir={tmp_path / 'run'}", *among)
        running.append(command("train", *flags, wait=False, output=output))
    metrics = tmp_path / "run" / "metrics.jsonl"
    while not (metrics.exists() and metrics.read_text()):
        assert all(process.poll() is None for process in running), words(tmp_path, 0)
        time.sleep(0.05)
    yield running
    for process in running:
        process.kill()
        process.wait()


def words(folder, number):
    return (folder / f"output_{number}.txt").read_text()


def test_one_process_is_asked_and_all_stop_at_one_step(pair, command, tmp_path):
    pair[1].send_signal(signal.SIGTERM)
    assert [process.wait(timeout=120) for process in pair] == [143, 143]
    step = int(re.search(r"stopped at step (\d+) and saved", words(tmp_path, 0))[1])
    assert "2 device(s) (cpu) of 2 process(es)" in words(tmp_path, 0)
    assert "step" not in words(tmp_path, 1)  # the first process speaks for all
    run = tmp_path / "run"
    assert Checkpoints(run / "checkpoints").steps() == [step]
    assert [row["step"] for row in read_rows(run, "train")][-1] == step


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
def test_a_lost_process_ends_the_other_within_two_minutes(pair, tmp_path, lost):
    pair[lost].send_signal(signal.SIGKILL)
    assert pair[1 - lost].wait(timeout=120) != 0
    assert "another task died" in words(tmp_path, 1 - lost)


@pytest.mark.slow
def test_a_frozen_process_ends_the_other_within_two_minutes(pair, tmp_path):
    pair[1].send_signal(signal.SIGSTOP)
    assert pair[0].wait(timeout=120) != 0
    assert "another task died" in words(tmp_path, 0)
