import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from grids import some_of

from experiments import build, inputs, workdir
from experiments.configs import celeb_a, mnist, synthetic_faces
from jmvae_jax import parallel
from jmvae_jax.training import schedules
from jmvae_jax.training.checkpoints import Checkpoints

COUNTS = {
    "vae": 730_240 + 698_128,
    "cvae": 998_016 + 5_632 + 960_272,
    "cmma": 998_016 + 333_952 + 698_128,
    "jmvae_zero": 1_997_210,
    "jmvae_kl": 3_061_402,
    "jmvae_masked": 1_997_210 + 2 * 512,  # two bits of the mask
    "jmvae_kl_fast": 3_061_402,
    "jmvae_masked_fast": 1_997_210 + 2 * 512,
    # Ten means, variances and weights and sixteen layers' contexts instead of one Gaussian; layers.
    "jmvae_kl_flow": 3_061_402 + 513 * (10 * 129 + 16 * 128 - 128) + 16 * 128 * (64 + 128),
}


@pytest.mark.parametrize("smoke", ["", ",smoke"])
@pytest.mark.parametrize("variant", mnist.VARIANTS)
def test_every_variant_builds_and_traces(variant, smoke):
    config = mnist.get_config(variant + smoke)
    experiment = build.build(config, 1000)
    state = jax.eval_shape(lambda: build.initial_state(config, experiment))
    stored = {"image": jnp.zeros((1000, 28, 28, 1), jnp.uint8), "label": jnp.zeros(1000, int)}
    stored = {name: stored[name] for name in config.modalities}
    step = build.build_step(config, experiment, jax.random.key(0))
    batch = {name: values[: config.train.batch_size] for name, values in stored.items()}
    compiled = parallel.DataParallel(tuple(jax.devices()[:1])).compile(step)
    after, metrics = jax.eval_shape(compiled, state, batch)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert {"loss", "elbo", "rate", "reconstruction/image", "beta"} <= set(metrics)
    if not smoke:
        assert sum(leaf.size for leaf in jax.tree.leaves(state.params)) == COUNTS[variant]


def test_the_flow_is_the_fast_recipe_with_fewer_draws_and_more_alignment():
    """The runs that the results' README has beside it are made by these keys as well."""
    config = mnist.get_config("jmvae_kl_fast")
    config.update_from_flattened_dict(
        {
            "variant": "jmvae_kl_flow",
            "objective.num_samples": 2,
            "objective.alpha": 0.3,
            "train.learning_rate": 1e-3,
            "train.adam_eps": 1e-8,
            "modalities.label.posterior": "flow:16:mixture:10:diagonal",
        }
    )
    assert config == mnist.get_config("jmvae_kl_flow")


FACES_COUNTS = {
    # Sums of the parts that the paper gives, see `test_conv`; the discriminator apart.
    "jmvae_kl": 6_974_528 + 6_166_080 + 415_488 + 2_236_291 + 2_647_080,
    "jmvae_zero": 6_974_528 + 2_236_291 + 2_647_080,
    "jmvae_gan": 6_974_528 + 6_166_080 + 415_488 + 2_236_291 + 2_647_080,
}
DISCRIMINATOR = 5_904_065


def face_statistics(size):
    moments = np.zeros((size, size, 3), np.float32)
    return {"image/mean": moments, "image/deviation": moments + 1}


@pytest.mark.parametrize("variant", some_of(celeb_a.VARIANTS, "jmvae_kl", "jmvae_gan"))
def test_every_variant_of_faces_builds_and_traces(variant):
    config = synthetic_faces.get_config(variant + ",smoke")
    experiment = build.build(config, 1000, face_statistics(64))
    state = jax.eval_shape(lambda: build.initial_state(config, experiment))
    size = config.train.batch_size
    stored = {
        "image": jax.ShapeDtypeStruct((size, 64, 64, 3), jnp.uint8),
        "attributes": jax.ShapeDtypeStruct((size, 40), jnp.int8),
    }
    step = build.build_step(config, experiment, jax.random.key(0))
    batch = {name: stored[name] for name in config.modalities}
    compiled = parallel.DataParallel(tuple(jax.devices()[:1])).compile(step)
    after, metrics = jax.eval_shape(compiled, state, batch)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert {"loss", "elbo", "rate", "reconstruction/image", "beta"} <= set(metrics)
    assert set(experiment.further_metrics) <= set(metrics)
    assert ("discriminator/loss" in metrics) is variant.endswith("_gan")
    assert bool(state.adversary) is variant.endswith("_gan")


