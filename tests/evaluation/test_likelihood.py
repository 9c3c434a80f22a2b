"""Every likelihood estimator against closed forms, quadrature and sums by hand."""

import itertools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zoo
from linear_gaussian import (
    NAMES,
    draw_batch,
    evidence,
    linear_gaussian,
    log_weights,
)
from scipy.special import logsumexp

import jmvae_jax as jm
from jmvae_jax.evaluation import Estimate, Query, estimate, standard_queries, summarize

PRIOR_DRAWS = 5000  # N of (2) in the likelihood module
SIGMAS = 5.0
ROUNDING = 1e-4


def subsets(names):
    sizes = range(len(names) + 1)
    return [part for size in sizes for part in itertools.combinations(names, size)]


def rest(*names):
    return tuple(name for name in NAMES if name not in names)


def field(estimates, name):
    """One attribute of several estimates: `float64[queries, B]`."""
    return np.stack([np.asarray(getattr(e, name), np.float64) for e in estimates])


def truth(model, batch, query):
    return evidence(model, batch, query.target + query.given) - evidence(model, batch, query.given)


def by_hand(model, seed, batch, query, K):
    """Value, Monte-Carlo variance and effective sample size from weights in float64."""
    key = jax.random.key(seed)
    both = log_weights(model, key, batch, query.source, query.target + query.given, K)
    low = np.zeros_like(both)
    if query.given:
        low = log_weights(model, jax.random.key(seed), batch, query.source, query.given, K)
    a, b = np.exp(both - logsumexp(both, axis=0)), np.exp(low - logsumexp(low, axis=0))
    value = logsumexp(both, axis=0) - logsumexp(low, axis=0)
    return value, np.square(a - b).sum(axis=0), 1.0 / np.square(a).sum(axis=0)


# Linear-Gaussian: closed form


@pytest.fixture(scope="module")
def exact():
    """Every evidence under its own posterior, with one example very far from the others."""
    model = linear_gaussian()
    batch = draw_batch(model, 4)
    for value in batch.values():
        value[1] += 60.0
    queries = [Query(target) for target in subsets(NAMES)[1:]]
    found = estimate(model, {}, jax.random.key(1), batch, queries, 3)
    return field(found, "value"), np.stack([truth(model, batch, q) for q in queries]), found


def test_any_evidence_is_exact_when_the_proposal_is_its_posterior(exact):
    value, expected, found = exact
    near = [0, 2, 3]
    np.testing.assert_allclose(value[:, near], expected[:, near], rtol=0, atol=1e-4)
    np.testing.assert_allclose(field(found, "ess")[:, near], 3, rtol=1e-4)
    np.testing.assert_allclose(field(found, "mc_variance")[:, near], 0.0, atol=1e-6)


def test_very_different_examples_do_not_mix(exact):
    value, expected, _ = exact
    assert (expected[:, 1] < expected[:, 0] - 500).all()
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-4)


@pytest.fixture(scope="module")
def wide():
    """Every target, given and proposal of three modalities, from a wide and shifted proposal."""
    model = linear_gaussian(widen=1.8, shift=0.2)
    batch, seed, num_samples = draw_batch(model, 6), 1, 1999
    queries = [
        Query(target, given, proposal)
        for target in subsets(NAMES)[1:]
        for given in subsets(rest(*target))
        for proposal in subsets(NAMES)
    ]
    found = estimate(model, {}, jax.random.key(seed), batch, queries, num_samples)
    by_query = dict(zip(queries, found, strict=True))
    return types.SimpleNamespace(
        model=model, batch=batch, seed=seed, num_samples=num_samples, queries=queries, by=by_query
    )


def test_every_query_agrees_with_closed_form_within_its_monte_carlo_error(wide):
    assert len(wide.queries) == 19 * 8
    expected = np.stack([truth(wide.model, wide.batch, query) for query in wide.queries])
    found = list(wide.by.values())
    error = np.sqrt(field(found, "mc_variance"))
    assert error.max() < 0.3
    off = (field(found, "value") - expected) / (error + ROUNDING / SIGMAS)
    query, row = np.unravel_index(np.abs(off).argmax(), off.shape)
    assert np.abs(off).max() < SIGMAS, f"{wide.queries[query]}, row {row}: {off[query, row]}"
    # Neither too large nor too small an error: the standardised deviations have unit size.
    assert 0.7 < off.std() < 1.4


