"""The parts of a drawn portrait that everyone has: body, head, skin, eyes, nose, mouth.

Each function paints onto the layers of N portraits. The numbers in it are places, widths and radii
in the coordinates of `shapes`, and factors of colours.
"""

import numpy as np

from jmvae_jax.data.faces.shapes import Layers, ellipse, mirrored, points, ribbon, smooth
from jmvae_jax.data.faces.sitter import (
    CHIN,
    IRIS_TONES,
    MAKEUP_TONES,
    Sitter,
    choose,
    mix,
    pick,
    wheel,
)

SIDES = (-1, 1)
EYE = (6.5, 1.4)  # centre of the right eye
MOUTH = 13.5  # height of the mouth
_WHITE, _DARK = np.array([250.0, 250, 250]), np.array([26.0, 20, 24])


def paint_body(layers: Layers, s: Sitter) -> None:
    """Neck, shoulders and clothes, and the shadow of the chin."""
    male = s.amount("Male")
    clothes = wheel(s.chance["clothes_hue"], 0.5, s.between("clothes_value", 0.35, 0.85))
    neck, shoulder = 6.6 + 2.4 * male, 20 + 6.5 * male
    skin = s.skin * 0.9
    layers.add(mirrored((neck, 8), (neck, 24), (neck + 3, 28), (neck + 3, 33)), skin, body=True)
    trunk = mirrored(
        (neck + 0.5, 24.5), (shoulder * 0.62, 26.6), (shoulder, 30), (shoulder + 3.5, 40)
    )
    layers.add(smooth(trunk), clothes, body=True)
    opening = 4.5 + 1.5 * s.chance["neckline"]
    layers.add(ellipse(0, 24.5, neck + 2.5, opening + 0.9), clothes * 0.75, body=True)
    layers.add(ellipse(0, 24.2, neck + 1.9, opening), skin, body=True)
    layers.add(ellipse(0, s.chin - 2.5, neck - 0.2, 6.5), s.skin * 0.74, body=True)


def paint_head(layers: Layers, s: Sitter) -> None:
    """Ears, the second chin and the face, darker on the side away from the light."""
    double = s.has["Double_Chin"]
    layers.add(ellipse(0, s.chin - 0.8, 10.6, 7.4), s.skin * 0.52, double)
    layers.add(ellipse(0, s.chin - 1.2, 10.0, 6.6), s.skin, double)
    for side in SIDES:
        layers.add(ellipse(side * 15.2, 3, 2.7, 4.2), s.skin * 0.9, depth=-1.5)
        layers.add(ellipse(side * 15.4, 3, 1.4, 2.6), s.skin * 0.72, depth=-1.5)
    outline = _face(s)
    layers.add(outline, s.skin * 0.84)
    lit = outline * np.array([0.955, 0.97]) + points((0.65 * s.lit, -0.4))
    layers.add(lit, s.skin)
    chin = ribbon(points((-6, s.chin - 1.8), (0, s.chin + 0.4), (6, s.chin - 1.8)), 1.5)
    layers.add(chin, s.skin * 0.55, double)
    shine = ellipse(5 * s.lit, -14, 4.5, 2.4)
    layers.add(shine, mix(s.skin, _WHITE, 0.45), s.has["Bald"])


def _face(s: Sitter) -> np.ndarray:
    male, chubby, oval = (s.amount(name) for name in ("Male", "Chubby", "Oval_Face"))
    low = s.chin - CHIN
    return smooth(
        mirrored(
            (0, -20),
            (8, -18.2),
            (12.8, -12.5),
            (14.6, -5),
            (14.8 + 0.6 * chubby, 2),
            (13.7 + 3.8 * chubby - 0.4 * oval, 8 + 0.3 * low),
            (11.2 + 1.6 * male + 5.2 * chubby - 1.3 * oval, 13 + 0.5 * low),
            (7.2 + 2.8 * male + 4.2 * chubby - 1.5 * oval, 17 + 0.8 * low),
            (3.4 + 2.0 * male + 1.2 * chubby - 0.4 * oval, s.chin - 0.6),
            (0, s.chin),
        )
    )


