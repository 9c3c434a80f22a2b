"""A classifier that reads the class of generated images, trained once for each data set.

    python experiments/judge.py --dataset=mnist [--data_dir=DIR]

It is kept beside the prepared data with its accuracy on the test images: as they are (grey), and
binarised. `experiments/evaluate.py --coherence` trains it if it is not there; on MNIST in less
than a minute on two CPU cores.
"""

import dataclasses
import fcntl
import functools
import json
import pathlib
import sys
from collections.abc import Mapping
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

RECIPE: Mapping[str, Any] = {
    "version": 1,  # raise it when something changes that stands not here
    "channels": (32, 64),
    "hidden": 128,
    "epochs": 4,
    "batch_size": 200,
    "learning_rate": 2e-3,
    "seed": 0,
}
REQUIRED = {"mnist": 0.985}
"""The least accuracy on grey test images with which a judge may judge."""

JUDGE_FILE = "judge.json"


@dataclasses.dataclass(frozen=True)
class TrainedJudge:
    """A trained judge: images `[N, H, W, channels]` in [0, 1] -> logits and features.

    Attributes:
      read: that function.
      accuracy: "grey" and "binarized": share of test images whose class it reads.
    """

    read: evaluation.Judge
    accuracy: Mapping[str, float]


def load_judge(dataset: str, data_dir: str | None = None, **options: Any) -> TrainedJudge:
    """The judge of a data set with `image` and `label`, trained now if it is not kept yet.

    Raises:
      ValueError: the data set lacks images or labels, or the judge reads less than `REQUIRED`.
    """
    place = {"data_dir": data_dir, **options}
    folder = pathlib.Path(data.prepare(dataset, **place).data_dir) / "judge"
    kept = _kept(folder)
    if kept is None:
        workdir.check_writable(folder.parent, "data_dir")
        folder.mkdir(exist_ok=True)
        with (folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # another process may be training it
            kept = _kept(folder)
            if kept is None:
                train, test = (data.load(dataset, split, **place) for split in ("train", "test"))
                kept = _train_and_keep(folder, train, test)
    network = Classifier(kept["num_classes"], RECIPE["channels"], RECIPE["hidden"])
    target = jax.eval_shape(lambda: _initial(network, kept["shape"]))
    restored = Checkpoints(folder / "parameters").restore(target)
    if restored is None:
        raise FileNotFoundError(f"{folder} has lost its parameters: remove the folder")
    judge = TrainedJudge(_read(network, restored[1]), kept["accuracy"])
    if judge.accuracy["grey"] < REQUIRED.get(dataset, 0.0):
        raise ValueError(
            f"the judge of {dataset} reads {judge.accuracy['grey']:.4f} of the test images: "
            f"expected at least {REQUIRED[dataset]}"
        )
    return judge


def _kept(folder: pathlib.Path) -> dict[str, Any] | None:
    """What is kept of a judge by today's recipe."""
    path = folder / JUDGE_FILE
    kept = json.loads(path.read_text()) if path.exists() else {}
    return kept if kept.get("recipe") == _plain(RECIPE) else None


def _read(network: Classifier, variables: Any) -> evaluation.Judge:
    read: evaluation.Judge = functools.partial(network.apply, variables)  # type: ignore[assignment]
    return read


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(dict(value)))


def _initial(network: Classifier, shape: tuple[int, ...]) -> Any:
    return network.init(jax.random.key(RECIPE["seed"]), jnp.zeros((1, *shape)))


def _train_and_keep(
    folder: pathlib.Path, train: Mapping[str, np.ndarray], test: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    for split in (train, test):
        if "image" not in split or "label" not in split:
            raise ValueError(f"a judge needs image and label: the data set has {sorted(split)}")
    num_classes, shape = int(train["label"].max()) + 1, train["image"].shape[1:]
    network = Classifier(num_classes, RECIPE["channels"], RECIPE["hidden"])
    print("training the judge of images, once for this data set", flush=True)
    variables = _train(network, train)
    read = _read(network, variables)
    keys = jax.random.split(jax.random.key(1), len(test["label"]))
    accuracy = {
        name: float(np.mean(evaluation.judge_images(read, images).classes == test["label"]))
        for name, images in (
            ("grey", unit_interval(keys, jnp.asarray(test["image"]))),
            ("binarized", binarize(keys, jnp.asarray(test["image"]))),
        )
    }
    Checkpoints(folder / "parameters").save(0, variables)  # one place: the next recipe replaces it
    kept = {
        "recipe": _plain(RECIPE),
        "num_classes": num_classes,
        "shape": list(shape),
        "accuracy": accuracy,
    }
    workdir.write_json(folder / JUDGE_FILE, kept)
    return kept


def _train(network: Classifier, stored: Mapping[str, np.ndarray]) -> Any:
    """Adam on grey and binarised images, half of each, with a rate that falls to 0."""
    size, epochs = RECIPE["batch_size"], RECIPE["epochs"]
    steps = data.num_steps(len(stored["label"]), size)
    rate = optax.cosine_decay_schedule(RECIPE["learning_rate"], steps * epochs)
    optimizer = optax.adam(rate)
    images, labels = jnp.asarray(stored["image"]), jnp.asarray(stored["label"])
    key = jax.random.key(RECIPE["seed"])

    def loss(variables: Any, pixels: jax.Array, wanted: jax.Array) -> jax.Array:
        logits, _ = _read(network, variables)(pixels)
        return optax.softmax_cross_entropy_with_integer_labels(logits, wanted).mean()

    def step(carry: Any, rows: jax.Array) -> tuple[Any, None]:
        variables, state, number = carry
        keys = jax.random.split(jax.random.fold_in(jax.random.fold_in(key, 1), number), size)
        half = size // 2
        stored_pixels = images[rows]
        pixels = jnp.concatenate(
            [
                unit_interval(keys[:half], stored_pixels[:half]),
                binarize(keys[half:], stored_pixels[half:]),
            ]
        )
        grads = jax.grad(loss)(variables, pixels, labels[rows])
        updates, state = optimizer.update(grads, state)
        return (optax.apply_updates(variables, updates), state, number + 1), None

    def one_epoch(carry: Any, order: jax.Array) -> Any:
        return jax.lax.scan(step, carry, order[: steps * size].reshape(steps, size))[0]

    variables = _initial(network, stored["image"].shape[1:])
    carry = (variables, optimizer.init(variables), jnp.zeros((), jnp.int32))
    compiled = parallel.jit(one_epoch, donate_argnums=0)
    for epoch in tqdm(range(epochs), unit=" epochs"):
        order = epoch_order(jax.random.fold_in(key, 2), epoch, len(labels))
        carry = jax.block_until_ready(compiled(carry, order))
    return carry[0]


def main() -> None:
    judge = load_judge(_DATASET.value, _DATA_DIR.value)
    for form, share in judge.accuracy.items():
        print(f"the judge reads {share:.4f} of the {form} test images of {_DATASET.value}")


if __name__ == "__main__":
    # Defined here and not at import: other commands use this file beside flags of their own.
    _DATASET = flags.DEFINE_string("dataset", "mnist", "Name: mnist, fashion_mnist, kmnist.")
    _DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of prepared data; TFDS's default.")
    cli.launch(main)