@pytest.mark.parametrize("variant", FACES_COUNTS)
def test_the_networks_of_celeb_a_are_the_papers(variant):
    config = celeb_a.get_config(variant)
    experiment = build.build(config, 1000, face_statistics(64))
    state = jax.eval_shape(lambda: build.initial_state(config, experiment))

    def size(tree):
        return sum(leaf.size for leaf in jax.tree.leaves(tree))

    assert size(state.params) == FACES_COUNTS[variant]
    assert size(state.adversary) == (DISCRIMINATOR if variant == "jmvae_gan" else 0)


def test_the_default_of_celeb_a_is_the_papers_recipe():
    config = celeb_a.get_config("jmvae_gan")
    train = config.train
    assert (train.epochs, train.batch_size, train.warmup_fraction) == (100, 100, 0.2)
    assert (train.learning_rate, train.adam_b1, config.model.latent_dim) == (1e-4, 0.5, 128)
    assert config.modalities.image.likelihood == "normal_channel_mean"
    assert config.objective.alpha == 0.1
    assert config.adversary.conditions == ()
    assert celeb_a.get_config("cvae_gan").adversary.conditions == ("attributes",)
    assert celeb_a.get_config("jmvae_kl,image_size=128").data.dataset == "celeb_a_aligned/128"


def test_the_default_is_the_papers_recipe():
    config = mnist.get_config()
    assert config.variant == "jmvae_kl"
    assert config.objective.alpha == 0.1
    train = config.train
    assert (train.epochs, train.batch_size, train.warmup_fraction) == (500, 100, 0.4)
    assert (train.learning_rate, train.adam_b1, train.adam_b2, train.adam_eps) == (
        1e-3,
        0.9,
        0.999,
        1e-4,
    )
    assert (train.clip_norm, train.clip_value, train.schedule) == (5.0, 1.0, "constant")
    assert (config.data.train_split, config.data.validation_split) == ("train", "test[:2000]")


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_the_optimiser_is_the_papers_chain(size):
    keys = jax.random.split(jax.random.key(0), 2)
    grads = {"a": size * jax.random.normal(keys[0], (7, 3)), "b": jnp.full(4, size)}
    rate = schedules.learning_rate("constant", 1e-3, 10)
    ours = build.build_optimizer(mnist.get_config(), rate)
    paper = optax.chain(optax.clip_by_global_norm(5.0), optax.clip(1.0), optax.adam(1e-3, eps=1e-4))
    states = [ours.init(grads), paper.init(grads)]
    for _ in range(3):
        found, states[0] = ours.update(grads, states[0])
        expected, states[1] = paper.update(grads, states[1])
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5)


def test_a_size_in_the_variant_sets_what_is_computed_from_it():
    config = mnist.get_config("jmvae_zero,latent_dim=2,hidden=100")
    assert config.model.latent_dim == 2
    assert config.model.trunk == (100,)
    assert config.modalities.label.decoder == (100, 100)


