import functools
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import scipy.integrate
import scipy.special
import scipy.stats

from jmvae_jax import distributions
from jmvae_jax.distributions import (
    FAMILIES,
    as_event,
    categorical,
    example_keys,
    gaussian,
    kl_divergence,
    likelihood_family,
    positive,
    predicted_parameters,
    product_of_experts,
    sample,
    standard_normal,
    unpack,
)

RNG = np.random.default_rng(0)
LOC = RNG.normal(size=(4, 3)).astype(np.float32)
RAW = RNG.normal(size=(4, 3)).astype(np.float32)
VALUES = RNG.normal(size=(4, 3)).astype(np.float32)
SCALE = np.logaddexp(0, RAW) + np.finfo(np.float32).eps
LOGITS = np.array([-50.0, -3.0, 0.0, 2.0, 50.0], np.float32)


@pytest.mark.parametrize("name", ["normal", "laplace", "normal_tanh", "normal_channel_mean"])
@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan")])
def test_a_scale_that_is_not_above_zero_is_refused(name, scale):
    with pytest.raises(ValueError, match=f"scale={scale}: expected above 0"):
        FAMILIES[name](LOC, scale)


def row_keys(rows, seed=0):
    return example_keys(jax.random.key(seed), jnp.arange(rows))


def student_t(loc, raw_scale, df=4.0):
    scale = jax.nn.softplus(raw_scale)
    return dist.StudentT(df, loc, scale, validate_args=False)


@pytest.mark.parametrize(
    ("family", "parameters", "oracle"),
    [
        ("normal", (LOC,), scipy.stats.norm(LOC, 1.0)),
        (functools.partial(FAMILIES["normal"], scale=0.1), (LOC,), scipy.stats.norm(LOC, 0.1)),
        ("normal_learned", (LOC, RAW), scipy.stats.norm(LOC, SCALE)),
        ("normal_tanh", (LOC,), scipy.stats.norm(np.tanh(LOC), 1.0)),
        ("laplace", (LOC,), scipy.stats.laplace(LOC, 1.0)),
        (functools.partial(FAMILIES["laplace"], scale=3.0), (LOC,), scipy.stats.laplace(LOC, 3.0)),
        ("laplace_learned", (LOC, RAW), scipy.stats.laplace(LOC, SCALE)),
        (student_t, (LOC, RAW), scipy.stats.t(4.0, LOC, SCALE)),
        (functools.partial(student_t, df=2.0), (LOC, RAW), scipy.stats.t(2.0, LOC, SCALE)),
    ],
)
def test_density_of_a_continuous_family_is_scipys(family, parameters, oracle):
    distribution = as_event(likelihood_family(family)(*parameters), 1)
    assert (distribution.batch_shape, distribution.event_shape) == ((4,), (3,))
    expected = oracle.logpdf(VALUES.astype(np.float64)).sum(-1)
    np.testing.assert_allclose(distribution.log_prob(VALUES), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("value", [0.0, 0.25, 1.0])
def test_bernoulli_is_exact_in_its_logits_also_where_the_probability_saturates(value):
    logits = LOGITS.astype(np.float64)
    expected = value * scipy.special.log_expit(logits)
    expected += (1 - value) * scipy.special.log_expit(-logits)
    found = FAMILIES["bernoulli"](LOGITS).log_prob(jnp.full(5, value))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-20)


@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize(
    "logit",
    [
        -50.0,
        -3.0,
        0.0,
        2.0,
        50.0,
    ],
)
def test_bernoulli_has_the_gradient_value_minus_probability(logit, value):
    gradient = jax.grad(lambda logit: FAMILIES["bernoulli"](logit).log_prob(jnp.float32(value)))
    expected = value - scipy.special.expit(logit)
    np.testing.assert_allclose(gradient(jnp.float32(logit)), expected, rtol=1e-5, atol=1e-7)


