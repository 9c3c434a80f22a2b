import copy
import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zoo

import jmvae_jax as jm
from jmvae_jax.distributions import Full, product_of_experts
from jmvae_jax.evaluation import standard_queries

KL, ZERO = zoo.ZOO["jmvae_kl_3"].model, zoo.ZOO["jmvae_zero_2"].model


variables_of = functools.cache(zoo.variables_of)


def size(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def paper_model(inference):
    body = jm.MLP((512, 512))
    branch = jm.MLP((512,))
    return jm.JMVAE(
        latent_dim=64,
        trunk=branch,
        inference=inference,
        modalities={
            "image": jm.Modality((28, 28, 1), "bernoulli", body, encoder=body, branch=branch),
            "label": jm.Modality((10,), "categorical", body, encoder=body, branch=branch),
        },
    )


@pytest.mark.parametrize(
    ("inference", "singles", "total"),
    [
        ("zero", {}, 1_997_210),
        ("kl", {"singles_image": 730_240, "singles_label": 333_952}, 3_061_402),
    ],
)
def test_the_parameters_are_as_many_as_the_papers(inference, singles, total, key):
    batch = {"image": jnp.zeros((1, 28, 28, 1)), "label": jnp.eye(10)[:1]}
    params = jax.eval_shape(paper_model(inference).init, key, batch)["params"]
    assert {name: size(part) for name, part in params.items()} == {
        "joint": 998_016,
        "decoders_image": 698_128,
        "decoders_label": 301_066,
        **singles,
    }
    assert size(params) == total


class Nested(nn.Module):
    """A network that holds another one."""

    inner: nn.Module

    def __call__(self, inputs):
        return self.inner(inputs)


def template_model(body, inference):
    modalities = {
        name: jm.Modality((4,), "normal", decoder=body, encoder=body, branch=body) for name in "ab"
    }
    return jm.JMVAE(latent_dim=4, trunk=body, inference=inference, modalities=modalities)


@pytest.mark.parametrize("inference", ["kl", "zero"])
@pytest.mark.parametrize(
    "body",
    [
        jm.MLP((4,)),
        Nested(jm.MLP((4,))),
    ],
    ids=["plain", "nested"],
)
def test_every_use_of_a_template_has_parameters_of_its_own(body, inference, key):
    model = template_model(body, inference)
    # With one size everywhere, sharing would pass without an error; the trunk reads both branches.
    params = jax.eval_shape(model.init, key, {name: jnp.ones((2, 4)) for name in "ab"})["params"]
    layer = 4 * 4 + 4
    joint = 2 * layer + (8 * 4 + 4) + 2 * layer
    singles = 2 * (layer + 2 * layer) if inference == "kl" else 0
    assert size(params) == joint + singles + 2 * (layer + layer)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(
            nn.Sequential([nn.Dense(4), nn.relu]),
        ),
        nn.Dense(4),
    ],
    ids=["sequential", "dense"],
)
def test_linens_own_modules_are_templates_as_well(body, key):
    model = template_model(body, "kl").clone(trunk=jm.MLP((3,)))
    params = jax.eval_shape(model.init, key, {name: jnp.ones((2, 4)) for name in "ab"})["params"]
    layer = 4 * 4 + 4
    joint = 2 * layer + (8 * 3 + 3) + 2 * (3 * 4 + 4)
    assert size(params) == joint + 2 * (layer + 2 * layer) + 2 * (layer + layer)


@pytest.mark.parametrize("given", ["image", "label"])
def test_zero_reads_zeros_in_the_place_of_what_is_not_given(given):
    variables, batch = variables_of(ZERO), zoo.batch_of(ZERO)
    zeros = {n: v if n == given else jnp.zeros_like(v) for n, v in batch.items()}
    q = ZERO.apply(variables, batch, given=(given,), method="posterior")
    joint = ZERO.apply(variables, zeros, method="posterior")
    np.testing.assert_array_equal(q.mean, joint.mean)
    np.testing.assert_array_equal(q.variance, joint.variance)


@pytest.mark.parametrize("name", ["jmvae_zero_2", "jmvae_kl_2", "jmvae_kl_3"])
def test_a_masked_row_goes_through_the_joint_encoder_with_zeros(name):
    model = zoo.ZOO[name].model
    variables, batch = variables_of(model), zoo.batch_of(model)
    mask = {"label": jnp.array([True, False, True, False, False])}
    q = model.apply(variables, batch, mask=mask, method="posterior")
    zeros = {**batch, "label": batch["label"] * mask["label"][:, None]}
    expected = model.apply(variables, zeros, method="posterior")
    np.testing.assert_array_equal(q.mean, expected.mean)
    np.testing.assert_array_equal(q.variance, expected.variance)


