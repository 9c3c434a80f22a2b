"""The mask-conditioned encoder: one network for every part of the modalities."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zoo

import jmvae_jax as jm
from jmvae_jax.distributions import Coupling, Full, LowRank, Mixture, example_keys, unpack
from jmvae_jax.models.jmvae import PART, random_part

NAMES = ("image", "label", "sound")
FAMILIES = [None, Full(), LowRank(1), Coupling(2, 4)]
HERE = {
    "image": jnp.array([True, False, False, True, False]),
    "label": jnp.array([True, True, False, False, False]),
    "sound": jnp.array([True, True, True, False, False]),
}


@functools.cache
def case(family=None):
    options = {} if family is None else {"joint_posterior": family}
    model = zoo.jmvae(*NAMES, inference="masked", **options)
    return model, zoo.variables_of(model), zoo.batch_of(model)


def arrays(model, variables, *args, **options):
    return unpack(model.apply(variables, *args, method="posterior", **options))[0]


def equal(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("fill", [0.0, 1e6, np.nan])
def test_what_stands_in_absent_places_does_not_matter(family, fill):
    model, variables, batch = case(family)
    filled = {
        name: jnp.where(HERE[name].reshape(-1, *[1] * (values.ndim - 1)), values, fill)
        for name, values in batch.items()
    }
    equal(arrays(model, variables, filled, mask=HERE), arrays(model, variables, batch, mask=HERE))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_gradient_to_absent_values_is_exactly_zero(family):
    model, variables, batch = case(family)
    broken = {
        name: jnp.where(HERE[name].reshape(-1, *[1] * (values.ndim - 1)), values, jnp.nan)
        for name, values in batch.items()
    }

    @jax.jit
    @jax.grad
    def gradient(batch):
        found = arrays(model, variables, batch, mask=HERE)
        return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(found))

    for name, slope in gradient(broken).items():
        there = np.asarray(HERE[name])
        assert (np.asarray(slope)[~there] == 0).all()
        assert (np.abs(np.asarray(slope)[there]).reshape(there.sum(), -1).sum(-1) > 0).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_row_of_nothing_has_the_prior(family):
    model, variables, batch = case(family)
    z = jax.random.normal(jax.random.key(3), (zoo.ROWS, 2))
    q = model.apply(variables, batch, mask=HERE, method="posterior")
    expected = model.apply(variables, method="prior").log_prob(z)
    np.testing.assert_allclose(q.log_prob(z)[4], expected[4], rtol=1e-6)
    assert (np.abs(q.log_prob(z) - expected)[:4] > 1e-4).all()


def test_what_is_given_is_what_the_mask_has():
    """q(z | label, sound) is one distribution, however it is asked for."""
    model, variables, batch = case()
    given = arrays(model, variables, batch, given=("label", "sound"))
    rows = jnp.zeros(zoo.ROWS, bool)
    masked = arrays(model, variables, batch, mask={"image": rows})
    equal(given, masked)
    part = {name: batch[name] for name in ("label", "sound")}
    equal(arrays(model, variables, part, given=("label", "sound")), given)
    other = arrays(model, variables, {**batch, "image": 0 * batch["image"]})
    assert (np.abs(other["loc"] - given["loc"]) > 1e-4).any()  # zeros are not absence


def test_single_posteriors_are_those_of_one_modality():
    model, variables, batch = case()
    found = model.apply(variables, batch, method="single_posteriors")
    assert set(found) == set(NAMES)
    for name, q in found.items():
        equal(unpack(q)[0], arrays(model, variables, batch, given=(name,)))


def test_a_random_part_is_any_of_those_between_nothing_and_all():
    rows = 6000
    there = {"image": jnp.ones(rows, bool), "label": jnp.arange(rows) % 2 == 0}
    there["sound"] = jnp.ones(rows, bool)
    part, several = random_part(example_keys(jax.random.key(0), jnp.arange(rows)), there)
    chosen = np.stack([np.asarray(part[name]) for name in there])
    present = np.stack([np.asarray(there[name]) for name in there])
    assert several.all()
    assert (chosen <= present).all()
    for count, rows_of_it in ((3, chosen[:, ::2]), (2, chosen[[0, 2], 1::2])):
        numbers = np.sum(rows_of_it * 2 ** np.arange(count)[:, None], axis=0)
        found = np.bincount(numbers, minlength=2**count)
        assert found[0] == found[-1] == 0
        expected = len(numbers) / (2**count - 2)
        assert (np.abs(found[1:-1] - expected) < 5 * np.sqrt(expected)).all()


def test_any_number_of_modalities_has_parts():
    rows, count = 500, 40
    there = {str(number): jnp.ones(rows, bool) for number in range(count)}
    part, several = random_part(example_keys(jax.random.key(0), jnp.arange(rows)), there)
    chosen = np.stack([np.asarray(part[name]) for name in there])
    assert several.all()
    assert (np.abs(chosen.mean(axis=1) - 0.5) < 5 * 0.5 / np.sqrt(rows)).all()
    # No two say the same.
    assert np.abs(np.corrcoef(chosen) - np.eye(count)).max() < 5 / np.sqrt(rows)


def test_a_row_of_one_modality_has_no_part():
    keys = example_keys(jax.random.key(0), jnp.arange(zoo.ROWS))
    _, several = random_part(keys, HERE)
    np.testing.assert_array_equal(several, [True, True, False, False, False])


def test_the_bound_of_incomplete_rows_aligns_those_of_several_modalities():
    model, variables, batch = case()
    bound = jm.jmvae_kl(model, variables, jax.random.key(1), batch, mask=HERE, alpha=0.5, beta=0.7)
    assert set(bound.alignment) == {PART}
    counts = np.asarray(bound.alignment[PART] != 0)
    np.testing.assert_array_equal(counts, [True, True, False, False, False])
    for name, term in bound.reconstruction.items():
        np.testing.assert_array_equal(np.asarray(term) != 0, HERE[name])
    total = sum(bound.reconstruction.values())
    np.testing.assert_allclose(
        bound.loss, 0.7 * bound.rate - total + 0.5 * bound.alignment[PART], rtol=1e-5
    )
    assert bound.rate[4] == 0


def test_after_training_the_network_cannot_be_aligned():
    model, variables, batch = case()
    with pytest.raises(ValueError, match=r"'posthoc'.*mask-conditioned"):
        jm.jmvae_kl(model, variables, jax.random.key(1), batch, alignment="posthoc")


def test_it_needs_a_trunk(key):
    modalities = zoo.some("image", "label")
    model = jm.JMVAE(
        latent_dim=2, modalities=modalities, joint_encoder=jm.MLP((3,)), inference="masked"
    )
    with pytest.raises(ValueError, match="inference='masked' needs a trunk"):
        jax.eval_shape(model.init, key, zoo.batch_of(model))


@pytest.mark.parametrize("objective", [jm.elbo, jm.jmvae_kl])
def test_a_bound_needs_draws_that_carry_gradients(objective):
    model, variables, batch = case(Mixture(2))
    with pytest.raises(ValueError, match="those of a mixture have none"):
        objective(model, variables, jax.random.key(1), batch)