def test_the_mean_of_every_query_agrees_within_mc_stderr(wide):
    for query, found in wide.by.items():
        summary = summarize([found])
        off = summary["estimate"] - truth(wide.model, wide.batch, query).mean()
        assert abs(off) < SIGMAS * summary["mc_stderr"] + ROUNDING, query


def test_value_variance_and_ess_are_the_sums_over_weights_by_hand(wide):
    for query in wide.queries[::3]:
        found = wide.by[query]
        expected = by_hand(wide.model, wide.seed, wide.batch, query, wide.num_samples)
        np.testing.assert_allclose(found.value, expected[0], atol=ROUNDING, err_msg=str(query))
        np.testing.assert_allclose(found.mc_variance, expected[1], rtol=1e-2, atol=1e-6)
        np.testing.assert_allclose(found.ess, expected[2], rtol=1e-3)


def test_conditional_is_joint_minus_marginal_under_one_proposal(wide):
    for query in wide.queries:
        if query.given:
            joint = next(
                found
                for other, found in wide.by.items()
                if set(other.target) == {*query.target, *query.given}
                and (other.given, other.proposal) == ((), query.proposal)
            )
            marginal = wide.by[Query(query.given, (), query.proposal)]
            np.testing.assert_allclose(
                wide.by[query].value, joint.value - marginal.value, atol=ROUNDING
            )


def test_effective_sample_size_lies_between_one_and_the_number_of_draws(wide):
    ess = field(list(wide.by.values()), "ess")
    assert ess.min() >= 1.0
    assert ess.max() <= wide.num_samples * (1 + 1e-5)
    # The prior's draws fit three modalities worse than their own widened posterior does.
    joint = tuple(NAMES)
    far, near = wide.by[Query(joint, (), ())], wide.by[Query(joint, (), joint)]
    assert (np.asarray(far.ess) < np.asarray(near.ess)).all()


@pytest.fixture(scope="module")
def rising():
    """Joint estimates of many examples from few draws and from more: the first are the same."""
    model = linear_gaussian(widen=3.0, shift=0.5)
    batch, joint = draw_batch(model, 400), Query(NAMES)
    values = [
        field(estimate(model, {}, jax.random.key(2), batch, [joint], K), "value")[0]
        for K in (1, 5, 60)
    ]
    return types.SimpleNamespace(
        model=model, batch=batch, values=values, truth=truth(model, batch, joint)
    )


def test_bound_rises_with_the_number_of_draws_towards_the_evidence(rising):
    def stderr(values):
        return values.std(ddof=1) / np.sqrt(len(values))

    for fewer, more in itertools.pairwise(rising.values):
        assert (more - fewer).mean() > 3 * stderr(more - fewer)
    gap = rising.truth - rising.values[-1]
    assert -3 * stderr(gap) < gap.mean() < 0.1


def test_one_draw_is_a_one_sample_bound_by_hand(rising):
    key = jax.random.key(2)
    expected = log_weights(rising.model, key, rising.batch, NAMES, NAMES, 1)[0]
    np.testing.assert_allclose(rising.values[0], expected, atol=ROUNDING)


def test_variance_is_that_of_repeated_estimates():
    model = linear_gaussian(widen=2.0, shift=0.4)
    repeats = 400
    batch = {name: np.repeat(value, repeats, 0) for name, value in draw_batch(model, 1).items()}
    queries = [Query(("x", "y")), Query(("x",), (), ()), Query(("y",), ("x", "w"), ("x", "w"))]
    for found in estimate(model, {}, jax.random.key(4), batch, queries, 150):
        empirical = np.asarray(found.value, np.float64).var(ddof=1)
        assert 0.5 < np.asarray(found.mc_variance).mean() / empirical < 2.0
        assert empirical > 1e-5


