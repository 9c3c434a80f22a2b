"""A classifier that reads the class, or the attributes, of generated images.

    python experiments/judge.py --dataset=mnist [--data_dir=DIR]

It is trained once for each data set and kept beside the prepared data with its accuracy on the test
images: of labels as they are (grey) and binarised, of attributes the balanced accuracy of each.
`experiments/evaluate.py --coherence` trains it if it is not there; on MNIST in less than a minute
on two CPU cores, on synthetic faces in two.
"""

import dataclasses
import fcntl
import functools
import json
import pathlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags
from tqdm import tqdm

from experiments import cli, workdir
from jmvae_jax import data, evaluation, parallel
from jmvae_jax.data.pipeline import epoch_order
from jmvae_jax.data.transforms import binarize, unit_interval
from jmvae_jax.networks import Classifier
from jmvae_jax.training.checkpoints import Checkpoints

# Raise a version when something changes that stands not in the recipe.
RECIPE: Mapping[str, Any] = {
    "version": 1,
    "channels": (32, 64),
    "hidden": 128,
    "epochs": 4,
    "batch_size": 200,
    "learning_rate": 2e-3,
    "seed": 0,
}
ATTRIBUTES_RECIPE: Mapping[str, Any] = {
    "version": 1,
    "channels": (16, 32, 64, 64),
    "hidden": 128,
    "center": 0.5,  # taken from the pixels
    "epochs": 8,
    "batch_size": 64,
    "learning_rate": 2e-3,
    "seed": 0,
}
REQUIRED = {"mnist": ("grey", 0.985), "synthetic_faces/64": ("balanced_accuracy", 0.95)}
"""The least accuracy on test images, and of which form, with which a judge may judge."""

JUDGE_FILE = "judge.json"

Form = Callable[[jax.Array, jax.Array], jax.Array]


@dataclasses.dataclass(frozen=True)
class TrainedJudge:
    """A trained judge: images `[N, H, W, channels]` in [0, 1] -> logits and features.

    Attributes:
      read: that function.
      accuracy: on test images. Of labels: "grey" and "binarized", the share whose class it reads.
        Of attributes: each one's balanced accuracy by its name, and "balanced_accuracy", the mean
        over the visible ones; those that all of the images have, or none, are left out.
    """

    read: evaluation.Judge
    accuracy: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Task:
    """What a judge learns.

    Attributes:
      target: "label" or "attributes".
      recipe: its networks and training.
      forms: what is made of stored pixels in training, equal parts of each batch.
      loss: of logits and targets, `[B]`.
    """

    target: str
    recipe: Mapping[str, Any]
    forms: tuple[Form, ...]
    loss: Callable[[jax.Array, jax.Array], jax.Array]

    def network(self, outputs: int) -> Classifier:
        return Classifier(outputs, self.recipe["channels"], self.recipe["hidden"])

    def outputs(self, targets: np.ndarray) -> int:
        """Number of classes, or of attributes."""
        return int(targets.max()) + 1 if self.target == "label" else targets.shape[1]


def _sigmoid_loss(logits: jax.Array, signs: jax.Array) -> jax.Array:
    return optax.sigmoid_binary_cross_entropy(logits, signs > 0).mean(axis=-1)


def _task(features: Mapping[str, Any]) -> Task:
    """The task of a data set with these features."""
    if "image" in features and "label" in features:
        loss = optax.softmax_cross_entropy_with_integer_labels
        return Task("label", RECIPE, (unit_interval, binarize), loss)
    if "image" in features and "attributes" in features:
        return Task("attributes", ATTRIBUTES_RECIPE, (unit_interval,), _sigmoid_loss)
    raise ValueError(
        f"a judge needs image, and label or attributes: the data set has {sorted(features)}"
    )


def load_judge(dataset: str, data_dir: str | None = None, **options: Any) -> TrainedJudge:
    """The judge of a data set with images, trained now if it is not kept yet.

    Raises:
      ValueError: the data set lacks images, or labels and attributes, or the judge reads less than
        `REQUIRED`.
    """
    place = {"data_dir": data_dir, **options}
    builder = data.prepare(dataset, **place)
    task = _task(builder.info.features)
    folder = pathlib.Path(builder.data_dir) / "judge"
    kept = _kept(folder, task)
    if kept is None:
        workdir.check_writable(folder.parent, "data_dir")
        folder.mkdir(exist_ok=True)
        with (folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # another process may be training it
            kept = _kept(folder, task)
            if kept is None:
                train, test = (data.load(dataset, split, **place) for split in ("train", "test"))
                described = data.metadata(dataset, **place)
                kept = _train_and_keep(folder, task, train, test, described)
    network = task.network(kept["num_classes"])
    target = jax.eval_shape(lambda: _initial(network, kept["shape"], task))
    restored = Checkpoints(folder / "parameters").restore(target)
    if restored is None:
        raise FileNotFoundError(f"{folder} has lost its parameters: remove the folder")
    judge = TrainedJudge(_read(network, restored[1], task), kept["accuracy"])
    config = getattr(builder, "builder_config", None)
    name = f"{builder.name}/{config.name}" if config else builder.name
    form, least = REQUIRED.get(name, ("", 0.0))
    if form and judge.accuracy.get(form, 0.0) < least:
        raise ValueError(
            f"the judge of {dataset} reads {judge.accuracy.get(form, 0.0):.4f} of the test images "
            f"({form.replace('_', ' ')}): expected at least {least}"
        )
    return judge


def _kept(folder: pathlib.Path, task: Task) -> dict[str, Any] | None:
    """What is kept of a judge by today's recipe."""
    path = folder / JUDGE_FILE
    kept = json.loads(path.read_text()) if path.exists() else {}
    return kept if kept.get("recipe") == _plain(task.recipe) else None


def _read(network: Classifier, variables: Any, task: Task) -> evaluation.Judge:
    center = task.recipe.get("center", 0.0)

    def read(images: jax.Array) -> Any:
        return network.apply(variables, images - center)

    return read


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(dict(value)))