def test_bernoulli_gives_its_boundary_values_the_probability_of_scipy():
    found = FAMILIES["bernoulli"](LOGITS[1:4]).log_prob(jnp.array([1.0, 0.0, 1.0]))
    expected = scipy.stats.bernoulli.logpmf([1, 0, 1], scipy.special.expit(LOGITS[1:4]))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_one_hot_categorical_has_scipys_density_and_mean(no_rank_promotion):
    logits = np.stack([LOGITS, LOGITS[::-1] / 10])
    p = scipy.special.softmax(logits.astype(np.float64), axis=-1)
    distribution = categorical(jnp.asarray(logits))
    np.testing.assert_allclose(distribution.mean, p, rtol=1e-5, atol=1e-30)
    for label in range(5):
        one_hot = jnp.tile(jax.nn.one_hot(label, 5), (2, 1))
        expected = scipy.special.log_softmax(logits.astype(np.float64), axis=-1)[:, label]
        np.testing.assert_allclose(distribution.log_prob(one_hot), expected, rtol=1e-5, atol=1e-6)
    moderate = scipy.stats.multinomial(1, p[1]).logpmf([0, 1, 0, 0, 0])
    found = distribution.log_prob(jnp.tile(jax.nn.one_hot(1, 5), (2, 1)))[1]
    np.testing.assert_allclose(found, moderate, rtol=1e-5)


def test_one_hot_categorical_draws_one_hot_vectors_at_its_frequencies(key):
    p, draws = np.array([0.6, 0.3, 0.1]), 20_000
    drawn = np.asarray(categorical(jnp.log(jnp.asarray(p))).sample(key, (draws,)))
    assert drawn.shape == (draws, 3)
    assert drawn.dtype == np.float32
    np.testing.assert_array_equal(drawn.max(-1), 1.0)
    np.testing.assert_array_equal(drawn.sum(-1), 1.0)
    error = np.sqrt(p * (1 - p) / draws)
    assert (np.abs(drawn.mean(0) - p) < 4.5 * error).all()


def test_one_hot_categorical_passes_through_jit_and_grad():
    logits, label = jnp.asarray(LOC), jax.nn.one_hot(jnp.array([0, 2, 1, 1]), 3)
    returned = jax.jit(categorical)(logits)
    assert (returned.batch_shape, returned.event_shape) == ((4,), (3,))
    np.testing.assert_allclose(
        returned.log_prob(label), categorical(logits).log_prob(label), rtol=1e-6
    )
    gradient = jax.grad(lambda logits: categorical(logits).log_prob(label).sum())(logits)
    expected = label - scipy.special.softmax(LOC, axis=-1)
    np.testing.assert_allclose(gradient, expected, atol=1e-6)


def test_one_hot_categorical_with_an_excluded_class_still_scores_the_others():
    distribution = categorical(jnp.array([0.0, 0.0, -jnp.inf]))
    found = distribution.log_prob(jnp.array([1.0, 0.0, 0.0]))
    np.testing.assert_allclose(found, -np.log(2), rtol=1e-6)


def test_a_family_is_known_by_its_name_or_is_the_callable_itself():
    assert likelihood_family("laplace") is distributions.laplace
    assert likelihood_family(student_t) is student_t
    assert set(FAMILIES) == {
        "bernoulli",
        "categorical",
        "laplace",
        "laplace_learned",
        "normal",
        "normal_channel_mean",
        "normal_learned",
        "normal_tanh",
    }


def test_the_channel_mean_is_the_authors_convention_for_pixels():
    loc = RNG.normal(size=(2, 64, 64, 3)).astype(np.float32)
    values = RNG.normal(size=(2, 64, 64, 3)).astype(np.float32)
    found, summed = (
        as_event(likelihood_family(name)(loc), 3) for name in ("normal_channel_mean", "normal")
    )
    assert found.event_shape == summed.event_shape == (64, 64, 3)
    np.testing.assert_allclose(found.log_prob(values), summed.log_prob(values) / 3, rtol=1e-5)
    # The constants that the paper's CelebA figures contain.
    np.testing.assert_allclose(summed.log_prob(loc), -11_291.9, atol=0.1)
    np.testing.assert_allclose(found.log_prob(loc), -3_763.97, atol=0.01)
    np.testing.assert_array_equal(found.mean, loc)
    drawn = sample(found, row_keys(2))
    np.testing.assert_array_equal(drawn, sample(summed, row_keys(2)))
    arrays, build = unpack(found)
    np.testing.assert_array_equal(build(arrays).log_prob(values), found.log_prob(values))