@pytest.mark.parametrize(
    "variant", ["foo", "jmvae_kl,smok", "latent_dim=x", "hidden=0", "hidden=²", "vae,cvae"]
)
def test_an_unknown_variant_is_named_with_those_that_are_known(variant):
    with pytest.raises(ValueError, match=variant.split(",")[-1]) as error:
        mnist.get_config(variant)
    assert "jmvae_zero" in str(error.value)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("train.epochs", 0, r"train\.epochs=0"),
        ("train.batch_size", 2000, "batch_size=2000"),
        ("train.schedule", "cosin", "schedule='cosin'"),
        ("train.learning_rate", -1.0, r"train\.learning_rate"),
        (
            "train.learning_rate",
            float("inf"),
            r"train\.learning_rate=inf: expected more than 0, and",
        ),
        ("train.adam_b2", 1.0, r"train\.adam_b2=1.0: expected \[0, 1\)"),
        ("train.adam_eps", 0.0, r"train\.adam_eps=0.0: expected more than 0"),
        ("objective.alpha", -1.0, r"objective\.alpha=-1.0: expected at least 0"),
        ("seed", 2**32, r"seed=4294967296: expected 0 to"),
        ("train.average_decay", 1.0, r"train\.average_decay"),
        ("train.warmup_fraction", 2.0, "warmup_fraction"),
        ("model.activation", "rellu", "did you mean 'relu'"),
        ("model.name", "jvae", "model.name='jvae'"),
        ("model.name", "cvae", r"model.name='cvae' has no model\.inference: choose the"),
        ("objective.name", "elbow", "did you mean 'elbo'"),
        ("objective.name", "elbo", r"objective\.alpha=0\.1: the objective 'elbo' has no such"),
        ("objective.alignment", "posthoc", r"objective\.alignment='posthoc': .*align\.py"),
        ("modalities.image.transform", "binarise", "did you mean 'binarize'"),
        ("modalities.image.likelihood", "gaussian", "likelihood='gaussian'"),
        ("model.latent_dim", 0, "latent_dim=0"),
    ],
)
def test_a_bad_value_is_named(key, value, words):
    config = mnist.get_config("jmvae_kl,smoke")
    config.update_from_flattened_dict({key: value})
    with pytest.raises(ValueError, match=words):
        build.build(config, 1000)


@pytest.mark.parametrize("module", [mnist, celeb_a, synthetic_faces])
def test_a_misspelt_key_is_refused_in_ones_own_configuration_too(module):
    with pytest.raises(KeyError, match="epcohs"):
        module.get_config("jmvae_kl").update_from_flattened_dict({"train.epcohs": 3})


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("modalities.image.encoder", "cnov", r"image\.encoder='cnov': expected 'conv' or sizes"),
        ("adversary.latent", "normal", "latent='normal'"),
        ("adversary.generator_learning_rate", 0.0, r"adversary\.generator_learning_rate=0"),
        ("adversary.image", "attributs", "image='attributs': the model generates"),
        ("modalities.image.likelihood_options", {"scal": 1.0}, "has no setting 'scal'"),
        ("modalities.image.likelihood_options", {"loc": 1.0}, "has no setting 'loc'"),
    ],
)
def test_a_bad_value_of_faces_is_named(key, value, words):
    config = synthetic_faces.get_config("jmvae_gan,smoke")
    with config.unlocked():
        parent, _, leaf = key.rpartition(".")
        part = config
        for name in parent.split("."):
            part = part[name]
        part[leaf] = value
    with pytest.raises(ValueError, match=words):
        build.build(config, 1000, face_statistics(64))


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("modalities.label.shape", (5,), r"label\.shape=\(5,\): .* labels from 0 to 9"),
        ("modalities.image.shape", (14, 14, 1), r"image\.shape=\(14, 14, 1\): .*\(28, 28, 1\)"),
    ],
)
def test_a_shape_that_the_data_do_not_have_is_named(mnist_dir, key, value, words):
    config = mnist.get_config("jmvae_kl,smoke")
    config.data.data_dir = str(mnist_dir)
    config.update_from_flattened_dict({key: value})
    with pytest.raises(ValueError, match=words):
        inputs.load_split(config, "test[:1000]")


def test_a_run_of_one_epoch_with_any_schedule_loads_again(tmp_path):
    config = mnist.get_config("jmvae_kl,smoke")
    config.train.update({"epochs": 1, "schedule": "warmup_cosine"})
    state = build.initial_state(config, build.build(config, 1000))
    workdir.write_config(tmp_path, config)
    Checkpoints(workdir.checkpoints_path(tmp_path)).save(10, state)
    assert build.load_run(tmp_path).config.train.epochs == 1


def test_a_modality_that_the_data_lack_is_named(mnist_dir):
    config = mnist.get_config("jmvae_kl,smoke")
    config.data.data_dir = str(mnist_dir)
    with config.unlocked():
        config.modalities.sound = config.modalities.label
    with pytest.raises(ValueError, match=r"\['sound'\] are not in mnist: it has"):
        inputs.load_split(config, "test[:10]")
