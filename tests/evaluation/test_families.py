"""Estimators with every family of proposals, on a linear-Gaussian model whose evidence is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from grids import some_of
from linear_gaussian import LinearGaussian, draw_batch, linear_gaussian, truth

import jmvae_jax as jm
from jmvae_jax.distributions import Coupling, Diagonal, Full, LowRank, Mixture
from jmvae_jax.evaluation import Query, estimate

FAMILIES = {
    "diagonal": Diagonal(),
    "full": Full(),
    "low_rank": LowRank(1),
    "mixture": Mixture(3),
    "mixture_full": Mixture(2, Full()),
    "flow": Coupling(2, 4),
    "flow_low_rank": Coupling(2, 4, LowRank(1)),
}
QUERIES = [
    Query(("x", "w")),
    Query(("x",), ("w",)),
    Query(("x",), ("w",), ("w",)),
    Query(("w",), (), ("x",)),
    Query(("y",), ("x", "w"), ("x", "w")),
]


class Proposing(LinearGaussian):
    """The model, with a posterior of a family that lies around the exact one."""

    family: object = None

    def posterior(self, batch, given=None, mask=None, train=False):
        exact = super().posterior(batch, given, mask, train)
        if not exact.batch_shape:
            return exact
        rows, key = exact.batch_shape[0], jax.random.key(7)
        arrays = {}
        for number, (name, output) in enumerate(self.family.outputs(2).items()):
            noise = jax.random.normal(jax.random.fold_in(key, number), output.shape)
            arrays[name] = jnp.broadcast_to(0.3 * noise, (rows, *output.shape))
            if name in ("mean", "variance"):
                value = exact.mean if name == "mean" else 1.5 * exact.variance
                extra = (slice(None), *[None] * (len(output.shape) - 1))
                scaled = arrays[name] if name == "mean" else 0.0
                arrays[name] = jnp.broadcast_to(value[extra], arrays[name].shape) + scaled
        shared = {
            name: 0.3 * jax.random.normal(jax.random.fold_in(key, 50 + i), output.shape)
            for i, (name, output) in enumerate(self.family.shared(2).items())
        }
        return self.family.build(arrays, shared)


@pytest.mark.parametrize(
    "name", some_of(FAMILIES, "diagonal", "full", "low_rank", "mixture", "flow")
)
def test_every_family_gives_the_likelihoods(name):
    plain = linear_gaussian()
    model = Proposing(latent_dim=2, modalities=plain.modalities, family=FAMILIES[name])
    batch = draw_batch(plain, 6)
    found = estimate(model, {}, jax.random.key(1), batch, QUERIES, 6000)
    for query, one in zip(QUERIES, found, strict=True):
        error = np.sqrt(np.asarray(one.mc_variance, np.float64))
        assert (error < 0.2).all()
        assert (np.abs(np.asarray(one.value) - truth(plain, batch, query)) < 5 * error + 1e-4).all()


@pytest.mark.parametrize("name", some_of(FAMILIES, "full", "mixture", "flow"))
def test_every_family_generates_row_by_row(name):
    plain = linear_gaussian()
    model = Proposing(latent_dim=2, modalities=plain.modalities, family=FAMILIES[name])
    batch = draw_batch(plain, 4)
    given = {"x": jnp.asarray(batch["x"])}
    drawn = jm.generate(model, {}, jax.random.key(1), given, targets=("w",), num_samples=3)["w"]
    assert drawn.shape == (3, 4, 2)
    first = {"x": given["x"][:2]}
    again = jm.generate(model, {}, jax.random.key(1), first, targets=("w",), num_samples=3)["w"]
    np.testing.assert_allclose(again, drawn[:, :2], rtol=1e-5, atol=1e-6)
    assert jm.predict(model, {}, given, targets=("w",))["w"].shape == (4, 2)
