"""What every model offers: a prior, posteriors from any part of the modalities, and decoders.

A model is a Linen module whose methods return distributions. They are called by
`model.apply(variables, ..., method="posterior")`, or inside a function given as `method`.
"""

import inspect
from collections.abc import Collection, Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from jmvae_jax import distributions
from jmvae_jax.distributions import Distribution, Family, PosteriorFamily
from jmvae_jax.models.checks import check_batch, check_names
from jmvae_jax.models.modality import Modalities, Modality
from jmvae_jax.networks import Heads, scaled_glorot
from jmvae_jax.types import Array, Batch, Key, Mask, Variables


def call_network(network: nn.Module, inputs: Any, train: bool) -> Any:
    """`network(inputs)`, telling it `train` if its `__call__` asks for it.

    Raises:
      ValueError: it has statistics of batches and does not ask, so that they would never change.
    """
    if "train" in inspect.signature(type(network).__call__).parameters:
        return network(inputs, train=train)
    outputs = network(inputs)
    if "batch_stats" in network.variables:
        raise ValueError(
            f"{type(network).__name__} has batch statistics, and its __call__ no argument `train`: "
            "they would never change; expected one, which it passes on or ignores"
        )
    return outputs


def over_rows(mask: Array, values: Array) -> Array:
    """A mask `[B]` with axes added so that it applies to `values` `[B, ...]`."""
    return mask.reshape(mask.shape + (1,) * (values.ndim - mask.ndim))


def fill_absent(batch: Batch, mask: Mask | None) -> dict[str, Array]:
    """The batch with zeros in the rows that `mask` calls absent.

    Zeros go in before any network or density: what stood there (NaN included) reaches neither
    the values nor the gradient.
    """
    if mask is None:
        return dict(batch)
    return {
        name: jnp.where(over_rows(mask[name], values), values, 0) if name in mask else values
        for name, values in batch.items()
    }


def call_method(
    model: nn.Module, variables: Variables, method: str, *args: Any, **options: Any
) -> Any:
    """`model.apply` of a method by name. Typed `Any`: Linen's own type has no distributions."""
    return model.apply(variables, *args, method=method, **options)


def presence(names: Collection[str], mask: Mask | None, rows: int) -> dict[str, Array]:
    """name -> `bool[rows]`, true where the row has it; everywhere where `mask` lacks the name."""
    return {name: (mask or {}).get(name, jnp.ones(rows, bool)) for name in names}


def fresh(template: nn.Module) -> nn.Module:
    """A copy of a network with parameters of its own, those of the networks it holds included."""
    return template.clone(_deep_clone=True)


class PosteriorEncoder(nn.Module):
    """A body with linear heads for a family's outputs: inputs -> posterior over z.

    Rows that are not `there` have N(0, I), whatever their inputs.
    """

    body: nn.Module
    latent_dim: int
    family: PosteriorFamily = distributions.DIAGONAL

    @nn.compact
    def __call__(
        self, inputs: Any, train: bool = False, there: Array | None = None
    ) -> Distribution:
        wanted = self.family.outputs(self.latent_dim)
        shapes = {name: output.shape for name, output in wanted.items()}
        scales = {name: output.scale for name, output in wanted.items()}
        features = call_network(self.body, inputs, train)
        arrays = Heads(shapes, scales, name="heads")(features)
        for name, output in wanted.items():
            values = arrays[name].astype(jnp.float32)
            if output.positive and not isinstance(features, Mapping):
                values = distributions.positive(values)
            if there is not None:
                values = jnp.where(over_rows(there, values), values, output.rest)
            arrays[name] = values
        shared = {
            name: self.param(name, scaled_glorot(kernels.scale, stacked=True), kernels.shape)
            for name, kernels in self.family.shared(self.latent_dim).items()
        }
        return self.family.build(arrays, shared)


class Decoder(nn.Module):
    """A body with linear heads for the likelihood's parameters: z -> p(modality | z)."""

    body: nn.Module
    shape: tuple[int, ...]
    family: Family

    @nn.compact
    def __call__(self, z: Array, train: bool = False) -> Distribution:
        # Networks see one batch axis; axes of samples are merged into it and split again.
        leading = z.shape[:-1]
        features = call_network(self.body, z.reshape(-1, z.shape[-1]), train)
        names = distributions.predicted_parameters(self.family)
        outputs = Heads(dict.fromkeys(names, self.shape), name="heads")(features)
        arrays = [
            outputs[name].reshape(*leading, *self.shape).astype(jnp.float32) for name in names
        ]
        return distributions.as_event(self.family(*arrays), len(self.shape))