def _initial(network: Classifier, shape: tuple[int, ...], task: Task) -> Any:
    return network.init(jax.random.key(task.recipe["seed"]), jnp.zeros((1, *shape)))


def _train_and_keep(
    folder: pathlib.Path,
    task: Task,
    train: Mapping[str, np.ndarray],
    test: Mapping[str, np.ndarray],
    described: Mapping[str, Any],
) -> dict[str, Any]:
    outputs, shape = task.outputs(train[task.target]), train["image"].shape[1:]
    network = task.network(outputs)
    print("training the judge of images, once for this data set", flush=True)
    variables = _train(network, train, task)
    accuracy = _accuracy(_read(network, variables, task), task, test, described)
    Checkpoints(folder / "parameters").save(0, variables)  # one place: the next recipe replaces it
    kept = {
        "recipe": _plain(task.recipe),
        "num_classes": outputs,
        "shape": list(shape),
        "accuracy": accuracy,
    }
    workdir.write_json(folder / JUDGE_FILE, kept)
    return kept


def _accuracy(
    read: evaluation.Judge,
    task: Task,
    test: Mapping[str, np.ndarray],
    described: Mapping[str, Any],
) -> dict[str, float]:
    """What the judge reads in test images, see `TrainedJudge`."""
    keys = jax.random.split(jax.random.key(1), len(test["image"]))
    images = jnp.asarray(test["image"])
    if task.target == "label":
        return {
            name: float(np.mean(evaluation.judge_images(read, shown).classes == test["label"]))
            for name, shown in (
                ("grey", unit_interval(keys, images)),
                ("binarized", binarize(keys, images)),
            )
        }
    logits = evaluation.judge_images(read, unit_interval(keys, images)).logits
    names = described["attributes"]
    found = evaluation.attribute_scores(test["attributes"], logits, names)
    mean = evaluation.mean_scores(found, described.get("visible", names))["balanced_accuracy"]
    each = {name: found[name]["balanced_accuracy"] for name in names}
    found_means = {"balanced_accuracy": mean, **each}
    return {name: value for name, value in found_means.items() if value is not None}


def _train(network: Classifier, stored: Mapping[str, np.ndarray], task: Task) -> Any:
    """Adam on equal parts of the task's forms, with a rate that falls to 0."""
    size, epochs = task.recipe["batch_size"], task.recipe["epochs"]
    steps = data.num_steps(len(stored["image"]), size)
    rate = optax.cosine_decay_schedule(task.recipe["learning_rate"], steps * epochs)
    optimizer = optax.adam(rate)
    arrays = jnp.asarray(stored["image"]), jnp.asarray(stored[task.target])
    key = jax.random.key(task.recipe["seed"])
    share = size // len(task.forms)

    def loss(variables: Any, pixels: jax.Array, wanted: jax.Array) -> jax.Array:
        logits, _ = _read(network, variables, task)(pixels)
        return task.loss(logits, wanted).mean()

    def step(arrays: Any, carry: Any, rows: jax.Array) -> tuple[Any, None]:
        variables, state, number = carry
        keys = jax.random.split(jax.random.fold_in(jax.random.fold_in(key, 1), number), size)
        pixels, wanted = (array[rows] for array in arrays)
        parts = [slice(i * share, (i + 1) * share) for i in range(len(task.forms))]
        shown = [
            form(keys[part], pixels[part]) for form, part in zip(task.forms, parts, strict=True)
        ]
        grads = jax.grad(loss)(variables, jnp.concatenate(shown), wanted)
        updates, state = optimizer.update(grads, state)
        return (optax.apply_updates(variables, updates), state, number + 1), None

    def one_epoch(carry: Any, order: jax.Array, arrays: Any) -> Any:
        batches = order[: steps * size].reshape(steps, size)
        return jax.lax.scan(functools.partial(step, arrays), carry, batches)[0]

    variables = _initial(network, stored["image"].shape[1:], task)
    carry = (variables, optimizer.init(variables), jnp.zeros((), jnp.int32))
    compiled = parallel.jit(one_epoch, donate_argnums=0)
    for epoch in tqdm(range(epochs), unit=" epochs"):
        order = epoch_order(jax.random.fold_in(key, 2), epoch, len(arrays[0]))
        carry = jax.block_until_ready(compiled(carry, order, arrays))
    return carry[0]


def main() -> None:
    judge = load_judge(_DATASET.value, _DATA_DIR.value, manual_dir=_MANUAL_DIR.value)
    for form, share in judge.accuracy.items():
        print(f"the judge on test images of {_DATASET.value}, {form}: {share:.4f}")


if __name__ == "__main__":
    # Defined here and not at import: other commands use this file beside flags of their own.
    _DATASET = flags.DEFINE_string("dataset", "mnist", "Name: mnist, synthetic_faces, ...")
    _DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of prepared data; TFDS's default.")
    _MANUAL_DIR = flags.DEFINE_string("manual_dir", None, "Folder with the data set's files.")
    cli.launch(main)
