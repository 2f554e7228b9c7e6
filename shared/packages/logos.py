"""The picture that a package may bring: `logo.png` beside `plugin.py`."""

import struct
from collections.abc import Iterator, Mapping

from shared.errors import FieldError

LOGO_NAME = "logo.png"
LOGO_MEDIA_TYPE = "image/png"
MAX_LOGO_BYTES = 256 * 1024
MAX_LOGO_PIXELS = 2048
"""In either direction. A few bytes may say that they are a picture which fills a browser's memory."""

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER = struct.Struct(">8sI4sII")


def logo_problems(files: Mapping[str, bytes]) -> Iterator[FieldError]:
    """What is wrong with the logo of a package; nothing when it has none."""
    content = files.get(LOGO_NAME)
    if content is None:
        return
    if len(content) > MAX_LOGO_BYTES:
        yield FieldError(LOGO_NAME, "too_large", f"{LOGO_NAME} is larger than {MAX_LOGO_BYTES // 1024} KiB")
    if len(content) < _HEADER.size:
        yield FieldError(LOGO_NAME, "not_a_png", f"{LOGO_NAME} is no PNG picture")
        return
    signature, _, chunk, width, height = _HEADER.unpack_from(content)
    if signature != _SIGNATURE or chunk != b"IHDR":
        yield FieldError(LOGO_NAME, "not_a_png", f"{LOGO_NAME} is no PNG picture")
    elif not (0 < width <= MAX_LOGO_PIXELS and 0 < height <= MAX_LOGO_PIXELS):
        most = f"at most {MAX_LOGO_PIXELS} x {MAX_LOGO_PIXELS} are allowed"
        yield FieldError(LOGO_NAME, "too_large", f"{LOGO_NAME} has {width} x {height} pixels, {most}")
