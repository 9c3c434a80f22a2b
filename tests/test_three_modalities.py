"""Three modalities, one with somebody's own network, through the public interface alone."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from grids import some_of

import jmvae_jax as jm


class Mine(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.gelu(nn.Dense(16)(x.reshape(x.shape[0], -1)))


@pytest.mark.parametrize("masked", some_of([False, True], True))
def test_three_modalities_train_for_two_epochs(masked):
    body, rng, n = jm.MLP((16,)), np.random.default_rng(0), 96
    model = jm.JMVAE(
        latent_dim=3,
        trunk=body,
        modalities={
            "image": jm.Modality((4, 4, 1), "bernoulli", body, encoder=body, branch=body),
            "label": jm.Modality((3,), "categorical", body, encoder=body, branch=body),
            "sound": jm.Modality((6,), "laplace", Mine(), encoder=Mine(), branch=Mine()),
        },
    )
    label = rng.integers(0, 3, n)
    data = {
        "image": np.float32(rng.random((n, 4, 4, 1)) < label[:, None, None, None] / 3),
        "label": np.eye(3, dtype=np.float32)[label],
        "sound": np.float32(label[:, None] + rng.laplace(size=(n, 6))),
    }
    mask = {"sound": np.arange(n) % 3 > 0} if masked else None
    if masked:
        data["sound"][~mask["sound"]] = np.nan
    params = jax.jit(model.init)(jax.random.key(0), data, mask)["params"]
    optimizer = optax.adam(1e-2)
    gradient = jax.jit(jax.value_and_grad(jm.make_loss_fn(model, jm.jmvae_kl), has_aux=True))
    opt_state, losses = optimizer.init(params), []
    for step, rows in enumerate(np.tile(np.arange(n).reshape(-1, 16), (2, 1))):
        batch, there = jax.tree.map(lambda x, rows=rows: jnp.asarray(x[rows]), (data, mask))
        (loss, _), grads = gradient(
            params, {}, jax.random.key(step), batch, mask=there, weights={"alpha": 0.1, "beta": 1.0}
        )
        updates, opt_state = optimizer.update(grads, opt_state)
        params, losses = optax.apply_updates(params, updates), [*losses, float(loss)]
    assert np.isfinite(losses).all()
    assert np.mean(losses[-6:]) < np.mean(losses[:6])
