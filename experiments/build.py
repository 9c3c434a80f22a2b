"""From a configuration to the library's pieces, and from a run's folder back to a model.

`load_run` is for people as well: it gives a trained model back in Python, see the README.
"""

import copy
import dataclasses
import functools
import inspect
import pathlib
import types
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

import jmvae_jax as jm
from experiments import workdir as folders
from experiments.models import (
    Statistics,
    build_adversary,
    build_model,
    build_showing,
    build_transforms,
    choose,
)
from experiments.recipe import build_optimizer, build_rates, check_config
from jmvae_jax import data, parallel, training
from jmvae_jax.data import transforms as stored_transforms
from jmvae_jax.objectives.loss import LossFn
from jmvae_jax.training import GroupOptimizers, Plan, schedules
from jmvae_jax.training.checkpoints import Checkpoints
from jmvae_jax.training.metrics import Tally
from jmvae_jax.training.schedules import Schedule
from jmvae_jax.training.state import TrainState, create_state
from jmvae_jax.training.steps import TrainStep, Update

OBJECTIVES: Mapping[str, Callable[..., Any]] = {
    "elbo": jm.elbo,
    "elbo_toward_normal": jm.elbo_toward_normal,
    "jmvae_kl": jm.jmvae_kl,
}


@dataclasses.dataclass(frozen=True)
class Experiment:
    """The pieces of a training run that do not depend on its devices.

    Attributes:
      model, transforms, loss_fn: the problem.
      adversary: the discriminator, or None.
      optimizers: Optax's chains; a model without adversary has that of the encoders alone.
      learning_rate: of the encoders, as a function of the step.
      showing: modality -> function from what the model reads and draws to pixels.
      weights: weights of the objective as functions of the step.
      steps_per_epoch, num_steps: of the run.
    """

    model: jm.MultimodalModel
    transforms: Mapping[str, stored_transforms.Transform]
    loss_fn: LossFn
    adversary: jm.objectives.Adversary | None
    optimizers: GroupOptimizers
    learning_rate: Schedule
    showing: Mapping[str, Callable[[Any], Any]]
    weights: Mapping[str, Schedule]
    steps_per_epoch: int
    num_steps: int

    def update(self, accumulate: int = 1) -> Update:
        """What a step does with a batch, one shard of it on each device."""
        options: dict[str, Any] = {"axis_name": parallel.AXIS, "accumulate": accumulate}
        if self.adversary is None:
            return training.plain_update(self.loss_fn, self.optimizers.encoders, **options)
        return training.AdversarialUpdate(
            self.model, self.loss_fn, self.adversary, self.optimizers, **options
        )

    @property
    def further_metrics(self) -> tuple[str, ...]:
        """Metrics of a step that are no terms of the bound."""
        return () if self.adversary is None else training.ADVERSARIAL_METRICS

    def start_tally(self, state: TrainState, stored: Mapping[str, Any]) -> Tally:
        """The empty tally of its steps, see `training.start_tally`."""
        problem = (self.loss_fn, self.transforms, self.weights)
        return training.start_tally(*problem, state, stored, self.further_metrics)


def build(
    config: ConfigDict, num_examples: int, statistics: Statistics = types.MappingProxyType({})
) -> Experiment:
    """The experiment of a configuration, for a training split of `num_examples`.

    `statistics` are those of `inputs.load_statistics`.

    Raises:
      ValueError: a value that is not known or out of range, by its key.
    """
    check_config(config)
    train = config.train
    model = build_model(config)
    steps_per_epoch = data.num_steps(num_examples, train.batch_size)
    num_steps = train.epochs * steps_per_epoch
    rates = build_rates(config, num_steps)
    weights = {"beta": schedules.beta_warmup(train.epochs, steps_per_epoch, train.warmup_fraction)}
    if "alpha" in config.objective:
        alpha = float(config.objective.alpha)
        weights["alpha"] = lambda step: jnp.asarray(alpha)
    return Experiment(
        model=model,
        transforms=build_transforms(config, statistics),
        loss_fn=jm.make_loss_fn(model, build_objective(config)),
        adversary=build_adversary(config, model),
        optimizers=GroupOptimizers(*(build_optimizer(config, rate) for rate in rates)),
        learning_rate=rates[0],
        showing=build_showing(config, statistics),
        weights=weights,
        steps_per_epoch=steps_per_epoch,
        num_steps=num_steps,
    )


def build_objective(config: ConfigDict) -> Callable[..., Any]:
    """The objective of a configuration, with its settings.

    Raises:
      ValueError: it is not known, or has no such setting.
    """
    name = config.objective.name
    objective = choose("objective.name", name, OBJECTIVES)
    usual = {"alignment": "joint", "divergence": "forward", "num_samples": 1}
    options = {
        key: config.objective[key]
        for key, value in usual.items()
        if config.objective.get(key, value) != value
    }
    weights = {"alpha": config.objective.alpha} if "alpha" in config.objective else {}
    for key, value in {**weights, **options}.items():
        if key not in inspect.signature(objective).parameters:
            raise ValueError(f"objective.{key}={value!r}: the objective {name!r} has no such thing")
    if options.get("alignment") == "posthoc" and "source" not in config:
        raise ValueError(
            "objective.alignment='posthoc': encoders are fitted to a trained run by "
            "experiments/align.py; expected 'joint' or 'detached'"
        )
    return functools.partial(objective, **options) if options else objective


