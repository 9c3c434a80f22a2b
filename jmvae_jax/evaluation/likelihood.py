"""Importance-weighted log-likelihoods: joint, marginal and conditional, from any proposal.

With draws `z_k ~ q(z | x_S)` from the posterior given the proposal's modalities S:

(1) `log p(x_T) ~ log (1/K) sum_k p(x_T | z_k) p(z_k) / q(z_k | x_S)`      "importance"
(2) `log p(x_T | x_G) = log p(x_T, x_G) - log p(x_G)`, the first by (1) and
    `p(x_G) ~ (1/N) sum_n p(x_G | z_n)`, `z_n ~ p(z)`                      "prior"
(3) `log p(x_T | x_G) ~ log sum_k v_k p(x_T | z_k) - log sum_k v_k`,
    `v_k = p(x_G | z_k) p(z_k) / q(z_k | x_S)`                             "ratio"

(section 4 of arXiv:1611.01891 for (1) and (2)). (1) is a lower bound in expectation and does not
fall with K; (2) and (3) are not bounds. (2) is used where G is one categorical modality, whose
few classes the prior's draws meet often; anywhere else that average is ruinous, and (3) is used.

A conditional model (CVAE, CMMA) is always given its conditions w, which have no likelihood: G is
what is given beside them, the prior is p(z | w), decoders may read w, and log p(x_T | w) is (1).

All three are `log sum_k a_k - log sum_k b_k` with `b_k = 1` in (1) and (2): one streaming sum
over chunks of draws, whose result does not depend on the chunks. Queries with the same proposal
share its draws and its passes through the decoders.
"""

import dataclasses
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jmvae_jax import distributions, parallel
from jmvae_jax.evaluation.importance import Estimate, Pair, class_table, finish, stream
from jmvae_jax.models.base import MultimodalModel, fill_absent
from jmvae_jax.models.checks import check_batch, check_names, check_targets
from jmvae_jax.types import Array, Batch, Key, Mask, Variables

CHUNK_VALUES = {"cpu": 400_000}
"""Values of all modalities that are decoded at once, by platform: on a CPU what its caches hold."""

ACCELERATOR_CHUNK_VALUES = 2**24
"""On other platforms, which need more rows to be busy: 64 MiB, and the layers before them."""


@dataclasses.dataclass(frozen=True)
class Query:
    """Which likelihood: `log p(target | given)` with draws from q(z | proposal).

    Args:
      target: modalities whose likelihood it is.
      given: modalities it is conditioned on.
      proposal: modalities that the draws are inferred from; None: target and given.
    """

    target: tuple[str, ...]
    given: tuple[str, ...] = ()
    proposal: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            names = getattr(self, field.name)
            if isinstance(names, str):
                raise ValueError(f"{field.name}={names!r} is a string: expected ({names!r},)")
            if names is not None:
                object.__setattr__(self, field.name, tuple(names))

    @property
    def source(self) -> tuple[str, ...]:
        """The proposal's modalities."""
        return self.target + self.given if self.proposal is None else self.proposal

    def estimator(self, model: MultimodalModel) -> str:
        """ "importance", "prior" or "ratio", see the module's equations."""
        given = self._scored(model)
        if not given:
            return "importance"
        one_label = len(given) == 1 and model.modalities[given[0]].is_label
        # p(G | w) has another table for every w: there the same draws serve both.
        return "prior" if one_label and not model.conditions else "ratio"

    def pair(self, model: MultimodalModel) -> Pair:
        """What its draws' weights are made of."""
        given = self._scored(model)
        ratio = self.estimator(model) == "ratio"
        return Pair(self.target + given, given if ratio else None)

    def _scored(self, model: MultimodalModel) -> tuple[str, ...]:
        """What is given and has a likelihood."""
        return tuple(name for name in self.given if name in model.generated)


