import errno
import gc
import json
import os
import resource
import shutil
import signal
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jmvae_jax import parallel
from jmvae_jax.training.checkpoints import CheckpointError, Checkpoints


def tree(value):
    return {"weights": jnp.full((300, 40), value), "step": jnp.asarray(int(value)), "none": {}}


@pytest.fixture
def three(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=3)
    for step in (10, 20, 30):
        checkpoints.save(step, tree(float(step)))
    return checkpoints


def biggest_file(checkpoints, step):
    files = (checkpoints.directory / str(step) / "state").rglob("*")
    return max((f for f in files if f.is_file()), key=lambda f: f.stat().st_size)


def test_the_newest_comes_back_to_the_bit(three):
    step, restored = three.restore(tree(0.0))
    assert step == 30
    np.testing.assert_array_equal(restored["weights"], tree(30.0)["weights"])
    assert restored["none"] == {}


@pytest.mark.parametrize("strategy", ["jit", "pmap"])
def test_what_eight_devices_saved_is_restored_on_one_and_the_other_way_round(tmp_path, strategy):
    eight = parallel.DataParallel(tuple(jax.devices()), strategy)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, eight.replicate(eight.fetch(eight.place(tree(1.0)))))
    _, one = checkpoints.restore(tree(0.0))
    assert all(len(leaf.devices()) == 1 for leaf in jax.tree.leaves(one))
    np.testing.assert_array_equal(one["weights"], tree(1.0)["weights"])
    checkpoints.save(2, one)
    _, again = checkpoints.restore(tree(0.0))
    back = eight.fetch(eight.place(again))
    np.testing.assert_array_equal(back["weights"], tree(1.0)["weights"])


def test_only_the_newest_are_kept(three):
    three.save(40, tree(40.0))
    assert three.steps() == [20, 30, 40]


@pytest.mark.filterwarnings("ignore:checkpoint")
def test_damaged_later_ones_do_not_push_out_what_is_whole(three):
    flip(biggest_file(three, 30))
    assert three.restore(tree(0.0))[0] == 20
    one = Checkpoints(three.directory, keep=1)
    one.save(25, tree(25.0))
    assert one.restore(tree(0.0))[0] == 25


def test_an_old_one_that_cannot_be_removed_is_told_and_tried_again(three, monkeypatch):
    remove = shutil.rmtree

    def busy(path, **options):
        if os.fspath(path).endswith("10"):
            raise OSError(errno.ENOTEMPTY, "Directory not empty")
        remove(path, **options)

    monkeypatch.setattr(shutil, "rmtree", busy)
    with pytest.warns(UserWarning, match="10 cannot be removed"):
        three.save(40, tree(40.0))
    monkeypatch.undo()
    assert three.steps() == [10, 20, 30, 40]
    assert three.restore(tree(0.0))[0] == 40
    three.save(50, tree(50.0))
    assert three.steps() == [30, 40, 50]


def test_one_that_is_removed_while_another_reads_is_no_damage(tmp_path, monkeypatch):
    """As beside a run that keeps one checkpoint and writes the next."""
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=1)
    checkpoints.save(10, tree(10.0))
    look = Checkpoints._damage

    def slow(self, step):
        if step == 10:
            checkpoints.save(20, tree(20.0))
        return look(self, step)

    monkeypatch.setattr(Checkpoints, "_damage", slow)
    step, restored = checkpoints.restore(tree(0.0))
    assert step == 20
    np.testing.assert_array_equal(restored["weights"], tree(20.0)["weights"])


def test_nothing_saved_is_nothing_restored(tmp_path):
    assert Checkpoints(tmp_path / "none").restore(tree(0.0)) is None


def truncate(path):
    path.write_bytes(path.read_bytes()[:-7])


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("damage", [truncate, flip, lambda path: path.unlink()])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(three, damage):
    damage(biggest_file(three, 30))
    with pytest.warns(UserWarning, match=r"30 is damaged"):
        step, restored = three.restore(tree(0.0))
    assert step == 20
    np.testing.assert_array_equal(restored["weights"], tree(20.0)["weights"])


def test_a_checkpoint_without_a_readable_manifest_is_damaged(three):
    (three.directory / "30" / "manifest.json").write_text("{")
    with pytest.warns(UserWarning, match=r"manifest\.json"):
        assert three.restore(tree(0.0))[0] == 20


