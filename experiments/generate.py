"""A picture of what a trained run draws.

    python experiments/generate.py --workdir=DIR --given=label --target=image --out=FILE.png

`--given=` (nothing) draws from the prior, with `--prior=fitted` from the one that fit_prior.py
fitted to the run; `--given=image --target=image` redraws test images. `--num_proposals=20` keeps of
so many z one that explains what is given (`--weighting=likelihood`: by that alone), see
`evaluation.resampling`.
"""

import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import jax
from absl import flags

from experiments import build, cli, inputs, pictures, processes, workdir
from jmvae_jax import data, evaluation, parallel, plotting
from jmvae_jax.distributions import Distribution
from jmvae_jax.evaluation.resampling import WEIGHTINGS

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a trained run.", required=True)
_GIVEN = flags.DEFINE_list("given", ["label"], "Modalities that are given; empty: the prior.")
_TARGET = flags.DEFINE_string("target", "image", "Modality that is drawn: an image.")
_OUT = flags.DEFINE_string(
    "out", None, "File of the picture; its ending decides the format.", required=True
)
_NUM_SAMPLES = flags.DEFINE_integer("num_samples", 10, "Draws in a row.", 1)
_NUM_EXAMPLES = flags.DEFINE_integer("num_examples", 10, "Rows, where examples are given.", 1)
_NUM_PROPOSALS = flags.DEFINE_integer("num_proposals", 1, "Candidates for each draw of z.", 1)
_WEIGHTING = flags.DEFINE_enum("weighting", "posterior", WEIGHTINGS, "By what one is kept.")
_PRIOR = flags.DEFINE_enum(
    "prior", "normal", ["normal", "fitted"], "What z is drawn from where nothing is given."
)
_SPLIT = flags.DEFINE_string("split", "test", "Split that the examples come from.")
_SEED = flags.DEFINE_integer("seed", 0, "Of the draws.")


def fitted_prior(run: build.Run) -> Distribution:
    """The prior that was fitted to the run; FileNotFoundError where none was."""
    arrays = workdir.read_prior(_WORKDIR.value, int(run.state.step))
    if arrays is None:
        raise FileNotFoundError(
            f"prior='fitted': workdir={_WORKDIR.value!r} has no {workdir.PRIOR_FILE}; fit it with "
            f"experiments/fit_prior.py --workdir={_WORKDIR.value}"
        )
    return evaluation.mixture_prior(**arrays)


def source(given: Sequence[str]) -> str:
    """Where z comes from, in words."""
    if not given:
        return "the prior p(z)" if _PRIOR.value == "normal" else "the fitted prior"
    number, weighting = _NUM_PROPOSALS.value, _WEIGHTING.value
    resampled = f", one of {number} by its {weighting}" if number > 1 else ""
    return f"q(z | {', '.join(given)}){resampled}"


def main() -> None:
    processes.join()
    out = workdir.picture_path(_OUT.value)
    run = build.load_run(_WORKDIR.value).spread()
    given, target = tuple(dict.fromkeys(_GIVEN.value)), _TARGET.value
    for name in given:
        build.choose("given", name, run.model.modalities)
    build.choose("target", target, run.model.modalities)
    if target not in pictures.image_modalities(run.model):
        raise ValueError(
            f"target={target!r} cannot be shown: expected one of "
            f"{pictures.image_modalities(run.model)}"
        )
    prior = fitted_prior(run) if _PRIOR.value == "fitted" else None
    batch: Mapping[str, Any] = {}
    if given and not pictures.is_one_label(run.model, given):
        inputs.check_dataset(run.config, run.statistics)
        stored = inputs.load_split(run.config, _SPLIT.value)
        if flags.FLAGS["num_examples"].present:
            inputs.check_count(_NUM_EXAMPLES.value, _SPLIT.value, len(stored["index"]))
        first = {name: values[: _NUM_EXAMPLES.value] for name, values in stored.items()}
        batch, _ = data.evaluation_batch(run.transforms, first)
    key = jax.random.key(_SEED.value)
    title = f"{run.title}: {target} from {source(given)}"
    args = (
        run.model,
        run.variables,
        key,
        batch,
        given,
        target,
        _NUM_SAMPLES.value,
        title,
        run.showing,
    )
    grid = pictures.drawn(
        *args, num_proposals=_NUM_PROPOSALS.value, weighting=_WEIGHTING.value, prior=prior
    )
    if parallel.is_first():
        plotting.save_grids(out, [grid])
        print(f"wrote {out}")


if __name__ == "__main__":
    cli.launch(main)
