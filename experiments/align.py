"""Fits encoders of one modality each to a trained run, whose other parameters stay as they are.

    python experiments/align.py --workdir=RUN --out=DIR --posteriors=label=mixture:10:full

RUN is a JMVAE (kl, whose single encoders are fitted anew, or zero, which gets some); DIR becomes a
run of its own with RUN's joint encoder and decoders, bit for bit, and what else takes a run takes
it: evaluate.py, generate.py, ... The same command goes on from the newest whole checkpoint in DIR.

What is minimised is `sum_m KL(q(z | all) || q(z | x_m))`, or with `--divergence` the reverse or the
sum of both, over the encoders q(z | x_m) alone.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from typing import Any

import jax
import jax.numpy as jnp
from absl import flags

from experiments import build, cli, inputs, processes, runs
from experiments.configs import aligned
from experiments.models import POSTERIORS, posterior_family
from jmvae_jax.objectives.alignment import DIVERGENCES
from jmvae_jax.training import TrainState

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a trained run.", required=True)
_OUT = flags.DEFINE_string("out", None, "Folder of the run that is made.", required=True)
_POSTERIORS = flags.DEFINE_list(
    "posteriors", [], f"MODALITY=FAMILY, of single encoders; FAMILY is one of {POSTERIORS}."
)
_DIVERGENCE = flags.DEFINE_enum("divergence", "forward", DIVERGENCES, "Of the alignment.")
_EPOCHS = flags.DEFINE_integer("epochs", 30, "Passes over the training split.", 1)
_LEARNING_RATE = flags.DEFINE_float("learning_rate", 1e-3, "Highest rate; it falls to 0.")


def posteriors() -> dict[str, str]:
    """Modality -> family, as the flag has them; ValueError where it is wrong."""
    found: dict[str, str] = {}
    for words in _POSTERIORS.value:
        name, _, family = words.partition("=")
        posterior_family(f"posteriors={words!r}, the family", family)
        if name in found:
            raise ValueError(f"posteriors: {name!r} is given twice, {found[name]} and {family}")
        found[name] = family
    return found


def with_joint_of(run: build.Run, state: TrainState) -> TrainState:
    """The state with all that is not of single encoders taken from the run."""
    singles = run.model.single_parameters

    def merged(ours: Any, theirs: Any) -> Any:
        kept = {name: values for name, values in theirs.items() if name not in singles}
        # Copies, since a compiled step consumes what it is given.
        return ours | jax.tree.map(jnp.array, kept)

    params, model_state = state.params, dict(state.model_state)
    for name in model_state:
        model_state[name] = merged(model_state[name], run.variables[name])
    return state.replace(params=merged(params, run.variables["params"]), model_state=model_state)


def main() -> int:
    processes.join()
    run = build.load_run(_WORKDIR.value)
    inputs.check_dataset(run.config, run.statistics)
    config = aligned.get_config(
        run.config,
        int(run.state.step),
        posteriors(),
        epochs=_EPOCHS.value,
        divergence=_DIVERGENCE.value,
        learning_rate=_LEARNING_RATE.value,
    )
    return runs.run(
        config, _OUT.value, begin_with=lambda state: with_joint_of(run, state), argument="out"
    )


if __name__ == "__main__":
    cli.launch(main)
