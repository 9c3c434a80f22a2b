"""The evidence lower bound, for one modality or any number of them.

(1) `L(x_1, ..., x_M) = E_q(z|x)[sum_m log p(x_m | z)] - KL(q(z | x) || p(z))`

with one reparameterised draw of z for each example; with one modality it is the VAE's bound,
with several JMVAE's (section 2 of arXiv:1611.01891). A conditional model (CVAE, CMMA) sums over
what it generates, and has its own prior. What is minimised is (1) with its KL, the rate,
multiplied by `beta`.

With K draws of z for each example what is minimised is minus the importance-weighted bound

(3) `log (1/K) sum_k exp(sum_m log p(x_m | z_k) - beta (log q(z_k | x) - log p(z_k)))`

(Burda et al., 2016, arXiv:1509.00519), at beta 1 no looser than (1) and rising with K to log p(x).

(2) `E_q(z|x,w)[sum_m log p(x_m | z)] - KL(q(z|x,w) || p(z | w)) - beta KL(q(z|x,w) || N(0, I))`

is what the JMVAE authors' code maximises for CMMA: the warm-up is on the second divergence.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from jmvae_jax import distributions
from jmvae_jax.distributions import Distribution
from jmvae_jax.models.base import MultimodalModel, fill_absent
from jmvae_jax.models.checks import check_batch
from jmvae_jax.types import Array, Batch, Key, Mask, Variables


class Bound(struct.PyTreeNode):
    """The terms of a bound, one number an example, in nats: arrays `[B]`.

    Attributes:
      loss: what is minimised, with its weights.
      reconstruction: modality -> `log p(x_m | z)`; 0 where the modality is absent.
      rate: `KL(q(z|x) || p(z))`, not weighted.
      alignment: modality -> the divergence of its encoder and the joint one that was asked for, not
        weighted; of a mask-conditioned model "part" -> that of a random part.
    """

    loss: Array
    reconstruction: dict[str, Array]
    rate: Array
    alignment: dict[str, Array]

    @property
    def elbo(self) -> Array:
        """The bound (1): reconstruction minus rate, at beta 1 and without alignment."""
        return _total(self.reconstruction) - self.rate


def _total(terms: Mapping[str, Array]) -> Array:
    return sum(terms.values(), jnp.zeros(()))


def joint_elbo(
    posterior: Distribution,
    prior: Distribution,
    likelihoods: Mapping[str, Distribution],
    batch: Batch,
    beta: float | Array = 1.0,
    z: Array | None = None,
    mask: Mask | None = None,
) -> Bound:
    """Bound (1) from bare distributions.

    Args:
      posterior: q(z | x), batch shape `[B]`.
      prior: p(z), batch shape `[]` or `[B]`.
      likelihoods: modality -> p(x_m | z) at a draw z from the posterior, batch shape `[B]`.
      batch: modality -> `[B, *shape]`; more modalities than likelihoods are ignored.
      beta: weight of the rate in the loss.
      z: that draw, `[B, D]`; needed only where the rate has no closed form.
      mask: modality -> `bool[B]`; the terms of absent modalities are 0.

    Returns:
      A `Bound` of arrays `[B]`.

    Raises:
      ValueError: the posterior is a mixture, or a flow over one; or the rate has no closed form
        and `z` was not given.

    Example:
      >>> import jax.numpy as jnp, numpyro.distributions as dist, jmvae_jax as jm
      >>> q = dist.Normal(jnp.zeros((3, 2)), 1.0).to_event(1)
      >>> p = dist.Normal(jnp.zeros(2), 1.0).to_event(1)
      >>> likelihoods = {"x": dist.Normal(jnp.zeros((3, 5)), 1.0).to_event(1)}
      >>> jm.objectives.joint_elbo(q, p, likelihoods, {"x": jnp.zeros((3, 5))}).rate.shape
      (3,)
    """
    if not distributions.is_reparameterized(posterior):
        raise ValueError(
            "a bound's gradient goes through draws of q(z | x), and those of a mixture have none "
            "to its weights: give the joint encoder another family"
        )
    filled = fill_absent({name: batch[name] for name in likelihoods}, mask)
    reconstruction = present_only(
        {name: likelihood.log_prob(filled[name]) for name, likelihood in likelihoods.items()}, mask
    )
    rate = distributions.kl_divergence(posterior, prior, z)
    loss = beta * rate - _total(reconstruction)
    return Bound(loss=loss, reconstruction=reconstruction, rate=rate, alignment={})


def importance_weighted(
    posterior: Distribution,
    prior: Distribution,
    likelihoods: Mapping[str, Distribution],
    batch: Batch,
    z: Array,
    beta: float | Array = 1.0,
    mask: Mask | None = None,
) -> Bound:
    """Bound (3) from bare distributions, `joint_elbo` with K draws.

    Args:
      likelihoods: modality -> p(x_m | z_k), batch shape `[K, B]`.
      z: draws from the posterior, `[K, B, D]`.
      posterior, prior, batch, beta, mask: as in `joint_elbo`.

    Returns:
      A `Bound` of arrays `[B]`: its loss is that of (3), its other terms are those of (1), means
      over the draws.

    Raises:
      ValueError: as `joint_elbo`.

    Example:
      >>> import jax.numpy as jnp, numpyro.distributions as dist, jmvae_jax as jm
      >>> q = p = dist.Normal(jnp.zeros((3, 2)), 1.0).to_event(1)
      >>> likelihoods = {"x": dist.Normal(jnp.zeros((4, 3, 5)), 1.0).to_event(1)}
      >>> z, batch = jnp.zeros((4, 3, 2)), {"x": jnp.zeros((3, 5))}
      >>> jm.objectives.importance_weighted(q, p, likelihoods, batch, z).loss.shape
      (3,)
    """
    draws = joint_elbo(posterior, prior, likelihoods, batch, beta, z, mask)
    apart = posterior.log_prob(z) - prior.log_prob(z)
    log_weights = _total(draws.reconstruction) - beta * apart
    # A rate in closed form has no axis of draws.
    bound = jax.tree.map(lambda term: term if term.ndim < 2 else term.mean(axis=0), draws)
    return bound.replace(loss=jnp.log(len(z)) - jax.nn.logsumexp(log_weights, axis=0))


def present_only(terms: Mapping[str, Array], mask: Mask | None) -> dict[str, Array]:
    """The terms `[B]` with zeros where their modality is absent."""
    if mask is None:
        return dict(terms)
    return {
        name: jnp.where(mask[name], term, 0.0) if name in mask else term
        for name, term in terms.items()
    }


def posterior_bound(
    module: MultimodalModel,
    key: Key,
    batch: Batch,
    beta: float | Array,
    mask: Mask | None,
    train: bool,
    num_samples: int = 1,
) -> tuple[Bound, Distribution, Array]:
    """Bound (1) or (3) of a bound module, with the posterior and the first draw it was taken at."""
    if num_samples < 1:
        raise ValueError(f"num_samples={num_samples}: expected at least 1")
    check_batch(module.modalities, batch, mask)
    batch = {name: jnp.asarray(values) for name, values in batch.items()}
    filled = fill_absent(batch, mask)
    posterior, prior = module.infer(filled, mask, train)
    keys = distributions.example_keys(key, jnp.arange(posterior.batch_shape[0]))
    if num_samples == 1:
        z = distributions.sample(posterior, keys)
        likelihoods = module.decode(z, filled, train=train)
        bound = joint_elbo(posterior, prior, likelihoods, filled, beta, z, mask)
        return bound, posterior, z
    z = distributions.sample(posterior, distributions.draw_keys(keys, jnp.arange(num_samples)))
    likelihoods = module.decode(z, filled, train=train)
    bound = importance_weighted(posterior, prior, likelihoods, filled, z, beta, mask)
    return bound, posterior, z[0]


def elbo(
    model: MultimodalModel,
    variables: Variables,
    key: Key,
    batch: Batch,
    *,
    beta: float | Array = 1.0,
    num_samples: int = 1,
    mask: Mask | None = None,
    train: bool = False,
    mutable: Any = False,
) -> Any:
    """Bound (1) of any model of the zoo: VAE, JMVAE-zero, CVAE, CMMA; or bound (3).

    Args:
      model: a model and `variables`, its parameters and state.
      key: one key, folded with each row's number, or keys `[B]`.
      batch: modality -> `[B, *shape]`, every modality of the model.
      beta: weight of the rate in the loss.
      num_samples: K, draws of z for each example; above 1 the loss is that of bound (3).
      mask: modality -> `bool[B]`; a modality that it lacks is present everywhere.
      train: whether networks with statistics use and update those of the batch.
      mutable: as in Linen's `apply`.

    Returns:
      A `Bound`; with `mutable`, a pair of it and the updated collections.

    Raises:
      ValueError: the batch lacks a modality, has one too many, or a wrong shape, dtype or range;
        `num_samples` below 1; q(z | x) is a mixture.
    """

    def terms(module: MultimodalModel) -> Bound:
        return posterior_bound(module, key, batch, beta, mask, train, num_samples)[0]

    return model.apply(variables, method=terms, mutable=mutable)


def elbo_toward_normal(
    model: MultimodalModel,
    variables: Variables,
    key: Key,
    batch: Batch,
    *,
    beta: float | Array = 1.0,
    mask: Mask | None = None,
    train: bool = False,
    mutable: Any = False,
) -> Any:
    """Objective (2), for a model with a learned prior (CMMA). At `beta=0` its loss is (1)'s.

    Args:
      beta: weight of `KL(q || N(0, I))` in the loss; the rate is that to the learned prior, and
        has weight 1.
      model, variables, key, batch, mask, train, mutable: as in `elbo`.

    Returns:
      A `Bound` whose `elbo` is bound (1); with `mutable`, a pair of it and the updated collections.

    Raises:
      ValueError: as `elbo`.
    """

    def terms(module: MultimodalModel) -> Bound:
        bound, posterior, z = posterior_bound(module, key, batch, 1.0, mask, train)
        normal = distributions.standard_normal(module.latent_dim)
        extra = distributions.kl_divergence(posterior, normal, z)
        return bound.replace(loss=bound.loss + beta * extra)

    return model.apply(variables, method=terms, mutable=mutable)
