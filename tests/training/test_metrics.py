import json

import numpy as np

from jmvae_jax.training.metrics import RunLog, read_rows


def test_rows_are_one_object_a_line(tmp_path):
    log = RunLog(tmp_path)
    log.write("train", 10, 0.5, {"loss": 1.5})
    log.write("validation", 10, 0.5, {"loss": 2.5})
    log.close()
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[0]) == {"step": 10, "epoch": 0.5, "split": "train", "loss": 1.5}
    assert [row["loss"] for row in read_rows(tmp_path, "validation")] == [2.5]


def test_after_a_resume_each_step_stands_there_once(tmp_path):
    log = RunLog(tmp_path)
    for step in (10, 20, 30):
        log.write("train", step, step / 10, {"loss": float(step)})
    log.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 40, "epo')  # cut short by a kill
    log = RunLog(tmp_path, step=20)
    log.write("train", 30, 3.0, {"loss": 31.0})
    log.close()
    rows = read_rows(tmp_path)
    assert [(row["step"], row["loss"]) for row in rows] == [(10, 10.0), (20, 20.0), (30, 31.0)]


def test_tensorboard_gets_scalars_and_pictures(tmp_path):
    log = RunLog(tmp_path)
    log.write("train", 10, 0.5, {"loss": 1.5})
    log.image("digits", 10, np.zeros((4, 6, 3), np.uint8))
    log.close()
    (events,) = tmp_path.glob("events.out.tfevents.*")
    content = events.read_bytes()
    assert b"train/loss" in content
    assert b"digits" in content
    assert b"PNG" in content