def log_likelihood(
    model: MultimodalModel,
    variables: Variables,
    key: Key,
    batch: Batch,
    *,
    target: Sequence[str],
    given: Sequence[str] = (),
    proposal: Sequence[str] | None = None,
    num_samples: int = 1000,
    mask: Mask | None = None,
) -> Array:
    """`log p(target | given)` for each example.

    Args:
      model: a model and `variables`, its parameters and state.
      key: one key, folded with each row's number, or keys `[B]`.
      batch: modality -> `[B, *shape]`: at least those that are named.
      target, given, proposal: see `Query`.
      num_samples: K, draws for each example.
      mask: modality -> `bool[B]`; an absent modality is left out of its row's likelihood. Where
        the proposal names every modality, such a row needs a model that was trained with masks.

    Returns:
      `[B]`, in nats. `estimate` gives the Monte-Carlo errors with it.

    Raises:
      ValueError: a name that the model lacks, an empty or overlapping target, a bad batch.

    Example:
      >>> import jax, jax.numpy as jnp, jmvae_jax as jm
      >>> body = jm.MLP((16,))
      >>> x = jm.Modality((4,), "normal", decoder=body, encoder=body)
      >>> model = jm.VAE(latent_dim=2, modalities={"x": x})
      >>> batch = {"x": jnp.ones((3, 4))}
      >>> variables = model.init(jax.random.key(0), batch)
      >>> jm.log_likelihood(
      ...     model, variables, jax.random.key(1), batch, target=("x",), num_samples=10).shape
      (3,)
    """
    query = Query(target, given, proposal)  # type: ignore[arg-type]  # it makes tuples of them
    return estimate(model, variables, key, batch, [query], num_samples, mask)[0].value


def estimate(
    model: MultimodalModel,
    variables: Variables,
    key: Key,
    batch: Batch,
    queries: Sequence[Query],
    num_samples: int = 1000,
    mask: Mask | None = None,
    chunk_rows: int | None = None,
) -> list[Estimate]:
    """Several likelihoods of one batch.

    Args:
      queries: those that have their proposal in common share its draws.
      chunk_rows: rows that pass through the decoders at once; bounds the memory. None: see
        `default_chunk_rows`.
      model, variables, key, batch, num_samples, mask: as in `log_likelihood`.

    Returns:
      One `Estimate` for each query.

    Raises:
      ValueError: as `log_likelihood`.
    """
    if chunk_rows is None:
        chunk_rows = default_chunk_rows(model)
    for argument, number in (("num_samples", num_samples), ("chunk_rows", chunk_rows)):
        if number < 1:
            raise ValueError(f"{argument}={number}: expected at least 1")
    for query in queries:
        _check_query(query, model)
    check_names("batch", batch.keys(), model.modalities)
    needed = {name for q in queries for name in (*q.target, *q.given, *q.source)}
    batch = {name: jnp.asarray(batch[name]) for name in model.modalities if name in batch}
    check_batch(model.modalities, batch, mask, names=needed | set(batch))
    rows = next(iter(batch.values())).shape[0]
    _check_classes(model, batch, mask, queries)
    keys = distributions.example_keys(key, jnp.arange(rows))
    options = (tuple(queries), num_samples, chunk_rows)
    found = _estimate(variables, (keys, batch, mask), model=model, options=options)
    return _given_classes(model, variables, fill_absent(batch, mask), queries, found)


