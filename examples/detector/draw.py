"""Draw the boxes that the pipeline finds: python draw.py PICTURE DRAWN."""

import sys
from pathlib import Path

from detector.pipeline import Detector
from PIL import Image, ImageDraw

from wheelway.local import run

picture, drawn = sys.argv[1:]
image = Image.open(picture).convert("RGB")
pen = ImageDraw.Draw(image)
for face in run(Detector, Path(picture).read_bytes())["faces"]:
    x, y = face["x"], face["y"]
    pen.rectangle((x, y, x + face["width"], y + face["height"]), outline=(255, 196, 0), width=3)
    pen.text((x, y - 16), f"{face['score']:.2f}", fill=(255, 196, 0), font_size=14)
image.save(drawn, quality=85)
