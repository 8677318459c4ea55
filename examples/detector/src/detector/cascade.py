"""MTCNN: three networks, each of which looks closer at what the one before it took for a face.

The first slides a window of 12 pixels over the picture in several sizes; the second and the third
look at single squares cut out of it (https://arxiv.org/abs/1604.02878). Each is given those of all
pictures of a batch at once. All take pixels as [left to right, top to bottom, colour].
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

from detector.boxes import shifted, squared, suppressed

SIDE = 480
"""Pixels of the square that is looked at."""
WINDOW, STRIDE = 12, 2
"""Pixels of what the first network takes for one face, and from one window to the next."""
SMALLEST = 30
"""Pixels of the smallest face that is found, in the square."""
SHRINK = 0.709
"""Half the area from one size of the picture to the next."""
LIKELY = (0.6, 0.7)
"""How sure the first two networks must be, so that the next one looks at it."""
AT_ONCE = 128
"""Squares that a network looks at together; more would only take memory."""


@dataclass(frozen=True, slots=True)
class Looked:
    """A picture as the networks look at it."""

    square: Image.Image
    sizes: list[np.ndarray]
    """The whole square in smaller and smaller ones."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """What may be faces in a picture."""

    corners: np.ndarray
    """In pixels of its square: [faces, 4]."""
    scores: np.ndarray


class Cascade:
    """The three networks, from the folder that has their files."""

    def __init__(self, folder: Path) -> None:
        self._first, self._second, self._third = (
            _Network(folder / f"{name}.onnx") for name in ("pnet", "rnet", "onet")
        )

    def __call__(self, pictures: Sequence[Looked]) -> list[Candidates]:
        """What the third network says of the squares that the others took for faces."""
        squares = self._proposed(pictures)
        judged = self._judged(self._second, 24, pictures, squares)
        likely = [_one_each(found, LIKELY[1], 0.7) for found in judged]
        squares = [squared(found.corners) for found in likely]
        return self._judged(self._third, 48, pictures, squares)

    def _proposed(self, pictures: Sequence[Looked]) -> list[np.ndarray]:
        found: list[list[Candidates]] = [[] for _ in pictures]
        for size in zip(*(picture.sizes for picture in pictures), strict=True):
            batch = np.stack(size)
            scale = SIDE / batch.shape[1]
            for i, (shifts, scores) in enumerate(zip(*self._first(batch), strict=True)):
                places = np.argwhere(scores > LIKELY[0])
                low = places * STRIDE
                windows = np.hstack([low, low + WINDOW]) * scale
                sure = scores[tuple(places.T)]
                kept = suppressed(windows, sure, 0.5)
                moved = shifted(windows[kept], shifts[tuple(places[kept].T)])
                found[i].append(Candidates(moved, sure[kept]))
        return [squared(_one_each(_together(each), LIKELY[0], 0.7).corners) for each in found]

    def _judged(
        self,
        network: "_Network",
        side: int,
        pictures: Sequence[Looked],
        squares: list[np.ndarray],
    ) -> list[Candidates]:
        cut = [
            crop
            for picture, corners in zip(pictures, squares, strict=True)
            for crop in crops(picture.square, corners, side)
        ]
        said = [network(np.stack(cut[i : i + AT_ONCE])) for i in range(0, len(cut), AT_ONCE)]
        shifts = np.concatenate([np.empty((0, 4)), *(one[0] for one in said)])
        scores = np.concatenate([np.empty(0), *(one[1] for one in said)])
        ends = np.cumsum([len(corners) for corners in squares])[:-1]
        return [
            Candidates(shifted(*both), sure)
            for *both, sure in zip(
                squares, np.split(shifts, ends), np.split(scores, ends), strict=True
            )
        ]


class _Network:
    """Gives for each window how far its edges are from the face's, and how sure it is of one."""

    def __init__(self, file: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # as many as the replica reserves
        self._session = onnxruntime.InferenceSession(file, options)
        self._input = self._session.get_inputs()[0].name

    def __call__(self, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        shifts, *_landmarks, scores = self._session.run(None, {self._input: windows})
        return shifts, scores[..., 1]


def looked(square: Image.Image) -> Looked:
    """A square picture of `SIDE` pixels, in every size that the first network slides over."""
    side, sizes = SIDE * WINDOW / SMALLEST, []
    while side >= WINDOW:
        sizes.append(_pixels(square.resize((round(side), round(side)))))
        side *= SHRINK
    return Looked(square, sizes)


def crops(square: Image.Image, corners: np.ndarray, side: int) -> Iterator[np.ndarray]:
    """Squares cut out, black where they reach over the edge, all of one size."""
    for left, top, right, bottom in corners.round().astype(int).tolist():
        cut = square.crop((left, top, max(right, left + 1), max(bottom, top + 1)))
        yield _pixels(cut.resize((side, side)))


def _pixels(image: Image.Image) -> np.ndarray:
    return ((np.asarray(image, np.float32) - 127.5) / 128).transpose(1, 0, 2)


def _together(found: Sequence[Candidates]) -> Candidates:
    return Candidates(
        np.concatenate([one.corners for one in found]),
        np.concatenate([one.scores for one in found]),
    )


def _one_each(found: Candidates, least: float, overlap: float) -> Candidates:
    sure = found.scores > least
    corners, scores = found.corners[sure], found.scores[sure]
    kept = suppressed(corners, scores, overlap)
    return Candidates(corners[kept], scores[kept])
