"""The commands, run as a person runs them."""

import gzip
import hashlib
import json
import pathlib
import re
import signal
import time

import jax
import numpy as np
import pytest
from grids import some_of
from PIL import Image
from run_folders import untrained_mnist

from experiments import build, workdir
from jmvae_jax.data import mnist, prepare
from jmvae_jax.training.checkpoints import Checkpoints
from jmvae_jax.training.metrics import read_rows

MNIST = pathlib.Path(__file__).resolve().parents[2] / "experiments" / "configs" / "mnist.py"
SMOKE = f"--config={MNIST}:jmvae_kl,smoke"
TRAIN_KEYS = {
    "step",
    "epoch",
    "split",
    "loss",
    "elbo",
    "rate",
    "reconstruction/image",
    "reconstruction/label",
    "alignment/image",
    "alignment/label",
    "beta",
    "learning_rate",
    "grad_norm",
    "clipped",
    "examples_per_second",
}


def one_paragraph(process, status):
    """The words of an error: nothing on the screen but one paragraph."""
    assert process.returncode == status, process.stderr
    assert "Traceback" not in process.stderr
    errors = process.stderr[process.stderr.index("error: ") :].strip()
    assert "\n\n" not in errors
    return " ".join(errors.split())


def test_train_evaluate_generate_and_load(command, tmp_path):
    trained = command("train", SMOKE, "--profile_steps=5,8", f"--workdir={tmp_path / 'run'}")
    assert trained.returncode == 0, trained.stderr
    assert list((tmp_path / "run" / "plugins" / "profile").rglob("*.xplane.pb"))
    rows = read_rows(tmp_path / "run", "train")
    assert all(set(row) == TRAIN_KEYS for row in rows)
    assert rows[-1]["loss"] < rows[0]["loss"]
    seen = read_rows(tmp_path / "run", "validation")
    assert [row["step"] for row in seen] == [10, 20]
    assert set(seen[0]) <= TRAIN_KEYS

    flags = ("--num_samples=20", "--num_examples=50")
    evaluated = command("evaluate", f"--workdir={tmp_path / 'run'}", *flags)
    assert evaluated.returncode == 0, evaluated.stderr
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    entry = results["log_likelihood"][0]
    assert entry["target"] == ["image", "label"]
    assert entry["given"] == []
    assert entry["estimator"] == "importance"
    assert (entry["num_samples"], entry["num_examples"]) == (20, 50)
    assert {"proposal", "estimate", "stderr", "mc_stderr", "ess"} <= set(entry)
    assert f"{entry['estimate']:.2f}" in evaluated.stdout
    assert 0 <= results["accuracy"]["label"] <= 1

    picture = tmp_path / "digits.png"
    cache = f"--compile_cache={tmp_path / 'compiled'}"
    drawn = command("generate", f"--workdir={tmp_path / 'run'}", f"--out={picture}", cache)
    assert drawn.returncode == 0, drawn.stderr
    assert list((tmp_path / "compiled").iterdir())
    with Image.open(picture) as image:
        assert min(image.size) > 300

    run = build.load_run(tmp_path / "run")
    z = run.model.apply(
        run.variables, {"label": np.eye(10, dtype=np.float32)}, ("label",), method="posterior"
    )
    assert z.mean.shape == (10, 64)
    assert int(run.state.step) == 20
    assert run.config.train.epochs == 2
    assert set(run.transforms) == {"image", "label"}


def arrays(workdir):
    """Every array of the newest checkpoint."""
    return jax.tree.leaves(build.load_run(workdir).state)


@pytest.mark.slow
def test_a_killed_run_ends_as_the_unbroken_one_to_the_last_bit(command, tmp_path):
    flags = (SMOKE, "--config.train.epochs=4", "--config.data.train_split=train[:6000]")
    whole = command("train", *flags, f"--workdir={tmp_path / 'whole'}")
    assert whole.returncode == 0, whole.stderr
    broken = command("train", *flags, f"--workdir={tmp_path / 'broken'}", wait=False)
    checkpoints = Checkpoints(tmp_path / "broken" / "checkpoints")
    while not checkpoints.steps() and broken.poll() is None:
        time.sleep(0.01)
    broken.send_signal(signal.SIGKILL)
    assert broken.wait() == -signal.SIGKILL
    resumed = command("train", *flags, f"--workdir={tmp_path / 'broken'}")
    assert resumed.returncode == 0, resumed.stderr
    assert re.search(r"going on from step \d+ of 240", resumed.stdout)
    for a, b in zip(arrays(tmp_path / "whole"), arrays(tmp_path / "broken"), strict=True):
        np.testing.assert_array_equal(a, b)
    steps = [row["step"] for row in read_rows(tmp_path / "broken", "train")]
    assert steps == [row["step"] for row in read_rows(tmp_path / "whole", "train")]


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)],
)
def test_a_stop_request_saves_and_says_how_to_go_on(command, tmp_path, number, status):
    flags = (SMOKE, "--config.train.epochs=500", "--config.train.checkpoint_every=1000")
    running = command("train", *flags, f"--workdir={tmp_path / 'run'}", wait=False)
    metrics = tmp_path / "run" / "metrics.jsonl"
    while not (metrics.exists() and metrics.read_text()) and running.poll() is None:
        time.sleep(0.05)
    running.send_signal(number)
    assert running.wait(timeout=120) == status
    output = (tmp_path / "output.txt").read_text()
    step = int(re.search(r"stopped at step (\d+) and saved", output).group(1))
    assert Checkpoints(tmp_path / "run" / "checkpoints").steps() == [step]


