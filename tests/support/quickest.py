"""Print the files of unit tests that took least in a run, as many as `BUDGET` permits.

Usage: quickest.py JUNIT_XML
"""

from __future__ import annotations

import sys
from collections import Counter
from itertools import accumulate
from xml.etree.ElementTree import parse

BUDGET = 120.0
"""Seconds of tests one after another; the workers of a run share them."""


def quickest(results: str) -> list[str]:
    """Those of a run whose results are in that file."""
    took: Counter[str] = Counter()
    for test in parse(results).iter("testcase"):
        folders, kind, module = test.attrib["classname"].split(".")[:3]
        if kind == "unit":
            took[f"{folders}/{kind}/{module}.py"] += float(test.attrib["time"])
    files = sorted(took, key=took.__getitem__)
    sums = accumulate(took[file] for file in files)
    return [file for file, so_far in zip(files, sums, strict=True) if so_far <= BUDGET]


if __name__ == "__main__":
    sys.stdout.write(" ".join(quickest(sys.argv[1])))
