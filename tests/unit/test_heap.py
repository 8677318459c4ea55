"""A daemon's memory goes back to the system when it is free."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.unit,
    pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc's memory"),
]

PROGRAM = """
from controller.daemon import heap

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 // 2**20

{first}
block = bytearray(20 * 2**20)  # what glibc sees freed so large it keeps on its heap from then on
del block
before = resident()
large, small = [], []
for _ in range(20):
    large.append(b"x" * (2 * 2**20))
    small.append(bytearray(4096))
del large
{last}
print(resident() - before)
"""


def kept(first="pass", last="pass"):
    """Of forty mebibytes that are free between small blocks, those that stay resident."""
    program = PROGRAM.format(first=first, last=last)
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=root
    )
    return int(done.stdout)


def test_large_blocks_go_back_as_soon_as_they_are_free():
    assert kept() > 20
    assert kept(first="heap.return_large()") < 5