def paint_skin(layers: Layers, s: Sitter) -> None:
    """Marks on the skin: cheekbones, blush, wrinkles, bags under the eyes."""
    high, old = s.has["High_Cheekbones"], ~s.has["Young"]
    for side in SIDES:
        hollow = points((side * 14.2, 4.5), (side * 11, 9), (side * 7.6, 12.6))
        layers.add(ribbon(hollow, 3.3, ends=0.3), s.skin * 0.7, high)
        layers.add(ellipse(side * 10, 5.6, 3.5, 1.8), mix(s.skin, _WHITE, 0.5), high)
        for size, share in ((1.0, 0.3), (0.65, 0.55)):
            blush = ellipse(side * 9.2, 7.6, 4.4 * size, 3.1 * size)
            layers.add(blush, mix(s.skin, (240, 60, 84), share), s.has["Rosy_Cheeks"])
        fold = points((side * 3.9, 7.8), (side * 6.6, 10), (side * 8.2, 14.6))
        layers.add(ribbon(fold, 1.5, ends=0.5), s.skin * 0.68, old)
        for end in (-0.4, 3.4):
            foot = points((side * 11, 1.2), (side * 12.4, end * 0.7 + 0.5), (side * 14.2, end))
            layers.add(ribbon(foot, 0.9), s.skin * 0.68, old)
        bag = ellipse(side * EYE[0], EYE[1] + 2.8, 4.3, 3.1)
        layers.add(bag, mix(s.skin * 0.56, (110, 50, 110), 0.4), s.has["Bags_Under_Eyes"])
    for height in (-11.2, -9.2):
        crease = points((-7.5, height + 0.6), (0, height), (7.5, height + 0.6))
        layers.add(ribbon(crease, 1.2, ends=0.5), s.skin * 0.7, old)


def paint_eyes(layers: Layers, s: Sitter) -> None:
    """Eyes with lids, lashes and eye shadow."""
    makeup, female = s.has["Heavy_Makeup"], ~s.has["Male"]
    shadow = pick(MAKEUP_TONES, s.chance["makeup"])
    size = s.between("eye_size", 0.94, 1.06)
    wide, tall = 3.8 * size, np.where(s.has["Narrow_Eyes"], 1.15, 2.8) * size
    iris = pick(IRIS_TONES, s.chance["iris"])
    round_iris = np.minimum(2.2, tall)
    for side in SIDES:
        x, y = side * EYE[0], EYE[1]
        layers.add(ellipse(x + side * 0.4, y - 1.3, 5.2, 3.6), mix(s.skin, shadow, 0.75), makeup)
        layers.add(ellipse(x, y, wide + 0.4, tall + 0.4), s.skin * 0.66)
        layers.add(ellipse(x, y, wide, tall), _WHITE)
        layers.add(ellipse(x, y, np.full_like(wide, 2.2), round_iris), iris, depth=0.5)
        layers.add(ellipse(x, y, 1.15, np.minimum(1.15, tall)), _DARK, depth=0.5)
        glint = ellipse(x + 0.7 * s.lit, y - 0.3 * tall, 0.7, np.minimum(0.7, tall * 0.5))
        layers.add(glint, _WHITE, depth=0.5)
        lid = points((x - side * wide, y), (x, y - tall * 1.25), (x + side * wide, y))
        layers.add(ribbon(lid, np.where(makeup, 1.8, np.where(female, 1.3, 0.8)), ends=0.6), _DARK)
        lash = points((x + side * (wide - 1.4), y - 0.6 * tall), (x + side * (wide + 2.4), y - 2.4))
        layers.add(ribbon(lash, 1.3, steps=1), _DARK, female)


def paint_brows(layers: Layers, s: Sitter) -> None:
    """Brows, arched or flat, bushy or thin; above the bangs, so that these hide none."""
    arch = s.amount("Arched_Eyebrows")
    thick = np.where(s.has["Bushy_Eyebrows"], 3.0, 1.3)
    for side in SIDES:
        brow = points(
            (side * 2.6, -3.9 + 0.4 * arch),
            (side * (5.4 + 1.2 * arch), -4.7 - 1.5 * arch),
            (side * (8.2 + 0.6 * arch), -4.7 - 1.6 * arch),
            (side * 11.0, -3.9 + 0.9 * arch),
        )
        layers.add(ribbon(brow, thick, ends=0.5), s.brow)


