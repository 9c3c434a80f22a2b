"""JMVAE-kl: the single encoders are drawn to the joint posterior.

(2) `L_JMkl(alpha) = L_JM - alpha sum_m KL(q(z | x_1, ..., x_M) || q(z | x_m))`

(equation of section 2.3 of arXiv:1611.01891, its sum over M modalities). The gradient reaches
both sides of each divergence. The warm-up's `beta` is on the rate alone.
"""

from collections.abc import Mapping
from typing import Any

from jmvae_jax import distributions
from jmvae_jax.distributions import Distribution
from jmvae_jax.models.base import MultimodalModel
from jmvae_jax.objectives.elbo import Bound, posterior_bound, present_only
from jmvae_jax.types import Array, Batch, Key, Mask, Variables


def kl_alignment(
    joint: Distribution,
    singles: Mapping[str, Distribution],
    z: Array | None = None,
    mask: Mask | None = None,
) -> dict[str, Array]:
    """`KL(joint || single)` for each single encoder, from bare distributions.

    Args:
      joint: q(z | all), batch shape `[B]`.
      singles: modality -> q(z | x_m), batch shape `[B]`.
      z: a draw from the joint, `[B, D]`; needed only where there is no closed form.
      mask: modality -> `bool[B]`; 0 where the modality is absent.

    Returns:
      modality -> `[B]`, in nats.

    Example:
      >>> import jax.numpy as jnp, numpyro.distributions as dist, jmvae_jax as jm
      >>> q = dist.Normal(jnp.zeros((3, 2)), 1.0).to_event(1)
      >>> print(jm.objectives.kl_alignment(q, {"image": q})["image"])
      [0. 0. 0.]
    """
    return present_only(
        {name: distributions.kl_divergence(joint, single, z) for name, single in singles.items()},
        mask,
    )


def jmvae_kl(
    model: MultimodalModel,
    variables: Variables,
    key: Key,
    batch: Batch,
    *,
    alpha: float | Array = 0.1,
    beta: float | Array = 1.0,
    mask: Mask | None = None,
    train: bool = False,
    mutable: Any = False,
) -> Any:
    """Bound (2) of a model with single encoders. At `alpha=0` its loss is that of `elbo`.

    Args:
      alpha: weight of the alignment; 0.01, 0.1 and 1 in the paper.
      model, variables, key, batch, beta, mask, train, mutable: as in `elbo`.

    Returns:
      A `Bound`; with `mutable`, a pair of it and the updated collections.

    Raises:
      ValueError: as `elbo`, or the model has no single encoders.
    """

    def terms(module: MultimodalModel) -> Bound:
        bound, joint, z = posterior_bound(module, key, batch, beta, mask, train)
        singles = module.single_posteriors(batch, mask, train)
        if not singles:
            raise ValueError(
                "jmvae_kl aligns single encoders and the model has none: use a JMVAE with "
                "inference='kl', or the objective elbo"
            )
        alignment = kl_alignment(joint, singles, z, mask)
        loss = bound.loss + alpha * sum(alignment.values())
        return bound.replace(loss=loss, alignment=alignment)

    return model.apply(variables, method=terms, mutable=mutable)
