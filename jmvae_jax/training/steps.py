"""Pure steps: `(state, stored batch) -> (state, metrics)`. `parallel` compiles them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jmvae_jax import parallel
from jmvae_jax.data.pipeline import Epoch, take
from jmvae_jax.data.transforms import (
    Transform,
    apply_transforms,
    evaluation_batch,
    streams,
)
from jmvae_jax.distributions import example_keys
from jmvae_jax.objectives.elbo import Bound
from jmvae_jax.objectives.loss import LossFn
from jmvae_jax.training.accumulation import over_parts
from jmvae_jax.training.metrics import Metrics, Tally, add_metrics, empty_tally
from jmvae_jax.training.schedules import Schedule
from jmvae_jax.training.state import TrainState
from jmvae_jax.types import Array, Batch, Key, Mask

_STEP_METRICS = ("learning_rate", "grad_norm", "clipped")

TrainStep = Callable[..., tuple[TrainState, Metrics]]
Update = Callable[..., tuple[TrainState, Metrics]]
"""`update(state, keys, batch, weights, mask) -> (state, metrics)`: what a step changes but its
counter and its average. Of the metrics, means over the global batch, `grad_norm` is one."""


def bound_terms(bound: Bound) -> dict[str, Array]:
    """The terms of a bound by the names they have in the logs, `[B]` each."""
    return {
        "loss": bound.loss,
        "elbo": bound.elbo,
        "rate": bound.rate,
        **{f"reconstruction/{name}": value for name, value in bound.reconstruction.items()},
        **{f"alignment/{name}": value for name, value in bound.alignment.items()},
    }


def _reported(weights: Metrics) -> Metrics:
    return {name: weights[name] for name in ("beta",) if name in weights}


def plain_update(
    loss_fn: LossFn,
    optimizer: optax.GradientTransformation,
    axis_name: str | None = None,
    accumulate: int = 1,
) -> Update:
    """All parameters go down one loss.

    Args:
      loss_fn: from `objectives.make_loss_fn`.
      optimizer: any Optax chain.
      axis_name: by which shards reduce, None where the step sees the global batch.
      accumulate: equal parts of a shard's rows that are computed one after the other, for their
        memory: without statistics of batches the result is that of one part.
    """
    gradient = jax.value_and_grad(loss_fn, has_aux=True)

    def update(
        state: TrainState, keys: Key, batch: Batch, weights: Metrics, mask: Mask | None
    ) -> tuple[TrainState, Metrics]:
        def one(model_state: Any, part: Any) -> tuple[Any, Any]:
            keys, batch, mask = part
            (_, (bound, model_state)), grads = gradient(
                state.params, model_state, keys, batch, weights=weights, mask=mask
            )
            return model_state, (grads, jax.tree.map(jnp.mean, bound_terms(bound)))

        rows = (keys, batch, mask)
        model_state, (grads, terms) = over_parts(one, state.model_state, rows, accumulate)
        grads, terms, model_state = parallel.mean((grads, terms, model_state), axis_name)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        state = state.replace(params=params, model_state=model_state, opt_state=opt_state)
        return state, terms | {"grad_norm": optax.tree.norm(grads)}

    return update


def make_train_step(
    update: Update,
    *,
    key: Key,
    batch_size: int,
    transforms: Mapping[str, Transform],
    weights: Mapping[str, Schedule],
    learning_rate: Schedule,
    clip_norm: float | None = None,
    average_decay: float = 0.0,
    axis_name: str | None = None,
) -> TrainStep:
    """One step of training, not compiled.

    Args:
      update: from `plain_update` or `AdversarialUpdate`.
      key: of the run; the noise of a row comes from it, the step and the row's position.
      batch_size: of the global batch.
      transforms: modality -> transform of stored values.
      weights: name -> function of the step, for the objective (`alpha`, `beta`).
      learning_rate: reported; the optimiser has its own.
      clip_norm: reported: the metric `clipped` is 1 where the gradient's norm exceeds it.
      average_decay: of the exponential average of the parameters, shorter in the beginning:
        `min(average_decay, (1 + step) / (10 + step))`; 0: none is kept.
      axis_name: as in `update`.

    Returns:
      `train_step(state, stored, mask=None) -> (state, metrics)`; metrics are scalars, means over
      the global batch, in nats.
    """

    def train_step(
        state: TrainState, stored: Batch, mask: Mask | None = None
    ) -> tuple[TrainState, Metrics]:
        rows = parallel.positions(batch_size, axis_name)
        noise, draws = streams(example_keys(jax.random.fold_in(key, state.step), rows))
        batch = apply_transforms(transforms, draws, stored)
        current = {name: schedule(state.step) for name, schedule in weights.items()}
        rate, average = learning_rate(state.step), state.average
        if bool(average) != (average_decay > 0):
            raise ValueError(
                f"average_decay={average_decay}, and the state has "
                f"{'an' if average else 'no'} average: see create_state"
            )
        # Early on the average is short, so that the initial weights leave it.
        decay = jnp.minimum(average_decay, (1.0 + state.step) / (10.0 + state.step))
        state, metrics = update(state, noise, batch, current, mask)
        norm = metrics["grad_norm"]
        clipped = jnp.zeros(()) if clip_norm is None else (norm > clip_norm).astype(float)
        metrics |= _reported(current) | {"learning_rate": rate, "clipped": clipped}
        average = average and optax.incremental_update(state.params, average, 1 - decay)
        return state.replace(step=state.step + 1, average=average), metrics

    return train_step


def make_dispatch(
    train_step: TrainStep,
    batch_size: int,
    devices: parallel.DataParallel,
    streamed: bool = False,
) -> Callable[..., Any]:
    """Compiles what one call from the host does: steps that take their rows and add up metrics.

    Args:
      train_step: from `make_train_step`.
      batch_size: of the global batch.
      devices: that share it.
      streamed: whether the epochs come from a `Stream`, where a device has its own rows alone.

    Returns:
      `dispatch(state, tally, epoch, count) -> (state, tally)`: `count` steps, all of one epoch.
      State and tally are donated. The count is traced, so that one program serves them all and
      a state does not depend on how its steps were divided among calls.
    """

    def one(epoch: Epoch, state: TrainState, tally: Tally) -> tuple[TrainState, Tally]:
        rows, size = parallel.positions(batch_size, parallel.AXIS), batch_size
        if streamed:
            rows, size = jnp.arange(len(rows)), len(rows)
        stored, mask = take(epoch, state.step, rows, size)
        step = state.step
        state, metrics = train_step(state, stored, mask)
        return state, add_metrics(tally, metrics, step)

    def dispatch(
        state: TrainState, tally: Tally, epoch: Epoch, count: Array
    ) -> tuple[TrainState, Tally]:
        return jax.lax.fori_loop(0, count, lambda _, carry: one(epoch, *carry), (state, tally))

    return devices.compile(dispatch, donate=(0, 1), shards=(2,) if streamed else ())


def make_eval_step(
    loss_fn: LossFn, transforms: Mapping[str, Transform], weights: Mapping[str, Schedule]
) -> Callable[..., Any]:
    """Compiles an evaluation step: every term of every row.

    Returns:
      `eval_step(state, (stored, mask)) -> {term: [B]}`, mask a dictionary or None.
      `stored["index"]` gives each example its own fixed noise, whatever the batch. A state that
      `parallel.replicate` put on several devices spreads the rows over them.
    """

    def eval_step(state: TrainState, rows: tuple[Batch, Mask | None]) -> Metrics:
        stored, mask = rows
        batch, noise = evaluation_batch(transforms, stored)
        current = {name: schedule(state.step) for name, schedule in weights.items()}
        params = state.variables["params"]
        _, (bound, _) = loss_fn(
            params, state.model_state, noise, batch, weights=current, mask=mask, train=False
        )
        weighted = {
            name: jnp.broadcast_to(weight, noise.shape)
            for name, weight in _reported(current).items()
        }
        return bound_terms(bound) | weighted

    return parallel.by_rows(eval_step)


def start_tally(
    loss_fn: LossFn,
    transforms: Mapping[str, Transform],
    weights: Mapping[str, Schedule],
    state: TrainState,
    stored: Mapping[str, Any],
    further: Sequence[str] = (),
) -> Tally:
    """The empty tally of a training step's metrics; `stored` shows what a row looks like.

    `further` are metrics that an update adds to the terms of the bound (`ADVERSARIAL_METRICS`).
    """
    row = {name: values[:1] for name, values in stored.items()} | {"index": jnp.zeros(1, int)}
    eval_step = make_eval_step(loss_fn, transforms, weights)
    terms = jax.eval_shape(eval_step, state, (row, None))
    return empty_tally((*terms, *_STEP_METRICS, *further))