def paint_nose(layers: Layers, s: Sitter) -> None:
    """A round nose or a pointed one; wide wings when it is big."""
    big, pointed = s.amount("Big_Nose"), s.has["Pointy_Nose"]
    half = 2.4 + 3.8 * big
    away = -s.lit
    bridge = points((away * 1.0, -1.5), (away * 1.2, 2), (away * half * 0.55, 5.4))
    layers.add(ribbon(bridge, 1.0 + 0.5 * big), s.skin * 0.78, depth=1)
    layers.add(ellipse(0, 6.8 - 0.6 * big, half, 2.0 + 1.7 * big), s.skin * 0.6, depth=1)
    flush = mix(s.skin, (236, 110, 90), 0.14 + 0.16 * big[:, None])
    bulb = ellipse(0.3 * s.lit, 6.1 - 0.8 * big, half - 0.7, 1.8 + 1.4 * big)
    layers.add(bulb, flush, depth=1)
    for side in SIDES:
        nostril = ellipse(side * half * 0.52, 7.5 + 0.4 * big, 0.75 + 0.4 * big, 0.55 + 0.35 * big)
        layers.add(nostril, s.skin * 0.4, depth=1)
    wing = 3.2 + 0.8 * big
    tip = mirrored((0, -3.5), (wing, 8.0), (0, 10.8))
    layers.add(tip, s.skin * 0.55, pointed, depth=1.5)
    ridge = mirrored((0, -2.5), (wing - 1.5, 7.0), (0, 9.2)) + points((0.3 * s.lit, 0))
    layers.add(ridge, mix(s.skin, _WHITE, 0.45), pointed, depth=1.5)


def paint_mouth(layers: Layers, s: Sitter) -> None:
    """Lips that smile or not, closed or open with teeth."""
    smile, parted = s.amount("Smiling"), s.amount("Mouth_Slightly_Open")
    half = s.between("mouth_width", 4.7, 5.3) + 2.0 * smile + 0.7 * s.amount("Big_Lips")
    plump = np.where(s.has["Big_Lips"], 2.6, 0.85)
    corner = MOUTH + 1.2 - 4.2 * smile
    top = MOUTH - 0.2 + 0.3 * smile - 0.8 * parted  # middle of the inner edge of the upper lip
    bottom = top + parted * 3.2
    upper, lower = 1.15 * np.minimum(plump, 2.0), 1.35 * plump
    inner_top, inner_bottom = (0.6 * top + 0.4 * corner, 0.7 * bottom + 0.3 * corner)
    lips = mirrored(
        (0, top - upper * 0.8),
        (1.7, top - upper - 0.25 * smile),
        (half * 0.62, inner_top - upper * 0.85),
        (half, corner),
        (half * 0.62, inner_bottom + lower * 0.7),
        (0, bottom + lower),
    )
    layers.add(smooth(lips), s.lip)
    line = points(
        (-half, corner), (-half / 2, inner_top), (0, top), (half / 2, inner_top), (half, corner)
    )
    layers.add(ribbon(line, 0.8), choose(s.has["Wearing_Lipstick"], s.lip * 0.45, s.skin * 0.42))
    inside = mirrored(
        (0, top),
        (half * 0.5, inner_top),
        (half * 0.85, corner),
        (half * 0.5, inner_bottom),
        (0, bottom),
    )
    layers.add(smooth(inside), np.array([78.0, 18, 24]), s.has["Mouth_Slightly_Open"])
    teeth = mirrored(
        (0, top),
        (half * 0.5, inner_top),
        (half * 0.72, corner),
        (half * 0.45, inner_top + 1.2),
        (0, top + 1.4),
    )
    layers.add(smooth(teeth), _WHITE, s.has["Mouth_Slightly_Open"])