def gradients_of_posterior(model, given=None, mask=None):
    """Of the sum of its moments, by the parameters and by the inputs."""
    variables, batch = variables_of(model), zoo.batch_of(model)

    @jax.jit
    @jax.grad
    def gradients(inputs):
        q = model.apply(
            {"params": inputs["params"]},
            inputs["batch"],
            given=given,
            mask=mask,
            method="posterior",
        )
        return jnp.sum(q.mean + q.variance)

    found = gradients({"params": variables["params"], "batch": batch})
    return found["params"], found["batch"]


def reached(gradients):
    """The names under which there is a gradient that is not zero."""
    return {n for n, part in gradients.items() if any(map(np.any, jax.tree.leaves(part)))}


def test_kl_given_the_image_reads_the_image_with_its_own_encoder_alone():
    params, batch = gradients_of_posterior(KL, given=("image",))
    assert reached(params) == {"singles_image"}
    assert reached(batch) == {"image"}


def test_kl_given_two_of_three_reads_them_with_their_encoders_alone():
    params, batch = gradients_of_posterior(KL, given=("image", "sound"))
    assert reached(params) == {"singles_image", "singles_sound"}
    assert reached(batch) == {"image", "sound"}


def test_kl_given_everything_reads_it_with_the_joint_encoder_alone():
    params, batch = gradients_of_posterior(KL)
    assert reached(params) == {"joint"}
    assert reached(batch) == {"image", "label", "sound"}


def test_zero_given_the_image_does_not_read_the_label():
    params, batch = gradients_of_posterior(ZERO, given=("image",))
    assert reached(params) == {"joint"}
    assert reached(batch) == {"image"}


@pytest.mark.parametrize(("model", "given"), [(KL, None), (KL, ("label", "sound")), (ZERO, None)])
def test_a_masked_row_is_not_read(model, given):
    there = np.array([True, False, True, False, True])
    _, batch = gradients_of_posterior(model, given, {"label": jnp.asarray(there)})
    np.testing.assert_array_equal(np.any(batch["label"], axis=-1), there)


def singles_of(model, batch):
    return model.apply(variables_of(model), batch, method="single_posteriors")


@pytest.mark.parametrize("product", ["once", "each"])
def test_a_part_of_the_modalities_has_the_product_of_its_single_encoders(product):
    model, batch = KL.clone(product=product), zoo.batch_of(KL)
    singles = singles_of(model, batch)
    assert set(singles) == {"image", "label", "sound"}
    found = model.apply(variables_of(model), batch, given=("sound", "image"), method="posterior")
    expected = product_of_experts([singles["image"], singles["sound"]], prior=product)
    np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-6)
    np.testing.assert_allclose(found.variance, expected.variance, rtol=1e-6)
    other = product_of_experts(
        [singles["image"], singles["sound"]], prior="each" if product == "once" else "once"
    )
    assert (np.abs(np.asarray(found.variance - other.variance)) > 1e-3).any()


def test_what_cannot_be_combined_is_named_with_a_way_out():
    modality = dataclasses.replace(KL.modalities["sound"], posterior=jm.distributions.Full())
    model, batch = KL.clone(modalities={**KL.modalities, "sound": modality}), zoo.batch_of(KL)
    variables = zoo.variables_of(model)
    words = r"given=\['image', 'sound'\]: .* posteriors are image Diagonal\(\), sound Full\(\);"
    with pytest.raises(ValueError, match=words):
        model.apply(variables, batch, given=("image", "sound"), method="posterior")
    assert not model.infers(("image", "sound"))
    for given in (("sound",), tuple(KL.modalities), ("image", "label")):
        model.apply(variables, batch, given=given, method="posterior")
        assert model.infers(given)
    left_out = set(standard_queries(KL)) - set(standard_queries(model))
    assert {query.source for query in left_out} == {("image", "sound"), ("label", "sound")}


def test_a_row_of_a_product_falls_back_to_what_it_has():
    variables, batch = variables_of(KL), zoo.batch_of(KL)
    singles = singles_of(KL, batch)
    mask = {
        "image": jnp.array([True, True, False, False, True]),
        "sound": jnp.array([True, False, True, False, True]),
    }
    found = KL.apply(variables, batch, given=("image", "sound"), mask=mask, method="posterior")
    both = product_of_experts([singles["image"], singles["sound"]])
    rows = [both, singles["image"], singles["sound"], KL.apply(variables, method="prior"), both]
    for row, expected in enumerate(rows):
        at = row if expected.batch_shape else ()
        np.testing.assert_allclose(found.mean[row], expected.mean[at], rtol=1e-5)
        np.testing.assert_allclose(found.variance[row], expected.variance[at], rtol=1e-5)


