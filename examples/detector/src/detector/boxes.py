"""Boxes of what a CenterFace network says, and those of them that are one box for each face.

The network looks at every fourth pixel. For each it says how much that is a face's centre, by how
much the true centre is off, and the logarithm of the face's size:
https://github.com/Star-Clouds/CenterFace.
"""

import numpy as np

STRIDE = 4


def boxes(
    heat: np.ndarray, sizes: np.ndarray, offsets: np.ndarray, threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """Corners (left, top, right, bottom) in pixels of the network's input, and scores.

    Args:
        heat: how much each place is a centre, of shape [rows, columns].
        sizes: logarithms of heights and widths, of shape [2, rows, columns].
        offsets: of the centres, down and right, of the same shape.
        threshold: places of less are none.
    """
    rows, columns = np.nonzero(heat > threshold)
    heights, widths = np.exp(sizes[:, rows, columns]) * STRIDE
    down, right = offsets[:, rows, columns]
    y, x = (rows + down + 0.5) * STRIDE, (columns + right + 0.5) * STRIDE
    corners = np.stack([x - widths / 2, y - heights / 2, x + widths / 2, y + heights / 2], axis=1)
    return corners, heat[rows, columns]


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
        left = left[shared / (areas[best] + areas[left] - shared) <= overlap]
    return kept
