"""What a traced function does, whatever the machine: its products, and what a gradient keeps.

The rule: a product of `[m, k]` and `[k, n]` is `2 m k n` FLOP, a convolution the same over the
pixels that it reads, its padding included and the zeros between the pixels of a doubling
convolution left out. Nothing else counts. A layer of `W` weights therefore takes `2 W` an
example forward, `2 W` for the gradient of its weights and `2 W` for that of its inputs, which the
first layer does not need.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
from jax.extend import core
from jax.interpreters import partial_eval

PRODUCTS = ("dot_general", "conv_general_dilated")


class Work(NamedTuple):
    """Of the products of a function.

    Attributes:
      flops: multiplications and additions.
      moved: bytes that the products read and write, each on its own.
      products: how many there are.
    """

    flops: int
    moved: int
    products: int


def work(function: Callable[..., Any], *args: Any, axis: tuple[str, int] | None = None) -> Work:
    """The products of `function(*args)` that its results need.

    Args:
      function: pure.
      args: arrays or `jax.ShapeDtypeStruct`s.
      axis: name and size of the axis of devices that the function knows, if it knows one.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from benchmarks.arithmetic import work
      >>> work(jnp.matmul, jnp.ones((2, 3)), jnp.ones((3, 5)))
      Work(flops=60, moved=124, products=1)
    """
    jaxpr = _trace(function, args, axis)
    # Gradients that nobody asks for stand in a trace, and in no compiled program.
    live, _ = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
    found = [(times, _product(equation)) for equation, times in _products(live)]
    sums = (sum(times * one[i] for times, one in found) for i in range(3))
    return Work(*sums)


def kept(
    loss: Callable[..., Any], params: Any, *args: Any, axis: tuple[str, int] | None = None
) -> int:
    """Bytes of what the forward pass of `loss(params, *args)` leaves to the backward pass.

    Arguments and constants are left out. XLA keeps less where it computes anew or in place.
    """

    def forward(params: Any, *args: Any) -> Any:
        return jax.tree.leaves(jax.vjp(lambda params: loss(params, *args), params)[1])

    jaxpr = _trace(forward, (params, *args), axis)
    given = {id(variable) for variable in jaxpr.invars}
    left = {id(one): one for one in jaxpr.outvars if not isinstance(one, core.Literal)}
    return sum(_bytes(one.aval) for key, one in left.items() if key not in given)


def _trace(function: Callable[..., Any], args: Any, axis: tuple[str, int] | None) -> core.Jaxpr:
    axes = None if axis is None else [axis]
    return jax.make_jaxpr(function, axis_env=axes)(*args).jaxpr


def _products(jaxpr: core.Jaxpr, times: int = 1) -> Iterator[tuple[core.JaxprEqn, int]]:
    """Equations that are products, however deep, and how often each is run.

    A loop of unknown length counts once, and every branch of a choice is taken.
    """
    for equation in jaxpr.eqns:
        if equation.primitive.name in PRODUCTS:
            yield equation, times
        else:
            inside = times * equation.params.get("length", 1)
            for part in core.jaxprs_in_params(equation.params):
                yield from _products(part, inside)


def _product(equation: core.JaxprEqn) -> Work:
    """FLOP, bytes and 1."""
    first, second, result = _values(equation)
    numbers = equation.params["dimension_numbers"]
    if equation.primitive.name == "dot_general":
        (contracted, _), _ = numbers
        terms = math.prod(first.shape[axis] for axis in contracted)
    else:
        window = math.prod(second.shape) // second.shape[numbers.rhs_spec[0]]
        terms = window // math.prod(equation.params["lhs_dilation"])
    return Work(
        flops=2 * math.prod(result.shape) * terms,
        moved=_bytes(first) + _bytes(second) + _bytes(result),
        products=1,
    )


def _values(equation: core.JaxprEqn) -> list[Any]:
    """Shapes of the operands and of the result."""
    return [variable.aval for variable in (*equation.invars, *equation.outvars)]


def _bytes(value: Any) -> int:
    return math.prod(value.shape) * int(value.dtype.itemsize)
