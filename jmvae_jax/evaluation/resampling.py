"""Draws of z that fit what is given better than q does: sampling-importance-resampling.

Of R candidates `z_r ~ q(z | x_S)` one is kept, candidate r with probability `w_r / sum_r w_r`,

(1) `w_r = p(x_S | z_r) p(z_r) / q(z_r | x_S)`, weighting "posterior"

(Rubin, 1987, in a comment on data augmentation, JASA 82, page 543; for autoencoders Cremer, Morris
and Duvenaud, 2017, arXiv:1704.02916). With R = 1 the draws are those of q, as R grows they become
those of p(z | x_S).

The prior has places where training decoded nothing, in which an image is no digit and yet its label
is sure: p(z | x_S) goes there. A q(z | x_S) that is aligned to the joint posterior knows where the
data lie, and

(2) `w_r = p(x_S | z_r)`, weighting "likelihood"

keeps to it: as R grows its draws become those of `q(z | x_S) p(x_S | z)`, normalised, which leaves
out what the decoder does not read as x_S.

The candidate with the largest `log w_r + g_r` is kept, `g_r` standard Gumbel noise: that is the
same choice, and all noise belongs to one candidate of one draw of one row.
"""

import jax
import jax.numpy as jnp

from jmvae_jax import distributions
from jmvae_jax.distributions import Distribution
from jmvae_jax.evaluation.likelihood import default_chunk_rows
from jmvae_jax.models.base import MultimodalModel, call_method
from jmvae_jax.objectives.elbo import present_only
from jmvae_jax.types import Array, Batch, Key, Mask, Variables

WEIGHTINGS = ("posterior", "likelihood")


def resample(
    model: MultimodalModel,
    variables: Variables,
    keys: Key,
    posterior: Distribution,
    filled: Batch,
    mask: Mask | None,
    num_proposals: int,
    weighting: str = "posterior",
) -> Array:
    """One of R candidates for each key, by the weights (1) or (2): `[S, B, D]`.

    Args:
      model: a model and `variables`, its parameters and state.
      keys: `[S, B]`; candidate r of a draw has `fold_in(key, r)`.
      posterior: q(z | x_S), batch shape `[B]`.
      filled: x_S, modality -> `[B, *shape]`, with zeros where it is absent.
      mask: rows that have each modality; what a row lacks has no part in its weights.
      num_proposals: R.
      weighting: one of `WEIGHTINGS`.
    """
    fold = jax.vmap(jax.vmap(jax.random.fold_in, (0, None)), (0, None))
    numbers = jnp.arange(num_proposals)

    def one_draw(row_keys: Key) -> Array:
        own = distributions.draw_keys(row_keys, numbers)
        z = distributions.sample(posterior, fold(own, 0))
        noise = jax.vmap(jax.vmap(jax.random.gumbel))(fold(own, 1))
        weights = log_weights(model, variables, z, posterior, filled, mask, weighting)
        kept = jnp.argmax(weights + noise, axis=0)
        return jnp.take_along_axis(z, kept[None, :, None], axis=0)[0]

    # One draw after another, so that no more than R candidates of a row are held.
    draws: Array = jax.lax.map(one_draw, keys)
    return draws


def log_weights(
    model: MultimodalModel,
    variables: Variables,
    z: Array,
    posterior: Distribution,
    filled: Batch,
    mask: Mask | None,
    weighting: str = "posterior",
) -> Array:
    """`log w_r` of (1) or (2) in nats, `[R, B]`, at candidates z `[R, B, D]`.

    Conditions of a conditional model have no likelihood, and p(z) is its own prior of each row.
    """
    given = [name for name in model.generated if name in filled]

    def log_likelihood(candidates: Array) -> Array:
        likelihoods = call_method(model, variables, "decode", candidates, filled)
        terms = {name: likelihoods[name].log_prob(filled[name]) for name in given}
        return sum(present_only(terms, mask).values(), jnp.zeros(candidates.shape[:-1]))

    # Decoded in chunks of candidates: images of all of them may not fit.
    at_once = max(1, default_chunk_rows(model) // z.shape[1])
    likelihood: Array = jax.lax.map(log_likelihood, z, batch_size=at_once)
    if weighting == "likelihood":
        return likelihood
    prior = call_method(model, variables, "prior", filled)
    return likelihood + prior.log_prob(z) - posterior.log_prob(z)