@pytest.mark.filterwarnings("ignore:checkpoint")
def test_if_none_is_whole_an_error_says_so_and_touches_nothing(three):
    for step in three.steps():
        flip(biggest_file(three, step))
    before = sorted(three.directory.rglob("*"))
    with pytest.raises(CheckpointError, match="none of the checkpoints"):
        three.restore(tree(0.0))
    assert sorted(three.directory.rglob("*")) == before


def test_what_a_kill_left_unfinished_is_not_restored_and_is_cleared_away(three):
    left_over = three.directory / "unfinished-40" / "state"
    left_over.mkdir(parents=True)
    assert three.restore(tree(0.0))[0] == 30
    three.save(50, tree(50.0))
    assert not left_over.parent.exists()


# Orbax leaves the other writes of one that failed to a loop that it has closed.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_save_that_fails_leaves_the_earlier_ones(three, monkeypatch):
    # A limit on a file's size stands for a full disk.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    rng = np.random.default_rng(0)
    noise = {**tree(0.0), "weights": jnp.asarray(rng.normal(size=(300, 40)), jnp.float32)}
    try:
        with pytest.raises(OSError, match=r"checkpoint 40 could not be written .* as they were"):
            three.save(40, noise)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    gc.collect()  # what is left of those, here and in no later test
    assert three.steps() == [10, 20, 30]
    assert three.restore(tree(0.0))[0] == 30
    assert [p.name for p in three.directory.iterdir() if not p.name.isdigit()] == []


FULL_DISK = """
import sys, numpy as np
from jmvae_jax import parallel
from jmvae_jax.training.checkpoints import Checkpoints
checkpoints = Checkpoints(sys.argv[1])
small, large = ({"weights": np.random.default_rng(0).normal(size=n)} for n in (1000, 1000000))
checkpoints.save(10, small)
try:
    checkpoints.save(20, large)
except OSError as error:
    print(error)
left = sorted(path.name for path in checkpoints.directory.iterdir())
print(checkpoints.steps(), checkpoints.restore(small)[0], left)
"""


def test_a_full_disk_leaves_the_earlier_ones(tmp_path):
    mounted = f"mount -t tmpfs -o size=1m tmpfs {tmp_path}"
    within = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    if shutil.which("unshare") is None or subprocess.run([*within, mounted]).returncode:
        pytest.skip("no small disk can be mounted here")
    program = f"{mounted} && exec {sys.executable} -c '{FULL_DISK}' {tmp_path}/checkpoints"
    done = subprocess.run([*within, program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    error, found = done.stdout.splitlines()
    assert "checkpoint 20 could not be written" in error
    assert "No space left" in error
    assert found == "[10] 10 ['10']"


@pytest.mark.parametrize("stage", ["fsync", "rename"])
def test_a_disk_that_fills_up_after_the_arrays_leaves_the_earlier_ones(three, monkeypatch, stage):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, stage, full)
    with pytest.raises(OSError, match=r"checkpoint 40 could not be written .* No space left"):
        three.save(40, tree(40.0))
    monkeypatch.undo()
    assert three.restore(tree(0.0))[0] == 30
    assert sorted(p.name for p in three.directory.iterdir()) == ["10", "20", "30"]


def test_a_step_that_is_saved_again_replaces_the_old_one(three):
    three.save(30, tree(31.0))
    assert float(three.restore(tree(0.0))[1]["weights"][0, 0]) == 31.0


def test_the_manifest_lists_every_file(three):
    folder = three.directory / "30"
    listed = json.loads((folder / "manifest.json").read_text())["sha256"]
    found = {str(p.relative_to(folder / "state")) for p in (folder / "state").rglob("*")}
    assert set(listed) == {name for name in found if (folder / "state" / name).is_file()}


def test_other_shapes_than_the_saved_ones_are_refused(three):
    with pytest.raises(ValueError, match="shape"):
        three.restore({**tree(0.0), "weights": jnp.zeros((2, 2))})


def test_keeping_none_is_refused(tmp_path):
    with pytest.raises(ValueError, match="keep=0"):
        Checkpoints(tmp_path, keep=0)
