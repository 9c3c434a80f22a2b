"""A prior fitted to a run, by the commands that fit it and draw from it, and judged."""

import dataclasses

import numpy as np
import pytest
from PIL import Image
from run_folders import untrained_mnist

from experiments import build, coherence, inputs, scores, wording, workdir
from experiments.judge import TrainedJudge
from jmvae_jax import data, evaluation


def words(process, status=1):
    """The words of an error, one paragraph."""
    assert process.returncode == status, process.stderr
    assert "Traceback" not in process.stderr
    return " ".join(process.stderr[process.stderr.index("error: ") :].split())


def test_a_prior_is_fitted_and_drawn_from_and_refused_at_another_step(command, tmp_path, mnist_dir):
    run = untrained_mnist(tmp_path / "run", "jmvae_kl,smoke", mnist_dir)
    place, out = f"--workdir={run}", tmp_path / "digits.png"
    fitted = command("fit_prior", place, "--num_components=3", "--num_examples=200")
    assert fitted.returncode == 0, fitted.stderr
    assert "fitted 3 Gaussians to 200 draws" in fitted.stdout
    with np.load(run / "prior.npz") as arrays:
        shapes = {name: values.shape for name, values in arrays.items()}
        step = int(arrays["step"])
    assert shapes == {"weights": (3,), "means": (3, 64), "covariances": (3, 64, 64), "step": ()}
    # A new state is at step 0, whatever its checkpoint is called.
    assert step == int(build.load_run(run).state.step)

    draw = ("generate", place, "--given=", "--prior=fitted", "--num_samples=3", f"--out={out}")
    drawn = command(*draw)
    assert drawn.returncode == 0, drawn.stderr
    with Image.open(out) as image:
        assert min(image.size) > 100

    prior = evaluation.mixture_prior(**workdir.read_prior(run, step))
    assert (prior.batch_shape, prior.event_shape) == ((), (64,))
    with pytest.raises(ValueError, match=f"fitted at step {step}, and the run is at step 2,000"):
        workdir.read_prior(run, 2000)


@pytest.mark.parametrize("kept", ["keep", pytest.param("drop", marks=pytest.mark.slow)])
def test_z_is_drawn_given_what_training_rows_have_kept(tmp_path, mnist_dir, kept):
    folder = untrained_mnist(tmp_path / "run", "jmvae_masked,smoke", mnist_dir)
    config = workdir.read_config(folder)
    config.data.missing_rates.label = 0.5
    config.data.missing_rows = kept
    workdir.write_config(folder, config)
    run = build.load_run(folder)
    rows = inputs.TrainingRows(run.config)
    stored = rows.load() | {"index": np.arange(len(rows))}
    found = scores.posterior_draws(run, rows, 100)

    def expected(*names):
        batch, keys = data.evaluation_batch(run.transforms, stored)
        given = {name: batch[name] for name in names}
        return evaluation.aggregate_posterior(run.model, run.variables, keys, given)[:100]

    there = rows.mask["label"][:100] if kept == "keep" else np.ones(100, bool)
    assert there.any()
    np.testing.assert_allclose(found[there], expected("image", "label")[there], atol=1e-5)
    np.testing.assert_allclose(found[~there], expected("image")[~there], atol=1e-5)


@pytest.mark.slow
def test_a_prior_that_cannot_be_drawn_from_is_refused(command, tmp_path, mnist_dir):
    run = untrained_mnist(tmp_path / "run", "jmvae_kl,smoke", mnist_dir)
    draw = ("generate", f"--workdir={run}", "--prior=fitted", f"--out={tmp_path / 'digits.png'}")
    missing = words(command(*draw, "--given="))
    assert "has no prior.npz; fit it with experiments/fit_prior.py" in missing
    prior = evaluation.mixture_prior(np.ones(1), np.zeros((1, 64)), np.eye(64)[None])
    arrays = evaluation.mixture_arrays(prior)
    workdir.write_arrays(run / "prior.npz", {**arrays, "step": np.array(0)})
    assert "prior and given=['label']" in words(command(*draw, "--given=label"))
    workdir.write_arrays(run / "prior.npz", {**arrays, "step": np.array(20)})
    assert "was fitted at step 20, and the run is at step 0: fit it again" in words(
        command(*draw, "--given=")
    )