def test_a_single_encoder_without_its_modality_is_the_prior():
    variables, batch = variables_of(KL), zoo.batch_of(KL)
    there = jnp.array([True, False, True, True, True])
    found = KL.apply(variables, batch, given=("image",), mask={"image": there}, method="posterior")
    single = singles_of(KL, batch)["image"]
    np.testing.assert_allclose(found.mean[0], single.mean[0], rtol=1e-5)
    np.testing.assert_allclose(found.variance[0], single.variance[0], rtol=1e-5)
    np.testing.assert_array_equal(found.mean[1], np.zeros(2))
    np.testing.assert_array_equal(found.variance[1], np.ones(2))


def test_zero_has_no_single_encoders():
    assert singles_of(ZERO, zoo.batch_of(ZERO)) == {}


def test_a_modality_without_a_branch_enters_the_trunk_as_it_is(key):
    modality = jm.Modality((2, 3), "normal", decoder=zoo.BODY)
    model = jm.JMVAE(
        latent_dim=2, modalities={"a": modality, "b": modality}, trunk=zoo.BODY, inference="zero"
    )
    params = model.init(key, {name: jnp.ones((2, 2, 3)) for name in "ab"})["params"]
    assert params["joint"]["body"]["trunk"]["Dense_0"]["kernel"].shape == (12, 7)


class Difference(nn.Module):
    """A joint encoder over the dictionary that gives the moments itself."""

    @nn.compact
    def __call__(self, inputs):
        shift = self.param("shift", nn.initializers.ones, (2,))
        mean = inputs["a"] - 2 * inputs["b"] + shift
        return {"variance": jnp.full_like(mean, 0.25), "mean": mean}


class Moments(nn.Module):
    @nn.compact
    def __call__(self, inputs):
        return {"variance": 1 + inputs**2, "mean": -inputs}


def own_model(**options):
    modality = jm.Modality((2,), "normal", decoder=zoo.BODY, encoder=Moments())
    return jm.JMVAE(latent_dim=2, modalities={"a": modality, "b": modality}, **options)


def test_a_users_joint_encoder_reads_the_dictionary(key):
    model = own_model(joint_encoder=Difference(), inference="zero")
    batch = {"a": jnp.array([[1.0, 2.0]]), "b": jnp.array([[3.0, 5.0]])}
    variables = jax.jit(model.init)(key, batch)
    assert set(variables["params"]["joint"]) == {"body"}
    q = model.apply(variables, batch, method="posterior")
    np.testing.assert_allclose(q.mean, [[-4.0, -7.0]])
    np.testing.assert_allclose(q.variance, [[0.25, 0.25]])
    q = model.apply(variables, batch, given=("b",), method="posterior")
    np.testing.assert_allclose(q.mean, [[-5.0, -9.0]])


def test_a_users_joint_encoder_may_give_features(key):
    class Side(nn.Module):
        @nn.compact
        def __call__(self, inputs):
            return nn.Dense(3)(jnp.concatenate([inputs["b"], inputs["a"]], axis=-1))

    model = own_model(joint_encoder=Side())
    batch = {name: jnp.ones((4, 2)) for name in "ab"}
    q = model.apply(jax.jit(model.init)(key, batch), batch, method="posterior")
    assert q.batch_shape == (4,)
    assert (np.asarray(q.variance) > 0).all()


def test_an_encoder_may_give_mean_and_variance_itself(key):
    model = own_model(trunk=zoo.BODY)
    batch = {"a": jnp.array([[1.0, 2.0]]), "b": jnp.array([[3.0, 5.0]])}
    variables = jax.jit(model.init)(key, batch)
    q = model.apply(variables, batch, given=("a",), method="posterior")
    np.testing.assert_allclose(q.mean, [[-1.0, -2.0]])
    np.testing.assert_allclose(q.variance, [[2.0, 5.0]], rtol=1e-6)


def test_an_encoder_with_other_names_is_refused(key):
    class Deviation(nn.Module):
        def __call__(self, inputs):
            return {"mean": inputs, "scale": inputs}

    with pytest.raises(ValueError, match=r"the network gives .*'scale'.*'variance': \(2,\)"):
        own_model(trunk=Deviation(), inference="zero").init(
            key, {name: jnp.ones((4, 2)) for name in "ab"}
        )


class Normed(nn.Module):
    @nn.compact
    def __call__(self, inputs, train=False):
        hidden = nn.Dense(4)(inputs.reshape(inputs.shape[0], -1))
        return nn.relu(nn.BatchNorm(use_running_average=not train)(hidden))


