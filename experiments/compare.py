"""Differences between two evaluated runs, paired over the test examples.

    python experiments/compare.py --workdirs=DIR,DIR [--out=FILE.json]

Prints, for each likelihood that `evaluate.py` found of both runs, their means and the first's less
the second's, in nats, with the standard error of the paired difference: far smaller than either
mean's, since examples are hard or easy for both. Where one run was evaluated on more examples than
the other, the first ones, which both have, are compared. `--out` keeps the differences as well.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from absl import flags

from experiments import cli, scores, wording, workdir
from jmvae_jax.training.checkpoints import Checkpoints

_WORKDIRS = flags.DEFINE_list("workdirs", None, "Folders of two evaluated runs.", required=True)
_OUT = flags.DEFINE_string("out", None, "File of the differences, .json; none is written.")


def evaluation(folder: str) -> workdir.Evaluation:
    """Of a run as it is; ValueError where it has been trained on since."""
    found = workdir.read_evaluation(folder)
    newest = Checkpoints(workdir.checkpoints_path(folder)).newest()
    if newest not in (None, found.results["step"]):
        raise ValueError(
            f"workdirs: {folder!r} was evaluated at step {found.results['step']:,}, and is at step "
            f"{newest:,}: evaluate it again"
        )
    return found


def main() -> None:
    folders = _WORKDIRS.value
    if len(folders) != 2:
        raise ValueError(f"workdirs names {len(folders)} folders: expected two")
    if _OUT.value is not None:
        workdir.check_writable(pathlib.Path(_OUT.value).parent, "out")
    found = scores.compared(*map(evaluation, folders))
    print(f"{folders[0]} less {folders[1]}, {found[0]['num_examples']:,} examples, nats\n")
    print(wording.differences(found))
    if _OUT.value is not None:
        workdir.write_json(pathlib.Path(_OUT.value), found)
        print(f"\nwrote {_OUT.value}")


if __name__ == "__main__":
    cli.launch(main)
