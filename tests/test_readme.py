"""What the README shows runs: its Python as it stands, its commands in smoke form."""

import pathlib
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest
from run_folders import untrained_mnist

ROOT = pathlib.Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


# Commands that need files of the reader's own, or a run of faces: they have tests of their own.
FILES = re.compile("fashion|celeb_a|image_attributes|edit.py")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def run(words, folder, environment):
    done = subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_python_examples_run_from_top_to_bottom(mnist_dir, tmp_path, monkeypatch):
    (tmp_path / "runs").mkdir()
    untrained_mnist(tmp_path / "runs" / "mnist_jmvae_kl_5_epochs", "jmvae_kl,smoke", mnist_dir)
    monkeypatch.chdir(tmp_path)
    # One clone, one session: somebody who types the blocks one after the other.
    namespace = {"__name__": "readme"}
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), namespace)
    assert namespace["digits"].shape == (8, 10, 28, 28, 1)
    assert namespace["logp"].shape == namespace["conditional"].shape == (32,)
    assert np.isfinite(float(namespace["elbo"]))
    assert np.isfinite(namespace["bound"].elbo).all()
    assert np.isfinite(float(namespace["loss"]))


def test_every_target_and_file_that_is_named_exists():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`?make ([a-z-]+)", README):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / link).exists(), link


@pytest.mark.slow
def test_the_commands_run_in_smoke_form(environment, tmp_path):
    experiments = tmp_path / "experiments"
    experiments.symlink_to(ROOT / "experiments")
    commands = [
        shlex.split(line)
        for block in blocks("bash")
        for line in block.splitlines()
        if line.startswith("python experiments/") and not FILES.search(line)
    ]
    assert len(commands) == 5
    for _, script, *flags in commands:
        smoke = [f"{flag},smoke" if flag.startswith("--config=") else flag for flag in flags]
        smoke = [flag for flag in smoke if not flag.startswith("--config.train.epochs")]
        smoke = [re.sub(r"num_samples=\d+", "num_samples=5", flag) for flag in smoke]
        if "evaluate" in script:
            smoke.append("--num_examples=50")
        if "reproduce" in script:
            smoke += ["--smoke", "--epochs=1", "--rows=jmvae_zero,jmvae_kl_0.1"]
            smoke += ["--num_samples=5", "--num_examples=50", "--num_images=10"]
        run([sys.executable, script, *smoke], tmp_path, environment)
    assert (tmp_path / "runs" / "kl" / "results.json").exists()
    assert (tmp_path / "runs" / "kl" / "digits.png").exists()
    assert (tmp_path / "runs" / "table" / "table.md").exists()
    assert (tmp_path / "runs" / "digits.png").exists()
