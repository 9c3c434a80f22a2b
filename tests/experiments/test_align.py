"""Single encoders that are fitted to a run after its training."""

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from run_folders import untrained_mnist

from experiments import build, models, workdir
from experiments.configs import aligned, celeb_a, mnist
from jmvae_jax import distributions


def same(first, second):
    return jax.tree.structure(first) == jax.tree.structure(second) and all(
        jax.tree.leaves(jax.tree.map(lambda a, b: np.array_equal(a, b), first, second))
    )


def test_the_joint_model_keeps_its_bits_and_the_run_is_one_like_any_other(
    command, tmp_path, mnist_dir
):
    run = untrained_mnist(tmp_path / "run", "jmvae_kl,smoke,latent_dim=3", mnist_dir)
    words = (f"--workdir={run}", f"--out={tmp_path / 'out'}", "--epochs=1")
    options = ("--posteriors=label=mixture:2:diagonal", "--divergence=jeffreys")
    made = command("align", *words, *options)
    assert made.returncode == 0, made.stderr
    before, after = (build.load_run(tmp_path / name) for name in ("run", "out"))
    old, new = before.variables["params"], after.variables["params"]
    for part in new:
        assert same(old[part], new[part]) == (not part.startswith("singles_")), part
    assert isinstance(after.model.modalities["label"].posterior, distributions.Mixture)
    assert "posthoc" in after.title
    assert "mixture:2:diagonal" in after.title
    other = command("align", *words, "--posteriors=label=full")
    assert other.returncode == 1
    assert "modalities.label.posterior: 'mixture:2:diagonal' -> 'full'" in " ".join(
        other.stderr.split()
    )


def test_the_configuration_is_the_runs_but_for_its_alignment():
    config = mnist.get_config("jmvae_kl_fast")
    found = aligned.get_config(config, 60_000, {"label": "full"}, epochs=7)
    assert (config.objective.alignment, config.modalities.label.posterior) == ("joint", "diagonal")
    assert found.objective.alignment == "posthoc"
    assert found.modalities.label.posterior == "full"
    assert found.modalities.image.posterior == "diagonal"
    assert (found.train.epochs, found.source.step) == (7, 60_000)
    assert found.data == config.data
    assert found.model == config.model


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("objective.alpha", 1.0),
        ("train.learning_rate", 5e-4),
        ("train.epochs", 50),
        ("modalities.label.posterior", "low_rank:2"),
        ("modalities.image.posterior", "full"),
        ("model.latent_dim", 3),
        ("seed", 1),
    ],
)
def test_runs_that_differ_are_not_aligned_in_one_folder(key, value):
    """Also where the difference is in what the alignment sets itself."""
    one, other = mnist.get_config("jmvae_kl"), mnist.get_config("jmvae_kl")
    other.update_from_flattened_dict({key: value})
    made = [aligned.get_config(c, 600, {"label": "full"}, epochs=7) for c in (one, other)]
    assert workdir.differences(*made)


def test_runs_that_were_aligned_before_are_told_apart_by_what_they_came_from():
    one, other = mnist.get_config("jmvae_kl"), mnist.get_config("jmvae_kl")
    other.objective.alpha = 1.0
    for _ in range(2):
        one, other = (aligned.get_config(c, 600, {"label": "full"}, epochs=7) for c in (one, other))
        assert workdir.differences(one, other)


def test_another_weight_of_a_discriminator_is_another_run():
    one, other = celeb_a.get_config("jmvae_gan"), celeb_a.get_config("jmvae_gan")
    other.adversary.reconstruction_weight = 0.5
    assert workdir.differences(*(aligned.get_config(c, 1, {}, epochs=1) for c in (one, other)))


def test_a_run_without_single_encoders_gets_some_and_a_discriminator_goes():
    assert aligned.get_config(mnist.get_config("jmvae_zero"), 1, {}, epochs=1).model.inference == (
        "kl"
    )
    found = aligned.get_config(celeb_a.get_config("jmvae_gan"), 1, {}, epochs=1)
    assert "adversary" not in found


@pytest.mark.parametrize("variant", ["vae", "cvae", "cmma", "jmvae_masked"])
def test_other_models_are_refused_by_name(variant):
    with pytest.raises(ValueError, match=f"the run is a {variant}: expected a JMVAE"):
        aligned.get_config(mnist.get_config(variant), 1, {}, epochs=1)


def test_an_unknown_modality_is_refused():
    with pytest.raises(ValueError, match="posteriors: 'sound' is none of"):
        aligned.get_config(mnist.get_config("jmvae_kl"), 1, {"sound": "full"}, epochs=1)


@pytest.mark.parametrize(
    ("words", "family"),
    [
        ("diagonal", distributions.Diagonal()),
        ("full", distributions.Full()),
        ("low_rank:8", distributions.LowRank(8)),
        ("mixture:20:diagonal", distributions.Mixture(20)),
        ("mixture:10:low_rank:2", distributions.Mixture(10, distributions.LowRank(2))),
        (
            "flow:8:mixture:3:full",
            distributions.Coupling(8, base=distributions.Mixture(3, distributions.Full())),
        ),
    ],
)
def test_families_are_named_by_words(words, family):
    assert models.posterior_family("key", words) == family


@pytest.mark.parametrize(
    "words",
    [
        "",
        "fulll",
        "low_rank",
        "low_rank:0",
        "mixture:3",
        "mixture:x:full",
        "flow:2",
        "full:2",
        "diagonal:",
    ],
)
def test_words_that_name_no_family_are_refused(words):
    with pytest.raises(ValueError, match=r"modalities.label.posterior='.*': expected one of"):
        models.posterior_family("modalities.label.posterior", words)


@pytest.mark.parametrize("variant", ["jmvae_zero", "jmvae_masked"])
def test_a_family_of_encoders_that_are_not_there_is_refused(variant):
    config = mnist.get_config(variant)
    config.modalities.label.posterior = "full"
    with pytest.raises(ValueError, match="posterior='full': the model has no single encoders"):
        models.build_model(config)


def test_a_setting_that_the_objective_lacks_is_refused():
    config = ConfigDict(mnist.get_config("cmma"))
    config.objective.name = "elbo_toward_normal"
    build.build_objective(config)
    config.objective.num_samples = 5
    with pytest.raises(ValueError, match=r"objective\.num_samples=5: the objective"):
        build.build_objective(config)
