"""Boxes as corners (left, top, right, bottom), one a row, and which of them are one box."""

import numpy as np


def suppressed(corners: np.ndarray, scores: np.ndarray, overlap: float) -> list[int]:
    """Non-maximum suppression: indices of the boxes to keep, the surest first.

    A box goes when it shares more than `overlap` of the area with one that is kept (intersection
    over union).
    """
    areas = np.prod(corners[:, 2:] - corners[:, :2], axis=1)
    left = np.argsort(-scores, kind="stable")
    kept = []
    while left.size:
        best, left = left[0], left[1:]
        kept.append(int(best))
        low = np.maximum(corners[best, :2], corners[left, :2])
        high = np.minimum(corners[best, 2:], corners[left, 2:])
        shared = np.prod(np.clip(high - low, 0, None), axis=1)
        left = left[shared <= overlap * (areas[best] + areas[left] - shared)]
    return kept


def shifted(corners: np.ndarray, by: np.ndarray) -> np.ndarray:
    """With each edge moved by a share of the box's width or height."""
    sizes = corners[:, 2:] - corners[:, :2]
    return corners + by * np.tile(sizes, 2)


def squared(corners: np.ndarray) -> np.ndarray:
    """The squares around the same centres that hold the longer side."""
    centres = (corners[:, :2] + corners[:, 2:]) / 2
    half = (corners[:, 2:] - corners[:, :2]).max(axis=1, keepdims=True) / 2
    return np.hstack([centres - half, centres + half])
