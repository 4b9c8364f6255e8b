"""A small RGB picture as PNG, without a library for pictures."""

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

SIGNATURE = b"\x89PNG\r\n\x1a\n"
BY_THE_ROW_ABOVE = 2
"""The PNG filter "up": each byte less the one above it."""


def png(picture: NDArray[np.uint8]) -> bytes:
    """Encodes RGB [H, W, 3] (PNG, third edition, W3C 2025: 8 bits, colour type 2)."""
    height, width = picture.shape[:2]
    rows = np.empty((height, 1 + 3 * width), np.uint8)
    rows[:, 0] = BY_THE_ROW_ABOVE
    plain = picture.reshape(height, 3 * width)
    rows[:, 1:] = np.diff(plain, axis=0, prepend=np.zeros((1, 3 * width), np.uint8))
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(rows.tobytes(), 1)
    return SIGNATURE + _chunk(b"IHDR", head) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
