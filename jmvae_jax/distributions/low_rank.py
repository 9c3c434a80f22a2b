"""A Gaussian of low rank beside a diagonal, by a factorisation that keeps single precision."""

import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from jmvae_jax.types import Array


class LowRankNormal(dist.LowRankMultivariateNormal):
    """Gaussian with covariance `C = F F^T + S`, by `cov_factor` F `[*b, D, R]` and S's `cov_diag`.

    NumPyro's density takes a Cholesky factor of `I + F^T S^-1 F`, whose condition is the square of
    that of `S^(-1/2) F`, and subtracts two large numbers: where the deviations are a hundredth of
    the factor, it is off by tenths of a nat, and beyond that by any number, or NaN. This one takes
    `Q R = [S^(-1/2) F; I]` instead: with `P = I - Q Q^T`,

    `v^T C^-1 v = |P [S^(-1/2) v; 0]|^2`, `log det C = log det S + 2 sum log |R_ii|`

    (the first is the least squares of v by F with a ridge, the second the determinant's lemma).
    What is inherited, `entropy` say, is NumPyro's.
    """

    pytree_data_fields = ("_orthogonal", "_triangle")

    def __init__(
        self,
        loc: Array,
        cov_factor: Array,
        cov_diag: Array,
        *,
        validate_args: bool | None = None,
    ):
        super().__init__(loc, cov_factor, cov_diag, validate_args=validate_args)
        scaled = self.cov_factor / jnp.sqrt(self.cov_diag)[..., None]
        rank = scaled.shape[-1]
        ridge = jnp.broadcast_to(jnp.eye(rank), (*scaled.shape[:-2], rank, rank))
        self._orthogonal, self._triangle = jnp.linalg.qr(jnp.concatenate([scaled, ridge], axis=-2))

    def log_prob(self, value: Array) -> Array:
        apart = self._residuals((value - self.loc)[..., None])[..., 0]
        steps = jnp.log(jnp.abs(jnp.diagonal(self._triangle, axis1=-2, axis2=-1)))
        log_det = jnp.log(self.cov_diag).sum(axis=-1) + 2 * steps.sum(axis=-1)
        constant = self.loc.shape[-1] * jnp.log(2 * jnp.pi)
        return -0.5 * (constant + log_det + jnp.square(apart).sum(axis=-1))

    def relative_variance(self, root: Array) -> Array:
        """`tr(C^-1 A A^T)`, over the batch, for `A = root`, `[*b, D, N]`."""
        return jnp.sum(jnp.square(self._residuals(root)), axis=(-2, -1))

    def _residuals(self, columns: Array) -> Array:
        """`P [S^(-1/2) v; 0]` of each column v of `[..., D, N]`: `[..., D + R, N]`."""
        scaled = columns / jnp.sqrt(self.cov_diag)[..., None]
        rank = self._triangle.shape[-1]
        padded = jnp.pad(scaled, [(0, 0)] * (scaled.ndim - 2) + [(0, rank), (0, 0)])
        # In full precision wherever it runs: what is left is small beside what is taken away.
        with jax.default_matmul_precision("highest"):
            return padded - self._orthogonal @ (jnp.swapaxes(self._orthogonal, -1, -2) @ padded)
