import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
MNIST = ROOT / "experiments" / "configs" / "mnist.py"


@pytest.fixture
def command(environment, tmp_path):
    """Runs a command of `experiments/` as a person would, and returns the finished process."""

    def run(script, *flags, wait=True, output="output.txt"):
        words = [sys.executable, str(ROOT / "experiments" / f"{script}.py"), *map(str, flags)]
        options = {"text": True, "env": environment, "cwd": tmp_path}
        if wait:
            return subprocess.run(words, capture_output=True, timeout=300, **options)
        with (tmp_path / output).open("w") as file:
            return subprocess.Popen(words, stdout=file, stderr=subprocess.STDOUT, **options)

    return run
