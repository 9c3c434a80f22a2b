"""The arithmetic of docs/scaling.md: products against hand counts, predictions against limits."""

import doctest
import importlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from benchmarks.arithmetic import kept, work
from benchmarks.prediction import (
    CLUSTER,
    FLOAT32,
    Cluster,
    Link,
    Step,
    latency_seconds,
    step_seconds,
    strong_efficiency,
    terms,
    transfer_seconds,
    weak_efficiency,
)
from benchmarks.shapes import Problem
from experiments.configs import mnist
from jmvae_jax import networks

COUNTS = [2**power for power in range(9)]
STEP = Step(flops=1e9, moved=1e6, parameters=7e7, reduced=7e7, calls=3, kernels=100)


def total(outputs):
    return sum(jnp.sum(x) for x in jax.tree.leaves(outputs))


def forward_and_gradient(network, shape):
    """Products of a network, and of the gradient of its parameters, over examples of a shape."""
    inputs = jax.ShapeDtypeStruct(shape, jnp.float32)
    variables = jax.eval_shape(network.init, jax.random.key(0), inputs)

    def loss(variables, inputs):
        return total(network.apply(variables, inputs))

    return work(loss, variables, inputs), work(jax.grad(loss), variables, inputs)


# Arithmetic


def test_a_dense_layer_is_two_flop_a_weight_and_its_gradient_two_more():
    forward, gradient = forward_and_gradient(nn.Dense(5), (7, 3))
    assert forward.flops == 2 * 7 * 3 * 5
    assert forward.moved == 4 * (7 * 3 + 3 * 5 + 7 * 5)
    # Of a sum: the forward product itself is not needed, nor is the gradient of the inputs.
    assert gradient.flops == 2 * 7 * 3 * 5


def test_a_second_layer_needs_the_gradient_of_its_inputs():
    _, gradient = forward_and_gradient(nn.Sequential([nn.Dense(5), nn.relu, nn.Dense(4)]), (7, 3))
    # Forward, the first layer; backward, the weights of both and the inputs of the second.
    assert gradient.flops == 2 * 7 * (3 * 5 + 3 * 5 + 5 * 4 + 5 * 4)


@pytest.mark.parametrize("implementation", ["native", "matmul"])
def test_a_convolution_is_sixteen_taps_of_each_pixel_of_the_small_map(implementation):
    taps = 2 * 2 * (8 // 2) ** 2 * 16 * 3 * 5
    halving = networks.strided.HalvingConv(5, implementation=implementation)
    forward, gradient = forward_and_gradient(halving, (2, 8, 8, 3))
    assert forward.flops == gradient.flops == taps
    doubling = networks.strided.DoublingConv(3, implementation=implementation)
    forward, gradient = forward_and_gradient(doubling, (2, 4, 4, 5))
    assert forward.flops == gradient.flops == taps


def test_networks_of_both_implementations_have_the_same_products():
    def found(implementation):
        options = {"width": 1 / 16, "norm": None, "implementation": implementation}
        encoder = networks.ConvEncoder(hidden=32, **options)
        decoder = networks.ConvDecoder((16, 16, 3), **options)
        pairs = forward_and_gradient(encoder, (2, 16, 16, 3)), forward_and_gradient(decoder, (2, 8))
        return [one.flops for pair in pairs for one in pair]

    native = found("native")
    assert native == found("matmul")
    assert native[1] > 2 * native[0]


def test_a_loop_counts_its_products_as_often_as_they_are_run():
    def loop(x):
        return jax.lax.scan(lambda carry, _: (carry @ x, None), x, length=6)[0]

    assert work(loop, jnp.ones((3, 3))).flops == 6 * 2 * 3**3


def test_the_step_of_mnist_is_the_house_figure():
    problem = Problem(mnist.get_config("jmvae_kl"), 60_000)
    first = (
        784 * 512 + 10 * 512
    )  # weights over the modalities, in a single and in the joint encoder
    weights = (
        2 * first
        + 2 * (512 * 512 + 512 * 128)  # single encoders
        + (1024 * 512 + 512 * 128)  # the joint one
        + 2 * (64 * 512 + 512 * 512) + first  # decoders
    )  # fmt: skip
    assert problem.work(8).flops / 8 == 6 * weights - 2 * 2 * first
    assert problem.work(8).flops / 8 == pytest.approx(16.70e6, rel=1e-3)


def test_a_gradient_keeps_what_went_into_its_products():
    def loss(weights, x):
        return jnp.sum(jnp.sin(x @ weights))

    inputs, weights = jnp.ones((7, 3)), jnp.ones((3, 5))
    # The cosine of 7 x 5 numbers; the inputs are there anyway.
    assert kept(loss, weights, inputs) == 4 * 7 * 5


# Predictions


def test_one_device_says_nothing():
    assert transfer_seconds(1e9, 1, CLUSTER) == latency_seconds(1, CLUSTER) == 0
    assert weak_efficiency(STEP, 10, 1, FLOAT32, CLUSTER) == 1
    assert strong_efficiency(STEP, 10, 1, FLOAT32, CLUSTER) == 1


def test_many_devices_pass_everything_twice():
    plain = Cluster(Link(1e9, 0.0), Link(1e9, 0.0))
    assert transfer_seconds(1e9, 10**6, plain) == pytest.approx(2, rel=1e-5)
    assert transfer_seconds(1e9, 2, plain) == 1
    slower = Cluster(Link(1e9, 0.0), Link(1e8, 0.0))
    assert transfer_seconds(1e9, 8, slower) == transfer_seconds(1e9, 8, plain)
    assert transfer_seconds(1e9, 16, slower) == 10 * transfer_seconds(1e9, 16, plain)


def test_latency_is_that_of_the_ring_or_the_tree():
    cluster = Cluster(Link(1.0, 1.0), Link(1.0, 10.0))
    # Two: one hop there and one back. Eight: a tree of three levels. 32: two levels of nodes more.
    assert [latency_seconds(count, cluster) for count in (2, 8, 32)] == [2, 6, 46]
    expensive = Cluster(Link(1.0, 1.0), Link(1.0, 1.0), node=3)
    assert latency_seconds(3, expensive) == 4  # of either


def test_terms_add_up_and_grow_with_the_devices():
    parts = [terms(STEP, 10, count, FLOAT32, CLUSTER) for count in COUNTS]
    times = [step_seconds(STEP, 10, count, FLOAT32, CLUSTER) for count in COUNTS]
    assert times == [pytest.approx(sum(part.values())) for part in parts]
    assert times == sorted(times)
    assert parts[0]["products"] == pytest.approx(1e10 / FLOAT32.flops)
    assert parts[0]["memory"] == 0


@pytest.mark.parametrize("efficiency", [weak_efficiency, strong_efficiency])
def test_efficiency_is_a_share_that_falls(efficiency):
    shares = [efficiency(STEP, 256, count, FLOAT32, CLUSTER) for count in COUNTS]
    assert shares == sorted(shares, reverse=True)
    assert all(0 < share <= 1 for share in shares)


@pytest.mark.parametrize("name", ["arithmetic", "prediction", "shapes"])
def test_examples_run(name):
    failed, _ = doctest.testmod(importlib.import_module(f"benchmarks.{name}"))
    assert failed == 0
