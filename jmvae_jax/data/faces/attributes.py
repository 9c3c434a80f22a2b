"""The attributes of drawn faces: which of CelebA's names a drawing shows, and how they go together.

The probabilities are chosen here. The usual correlations are there: beards and neckties are mostly
with `Male`, lipstick and earrings mostly without, gray hair mostly without `Young`. Both values of
every visible attribute are frequent enough to be learnt, and no attribute follows from another one
but by exclusion.
"""

import numpy as np

from jmvae_jax.data.attributes import CELEB_A_ATTRIBUTES

ATTRIBUTES = CELEB_A_ATTRIBUTES

# Whether a face is attractive is an opinion: no mark stands for it.
INVISIBLE_ATTRIBUTES = ("Attractive",)
VISIBLE_ATTRIBUTES = tuple(name for name in ATTRIBUTES if name not in INVISIBLE_ATTRIBUTES)

HAIR_COLOURS = ("Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair")

# Probability without `Male`, with it, and what is added when `Young` is absent.
_PROBABILITIES = {
    "5_o_Clock_Shadow": (0.01, 0.26, 0.0),
    "Arched_Eyebrows": (0.48, 0.18, -0.03),
    "Bags_Under_Eyes": (0.15, 0.27, 0.20),
    "Bald": (0.01, 0.15, 0.08),
    "Bangs": (0.36, 0.20, -0.06),
    "Big_Lips": (0.34, 0.24, -0.06),
    "Big_Nose": (0.16, 0.36, 0.10),
    "Blurry": (0.11, 0.11, 0.0),
    "Bushy_Eyebrows": (0.14, 0.36, 0.03),
    "Chubby": (0.14, 0.20, 0.12),
    "Double_Chin": (0.10, 0.16, 0.14),
    "Eyeglasses": (0.14, 0.22, 0.14),
    "Goatee": (0.01, 0.26, 0.0),
    "Heavy_Makeup": (0.52, 0.03, -0.10),
    "High_Cheekbones": (0.48, 0.28, -0.04),
    "Mouth_Slightly_Open": (0.48, 0.40, 0.0),
    "Mustache": (0.01, 0.27, 0.03),
    "Narrow_Eyes": (0.20, 0.26, 0.08),
    "Oval_Face": (0.40, 0.26, -0.04),
    "Pale_Skin": (0.28, 0.16, 0.0),
    "Pointy_Nose": (0.34, 0.22, 0.0),
    "Receding_Hairline": (0.06, 0.22, 0.12),
    "Rosy_Cheeks": (0.30, 0.08, -0.06),
    "Sideburns": (0.03, 0.30, 0.0),
    "Smiling": (0.54, 0.42, 0.0),
    "Wearing_Earrings": (0.50, 0.05, 0.0),
    "Wearing_Hat": (0.12, 0.18, 0.0),
    "Wearing_Lipstick": (0.58, 0.04, -0.05),
    "Wearing_Necklace": (0.38, 0.06, 0.0),
    "Wearing_Necktie": (0.04, 0.32, 0.04),
}
_MALE, _YOUNG = 0.43, 0.60
_FULL_BEARD = (0.01, 0.28)  # without and with Male, where there is neither goatee nor stubble
_STRAIGHT, _WAVY = (0.30, 0.34), (0.38, 0.24)  # shares of hair that shows; the rest is neither
# Black, blond, brown, gray, and none of the four (red).
_YOUNG_COLOURS = np.cumsum([0.28, 0.22, 0.28, 0.08, 0.14])
_OLD_COLOURS = np.cumsum([0.17, 0.14, 0.17, 0.42, 0.10])


def sample_attributes(rng: np.random.Generator, count: int) -> np.ndarray:
    """Draws the attributes of `count` people.

    Exclusions always hold: at most one colour of hair; `Straight_Hair` or `Wavy_Hair`, not both;
    `Bald` without colour, `Bangs`, either texture of hair, `Receding_Hairline` or `Wearing_Hat`;
    `Receding_Hairline` without `Bangs` or `Wearing_Hat`; a hat on short hair hides its texture, so
    `Male` with `Wearing_Hat` has none. `No_Beard` is absent with `Goatee` and `5_o_Clock_Shadow`;
    where it is absent without them, the beard is a full one. A moustache alone is no beard.

    Args:
      rng: The source of randomness.
      count: How many people.

    Returns:
      int8 `[count, 40]` of -1 and 1, in the order of `ATTRIBUTES`.

    Raises:
      ValueError: `count` is negative.

    Example:
      >>> import numpy as np
      >>> from jmvae_jax.data.faces import sample_attributes
      >>> sample_attributes(np.random.default_rng(0), 100).shape
      (100, 40)
    """
    if count < 0:
        raise ValueError(f"count={count!r} came; expected 0 or more.")
    draws = dict(zip(ATTRIBUTES, rng.random((len(ATTRIBUTES), count)), strict=True))
    colour, beard = rng.random((2, count))
    male, young = draws["Male"] < _MALE, draws["Young"] < _YOUNG
    has = {"Male": male, "Young": young}
    for name, (without, with_male, older) in _PROBABILITIES.items():
        has[name] = draws[name] < np.where(male, with_male, without) + np.where(young, 0, older)
    charm = 0.30 + 0.25 * young + 0.15 * has["Heavy_Makeup"] - 0.15 * has["Chubby"]
    has["Attractive"] = draws["Attractive"] < charm
    _exclude(has)
    _add_hair(has, draws["Straight_Hair"], colour)
    full = beard < np.where(male, _FULL_BEARD[1], _FULL_BEARD[0])
    has["No_Beard"] = ~(has["Goatee"] | has["5_o_Clock_Shadow"] | full)
    return np.where(np.stack([has[name] for name in ATTRIBUTES], axis=-1), 1, -1).astype(np.int8)


def _exclude(has: dict[str, np.ndarray]) -> None:
    has["Wearing_Hat"] &= ~has["Bald"]
    has["Receding_Hairline"] &= ~(has["Bald"] | has["Wearing_Hat"])
    has["Bangs"] &= ~(has["Bald"] | has["Receding_Hairline"])


def _add_hair(has: dict[str, np.ndarray], texture: np.ndarray, colour: np.ndarray) -> None:
    """Adds colour and texture of the hair, from uniform draws `[N]`."""
    male, bald = has["Male"].astype(int), has["Bald"]
    straight = np.take(_STRAIGHT, male)
    shows = ~(bald | (has["Wearing_Hat"] & has["Male"]))
    has["Straight_Hair"] = shows & (texture < straight)
    wavy = (texture >= straight) & (texture < straight + np.take(_WAVY, male))
    has["Wavy_Hair"] = shows & wavy
    bounds = np.where(has["Young"][:, None], _YOUNG_COLOURS, _OLD_COLOURS)
    which = np.sum(colour[:, None] >= bounds, axis=-1)
    for k, name in enumerate(HAIR_COLOURS):
        has[name] = (which == k) & ~bald
