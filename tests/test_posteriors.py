"""Families of posteriors: identities between them, and their densities by other means."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import scipy.stats
from grids import some_of
from scipy.special import logsumexp

from jmvae_jax.distributions import (
    Coupling,
    Diagonal,
    Flow,
    Full,
    LowRank,
    Mixture,
    center,
    component_draws,
    example_keys,
    gaussian,
    is_reparameterized,
    kl_divergence,
    positive,
    product_of_experts,
    sample,
    standard_normal,
    unpack,
)

ROWS, DIM = 4, 3
FAMILIES = {
    "diagonal": Diagonal(),
    "full": Full(),
    "low_rank": LowRank(2),
    "mixture": Mixture(3),
    "mixture_full": Mixture(2, Full()),
    "mixture_low_rank": Mixture(2, LowRank(1)),
    "flow": Coupling(3, 8),
    "flow_mixture": Coupling(2, 8, Mixture(2, Full())),
}
GAUSSIANS = ("diagonal", "full", "low_rank")
EVERY = pytest.mark.parametrize(
    "name", some_of(FAMILIES, "diagonal", "full", "low_rank", "mixture_full", "flow_mixture")
)
Z = jax.random.normal(jax.random.key(6), (2, ROWS, DIM))


def row_keys(*samples):
    """Keys for `[*samples, ROWS]` draws; new ones at each call, since a key serves once."""
    shape = (*samples, ROWS)
    return example_keys(jax.random.key(5), jnp.arange(np.prod(shape)).reshape(shape))


def predicted(family, seed=0, **fixed):
    """Outputs of an encoder, and what rows share, by noise."""
    key = jax.random.key(seed)
    arrays, shared = {}, {}
    for number, (name, output) in enumerate(family.outputs(DIM).items()):
        values = 0.5 * jax.random.normal(jax.random.fold_in(key, number), (ROWS, *output.shape))
        arrays[name] = positive(values) if output.positive else values
    for number, (name, output) in enumerate(family.shared(DIM).items()):
        shared[name] = 0.5 * jax.random.normal(jax.random.fold_in(key, 100 + number), output.shape)
    arrays |= {name: jnp.full_like(arrays[name], value) for name, value in fixed.items()}
    return arrays, shared


def made(name, seed=0):
    family = FAMILIES[name]
    return family.build(*predicted(family, seed))


def close(found, expected, rtol=1e-4):
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=1e-4)


@EVERY
def test_a_family_has_rows_of_z_with_draws_and_densities(name):
    q = made(name)
    assert (q.batch_shape, q.event_shape) == ((ROWS,), (DIM,))
    draws = sample(q, row_keys(5))
    assert draws.shape == (5, ROWS, DIM)
    assert q.log_prob(draws).shape == (5, ROWS)
    assert np.isfinite(q.log_prob(draws)).all()
    assert center(q).shape == (ROWS, DIM)


@EVERY
def test_at_rest_a_family_is_the_standard_normal(name):
    family = FAMILIES[name]
    _, shared = predicted(family)
    rest = {n: jnp.full((ROWS, *o.shape), o.rest) for n, o in family.outputs(DIM).items()}
    close(family.build(rest, shared).log_prob(Z), standard_normal(DIM).log_prob(Z))


@EVERY
def test_what_is_taken_apart_and_built_again_is_the_same(name):
    q = made(name)
    arrays, build = unpack(q)
    np.testing.assert_array_equal(build(arrays).log_prob(Z), q.log_prob(Z))
    one, build = unpack(q, (1, ROWS))
    row = jax.tree.map(lambda x: x[0, 2], one)
    close(build(row).log_prob(Z[0, 2]), q.log_prob(Z)[0, 2])


@EVERY
def test_draws_are_of_the_density(name):
    """E[q2(z) / q(z)] is 1 for any other density q2."""
    q = made(name)
    keys = row_keys(4000)
    z = jax.jit(lambda keys: sample(made(name), keys))(keys)
    # Narrower than q, so that the ratio has a variance.
    narrow = gaussian(center(q), 0.05 * jnp.ones((ROWS, DIM)))
    ratio = np.exp(np.asarray(narrow.log_prob(z) - q.log_prob(z), np.float64))
    error = ratio.std(0) / np.sqrt(len(ratio))
    assert (error < 0.25).all()
    assert (np.abs(ratio.mean(0) - 1) < 4.5 * error).all()


def test_a_full_covariance_has_its_factors_density():
    arrays, shared = predicted(Full())
    q = Full().build(arrays, shared)
    found = q.log_prob(Z[0])
    for row in range(ROWS):
        factor = np.asarray(q.scale_tril[row])
        expected = scipy.stats.multivariate_normal(arrays["mean"][row], factor @ factor.T)
        close(found[row], expected.logpdf(Z[0, row]))


@pytest.mark.parametrize("dim", [1, 2, 5, 8])
def test_each_output_has_a_place_of_its_own_in_the_factor(dim):
    lower = 1 + jnp.arange(2 * dim * (dim - 1) // 2, dtype=float).reshape(2, -1)
    deviation = 1.0 + np.arange(dim)
    arrays = {"mean": jnp.zeros((2, dim)), "variance": jnp.tile(deviation**2, (2, 1))}
    found = Full().build({**arrays, "lower": lower}, {}).scale_tril
    for row, unit in enumerate(np.asarray(found) / deviation[:, None]):
        np.testing.assert_array_equal(np.triu(unit), np.eye(dim))
        below = unit[np.tril_indices(dim, -1)]
        np.testing.assert_array_equal(np.sort(below), lower[row])


def test_a_low_rank_covariance_is_its_sum():
    arrays, shared = predicted(LowRank(2))
    found = LowRank(2).build(arrays, shared).log_prob(Z[0])
    for row in range(ROWS):
        factor = np.asarray(arrays["factor"][row])
        covariance = np.diag(arrays["variance"][row]) + factor @ factor.T
        expected = scipy.stats.multivariate_normal(arrays["mean"][row], covariance)
        close(found[row], expected.logpdf(Z[0, row]))


def test_a_mixture_is_the_weighted_sum_of_its_components():
    arrays, shared = predicted(Mixture(3))
    arrays["logits"] = jax.random.normal(jax.random.key(9), (ROWS, 3))
    found = Mixture(3).build(arrays, shared).log_prob(Z[0])
    parts = [gaussian(arrays["mean"][:, k], arrays["variance"][:, k]) for k in range(3)]
    terms = [
        p.log_prob(Z[0]) + jax.nn.log_softmax(arrays["logits"])[:, k] for k, p in enumerate(parts)
    ]
    close(found, logsumexp(np.stack(terms), axis=0))


@pytest.mark.parametrize("of", [Diagonal(), Full(), LowRank(1)])
def test_a_mixture_of_one_is_its_component(of):
    arrays, shared = predicted(of)
    one = {name: values[:, None] for name, values in arrays.items()}
    one["logits"] = jnp.full((ROWS, 1), 0.7)
    close(Mixture(1, of).build(one, shared).log_prob(Z), of.build(arrays, shared).log_prob(Z))


@pytest.mark.parametrize(("family", "output"), [(Full(), "lower"), (LowRank(2), "factor")])
def test_a_covariance_with_a_diagonal_factor_is_the_diagonal_gaussian(family, output):
    arrays, shared = predicted(family, **{output: 0.0})
    expected = Diagonal().build(arrays, shared)
    found = family.build(arrays, shared)
    close(found.log_prob(Z), expected.log_prob(Z))
    close(found.mean, expected.mean)


@pytest.mark.parametrize("base", [Diagonal(), Full(), Mixture(2)])
def test_a_flow_with_identity_parameters_is_its_base(base):
    family = Coupling(3, 8, base)
    arrays, shared = predicted(family)
    found = family.build(arrays, shared | {"outer": jnp.zeros_like(shared["outer"])})
    expected = base.build(arrays, {})
    np.testing.assert_array_equal(found.log_prob(Z), expected.log_prob(Z))
    np.testing.assert_array_equal(sample(found, row_keys()), sample(expected, row_keys()))


def test_a_flow_starts_as_its_base():
    assert Coupling(3).shared(DIM)["outer"].scale == 0.0


def test_the_density_of_a_flow_is_that_of_a_change_of_variables():
    q = made("flow")
    assert isinstance(q, Flow)
    e = jax.random.normal(jax.random.key(8), (ROWS, DIM))
    z = q.transform(e)
    assert (np.abs(z - e) > 1e-3).any()
    for row in range(ROWS):
        arrays, build = unpack(q)
        one = build(jax.tree.map(lambda x, row=row: x[row], arrays))
        jacobian = np.asarray(jax.jacfwd(one.transform)(e[row]), np.float64)
        expected = one.base.log_prob(e[row]) - np.linalg.slogdet(jacobian)[1]
        close(one.log_prob(z[row]), expected)


def test_layers_of_a_flow_change_one_parity_each():
    q = made("flow")
    one = Flow(q.base, q.context[:, :1], q.inner[:1], q.outer[:1])
    e = jax.random.normal(jax.random.key(8), (ROWS, DIM))
    changed = (np.asarray(one.transform(e) - e) != 0).any(axis=0)
    np.testing.assert_array_equal(changed, [False, True, False])


@pytest.mark.parametrize("first", GAUSSIANS)
@pytest.mark.parametrize("second", GAUSSIANS)
def test_between_gaussians_the_divergence_has_a_closed_form(first, second):
    p, q = made(first, 1), made(second, 2)

    def moments(d):
        covariance = getattr(d, "covariance_matrix", None)
        return d.mean, jax.vmap(jnp.diag)(d.variance) if covariance is None else covariance

    (m, s), (n, t) = moments(p), moments(q)
    for row in range(ROWS):
        mean, other = (np.asarray(x[row], np.float64) for x in (m, n))
        cov, second_cov = (np.asarray(x[row], np.float64) for x in (s, t))
        inverse = np.linalg.inv(second_cov)
        expected = 0.5 * (
            np.trace(inverse @ cov)
            + (other - mean) @ inverse @ (other - mean)
            - DIM
            + np.linalg.slogdet(second_cov)[1]
            - np.linalg.slogdet(cov)[1]
        )
        close(kl_divergence(p, q)[row], expected, rtol=1e-3)


@pytest.mark.parametrize("first", GAUSSIANS)
@pytest.mark.parametrize("second", GAUSSIANS)
def test_the_divergence_to_one_distribution_for_all_rows_is_that_of_each(first, second):
    p, q = made(first, 1), made(second, 2)
    arrays, build = unpack(q)
    one = build(jax.tree.map(lambda values: values[0], arrays))
    repeated = build(jax.tree.map(lambda values: jnp.repeat(values[:1], ROWS, axis=0), arrays))
    close(kl_divergence(p, one), kl_divergence(p, repeated))
    close(kl_divergence(one, p), kl_divergence(repeated, p))


@pytest.mark.parametrize("name", GAUSSIANS)
@pytest.mark.parametrize("variance", [1e-3, 1e-7])
def test_a_small_variance_beside_a_factor_of_low_rank_does_not_drown(name, variance):
    dim, q = 16, FAMILIES[name]
    factor = jax.random.normal(jax.random.key(0), (1, dim, 2))
    low = LowRank(2).build(
        {"mean": jnp.zeros((1, dim)), "factor": factor, "variance": jnp.full((1, dim), variance)},
        {},
    )
    wide = {"mean": jnp.ones((1, dim)), "variance": jnp.full((1, dim), 4.0)}
    wide |= {"lower": jnp.zeros((1, dim * (dim - 1) // 2)), "factor": jnp.zeros((1, dim, 2))}
    wide = q.build({key: wide[key] for key in q.outputs(dim)}, {})
    covariance = np.asarray(factor[0], np.float64) @ np.asarray(factor[0], np.float64).T
    covariance += variance * np.eye(dim)
    log_dets = np.linalg.slogdet(covariance)[1], dim * np.log(4.0)
    inverse = np.linalg.inv(covariance)
    forward = np.trace(covariance) / 4 + dim / 4 - dim + log_dets[1] - log_dets[0]
    reverse = 4 * np.trace(inverse) + inverse.sum() - dim + log_dets[0] - log_dets[1]
    close(kl_divergence(low, wide)[0], forward / 2, rtol=1e-4)
    close(kl_divergence(wide, low)[0], reverse / 2, rtol=1e-4)


def low_rank(factor, variance):
    """One row, in float32, and its covariance in float64."""
    factor, variance = np.float32(factor), np.float32(variance)
    arrays = {"mean": jnp.zeros((1, len(factor))), "factor": jnp.asarray(factor)[None]}
    arrays["variance"] = jnp.full((1, len(factor)), variance)
    covariance = np.float64(factor) @ np.float64(factor).T + variance * np.eye(len(factor))
    return LowRank(factor.shape[1]).build(arrays, {}), covariance


NARROW_DIM, NARROW_RANK = 64, 4


def narrow_factors(variance, equal_columns):
    """Two factors of size 1 that differ by a hundredth of a deviation."""
    noise = np.random.default_rng(0)
    factor = noise.normal(size=(NARROW_DIM, NARROW_RANK))
    factor = factor[:, :1].repeat(NARROW_RANK, axis=1) if equal_columns else factor
    moved = factor + 0.01 * np.sqrt(variance) * noise.normal(size=factor.shape)
    return factor, moved


@pytest.mark.parametrize("variance", [1e-2, 1e-4, 1e-6, 1.2e-7])
@pytest.mark.parametrize("equal_columns", [False, True])
def test_two_narrow_gaussians_of_low_rank_are_told_apart(variance, equal_columns):
    """By float64."""
    (p, cov), (q, other) = (low_rank(f, variance) for f in narrow_factors(variance, equal_columns))
    determinants = [np.linalg.slogdet(c)[1] for c in (cov, other)]
    relative = np.trace(np.linalg.inv(other) @ cov)
    expected = 0.5 * (relative - NARROW_DIM + determinants[1] - determinants[0])
    close(kl_divergence(p, q), [expected], rtol=1e-2)
    theirs = dist.LowRankMultivariateNormal(q.loc, q.cov_factor, q.cov_diag)
    close(kl_divergence(p, theirs), [expected], rtol=1e-2)
    close(kl_divergence(p, p), [0.0])
    z = np.random.default_rng(1).multivariate_normal(np.zeros(NARROW_DIM), cov)
    log_prob = scipy.stats.multivariate_normal(cov=cov, allow_singular=True).logpdf(z)
    close(p.log_prob(jnp.asarray(z, jnp.float32)), [log_prob], rtol=1e-3)


@pytest.mark.parametrize("variance", [1e-2, 1e-4, 1e-6])
@pytest.mark.parametrize("equal_columns", [False, True])
def test_their_divergence_has_the_right_gradient(variance, equal_columns):
    """`d KL / dF = C_q^-1 (I - C_p C_q^-1) F`, by float64."""
    (p, cov), (q, other) = (low_rank(f, variance) for f in narrow_factors(variance, equal_columns))

    def divergence(factor):
        arrays = {"mean": q.loc, "factor": factor, "variance": q.cov_diag}
        return kl_divergence(p, LowRank(NARROW_RANK).build(arrays, {}))[0]

    inverse = np.linalg.inv(other)
    expected = inverse @ (np.eye(NARROW_DIM) - cov @ inverse) @ np.float64(q.cov_factor[0])
    found = jax.grad(divergence)(q.cov_factor)[0]
    np.testing.assert_allclose(found, expected, atol=1e-3 / np.sqrt(variance))
    assert np.abs(expected).max() > 5e-3 / np.sqrt(variance)


def test_draws_of_another_shape_are_refused():
    p, q = made("flow"), made("full")
    with pytest.raises(ValueError, match=r"z has shape \(1, 3\): expected \(4, 3\), draws from"):
        kl_divergence(p, q, jnp.zeros((1, DIM)))
    assert kl_divergence(p, q, jnp.zeros((2, ROWS, DIM))).shape == (2, ROWS)


def test_a_divergence_without_closed_form_needs_a_draw():
    with pytest.raises(ValueError, match="no closed form: give z"):
        kl_divergence(made("mixture"), made("full"))


def test_a_mixtures_divergence_has_the_right_gradient_to_its_weights_too():
    """Against the trapezoidal rule, in one dimension."""
    means, target = jnp.array([[[-1.0], [1.5]]]), gaussian(jnp.zeros((1, 1)), jnp.ones((1, 1)))

    def mixture(logits):
        arrays = {"logits": logits[None], "mean": means, "variance": 0.5 * jnp.ones((1, 2, 1))}
        return Mixture(2).build(arrays, {})

    def exact(logits):
        z = jnp.linspace(-8.0, 8.0, 4001)[:, None, None]
        q = mixture(logits)
        terms = jnp.exp(q.log_prob(z)) * (q.log_prob(z) - target.log_prob(z))
        return jnp.trapezoid(terms[:, 0], dx=16.0 / 4000)

    def estimated(logits, key):
        q = mixture(logits)
        return kl_divergence(q, target, component_draws(q, example_keys(key, jnp.arange(1))))[0]

    logits = jnp.array([0.3, -0.4])
    keys = jax.random.split(jax.random.key(3), 4000)
    for function in (lambda f: f, jax.grad):
        found = jax.jit(jax.vmap(function(estimated), (None, 0)))(logits, keys)
        found = np.asarray(found, np.float64)
        error = found.std(0) / np.sqrt(len(keys))
        assert (np.abs(found.mean(0) - function(exact)(logits)) < 4.5 * error + 1e-4).all()


@EVERY
def test_draws_for_a_divergence_are_of_each_component(name):
    q = made(name)
    found = component_draws(q, row_keys())
    components = {"mixture": 3, "mixture_full": 2, "mixture_low_rank": 2, "flow_mixture": 2}
    count = (components[name],) if name in components else ()
    assert found.shape == (*count, ROWS, DIM)
    assert kl_divergence(q, standard_normal(DIM), found).shape == (ROWS,)


@pytest.mark.parametrize("name", ["mixture", "flow_mixture"])
def test_the_gradient_to_the_weights_is_that_of_each_components_term(name):
    """`d/dl sum_k w_k t_k = w (t - sum_k w_k t_k)` for `w = softmax(l)`, whatever the flow."""
    q = made(name)
    z = component_draws(q, row_keys())
    mixture = q if name == "mixture" else q.base

    def loss(logits):
        weights = dist.Categorical(logits=logits)
        other = dist.MixtureSameFamily(weights, mixture.component_distribution)
        p = other if name == "mixture" else Flow(other, q.context, q.inner, q.outer)
        return kl_divergence(p, standard_normal(DIM), z).sum()

    terms = np.moveaxis(np.asarray(q.log_prob(z) - standard_normal(DIM).log_prob(z)), 0, -1)
    w = np.asarray(mixture.mixing_distribution.probs)
    expected = w * (terms - (w * terms).sum(-1, keepdims=True))
    found = jax.grad(loss)(mixture.mixing_distribution.logits)
    close(found, expected)
    assert (np.abs(found) > 1e-3).any()


@pytest.mark.parametrize("name", ["mixture", "flow_mixture"])
def test_one_draw_of_a_mixture_is_not_enough_for_its_divergence(name):
    q = made(name)
    with pytest.raises(ValueError, match="a draw of each component of the first"):
        kl_divergence(q, standard_normal(DIM), sample(q, row_keys()))


def test_a_mixtures_draws_are_not_reparameterized():
    found = {name for name in FAMILIES if not is_reparameterized(made(name))}
    assert found == {"mixture", "mixture_full", "mixture_low_rank", "flow_mixture"}


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "diagonal"])
def test_a_product_is_of_diagonal_gaussians_alone(name):
    with pytest.raises(ValueError, match="a product is of diagonal Gaussians"):
        product_of_experts([made("diagonal"), made(name)])


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: LowRank(0), "rank=0: expected at least 1"),
        (lambda: Mixture(0), "components=0: expected at least 1"),
        (lambda: Mixture(2, Mixture(2)), r"of=Mixture.*expected Diagonal\(\), Full\(\)"),
        (lambda: Coupling(0), "layers=0: expected at least 1"),
        (lambda: Coupling(1, 0), "hidden=0: expected at least 1"),
        (lambda: Coupling(1, 8, Coupling(1)), "base=Coupling.*expected a Gaussian"),
        (lambda: Coupling(1).shared(1), "latent_dim=1: a coupling flow needs at least 2"),
    ],
)
def test_what_cannot_be_is_refused(build, words):
    with pytest.raises(ValueError, match=words):
        build()
