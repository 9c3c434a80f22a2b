import functools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import optax
import pytest
import scipy.stats
import zoo
from grids import some_of

import jmvae_jax as jm
from jmvae_jax.distributions import example_keys, gaussian, kl_divergence, sample
from jmvae_jax.objectives import kl_alignment

DIVERGENCES = ("forward", "reverse", "jeffreys")
ALIGNED = pytest.mark.parametrize("name", ["jmvae_kl_1", "jmvae_kl_3"])
RNG = np.random.default_rng(0)
MEANS = RNG.normal(size=(3, 4, 2)).astype(np.float32)
VARIANCES = RNG.uniform(0.2, 2.0, (3, 4, 2)).astype(np.float32)
JOINT, IMAGE, LABEL = (
    gaussian(jnp.asarray(m), jnp.asarray(v)) for m, v in zip(MEANS, VARIANCES, strict=True)
)


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@functools.cache
def case(name):
    model = zoo.ZOO[name].model
    return model, zoo.variables_of(model), zoo.batch_of(model)


def by_hand(i):
    """KL from the joint to single encoder `i`."""
    (m, n), (v, w) = (MEANS[0], MEANS[i]), (VARIANCES[0], VARIANCES[i])
    return 0.5 * (v / w + (m - n) ** 2 / w - 1 + np.log(w / v)).sum(-1)


def test_alignment_is_the_divergence_from_the_joint_to_each_single(no_rank_promotion):
    found = kl_alignment(JOINT, {"image": IMAGE, "label": LABEL})
    assert set(found) == {"image", "label"}
    close(found["image"], by_hand(1))
    close(found["label"], by_hand(2))
    assert (np.abs(found["image"] - kl_divergence(IMAGE, JOINT)) > 1e-3).all()


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_alignment_has_three_directions(divergence, no_rank_promotion):
    forward, reverse = kl_divergence(JOINT, IMAGE), kl_divergence(IMAGE, JOINT)
    expected = {"forward": forward, "reverse": reverse, "jeffreys": forward + reverse}
    found = kl_alignment(JOINT, {"image": IMAGE}, divergence=divergence)
    close(found["image"], expected[divergence])


def test_a_reverse_divergence_without_closed_form_needs_a_draw_of_the_single():
    single = dist.StudentT(3.0, jnp.asarray(MEANS[1]), 0.7, validate_args=False).to_event(1)
    z = MEANS[1] + 0.5
    options = {"divergence": "reverse", "draws": {"image": jnp.asarray(z)}}
    found = kl_alignment(JOINT, {"image": single}, **options)
    log_joint = scipy.stats.norm(MEANS[0], np.sqrt(VARIANCES[0])).logpdf(z).sum(-1)
    log_single = scipy.stats.t(3.0, MEANS[1], 0.7).logpdf(z).sum(-1)
    close(found["image"], log_single - log_joint)
    with pytest.raises(ValueError, match="no closed form: give z"):
        kl_alignment(JOINT, {"image": single}, jnp.asarray(z), divergence="reverse")


def test_alignment_with_itself_is_exactly_zero(no_rank_promotion):
    np.testing.assert_array_equal(kl_alignment(JOINT, {"image": JOINT})["image"], np.zeros(4))


def test_alignment_of_an_absent_modality_is_zero():
    there = np.array([True, False, False, True])
    found = kl_alignment(
        JOINT, {"image": IMAGE, "label": LABEL}, mask={"image": jnp.asarray(there)}
    )
    close(found["image"], np.where(there, by_hand(1), 0.0))
    close(found["label"], by_hand(2))


def test_alignment_without_closed_form_is_the_log_ratio_at_the_draw():
    single = dist.StudentT(3.0, jnp.asarray(MEANS[1]), 0.7, validate_args=False).to_event(1)
    z = MEANS[0] + 0.5
    found = kl_alignment(JOINT, {"image": single, "label": LABEL}, jnp.asarray(z))
    log_joint = scipy.stats.norm(MEANS[0], np.sqrt(VARIANCES[0])).logpdf(z).sum(-1)
    log_single = scipy.stats.t(3.0, MEANS[1], 0.7).logpdf(z).sum(-1)
    close(found["image"], log_joint - log_single)
    close(found["label"], by_hand(2))
    with pytest.raises(ValueError, match="no closed form: give z"):
        kl_alignment(JOINT, {"image": single})


class HeavyTailed(jm.JMVAE):
    """Single encoders whose divergence from the joint has no closed form."""

    def single_posteriors(self, batch, mask=None, train=False):
        return {
            name: dist.StudentT(3.0, q.mean, 0.7, validate_args=False).to_event(1)
            for name, q in super().single_posteriors(batch, mask, train).items()
        }


def test_a_model_without_closed_form_is_aligned_at_the_draw_of_its_bound():
    plain, variables, batch = case("jmvae_kl_2")
    model = HeavyTailed(latent_dim=2, modalities=plain.modalities, trunk=plain.trunk)
    bound = jm.jmvae_kl(model, variables, jax.random.key(1), batch)
    joint = model.apply(variables, batch, method="posterior")
    z = sample(joint, example_keys(jax.random.key(1), jnp.arange(zoo.ROWS)))
    for name, single in model.apply(variables, batch, method="single_posteriors").items():
        close(bound.alignment[name], joint.log_prob(z) - single.log_prob(z))