@pytest.mark.slow
def test_another_data_set_takes_one_override(command, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    payloads = {}
    for part, count in (("train", 1000), ("t10k", 200)):
        for kind, shape in (("images-idx3", (count, 28, 28)), ("labels-idx1", (count,))):
            header = bytes((0, 0, 8, len(shape))) + np.array(shape, ">u4").tobytes()
            top = 256 if len(shape) == 3 else 10
            body = rng.integers(0, top, shape, np.uint8).tobytes()
            payloads[f"{part}-{kind}-ubyte"] = header + body
    # Only the true files have the true sums: garments that nobody wore have sums of their own.
    sums = tuple(hashlib.sha256(payload).hexdigest() for payload in payloads.values())
    monkeypatch.setitem(mnist._SHA256, "fashion_mnist", sums)
    manual = tmp_path / "manual"
    manual.mkdir()
    for name, payload in payloads.items():
        (manual / f"{name}.gz").write_bytes(gzip.compress(payload, compresslevel=1))
    prepare("fashion_mnist", data_dir=tmp_path / "data", manual_dir=manual)
    override = "--config.data.dataset=fashion_mnist"
    place = f"--config.data.data_dir={tmp_path / 'data'}"
    trained = command("train", SMOKE, override, place, f"--workdir={tmp_path / 'run'}")
    assert trained.returncode == 0, trained.stderr
    assert "on fashion_mnist" in trained.stdout


@pytest.mark.parametrize(
    ("flags", "nearest"),
    [
        ([SMOKE, "--config.train.alhpa=1"], "config.objective.alpha"),
        pytest.param(
            [SMOKE, "--config.train.lerning_rate=1"],
            "config.train.learning_rate",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["--config", f"{MNIST}:jmvae_kl,smoke", "-config.train.epoch=1"],
            "config.train.epochs",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_an_unknown_key_names_the_nearest(command, tmp_path, flags, nearest):
    process = command("train", *flags, f"--workdir={tmp_path}")
    assert nearest in one_paragraph(process, 2)
    assert list(tmp_path.iterdir()) == []


def test_help_says_what_a_command_does_and_its_flags(command):
    process = command("evaluate", "--help")
    assert (process.returncode, process.stderr) == (0, "")
    assert process.stdout.startswith("Likelihoods, accuracies and coherence of a trained run")
    for flag in ("--workdir: ", "--num_samples: ", "--traceback: ", "--coordinator: "):
        assert flag in process.stdout.replace("[no]", "")


@pytest.mark.parametrize(
    ("flags", "status", "words"),
    [
        ([f"--config={MNIST}:foo"], 2, "variant 'foo' is not known"),
        ([SMOKE, "--config.data.dataset=fashion_mnist"], 1, "manual_dir"),
        *(
            pytest.param([SMOKE, flag], status, words, marks=pytest.mark.slow)
            for flag, status, words in (
                ("--config.train.epochs=many", 2, "many"),
                ("--config.train.schedule=cosin", 1, "'cosine'"),
                ("--config.data.dataset=mnits", 1, "mnist"),
                ("--config.data.train_split=trian", 1, "train (60000 examples)"),
                ("--config.data.validation_split=tset", 1, "test (10000 examples)"),
                ("--config.modalities.label.shape=(5,)", 1, "labels from 0 to 9"),
                ("--profile_steps=20,10", 1, "expected FIRST,LAST"),
                ("--profile_steps=5000,5001", 1, "the run ends at step 20"),
                ("epochs=3", 2, "epochs=3"),
                ("--noconfig.data.downlod", 2, "write --config.KEY=VALUE"),
            )
        ),
    ],
)
def test_bad_input_is_one_paragraph(command, tmp_path, flags, status, words):
    process = command("train", *flags, f"--workdir={tmp_path / 'run'}")
    assert words in one_paragraph(process, status)
    assert not (tmp_path / "run" / "config.json").exists()


@pytest.mark.parametrize("flag", ["--num_images=7", "--num_proposals=20"])
def test_what_is_of_coherence_is_refused_without_it(command, tmp_path, flag):
    process = command("evaluate", f"--workdir={tmp_path}", flag)
    assert "used with --coherence only, which is off" in one_paragraph(process, 1)


def test_a_folder_with_another_run_is_refused_and_left_alone(command, tmp_path, mnist_dir):
    run = untrained_mnist(tmp_path / "run", "jmvae_kl,smoke", mnist_dir)
    (run / ".lock").touch()  # every command leaves it there
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    process = command("train", SMOKE, "--config.seed=1", f"--workdir={run}")
    assert "seed: 0 -> 1" in one_paragraph(process, 1)
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("script", some_of(["evaluate", "generate"], "evaluate"))
def test_commands_on_no_run_say_so(command, tmp_path, script):
    empty = tmp_path / "empty"
    empty.mkdir()
    out = [f"--out={tmp_path / 'x.png'}"] if script == "generate" else []
    process = command(script, f"--workdir={empty}", *out)
    assert "holds no run" in one_paragraph(process, 1)
    assert list(empty.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--given=sound"], "given='sound' is not known"),
        (["--out=digits.txt"], "ends in .png"),
        (["--target=label"], "target='label' cannot be shown"),
    ],
)
@pytest.mark.slow
def test_generate_names_what_the_model_lacks(command, tmp_path, mnist_dir, flags, words):
    run = untrained_mnist(tmp_path / "run", "jmvae_kl,smoke", mnist_dir)
    flags = [f"--out={tmp_path / 'x.png'}", *flags]
    process = command("generate", f"--workdir={run}", *flags)
    assert words in one_paragraph(process, 1)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["vae", "jmvae_zero", "jmvae_zero,latent_dim=2"])
def test_every_variant_runs_from_training_to_pictures(command, tmp_path, variant):
    run = tmp_path / "run"
    trained = command("train", f"--config={MNIST}:{variant},smoke", f"--workdir={run}")
    assert trained.returncode == 0, trained.stderr
    flags = ("--num_samples=5", "--num_examples=20")
    evaluated = command("evaluate", f"--workdir={run}", *flags)
    assert evaluated.returncode == 0, evaluated.stderr
    for given in ("", "image"):
        out = tmp_path / f"from_{given}.png"
        drawn = command("generate", f"--workdir={run}", f"--given={given}", f"--out={out}")
        assert drawn.returncode == 0, drawn.stderr
        assert out.stat().st_size > 1000


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        ["--config.train.strategy=pmap"],
        ["--config.train.average_decay=0.9", "--config.train.schedule=warmup_cosine"],
    ],
)
def test_options_of_training_run(command, tmp_path, options):
    trained = command("train", SMOKE, *options, f"--workdir={tmp_path / 'run'}")
    assert trained.returncode == 0, trained.stderr
    assert np.isfinite(read_rows(tmp_path / "run", "validation")[-1]["loss"])


