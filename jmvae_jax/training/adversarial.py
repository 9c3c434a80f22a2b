"""Three updates for each batch: everything but the generator, the generator, the discriminator.

Each sees the parameters that the one before left, and has a draw of z of its own. Running
statistics are those of the first update's forward pass. See `objectives.adversarial`.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jmvae_jax import parallel
from jmvae_jax.distributions import Distribution
from jmvae_jax.models.base import MultimodalModel
from jmvae_jax.objectives.adversarial import (
    Adversary,
    discriminator_loss,
    generator_loss,
    inferred,
    split_parameters,
)
from jmvae_jax.objectives.loss import LossFn
from jmvae_jax.training.accumulation import over_parts
from jmvae_jax.training.metrics import Metrics
from jmvae_jax.training.state import TrainState, create_state
from jmvae_jax.training.steps import bound_terms
from jmvae_jax.types import Array, Batch, Key, Mask, Variables

ADVERSARIAL_METRICS = (
    "generator/loss",
    "generator/fooling",
    "generator/grad_norm",
    "discriminator/grad_norm",
    "discriminator/loss",
    "discriminator/real",
    "discriminator/reconstruction",
    "discriminator/draw",
)
"""Losses (3) and (4) and the norms of their gradients (`grad_norm` is the encoders'); `-log D` of
the fakes in (3), without the reconstruction; and the mean probabilities D that images are real. A
discriminator that has won says 1, 0, 0; one that has given up says the same of all three."""


Found = tuple[Distribution, Distribution]
"""q(z | every modality) and the prior."""

Rows = tuple[Key, Batch, Found | None]


class GroupOptimizers(NamedTuple):
    """One Optax chain for each group of parameters.

    Attributes:
      encoders: of everything that is in neither of the other groups.
      generator: of the networks of p(image | z).
      discriminator: of the discriminator.
    """

    encoders: optax.GradientTransformation
    generator: optax.GradientTransformation
    discriminator: optax.GradientTransformation


def create_adversarial_state(
    model: MultimodalModel,
    variables: Variables,
    adversary: Adversary,
    optimizers: GroupOptimizers,
    key: Key,
    batch: Batch,
    average: bool = False,
) -> TrainState:
    """The state before the first step.

    Args:
      model: a model and `variables`, what its `init` returned.
      adversary: the discriminator, whose parameters start from `key`.
      optimizers: as in `AdversarialUpdate`.
      batch: shows what a row looks like.
      average: whether an average of the model's parameters is kept.

    Raises:
      ValueError: an adversary that does not fit the model.
    """
    adversary.check(model)
    encoders, generator = split_parameters(model, adversary.image, variables["params"])
    groups = (encoders, generator, adversary.init(key, batch))
    opt_state = {
        name: optimizer.init(group)
        for name, optimizer, group in zip(GroupOptimizers._fields, optimizers, groups, strict=True)
    }
    state = create_state(variables, optax.identity(), average)
    return state.replace(opt_state=opt_state, adversary=groups[2])


@dataclasses.dataclass(frozen=True)
class AdversarialUpdate:
    """The paper's three updates for each batch: an `Update` for `make_train_step`.

    Args:
      model: that `loss_fn` is of.
      loss_fn: from `objectives.make_loss_fn`; what the encoders, and decoders of what is no image,
        go down.
      adversary: the discriminator and its options.
      optimizers: one for each group.
      axis_name, accumulate: as in `plain_update`; parts infer z anew for each update.

    Raises:
      ValueError: an adversary that does not fit the model; in a step, masked rows.
    """

    model: MultimodalModel
    loss_fn: LossFn
    adversary: Adversary
    optimizers: GroupOptimizers
    axis_name: str | None = None
    accumulate: int = 1

    def __post_init__(self) -> None:
        self.adversary.check(self.model)

    def __call__(
        self, state: TrainState, keys: Key, batch: Batch, weights: Metrics, mask: Mask | None
    ) -> tuple[TrainState, Metrics]:
        if mask is not None:
            raise ValueError("mask: an adversarial step needs rows that have every modality")
        fold = jax.vmap(jax.random.fold_in, (0, None))
        first, second, third = (fold(keys, number) for number in range(3))
        state, terms = self.update_encoders(state, first, batch, weights)
        # The encoders stay as they are from here on: one pass serves the other two updates, but
        # for parts, which keep nothing from one update to the next.
        found = None if self.accumulate > 1 else self._inferred(state, batch)
        state, of_generator = self.update_generator(state, second, batch, found)
        state, of_discriminator = self.update_discriminator(state, third, batch, found)
        return state, terms | of_generator | of_discriminator

    def _inferred(self, state: TrainState, batch: Batch) -> Found:
        return inferred(self.model, {"params": state.params, **state.model_state}, batch)

    def update_encoders(
        self, state: TrainState, keys: Key, batch: Batch, weights: Metrics
    ) -> tuple[TrainState, Metrics]:
        """Everything but the generator and the discriminator, down the bound's loss."""
        encoders, generator = split_parameters(self.model, self.adversary.image, state.params)

        def loss(group: Any, model_state: Any, keys: Key, batch: Batch) -> Any:
            params = {**group, **generator}
            return self.loss_fn(params, model_state, keys, batch, weights=weights)

        def one(model_state: Any, part: Any) -> tuple[Any, Any]:
            gradient = jax.value_and_grad(loss, has_aux=True)
            (_, (bound, model_state)), grads = gradient(encoders, model_state, *part)
            return model_state, (grads, jax.tree.map(jnp.mean, bound_terms(bound)))

        model_state, means = over_parts(one, state.model_state, (keys, batch), self.accumulate)
        (grads, terms), model_state = parallel.mean((means, model_state), self.axis_name)
        encoders, opt_state = self._descend("encoders", grads, encoders, state.opt_state)
        state = state.replace(
            params={**encoders, **generator}, model_state=model_state, opt_state=opt_state
        )
        return state, terms | {"grad_norm": optax.tree.norm(grads)}

    def update_generator(
        self, state: TrainState, keys: Key, batch: Batch, found: Found | None = None
    ) -> tuple[TrainState, Metrics]:
        """The networks of p(image | z), down (3)."""
        encoders, generator = split_parameters(self.model, self.adversary.image, state.params)

        def loss(group: Any, part: Rows) -> tuple[Array, Metrics]:
            keys, batch, found = part
            variables = {"params": {**encoders, **group}, **state.model_state}
            found = found or self._inferred(state, batch)
            images = self.adversary.images(self.model, variables, keys, batch, *found)
            fakes = (images.draw, images.reconstruction)
            fooling = generator_loss(*self.adversary.logits(state.adversary, batch, *fakes))
            losses = fooling - self.adversary.reconstruction_weight * images.log_prob
            total = jnp.mean(losses)
            return total, {"generator/loss": total, "generator/fooling": jnp.mean(fooling)}

        grads, terms = self._gradient(loss, generator, (keys, batch, found))
        terms["generator/grad_norm"] = optax.tree.norm(grads)
        generator, opt_state = self._descend("generator", grads, generator, state.opt_state)
        return state.replace(params={**encoders, **generator}, opt_state=opt_state), terms

    def update_discriminator(
        self, state: TrainState, keys: Key, batch: Batch, found: Found | None = None
    ) -> tuple[TrainState, Metrics]:
        """The discriminator, down (4)."""
        variables = {"params": state.params, **state.model_state}

        def loss(params: Any, part: Rows) -> tuple[Array, Metrics]:
            keys, batch, found = part
            found = found or self._inferred(state, batch)
            images = self.adversary.images(self.model, variables, keys, batch, *found)
            kinds = (batch[self.adversary.image], images.reconstruction, images.draw)
            logits = self.adversary.logits(params, batch, *kinds)
            total = jnp.mean(discriminator_loss(*logits))
            shares = [jnp.mean(jax.nn.sigmoid(part)) for part in logits]
            return total, dict(zip(ADVERSARIAL_METRICS[-4:], [total, *shares], strict=True))

        grads, terms = self._gradient(loss, state.adversary, (keys, batch, found))
        terms["discriminator/grad_norm"] = optax.tree.norm(grads)
        params, opt_state = self._descend("discriminator", grads, state.adversary, state.opt_state)
        return state.replace(adversary=params, opt_state=opt_state), terms

    def _gradient(self, loss: Callable[..., Any], group: Any, rows: Rows) -> tuple[Any, Metrics]:
        """Gradient and metrics of a loss over the global batch."""

        def one(nothing: None, part: Any) -> tuple[None, Any]:
            return nothing, jax.grad(loss, has_aux=True)(group, part)

        _, means = over_parts(one, None, rows, self.accumulate)
        gradient: tuple[Any, Metrics] = parallel.mean(means, self.axis_name)
        return gradient

    def _descend(self, group: str, grads: Any, params: Any, opt_state: Mapping[str, Any]) -> Any:
        """The group's parameters and everyone's optimiser state after its step."""
        optimizer = getattr(self.optimizers, group)
        updates, new = optimizer.update(grads, opt_state[group], params)
        return optax.apply_updates(params, updates), {**opt_state, group: new}
