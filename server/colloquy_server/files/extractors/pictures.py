"""Pictures as models take them: upright, in sRGB, small enough, and with nothing beside the pixels:
a phone writes into a photo where and when it was made."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, BinaryIO, Self

from colloquy_server.files.extractors.results import READING_SECONDS, Problem

LONG_SIDE = 2_048
"""Pixels. OpenAI scales pictures down into a square of this side, Anthropic into a smaller one."""

MAX_PICTURE = 1_200_000
"""Bytes of a picture as it is sent: the ten that a message may have fit in one request."""

MAX_PAGE = 400_000
"""Bytes of a picture of which the file has several."""

MAX_PAGES = 10
"""Pages of a scan that are given."""

MAX_FRAMES = 6
"""Frames of an animation that are given, evenly spaced: more show the same again."""

MAX_PICTURES = max(MAX_PICTURE, MAX_PAGES * MAX_PAGE) + (64 << 10)
"""Bytes of all that is made of a file, with what is said of it."""

MAX_PIXELS = 120_000_000
"""Of a picture: decoded it takes 480 MB."""

MAX_JPEG_PIXELS = 250_000_000
"""JPEG is decoded at a part of its size: phones make pictures of 200 megapixels in it."""

_NOTED_SCALE = 4
"""From this scale on small print is lost, and the picture's size is told."""

_BAND = 4_000_000
"""Pixels that are converted at a time: a copy of a large picture would not fit in memory."""

_LIGHT = 225
"""Mean brightness of 255, from which on something cannot be told from white paper."""

_SEEN = 128
"""Opacity of 255, from which on a part counts as seen."""

_ORIENTATION = 0x0112
_SUBFILE_TYPE = 0x00FE
_IS_PREVIEW = 1

_ANIMATED = {"GIF", "PNG", "WEBP", "AVIF"}
_LOSSLESS = {"GIF", "PNG", "BMP", "TIFF"}


@dataclass(frozen=True, slots=True)
class Picture:
    """A JPEG or a PNG; `number` is its place in the file, from 1."""

    data: bytes
    width: int
    height: int
    number: int = 1

    @property
    def content_type(self) -> str:
        """Its media type."""
        return "image/png" if self.data.startswith(b"\x89PNG") else "image/jpeg"


@dataclass(frozen=True, slots=True)
class Pictures:
    """What is made of a picture: one, or one for each page or frame. The file has `count` of what
    `thing` names; `notes` say in words what else is missing."""

    pictures: tuple[Picture, ...]
    count: int = 1
    thing: str = "picture"
    notes: tuple[str, ...] = ()

    def first(self, given: int) -> tuple[str, ...]:
        """What is to be said when the first so many of them are given."""
        if given == self.count:
            return self.notes
        numbers = ", ".join(f"{each.number:,}" for each in self.pictures[:given])
        of = f"{self.count:,} {self.thing}s"
        return (f"given: {self.thing}{'s' if given > 1 else ''} {numbers} of {of}", *self.notes)

    def dump(self) -> bytes:
        """A line of JSON, and the pictures' bytes."""
        each = [(len(p.data), p.width, p.height, p.number) for p in self.pictures]
        told = {"each": each, "count": self.count, "thing": self.thing, "notes": self.notes}
        return b"\n".join((json.dumps(told).encode(), b"".join(p.data for p in self.pictures)))

    @classmethod
    def load(cls, dumped: bytes) -> Self:
        """What `dump` made. Raises ValueError when it is something else."""
        line, _, data = dumped.partition(b"\n")
        told = json.loads(line)
        pictures, at = [], 0
        for length, width, height, number in told["each"]:
            pictures.append(Picture(data[at : at + length], width, height, number))
            at += length
        return cls(tuple(pictures), told["count"], told["thing"], tuple(told["notes"]))


def size(file: BinaryIO) -> tuple[int, int]:
    """Width and height in pixels, before it is turned. Raises Problem."""
    width, height = _opened(file).size
    return width, height


def pictures(file: BinaryIO) -> Pictures:
    """What models are given of a picture. Raises Problem."""
    image = _opened(file)
    numbers, count, thing, notes = _chosen(image)
    limit = MAX_PICTURE if len(numbers) == 1 else MAX_PAGE
    made: list[Picture] = []
    for place, number in enumerate(numbers, 1):
        try:
            while image.tell() < number and time.process_time() < READING_SECONDS:
                image.seek(image.tell() + 1)
            if image.tell() < number:
                break  # each frame is drawn upon the one before
            _check(image)
            made.append(_made(image, limit, place if thing == "page" else number + 1, notes))
        except (OSError, SyntaxError, ValueError, EOFError):
            if not made:
                raise
            notes.append(f"what follows {thing} {made[-1].number} is damaged")
            break
    return Pictures(tuple(made), count, thing, tuple(dict.fromkeys(notes)))