class MultimodalModel(nn.Module):
    """The interface of the zoo. Subclasses add encoders in `setup` and define `posterior`.

    Args:
      latent_dim: size of z.
      modalities: name -> `Modality`.
    """

    latent_dim: int
    modalities: Mapping[str, Modality]

    def __post_init__(self) -> None:
        object.__setattr__(self, "modalities", Modalities(self.modalities))
        super().__post_init__()

    def setup(self) -> None:
        if not self.modalities:
            raise ValueError("modalities is empty: a model needs at least one")
        self.decoders = {name: self._decoder(name) for name in self.generated}

    def _decoder(self, name: str) -> Decoder:
        modality = self.modalities[name]
        if modality.decoder is None:
            raise ValueError(
                f"modalities[{name!r}] has decoder=None, and it is generated: give one"
            )
        family = distributions.likelihood_family(modality.likelihood)
        return Decoder(fresh(modality.decoder), modality.shape, family)

    @property
    def generated(self) -> tuple[str, ...]:
        """Modalities that have a likelihood; the others are conditions, which are always given."""
        return tuple(self.modalities)

    @property
    def conditions(self) -> tuple[str, ...]:
        """Modalities that are not generated; none in a model of the joint distribution."""
        return tuple(name for name in self.modalities if name not in self.generated)

    def decoder_parameters(self, name: str) -> tuple[str, ...]:
        """Names in `params` of what makes up p(name | z): the generator of an adversarial model."""
        return (f"decoders_{name}",)

    @property
    def single_parameters(self) -> tuple[str, ...]:
        """Names in `params` of encoders of one modality that stand beside the joint one."""
        return ()

    def prior(self, batch: Batch | None = None, train: bool = False) -> Distribution:
        """p(z) = N(0, I) over `[latent_dim]`; `batch` serves models with a conditional prior."""
        return distributions.standard_normal(self.latent_dim)

    def posterior(
        self,
        batch: Batch,
        given: Collection[str] | None = None,
        mask: Mask | None = None,
        train: bool = False,
    ) -> Distribution:
        """q(z | the modalities named in `given`), all of them by default; z is `[B, latent_dim]`.

        Args:
          batch: at least the modalities of `given`.
          given: names; an empty collection gives the prior of a model without conditions.
          mask: rows that have each modality; the others are inferred from what they have.
          train: whether networks with statistics update them.
        """
        raise NotImplementedError

    def infers(self, given: Collection[str]) -> bool:
        """Whether there is a q(z | the modalities named in `given`)."""
        whole = set(self.conditions), set(self.modalities)
        return not self.conditions or set(given) in whole

    def infer(
        self, batch: Batch, mask: Mask | None = None, train: bool = False
    ) -> tuple[Distribution, Distribution]:
        """q(z | every modality) and the prior: what a bound needs, each network called once."""
        return self.posterior(batch, mask=mask, train=train), self.prior(batch, train)

    def single_posteriors(
        self, batch: Batch, mask: Mask | None = None, train: bool = False
    ) -> dict[str, Distribution]:
        """q(z | x_m) of each modality; empty where a model has no encoder of one."""
        return {}

    def partial_posteriors(
        self, batch: Batch, keys: Key, mask: Mask | None = None, train: bool = False
    ) -> tuple[dict[str, Distribution], Mask | None]:
        """What alignment draws to the joint posterior, and the rows that have it.

        Args:
          batch, mask, train: as in `posterior`.
          keys: `[B]`, for models that choose a part of the modalities at random.

        Returns:
          name -> q(z | a part of the modalities), and name -> `bool[B]` (a name that it lacks
          counts everywhere).
        """
        return self.single_posteriors(batch, mask, train), mask

    def decode(
        self, z: Array, batch: Batch | None = None, train: bool = False
    ) -> dict[str, Distribution]:
        """p(modality | z) for every modality that is generated.

        Args:
          z: `[..., latent_dim]`.
          batch: what a conditional decoder is conditioned on, `[*b, *shape]` where the leading
            axes of z end in b.

        Returns:
          name -> distribution with batch shape `[...]` and event shape `shape` of the modality.
        """
        return {name: decoder(z, train) for name, decoder in self.decoders.items()}

    def __call__(self, batch: Batch, mask: Mask | None = None) -> dict[str, Distribution]:
        """Reconstruction from the posterior's middle; `init` runs it to shape every parameter."""
        check_batch(self.modalities, batch, mask)
        filled = fill_absent(batch, mask)
        if self.is_initializing():
            self.single_posteriors(filled)
            self.prior(filled)
        return self.decode(distributions.center(self.posterior(filled, mask=mask)), filled)

    def _given(self, given: Collection[str] | None, batch: Batch) -> tuple[str, ...]:
        """`given` checked and in the model's order; None means every modality."""
        if given is not None:
            check_names("given", given, self.modalities)
        names = tuple(name for name in self.modalities if given is None or name in given)
        lacking = [name for name in names if name not in batch]
        if lacking:
            raise ValueError(f"batch lacks {lacking}, which are given: it has {sorted(batch)}")
        return names