def test_an_unknown_family_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"likelihood='gauss' is not known.*'normal_learned'"):
        likelihood_family("gauss")


@pytest.mark.parametrize(
    ("family", "names"),
    [
        (FAMILIES["bernoulli"], ("logits",)),
        (FAMILIES["categorical"], ("logits",)),
        (FAMILIES["normal"], ("loc",)),
        (FAMILIES["normal_learned"], ("loc", "raw_scale")),
        (FAMILIES["laplace_learned"], ("loc", "raw_scale")),
        (functools.partial(FAMILIES["normal"], scale=0.1), ("loc",)),
        (student_t, ("loc", "raw_scale")),
        (lambda second, first, *, setting=1: None, ("second", "first")),
    ],
)
def test_the_decoder_predicts_the_positional_parameters_without_default(family, names):
    assert predicted_parameters(family) == names


def test_a_family_with_nothing_to_predict_is_refused():
    with pytest.raises(ValueError, match="nothing that a decoder could predict"):
        predicted_parameters(lambda *, scale=1.0: None)


def test_positive_is_softplus_plus_the_authors_guard():
    raw = jnp.array([-200.0, 0.0, 30.0])
    np.testing.assert_allclose(
        positive(raw), [1.1920929e-7, np.log(2) + 1.1920929e-7, 30.0], rtol=1e-6
    )


def test_gaussian_has_the_moments_that_it_was_given():
    q = gaussian(jnp.asarray(LOC), jnp.asarray(SCALE))
    expected = scipy.stats.norm(LOC, np.sqrt(SCALE)).logpdf(VALUES).sum(-1)
    np.testing.assert_allclose(q.log_prob(VALUES), expected, rtol=1e-5)
    mean, variance = distributions.moments(q)
    np.testing.assert_allclose(mean, LOC)
    np.testing.assert_allclose(variance, SCALE, rtol=1e-6)


def test_standard_normal_has_no_batch_axis():
    p = standard_normal(3)
    assert (p.batch_shape, p.event_shape) == ((), (3,))
    np.testing.assert_allclose(p.log_prob(jnp.zeros(3)), -1.5 * np.log(2 * np.pi), rtol=1e-6)


@pytest.mark.parametrize("raw", [False, True], ids=["typed", "raw"])
def test_example_keys_fold_each_position_into_the_key(raw):
    make = jax.random.PRNGKey if raw else jax.random.key
    positions = jnp.array([[3, 0], [7, 7]])
    keys = example_keys(make(5), positions)
    assert keys.shape == (2, 2)
    expected = jax.random.fold_in(jax.random.key(5), 3)
    np.testing.assert_array_equal(jax.random.key_data(keys[0, 0]), jax.random.key_data(expected))
    data = np.asarray(jax.random.key_data(keys)).reshape(4, -1)
    assert len(np.unique(data, axis=0)) == 3


@pytest.mark.parametrize("raw", [False, True], ids=["typed", "raw"])
def test_one_key_for_each_example_is_taken_as_it_is(raw):
    keys = jax.random.split(jax.random.key(5), 3)
    given = jax.random.key_data(keys) if raw else keys
    found = example_keys(given, jnp.arange(3))
    np.testing.assert_array_equal(jax.random.key_data(found), jax.random.key_data(keys))


def test_example_keys_of_another_number_of_examples_are_refused():
    with pytest.raises(ValueError, match=r"key has shape \(3,\).*\(4,\)"):
        example_keys(jax.random.split(jax.random.key(5), 3), jnp.arange(4))