def test_a_run_without_a_fitted_prior_has_none(tmp_path):
    assert workdir.read_prior(tmp_path, 1) is None


@pytest.mark.slow
def test_images_are_resampled_on_demand(command, tmp_path, mnist_dir):
    run = untrained_mnist(tmp_path / "run", "jmvae_kl,smoke", mnist_dir)
    out = tmp_path / "digits.png"
    flags = (f"--workdir={run}", "--num_samples=2", "--num_proposals=5", f"--out={out}")
    drawn = command("generate", *flags, "--weighting=likelihood")
    assert drawn.returncode == 0, drawn.stderr
    assert out.stat().st_size > 1000
    assert "num_proposals=5 and given=[]" in words(command("generate", *flags, "--given="))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variant", "flags", "expected"),
    [
        ("cvae,smoke", [], "holds a CVAE, which draws given ['label'] alone"),
        ("vae,smoke", ["--num_examples=301"], "num_examples=301: the split 'train[:300]' has 300"),
        ("vae,smoke", [], "num_components=400: expected no more than the 300 examples"),
    ],
)
def test_what_cannot_be_fitted_is_said(command, tmp_path, mnist_dir, variant, flags, expected):
    run = untrained_mnist(tmp_path / "run", variant, mnist_dir)
    fitted = command("fit_prior", f"--workdir={run}", "--num_components=400", *flags)
    assert expected in words(fitted)
    assert not (run / "prior.npz").exists()


# Judged images


def reads_rows(images):
    return images.mean(axis=(2, 3))[:, :10], images.mean(axis=(2, 3))[:, :5]


def judged(run, read=reads_rows, **options):
    """Coherence of a run's images by a judge that sees their rows."""
    judge = TrainedJudge(read, {"grey": 1.0})
    stored = data.load("mnist", "test[:60]", data_dir=run.config.data.data_dir)
    return coherence.coherence(run, judge, stored, {}, num_images=3, **options)


@pytest.mark.parametrize("variant", ["jmvae_kl,smoke", "cvae,smoke"])
def test_resampled_images_and_those_of_a_fitted_prior_are_judged(tmp_path, mnist_dir, variant):
    run = build.load_run(untrained_mnist(tmp_path / "run", variant, mnist_dir))
    rng = np.random.default_rng(0)
    prior = evaluation.fit_prior(rng.normal(size=(200, 64)), 2, covariance="diag")
    found = judged(run, num_proposals=3, prior=prior)
    plain = judged(run)
    lines = "\n".join(wording.coherence_lines(found))
    resampled = {"label_to_image_resampled", "label_to_image_resampled_by_likelihood"}
    further = resampled | {"joint_fitted_prior"}
    if variant.startswith("cvae"):
        # It is given its label, and has a prior of its own.
        assert set(found) == set(plain)
        assert set(found["frechet_distance"]) == {"from_labels"}
        return
    assert set(found) - set(plain) == further
    for name in further:
        assert 0 <= found[name]["share"] <= 1
    assert {found[name]["count"] for name in resampled} == {30}
    assert set(found["frechet_distance"]) - set(plain["frechet_distance"]) == {"from_fitted_prior"}
    for name in plain:
        if name != "frechet_distance":
            assert plain[name] == found[name]
    assert "the same with z resampled: " in lines
    assert "the same with z resampled by p(label|z) alone: " in lines
    assert "the same drawn from the fitted prior: " in lines
    assert "in the judge's features, from fitted prior: " in lines


def test_the_judge_reads_the_pixels_of_what_a_model_draws(tmp_path, mnist_dir):
    run = build.load_run(untrained_mnist(tmp_path / "run", "jmvae_kl,smoke", mnist_dir))
    mirrored = dataclasses.replace(run, showing={"image": lambda images: images[:, ::-1]})
    found, plain = judged(mirrored), judged(run)
    expected = judged(run, lambda images: reads_rows(images[:, ::-1]))
    for name in ("label_to_image", "label_to_image_at_mean", "joint"):
        assert found[name] == expected[name]
    assert found["label_to_image"] != plain["label_to_image"]