def test_log_weights_ten_thousand_apart_stay_finite_and_right():
    model = linear_gaussian("x", "w", noise=0.01)
    batch = draw_batch(model, 2)
    queries = [Query(("x", "w"), (), ()), Query(("x",), ("w",), ())]
    found = estimate(model, {}, jax.random.key(6), batch, queries, 50, chunk_rows=7)
    weights = log_weights(model, jax.random.key(6), batch, (), ("x", "w"), 50)
    assert np.ptp(weights, axis=0).min() > 1e4
    for query, estimated in zip(queries, found, strict=True):
        value, variance, ess = by_hand(model, 6, batch, query, 50)
        np.testing.assert_allclose(estimated.value, value, rtol=1e-5, atol=1e-2)
        np.testing.assert_allclose(estimated.mc_variance, variance, atol=1e-2)
        np.testing.assert_allclose(estimated.ess, ess, rtol=1e-2)


# Masks


def test_a_masked_row_has_the_estimate_of_what_it_has():
    model = linear_gaussian(widen=1.5, shift=0.2)
    patterns = subsets(NAMES)
    clean = draw_batch(model, len(patterns))
    mask = {name: np.array([name in there for there in patterns]) for name in NAMES}
    masked = [Query(NAMES), Query(("x",), ("w", "y"))]
    values = []
    for fill in (np.nan, 1e6, 0.0):
        batch = {n: np.where(mask[n][:, None], v, np.float32(fill)) for n, v in clean.items()}
        found = estimate(model, {}, jax.random.key(7), batch, masked, 40, mask=mask)
        values.append(field(found, "value"))
        np.testing.assert_array_equal(values[-1], values[0])
    parts = [Query(there) for there in patterns[1:]]
    parts += [Query(("x",), given) for given in subsets(("w", "y"))[1:]]
    found = estimate(model, {}, jax.random.key(7), clean, parts, 40)
    alone = dict(zip(parts, found, strict=True))
    joint, conditional = values[0]
    for row, there in enumerate(patterns):
        expected = alone[Query(there)].value[row] if there else 0.0
        np.testing.assert_allclose(joint[row], expected, atol=ROUNDING)
        given = tuple(name for name in there if name != "x")
        if "x" not in there:
            np.testing.assert_allclose(conditional[row], 0.0, atol=ROUNDING)
        elif given:
            expected = alone[Query(("x",), given)].value[row]
            np.testing.assert_allclose(conditional[row], expected, atol=ROUNDING)


# A discrete modality: quadrature over z


@pytest.fixture(scope="module")
def discrete():
    """A model of image and label, with its densities integrated over a grid of z."""
    model = zoo.ZOO["jmvae_kl_2"].model
    batch = zoo.batch_of(model, rows=6)
    variables = zoo.variables_of(model)
    # Likelihoods that depend on z; the encoders stay broad.
    params = {
        name: jax.tree.map(lambda x, name=name: x * (2.5 if "decoders" in name else 1.0), value)
        for name, value in variables["params"].items()
    }
    variables = {"params": params}
    line = np.linspace(-7, 7, 141)
    z = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    log_prior = -0.5 * np.square(z).sum(-1) - np.log(2 * np.pi) + 2 * np.log(line[1] - line[0])
    likelihoods = model.apply(variables, jnp.asarray(z, jnp.float32), method="decode")
    log_class = np.stack(
        [np.asarray(likelihoods["label"].log_prob(row), np.float64) for row in jnp.eye(3)], axis=1
    )
    log_image = np.stack(
        [np.asarray(likelihoods["image"].log_prob(row), np.float64) for row in batch["image"]],
        axis=1,
    )
    log_label = log_class[:, np.asarray(batch["label"]).argmax(-1)]

    def integral(log_density):
        return logsumexp(log_prior[:, None] + log_density, axis=0)

    np.testing.assert_allclose(integral(np.zeros((len(z), 1))), 0.0, atol=1e-6)
    return types.SimpleNamespace(
        model=model,
        variables=variables,
        batch=batch,
        log_p_class=integral(log_class),
        class_moments=np.exp(log_prior[:, None] + log_class).T @ np.exp(log_class),
        truth={
            Query(("image", "label")): integral(log_image + log_label),
            Query(("label",)): integral(log_label),
            Query(("image",), ("label",)): integral(log_image + log_label) - integral(log_label),
            Query(("label",), ("image",)): integral(log_image + log_label) - integral(log_image),
            Query(("image",), ("label",), ("image",)): integral(log_image + log_label)
            - integral(log_label),
            Query(("image",)): integral(log_image),
        },
    )


