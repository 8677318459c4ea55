"""What the detector promises, without a server; needs ONNX Runtime and the networks' package."""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from detector.boxes import shifted, squared, suppressed
from detector.pipeline import Detector
from PIL import Image

from wheelway import Refused
from wheelway.local import Loaded, loaded

ASTRONAUT = Path(__file__).parents[1] / "src/detector/astronaut.jpg"


@pytest.fixture(scope="module")
def detector() -> Iterator[Loaded]:
    with loaded(Detector) as pipeline:
        yield pipeline


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    file = BytesIO()
    image.save(file, kind)
    return file.getvalue()


def near(face: dict[str, float], x: float, y: float, side: float) -> bool:
    """Whether a face's centre is there, within a part of its size."""
    across, down = face["x"] + face["width"] / 2, face["y"] + face["height"] / 2
    return abs(across - x) < side and abs(down - y) < side


def test_a_face_gets_one_box_around_it(detector: Loaded) -> None:
    answer = detector(ASTRONAUT.read_bytes())
    assert (answer["width"], answer["height"]) == (512, 512)
    [face] = answer["faces"]
    assert near(face, 222, 116, 20)
    assert 60 < face["width"] < 130
    assert face["score"] > 0.7


def test_faces_of_several_sizes_are_found_where_they_are(detector: Loaded) -> None:
    face = Image.open(ASTRONAUT)
    crowd = Image.new("RGB", (1000, 700), "white")
    crowd.paste(face, (0, 100))
    crowd.paste(face.resize((384, 384)), (600, 20))
    faces = detector(encoded(crowd))["faces"]
    assert len(faces) == 2
    assert any(near(face, 222, 216, 30) for face in faces)
    assert any(near(face, 766, 107, 30) for face in faces)


def test_a_picture_without_a_face_has_no_box(detector: Loaded) -> None:
    assert detector(encoded(Image.new("L", (50, 3000), 128)))["faces"] == []


@pytest.mark.parametrize(
    "body", [b"", b"no picture", ASTRONAUT.read_bytes()[:5000], b"\x89PNG\r\n\x1a\n"]
)
def test_what_is_no_picture_is_the_callers_mistake(body: bytes, detector: Loaded) -> None:
    with pytest.raises(Refused) as refusal:
        detector(body)
    assert (refusal.value.status, refusal.value.reason) == (422, "PictureUndecodable")


def test_a_picture_that_would_fill_the_memory_is_refused_before_it_is_decoded(
    detector: Loaded,
) -> None:
    with pytest.raises(Refused) as refusal:
        detector(encoded(Image.new("1", (10_000, 10_000))))
    assert refusal.value.reason == "PictureTooLarge"


def test_a_batch_says_of_each_picture_what_it_says_of_it_alone() -> None:
    pipeline = Detector()
    pipeline.load(SimpleNamespace(settings={}))
    astronaut = Image.open(ASTRONAUT)
    bodies = [encoded(one) for one in (astronaut, astronaut.rotate(90), astronaut.resize((99, 99)))]
    pictures = [pipeline.pre_process(body) for body in bodies]
    together = [pipeline.post_process(one) for one in pipeline.infer_batch(pictures)]
    alone = [pipeline.post_process(pipeline.infer_batch([one])[0]) for one in pictures]
    assert [len(one.faces) for one in together] == [len(one.faces) for one in alone]
    assert together[0].faces[0].x == pytest.approx(alone[0].faces[0].x, abs=1)


def test_of_boxes_that_share_too_much_the_surest_is_kept() -> None:
    corners = np.array([[0, 0, 10, 10], [1, 1, 11, 11], [20, 0, 30, 10], [0, 0, 10, 4]], float)
    scores = np.array([0.8, 0.9, 0.7, 0.6])
    assert suppressed(corners, scores, 0.3) == [1, 2, 3]
    assert suppressed(corners, scores, 0.9) == [1, 0, 2, 3]
    assert suppressed(corners[:0], scores[:0], 0.3) == []


def test_a_box_is_moved_by_shares_of_its_size_and_squared_around_its_centre() -> None:
    corners = np.array([[0, 0, 10, 20]], float)
    assert shifted(corners, np.array([[0.1, 0, 0, -0.5]])).tolist() == [[1, 0, 10, 10]]
    assert squared(corners).tolist() == [[-5, 0, 15, 20]]


def test_a_face_at_the_edge_is_found_as_far_as_it_is_there(detector: Loaded) -> None:
    answer = detector(encoded(Image.open(ASTRONAUT).crop((190, 0, 512, 512))))
    [face] = answer["faces"]
    assert near(face, 33, 116, 20)
    assert face["x"] >= 0


def test_a_threshold_that_makes_no_sense_is_refused(detector: Loaded) -> None:
    assert "threshold" in detector.reconfigure({"threshold": 2})
