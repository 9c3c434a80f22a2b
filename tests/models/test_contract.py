"""What every model of the zoo promises."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zoo
from grids import some_of

import jmvae_jax as jm
from jmvae_jax.distributions import center, example_keys, unpack

EVERY = pytest.mark.parametrize(
    "name",
    some_of(
        zoo.ZOO, "jmvae_zero_2", "jmvae_kl_3", "jmvae_rich_2", "jmvae_masked_3", "cvae_3", "cmma_3"
    ),
)
CONDITIONAL = [name for name, entry in zoo.ZOO.items() if entry.model.conditions]
JOINT = [name for name in zoo.ZOO if name not in CONDITIONAL]
SUBSETS = [(name, given) for name, entry in zoo.ZOO.items() for given in zoo.inferable(entry.model)]


@functools.cache
def case(name):
    model = zoo.ZOO[name].model

    def moved(leaf):
        """Off its first values: what starts at 0 (a flow's outer kernels) hides other parts."""
        return leaf + 0.05 * np.sin(1 + np.arange(leaf.size, dtype=np.float32)).reshape(leaf.shape)

    return model, jax.tree.map(moved, zoo.variables_of(model)), zoo.batch_of(model)


def arrays(distribution):
    """What describes it."""
    return unpack(distribution)[0]


def bound_of(name, params, key, batch, mask=None):
    entry = zoo.ZOO[name]
    return entry.objective(entry.model, {"params": params}, key, batch, mask=mask, **entry.weights)


@functools.cache
def compiled(name):
    """Losses `[B]` and the gradient of their sum."""

    def total(params, key, batch, mask):
        losses = bound_of(name, params, key, batch, mask).loss
        return jnp.sum(losses), losses

    gradient = jax.jit(jax.value_and_grad(total, has_aux=True))

    def loss_and_gradient(batch, mask=None, keys=None):
        keys = row_keys(7) if keys is None else keys
        (_, losses), gradients = gradient(case(name)[1]["params"], keys, batch, mask)
        return losses, gradients

    return loss_and_gradient


def row_keys(seed):
    return example_keys(jax.random.key(seed), jnp.arange(zoo.ROWS))


def ragged_mask(model):
    """Rows that lack the first, the second, all but the last, none and all of the modalities."""
    names = list(model.modalities)
    absent = [names[:1], names[1:2], names[:-1], [], names]
    return {name: jnp.array([name not in row for row in absent]) for name in names}


def filled(batch, mask, fill):
    def put(values, there):
        return jnp.where(there.reshape(-1, *(1,) * (values.ndim - 1)), values, fill)

    return {name: put(values, mask[name]) for name, values in batch.items()}


def assert_trees_equal(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def assert_trees_close(found, expected, **tolerance):
    jax.tree.map(functools.partial(np.testing.assert_allclose, **tolerance), found, expected)


def is_finite(tree):
    return all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(tree))


@EVERY
def test_every_parameter_is_a_finite_float32(name):
    _, variables, _ = case(name)
    assert set(variables) == {"params"}
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    assert is_finite(variables)


@EVERY
def test_a_call_reconstructs_every_modality(name):
    model, variables, batch = case(name)
    reconstruction = model.apply(variables, batch)
    assert set(reconstruction) == set(model.generated)
    for modality, likelihood in reconstruction.items():
        assert likelihood.mean.shape == batch[modality].shape


@EVERY
def test_what_is_generated_and_the_conditions_are_all_modalities(name):
    model = zoo.ZOO[name].model
    assert set(model.generated) | set(model.conditions) == set(model.modalities)
    assert not set(model.generated) & set(model.conditions)


@pytest.mark.parametrize(("name", "given"), SUBSETS)
def test_a_posterior_needs_only_what_it_is_given(name, given):
    model, variables, batch = case(name)
    part = {modality: batch[modality] for modality in given}
    q = model.apply(variables, part, given=given, method="posterior")
    assert (q.batch_shape, q.event_shape) == ((zoo.ROWS,), (model.latent_dim,))
    assert is_finite([arrays(q), q.log_prob(center(q))])
    whole = model.apply(variables, batch, given=given, method="posterior")
    assert_trees_equal(arrays(whole), arrays(q))


@pytest.mark.parametrize(("name", "given"), SUBSETS)
def test_the_order_of_the_given_names_does_not_matter(name, given):
    model, variables, batch = case(name)
    q = model.apply(variables, batch, given=given, method="posterior")
    turned = model.apply(variables, batch, given=list(given[::-1]), method="posterior")
    assert_trees_equal(arrays(turned), arrays(q))


@EVERY
def test_every_modality_is_given_by_default(name):
    model, variables, batch = case(name)
    q = model.apply(variables, batch, method="posterior")
    named = model.apply(variables, batch, given=tuple(batch), method="posterior")
    assert_trees_equal(arrays(named), arrays(q))


@pytest.mark.parametrize("name", JOINT)
def test_the_posterior_from_nothing_is_the_prior(name):
    model, variables, batch = case(name)
    prior = model.apply(variables, method="prior")
    np.testing.assert_array_equal(prior.mean, np.zeros(model.latent_dim))
    np.testing.assert_array_equal(prior.variance, np.ones(model.latent_dim))
    for part in (batch, {}):
        q = model.apply(variables, part, given=(), method="posterior")
        assert q.event_shape == (model.latent_dim,)
        assert_trees_equal([q.mean, q.variance], [prior.mean, prior.variance])


@pytest.mark.parametrize("name", CONDITIONAL)
def test_the_posterior_from_the_conditions_is_the_prior_of_each_row(name):
    model, variables, batch = case(name)
    given = {condition: batch[condition] for condition in model.conditions}
    q = model.apply(variables, given, given=model.conditions, method="posterior")
    prior = model.apply(variables, given, method="prior")
    assert q.batch_shape == (zoo.ROWS,)
    for found, expected in ((q.mean, prior.mean), (q.variance, prior.variance)):
        np.testing.assert_array_equal(found, np.broadcast_to(expected, found.shape))


@EVERY
def test_decoding_keeps_the_axes_of_the_samples_and_works_row_by_row(name, key):
    model, variables, batch = case(name)
    z = jax.random.normal(key, (3, zoo.ROWS, model.latent_dim))
    likelihoods = model.apply(variables, z, batch, method="decode")
    assert set(likelihoods) == set(model.generated)
    row = {modality: values[2] for modality, values in batch.items()}
    one = model.apply(variables, z[1, 2], row, method="decode")
    for modality, likelihood in likelihoods.items():
        values = batch[modality]
        assert likelihood.batch_shape == (3, zoo.ROWS)
        assert likelihood.event_shape == model.modalities[modality].shape
        scores = likelihood.log_prob(values)
        assert scores.shape == (3, zoo.ROWS)
        assert one[modality].batch_shape == ()
        np.testing.assert_allclose(scores[1, 2], one[modality].log_prob(values[2]), rtol=1e-5)
        np.testing.assert_allclose(likelihood.mean[1, 2], one[modality].mean, rtol=1e-4, atol=1e-6)


@EVERY
def test_every_term_of_the_bound_is_one_finite_number_an_example(name, key):
    model, variables, batch = case(name)
    bound = bound_of(name, variables["params"], key, batch)
    for leaf in [*jax.tree.leaves(bound), bound.elbo]:
        assert leaf.shape == (zoo.ROWS,)
    assert is_finite(bound)
    assert set(bound.reconstruction) == set(model.generated)


@EVERY
def test_compiled_losses_are_the_uncompiled_ones(name):
    _, variables, batch = case(name)
    mask = ragged_mask(zoo.ZOO[name].model)
    for chosen in (None, mask):
        losses, _ = compiled(name)(batch, chosen)
        bound = bound_of(name, variables["params"], row_keys(7), batch, chosen)
        np.testing.assert_allclose(losses, bound.loss, rtol=1e-6, atol=1e-5)


@EVERY
def test_every_parameter_has_a_gradient(name):
    _, gradients = compiled(name)(case(name)[2])
    assert is_finite(gradients)
    without = [
        jax.tree_util.keystr(path)
        for path, leaf in jax.tree_util.tree_leaves_with_path(gradients)
        if not np.any(leaf)
    ]
    assert without == []


@EVERY
@pytest.mark.parametrize("fill", [1e6, jnp.nan])
def test_what_stands_in_an_absent_row_reaches_neither_loss_nor_gradient(name, fill):
    model, _, batch = case(name)
    mask = ragged_mask(model)
    with_zeros = compiled(name)(filled(batch, mask, 0.0), mask)
    with_fill = compiled(name)(filled(batch, mask, fill), mask)
    assert is_finite(with_fill)
    assert_trees_equal(with_fill, with_zeros)


@EVERY
def test_absent_rows_pass_the_check_of_values_whatever_they_hold(name, key):
    model, variables, batch = case(name)
    mask = ragged_mask(model)
    bound = bound_of(name, variables["params"], key, filled(batch, mask, jnp.nan), mask)
    assert is_finite(bound)
    for modality, there in mask.items():
        for terms in (bound.reconstruction, bound.alignment):
            if modality in terms:
                np.testing.assert_array_equal(np.asarray(terms[modality]) == 0, ~there)


@EVERY
def test_the_rows_without_a_mask_are_as_if_there_were_none(name):
    model, _, batch = case(name)
    mask = ragged_mask(model)
    masked, _ = compiled(name)(batch, mask)
    plain, _ = compiled(name)(batch)
    whole = np.all([np.asarray(there) for there in mask.values()], axis=0)
    assert whole.any()
    np.testing.assert_allclose(masked[whole], plain[whole], rtol=1e-5)
    assert (np.abs(masked - plain)[~whole] > 1e-3).all()


@EVERY
def test_a_mask_that_is_true_everywhere_equals_no_mask(name):
    model, _, batch = case(name)
    everywhere = {modality: jnp.ones(zoo.ROWS, bool) for modality in model.modalities}
    masked, plain = compiled(name)(batch, everywhere), compiled(name)(batch)
    assert_trees_close(masked, plain, rtol=1e-4, atol=1e-4)


@EVERY
def test_a_modality_that_the_mask_does_not_name_is_present(name):
    model, variables, batch = case(name)
    last = list(model.modalities)[-1]
    partial = {last: ragged_mask(model)[last]}
    others = {other: jnp.ones(zoo.ROWS, bool) for other in model.modalities if other != last}
    found = bound_of(name, variables["params"], row_keys(7), batch, partial).loss
    expected, _ = compiled(name)(batch, {**others, **partial})
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-5)