COPIES = 200


@pytest.fixture(scope="module")
def discrete_found(discrete):
    """Estimates of each query for six rows, and for many copies of the first."""
    rows = np.concatenate([np.arange(6), np.zeros(COPIES, int)])
    batch = {name: value[rows] for name, value in discrete.batch.items()}
    args = (discrete.model, discrete.variables, jax.random.key(9), batch)
    queries = list(discrete.truth)
    found = estimate(*args, queries, 1000, chunk_rows=20_000)
    return dict(zip(queries, found, strict=True))


def whole_variance(found):
    """Monte-Carlo variance of each row, the shared part included."""
    variance = np.asarray(found.mc_variance, np.float64)
    if found.given_covariance is None:
        return variance
    rows, shared = np.asarray(found.given_rows), np.asarray(found.given_covariance)
    return variance + np.einsum("bi,ij,bj->b", rows, shared, rows)


def test_the_three_estimators_agree_with_quadrature(discrete, discrete_found):
    names = [query.estimator(discrete.model) for query in discrete.truth]
    assert names == ["importance", "importance", "prior", "ratio", "prior", "importance"]
    for query, found in discrete_found.items():
        found = found.rows(6)
        variance = whole_variance(found)
        assert variance.max() < 0.3**2, query
        off = np.asarray(found.value, np.float64) - discrete.truth[query]
        assert (np.abs(off) < SIGMAS * np.sqrt(variance) + ROUNDING).all(), (query, off)


def test_variance_is_that_of_repeats_for_each_estimator(discrete_found):
    for query, found in discrete_found.items():
        # The table of the prior estimator is the same for all: no part of this spread.
        empirical = np.asarray(found.value, np.float64)[6:].var(ddof=1)
        assert 0.5 < np.asarray(found.mc_variance)[6:].mean() / empirical < 2.0, query


def test_log_p_of_each_class_and_its_covariance_agree_with_quadrature(discrete, discrete_found):
    joint = discrete_found[Query(("image", "label"))].rows(6)
    conditional = discrete_found[Query(("image",), ("label",))].rows(6)
    # One proposal and its draws: all that differs is the table of classes.
    table = np.asarray(joint.value - conditional.value, np.float64)
    classes = np.asarray(discrete.batch["label"]).argmax(-1)
    assert set(classes) == {0, 1, 2}
    p = np.exp(discrete.log_p_class)
    covariance = (discrete.class_moments / np.outer(p, p) - 1.0) / PRIOR_DRAWS
    error = np.sqrt(np.diag(covariance))[classes]
    assert error.min() > 1e-3
    assert error.max() < 0.05
    off = np.abs(table - discrete.log_p_class[classes])
    assert (off < SIGMAS * error + ROUNDING).all()
    largest = np.abs(covariance).max()
    np.testing.assert_allclose(
        conditional.given_covariance, covariance, rtol=0.15, atol=0.05 * largest
    )
    np.testing.assert_array_equal(conditional.given_rows, discrete.batch["label"])
    assert joint.given_rows is None
    assert joint.given_covariance is None


def test_joint_is_label_plus_image_given_label_between_our_estimators(discrete_found):
    label = discrete_found[Query(("label",))]
    image = discrete_found[Query(("image",), ("label",))]
    joint = discrete_found[Query(("image", "label"))]
    # The draws of joint and conditional are the same: what is left is the error of log p(w).
    variance = label.mc_variance + whole_variance(image) - image.mc_variance
    off = np.asarray(label.value + image.value - joint.value)
    assert (np.abs(off) < SIGMAS * np.sqrt(variance) + ROUNDING).all()


