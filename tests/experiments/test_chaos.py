"""Runs that are killed again and again, and the comparison that has to find one bit."""

import pathlib
import re
import shutil

import jax
import numpy as np
import pytest

from benchmarks import chaos
from experiments import build, workdir
from experiments.configs import mnist
from jmvae_jax.training.checkpoints import Checkpoints
from jmvae_jax.training.metrics import RunLog

CONFIGS = pathlib.Path(__file__).resolve().parents[2] / "experiments" / "configs"


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("config", "kills", "flag"),
    [
        ("mnist.py:jmvae_kl,smoke", 5, "--config.train.average_decay=0.9"),
        ("synthetic_faces.py:jmvae_gan,smoke", 2, "--config.train.validate_every=4"),
    ],
)
def test_a_run_killed_again_and_again_ends_as_the_unbroken_one(
    command, tmp_path, config, kills, flag
):
    words = (f"--config={CONFIGS / config}", f"--kills={kills}", flag)
    process = command("../benchmarks/chaos", *words, wait=False)
    try:
        status = process.wait(timeout=1700)
    finally:
        process.terminate()
    output = (tmp_path / "output.txt").read_text()
    assert status == 0, output
    found = re.search(r"(\d+) kills, (\d+) of them during a save: all (\d+) arrays equal", output)
    made, during_save, arrays = map(int, found.groups())
    assert made == len(re.findall(r"^kill .*step \d+", output, re.MULTILINE)) >= kills
    assert during_save >= kills / 4
    assert arrays > 100


@pytest.fixture(scope="module")
def untrained():
    config = mnist.get_config("vae,smoke,latent_dim=2")
    return config, build.initial_state(config, build.build(config, 1000))


def made_run(folder, untrained, change=lambda leaf: leaf, loss=1.5, speed=20.0, steps=(1, 2)):
    """The folder of a run; `change` is made to one array of zeros of the optimiser."""
    config, state = untrained
    leaves, structure = jax.tree.flatten(state.opt_state)
    place = next(i for i, leaf in enumerate(leaves) if leaf.ndim == 2)
    leaves[place] = change(leaves[place])
    state = state.replace(opt_state=jax.tree.unflatten(structure, leaves))
    folder.mkdir()
    workdir.write_config(folder, config)
    log = RunLog(folder)
    for step in steps:
        log.write("train", step, step, {"loss": loss, "examples_per_second": speed})
        Checkpoints(workdir.checkpoints_path(folder)).save(step, state)
    log.close()
    return folder


def test_runs_that_differ_in_speed_alone_are_equal(tmp_path, untrained):
    whole = made_run(tmp_path / "whole", untrained)
    broken = made_run(tmp_path / "broken", untrained, speed=3.0)
    assert re.match(
        r"all \d+ arrays equal .*; 2 rows of metrics equal", chaos.compare(whole, broken)
    )


@pytest.mark.parametrize(
    ("difference", "words"),
    [
        (
            {"change": lambda zeros: zeros.at[1, 1].set(-0.0)},
            r"1 of \d+ arrays differ, the first are \.opt_state",
        ),
        ({"loss": np.nextafter(1.5, 2)}, r"rows of metrics differ.*\n.*1\.5}\n.*1\.50+2}"),
        ({"steps": (2,)}, "rows of metrics differ"),
    ],
)
def test_the_smallest_difference_is_found(tmp_path, untrained, difference, words):
    whole = made_run(tmp_path / "whole", untrained)
    broken = made_run(tmp_path / "broken", untrained, **difference)
    with pytest.raises(chaos.ChaosError, match=words):
        chaos.compare(whole, broken)


def test_what_a_kill_left_lying_about_is_found(tmp_path, untrained):
    whole = made_run(tmp_path / "whole", untrained)
    broken = shutil.copytree(whole, tmp_path / "broken")
    (broken / "checkpoints" / "unfinished-1").mkdir()
    with pytest.raises(chaos.ChaosError, match="unfinished-1"):
        chaos.compare(whole, broken)


@pytest.mark.parametrize(
    "other", [{}, {"w": np.zeros(3, np.int32)}, {"w": np.zeros((3, 1), np.float32)}]
)
def test_arrays_of_other_names_shapes_and_types_differ(other):
    assert chaos.different_arrays({"w": np.zeros(3, np.float32)}, other) == ["w"]
    assert chaos.different_arrays(other, {"w": np.zeros(3, np.float32)}) == ["w"]


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Starts a script of one's own in the place of train.py; its folder is `run`."""
    monkeypatch.setattr(chaos, "ROOT", tmp_path)
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (tmp_path / "experiments").mkdir()
    head = f"import pathlib, sys, time\nrun = pathlib.Path({str(run)!r})\n"

    def begin(script):
        (tmp_path / "experiments" / "train.py").write_text(head + script)
        return chaos.Start([], run, {})

    return begin


SAVE = """
(run / "config.json").write_text("{}")
(run / "checkpoints" / "unfinished-20").mkdir(exist_ok=True)
(run / "checkpoints" / "unfinished-20" / "part").mkdir()
time.sleep(60)
"""


def test_a_kill_during_a_save_is_told_from_what_an_earlier_one_left(start):
    with start(SAVE) as first:
        first.follow("save")
    assert first.state() == "save"
    with start("time.sleep(60)") as second:
        second.follow("start-up")
        second.wait(0.1)
        assert second.kill()
    assert second.state() == "start-up"
    with start(SAVE.replace("part", "other")) as third:
        third.follow("save")
    assert third.state() == "save"
    assert set(third.lengths()) >= {"start-up"}


def test_a_start_that_fails_shows_what_it_said(start):
    with (
        start("sys.exit('no space left')") as failing,
        pytest.raises(chaos.ChaosError, match=r"status 1 after step 0:\nno space left"),
    ):
        failing.finish()
    assert not failing.kill()


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("print('going on from step 10 of 40')", "went on from step 10, where step 20"),
        ("(run / 'config.json').write_text('{}')", "went on from step 0, where step 20"),
    ],
)
def test_going_on_from_another_than_the_newest_is_found(start, tmp_path, script, words):
    (tmp_path / "run" / "checkpoints" / "20").mkdir()
    with start(script) as wrong, pytest.raises(chaos.ChaosError, match=words):
        wrong.finish()
    with start("print('going on from step 20 of 40')") as right:
        right.finish()
