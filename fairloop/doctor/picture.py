"""A drawn face of nobody: the test image of `fairloop doctor`."""

from __future__ import annotations

import io

from PIL import Image, ImageDraw, ImageFilter

SIDE = 256


def drawn_face(side: int = SIDE) -> bytes:
    """PNG of a face that a face detector finds, so that every stage behind it runs, too."""
    image = Image.new("RGB", (side, side), (120, 130, 140))
    draw = ImageDraw.Draw(image)
    unit = side / SIDE

    def ellipse(x: float, y: float, wide: float, high: float, colour: tuple[int, int, int]) -> None:
        box = (x - wide, y - high, x + wide, y + high)
        draw.ellipse([edge * unit for edge in box], fill=colour)

    def line(*points: float, colour: tuple[int, int, int], width: float) -> None:
        draw.line([value * unit for value in points], fill=colour, width=max(1, round(width * unit)))

    ellipse(128, 120, 72, 98, (60, 45, 40))  # hair
    ellipse(128, 132, 60, 80, (214, 172, 146))  # face
    for x in (103, 153):
        ellipse(x, 116, 14, 8, (150, 110, 95))  # lids, white, iris
        ellipse(x, 117, 11, 5, (235, 230, 225))
        ellipse(x, 117, 5, 5, (50, 35, 30))
        line(x - 15, 102, x, 97, x + 15, 102, colour=(70, 50, 40), width=5)
    draw.polygon([v * unit for v in (128, 118, 118, 152, 138, 152)], fill=(196, 150, 125))
    for x in (121, 135):
        ellipse(x, 152, 5, 3, (120, 80, 70))  # nostrils
    ellipse(128, 178, 22, 7, (165, 85, 85))
    line(106, 178, 150, 178, colour=(100, 50, 50), width=2)
    sink = io.BytesIO()
    image.filter(ImageFilter.GaussianBlur(2 * unit)).save(sink, "PNG")
    return sink.getvalue()