def test_a_mask_leaves_the_given_label_out_of_the_prior_estimator(discrete, discrete_found):
    conditional = Query(("image",), ("label",), ("image",))
    both = discrete_found[conditional].rows(6)
    alone = discrete_found[Query(("image",))].rows(6)
    there = np.array([True, False, True, False, True, False])
    label = jnp.where(there[:, None], discrete.batch["label"], jnp.nan)
    (masked,) = estimate(
        discrete.model,
        discrete.variables,
        jax.random.key(9),
        discrete.batch | {"label": label},
        [conditional],
        1000,
        {"label": there},
    )
    assert (np.abs(np.asarray(both.value - alone.value)) > 10 * ROUNDING).all()
    expected = np.where(there, both.value, alone.value)
    np.testing.assert_allclose(masked.value, expected, atol=ROUNDING)
    rows = np.where(there[:, None], discrete.batch["label"], 0.0)
    np.testing.assert_array_equal(masked.given_rows, rows)


def test_a_label_given_an_image_has_probabilities_that_sum_to_one(discrete):
    total = 0.0
    for number in range(3):
        batch = discrete.batch | {"label": jnp.eye(3)[jnp.full(6, number)]}
        found = jm.log_likelihood(
            discrete.model,
            discrete.variables,
            jax.random.key(10),
            batch,
            target=("label",),
            given=("image",),
            proposal=("image",),
            num_samples=20,
        )
        assert (np.asarray(found) <= 1e-6).all()
        total = total + np.exp(np.asarray(found, np.float64))
    np.testing.assert_allclose(total, 1.0, atol=1e-5)


# Chunks, batches and keys

MIXED = [Query(NAMES), Query(("x",), ("w",)), Query(("w",), ("x", "y"), ("y",))]
NUM_MIXED = 3


@pytest.fixture(scope="module")
def mixed():
    """A batch of five with absent parts, and the keys of its examples."""
    model = linear_gaussian(widen=1.5, shift=0.3)
    mask = {"y": jnp.array([True, False, True, True, False])}
    batch = {name: jnp.asarray(value) for name, value in draw_batch(model, 5).items()}
    fold = jax.vmap(jax.random.fold_in, (None, 0))
    return types.SimpleNamespace(
        model=model,
        batch=batch,
        mask=mask,
        keys=lambda: fold(jax.random.key(12), jnp.arange(5)),
    )


@pytest.fixture(scope="module")
def mixed_found(mixed):
    return estimate(mixed.model, {}, mixed.keys(), mixed.batch, MIXED, NUM_MIXED, mask=mixed.mask)


def assert_same(found, expected, **tolerance):
    tolerance = {"rtol": 1e-4, "atol": 1e-4} | tolerance
    for name in ("value", "mc_variance", "ess"):
        np.testing.assert_allclose(field(found, name), field(expected, name), **tolerance)


@pytest.mark.parametrize("chunk_rows", [1, 7])
def test_the_result_does_not_depend_on_the_chunks(mixed, mixed_found, chunk_rows):
    found = estimate(
        mixed.model,
        {},
        mixed.keys(),
        mixed.batch,
        MIXED,
        NUM_MIXED,
        mixed.mask,
        chunk_rows,
    )
    assert_same(found, mixed_found)


def test_the_result_does_not_depend_on_the_batch(mixed, mixed_found):
    for row in range(5):
        keys, batch, mask = jax.tree.map(
            lambda x, row=row: x[row : row + 1], (mixed.keys(), mixed.batch, mixed.mask)
        )
        found = estimate(mixed.model, {}, keys, batch, MIXED, NUM_MIXED, mask=mask)
        expected = [
            Estimate(e.value[row : row + 1], e.mc_variance[row : row + 1], e.ess[row : row + 1])
            for e in mixed_found
        ]
        assert_same(found, expected)


@pytest.mark.parametrize("kind", [jax.random.key, jax.random.PRNGKey])
def test_one_key_is_folded_with_the_row_numbers(mixed, mixed_found, kind):
    found = estimate(mixed.model, {}, kind(12), mixed.batch, MIXED, NUM_MIXED, mask=mixed.mask)
    assert_same(found, mixed_found, rtol=1e-6, atol=1e-6)


def test_another_key_gives_another_estimate(mixed, mixed_found):
    found = estimate(
        mixed.model, {}, jax.random.key(13), mixed.batch, MIXED, NUM_MIXED, mask=mixed.mask
    )
    assert (np.abs(field(found, "value") - field(mixed_found, "value")) > 1e-4).mean() > 0.9


