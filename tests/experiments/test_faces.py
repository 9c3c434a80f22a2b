"""Runs of faces, as a person makes them: trained, judged, drawn, edited."""

import json
import pathlib

import celeb_a_files
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import run_folders
from PIL import Image

from experiments import build, face_figures, inputs, scores
from experiments.configs import synthetic_faces
from jmvae_jax import data

CONFIGS = pathlib.Path(__file__).resolve().parents[2] / "experiments" / "configs"
DATASET = "synthetic_faces/64_small"


@pytest.fixture(scope="module")
def faces_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faces")
    data.prepare(DATASET, data_dir=folder)
    return folder


def untrained(folder, variant, faces_dir):
    """A run's folder with the parameters that training begins with."""
    config = synthetic_faces.get_config(f"{variant},smoke")
    config.data.data_dir = str(faces_dir)
    return run_folders.untrained(folder, config, inputs.load_statistics(config))


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory, faces_dir):
    return untrained(tmp_path_factory.mktemp("runs") / "kl", "jmvae_kl", faces_dir)


@pytest.fixture(scope="module")
def portraits(tmp_path_factory):
    """A photograph's size and kinds: a JPEG, a grey PNG, an RGBA PNG, and a text."""
    folder = tmp_path_factory.mktemp("portraits")
    photo = celeb_a_files.picture(3, (900, 1200))
    photo.save(folder / "portrait.jpg")
    photo.convert("L").save(folder / "grey.png")
    photo.convert("RGBA").save(folder / "rgba.png")
    (folder / "notes.txt").write_text("no picture at all\n")
    return folder


def test_a_run_loads_with_what_it_keeps_of_its_data(run_dir, faces_dir, tmp_path):
    run = build.load_run(run_dir)
    stored = inputs.load_split(run.config, "test[:5]")
    keys = jax.random.split(jax.random.key(0), 5)
    read = run.transforms["image"](keys, stored["image"])
    moments = data.pixel_statistics(DATASET, data_dir=faces_dir)
    expected = (stored["image"] / 255 - moments["mean"]) / moments["deviation"]
    np.testing.assert_allclose(read, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(run.showing["image"](read), stored["image"] / 255, atol=1e-5)
    assert scores.attribute_modality(run) == "attributes"
    assert len(run.statistics["visible"]) >= 30


def test_adversarial_state_is_kept_and_restored(tmp_path, faces_dir):
    run = build.load_run(untrained(tmp_path / "gan", "cmma_gan", faces_dir))
    assert set(run.state.opt_state) == {"encoders", "generator", "discriminator"}
    assert run.state.adversary
    assert "batch_stats" in run.variables


def edit(command, tmp_path, run_dir, image, *flags):
    out = tmp_path / "edited.png"
    flags = flags or ("--set", "Smiling=2", "--set", "Male=-2")
    return command("edit", f"--workdir={run_dir}", f"--image={image}", *flags, f"--out={out}"), out


@pytest.mark.parametrize(
    "name",
    ["rgba.png", *(pytest.param(n, marks=pytest.mark.slow) for n in ("portrait.jpg", "grey.png"))],
)
def test_a_portrait_of_any_kind_is_edited(command, tmp_path, run_dir, portraits, name):
    process, out = edit(command, tmp_path, run_dir, portraits / name)
    assert process.returncode == 0, process.stderr
    assert "cropped to" in process.stdout
    assert "0,150,900" in process.stdout
    assert "attributes that are read: " in process.stdout
    with Image.open(out) as picture:
        assert len(np.unique(np.asarray(picture))) > 50


@pytest.mark.slow
@pytest.mark.parametrize(
    ("image", "flags", "words"),
    [
        ("notes.txt", (), "notes.txt' is no picture that can be read"),
        ("nobody.png", (), "there is no such file"),
        ("grey.png", ("--set", "Smilling=2"), "nearest: 'Smiling'"),
        ("grey.png", ("--crop=center",), "at least one change"),
    ],
)
def test_what_cannot_be_edited_is_one_paragraph(
    command, tmp_path, run_dir, portraits, image, flags, words
):
    process, out = edit(command, tmp_path, run_dir, portraits / image, *flags)
    assert process.returncode == 1
    assert "Traceback" not in process.stderr
    assert words in " ".join(process.stderr.split())
    assert not out.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "figure",
    [
        "attributes",
        "average_faces",
        "random_faces",
        "attribute_latent",
        "edits",
        "prior",
        "reconstructions",
    ],
)
def test_every_figure_of_faces_is_drawn(command, tmp_path, run_dir, figure):
    out = tmp_path / f"{figure}.png"
    flags = ("--num_examples=3",)
    process = command(
        "figures", f"--figure={figure}", f"--workdirs={run_dir}", f"--out={out}", *flags
    )
    assert process.returncode == 0, process.stderr
    with Image.open(out) as picture:
        assert len(np.unique(np.asarray(picture))) > 50


def test_random_faces_are_of_a_gaussian_and_of_nothing_else(run_dir, monkeypatch, tmp_path):
    monkeypatch.setattr(face_figures, "_posterior", lambda *_: dist.Gamma(jnp.ones((1, 3))))
    faces = face_figures.Faces(build.load_run(run_dir), ("Smiling=2",), 2, "test", 0)
    with pytest.raises(ValueError, match=r"workdirs: .* is a Gamma: this figure needs a diagonal"):
        face_figures.random_faces(faces, tmp_path / "faces.png")


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("variant", ["jmvae_gan", "cvae", "vae_gan"])
def test_a_run_of_faces_is_trained_and_judged(command, tmp_path, faces_dir, variant):
    run = tmp_path / "run"
    config = f"--config={CONFIGS / 'synthetic_faces.py'}:{variant},smoke"
    trained = command("train", config, f"--config.data.data_dir={faces_dir}", f"--workdir={run}")
    assert trained.returncode == 0, trained.stderr
    evaluated = command("evaluate", f"--workdir={run}", "--num_samples=2", "--coherence")
    assert evaluated.returncode == 0, evaluated.stderr
    results = json.loads((run / "results.json").read_text())
    sets = {"from_attributes"} if variant == "cvae" else {"from_prior"}
    sets |= {"from_attributes"} if variant == "jmvae_gan" else set()
    assert set(results["coherence"]["frechet_distance"]) == sets
    assert set(results["coherence"]["sharpness"]) == {"real", *sets}
    assert ("attributes" in results) is (variant == "jmvae_gan")
    if variant == "jmvae_gan":
        assert 0.3 < results["attributes"]["balanced_accuracy"] < 0.9
        assert len(results["attributes"]["per_attribute"]) == 40
        assert "attributes_to_image" in results["coherence"]


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("layout", ["zip and txt", "folder and csv"])
def test_celeb_a_as_people_have_it_trains(command, tmp_path, layout):
    files, folder = celeb_a_files.make(500), tmp_path / "celeba"
    folder.mkdir()
    if layout == "zip and txt":
        files.write_zip(folder)
        files.write_txt(folder)
    else:
        files.write_folder(folder, "img_align_celeba/img_align_celeba")
        files.write_csv(folder)
    process = command(
        "train",
        f"--config={CONFIGS / 'celeb_a.py'}:jmvae_gan,smoke",
        f"--config.data.manual_dir={folder}",
        f"--config.data.data_dir={tmp_path / 'prepared'}",
        f"--workdir={tmp_path / 'run'}",
    )
    assert process.returncode == 0, process.stderr
    assert (tmp_path / "run" / "statistics.npz").exists()
    rows = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert "discriminator/loss" in json.loads(rows[0])
