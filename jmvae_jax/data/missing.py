"""Rows that lose modalities completely at random, for experiments on missing modalities.

Each modality i leaves a row with probability r_i, whatever the row holds and whatever else leaves
it (missing completely at random: Rubin, Inference and missing data, Biometrika 63, 1976), on the
condition that the row keeps at least one. Over the modalities 1, ..., n one after the other, that
law is

(1) `p(keeps i) = (1 - r_i) / (1 - r_i r_{i+1} ... r_n)` where the row has kept none before i,
(2) `p(keeps i) = 1 - r_i` where it has kept one.
"""

from collections.abc import Mapping

import numpy as np


def remove_at_random(rates: Mapping[str, float], num_rows: int, seed: int) -> dict[str, np.ndarray]:
    """Which rows keep each modality, where modalities are removed completely at random.

    It is as if a row that would lose everything was drawn again; (1) and (2) give that law at once.
    So the shares of rows are not quite the rates: at 0.5 and 0.5 for an image and a label, a third
    of the rows is complete, a third has the image alone, a third the label alone. A modality that
    is the only one is never removed.

    Args:
      rates: modality -> probability in [0, 1) of leaving a row. All modalities of the rows: one
        that is never removed has 0, and then no row can lose everything.
      num_rows: number of rows.
      seed: of the draws, at least 0. They depend on the names and the rates, not on the order of
        `rates`, and those of a row not on how many rows follow it.

    Returns:
      modality -> `bool[num_rows]`, true where the row keeps it.

    Raises:
      ValueError: a rate outside [0, 1), no rows, a negative seed.

    Example:
      >>> from jmvae_jax.data import remove_at_random
      >>> kept = remove_at_random({"image": 0.5, "label": 0.5}, num_rows=60_000, seed=0)
      >>> kept["image"].shape, bool((kept["image"] | kept["label"]).all())
      ((60000,), True)
      >>> print(f"{(kept['image'] & kept['label']).mean():.2f}")
      0.33
    """
    for name, rate in rates.items():
        if not 0 <= rate < 1:
            raise ValueError(f"rates[{name!r}]={rate}: expected [0, 1)")
    if num_rows < 1:
        raise ValueError(f"num_rows={num_rows}: expected at least 1")
    if seed < 0:
        raise ValueError(f"seed={seed}: expected at least 0")
    kept, names = {}, sorted(rates)
    some = np.zeros(num_rows, bool)
    for i, name in enumerate(names):
        keeping = 1 - rates[name]
        keeping_first = keeping / (1 - np.prod([rates[other] for other in names[i:]]))
        draws = np.random.default_rng([seed, *name.encode()]).random(num_rows)
        kept[name] = draws < np.where(some, keeping, keeping_first)
        some |= kept[name]
    return {name: kept[name] for name in rates}