# Queries and summaries


def test_the_standard_queries_of_one_modality_are_its_evidence():
    assert standard_queries(("x",)) == [Query(("x",))]


def test_the_standard_queries_of_two_modalities_are_the_papers():
    both = ("x", "w")
    assert standard_queries(both) == [
        Query(both, (), None),
        Query(("x",), (), both),
        Query(("x",), (), ("x",)),
        Query(("x",), ("w",), both),
        Query(("x",), ("w",), ("w",)),
        Query(("w",), (), both),
        Query(("w",), (), ("w",)),
        Query(("w",), ("x",), both),
        Query(("w",), ("x",), ("x",)),
    ]


def test_the_standard_queries_of_three_modalities_condition_on_all_others():
    queries = standard_queries(NAMES)
    assert len(queries) == len(set(queries)) == 1 + 3 * 4
    for name in NAMES:
        others = rest(name)
        found = {(q.given, q.proposal) for q in queries if q.target == (name,)}
        assert found == {((), NAMES), ((), (name,)), (others, NAMES), (others, others)}


def test_a_summary_is_the_mean_over_all_rows_of_all_parts():
    parts = [
        Estimate(jnp.array([1.0, 2.0]), jnp.array([0.1, 0.3]), jnp.array([3.0, 5.0])),
        Estimate(jnp.array([6.0]), jnp.array([0.5]), jnp.array([10.0])),
    ]
    found = summarize(parts)
    deviation = np.sqrt(((1 - 3) ** 2 + (2 - 3) ** 2 + (6 - 3) ** 2) / 2)
    expected = {
        "estimate": 3.0,
        "stderr": deviation / np.sqrt(3),
        "mc_stderr": np.sqrt(0.1 + 0.3 + 0.5) / 3,
        "ess": 6.0,
        "num_examples": 3,
    }
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-6, err_msg=name)


def test_a_summary_adds_the_error_that_examples_share():
    covariance = jnp.array([[0.4, -0.1], [-0.1, 0.2]])
    rows = [jnp.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), jnp.array([[1.0, 0.0]])]
    parts = [
        Estimate(jnp.zeros(len(r)), jnp.full(len(r), 0.8), jnp.ones(len(r)), r, covariance)
        for r in rows
    ]
    shared = 0.75 * 0.75 * 0.4 - 2 * 0.75 * 0.25 * 0.1 + 0.25 * 0.25 * 0.2
    expected = np.sqrt(4 * 0.8 / 4**2 + shared)
    np.testing.assert_allclose(summarize(parts)["mc_stderr"], expected, rtol=1e-6)


def test_a_summary_of_one_example_has_no_deviation():
    found = summarize([Estimate(jnp.array([2.0]), jnp.array([0.25]), jnp.array([1.0]))])
    assert np.isnan(found["stderr"])
    assert (found["estimate"], found["mc_stderr"], found["num_examples"]) == (2.0, 0.5, 1)


def test_the_first_rows_of_an_estimate_keep_the_shared_covariance():
    whole = Estimate(jnp.arange(4.0), jnp.arange(4.0) + 10, jnp.arange(4.0) + 20)
    part = whole.rows(3)
    np.testing.assert_array_equal(part.value, [0, 1, 2])
    np.testing.assert_array_equal(part.mc_variance, [10, 11, 12])
    np.testing.assert_array_equal(part.ess, [20, 21, 22])
    assert part.given_rows is None
    assert part.given_covariance is None
    given = whole.replace(given_rows=jnp.eye(4), given_covariance=2 * jnp.eye(4)).rows(3)
    np.testing.assert_array_equal(given.given_rows, np.eye(4)[:3])
    np.testing.assert_array_equal(given.given_covariance, 2 * np.eye(4))


# Arguments

