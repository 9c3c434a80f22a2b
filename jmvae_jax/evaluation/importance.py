"""Streaming importance sampling: sums over draws that do not depend on how these are chunked.

Every estimate is `log sum_k a_k - log sum_k b_k` over draws `z_k ~ q(z | x_S)`; `Pair` says which
likelihoods enter `a_k` and `b_k`, `stream` adds them up, `finish` takes the difference and its
Monte-Carlo error.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jmvae_jax import distributions, parallel
from jmvae_jax.distributions import Distribution
from jmvae_jax.models.base import MultimodalModel, call_method
from jmvae_jax.objectives.elbo import present_only
from jmvae_jax.types import Array, Batch, Key, Mask, Variables

PRIOR_DRAWS = 5000
"""Draws from the prior for `class_table`, as in the authors' code."""


class Estimate(struct.PyTreeNode):
    """A log-likelihood for each example, in nats, and how sure it is.

    Attributes:
      value: `[B]`.
      mc_variance: `[B]`, Monte-Carlo variance of `value` from the spread of the normalised
        weights (delta method), without the part that examples share; NaN where K is 1.
      ess: `[B]`, effective sample size `(sum a)^2 / sum a^2`, between 1 and K.
      given_rows: in (2), the one-hot rows of G, `[B, C]`.
      given_covariance: in (2), covariance of the estimates of `log p(class)`, `[C, C]`, which
        all examples share.
    """

    value: Array
    mc_variance: Array
    ess: Array
    given_rows: Array | None = None
    given_covariance: Array | None = None

    def rows(self, count: int) -> "Estimate":
        """The first `count` examples: what is left without padding."""
        given = None if self.given_rows is None else self.given_rows[:count]
        return self.replace(
            value=self.value[:count],
            mc_variance=self.mc_variance[:count],
            ess=self.ess[:count],
            given_rows=given,
        )


def summarize(parts: Sequence[Estimate]) -> Mapping[str, float]:
    """Means over all examples of the estimates of one query, batch by batch.

    Returns:
      `estimate` (mean, nats), `stderr` (deviation over examples / sqrt(num_examples)),
      `mc_stderr` (Monte-Carlo error of the mean), `ess` (mean), `num_examples`. `stderr` is NaN
      for one example, `mc_stderr` for one draw.

    Raises:
      ValueError: no parts.
    """
    if not parts:
        raise ValueError("parts is empty: expected the estimates of one batch at least")
    values, variances, ess = (
        np.concatenate([np.asarray(getattr(part, name), np.float64) for part in parts])
        for name in ("value", "mc_variance", "ess")
    )
    count = len(values)
    shared = 0.0
    if parts[0].given_covariance is not None:
        share = np.concatenate([np.asarray(part.given_rows) for part in parts]).mean(axis=0)
        shared = max(0.0, float(share @ np.asarray(parts[0].given_covariance, np.float64) @ share))
    return {
        "estimate": float(values.mean()),
        "stderr": float(values.std(ddof=1) / np.sqrt(count)) if count > 1 else float("nan"),
        "mc_stderr": float(np.sqrt(variances.sum() / count**2 + shared)),
        "ess": float(ess.mean()),
        "num_examples": count,
    }


class Pair(NamedTuple):
    """Modalities whose likelihoods enter `a_k` and `b_k`; None: b_k is 1."""

    numerator: tuple[str, ...]
    denominator: tuple[str, ...] | None


class Sums(NamedTuple):
    """Running sums over draws of `a`, `b`, `a^2`, `b^2` and `ab`, each over a power of e.

    `top_a` and `top_b` are the largest logarithms so far; the sums hold `exp(log a - top_a)`.
    """

    top_a: Array
    top_b: Array
    a: Array
    b: Array
    aa: Array
    bb: Array
    ab: Array

    @staticmethod
    def empty(rows: int) -> "Sums":
        # The lowest float, not -inf: the difference of two infinities is NaN.
        lowest = jnp.full(rows, jnp.finfo(jnp.float32).min)
        zero = jnp.zeros(rows)
        return Sums(lowest, lowest, zero, zero, zero, zero, zero)

    def add(self, log_a: Array, log_b: Array) -> "Sums":
        """With the draws `[K, B]` of one more chunk."""
        top_a = jnp.maximum(self.top_a, log_a.max(axis=0))
        top_b = jnp.maximum(self.top_b, log_b.max(axis=0))
        down_a, down_b = jnp.exp(self.top_a - top_a), jnp.exp(self.top_b - top_b)
        a, b = jnp.exp(log_a - top_a), jnp.exp(log_b - top_b)
        return Sums(
            top_a,
            top_b,
            self.a * down_a + a.sum(axis=0),
            self.b * down_b + b.sum(axis=0),
            self.aa * down_a**2 + (a * a).sum(axis=0),
            self.bb * down_b**2 + (b * b).sum(axis=0),
            self.ab * down_a * down_b + (a * b).sum(axis=0),
        )