MULTIVARIATE = dist.MultivariateNormal(
    jnp.asarray(LOC),
    scale_tril=jnp.array([[1.0, 0, 0], [0.5, 0.3, 0], [0, 1, 2]]),
    validate_args=False,
)
SAMPLED = {
    "gaussian": gaussian(jnp.asarray(LOC), jnp.asarray(SCALE)),
    "bernoulli": as_event(FAMILIES["bernoulli"](jnp.asarray(LOC)), 1),
    "categorical": categorical(jnp.asarray(LOC)),
    "fixed_scalar_scale": as_event(FAMILIES["laplace"](jnp.asarray(LOC), 0.1), 1),
    "student_t": as_event(student_t(jnp.asarray(LOC), jnp.asarray(RAW)), 1),
    "multivariate": MULTIVARIATE,
    "two_event_axes": FAMILIES["normal"](jnp.zeros((4, 3, 2)), 2.0).to_event(2),
}


@pytest.mark.parametrize(
    ("name", "leading"),
    [*((name, (2,)) for name in SAMPLED), ("gaussian", ()), ("two_event_axes", (2, 3))],
)
def test_the_shape_of_the_keys_is_the_shape_of_the_draws(name, leading):
    keys = example_keys(jax.random.key(0), jnp.arange(4 * np.prod(leading, dtype=int)))
    drawn = sample(SAMPLED[name], keys.reshape(*leading, 4))
    assert drawn.shape == (*leading, 4, *SAMPLED[name].event_shape)
    flat = np.asarray(drawn).reshape(-1, np.prod(SAMPLED[name].event_shape))
    assert np.isfinite(flat).all()
    if name not in ("bernoulli", "categorical"):
        assert len(np.unique(flat, axis=0)) == len(flat)


@pytest.mark.parametrize("name", SAMPLED)
def test_a_draw_depends_on_its_key_and_not_on_its_batch(name):
    whole = sample(SAMPLED[name], row_keys(4))
    arrays, build = unpack(SAMPLED[name])
    part = build(jax.tree.map(lambda array: array[1:3], arrays))
    np.testing.assert_array_equal(sample(part, row_keys(4)[1:3]), whole[1:3])
    order = jnp.array([3, 1, 0, 2])
    turned = build(jax.tree.map(lambda array: array[order], arrays))
    np.testing.assert_array_equal(sample(turned, row_keys(4)[order]), whole[order])


def test_samples_drawn_in_chunks_are_the_samples_drawn_at_once():
    q = SAMPLED["gaussian"]

    def keys():
        return jax.random.split(jax.random.key(3), (6, 4))

    chunks = [sample(q, keys()[start : start + 2]) for start in (0, 2, 4)]
    np.testing.assert_array_equal(jnp.concatenate(chunks), sample(q, keys()))


def test_the_same_draw_comes_with_and_without_jit():
    q = SAMPLED["gaussian"]
    compiled = jax.jit(lambda keys: sample(q, keys))(row_keys(4))
    np.testing.assert_allclose(compiled, sample(q, row_keys(4)), rtol=1e-6)


@pytest.mark.parametrize("name", ["gaussian", "multivariate"])
def test_draws_have_the_moments_of_the_distribution(name):
    q, count = SAMPLED[name], 10_000
    drawn = np.asarray(sample(q, jax.random.split(jax.random.key(1), (count, 4))))
    error = np.sqrt(np.asarray(q.variance) / count)
    assert (np.abs(drawn.mean(0) - q.mean) < 4.5 * error).all()
    np.testing.assert_allclose(drawn.var(0), q.variance, rtol=0.08)


def test_draws_are_reparameterised():
    def squares(scale):
        q = FAMILIES["normal"](jnp.zeros((4, 3)), scale).to_event(1)
        return jnp.sum(sample(q, row_keys(4)) ** 2)

    np.testing.assert_allclose(jax.grad(squares)(0.5) * 0.5, 2 * squares(0.5), rtol=1e-5)


@pytest.mark.parametrize("shape", [(), (3,), (4, 2)], ids=str)
def test_keys_that_do_not_end_in_the_batch_shape_are_refused(shape):
    keys = jax.random.split(jax.random.key(0), shape) if shape else jax.random.key(0)
    with pytest.raises(ValueError, match=r"keys have shape .*\(4,\)"):
        sample(SAMPLED["gaussian"], keys)


