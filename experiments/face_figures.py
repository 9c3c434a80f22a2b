"""The paper's figures of faces and their attributes, from one trained run each.

`attributes` (its figure 1), `average_faces` and `random_faces` (4a), `attribute_latent` (4b),
`edits` (5); `figures.py` draws them.
"""

import dataclasses
import difflib
import pathlib
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.decomposition import PCA

import jmvae_jax as jm
from experiments import build, inputs, pictures, scores
from jmvae_jax import data, distributions, evaluation, plotting
from jmvae_jax.models.base import call_method

CHANGES = (
    "Smiling=2",
    "Male=2",
    "Male=-2",
    "Eyeglasses=2",
    "Blond_Hair=2",
    "Wearing_Hat=2",
    "Young=-2",
    "Pale_Skin=2",
)
"""What the figures change where nothing else is asked for."""

ZETA = 0.6
"""Variance of the noise of random faces, in units of the posterior's, as in the paper."""


def parse_changes(words: Sequence[str], names: Sequence[str]) -> list[tuple[str, float]]:
    """`["Smiling=2"]` -> `[("Smiling", 2.0)]`.

    Raises:
      ValueError: an unknown attribute, with the nearest; no number.
    """
    changes = []
    for word in words:
        name, _, value = word.partition("=")
        if name not in names:
            near = difflib.get_close_matches(name, names, 1, 0.0)[0]
            raise ValueError(
                f"set={word!r}: {name!r} is no attribute of this run (nearest: {near!r}); it has "
                f"{', '.join(names)}"
            )
        try:
            number = float(value)
        except ValueError:
            raise ValueError(f"set={word!r}: expected {name}=NUMBER") from None
        if not np.isfinite(number):
            raise ValueError(f"set={word!r}: expected a finite number")
        changes.append((name, number))
    return changes


def present(names: Sequence[str], inferred: np.ndarray) -> list[tuple[str, float]]:
    """The attributes that are there, and how sure: the surest first."""
    order = np.argsort(-inferred)
    return [(names[i], float(inferred[i])) for i in order if inferred[i] > 0]


@dataclasses.dataclass(frozen=True)
class Faces:
    """A run of images and attributes, and what a figure shows of it.

    Attributes:
      run: the trained run.
      words: `ATTRIBUTE=VALUE`, what is changed; `CHANGES` if empty.
      count: rows, or columns of draws.
      split: where examples come from.
      seed: of the draws.
    """

    run: build.Run
    words: Sequence[str]
    count: int
    split: str
    seed: int

    def __post_init__(self) -> None:
        if self.name not in self.run.model.generated or len(self.images) != 1:
            raise ValueError(
                f"workdirs: {self.run.title} does not generate images and attributes: the figure "
                "needs a model of both"
            )

    @property
    def changes(self) -> list[tuple[str, float]]:
        """Attributes and the values that they are set to."""
        known = [word for word in CHANGES if word.partition("=")[0] in self.names]
        others = [f"{name}=2" for name in self.names[: len(CHANGES)]]
        return parse_changes(self.words or known or others, self.names)

    @property
    def name(self) -> str:
        """The modality of the attributes; "" where there is none."""
        return scores.attribute_modality(self.run) or ""

    @property
    def images(self) -> list[str]:
        return pictures.image_modalities(self.run.model)

    @property
    def names(self) -> list[str]:
        return [str(name) for name in self.run.statistics["attributes"]]

    @property
    def titles(self) -> list[str]:
        """`Smiling`, or `not Male`, for each change."""
        return [
            ("" if value > 0 else "not ") + name.replace("_", " ") for name, value in self.changes
        ]

    def changed(self, base: np.ndarray) -> list[np.ndarray]:
        """`base` `[N, A]` after each change, one at a time."""
        found = []
        for name, value in self.changes:
            one = np.array(base, np.float32)
            one[:, self.names.index(name)] = value
            found.append(one)
        return found

    def average(self, values: np.ndarray) -> np.ndarray:
        """Pixels of the average faces of attributes `[N, A]`."""
        image = self.images[0]
        found = evaluation.average_image(
            self.run.model, self.run.variables, values, image=image, attributes=self.name
        )
        return pictures.pixels(self.run.showing, image, found)

    def examples(self) -> dict[str, jax.Array]:
        """The first examples of the split, as the model reads them."""
        inputs.check_dataset(self.run.config, self.run.statistics)
        stored = inputs.load_split(self.run.config, self.split)
        first = {name: values[: self.count] for name, values in stored.items()}
        return data.evaluation_batch(self.run.transforms, first)[0]

    def random_attributes(self) -> np.ndarray:
        """`[count, A]` in {-1, 1}, at random, as in the paper."""
        rng = np.random.default_rng(self.seed)
        return rng.choice(np.array([-1.0, 1.0]), (self.count, len(self.names)))


