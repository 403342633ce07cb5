"""UTF-8 that arrives in pieces."""

from __future__ import annotations


def decode_text(data: bytes) -> str:
    """Returns the text. Bytes that are not UTF-8 become U+FFFD."""
    return data.decode("utf-8", errors="replace")


def unfinished(data: bytes) -> int:
    """Returns the number of bytes at the end that begin a character without completing it."""
    for back in range(1, min(3, len(data)) + 1):
        byte = data[-back]
        if byte < 0x80:
            return 0
        if byte >= 0xC0:
            length = 4 if byte >= 0xF0 else 3 if byte >= 0xE0 else 2
            return back if length > back else 0
    return 0