def finish(sums: Sums, num_samples: int) -> Estimate:
    """What the sums over K draws estimate; the spread of one draw is not known."""
    value = sums.top_a + jnp.log(sums.a) - sums.top_b - jnp.log(sums.b)
    spread = sums.aa / sums.a**2 - 2 * sums.ab / (sums.a * sums.b) + sums.bb / sums.b**2
    unbiased = num_samples / (num_samples - 1) if num_samples > 1 else jnp.nan
    return Estimate(value, jnp.maximum(spread, 0.0) * unbiased, sums.a**2 / sums.aa)


def stream(
    model: MultimodalModel,
    variables: Variables,
    keys: Key,
    filled: Batch,
    mask: Mask | None,
    source: tuple[str, ...],
    pairs: Sequence[Pair],
    num_samples: int,
    chunk_rows: int,
) -> list[Sums]:
    """The sums of every pair over all draws from q(z | source), `[B]` each."""
    rows = keys.shape[0]
    chunks = -(-num_samples // chunk_rows)
    draws = -(-num_samples // chunks)
    block = min(rows, max(1, chunk_rows // draws))
    posterior = call_method(model, variables, "posterior", filled, source, mask)
    arrays, build = distributions.unpack(posterior, (rows,))
    prior = call_method(model, variables, "prior", filled)
    # A prior of each row's own travels with the rows.
    of_rows = distributions.unpack(prior, (rows,)) if prior.batch_shape else ({}, lambda _: prior)

    def one_chunk(part: dict[str, Any], number: Array) -> list[tuple[Array, Array]]:
        index = number * draws + jnp.arange(draws)
        q = build(part["posterior"])
        z = distributions.sample(q, distributions.draw_keys(part["keys"], index))
        base = of_rows[1](part["prior"]).log_prob(z) - q.log_prob(z)
        base = jnp.where((index < num_samples)[:, None], base, -jnp.inf)
        likelihoods = call_method(model, variables, "decode", z, part["batch"])
        terms = _log_likelihoods(likelihoods, part["batch"], part["mask"])
        ones = jnp.where((index < num_samples)[:, None], jnp.zeros_like(base), -jnp.inf)

        def log_weight(names: tuple[str, ...] | None) -> Array:
            return ones if names is None else base + sum(terms[name] for name in names)

        return [(log_weight(pair.numerator), log_weight(pair.denominator)) for pair in pairs]

    def one_block(part: dict[str, Any]) -> list[Sums]:
        def step(sums: list[Sums], number: Array) -> tuple[list[Sums], None]:
            weights = one_chunk(part, number)
            return [s.add(*pair) for s, pair in zip(sums, weights, strict=True)], None

        start = [Sums.empty(block) for _ in pairs]
        return jax.lax.scan(step, start, jnp.arange(chunks))[0]

    whole = {
        "posterior": arrays,
        "prior": of_rows[0],
        "keys": keys,
        "batch": dict(filled),
        "mask": mask,
    }
    blocked = jax.tree.map(lambda x: _in_blocks(x, block), whole)
    results = jax.lax.map(one_block, blocked)
    return jax.tree.map(lambda x: x.reshape(-1)[:rows], results)


def _log_likelihoods(
    likelihoods: Mapping[str, Distribution], batch: Batch, mask: Mask | None
) -> dict[str, Array]:
    """Of what is generated and there; 0 where it is masked."""
    terms = {name: q.log_prob(batch[name]) for name, q in likelihoods.items() if name in batch}
    return present_only(terms, mask)


def _in_blocks(values: Array, block: int) -> Array:
    """`[B, ...] -> [blocks, block, ...]`; the last block is filled up with the last row."""
    rows = values.shape[0]
    index = jnp.minimum(jnp.arange(-(-rows // block) * block), rows - 1)
    return values[index].reshape(-1, block, *values.shape[1:])


def class_table(model: MultimodalModel, variables: Variables, name: str) -> tuple[Array, Array]:
    """`log p(class)` of a categorical modality by draws from the prior, and its covariance.

    The draws have a key of their own, so that every batch meets the same table.
    """
    keys = distributions.example_keys(jax.random.key(PRIOR_DRAWS), jnp.arange(PRIOR_DRAWS))
    log_probs = _classes_at_prior(variables, keys, model=model, name=name)
    total = jax.nn.logsumexp(log_probs, axis=0)
    weights = jnp.exp(log_probs - total)
    covariance = jnp.matmul(weights.T, weights, precision="highest") - 1.0 / PRIOR_DRAWS
    return total - jnp.log(PRIOR_DRAWS), covariance


@parallel.by_rows
def _classes_at_prior(
    variables: Variables, keys: Key, *, model: MultimodalModel, name: str
) -> Array:
    """`log p(class | z)` at draws of the prior, `[N, C]`."""
    z = distributions.sample(call_method(model, variables, "prior"), keys)
    likelihood = call_method(model, variables, "decode", z)[name]
    classes = jnp.eye(model.modalities[name].shape[0])
    log_probs: Array = likelihood.log_prob(classes[:, None, :]).T
    return log_probs