def _opened(file: BinaryIO) -> Any:
    """The picture, of which only the header was read. Raises Problem when it is too large."""
    from PIL import Image

    if file.read(12)[4:8] == b"ftyp":
        import pi_heif

        pi_heif.register_heif_opener(thumbnails=False)
    file.seek(0)
    Image.MAX_IMAGE_PIXELS = None  # ours is checked before anything is decoded
    formats = ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "HEIF"]
    image = Image.open(file, formats=formats)
    _check(image)
    return image


def _check(image: Any) -> None:
    width, height = image.size
    limit = MAX_JPEG_PIXELS if image.format in ("JPEG", "MPO") else MAX_PIXELS
    if width * height > limit:
        raise Problem(f"it has {width:,} by {height:,} pixels, and {limit:,} in all is the most")


def _chosen(image: Any) -> tuple[Sequence[int], int, str, list[str]]:
    """Which pictures of a file are given, by their places from 0, of how many; what they are
    called, and room for what is to be said."""
    # A second picture in a JPEG is its preview or its depth, which nobody shows.
    several = 1 if image.format in ("JPEG", "MPO") else getattr(image, "n_frames", 1)
    if several == 1:
        return [0], 1, "picture", []
    if image.format == "TIFF":
        pages = list(_pages(image, several))
        return pages[:MAX_PAGES], len(pages), "page", []
    if image.format in _ANIMATED:
        some = min(several, MAX_FRAMES)
        steps = max(1, some - 1)
        return [at * (several - 1) // steps for at in range(some)], several, "frame", []
    return [image.tell()], several, "picture", []  # HEIF: the one that its maker calls the first


def _pages(image: Any, several: int) -> Iterator[int]:
    """The pages of a TIFF, without the previews between them."""
    for number in range(several):
        image.seek(number)
        if number == 0 or not image.tag_v2.get(_SUBFILE_TYPE, 0) & _IS_PREVIEW:
            yield number
    image.seek(0)


def _made(image: Any, limit: int, number: int, notes: list[str]) -> Picture:
    """One picture, as it is to be sent."""
    width, height = image.size
    image.draft(None, _twice(_fitting(width, height)))  # JPEG is decoded at a part of its size
    image.load()
    # The library turns TIFF and HEIF itself.
    turn = 1 if image.format in ("TIFF", "HEIF") else _turn(image)
    small = _upright(_in_srgb(_reduced(image), image.info.get("icc_profile")), turn)
    if max(width, height) > _NOTED_SCALE * LONG_SIDE:
        notes.append(f"scaled from {width:,} by {height:,} pixels to a long side of {LONG_SIDE:,}")
    data = _encoded(small, limit, is_lossless=image.format in _LOSSLESS)
    return Picture(data, small.width, small.height, number)


def _fitting(width: int, height: int) -> tuple[int, int]:
    scale = max(width, height, LONG_SIDE) / LONG_SIDE
    return max(1, round(width / scale)), max(1, round(height / scale))


def _twice(box: tuple[int, int]) -> tuple[int, int]:
    return box[0] * 2, box[1] * 2


def _reduced(image: Any) -> Any:
    """The picture within LONG_SIDE, in L, RGB, RGBA or CMYK; of a large one a band at a time."""
    from PIL import Image

    width, height = image.size
    target = _fitting(width, height)
    # Half of the way by means of whole pixels, which is fast; what is left by a good filter.
    factor = max(1, min(width // (2 * target[0]), height // (2 * target[1])))
    convert = _converter(image)
    if factor == 1:
        return convert(image).resize(target, Image.Resampling.LANCZOS)
    rows = max(1, _BAND // width // factor) * factor
    whole = None
    for top in range(0, height, rows):
        band = convert(image.crop((0, top, width, min(height, top + rows)))).reduce(factor)
        if whole is None:
            whole = Image.new(band.mode, (band.width, -(-height // factor)))
        whole.paste(band, (0, top // factor))
    assert whole is not None  # a picture has a row
    return whole.resize(target, Image.Resampling.LANCZOS)


def _converter(image: Any) -> Any:
    """A function that gives a picture like this one, or a band of it, 8 bits and colours of its
    own instead of a palette."""
    mode = image.mode
    if mode in ("I", "F") or mode.startswith("I;"):
        return _leveller(image)
    if mode in ("L", "RGB", "CMYK") and "transparency" not in image.info:
        return lambda band: band
    if mode == "LAB":
        return _from_lab
    is_clear = mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info
    to = "RGBA" if is_clear else "L" if mode == "1" else "RGB"
    return lambda band: band.convert(to)


def _leveller(image: Any) -> Any:
    """For grey of more than 8 bits. Whole numbers keep their highest bits: cameras of 12 bits write
    them into 16; others are spread from the darkest to the brightest."""
    low, high = image.getextrema()
    if image.mode == "F":
        low, high = (0, 1) if 0 <= low <= high <= 1 else (low, high)
    elif low >= 0:
        low, high = 0, (1 << max(8, int(high).bit_length())) - 1
    scale = 255 / (high - low) if high > low else 0
    offset = -low * scale

    def level(band: Any) -> Any:
        if band.mode.startswith("I"):
            band = band.convert("I")
        return band.convert("F").point(lambda value: value * scale + offset).convert("L")

    return level


def _from_lab(band: Any) -> Any:
    from PIL import ImageCms

    lab = ImageCms.createProfile("LAB")
    return ImageCms.profileToProfile(band, lab, ImageCms.createProfile("sRGB"), outputMode="RGB")


def _in_srgb(image: Any, profile: bytes | None) -> Any:
    """The picture in the colours that everybody shows, by its profile if it has one."""
    from PIL import ImageCms

    if profile and image.mode in ("RGB", "RGBA", "CMYK"):
        try:
            converted: Any = ImageCms.profileToProfile(
                image.convert("RGB") if image.mode == "RGBA" else image,
                ImageCms.ImageCmsProfile(BytesIO(profile)),
                ImageCms.createProfile("sRGB"),
                outputMode="RGB",
            )
        except (ImageCms.PyCMSError, OSError):
            pass  # a profile of other colours, or a damaged one
        else:
            if image.mode == "RGBA":
                converted.putalpha(image.getchannel("A"))
            return converted
    return image.convert("RGB") if image.mode == "CMYK" else image


def _turn(image: Any) -> int:
    """How it is to be turned, as EXIF counts it; 1 is not at all."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except (SyntaxError, ValueError, TypeError, OSError, struct.error):
        return 1  # what is said of the picture is damaged, and not the picture


def _upright(image: Any, turn: int) -> Any:
    from PIL.Image import Transpose

    turns = (Transpose.FLIP_LEFT_RIGHT, Transpose.ROTATE_180, Transpose.FLIP_TOP_BOTTOM,
             Transpose.TRANSPOSE, Transpose.ROTATE_270, Transpose.TRANSVERSE,
             Transpose.ROTATE_90)  # fmt: skip
    return image.transpose(turns[turn - 2]) if 2 <= turn <= 8 else image


def _on_paper(image: Any) -> Any:
    """A picture with clear parts as it is seen on paper: some models drop what says that a part is
    clear, and see the colour beneath it. The paper is white, or dark for what is nearly white."""
    from PIL import Image, ImageStat

    clear = image.getchannel("A")
    mean = ImageStat.Stat(image.convert("L"), clear.point(lambda value: 255 * (value >= _SEEN)))
    is_light = mean.count[0] > 0 and mean.mean[0] > _LIGHT
    is_clear = clear.getextrema()[0] < _SEEN
    paper = Image.new("RGB", image.size, "#303030" if is_light and is_clear else "white")
    paper.paste(image, mask=clear)
    return paper


def _encoded(image: Any, limit: int, *, is_lossless: bool) -> bytes:
    """The pixels alone, as PNG or JPEG of at most so many bytes."""
    from PIL import Image

    if image.mode == "RGBA":
        pixels = _on_paper(image)
    else:
        pixels = Image.new("L" if image.mode == "L" else "RGB", image.size)
        pixels.paste(image)  # what a library keeps beside them does not come along
    if is_lossless:
        out = BytesIO()
        pixels.save(out, "PNG")
        if out.tell() <= limit:
            return out.getvalue()
    while True:
        for quality in (88, 70, 40):
            out = BytesIO()
            pixels.save(out, "JPEG", quality=quality)
            if out.tell() <= limit:
                return out.getvalue()
        pixels.thumbnail((pixels.width // 2, pixels.height // 2))
