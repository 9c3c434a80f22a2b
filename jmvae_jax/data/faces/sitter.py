"""Who sits for a portrait: the attributes as masks, and what the seed alone decides.

What a seed decides is the nuisance variation: pose, light, background, the tone of skin and hair
within what the attributes say, clothes, sizes. It never depends on the attributes.
"""

import dataclasses

import numpy as np

from jmvae_jax.data.faces.attributes import ATTRIBUTES

# One uniform number each. New ones go to the end: the others keep their values.
NUISANCES = (
    "shift_x", "shift_y", "rotation", "scale", "yaw",
    "light_side", "light_angle", "light_strength", "brightness",
    "skin", "hair", "hair_length", "hair_volume", "wave",
    "iris", "eye_size", "lips", "mouth_width",
    "clothes_hue", "clothes_value", "neckline",
    "ground_hue", "ground_value", "ground_turn", "ground_angle",
    "hat_hue", "tie_hue", "frame", "jewels", "makeup",
)  # fmt: skip

SKIN_TONES = np.array([(232, 182, 138), (218, 160, 114), (190, 132, 90), (156, 104, 72)], float)
PALE_TONES = np.array([(255, 230, 214), (252, 220, 206)], float)
HAIR_TONES = {
    "Black_Hair": (30, 27, 33),
    "Blond_Hair": (240, 206, 104),
    "Brown_Hair": (112, 66, 34),
    "Gray_Hair": (178, 181, 188),
}
CHIN = 19.4  # height of the tip of a chin that is not oval
_RED_HAIR = (190, 76, 30)  # none of the four colours
_STUBBLE_HAIR = (72, 50, 40)  # brows and beard of the bald, whose hair has no colour
IRIS_TONES = np.array([(70, 42, 24), (52, 104, 170), (66, 122, 62), (120, 88, 40)], float)
FRAME_TONES = np.array([(24, 22, 28), (26, 34, 84), (96, 16, 26)], float)
JEWEL_TONES = np.array([(255, 214, 40), (40, 222, 226), (250, 250, 255)], float)
MAKEUP_TONES = np.array([(136, 60, 168), (44, 110, 190), (40, 140, 120)], float)


@dataclasses.dataclass(frozen=True)
class Sitter:
    """N people.

    Attributes:
      has: Which of them have an attribute, bool `[N]` each.
      chance: What their seeds decided, `[N]` from 0 to 1 each.
      skin: Colour of the skin, `[N, 3]`; `hair`, `brow` and `lip` likewise.
      chin: Height of the tip of the chin, `[N]`.
      lit: 1 where light comes from the right, else -1, `[N]`.
    """

    has: dict[str, np.ndarray]
    chance: dict[str, np.ndarray]
    skin: np.ndarray
    hair: np.ndarray
    brow: np.ndarray
    lip: np.ndarray
    chin: np.ndarray
    lit: np.ndarray

    def amount(self, name: str) -> np.ndarray:
        """An attribute as a number, 0 or 1, `[N]`."""
        return self.has[name].astype(float)

    def between(self, name: str, low: float, high: float) -> np.ndarray:
        """A nuisance as a number from `low` to `high`, `[N]`."""
        return low + (high - low) * self.chance[name]

    def pose(self) -> dict[str, np.ndarray]:
        """The pose, as `Layers` takes it."""
        return {
            "shift_x": self.between("shift_x", -1.5, 1.5),
            "shift_y": self.between("shift_y", -1.0, 1.0),
            "rotation": self.between("rotation", -0.07, 0.07),
            "scale": self.between("scale", 0.96, 1.04),
            "yaw": self.between("yaw", -1, 1),
        }


def seat(attributes: np.ndarray, chance: np.ndarray) -> Sitter:
    """Makes sitters of attributes `[N, 40]` and uniform numbers `[N, len(NUISANCES)]`."""
    has = {name: attributes[:, k] > 0 for k, name in enumerate(ATTRIBUTES)}
    chances = {name: chance[:, k] for k, name in enumerate(NUISANCES)}
    skin = pick_between(SKIN_TONES, chances["skin"])
    skin = choose(has["Pale_Skin"], pick_between(PALE_TONES, chances["skin"]), skin)
    hair = _hair_colour(has) * (0.92 + 0.16 * chances["hair"])[:, None]
    natural = mix(skin, (182, 74, 74), 0.5)
    painted = pick_between(np.array([(214, 16, 44), (196, 16, 104)], float), chances["lips"])
    return Sitter(
        has=has,
        chance=chances,
        skin=skin,
        hair=hair,
        brow=hair * 0.62,
        lip=choose(has["Wearing_Lipstick"], painted, natural),
        chin=CHIN + 3.4 * has["Oval_Face"],
        lit=np.where(chances["light_side"] < 0.5, -1.0, 1.0),
    )


def _hair_colour(has: dict[str, np.ndarray]) -> np.ndarray:
    """The mean of the colours that are there, `[N, 3]`."""
    shares = np.stack([has[name] for name in HAIR_TONES], -1).astype(float)
    count = shares.sum(-1)
    total = shares @ np.array(list(HAIR_TONES.values()), float)
    without = choose(has["Bald"], _STUBBLE_HAIR, _RED_HAIR)
    return choose(count > 0, total / np.maximum(count, 1)[:, None], without)


def mix(colour: np.ndarray, other: np.ndarray | tuple, share: float | np.ndarray) -> np.ndarray:
    """`colour` with a share of another, `[N, 3]`."""
    return colour + (np.asarray(other) - colour) * share


def choose(where: np.ndarray, yes: np.ndarray | tuple, no: np.ndarray | tuple) -> np.ndarray:
    """Colours `[N, 3]`: one where the mask `[N]` is set, the other elsewhere."""
    return np.where(where[:, None], yes, no).astype(float)


def pick(tones: np.ndarray, chance: np.ndarray) -> np.ndarray:
    """One of some colours, `[N, 3]`."""
    return tones[(chance * len(tones)).astype(int)]


def pick_between(tones: np.ndarray, chance: np.ndarray) -> np.ndarray:
    """A colour along the way through some colours, `[N, 3]`."""
    place = chance * (len(tones) - 1)
    first = place.astype(int)
    share = (place - first)[:, None]
    return tones[first] * (1 - share) + tones[np.minimum(first + 1, len(tones) - 1)] * share


def wheel(hue: np.ndarray, saturation: float, value: np.ndarray | float) -> np.ndarray:
    """Colours `[N, 3]` of a hue (0 to 1), a saturation and a value (0 to 1)."""
    turned = np.abs((hue[:, None] * 6 + np.array([0, 4, 2])) % 6 - 3) - 1
    pure = 1 - saturation * (1 - np.clip(turned, 0, 1))
    return pure * (255 * np.atleast_1d(value)[:, None])
