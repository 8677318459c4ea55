"""Bodies that a client compressed: what comes out of them, and what work they are worth."""

import gzip
import os
import zlib

import pytest

from wheelway import content

pytestmark = pytest.mark.unit

TEXT = b"what a client says " * 10_000


class Counted:
    """A decompressor that counts the bytes that are handed to it, and handed back."""

    def __init__(self, real, moved):
        self._real, self._moved = real, moved

    def decompress(self, data, most):
        self._moved.append(len(data))
        made = self._real.decompress(data, most)
        self._moved.append(len(self._real.unused_data))
        return made

    def __getattr__(self, name):
        return getattr(self._real, name)


@pytest.fixture
def moved(monkeypatch):
    real, moved = zlib.decompressobj, []
    monkeypatch.setattr(content.zlib, "decompressobj", lambda bits: Counted(real(bits), moved))
    return moved


def test_a_body_of_many_parts_costs_no_more_than_in_proportion_to_its_length(moved):
    payload = os.urandom(1 << 20)
    body = gzip.compress(b"") * 1000 + gzip.compress(payload, 0)

    assert content.decoded(body, b"gzip", 2 << 20) == payload
    assert sum(moved) < 3 * len(body) + 1000 * (16 << 10)


@pytest.mark.parametrize("size", [0, 1, (4 << 10) - 20, 4 << 10, 64 << 10, 1 << 20])
def test_parts_of_any_length_are_joined(size):
    parts = [os.urandom(size) for _ in range(3)]

    assert content.decoded(b"".join(map(gzip.compress, parts)), b"gzip", 4 << 20) == b"".join(parts)


def test_a_body_is_as_long_as_allowed_and_no_longer():
    for body, coding in ((gzip.compress(TEXT), b"gzip"), (zlib.compress(TEXT), b"deflate")):
        assert content.decoded(body, coding, len(TEXT)) == TEXT
        assert content.decoded(body, coding, len(TEXT) - 1) is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"plain",
        gzip.compress(TEXT)[:-1],
        gzip.compress(TEXT) + b"more",
        gzip.compress(TEXT) + gzip.compress(TEXT)[:30],
        gzip.compress(b"") * 2000,
    ],
)
def test_what_is_broken_or_in_too_many_parts_is_refused(body):
    with pytest.raises(ValueError, match=r"."):
        content.decoded(body, b"gzip", 4 << 20)
