"""What training changes: arrays only."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from jmvae_jax.types import Array, Variables


class TrainState(struct.PyTreeNode):
    """Everything that a step reads and replaces.

    Attributes:
      step: `int32[]`, steps done.
      params: trained parameters.
      model_state: the other collections of the model ({} without statistics).
      opt_state: Optax's state; with an adversary, one for each group of parameters by its name.
      average: exponential average of the parameters, or {} where it is off.
      adversary: parameters of the discriminator ({} without one).
    """

    step: Array
    params: Any
    model_state: Any
    opt_state: Any
    average: Any
    adversary: Any

    @property
    def variables(self) -> Variables:
        """Variables for evaluation: the averaged parameters where there are any."""
        return {"params": self.average or self.params, **self.model_state}


def create_state(
    variables: Variables, optimizer: optax.GradientTransformation, average: bool = False
) -> TrainState:
    """The state before the first step, from what `model.init` returned."""
    model_state = {name: value for name, value in variables.items() if name != "params"}
    params = variables["params"]
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        model_state=model_state,
        opt_state=optimizer.init(params),
        average=jax.tree.map(jnp.copy, params) if average else {},
        adversary={},
    )