FIVE = np.ones(5, bool)
BAD = [
    ({"target": "image"}, r"target='image' is a string"),
    ({"target": ()}, "target is empty"),
    ({"target": ("smell",)}, r"target names \['smell'\]"),
    ({"given": ("smell",)}, r"given names \['smell'\]"),
    ({"given": ("image",)}, r"\['image'\] stand in target and in given"),
    ({"proposal": ("smell",)}, r"proposal names \['smell'\]"),
    ({"num_samples": 0}, "num_samples=0"),
    ({"num_samples": -3}, "num_samples=-3"),
    ({"mask": {"smell": FIVE}}, r"mask names \['smell'\]"),
    ({"mask": {"image": FIVE[:4]}}, r"mask\['image'\].*expected bool\[5\]"),
    ({"mask": {"image": FIVE.astype(np.float32)}}, r"mask\['image'\] is float32"),
]


def some_args():
    model = zoo.ZOO["jmvae_kl_2"].model
    batch = zoo.batch_of(model)
    return model, zoo.variables_of(model), batch


@pytest.mark.parametrize(("bad", "words"), BAD)
def test_a_bad_argument_is_named(bad, words):
    model, variables, batch = some_args()
    with pytest.raises(ValueError, match=words):
        jm.log_likelihood(
            model,
            variables,
            jax.random.key(0),
            batch,
            **({"target": ("image",), "num_samples": 2} | bad),
        )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image": None}, "batch has modalities"),
        ({"image": jnp.zeros((5, 4, 4))}, r"batch\['image'\] has shape"),
        ({"image": jnp.zeros((5, 4, 4, 1), jnp.uint8)}, r"batch\['image'\] has dtype uint8"),
        ({"image": jnp.full((5, 4, 4, 1), jnp.nan)}, r"batch\['image'\].*not finite"),
        ({"image": jnp.full((5, 4, 4, 1), 2.0)}, r"batch\['image'\].*does not fit"),
        ({"label": jnp.zeros((5, 3))}, r"batch\['label'\].*one-hot"),
        ({"label": jnp.eye(3)}, "numbers of rows"),
    ],
)
def test_a_bad_batch_is_named(change, words):
    model, variables, batch = some_args()
    batch = {name: value for name, value in (batch | change).items() if value is not None}
    with pytest.raises(ValueError, match=words):
        jm.log_likelihood(
            model, variables, jax.random.key(0), batch, target=("image",), given=("label",)
        )


def test_keys_of_another_shape_are_refused():
    model, variables, batch = some_args()
    keys = jax.random.split(jax.random.key(0), 4)
    with pytest.raises(ValueError, match=r"key has shape \(4,\)"):
        jm.log_likelihood(model, variables, keys, batch, target=("image",))


def test_the_default_proposal_is_target_and_given():
    assert Query(("w",), ("x",)).source == ("w", "x")
    assert Query(("w",), ("x",), ()).source == ()


def test_a_modality_that_no_query_names_may_be_missing():
    model = linear_gaussian("x", "w")
    batch = draw_batch(model, 3)
    found = jm.log_likelihood(
        model, {}, jax.random.key(0), {"x": batch["x"]}, target=("x",), num_samples=1
    )
    np.testing.assert_allclose(found, evidence(model, batch, ("x",)), atol=1e-4)


@pytest.mark.parametrize("chunk_rows", [0, -1])
def test_chunks_without_rows_are_refused(chunk_rows):
    model = linear_gaussian("x")
    args = (model, {}, jax.random.key(0), draw_batch(model, 3), [Query(("x",))])
    with pytest.raises(ValueError, match=f"chunk_rows={chunk_rows}"):
        estimate(*args, num_samples=2, chunk_rows=chunk_rows)


@pytest.mark.parametrize(
    ("query", "word"), [(Query(("x", "x")), "target"), (Query(("x",), ("w", "w")), "given")]
)
def test_a_modality_named_twice_is_refused(query, word):
    model = linear_gaussian("x", "w")
    with pytest.raises(ValueError, match=word):
        estimate(model, {}, jax.random.key(0), draw_batch(model, 3), [query], 1)


@pytest.mark.parametrize("argument", ["given", "proposal"])
def test_a_bare_string_is_refused_as_one(argument):
    model = linear_gaussian("x", "w")
    with pytest.raises(ValueError, match=f"{argument}='w' is a string"):
        jm.log_likelihood(
            model,
            {},
            jax.random.key(0),
            draw_batch(model, 3),
            target=("x",),
            num_samples=1,
            **{argument: "w"},
        )
