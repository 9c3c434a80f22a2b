"""The table of the paper: made, stopped, gone on with, and left alone by what fails."""

import json
import pathlib
import re
import signal
import time

import numpy as np
import pytest

ROWS = "--rows=vae,jmvae_zero"
FLAGS = ("--table=mnist", "--epochs=3", "--smoke", "--num_samples=5", "--num_examples=50")
FLAGS += ("--num_images=20",)


def table_of(folder):
    return json.loads((folder / "table.json").read_text())


def without_minutes(table):
    for row in table["rows"].values():
        del row["minutes"]
    return table


def files(folder):
    return {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--table=celeb"], "table='celeb' is not known"),
        (["--rows=jmvae_k"], "rows='jmvae_k' is not known (did you mean 'jmvae_kl_1'"),
        (["--num_examples=10001"], "num_examples=10001: the test split has 10000"),
    ],
)
@pytest.mark.slow
def test_bad_flags_are_named_before_anything_is_made(command, tmp_path, flags, words):
    process = command("reproduce", *FLAGS, *flags, f"--out={tmp_path / 'out'}")
    assert process.returncode == 1
    assert words in " ".join(process.stderr.split())
    assert not list(tmp_path.rglob("table.json"))


def wait_for(condition, process, seconds=240):
    start = time.monotonic()
    while not condition() and process.poll() is None:
        assert time.monotonic() - start < seconds
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_table_that_was_stopped_is_the_unbroken_one(command, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    made = command("reproduce", *FLAGS, ROWS, f"--out={whole}")
    assert made.returncode == 0, made.stderr
    table = table_of(whole)
    assert list(table["rows"]) == ["vae", "jmvae_zero"]
    row = table["rows"]["jmvae_zero"]
    assert {"log p(x,w)", "log p(x|w) single", "log p(w|x) single", "VI multiple"} <= set(
        row["log_likelihood"]
    )
    assert all(np.isfinite(found["stderr"]) for found in row["log_likelihood"].values())
    assert row["coherence"]["label_to_image"]["count"] == 200
    (apart,) = table["differences"]
    assert (apart["first"], apart["second"]) == ("vae", "jmvae_zero")

    flags = (*FLAGS, ROWS, f"--out={broken}")
    # Once in the training of the first row, once in the evaluation of the second.
    output = tmp_path / "output.txt"
    moments = (
        (broken / "rows" / "vae" / "metrics.jsonl").exists,
        lambda: re.search(r"evaluate.py --workdir=\S+jmvae_zero.*50/50", output.read_text(), re.S),
    )
    for moment, row in zip(moments, ("vae", "jmvae_zero"), strict=True):
        running = command("reproduce", *flags, wait=False)
        wait_for(moment, running)
        running.send_signal(signal.SIGINT)
        assert running.wait(timeout=240) == 130
        assert "the same command goes on" in output.read_text()
        assert not (broken / "rows" / row / "results.json").exists()
    again = command("reproduce", *flags)
    assert again.returncode == 0, again.stderr
    assert "vae is finished" in again.stdout
    assert without_minutes(table_of(broken)) == without_minutes(table_of(whole))

    # What is finished is not made again, not even for another row.
    before = files(broken / "rows")
    idle = command("reproduce", *FLAGS, "--rows=vae", f"--out={broken}")
    assert idle.returncode == 0, idle.stderr
    assert files(broken / "rows") == before
    assert list(table_of(broken)["rows"]) == ["vae", "jmvae_zero"]

    other = command("reproduce", *FLAGS, "--epochs=4", f"--out={broken}")
    assert other.returncode == 1
    assert "It differs in epochs: 3 -> 4" in " ".join(other.stderr.split())
    assert files(broken / "rows") == before


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_row_that_fails_leaves_the_others_alone(command, tmp_path):
    out = tmp_path / "out"
    foreign = out / "rows" / "vae"
    foreign.mkdir(parents=True)
    (foreign / "results.json").write_text("{}")
    (foreign / "values.npz").write_bytes(b"")
    process = command("reproduce", *FLAGS, "--epochs=1", "--rows=vae,cmma", f"--out={out}")
    assert process.returncode == 1
    table = table_of(out)
    assert list(table["rows"]) == ["cmma"]
    assert set(table["failed"]) == {"vae"}
    assert "holds results that cannot be read" in table["failed"]["vae"]
    assert "| vae |" in (out / "table.md").read_text()
    assert list(table["rows"]["cmma"]["log_likelihood"]) == ["log p(x|w) multiple"]


@pytest.mark.slow
def test_one_process_at_a_time_works_in_a_folder(command, tmp_path):
    running = command("reproduce", *FLAGS, ROWS, f"--out={tmp_path / 'out'}", wait=False)
    lock = pathlib.Path(tmp_path / "out" / "rows")
    wait_for(lock.exists, running)
    second = command("reproduce", *FLAGS, ROWS, f"--out={tmp_path / 'out'}")
    assert second.returncode == 1
    assert "is in use by another process" in " ".join(second.stderr.split())
    running.send_signal(signal.SIGTERM)
    assert running.wait(timeout=120) == 143
