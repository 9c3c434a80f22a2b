"""Figures of several runs, as a person draws them."""

import numpy as np
import pytest
from PIL import Image
from run_folders import untrained_mnist


@pytest.fixture(scope="module")
def runs(tmp_path_factory, mnist_dir):
    folder = tmp_path_factory.mktemp("runs")
    variants = ("vae,smoke,latent_dim=2", "cvae,smoke,latent_dim=2", "jmvae_kl,smoke")
    return [untrained_mnist(folder / v.split(",")[0], v, mnist_dir) for v in variants]


def draw(command, tmp_path, figure, folders, *flags):
    out = tmp_path / f"{figure}.png"
    dirs = ",".join(map(str, folders))
    process = command("figures", f"--figure={figure}", f"--workdirs={dirs}", f"--out={out}", *flags)
    return process, out


def width_of(process, out):
    assert process.returncode == 0, process.stderr
    with Image.open(out) as picture:
        assert len(np.unique(np.asarray(picture))) > 50
        return picture.width


def test_the_latent_map_has_a_panel_for_each_run(command, tmp_path, runs):
    process, out = draw(command, tmp_path, "latent_map", runs[:2], "--num_examples=700")
    assert width_of(process, out) > 1200


@pytest.mark.slow
@pytest.mark.parametrize(
    ("figure", "chosen", "flags"),
    [
        ("label_to_image", [1, 2], ["--num_samples=3"]),
        ("reconstructions", [0, 1, 2], ["--num_examples=5"]),
        ("prior", [0, 2], ["--num_samples=4"]),
        ("interpolation", [0, 1, 2], ["--num_examples=4", "--num_samples=3"]),
    ],
)
def test_every_figure_is_drawn(command, tmp_path, runs, figure, chosen, flags):
    width_of(*draw(command, tmp_path, figure, [runs[i] for i in chosen], *flags))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("figure", "chosen", "flags", "words"),
    [
        ("latent_maps", [0], [], "did you mean 'latent_map'"),
        (
            "latent_map",
            [2],
            [],
            "needs a latent space of 2 dimensions: jmvae_kl, alpha 0.1 (step 1)",
        ),
        ("label_to_image", [0], [], "vae (step 1) has no label"),
        ("prior", [1], [], "cvae (step 1) draws only given ['label']"),
        ("interpolation", [0], ["--num_examples=3"], "num_examples=3: expected an even number"),
        ("prior", [0], ["--out=x.txt"], "ends in .png"),
    ],
)
def test_what_cannot_be_drawn_is_said(command, tmp_path, runs, figure, chosen, flags, words):
    process, out = draw(command, tmp_path, figure, [runs[i] for i in chosen], *flags)
    assert process.returncode == 1
    assert words in " ".join(process.stderr.split())
    assert not out.exists()
