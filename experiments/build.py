"""From a configuration to the library's pieces, and from a run's folder back to a model.

`load_run` is for people as well: it gives a trained model back in Python, see the README.
"""

import dataclasses
import difflib
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

import jmvae_jax as jm
from experiments import workdir as folders
from jmvae_jax import data, parallel
from jmvae_jax.data import transforms as stored_transforms
from jmvae_jax.objectives.loss import LossFn
from jmvae_jax.training import Plan, schedules
from jmvae_jax.training.checkpoints import Checkpoints
from jmvae_jax.training.schedules import Schedule
from jmvae_jax.training.state import TrainState, create_state

ACTIVATIONS: Mapping[str, Callable[..., Any]] = {
    "relu": nn.relu,
    "leaky_relu": nn.leaky_relu,
    "gelu": nn.gelu,
    "silu": nn.silu,
    "tanh": nn.tanh,
}
MODELS: Mapping[str, Callable[..., jm.MultimodalModel]] = {
    "vae": jm.VAE,
    "jmvae": jm.JMVAE,
    "cvae": jm.CVAE,
    "cmma": jm.CMMA,
}
OBJECTIVES: Mapping[str, Callable[..., Any]] = {
    "elbo": jm.elbo,
    "elbo_toward_normal": jm.elbo_toward_normal,
    "jmvae_kl": jm.jmvae_kl,
}


