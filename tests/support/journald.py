"""journald's socket: what is sent there, read by its specification.

https://systemd.io/JOURNAL_NATIVE_PROTOCOL/
"""

from __future__ import annotations

import os
import re
import socket
import struct

SIZE = 1 << 20


class Journald:
    """Takes datagrams as journald does: the bytes themselves, or a descriptor of a sealed file."""

    def __init__(self, path):
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(60)
        self.by_descriptor = False

    def receive(self):
        data, descriptors, _, _ = socket.recv_fds(self.socket, SIZE, 1)
        self.by_descriptor = bool(descriptors)
        if descriptors:
            assert data == b""
            with os.fdopen(descriptors[0], "rb") as file:
                file.seek(0)
                data = file.read()
        return parsed(data)

    def close(self):
        self.socket.close()
        self.path.unlink()


def parsed(data: bytes) -> dict[str, str]:
    """An entry of the native protocol, field by field, as its specification says."""
    found = {}
    while data:
        head, _, rest = data.partition(b"\n")
        name, equals, value = head.partition(b"=")
        if equals:
            data = rest
        else:
            (length,) = struct.unpack("<Q", rest[:8])
            value, end, data = (
                rest[8 : 8 + length],
                rest[8 + length : 9 + length],
                rest[9 + length :],
            )
            assert end == b"\n"
        assert re.fullmatch(rb"[A-Z][A-Z0-9_]{0,63}", name), name
        assert name.decode() not in found
        found[name.decode()] = value.decode("utf-8")
    return found
