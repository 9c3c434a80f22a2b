"""Three updates for each batch: who moves, what each sees, and whose statistics stay."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import zoo

import jmvae_jax as jm
from jmvae_jax import parallel, training
from jmvae_jax.networks import ConvDecoder, ConvDiscriminator, ConvEncoder
from jmvae_jax.objectives import Adversary
from jmvae_jax.objectives.adversarial import split_parameters

ROWS = 8
WEIGHTS = {"alpha": 0.1, "beta": 0.5}
STILL = optax.set_to_zero()


def adversary(**options):
    options = {"reconstruction_weight": 0.3, **options}
    return Adversary(ConvDiscriminator(width=0.1, hidden=20), "image", **options)


@functools.cache
def batch():
    return zoo.pictured_batch(ROWS)


def update_of(optimizers, axis_name=None):
    model = zoo.pictured_jmvae(axis_name)
    loss_fn = jm.make_loss_fn(model, jm.jmvae_kl)
    return training.AdversarialUpdate(model, loss_fn, adversary(), optimizers, axis_name)


@functools.cache
def first_variables():
    return jax.jit(zoo.pictured_jmvae().init)(jax.random.key(1), batch())


def pieces(optimizers, axis_name=None):
    create = functools.partial(training.create_adversarial_state, zoo.pictured_jmvae(axis_name))
    create = jax.jit(create, static_argnums=(1, 2))
    state = create(first_variables(), adversary(), optimizers, jax.random.key(2), batch())
    return state, update_of(optimizers, axis_name)


def row_keys():
    return jm.distributions.example_keys(jax.random.key(5), jnp.arange(ROWS))


@functools.cache
def descent():
    """The first state, and the update of it with a rate for each player."""

    def optimizers(rates):
        return training.GroupOptimizers(*map(optax.sgd, rates))

    def update(state, rates):
        return update_of(optimizers(rates))(state, row_keys(), batch(), WEIGHTS, None)

    return pieces(optimizers([0.0] * 3))[0], jax.jit(update)


def after(*rates):
    state, update = descent()
    return state, *update(state, rates)


def groups(state):
    """The three groups of parameters."""
    return (*split_parameters(zoo.pictured_jmvae(), "image", state.params), state.adversary)


def moved(one, other):
    return [
        any(bool(jnp.any(x != y)) for x, y in zip(*map(jax.tree.leaves, pair), strict=True))
        for pair in zip(groups(one), groups(other), strict=True)
    ]


@pytest.mark.parametrize("number", range(3))
def test_each_optimiser_moves_its_own_group_and_no_other(number):
    rates = [0.0] * 3
    rates[number] = 0.1
    old, new, _ = after(*rates)
    assert moved(old, new) == [i == number for i in range(3)]


def test_the_first_update_is_that_of_the_bound_and_its_statistics_stay():
    old, new, metrics = after(0.1, 0.1, 0.1)
    fold = jax.vmap(jax.random.fold_in, (0, None))
    loss_fn = jm.make_loss_fn(zoo.pictured_jmvae(), jm.jmvae_kl)
    gradient = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))
    (loss, (_, statistics)), grads = gradient(
        old.params, old.model_state, fold(row_keys(), 0), batch(), weights=WEIGHTS
    )
    np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-5)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    jax.tree.map(close, new.model_state, statistics)
    expected = jax.tree.map(lambda p, g: p - 0.1 * g, old.params, grads)
    encoders, _ = split_parameters(zoo.pictured_jmvae(), "image", expected)
    jax.tree.map(close, groups(new)[0], encoders)


def test_each_update_sees_what_the_one_before_left():
    """The three gradients by hand, one after the other."""
    old, new, metrics = after(1e-3, 1e-3, 1e-3)
    model, discriminator = zoo.pictured_jmvae(), adversary().discriminator
    fold = jax.vmap(jax.random.fold_in, (0, None))
    encoders = groups(new)[0]
    statistics = new.model_state

    def method(params, name, *args):
        variables = {"params": params, **statistics}
        return model.apply(variables, *args, method=name, mutable=["batch_stats"])[0]

    q = method({**encoders, **groups(old)[1]}, "posterior", batch(), None, None, True)

    def images(generator, keys):
        noise = jax.vmap(lambda key: jax.random.normal(key, (2,)))
        z = q.mean + jnp.sqrt(q.variance) * noise(fold(keys, 0))
        z_u = noise(fold(keys, 1))
        decoded = [
            method({**encoders, **generator}, "decode", latent, None, True)["image"]
            for latent in (z, z_u)
        ]
        return decoded[0].log_prob(batch()["image"]), decoded[0].mean, decoded[1].mean

    def see(params, pictures):
        return discriminator.apply({"params": params}, pictures)

    def of_generator(generator):
        log_prob, rec, draw = images(generator, fold(row_keys(), 1))
        fooling = -sum(jax.nn.log_sigmoid(see(old.adversary, x)) for x in (draw, rec))
        return jnp.mean(fooling - 0.3 * log_prob)

    loss, grads = jax.jit(jax.value_and_grad(of_generator))(groups(old)[1])
    generator = jax.tree.map(lambda p, g: p - 1e-3 * g, groups(old)[1], grads)
    np.testing.assert_allclose(metrics["generator/loss"], loss, rtol=1e-4)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-5)
    jax.tree.map(close, groups(new)[1], generator)

    def of_discriminator(params):
        _, rec, draw = images(generator, fold(row_keys(), 2))
        real = -jax.nn.log_sigmoid(see(params, batch()["image"]))
        return jnp.mean(real - sum(jax.nn.log_sigmoid(-see(params, x)) for x in (draw, rec)))

    loss, grads = jax.jit(jax.value_and_grad(of_discriminator))(old.adversary)
    np.testing.assert_allclose(metrics["discriminator/loss"], loss, rtol=1e-4)
    expected = jax.tree.map(lambda p, g: p - 1e-3 * g, old.adversary, grads)
    jax.tree.map(close, new.adversary, expected)


@pytest.mark.parametrize("kind", [pytest.param(jm.CVAE, marks=pytest.mark.slow), jm.CMMA])
def test_a_conditional_model_plays_with_what_it_is_given(kind):
    words = jm.MLP((6,))
    conv = ConvEncoder(width=0.1, hidden=None)
    model = kind(
        latent_dim=2,
        conditions=("attributes",),
        trunk=jm.MLP((8,)),
        modalities={
            "image": jm.Modality(
                zoo.PICTURE, "normal", ConvDecoder(zoo.PICTURE, width=0.1), branch=conv
            ),
            "attributes": jm.Modality((4,), "normal_tanh", branch=words, conditioner=words),
        },
    )
    seen = adversary(conditions=("attributes",), latent="uniform" if kind is jm.CVAE else "prior")
    optimizers = training.GroupOptimizers(*[optax.sgd(1e-3)] * 3)
    variables = jax.jit(model.init)(jax.random.key(1), batch())
    state = training.create_adversarial_state(
        model, variables, seen, optimizers, jax.random.key(2), batch()
    )
    update = training.AdversarialUpdate(model, jm.make_loss_fn(model, jm.elbo), seen, optimizers)
    new, metrics = jax.jit(lambda s: update(s, row_keys(), batch(), {"beta": 1.0}, None))(state)
    assert all(np.isfinite(value) for value in metrics.values())
    own = {f"decoders_{name}" for name in ("image",)}
    own |= {"features_image"} if kind is jm.CVAE else set()
    assert set(model.decoder_parameters("image")) == own
    for old, now in ((state.params, new.params), (state.adversary, new.adversary)):
        for name in old:
            changed = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), old[name], now[name])
            assert any(jax.tree.leaves(changed)), name


def step_of(update, axis_name=None):
    return training.make_train_step(
        update,
        key=jax.random.key(2),
        batch_size=ROWS,
        transforms=dict.fromkeys(batch(), lambda keys, values: values),
        weights={"alpha": lambda step: jnp.asarray(0.1), "beta": lambda step: jnp.asarray(1.0)},
        learning_rate=lambda step: jnp.asarray(1e-3),
        axis_name=axis_name,
    )


def test_a_step_reports_every_player():
    state, update = pieces(training.GroupOptimizers(*[optax.adam(1e-3)] * 3))
    tally = training.start_tally(
        update.loss_fn,
        dict.fromkeys(batch(), lambda keys, values: values),
        {"alpha": lambda step: 0.1, "beta": lambda step: 1.0},
        state,
        batch(),
        training.ADVERSARIAL_METRICS,
    )
    new, metrics = jax.eval_shape(step_of(update), state, batch())
    assert metrics.keys() == tally.sums.keys()
    assert jax.tree.structure(new) == jax.tree.structure(state)


def test_a_discriminator_that_wins_shows_in_the_log():
    state, update = pieces(training.GroupOptimizers(STILL, STILL, optax.adam(1e-2)))
    step = jax.jit(step_of(update))
    first = step(state, batch())[1]
    for _ in range(250):
        state, metrics = step(state, batch())
    assert all(0.2 < first[f"discriminator/{name}"] < 0.8 for name in ("real", "draw"))
    assert metrics["discriminator/real"] > 0.95
    assert metrics["discriminator/reconstruction"] < 0.05
    assert metrics["discriminator/draw"] < 0.05
    assert metrics["generator/fooling"] > first["generator/fooling"] + 3


@functools.cache
def on_devices(count, strategy):
    devices = parallel.DataParallel(tuple(jax.devices()[:count]), strategy)
    optimizers = training.GroupOptimizers(*[optax.adam(1e-3, eps=1e-4)] * 3)
    state, update = pieces(optimizers, parallel.AXIS)
    step = step_of(update, parallel.AXIS)

    def sharded(state, stored):
        rows = parallel.positions(ROWS, parallel.AXIS)
        return step(state, {name: values[rows] for name, values in stored.items()})

    placed = devices.place((state, batch()))
    return jax.device_get(devices.fetch(devices.compile(sharded)(*placed)))


@pytest.mark.parametrize("strategy", ["jit", pytest.param("pmap", marks=pytest.mark.slow)])
def test_a_step_on_four_devices_is_that_on_one(strategy):
    (alone, first), (together, second) = on_devices(1, "jit"), on_devices(4, strategy)
    for part in ("params", "model_state", "adversary"):
        found, expected = (jax.tree.leaves(getattr(state, part)) for state in (together, alone))
        for a, b in zip(found, expected, strict=True):
            assert np.linalg.norm(a - b) <= 1e-4 * np.linalg.norm(b) + 1e-7
    for name, value in first.items():
        np.testing.assert_allclose(second[name], value, rtol=1e-4, err_msg=name)


def test_rows_that_lack_a_modality_are_refused_by_name():
    state, update = pieces(training.GroupOptimizers(*[STILL] * 3))
    with pytest.raises(ValueError, match="mask: an adversarial step needs rows"):
        update(state, row_keys(), batch(), WEIGHTS, {"image": jnp.ones(ROWS, bool)})
