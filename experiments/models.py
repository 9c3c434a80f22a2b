"""From a configuration to models, their adversaries, and transforms of the data."""

import dataclasses
import difflib
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

import jmvae_jax as jm
from jmvae_jax import distributions, networks, parallel
from jmvae_jax.data import transforms as stored_transforms

ACTIVATIONS: Mapping[str, Callable[..., Any]] = {
    "relu": nn.relu,
    "leaky_relu": nn.leaky_relu,
    "gelu": nn.gelu,
    "silu": nn.silu,
    "tanh": nn.tanh,
}
PRECISIONS: Mapping[str, Any] = {"float32": None, "bfloat16": jnp.bfloat16}
"""Of the networks' arithmetic; parameters, densities and sums are float32."""

MODELS: Mapping[str, Callable[..., jm.MultimodalModel]] = {
    "vae": jm.VAE,
    "jmvae": jm.JMVAE,
    "cvae": jm.CVAE,
    "cmma": jm.CMMA,
}

POSTERIORS = (
    "diagonal",
    "full",
    "low_rank:RANK",
    "mixture:COMPONENTS:GAUSSIAN",
    "flow:LAYERS:BASE",
)
"""How a configuration names families of posteriors: "mixture:10:full", say."""


def posterior_family(key: str, words: str) -> distributions.PosteriorFamily:
    """The family that `words` name, one of `POSTERIORS`; ValueError names `key` where none is."""
    kind, _, rest = words.partition(":")
    number, _, of = rest.partition(":")
    count = int(number) if number.isdecimal() else 0
    if words == "diagonal":
        return distributions.DIAGONAL
    if words == "full":
        return distributions.Full()
    if kind == "low_rank" and count and not of:
        return distributions.LowRank(count)
    if kind == "mixture" and count and of:
        return distributions.Mixture(count, posterior_family(key, of))  # type: ignore[arg-type]
    if kind == "flow" and count and of:
        base = posterior_family(key, of)
        return distributions.Coupling(count, base=base)  # type: ignore[arg-type]
    raise ValueError(f"{key}={words!r}: expected one of {list(POSTERIORS)}")


Statistics = Mapping[str, np.ndarray]
"""`image/mean` and `image/deviation`, say: what a run keeps of its data beside its parameters."""