@EVERY
@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
def test_the_loss_of_a_row_does_not_depend_on_the_others(name, masked):
    model, _, batch = case(name)
    others = zoo.batch_of(model, seed=1)
    mask = ragged_mask(model) if masked else None
    row = 2
    mixed = {
        modality: others[modality].at[row].set(values[row]) for modality, values in batch.items()
    }
    words = jax.random.key_data(row_keys(2)).at[row].set(jax.random.key_data(row_keys(1))[row])
    losses, _ = compiled(name)(batch, mask, row_keys(1))
    mixed_losses, _ = compiled(name)(mixed, mask, jax.random.wrap_key_data(words))
    np.testing.assert_allclose(mixed_losses[row], losses[row], rtol=1e-6)
    present = np.arange(zoo.ROWS) != row
    if masked:
        present &= np.any([np.asarray(mask[name]) for name in model.generated], axis=0)
    assert (np.asarray(mixed_losses) != losses)[present].all()


@EVERY
def test_the_noise_of_a_row_does_not_depend_on_the_size_of_the_batch(name):
    _, variables, batch = case(name)
    part = {modality: values[:3] for modality, values in batch.items()}
    whole, _ = compiled(name)(batch)
    losses = bound_of(name, variables["params"], jax.random.key(7), part).loss
    np.testing.assert_allclose(losses, whole[:3], rtol=1e-6, atol=1e-5)