@pytest.mark.parametrize("name", SAMPLED)
def test_a_distribution_is_built_anew_inside_a_loop_over_its_rows(name):
    q = SAMPLED[name]
    values = sample(q, row_keys(4))
    arrays, build = unpack(q)
    found = jax.lax.map(lambda row: build(row[0]).log_prob(row[1]), (arrays, values))
    np.testing.assert_allclose(found, q.log_prob(values), rtol=1e-5)
    rebuilt = build(arrays)
    assert (rebuilt.batch_shape, rebuilt.event_shape) == (q.batch_shape, q.event_shape)


def test_unpack_broadcasts_to_the_batch_shape_that_it_is_given():
    arrays, build = unpack(standard_normal(3), (4,))
    assert {name: array.shape for name, array in arrays.items()} == {
        "loc": (4, 3),
        "scale": (4, 3),
    }
    np.testing.assert_allclose(
        build(arrays).log_prob(VALUES), standard_normal(3).log_prob(VALUES), rtol=1e-6
    )


def test_event_axes_added_in_two_steps_are_sampled_as_one():
    """What `as_event` makes of a user's family that already has some event axes."""
    family = dist.Normal(jnp.zeros((4, 3, 2)), 1.0, validate_args=False).to_event(1)
    assert sample(as_event(family, 2), row_keys(4)).shape == (4, 3, 2)


@pytest.mark.parametrize("read", ["covariance_matrix", "precision_matrix"])
def test_reading_a_property_does_not_change_what_can_be_sampled(read):
    q = dist.MultivariateNormal(jnp.zeros((4, 3)), scale_tril=jnp.eye(3), validate_args=False)
    assert getattr(q, read).shape[-2:] == (3, 3)
    assert sample(q, row_keys(4)).shape == (4, 3)


class Rounded(dist.Distribution):
    """A family with a choice that is no parameter."""

    arg_constraints: ClassVar = {"loc": dist.constraints.real}
    support = dist.constraints.real

    def __init__(self, loc, bins=256, *, validate_args=None):
        self.loc, self.bins = loc, bins
        super().__init__(jnp.shape(loc), validate_args=validate_args)

    def sample(self, key, sample_shape=()):
        noise = jax.random.normal(key, sample_shape + self.batch_shape)
        return jnp.round((self.loc + noise) * self.bins) / self.bins

    def log_prob(self, value):
        return jnp.full(jnp.shape(value), -jnp.log(self.bins))


def test_a_choice_beside_the_parameters_is_kept():
    q = as_event(Rounded(jnp.zeros((4, 3, 2)), bins=2), 2)
    np.testing.assert_allclose(q.log_prob(jnp.zeros((4, 3, 2))), -6 * np.log(2), rtol=1e-6)
    drawn = sample(q, row_keys(4))
    np.testing.assert_array_equal(drawn * 2, jnp.round(drawn * 2))


def test_a_mixture_for_each_pixel_has_a_density():
    logits, loc = jnp.zeros((4, 3, 2, 5)), jnp.ones((4, 3, 2, 5))
    mixture = dist.MixtureSameFamily(dist.Categorical(logits=logits), dist.Normal(loc, 1.0))
    values = np.zeros((4, 3, 2), np.float32)
    expected = scipy.stats.norm(1.0, 1.0).logpdf(values).sum(axis=(1, 2))
    np.testing.assert_allclose(as_event(mixture, 2).log_prob(values), expected, rtol=1e-5)


@pytest.mark.parametrize("given", ["covariance_matrix", "precision_matrix"])
def test_a_multivariate_normal_is_sampled_however_it_was_parameterised(given):
    q = dist.MultivariateNormal(jnp.zeros((4, 3)), **{given: jnp.eye(3)}, validate_args=False)
    assert sample(q, row_keys(4)).shape == (4, 3)


