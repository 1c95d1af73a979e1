"""Pictures, made small enough for models."""

from __future__ import annotations

from io import BytesIO
from typing import Any, BinaryIO

from colloquy_server.files.extractors.results import Pages, Problem

MAX_PIXELS = 50_000_000
"""Of a picture: more than any camera of a phone makes in one shot. Decoded it takes 200 MB."""

LONG_SIDE = 2_048
"""Pixels. OpenAI scales pictures down into a square of this side, Anthropic into a smaller one."""

MAX_PICTURE = 1_200_000
"""Bytes of a picture as it is sent: the ten that a message may have fit in one request."""


def open_picture(file: BinaryIO) -> Any:
    """The picture, of which only the header was read. Raises Problem when it is too large."""
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None  # ours is checked before anything is decoded
    image = Image.open(file, formats=["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "AVIF"])
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise Problem(
            f"it has {width:,} by {height:,} pixels, and {MAX_PIXELS:,} in all is the most"
        )
    return image


def size(file: BinaryIO) -> tuple[int, int]:
    """Width and height, in pixels. Raises Problem."""
    width, height = open_picture(file).size
    return width, height


def pages(file: BinaryIO) -> Pages:
    """How many pictures are in it; the first is decoded."""
    image = open_picture(file)
    image.load()
    # A second picture in a JPEG is its preview or its depth, which nobody shows.
    is_film = image.format in ("GIF", "PNG", "WEBP")
    return Pages(getattr(image, "n_frames", 1) if is_film else 1)


def picture(file: BinaryIO) -> bytes:
    """The picture, or the first of a moving one, upright and small enough for a model, as JPEG or,
    with transparency, PNG."""
    from PIL import ImageOps

    image = open_picture(file)
    image.draft("RGB", (LONG_SIDE, LONG_SIDE))
    image = ImageOps.exif_transpose(image)
    if image.mode in ("I", "I;16", "F"):  # more depth than a model sees
        image = image.convert("L")
    is_clear = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
    image = image.convert("RGBA" if is_clear else "RGB")
    image.thumbnail((LONG_SIDE, LONG_SIDE))
    if is_clear:
        out = BytesIO()
        image.save(out, "PNG")
        if out.tell() <= MAX_PICTURE:
            return out.getvalue()
        from PIL import Image

        paper = Image.new("RGB", image.size, "white")
        paper.paste(image, mask=image.getchannel("A"))
        image = paper
    while True:
        for quality in (88, 70, 40):
            out = BytesIO()
            image.save(out, "JPEG", quality=quality)
            if out.tell() <= MAX_PICTURE:
                return out.getvalue()
        image.thumbnail((image.width // 2, image.height // 2))