def choose(argument: str, name: str, table: Mapping[str, Any]) -> Any:
    """`table[name]`; ValueError names the argument, the choices and the nearest one."""
    if name not in table:
        near = difflib.get_close_matches(str(name), list(table), 1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ValueError(f"{argument}={name!r} is not known{hint}: expected one of {list(table)}")
    return table[name]


def build_model(config: ConfigDict) -> jm.MultimodalModel:
    """The model of a configuration."""
    kind = choose("model.name", config.model.name, MODELS)
    activation = choose("model.activation", config.model.activation, ACTIVATIONS)

    def body(layers: tuple[int, ...]) -> jm.MLP:
        return jm.MLP(tuple(layers), activation)

    # The networks that this model has, and no others: a template that is not used is no error,
    # but a reader of the printed model should not meet it.
    options: dict[str, Any] = {}
    if "trunk" in config.model:
        options["trunk"] = body(config.model.trunk)
    for option in ("inference", "product", "conditions"):
        if option in config.model:
            options[option] = config.model[option]
    foreign = sorted(set(options) - {field.name for field in dataclasses.fields(kind)})
    if foreign:
        raise ValueError(
            f"model.name={config.model.name!r} has no model.{foreign[0]}: choose the "
            "configuration's variant instead of the name"
        )
    networks = {"decoder", "conditioner"}
    if "trunk" in options:
        networks.add("branch")
    if kind is jm.VAE or options.get("inference") == "kl":
        networks.add("encoder")
    modalities = {
        name: jm.Modality(
            shape=tuple(entry.shape),
            likelihood=entry.likelihood,
            **{network: body(entry[network]) for network in networks & set(entry)},
        )
        for name, entry in config.modalities.items()
    }
    return kind(latent_dim=config.model.latent_dim, modalities=modalities, **options)


def build_transforms(config: ConfigDict) -> dict[str, stored_transforms.Transform]:
    """Modality -> transform from what is stored to what the model reads."""

    def transform(name: str, entry: ConfigDict) -> stored_transforms.Transform:
        table = {
            "binarize": lambda: stored_transforms.binarize,
            "unit_interval": lambda: stored_transforms.unit_interval,
            "one_hot": lambda: stored_transforms.one_hot(entry.shape[-1]),
        }
        return choose(f"modalities.{name}.transform", entry.transform, table)()

    return {name: transform(name, entry) for name, entry in config.modalities.items()}


@dataclasses.dataclass(frozen=True)
class Experiment:
    """The pieces of a training run that do not depend on its devices.

    Attributes:
      model, transforms, loss_fn: the problem.
      optimizer, learning_rate: Optax's chain, and its rate as a function of the step.
      weights: weights of the objective as functions of the step.
      steps_per_epoch, num_steps: of the run.
    """

    model: jm.MultimodalModel
    transforms: Mapping[str, stored_transforms.Transform]
    loss_fn: LossFn
    optimizer: optax.GradientTransformation
    learning_rate: Schedule
    weights: Mapping[str, Schedule]
    steps_per_epoch: int
    num_steps: int


def check_config(config: ConfigDict) -> None:
    """Raises ValueError for a number that no run can have."""
    train = config.train
    above_0 = ("epochs", "batch_size", "steps_per_dispatch", "log_every", "keep_checkpoints")
    from_0 = ("validate_every", "checkpoint_every", "clip_norm", "clip_value")
    lowest = dict.fromkeys(above_0, 1) | dict.fromkeys(from_0, 0)
    for name, bound in lowest.items():
        if not train[name] >= bound:
            raise ValueError(f"train.{name}={train[name]}: expected at least {bound}")
    if not train.learning_rate > 0:
        raise ValueError(f"train.learning_rate={train.learning_rate}: expected more than 0")
    if not 0 <= train.average_decay < 1:
        raise ValueError(f"train.average_decay={train.average_decay}: expected [0, 1)")
    if config.model.latent_dim < 1:
        raise ValueError(f"model.latent_dim={config.model.latent_dim}: expected at least 1")


def limit_norm(limit: float) -> optax.GradientTransformation:
    """`optax.clip_by_global_norm`, by one factor for all elements instead of a division each."""

    def project(grads: Any, params: Any) -> Any:
        return optax.projections.projection_l2_ball(grads, limit)

    return optax.stateless(project)


def build_optimizer(config: ConfigDict, rate: Schedule) -> optax.GradientTransformation:
    """The paper's chain: limit the norm, clip the elements, Adam."""
    train = config.train
    parts = []
    if train.clip_norm:
        parts.append(limit_norm(train.clip_norm))
    if train.clip_value:
        parts.append(optax.clip(train.clip_value))
    parts.append(optax.adam(rate, b1=train.adam_b1, b2=train.adam_b2, eps=train.adam_eps))
    return optax.chain(*parts)


def build(config: ConfigDict, num_examples: int) -> Experiment:
    """The experiment of a configuration, for a training split of `num_examples`.

    Raises:
      ValueError: a value that is not known or out of range, by its key.
    """
    check_config(config)
    train = config.train
    model = build_model(config)
    steps_per_epoch = data.num_steps(num_examples, train.batch_size)
    num_steps = train.epochs * steps_per_epoch
    rate = schedules.learning_rate(
        train.schedule, train.learning_rate, num_steps, train.schedule_warmup_fraction
    )
    weights = {"beta": schedules.beta_warmup(train.epochs, steps_per_epoch, train.warmup_fraction)}
    if "alpha" in config.objective:
        alpha = float(config.objective.alpha)
        weights["alpha"] = lambda step: jnp.asarray(alpha)
    objective = choose("objective.name", config.objective.name, OBJECTIVES)
    return Experiment(
        model=model,
        transforms=build_transforms(config),
        loss_fn=jm.make_loss_fn(model, objective),
        optimizer=build_optimizer(config, rate),
        learning_rate=rate,
        weights=weights,
        steps_per_epoch=steps_per_epoch,
        num_steps=num_steps,
    )


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


def initial_state(config: ConfigDict, experiment: Experiment) -> TrainState:
    """The state before the first step, from the configuration's seed."""

    def create() -> TrainState:
        batch = {
            name: jnp.zeros((1, *modality.shape))
            for name, modality in experiment.model.modalities.items()
        }
        variables = experiment.model.init(jax.random.key(config.seed), batch)
        return create_state(variables, experiment.optimizer, config.train.average_decay > 0)

    return parallel.jit(create)()


def places(config: ConfigDict) -> dict[str, Any]:
    """Where the configuration's data set comes from: arguments of the data room's functions."""
    return {name: config.data[name] for name in ("data_dir", "manual_dir", "download")}


def load_arrays(config: ConfigDict, split: str) -> dict[str, np.ndarray]:
    """Everything that is stored of a split of the configuration's data set, with `index`."""
    return data.load(config.data.dataset, split, **places(config))


def load_split(config: ConfigDict, split: str) -> dict[str, np.ndarray]:
    """Stored arrays of the configuration's modalities, with `index`.

    Raises:
      ValueError: the data set lacks a modality of the configuration, or has other shapes.
    """
    arrays = load_arrays(config, split)
    lacking = sorted(set(config.modalities) - set(arrays))
    if lacking:
        raise ValueError(
            f"modalities {lacking} are not in {config.data.dataset}: it has "
            f"{sorted(set(arrays) - {'index'})}"
        )
    for name, entry in config.modalities.items():
        _check_stored(name, entry, arrays[name])
    return {name: arrays[name] for name in (*config.modalities, "index")}


def _check_stored(name: str, entry: ConfigDict, values: np.ndarray) -> None:
    """Raises ValueError where stored values do not fit the modality's shape."""
    labels = entry.transform == "one_hot"
    expected = () if labels else tuple(entry.shape)
    if values.shape[1:] != expected:
        raise ValueError(
            f"modalities.{name}.shape={tuple(entry.shape)}: the data set has {values.shape[1:]}"
        )
    if labels and not 0 <= values.min() <= values.max() < entry.shape[-1]:
        raise ValueError(
            f"modalities.{name}.shape={tuple(entry.shape)}: the data set has labels from "
            f"{values.min()} to {values.max()}"
        )


@dataclasses.dataclass(frozen=True)
class Run:
    """A trained model, as `load_run` gives it back.

    Attributes:
      model: the Linen module.
      variables: its parameters (averaged, where the run keeps an average) and state, for
        `model.apply`.
      state: the whole training state.
      config: the run's configuration.
      transforms: modality -> transform of stored values.
    """

    model: jm.MultimodalModel
    variables: Any
    state: TrainState
    config: ConfigDict
    transforms: Mapping[str, stored_transforms.Transform]

    @property
    def title(self) -> str:
        """What tells the run from others in a picture."""
        objective = self.config.objective
        alpha = f", alpha {objective.alpha:g}" if "alpha" in objective else ""
        toward = " toward N(0, I)" if objective.name == "elbo_toward_normal" else ""
        return f"{self.config.variant}{alpha}{toward} (step {int(self.state.step):,})"


def load_run(workdir: str | pathlib.Path) -> Run:
    """The newest whole checkpoint of a run's folder, as a model in Python.

    Raises:
      FileNotFoundError: the folder holds no run, or no checkpoint yet.
      CheckpointError: no checkpoint is whole.
    """
    config = folders.read_config(workdir)
    # The state's shapes do not depend on the number of examples.
    experiment = build(config, num_examples=1000 * config.train.batch_size)
    target = jax.eval_shape(lambda: initial_state(config, experiment))
    restored = Checkpoints(folders.checkpoints_path(workdir)).restore(target)
    if restored is None:
        raise FileNotFoundError(
            f"{workdir} holds a run without a checkpoint yet: train it further with "
            f"experiments/train.py --workdir={workdir}"
        )
    state = restored[1]
    return Run(experiment.model, state.variables, state, config, experiment.transforms)