@ALIGNED
def test_loss_is_reconstruction_rate_and_alignment_with_their_weights(name, key):
    model, variables, batch = case(name)
    bound = jm.jmvae_kl(model, variables, key, batch, alpha=0.3, beta=0.7)
    assert set(bound.alignment) == set(bound.reconstruction) == set(model.modalities)
    reconstruction, alignment = (
        sum(map(np.asarray, terms.values())) for terms in (bound.reconstruction, bound.alignment)
    )
    close(bound.loss, -reconstruction + 0.7 * bound.rate + 0.3 * alignment)
    close(bound.elbo, reconstruction - bound.rate)
    assert (alignment > 1e-3).all()


@ALIGNED
def test_the_terms_do_not_depend_on_their_weights(name):
    model, variables, batch = case(name)
    first = jm.jmvae_kl(model, variables, jax.random.key(1), batch, alpha=0.3, beta=0.0)
    second = jm.jmvae_kl(model, variables, jax.random.key(1), batch, alpha=2.0, beta=3.0)
    jax.tree.map(np.testing.assert_array_equal, first.replace(loss=None), second.replace(loss=None))
    np.testing.assert_array_equal(first.elbo, second.elbo)


@ALIGNED
def test_alignment_compares_the_models_own_posteriors(name, key):
    model, variables, batch = case(name)
    bound = jm.jmvae_kl(model, variables, key, batch)
    joint = model.apply(variables, batch, method="posterior")
    singles = model.apply(variables, batch, method="single_posteriors")
    for modality in model.modalities:
        close(bound.alignment[modality], kl_divergence(joint, singles[modality]))


def gradient(loss, variables):
    return jax.jit(jax.grad(lambda params: jnp.sum(loss({"params": params}))))(variables["params"])


def reached(gradients):
    return {n for n, part in gradients.items() if any(map(np.any, jax.tree.leaves(part)))}


@ALIGNED
def test_without_alignment_loss_and_gradient_are_those_of_the_joint_bound(name):
    model, variables, batch = case(name)

    def aligned(variables):
        return jm.jmvae_kl(model, variables, jax.random.key(1), batch, alpha=0.0, beta=0.5).loss

    def plain(variables):
        return jm.elbo(model, variables, jax.random.key(1), batch, beta=0.5).loss

    close(aligned(variables), plain(variables))
    found = gradient(aligned, variables)
    jax.tree.map(close, found, gradient(plain, variables))
    assert reached(found) == {"joint", *(f"decoders_{m}" for m in model.modalities)}


def test_alignment_reaches_the_joint_and_the_single_encoders_and_no_decoder():
    model, variables, batch = case("jmvae_kl_3")

    def alignment(variables):
        return sum(jm.jmvae_kl(model, variables, jax.random.key(1), batch).alignment.values())

    expected = {"joint", "singles_image", "singles_label", "singles_sound"}
    assert reached(gradient(alignment, variables)) == expected


@pytest.mark.parametrize("divergence", some_of(DIVERGENCES, "forward"))
def test_detached_alignment_leaves_the_joint_bound_alone(divergence):
    model, variables, batch = case("jmvae_kl_3")
    key = jax.random.key(1)

    def aligned(variables):
        options = {"alpha": 7.0, "alignment": "detached", "divergence": divergence}
        return jm.jmvae_kl(model, variables, key, batch, **options).loss

    found = gradient(aligned, variables)
    plain = gradient(lambda variables: jm.elbo(model, variables, key, batch).loss, variables)
    singles = {"singles_image", "singles_label", "singles_sound"}
    assert reached(found) - reached(plain) == singles
    for name in reached(plain):
        jax.tree.map(close, found[name], plain[name])


@pytest.mark.parametrize("alignment", ["joint", "detached"])
@pytest.mark.parametrize("divergence", some_of(DIVERGENCES, "jeffreys"))
def test_a_model_without_closed_form_has_every_divergence_and_alignment(alignment, divergence):
    plain, variables, batch = case("jmvae_kl_2")
    model = HeavyTailed(latent_dim=2, modalities=plain.modalities, trunk=plain.trunk)

    def terms(variables):
        options = {"alignment": alignment, "divergence": divergence}
        return sum(
            jm.jmvae_kl(model, variables, jax.random.key(1), batch, **options).alignment.values()
        )

    assert np.isfinite(terms(variables)).all()
    expected = {"singles_image", "singles_label"} | ({"joint"} if alignment == "joint" else set())
    assert reached(gradient(terms, variables)) == expected


