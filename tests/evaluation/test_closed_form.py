"""Every likelihood estimator against the closed forms of a linear-Gaussian model."""

import itertools
import types

import jax
import numpy as np
import pytest
from linear_gaussian import (
    NAMES,
    by_hand,
    draw_batch,
    field,
    linear_gaussian,
    log_weights,
    rest,
    subsets,
    truth,
)

from jmvae_jax.evaluation import Query, estimate, summarize

SIGMAS = 5.0
ROUNDING = 1e-4


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