def quadrature_of_kl(p, q):
    def integrand(z):
        return p.pdf(z) * (p.logpdf(z) - q.logpdf(z))

    return scipy.integrate.quad(integrand, *p.interval(1 - 1e-13), limit=200)[0]


@pytest.mark.parametrize(
    ("p", "q"), [((0.0, 1.0), (0.0, 1.0)), ((1.5, 0.3), (0.0, 1.0)), ((-1.0, 2.0), (0.5, 0.7))]
)
def test_closed_form_divergence_is_the_integral(p, q):
    found = kl_divergence(*(gaussian(jnp.array([m]), jnp.array([s**2])) for m, s in (p, q)))
    expected = quadrature_of_kl(scipy.stats.norm(*p), scipy.stats.norm(*q))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_divergence_sums_the_latent_axes_and_keeps_the_batch(no_rank_promotion):
    p, q = (gaussian(jnp.asarray(m), jnp.asarray(SCALE)) for m in (LOC, VALUES))
    expected = (0.5 * (LOC - VALUES) ** 2 / SCALE).sum(-1)
    np.testing.assert_allclose(kl_divergence(p, q), expected, rtol=1e-5)


def test_divergence_from_a_distribution_to_itself_is_exactly_zero():
    q = SAMPLED["gaussian"]
    np.testing.assert_array_equal(kl_divergence(q, q), 0.0)


def test_divergence_without_closed_form_averages_to_the_integral():
    count = 20_000
    p = gaussian(jnp.full((count, 1), 0.5), jnp.full((count, 1), 0.25))
    q = as_event(FAMILIES["laplace"](jnp.zeros((count, 1)), 2.0), 1)
    estimates = np.asarray(kl_divergence(p, q, sample(p, row_keys(count))))
    assert estimates.shape == (count,)
    expected = quadrature_of_kl(scipy.stats.norm(0.5, 0.5), scipy.stats.laplace(0.0, 2.0))
    assert abs(estimates.mean() - expected) < 4.5 * estimates.std() / np.sqrt(count)


def test_divergence_without_closed_form_asks_for_a_draw():
    p, q = standard_normal(2), as_event(FAMILIES["laplace"](jnp.zeros(2)), 1)
    with pytest.raises(ValueError, match="no closed form: give z"):
        kl_divergence(p, q)


def experts_of(*moments):
    return [
        gaussian(jnp.full((3, 2), mean, jnp.float32), jnp.full((3, 2), variance, jnp.float32))
        for mean, variance in moments
    ]


def assert_moments(found, mean, variance, rtol=1e-5):
    np.testing.assert_allclose(found.mean, jnp.broadcast_to(mean, found.mean.shape), rtol=rtol)
    np.testing.assert_allclose(
        found.variance, jnp.broadcast_to(variance, found.mean.shape), rtol=rtol
    )


@pytest.mark.parametrize("prior", ["once", "each"])
@pytest.mark.parametrize("variance", [0.3, 1.0, 4.0])
def test_the_product_of_one_expert_is_that_expert(prior, variance, no_rank_promotion):
    assert_moments(product_of_experts(experts_of((1.5, variance)), prior=prior), 1.5, variance)


@pytest.mark.parametrize("prior", ["once", "each"])
def test_a_row_has_the_product_of_the_experts_that_it_has(prior, no_rank_promotion):
    experts = experts_of((1.0, 0.5), (-2.0, 4.0))
    present = [jnp.array([True, True, False]), jnp.array([True, False, False])]
    found = product_of_experts(experts, present, prior=prior)
    both = product_of_experts(experts, prior=prior)
    np.testing.assert_allclose(found.mean[0], both.mean[0], rtol=1e-6)
    np.testing.assert_allclose(found.variance[0], both.variance[0], rtol=1e-6)
    np.testing.assert_allclose(found.mean[1:], [[1.0] * 2, [0.0] * 2], rtol=1e-6)
    np.testing.assert_allclose(found.variance[1:], [[0.5] * 2, [1.0] * 2], rtol=1e-6)