def choose(argument: str, name: str, table: Mapping[str, Any]) -> Any:
    """`table[name]`; ValueError names the argument, the choices and the nearest one."""
    if name not in table:
        near = difflib.get_close_matches(str(name), list(table), 1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ValueError(f"{argument}={name!r} is not known{hint}: expected one of {list(table)}")
    return table[name]


def likelihood(name: str, entry: ConfigDict) -> distributions.Family:
    """The family of a modality, with the settings of `likelihood_options` ({"scale": 0.5}, say)."""
    family = distributions.likelihood_family(entry.likelihood)
    options = dict(entry.get("likelihood_options", {}))
    settings = set(inspect.signature(family).parameters)
    settings -= set(distributions.predicted_parameters(family))
    foreign = sorted(set(options) - settings)
    if foreign:
        raise ValueError(
            f"modalities.{name}.likelihood_options: {entry.likelihood!r} has no "
            f"setting {foreign[0]!r}"
        )
    return functools.partial(family, **options) if options else family


CONVENTIONS: Mapping[str, str] = {
    "normal_channel_mean": "the mean over channels, as in the JMVAE authors' code: no density",
}


def describe_likelihood(name: str, entry: ConfigDict) -> str:
    """`image: normal (scale 1)`: which density a modality's numbers are of."""
    settings = [
        parameter
        for parameter in inspect.signature(likelihood(name, entry)).parameters.values()
        if parameter.default is not inspect.Parameter.empty
    ]
    words = [f"{parameter.name} {parameter.default:g}" for parameter in settings]
    words += [CONVENTIONS[entry.likelihood]] if entry.likelihood in CONVENTIONS else []
    return f"{name}: {entry.likelihood}" + (f" ({', '.join(words)})" if words else "")


def describe_likelihoods(config: ConfigDict) -> str:
    """The densities of all modalities, of values after their transforms."""
    described = [describe_likelihood(name, entry) for name, entry in config.modalities.items()]
    return "; ".join(described)


class Networks:
    """Networks by their description in a configuration.

    A tuple of sizes is a fully connected network; "conv" is the paper's convolutional network of
    the place where it stands.
    """

    def __init__(self, config: ConfigDict) -> None:
        self.model = config.model
        self.shared = {
            "norm": config.model.get("norm"),
            # Each device sees its own rows, and statistics are those of the whole batch.
            "axis_name": parallel.AXIS,
            "dtype": choose("train.precision", config.train.precision, PRECISIONS),
            "activation": choose("model.activation", config.model.activation, ACTIVATIONS),
        }
        self.conv = self.shared | {"remat": config.train.remat}

    def dense(self, layers: tuple[int, ...]) -> networks.MLP:
        return networks.MLP(tuple(layers), **self.shared)

    def network(self, role: str, name: str, entry: ConfigDict) -> nn.Module:
        """The network of a modality in a role: "encoder", "branch", "decoder", "conditioner"."""
        description = entry[role]
        if not isinstance(description, str):
            return self.dense(description)
        if description != "conv":
            raise ValueError(
                f"modalities.{name}.{role}={description!r}: expected 'conv' or sizes of layers"
            )
        if role == "decoder":
            parameters = distributions.predicted_parameters(likelihood(name, entry))
            return networks.ConvDecoder(
                tuple(entry.shape), parameters, self.model.width, **self.conv
            )
        hidden = self.model.hidden if role == "encoder" else None
        return networks.ConvEncoder(self.model.width, hidden, **self.conv)


def build_model(config: ConfigDict) -> jm.MultimodalModel:
    """The model of a configuration."""
    kind = choose("model.name", config.model.name, MODELS)
    made = Networks(config)
    # The networks that this model has, and no others: a template that is not used is no error,
    # but a reader of the printed model should not meet it.
    options: dict[str, Any] = {}
    if "trunk" in config.model:
        options["trunk"] = made.dense(config.model.trunk)
    for option in ("inference", "product", "conditions"):
        if option in config.model:
            options[option] = config.model[option]
    if "posterior" in config.model:
        options["joint_posterior"] = posterior_family("model.posterior", config.model.posterior)
    foreign = sorted(set(options) - {field.name for field in dataclasses.fields(kind)})
    if foreign:
        raise ValueError(
            f"model.name={config.model.name!r} has no model.{foreign[0]}: choose the "
            "configuration's variant instead of the name"
        )
    roles = {"decoder", "conditioner"}
    if "trunk" in options:
        roles.add("branch")
    if kind is jm.VAE or options.get("inference") == "kl":
        roles.add("encoder")
    for name, entry in config.modalities.items():
        family = entry.get("posterior", "diagonal")
        if family != "diagonal" and "encoder" not in roles:
            raise ValueError(
                f"modalities.{name}.posterior={family!r}: the model has no single encoders"
            )
    modalities = {
        name: jm.Modality(
            shape=tuple(entry.shape),
            likelihood=likelihood(name, entry),
            posterior=posterior_family(
                f"modalities.{name}.posterior", entry.get("posterior", "diagonal")
            ),
            **{role: made.network(role, name, entry) for role in roles & set(entry)},
        )
        for name, entry in config.modalities.items()
    }
    return kind(latent_dim=config.model.latent_dim, modalities=modalities, **options)


def build_adversary(
    config: ConfigDict, model: jm.MultimodalModel
) -> jm.objectives.Adversary | None:
    """The discriminator beside the model, for configurations that have one."""
    if "adversary" not in config:
        return None
    entry = config.adversary
    adversary = jm.objectives.Adversary(
        networks.ConvDiscriminator(
            entry.width,
            config.model.hidden,
            dtype=choose("train.precision", config.train.precision, PRECISIONS),
            remat=config.train.remat,
        ),
        image=entry.image,
        latent=entry.latent,
        reconstruction_weight=entry.reconstruction_weight,
        conditions=tuple(entry.conditions),
    )
    adversary.check(model)
    return adversary


def build_transforms(
    config: ConfigDict, statistics: Statistics
) -> dict[str, stored_transforms.Transform]:
    """Modality -> transform from what is stored to what the model reads."""

    def transform(name: str, entry: ConfigDict) -> stored_transforms.Transform:
        table = {
            "binarize": lambda: stored_transforms.binarize,
            "unit_interval": lambda: stored_transforms.unit_interval,
            "standardize": lambda: stored_transforms.standardize(*_moments(name, statistics)),
            "one_hot": lambda: stored_transforms.one_hot(entry.shape[-1]),
            "as_floats": lambda: stored_transforms.as_floats,
        }
        return choose(f"modalities.{name}.transform", entry.transform, table)()

    return {name: transform(name, entry) for name, entry in config.modalities.items()}


def build_showing(config: ConfigDict, statistics: Statistics) -> dict[str, Callable[..., Any]]:
    """Modality -> function from what the model reads and draws to pixels in [0, 1]."""
    return {
        name: stored_transforms.unstandardize(*_moments(name, statistics))
        for name, entry in config.modalities.items()
        if entry.transform == "standardize"
    }


def _moments(name: str, statistics: Statistics) -> tuple[np.ndarray, np.ndarray]:
    try:
        return statistics[f"{name}/mean"], statistics[f"{name}/deviation"]
    except KeyError as error:
        raise ValueError(
            f"modalities.{name}.transform='standardize' needs {error.args[0]!r}, which the run's "
            "statistics.npz lacks: restore it from a copy"
        ) from error
