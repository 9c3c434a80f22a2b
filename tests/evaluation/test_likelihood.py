"""Chunks, batches and keys; queries, summaries and arguments."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zoo
from linear_gaussian import NAMES, draw_batch, evidence, field, linear_gaussian, rest

import jmvae_jax as jm
from jmvae_jax.evaluation import Estimate, Query, estimate, standard_queries, summarize
from jmvae_jax.evaluation.likelihood import default_chunk_rows

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
    assert standard_queries(linear_gaussian("x")) == [Query(("x",))]


def test_the_standard_queries_of_two_modalities_are_the_papers():
    both = ("x", "w")
    assert standard_queries(linear_gaussian(*both)) == [
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
    queries = standard_queries(linear_gaussian())
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


def test_a_summary_of_nothing_is_refused():
    with pytest.raises(ValueError, match="parts is empty"):
        summarize([])


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
        ({"label": jnp.full((5, 3), 1 / 3)}, r"batch\['label'\].*largest entry is 0.3333"),
    ],
)
def test_a_bad_batch_is_named(change, words):
    model, variables, batch = some_args()
    batch = {name: value for name, value in (batch | change).items() if value is not None}
    with pytest.raises(ValueError, match=words):
        jm.log_likelihood(
            model, variables, jax.random.key(0), batch, target=("image",), given=("label",)
        )


def test_soft_labels_are_given_where_no_class_is_counted():
    """log p(label | image) is a ratio, and an absent label is none."""
    model, variables, batch = some_args()
    soft = batch | {"label": jnp.full((5, 3), 1 / 3)}
    options = {"target": ("label",), "given": ("image",), "num_samples": 2}
    found = jm.log_likelihood(model, variables, jax.random.key(0), soft, **options)
    assert np.isfinite(found).all()
    options = {"target": ("image",), "given": ("label",), "num_samples": 2}
    absent = {"mask": {"label": np.zeros(5, bool)}}
    found = jm.log_likelihood(model, variables, jax.random.key(0), soft, **options, **absent)
    assert np.isfinite(found).all()


def test_the_error_of_one_draw_is_not_known():
    model, variables, batch = some_args()
    args = model, variables, jax.random.key(0), batch, [Query(("image",))]
    one, two = (jm.estimate(*args, num_samples=number)[0] for number in (1, 2))
    assert np.isnan(one.mc_variance).all()
    # Two weights w and 1 - w: the variance of their mean over its square is (2 w - 1)^2.
    weight = (1 + np.sqrt(2 / np.asarray(two.ess) - 1)) / 2
    np.testing.assert_allclose(two.mc_variance, (2 * weight - 1) ** 2, rtol=1e-3, atol=1e-5)


def test_no_key_is_refused_by_name():
    model, variables, batch = some_args()
    with pytest.raises(ValueError, match=r"key is 0: expected one of jax.random.key"):
        jm.log_likelihood(model, variables, 0, batch, target=("image",))


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


def test_chunks_have_fewer_rows_where_modalities_are_larger():
    def rows(*shape, platform="cpu"):
        modality = jm.Modality(shape, "normal", decoder=jm.MLP((4,)), encoder=jm.MLP((4,)))
        return default_chunk_rows(jm.VAE(2, {"x": modality}), platform)

    assert 500 <= rows(28, 28, 1) <= 2000
    assert 16 <= rows(64, 64, 3) <= 64
    assert rows(1024, 1024, 3) == 1
    assert rows(28, 28, 1, platform="gpu") > rows(28, 28, 1)


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