THREE = "jmvae_kl_3"


def without(batch, name):
    return {other: values for other, values in batch.items() if other != name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: without(b, "sound"), r"batch has modalities \['image', 'label'\]: expected"),
        (lambda b: {**b, "text": b["sound"]}, r"batch has modalities .*'text'\]: expected"),
        (
            lambda b: {**b, "image": b["image"][..., 0]},
            r"batch\['image'\] has shape \(5, 4, 4\): expected \[B, \*\(4, 4, 1\)\]",
        ),
        (
            lambda b: {**b, "image": b["image"].reshape(5, 16, 1, 1)},
            r"batch\['image'\] has shape \(5, 16, 1, 1\)",
        ),
        (
            lambda b: {**b, "label": b["label"].argmax(-1)},
            r"batch\['label'\] has shape \(5,\): expected \[B, \*\(3,\)\]",
        ),
        (
            lambda b: {**b, "label": b["label"].astype(jnp.int32)},
            r"batch\['label'\] has dtype int32: expected floats",
        ),
        (
            lambda b: {**b, "image": (255 * b["image"]).astype(jnp.uint8)},
            r"batch\['image'\] has dtype uint8: expected floats",
        ),
        (
            lambda b: {**b, "image": 2.0 * b["image"]},
            r"batch\['image'\] lies in \[0, 2\] .*likelihood='bernoulli'",
        ),
        (
            lambda b: {**b, "image": b["image"] - 1.0},
            r"batch\['image'\] lies in \[-1, 0\] .*values in \[0, 1\]",
        ),
        (lambda b: {**b, "label": jnp.ones((5, 3))}, r"batch\['label'\] .* expected one-hot rows"),
        (lambda b: {**b, "label": jnp.zeros((5, 3))}, r"batch\['label'\] .* expected one-hot rows"),
        (
            lambda b: {**b, "sound": b["sound"].at[2, 1].set(jnp.nan)},
            r"batch\['sound'\] holds a value that is not finite",
        ),
        (
            lambda b: {**b, "sound": b["sound"].at[2, 1].set(jnp.inf)},
            r"batch\['sound'\] holds a value that is not finite",
        ),
        (lambda b: {**b, "sound": b["sound"][:3]}, r"batch has these numbers of rows: .*3"),
    ],
)
@pytest.mark.parametrize("door", ["objective", "init"])
def test_a_wrong_batch_is_refused_by_name(change, message, door, key):
    model, variables, batch = case(THREE)
    enter = {
        "init": lambda wrong: model.init(key, wrong),
        "objective": lambda wrong: jm.elbo(model, variables, key, wrong),
    }[door]
    with pytest.raises(ValueError, match=message):
        enter(change(batch))


