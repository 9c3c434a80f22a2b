"""Figures of several trained runs side by side.

    python experiments/figures.py --figure=latent_map --workdirs=DIR,DIR,DIR --out=FILE.png

FIGURE is one of
* `latent_map`: where test examples lie in a latent space of two dimensions, at the mean of the
  posterior from all that a model reads, coloured by class (the paper's third figure);
* `label_to_image`: images from each label, z drawn from q(z | label) (its sixth and seventh);
* `reconstructions`: test images above, and what each run makes of them;
* `prior`: images at draws of p(z);
* `interpolation`: the straight line between two test examples' posterior means;
and of one run of images and attributes, with `--set Smiling=2 --set Male=-2` for the changes:
* `attributes`: inferred attributes, and faces generated from them, changed (its first figure);
* `average_faces`, `random_faces`: faces of attributes, at the mean of q(z | attributes) and beside
  it (4a);
* `attribute_latent`: principal components of draws from q(z | attributes), of three changes or more
  (4b);
* `edits`: test examples with one attribute changed (5).
"""

import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import jax
import numpy as np
from absl import flags

import jmvae_jax as jm
from experiments import build, cli, face_figures, inputs, pictures, scores, workdir
from jmvae_jax import data, evaluation, plotting

_FIGURE = flags.DEFINE_string("figure", None, "Which figure.", required=True)
_WORKDIRS = flags.DEFINE_list("workdirs", None, "Folders of trained runs.", required=True)
_OUT = flags.DEFINE_string("out", None, "File of the picture.", required=True)
_NUM_EXAMPLES = flags.DEFINE_integer("num_examples", None, "Test examples; the figure's own.", 1)
_NUM_SAMPLES = flags.DEFINE_integer("num_samples", 8, "Draws in a row, or steps of a line.", 2)
_SPLIT = flags.DEFINE_string("split", "test", "Split that the examples come from.")
_SET = flags.DEFINE_multi_string("set", [], "ATTRIBUTE=VALUE; the figure's own.")
_SEED = flags.DEFINE_integer("seed", 0, "Of the draws.")


def image_of(run: build.Run) -> str:
    """The run's one image; ValueError if it generates none."""
    images = pictures.image_modalities(run.model)
    if not images:
        raise ValueError(f"workdirs: a {type(run.model).__name__} that generates no image")
    return images[0]


def first_examples(run: build.Run, count: int) -> dict[str, np.ndarray]:
    """The first stored examples of the split."""
    inputs.check_dataset(run.config, run.statistics)
    stored = inputs.load_arrays(run.config, _SPLIT.value)
    return {name: values[: _NUM_EXAMPLES.value or count] for name, values in stored.items()}


def first_batch(run: build.Run, count: int) -> dict[str, jax.Array]:
    """The same as the model reads them."""
    return data.evaluation_batch(run.transforms, first_examples(run, count))[0]


def drawn(run: build.Run, given: Sequence[str]) -> plotting.Grid:
    """Images from each class of a label, or from the prior."""
    key, count = jax.random.key(_SEED.value), _NUM_SAMPLES.value
    return pictures.drawn(
        run.model, run.variables, key, {}, given, image_of(run), count, run.title, run.showing
    )


def latent_map(runs: Sequence[build.Run], out: pathlib.Path) -> None:
    clouds = []
    for run in runs:
        if run.model.latent_dim != 2:
            raise ValueError(
                f"latent_map needs a latent space of 2 dimensions: {run.title} has "
                f"{run.model.latent_dim}; train it with the variant's latent_dim=2"
            )
        stored = first_examples(run, 5000)
        if "label" not in stored:
            raise ValueError(f"latent_map: {run.config.data.dataset} has no label to colour by")
        points = np.concatenate(
            [
                np.asarray(evaluation.posterior_mean(run.model, run.variables, batch))[:count]
                for batch, _, count in scores.blocks(run, stored)
            ]
        )
        given = ", ".join(run.model.modalities)
        clouds.append(plotting.Cloud(points, stored["label"], f"{run.title}: q(z | {given})"))
    plotting.save_clouds(out, clouds, f"Posterior means of {len(points):,} test examples", "label")


def label_to_image(runs: Sequence[build.Run], out: pathlib.Path) -> None:
    grids = []
    for run in runs:
        labels = [n for n in run.model.modalities if run.model.modalities[n].is_label]
        if not labels:
            raise ValueError(f"label_to_image: {run.title} has no label")
        grids.append(drawn(run, labels[:1]))
    plotting.save_grids(out, grids, "Images from labels: mean of p(image | z), z ~ q(z | label)")


def reconstructions(runs: Sequence[build.Run], out: pathlib.Path) -> None:
    rows: list[np.ndarray] = []
    names: list[str] = []
    for run in runs:
        image = image_of(run)
        batch = first_batch(run, 12)
        if not rows:
            rows.append(pictures.pixels(run.showing, image, batch[image]))
            names.append("test image")
        found = jm.predict(run.model, run.variables, batch, targets=(image,))[image]
        rows.append(pictures.pixels(run.showing, image, found))
        names.append(run.title)
    title = "Reconstructions: mean of p(image | z) at the mean of the posterior"
    plotting.save_grids(out, [plotting.Grid(np.stack(rows), names)], title)


def prior(runs: Sequence[build.Run], out: pathlib.Path) -> None:
    grids = []
    for run in runs:
        if run.model.conditions:
            raise ValueError(
                f"prior: {run.title} draws only given {list(run.model.conditions)}, so that "
                "it has no such picture"
            )
        grids.append(drawn(run, ()))
    plotting.save_grids(out, grids, "Draws from the prior: mean of p(image | z), z ~ p(z)")


def interpolation(runs: Sequence[build.Run], out: pathlib.Path) -> None:
    grids = []
    for run in runs:
        batch = first_batch(run, 16)
        if len(next(iter(batch.values()))) % 2:
            raise ValueError(f"num_examples={len(batch[image_of(run)])}: expected an even number")
        args = (run.model, run.variables, batch, image_of(run), _NUM_SAMPLES.value)
        grids.append(pictures.interpolations(*args, run.title, run.showing))
    plotting.save_grids(out, grids, "Between test examples: the line between posterior means")


FIGURES: Mapping[str, Callable[[Sequence[build.Run], pathlib.Path], None]] = {
    figure.__name__: figure
    for figure in (latent_map, label_to_image, reconstructions, prior, interpolation)
}


def draw_faces(figure: face_figures.Figure, runs: Sequence[build.Run], out: pathlib.Path) -> None:
    """A figure of one run of images and attributes."""
    if len(runs) != 1:
        raise ValueError(f"workdirs names {len(runs)} runs: this figure is of one")
    count, split, seed = _NUM_EXAMPLES.value or 6, _SPLIT.value, _SEED.value
    faces = face_figures.Faces(runs[0], _SET.value, count, split, seed)
    figure(faces, out)


def main() -> None:
    name = _FIGURE.value
    draw = build.choose("figure", name, {**FIGURES, **face_figures.FIGURES})
    out = workdir.picture_path(_OUT.value)
    runs = [build.load_run(folder) for folder in _WORKDIRS.value]
    if name in face_figures.FIGURES:
        draw_faces(draw, runs, out)
    else:
        draw(runs, out)
    print(f"wrote {out}")


if __name__ == "__main__":
    cli.launch(main)
