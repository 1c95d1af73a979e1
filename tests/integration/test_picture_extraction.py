"""What is made of pictures for models, each in a process of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Callable

import pytest
from colloquy_server.files import filetypes
from colloquy_server.files.extraction import Extractor, Pictures, Unreadable
from PIL import Image, ImageStat

from tests.fakes import pictures, samples
from tests.fakes.pictures import LEFT, RIGHT, opened


async def seen(data: bytes) -> Pictures:
    """What models are given of a picture."""
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        kind = filetypes.decide(data[: filetypes.HEAD], "file", "")
        assert kind in filetypes.SCALABLE
        return await Extractor().pictures("a", file, kind)


async def shown(data: bytes) -> Image.Image:
    """The picture that a model is given of one."""
    (picture,) = (await seen(data)).pictures
    image = opened(picture.data)
    assert image.size == (picture.width, picture.height)
    return image


def is_like(pixel: object, wanted: tuple[int, int, int]) -> bool:
    assert isinstance(pixel, tuple)
    return all(abs(one - other) < 40 for one, other in zip(pixel, wanted, strict=True))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize(
    ("turn", "top"), [(6, LEFT), (8, RIGHT), (5, LEFT), (7, RIGHT)], ids=lambda value: str(value)
)
async def test_a_photo_is_upright_and_tells_nothing_of_who_made_it_where(
    kind: str, turn: int, top: tuple[int, int, int]
) -> None:
    data = pictures.phone_photo(kind, turn)
    image = await shown(data)
    assert image.size == (32, 64)
    assert is_like(image.convert("RGB").getpixel((16, 8)), top)
    (made,) = (await seen(data)).pictures
    assert b"artist" in data
    assert b"artist" not in made.data
    assert not image.getexif()
    assert set(image.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}


async def test_a_picture_of_an_iphone_is_read_upright() -> None:
    image = await shown(pictures.heic())
    assert image.size == (32, 64)
    assert is_like(image.getpixel((16, 8)), LEFT)
    other = pictures.heic().replace(b"ftypheic", b"ftypheix")
    assert (await shown(other)).size == (32, 64)


async def test_what_is_damaged_beside_a_picture_does_not_spoil_it() -> None:
    data = pictures.saved(pictures.halves(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff garbage")
    assert (await shown(data)).size == (64, 32)
    data = pictures.saved(pictures.halves(), "JPEG", exif=b"Exif\0\0garbage")
    assert (await shown(data)).size == (64, 32)


async def test_what_printers_write_has_the_colours_of_a_screen() -> None:
    image = await shown(pictures.cmyk())
    assert image.mode == "RGB"
    assert is_like(image.getpixel((8, 16)), (0, 255, 255)) or is_like(
        image.getpixel((8, 16)), (0, 174, 239)
    )
    assert is_like(image.getpixel((56, 16)), (255, 255, 255))


async def test_colours_are_those_of_the_pictures_profile() -> None:
    image = await shown(pictures.exchanged())
    assert is_like(image.getpixel((8, 16)), RIGHT)
    assert "icc_profile" not in image.info
    assert is_like((await shown(pictures.bad_profile())).getpixel((8, 16)), LEFT)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(pictures.grey16("PNG"), id="png"),
        pytest.param(pictures.grey16("TIFF"), id="tiff"),
        pytest.param(pictures.grey16("TIFF", top=4_095), id="12 bits"),
        pytest.param(pictures.floats(), id="floats"),
    ],
)
async def test_grey_of_more_than_8_bits_is_no_white(data: bytes) -> None:
    image = (await shown(data)).convert("L")
    assert image.getextrema() == (0, 255)
    assert abs(ImageStat.Stat(image).mean[0] - 127) < 2


async def test_every_page_of_a_scan_is_given_within_reason() -> None:
    for data in (pictures.scan(3), pictures.fax(3)):
        found = await seen(data)
        assert [each.number for each in found.pictures] == [1, 2, 3]
        assert found.first(3) == ()
    found = await seen(pictures.scan(12))
    assert [opened(each.data).getpixel((5, 5)) for each in found.pictures] == [
        250 - 10 * page for page in range(10)
    ]
    assert found.first(10) == ("given: pages 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 of 12 pages",)
    assert found.first(1) == ("given: page 1 of 12 pages",)


async def test_a_preview_in_a_scan_is_no_page() -> None:
    found = await seen(pictures.scan_with_preview())
    assert [(each.width, each.number) for each in found.pictures] == [(32, 1), (32, 2)]


async def test_a_damaged_page_takes_none_before_it_along() -> None:
    data = pictures.scan(3)
    found = await seen(data[: len(data) * 4 // 5])
    assert 0 < len(found.pictures) < 3
    assert any("damaged" in note for note in found.notes) or found.count < 3


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
async def test_an_animation_is_given_in_frames_evenly_spaced(kind: str) -> None:
    found = await seen(pictures.film(kind, ["red", "blue", "lime"]))
    colors = [opened(each.data).convert("RGB").getpixel((5, 5)) for each in found.pictures]
    assert all(map(is_like, colors, [(255, 0, 0), (0, 0, 255), (0, 255, 0)]))
    assert len(colors) == 3
    assert found.first(3) == ()
    long = await seen(pictures.film(kind, [(number * 5, 0, 0) for number in range(51)]))
    assert [each.number for each in long.pictures] == [1, 11, 21, 31, 41, 51]
    assert long.first(6) == ("given: frames 1, 11, 21, 31, 41, 51 of 51 frames",)


@pytest.mark.parametrize(
    ("make", "size", "made"),
    [
        pytest.param(pictures.large_jpeg, (16_320, 12_240), (2_048, 1_536), id="200 megapixels"),
        pytest.param(pictures.large_jpeg, (30_000, 4_000), (2_048, 273), id="panorama"),
        pytest.param(pictures.large_png, (12_000, 9_000), (2_048, 1_536), id="108 in PNG"),
    ],
)
async def test_a_very_large_picture_is_scaled(
    make: Callable[[int, int], bytes], size: tuple[int, int], made: tuple[int, int]
) -> None:
    found = await seen(make(*size))
    (picture,) = found.pictures
    assert (picture.width, picture.height) == made
    small = opened(picture.data).convert("RGB")
    left, right = (small.getpixel((made[0] * part // 4, 10)) for part in (1, 3))
    is_jpeg = make is pictures.large_jpeg
    assert is_like(left, (0, 0, 0) if is_jpeg else LEFT)
    assert is_like(right, (255, 255, 255) if is_jpeg else RIGHT)
    assert found.notes == (
        f"scaled from {size[0]:,} by {size[1]:,} pixels to a long side of 2,048",
    )


@pytest.mark.parametrize("image", [
    Image.new("P", (9_000, 3_000), 3), Image.new("1", (9_000, 3_000), 1),
    Image.new("RGBA", (9_000, 3_000), (1, 2, 3, 100)), Image.new("LA", (90, 30), (1, 2)),
    Image.new("RGB", (5, 1), "red"), Image.new("L", (20_000, 1), 7),
], ids=lambda image: f"{image.mode} {image.size}")  # fmt: skip
async def test_pictures_of_all_modes_are_made_into_what_models_take(image: Image.Image) -> None:
    (picture,) = (await seen(pictures.saved(image, "PNG"))).pictures
    made = opened(picture.data)
    assert made.mode in ("L", "RGB")
    assert max(made.size) == min(2_048, max(image.size))
    seen_on_paper = Image.new("RGBA", (1, 1), "white")
    seen_on_paper.alpha_composite(image.convert("RGBA").crop((0, 0, 1, 1)))
    wanted, pixel = (each.convert("RGB").getpixel((0, 0)) for each in (seen_on_paper, made))
    assert isinstance(wanted, tuple)
    assert isinstance(pixel, tuple)
    assert all(abs(one - other) < 4 for one, other in zip(pixel, wanted, strict=True))


async def test_a_picture_that_is_too_large_is_refused() -> None:
    with pytest.raises(Unreadable, match="60,000 by 60,000 pixels, and 120,000,000 in all"):
        await seen(samples.png(60_000, 60_000))