def test_what_stands_in_an_absent_expert_reaches_neither_value_nor_gradient():
    def total(mean, absent):
        experts = [gaussian(mean, jnp.ones((3, 2)) / 2), gaussian(absent, jnp.ones((3, 2)))]
        present = [jnp.ones(3, bool), jnp.zeros(3, bool)]
        product = product_of_experts(experts, present)
        return jnp.sum(product.mean + product.variance)

    mean = jnp.ones((3, 2))
    value, (own, other) = jax.value_and_grad(total, (0, 1))(mean, jnp.full((3, 2), 1e6))
    np.testing.assert_allclose(value, 9.0, rtol=1e-6)
    np.testing.assert_allclose(own, 1.0, rtol=1e-6)
    np.testing.assert_array_equal(other, 0.0)


def grid_moments(log_density):
    z = np.linspace(-12, 12, 48_001)
    weight = np.exp(log_density(z) - log_density(z).max())
    weight /= weight.sum()
    mean = (weight * z).sum()
    return mean, (weight * (z - mean) ** 2).sum()


@pytest.mark.parametrize(
    "moments",
    [((1.0, 0.5), (-0.5, 0.2)), ((2.0, 1.0), (0.3, 0.9)), ((1.0, 0.5), (-1, 0.25), (0.2, 0.8))],
)
def test_the_product_with_the_prior_once_is_the_normalised_density(moments, no_rank_promotion):
    experts = [scipy.stats.norm(mean, np.sqrt(variance)) for mean, variance in moments]

    def log_density(z):
        surplus = (len(experts) - 1) * scipy.stats.norm.logpdf(z)
        return sum(expert.logpdf(z) for expert in experts) - surplus

    assert_moments(product_of_experts(experts_of(*moments)), *grid_moments(log_density), rtol=1e-4)


@pytest.mark.parametrize("moments", [((1.0, 0.5), (-0.5, 0.2)), ((2.0, 3.0), (0.3, 0.9))])
def test_the_product_with_the_prior_in_each_is_the_plain_product(moments, no_rank_promotion):
    experts = [scipy.stats.norm(mean, np.sqrt(variance)) for mean, variance in moments]
    expected = grid_moments(lambda z: sum(expert.logpdf(z) for expert in experts))
    assert_moments(product_of_experts(experts_of(*moments), prior="each"), *expected, rtol=1e-4)


def test_an_expert_that_knows_nothing_changes_nothing():
    informed = (1.0, 0.5)
    assert_moments(product_of_experts(experts_of(informed, (0.0, 1.0), (0.0, 1.0))), *informed)


def test_the_product_is_proper_however_wide_the_experts_are():
    product = product_of_experts(experts_of((3.0, 50.0), (-2.0, 9.0), (0.0, 4.0)))
    assert (np.asarray(product.variance) > 0).all()
    np.testing.assert_allclose(product.variance, 1.0, rtol=1e-6)


@pytest.mark.parametrize("prior", ["once", "each"])
def test_the_order_of_the_experts_does_not_matter(prior):
    moments = [(1.0, 0.5), (-2.0, 4.0), (0.3, 0.1)]
    present = [jnp.array([True, True, False]), jnp.array([True, False, True]), jnp.ones(3, bool)]
    first = product_of_experts(experts_of(*moments), present, prior=prior)
    second = product_of_experts(experts_of(*moments[::-1]), present[::-1], prior=prior)
    np.testing.assert_allclose(first.mean, second.mean, rtol=1e-5)
    np.testing.assert_allclose(first.variance, second.variance, rtol=1e-5)


def test_a_product_needs_an_expert_and_a_known_prior():
    with pytest.raises(ValueError, match="experts is empty"):
        product_of_experts([])
    with pytest.raises(ValueError, match=r"prior='twice'.*'once'.*'each'"):
        product_of_experts(experts_of((0.0, 1.0)), prior="twice")
    with pytest.raises(ValueError, match="present has length 1: expected 2, one an expert"):
        product_of_experts(experts_of((0.0, 1.0), (1.0, 1.0)), [jnp.ones(3, bool)])