def attributes(faces: Faces, out: pathlib.Path) -> None:
    """From a face: its attributes, and faces regenerated after one of them is changed."""
    run, (image,) = faces.run, faces.images
    batch = faces.examples()
    given = {image: batch[image]}
    found = jm.predict(run.model, run.variables, given, targets=(faces.name,))
    inferred = np.asarray(found[faces.name])
    signs = np.asarray(evaluation.signs(inferred))
    columns = [pictures.pixels(run.showing, image, batch[image]), faces.average(signs)]
    columns += [faces.average(values) for values in faces.changed(signs)]
    words = [
        "\n".join(name.replace("_", " ") for name, _ in present(faces.names, row)[:3])
        for row in inferred
    ]
    grid = plotting.Grid(
        np.stack(columns, axis=1), words, ("example", "from its\nattributes", *_lines(faces))
    )
    title = f"{run.title}: inferred attributes, faces from them"
    plotting.save_grids(out, [grid], title)


def edits(faces: Faces, out: pathlib.Path) -> None:
    """Examples with one attribute changed: x + average(w') - average(w)."""
    run, (image,) = faces.run, faces.images
    batch = faces.examples()
    columns = [pictures.pixels(run.showing, image, batch[image])]
    for change, value in faces.changes:
        found = evaluation.edit(
            run.model,
            run.variables,
            batch[image],
            {faces.names.index(change): value},
            image=image,
            attributes=faces.name,
        )
        columns.append(pictures.pixels(run.showing, image, found.result))
    grid = plotting.Grid(
        np.stack(columns, axis=1), ("",) * len(columns[0]), ("example", *_lines(faces))
    )
    plotting.save_grids(out, [grid], f"{run.title}: one attribute changed")


def average_faces(faces: Faces, out: pathlib.Path) -> None:
    """Average faces of random attributes, then with one attribute set."""
    base = faces.random_attributes()
    columns = [faces.average(values) for values in (base, *faces.changed(base))]
    grid = plotting.Grid(
        np.stack(columns, axis=1), ("",) * len(base), ("random\nattributes", *_lines(faces))
    )
    plotting.save_grids(
        out, [grid], f"{faces.run.title}: p(x | z) at the mean of q(z | attributes)"
    )


def random_faces(faces: Faces, out: pathlib.Path) -> None:
    """Faces at z = mean + sigma eps, the same eps in a row; attributes are set by column."""
    run, (image,) = faces.run, faces.images
    base = faces.random_attributes()[:1]
    columns = []
    noise = jax.random.normal(jax.random.key(faces.seed), (faces.count, run.model.latent_dim))
    for values in (base, *faces.changed(base)):
        q = _posterior(faces, values)
        if not distributions.is_diagonal(q):
            raise ValueError(
                f"workdirs: q(z | attributes) of {run.title!r} is a {type(q).__name__}: this "
                "figure needs a diagonal Gaussian"
            )
        z = q.mean + jnp.sqrt(ZETA * q.variance) * noise
        likelihood = call_method(run.model, run.variables, "decode", z)[image]
        columns.append(pictures.pixels(run.showing, image, likelihood.mean))
    grid = plotting.Grid(
        np.stack(columns, axis=1), ("",) * faces.count, ("random\nattributes", *_lines(faces))
    )
    plotting.save_grids(
        out, [grid], f"{run.title}: z = mean + sigma eps, eps ~ N(0, {ZETA}), one eps a row"
    )


def attribute_latent(faces: Faces, out: pathlib.Path) -> None:
    """Draws from q(z | attributes), coloured by what was set.

    The plane is that of the posteriors' means, by their principal components: what attributes say
    nothing of fills the other dimensions with noise.
    """
    if len(faces.titles) < 3:
        raise ValueError(f"set: {len(faces.titles)} changes, expected at least 3 for a plane")
    draws, means, classes = [], [], []
    base = np.repeat(faces.random_attributes()[:1], 200, axis=0)
    key = jax.random.key(faces.seed)
    for number, values in enumerate(faces.changed(base)):
        q = _posterior(faces, values)
        keys = distributions.example_keys(jax.random.fold_in(key, number), jnp.arange(len(base)))
        draws.append(np.asarray(distributions.sample(q, keys)))
        means.append(np.asarray(distributions.center(q)[0]))
        classes += [faces.titles[number]] * len(base)
    points = PCA(2, random_state=0).fit(np.stack(means)).transform(np.concatenate(draws))
    cloud = plotting.Cloud(points, np.asarray(classes), f"{faces.run.title}: z ~ q(z | attributes)")
    plotting.save_clouds(
        out,
        [cloud],
        "Principal components of what attributes change",
        "attribute",
        ("first component", "second component"),
    )


def _posterior(faces: Faces, values: np.ndarray) -> distributions.Distribution:
    given = {faces.name: jnp.asarray(values)}
    found: distributions.Distribution = call_method(
        faces.run.model, faces.run.variables, "posterior", given, (faces.name,)
    )
    return found


def _lines(faces: Faces) -> list[str]:
    return [title.replace(" ", "\n") for title in faces.titles]


Figure = Callable[[Faces, pathlib.Path], None]
FIGURES: Mapping[str, Figure] = {
    figure.__name__: figure
    for figure in (attributes, average_faces, random_faces, attribute_latent, edits)
}