def build_plan(config: ConfigDict, experiment: Experiment) -> Plan:
    """When a run logs, validates and saves; the configuration counts epochs, a plan steps."""
    return Plan(
        num_steps=experiment.num_steps,
        steps_per_epoch=experiment.steps_per_epoch,
        batch_size=config.train.batch_size,
        log_every=config.train.log_every,
        validate_every=config.train.validate_every * experiment.steps_per_epoch,
        checkpoint_every=config.train.checkpoint_every * experiment.steps_per_epoch,
        steps_per_dispatch=config.train.steps_per_dispatch,
    )


def build_step(config: ConfigDict, experiment: Experiment, key: jax.Array) -> TrainStep:
    """One step of a run for one shard of the batch, not compiled."""
    return training.make_train_step(
        experiment.update(config.train.accumulate),
        key=key,
        batch_size=config.train.batch_size,
        transforms=experiment.transforms,
        weights=experiment.weights,
        learning_rate=experiment.learning_rate,
        clip_norm=config.train.clip_norm or None,
        average_decay=config.train.average_decay,
        axis_name=parallel.AXIS,
    )


def compile_dispatch(
    config: ConfigDict,
    experiment: Experiment,
    devices: parallel.DataParallel,
    key: jax.Array,
    streamed: bool = False,
) -> Callable[..., Any]:
    """The compiled steps of a run, see `training.make_dispatch`."""
    step = build_step(config, experiment, key)
    return training.make_dispatch(step, config.train.batch_size, devices, streamed)


def initial_state(config: ConfigDict, experiment: Experiment) -> TrainState:
    """The state before the first step, from the configuration's seed."""

    def create() -> TrainState:
        batch = {
            name: jnp.zeros((1, *modality.shape))
            for name, modality in experiment.model.modalities.items()
        }
        key, average = jax.random.key(config.seed), config.train.average_decay > 0
        variables = experiment.model.init(key, batch)
        if experiment.adversary is None:
            return create_state(variables, experiment.optimizers.encoders, average)
        return training.create_adversarial_state(
            experiment.model,
            variables,
            experiment.adversary,
            experiment.optimizers,
            jax.random.fold_in(key, 3),
            batch,
            average,
        )

    return parallel.jit(create)()


@dataclasses.dataclass(frozen=True)
class Run:
    """A trained model, as `load_run` gives it back.

    Attributes:
      model: the Linen module.
      variables: its parameters (averaged, where the run keeps an average) and state, for
        `model.apply`.
      state: the whole training state.
      config: the run's configuration.
      transforms, showing: as in `Experiment`.
      statistics: what it keeps of its data set, see `inputs.load_statistics`.
    """

    model: jm.MultimodalModel
    variables: Any
    state: TrainState
    config: ConfigDict
    transforms: Mapping[str, stored_transforms.Transform]
    showing: Mapping[str, Callable[[Any], Any]]
    statistics: Statistics

    def spread(self) -> "Run":
        """The run with its variables on every device: what is computed with them uses all."""
        return dataclasses.replace(self, variables=parallel.replicate(self.variables))

    @property
    def title(self) -> str:
        """What tells the run from others in a picture."""
        objective = self.config.objective
        alpha = f", alpha {objective.alpha:g}" if "alpha" in objective else ""
        chosen = [objective.get(key) for key in ("alignment", "divergence")]
        chosen += [entry.get("posterior") for entry in self.config.modalities.values()]
        usual = (None, "joint", "forward", "diagonal")
        how = "".join(f", {word}" for word in chosen if word not in usual)
        toward = " toward N(0, I)" if objective.name == "elbo_toward_normal" else ""
        return f"{self.config.variant}{alpha}{how}{toward} (step {int(self.state.step):,})"


def load_run(workdir: str | pathlib.Path) -> Run:
    """The newest whole checkpoint of a run's folder, as a model in Python, in float32.

    Raises:
      FileNotFoundError: the folder holds no run, or no checkpoint yet.
      CheckpointError: no checkpoint is whole.
    """
    config = folders.read_config(workdir)
    # The state's shapes do not depend on the number of examples.
    statistics = folders.read_statistics(workdir)
    exact = copy.deepcopy(config)
    exact.train.precision = "float32"
    experiment = build(exact, 1000 * config.train.batch_size, statistics)
    target = jax.eval_shape(lambda: initial_state(config, experiment))
    restored = Checkpoints(folders.checkpoints_path(workdir)).restore(target)
    if restored is None:
        raise FileNotFoundError(
            f"{workdir} holds a run without a checkpoint yet: go on with the command that began it"
        )
    state = restored[1]
    return Run(
        model=experiment.model,
        variables=state.variables,
        state=state,
        config=config,
        transforms=experiment.transforms,
        showing=experiment.showing,
        statistics=statistics,
    )