def test_training_updates_the_statistics_of_every_network_and_evaluation_none(key):
    body = Normed()
    modality = jm.Modality((3,), "normal", decoder=body, encoder=body, branch=body)
    model = jm.JMVAE(latent_dim=2, modalities={"a": modality, "b": modality}, trunk=body)
    batch = {name: jax.random.normal(jax.random.key(i), (6, 3)) for i, name in enumerate("ab")}
    variables = jax.jit(model.init)(key, batch)
    params, state = variables["params"], {"batch_stats": variables["batch_stats"]}
    assert set(state["batch_stats"]) == set(params)
    loss_fn = jax.jit(jm.make_loss_fn(model, jm.jmvae_kl), static_argnames="train")

    _, (_, kept) = loss_fn(params, state, jax.random.key(1), batch, weights={}, train=False)
    jax.tree.map(np.testing.assert_array_equal, kept, state)

    _, (_, updated) = loss_fn(params, state, jax.random.key(1), batch, weights={}, train=True)
    assert jax.tree.structure(updated) == jax.tree.structure(state)
    for (path, new), old in zip(
        jax.tree_util.tree_leaves_with_path(updated), jax.tree.leaves(state), strict=True
    ):
        assert np.any(np.asarray(new) != old), jax.tree_util.keystr(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trunk": zoo.BODY, "inference": "mean"}, "inference='mean': expected one of"),
        ({}, "trunk.*joint_encoder.*not both"),
        ({"trunk": zoo.BODY, "joint_encoder": Difference()}, "trunk.*joint_encoder.*not both"),
    ],
)
def test_contradictory_options_are_refused(options, message, key):
    with pytest.raises(ValueError, match=message):
        own_model(**options).init(key, {name: jnp.ones((4, 2)) for name in "ab"})


def test_models_whose_modalities_are_in_another_order_are_other_models():
    """Equal ones share compiled programs, and features stand side by side in this order."""
    names = ("image", "label")
    one, other = zoo.jmvae(*names), zoo.jmvae(*reversed(names))
    assert one != other
    assert (one, hash(one)) == (zoo.jmvae(*names), hash(zoo.jmvae(*names)))
    assert one.clone() == one
    assert copy.copy(one.modalities) == one.modalities != other.modalities
    assert one.clone(latent_dim=one.latent_dim + 1) != one
    variables, batch = variables_of(one), zoo.batch_of(one)
    # The label's features read with the image's weights, and the other way round.
    found = [jm.predict(m, variables, batch, targets=("label",))["label"] for m in (other, one)]
    assert np.abs(found[0] - found[1]).max() > 1e-3
    mean = one.apply(variables, batch, method="posterior").mean
    expected = one.apply(variables, mean, method="decode")["label"].mean
    np.testing.assert_allclose(found[1], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("inference", ["zero", "masked"])
def test_a_family_for_an_encoder_that_is_not_there_is_refused(inference, key):
    rich = dataclasses.replace(zoo.MODALITIES["label"], posterior=Full())
    model = zoo.jmvae("image", "label", inference=inference)
    model = model.clone(modalities={**model.modalities, "label": rich})
    with pytest.raises(ValueError, match=rf"'label'\].posterior=Full\(\): inference='{inference}'"):
        model.init(key, zoo.batch_of(model))


def test_statistics_that_would_never_change_are_refused(key):
    """`Sequential` has no argument `train` to pass on."""
    hidden = nn.Sequential([jm.MLP((4, 4), norm="batch")])
    modalities = {name: jm.Modality((2,), "normal", hidden, hidden, hidden) for name in "ab"}
    model = jm.JMVAE(latent_dim=2, modalities=modalities, trunk=zoo.BODY)
    with pytest.raises(ValueError, match="Sequential has batch statistics, and its __call__ no"):
        model.init(key, {name: jnp.ones((4, 2)) for name in "ab"})


def test_an_unknown_product_is_refused_at_init(key):
    with pytest.raises(ValueError, match="product='twice'"):
        KL.clone(product="twice").init(key, zoo.batch_of(KL))


def test_kl_needs_an_encoder_for_each_modality(key):
    bare = jm.Modality((3,), "categorical", decoder=zoo.BODY)
    model = jm.JMVAE(
        latent_dim=2, modalities={"image": zoo.MODALITIES["image"], "bare": bare}, trunk=zoo.BODY
    )
    batch = {"image": jnp.ones((2, 4, 4, 1)), "bare": jnp.eye(3)[:2]}
    with pytest.raises(ValueError, match=r"needs an encoder for each modality: \['bare'\]"):
        model.init(key, batch)
    model.clone(inference="zero").init(jax.random.key(1), batch)


def test_an_unknown_likelihood_is_refused_when_the_modality_is_made():
    with pytest.raises(ValueError, match="likelihood='gauss' is not known"):
        jm.Modality((3,), "gauss", decoder=zoo.BODY)
