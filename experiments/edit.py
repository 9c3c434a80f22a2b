"""Changes attributes of a portrait, by the paper's procedure.

    python experiments/edit.py --workdir=DIR --image=portrait.jpg --set Smiling=2 --set Male=-2 \
        --out=FILE.png

A model of images and attributes infers the portrait's attributes, which are printed; the picture
shows the portrait, the average faces of its attributes before and after the change, and the
portrait plus their difference. `--crop=auto` takes the face that OpenCV finds where the extra
`faces` is installed, else the central square; `--crop=center`, or `--crop=x,y,side` in pixels.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from experiments import build, cli, pictures, portraits, scores, workdir
from experiments.face_figures import parse_changes, present
from jmvae_jax import evaluation, plotting

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a trained run.", required=True)
_IMAGE = flags.DEFINE_string("image", None, "File of the portrait.", required=True)
_CROP = flags.DEFINE_string("crop", "auto", "auto, center, or x,y,side in pixels.")
_SET = flags.DEFINE_multi_string("set", [], "ATTRIBUTE=VALUE: 1 or -1; 2 or -2 for more.")
_OUT = flags.DEFINE_string("out", None, "File of the picture.", required=True)


def main() -> None:
    out = workdir.picture_path(_OUT.value)
    run = build.load_run(_WORKDIR.value)
    attributes, images = scores.attribute_modality(run), pictures.image_modalities(run.model)
    if attributes not in run.model.generated or len(images) != 1:
        raise ValueError(
            f"workdir={_WORKDIR.value!r} holds a {run.config.variant}: editing needs a model that "
            "generates images and attributes"
        )
    (image,) = images
    assert attributes is not None  # it is generated
    names = [str(name) for name in run.statistics["attributes"]]
    if not _SET.value:
        raise ValueError("set: expected at least one change, --set Smiling=2 say")
    changes = parse_changes(_SET.value, names)
    picture = portraits.read_picture(_IMAGE.value)
    crop = portraits.choose_crop(picture, _CROP.value)
    pixels = portraits.cropped(picture, crop, run.model.modalities[image].shape[0])
    numbers = {names.index(name): value for name, value in changes}
    key = jax.random.key(0)[None]  # the transform of a face draws nothing
    stored = np.asarray(run.transforms[image](key, jnp.asarray(pixels[None])))
    found = evaluation.edit(
        run.model, run.variables, stored, numbers, image=image, attributes=attributes
    )
    print(f"cropped to {crop.chosen}: {crop.left},{crop.top},{crop.side}")
    read = present(names, np.asarray(found.inferred[0]))
    print(f"attributes that are read: {', '.join(f'{n} {v:+.2f}' for n, v in read) or 'none'}")
    row = [
        pictures.pixels(run.showing, image, part[0])
        for part in (stored, found.before, found.after, found.result)
    ]
    columns = ("portrait", "average face", "changed", "result")
    title = ", ".join(f"{name}={value:g}" for name, value in changes)
    grid = plotting.Grid(np.stack(row)[None], ("",), columns, title=f"{run.title}: {title}")
    plotting.save_grids(out, [grid])
    print(f"wrote {out}")


if __name__ == "__main__":
    cli.launch(main)