def test_a_value_that_is_not_finite_is_refused_in_a_row_that_the_mask_calls_present(key):
    model, variables, batch = case(THREE)
    wrong = {**batch, "sound": batch["sound"].at[2].set(jnp.nan)}
    mask = {"sound": jnp.array([False, False, True, False, False])}
    with pytest.raises(ValueError, match=r"batch\['sound'\] holds a value that is not finite"):
        jm.elbo(model, variables, key, wrong, mask=mask)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ({"label": jnp.ones(5)}, r"mask\['label'\] is float32\[5\]: expected bool\[5\]"),
        ({"label": jnp.ones(5, int)}, r"mask\['label'\] is int32\[5\]: expected bool\[5\]"),
        ({"label": jnp.ones(4, bool)}, r"mask\['label'\] is bool\[4\]: expected bool\[5\]"),
        ({"label": jnp.ones((5, 1), bool)}, r"mask\['label'\] is bool\[5, 1\]: expected"),
        ({"text": jnp.ones(5, bool)}, r"mask names \['text'\], which the model lacks"),
    ],
)
def test_a_wrong_mask_is_refused_by_name(mask, message, key):
    model, variables, batch = case(THREE)
    with pytest.raises(ValueError, match=message):
        jm.elbo(model, variables, key, batch, mask=mask)


@EVERY
def test_the_names_that_are_given_are_checked(name):
    model, variables, batch = case(name)
    with pytest.raises(ValueError, match=r"given='image' is a string: expected a tuple"):
        model.apply(variables, batch, given="image", method="posterior")
    with pytest.raises(ValueError, match=r"given names \['text'\], which the model lacks"):
        model.apply(variables, batch, given=("image", "text"), method="posterior")


def test_a_given_modality_that_the_batch_lacks_is_refused_by_name():
    model, variables, batch = case(THREE)
    with pytest.raises(ValueError, match=r"batch.*label"):
        model.apply(variables, without(batch, "label"), given=("label",), method="posterior")


@EVERY
def test_a_model_is_hashable_and_equals_its_twin(name):
    model = zoo.ZOO[name].model
    twin = model.clone()
    assert model == twin
    assert hash(model) == hash(twin)


def test_a_model_needs_a_modality(key):
    with pytest.raises(ValueError, match="modalities is empty"):
        jm.JMVAE(latent_dim=2, modalities={}, trunk=zoo.BODY).init(key, {})