def default_chunk_rows(model: MultimodalModel, platform: str | None = None) -> int:
    """Rows of a chunk that are fast and bound the memory: fewer where the modalities are larger.

    503 of MNIST's image and label on a CPU (500 to 2,000 are equally fast there), 32 of a face of
    64x64 pixels and its attributes (in chunks of 1,000 an example takes nearly twice as long).

    Args:
      model: whose modalities are decoded.
      platform: "cpu", "gpu" or "tpu"; None: JAX's default.
    """
    platform = jax.default_backend() if platform is None else platform
    values = sum(math.prod(model.modalities[name].shape) for name in model.generated)
    return max(1, CHUNK_VALUES.get(platform, ACCELERATOR_CHUNK_VALUES) // values)


def _check_query(query: Query, model: MultimodalModel) -> None:
    check_targets("target", query.target, model)
    check_names("given", query.given, model.modalities)
    lacking = sorted(set(model.conditions) - set(query.given))
    if lacking:
        raise ValueError(
            f"given={query.given} lacks {lacking}: the likelihoods of a {type(model).__name__} are "
            f"those given {list(model.conditions)}"
        )
    both = sorted(set(query.target) & set(query.given))
    if both:
        raise ValueError(f"{both} stand in target and in given: a modality is one or the other")
    if not query.target:
        raise ValueError("target is empty: name at least one modality")
    check_names("proposal", query.source, model.modalities)
    if model.conditions and set(query.source) not in (set(model.modalities), set(model.conditions)):
        raise ValueError(
            f"proposal={query.source}: a {type(model).__name__} draws from all of "
            f"{list(model.modalities)}, or from its conditions {list(model.conditions)}"
        )


def _check_classes(
    model: MultimodalModel, batch: Batch, mask: Mask | None, queries: Sequence[Query]
) -> None:
    """Raises ValueError where p(G) is asked for and a row of G is no class, on concrete arrays."""
    asked = {query.given[0] for query in queries if query.estimator(model) == "prior"}
    for name in sorted(asked):
        there = (mask or {}).get(name, True)
        if isinstance(batch[name], jax.core.Tracer) or isinstance(there, jax.core.Tracer):
            continue
        largest = np.where(there, np.asarray(batch[name]).max(axis=-1), 1.0).min()
        if largest < 1 - 1e-4:  # as `check_batch` takes sums to be 1
            raise ValueError(
                f"batch[{name!r}] has a row whose largest entry is {largest:.4g}: log p(target | "
                f"{name}) takes p({name}) of a class; expected one-hot rows"
            )


@parallel.by_rows
def _estimate(
    variables: Variables,
    rows: tuple[Key, Batch, Mask | None],
    *,
    model: MultimodalModel,
    options: tuple[tuple[Query, ...], int, int],
) -> list[Estimate]:
    """The streaming sums of every query: all but p(G) of equation (2)."""
    (keys, batch, mask), (queries, num_samples, chunk_rows) = rows, options
    filled = fill_absent(batch, mask)
    found: dict[int, Estimate] = {}
    sources = [tuple(m for m in model.modalities if m in query.source) for query in queries]
    for source in dict.fromkeys(sources):
        group = [i for i, other in enumerate(sources) if other == source]
        pairs = [queries[i].pair(model) for i in group]
        sums = stream(model, variables, keys, filled, mask, source, pairs, num_samples, chunk_rows)
        found |= zip(group, (finish(s, num_samples) for s in sums), strict=True)
    return [found[i] for i in range(len(queries))]


def _given_classes(
    model: MultimodalModel,
    variables: Variables,
    filled: Batch,
    queries: Sequence[Query],
    found: Sequence[Estimate],
) -> list[Estimate]:
    """The estimates with p(G) of equation (2), where a query asks for it."""
    asked = [query.given[0] if query.estimator(model) == "prior" else None for query in queries]
    tables = {n: class_table(model, variables, n) for n in dict.fromkeys(asked) if n is not None}
    return [
        one
        if name is None
        else one.replace(
            value=one.value - jnp.sum(filled[name] * tables[name][0], axis=-1),
            given_rows=filled[name],
            given_covariance=tables[name][1],
        )
        for name, one in zip(asked, found, strict=True)
    ]


def standard_queries(model: MultimodalModel) -> list[Query]:
    """The paper's likelihoods, for any number of modalities.

    The joint; for each modality its marginal, with draws inferred from all modalities
    ("multiple") and from itself ("single"); and its conditional given the others, with draws
    from all ("multiple") and from those others ("single"), where the model infers z from them. Of a
    conditional model, what it generates given its conditions, all together and one by one, with
    draws from all.
    """
    everything = tuple(model.modalities)
    if model.conditions:
        parts = [model.generated, *((name,) for name in model.generated)]
        return [Query(part, model.conditions, everything) for part in dict.fromkeys(parts)]
    queries = [Query(everything)]
    for name in everything:
        others = tuple(other for other in everything if other != name)
        if others:
            queries += [
                Query((name,), (), everything),
                Query((name,), (), (name,)),
                Query((name,), others, everything),
                Query((name,), others, others),
            ]
    return [query for query in queries if model.infers(query.source)]