def test_the_gradient_of_a_divergence_at_a_draw_sticks_the_landing():
    def moved(shift, other):
        p = dist.StudentT(3.0, jnp.zeros((4, 2)) + shift, 0.7, validate_args=False).to_event(1)
        q = dist.StudentT(3.0, jnp.zeros((4, 2)) + other, 0.7, validate_args=False).to_event(1)
        z = sample(p, example_keys(jax.random.key(2), jnp.arange(4)))
        return kl_divergence(p, q, z).sum()

    np.testing.assert_allclose(jax.grad(moved)(1.0, 1.0), 0.0, atol=1e-5)
    assert abs(jax.grad(moved)(1.0, 2.0)) > 0.1


@pytest.mark.parametrize("option", ["alignment", "divergence"])
def test_an_unknown_way_of_alignment_is_refused_with_those_that_are_known(option, key):
    model, variables, batch = case("jmvae_kl_2")
    with pytest.raises(ValueError, match=f"{option}='both': expected one of"):
        jm.jmvae_kl(model, variables, key, batch, **{option: "both"})


def test_alignment_of_one_modality_reaches_no_other_single_encoder():
    model, variables, batch = case("jmvae_kl_3")

    def alignment(variables):
        return jm.jmvae_kl(model, variables, jax.random.key(1), batch).alignment["label"]

    assert reached(gradient(alignment, variables)) == {"joint", "singles_label"}


def test_an_absent_modality_leaves_its_single_encoder_and_decoder_without_gradient(key):
    model, variables, batch = case("jmvae_kl_3")
    mask = {"label": jnp.zeros(zoo.ROWS, bool)}

    def loss(variables):
        return jm.jmvae_kl(model, variables, jax.random.key(1), batch, mask=mask).loss

    found = gradient(loss, variables)
    assert set(found) - reached(found) == {"singles_label", "decoders_label"}


@pytest.mark.parametrize("name", ["vae", "jmvae_zero_2"])
def test_a_model_without_single_encoders_cannot_be_aligned(name, key):
    model, variables, batch = case(name)
    with pytest.raises(ValueError, match=r"jmvae_kl aligns encoders.* has none"):
        jm.jmvae_kl(model, variables, key, batch)


# After training


RICH = pytest.mark.parametrize("name", some_of(["jmvae_kl_2", "jmvae_rich_2"], "jmvae_rich_2"))


@RICH
@pytest.mark.parametrize("divergence", some_of(DIVERGENCES, "jeffreys"))
def test_after_training_the_single_encoders_alone_learn(name, divergence):
    model, variables, batch = case(name)

    def loss(params):
        options = {"alignment": "posthoc", "divergence": divergence, "alpha": 1.0}
        bound = jm.jmvae_kl(model, {"params": params}, jax.random.key(1), batch, **options)
        return bound.loss.mean()

    slopes = jax.jit(jax.grad(loss))(variables["params"])
    for part, values in slopes.items():
        some = any(np.any(leaf != 0) for leaf in jax.tree.leaves(values))
        assert some == (part in model.single_parameters), part


@RICH
def test_after_training_the_loss_is_the_alignment_and_the_bound_is_reported(name):
    model, variables, batch = case(name)
    key = jax.random.key(1)
    bound = jm.jmvae_kl(model, variables, key, batch, alignment="posthoc", alpha=0.5)
    other = jm.jmvae_kl(model, variables, jax.random.clone(key), batch, alpha=0.5)
    close(bound.loss, 0.5 * sum(map(np.asarray, bound.alignment.values())))
    jax.tree.map(close, bound.replace(loss=None), other.replace(loss=None))


@RICH
def test_a_step_of_posthoc_alignment_leaves_every_other_bit(name):
    model, variables, batch = case(name)
    loss_fn = jm.make_loss_fn(model, functools.partial(jm.jmvae_kl, alignment="posthoc"))
    optimizer = optax.chain(optax.clip(1.0), optax.adam(1e-2))
    params = variables["params"]
    state = optimizer.init(params)

    @jax.jit
    def step(params, state, key):
        gradient = jax.grad(loss_fn, has_aux=True)
        slopes, _ = gradient(params, {}, key, batch, weights={"alpha": 1.0, "beta": 1.0})
        updates, state = optimizer.update(slopes, state, params)
        return optax.apply_updates(params, updates), state

    for number in range(3):
        params, state = step(params, state, jax.random.key(number))
    for part, before in variables["params"].items():
        same = jax.tree.map(lambda a, b: bool((a == b).all()), before, params[part])
        assert all(jax.tree.leaves(same)) == (part not in model.single_parameters), part


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_rich_single_encoders_are_aligned_at_draws(divergence):
    model, variables, batch = case("jmvae_rich_2")
    key = jax.random.key(1)
    bound = jm.jmvae_kl(model, variables, key, batch, divergence=divergence)
    assert set(bound.alignment) == {"image", "label"}
    assert all(np.isfinite(term).all() for term in bound.alignment.values())
    if divergence == "forward":
        joint = model.apply(variables, batch, method="posterior")
        z = sample(joint, example_keys(jax.random.clone(key), jnp.arange(zoo.ROWS)))
        for name, q in model.apply(variables, batch, method="single_posteriors").items():
            close(bound.alignment[name], joint.log_prob(z) - q.log_prob(z))