@pytest.mark.slow
def test_a_run_goes_on_with_more_epochs_and_by_another_strategy_and_not_with_fewer(
    command, tmp_path
):
    flags = (SMOKE, "--config.train.warmup_fraction=0", f"--workdir={tmp_path / 'run'}")
    assert command("train", *flags).returncode == 0
    longer = command("train", *flags, "--config.train.epochs=3", "--config.train.strategy=pmap")
    assert longer.returncode == 0, longer.stderr
    assert "going on from step 20 of 30" in longer.stdout
    fewer = one_paragraph(command("train", *flags, "--config.train.epochs=1"), 1)
    assert "train.epochs=1 are 10 steps, and the run has done 30" in fewer
    assert workdir.read_config(tmp_path / "run").train.epochs == 3


@pytest.mark.slow
def test_devices_that_are_not_there_are_refused(command, tmp_path):
    flags = (SMOKE, f"--workdir={tmp_path / 'run'}")
    many = one_paragraph(command("train", *flags, "--config.train.num_devices=2"), 1)
    assert "num_devices=2: expected between 1 and the 1 there are" in many
    odd = one_paragraph(command("train", *flags, "--config.train.accumulate=7"), 1)
    assert "batch_size=100 is not shared evenly by 1 devices, 7 parts each: expected 98 or" in odd
    named = one_paragraph(command("train", *flags, "--config.train.precision=float16"), 1)
    assert "train.precision='float16' is not known" in named
