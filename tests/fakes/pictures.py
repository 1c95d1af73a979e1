"""Pictures as phones, scanners, microscopes and printers make them."""

from __future__ import annotations

import base64
import io
import re
import struct
import zlib
from collections.abc import Sequence
from typing import Any

from PIL import Image, ImageCms
from PIL.TiffImagePlugin import ImageFileDirectory_v2

LEFT, RIGHT = (0, 0, 255), (255, 0, 0)
"""The colours of the halves of `halves`."""


def halves(width: int = 64, height: int = 32) -> Image.Image:
    """Blue at the left, red at the right."""
    image = Image.new("RGB", (width, height), RIGHT)
    image.paste(LEFT, (0, 0, width // 2, height))
    return image


def saved(image: Image.Image, kind: str, **how: Any) -> bytes:
    """A picture as a file."""
    file = io.BytesIO()
    image.save(file, kind, **how)
    return file.getvalue()


def opened(data: bytes) -> Image.Image:
    """A file as a picture."""
    return Image.open(io.BytesIO(data))


def phone_photo(kind: str = "JPEG", turn: int = 6) -> bytes:
    """A photo that is to be turned, with where it was made, by whom and a remark."""
    exif = Image.Exif()
    exif[0x0112] = turn
    exif[0x013B] = "An artist"
    exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 31.0, 12.0), 3: "E", 4: (13.0, 24.0, 18.0)})
    more: dict[str, Any] = {"comment": b"An artist"} if kind == "JPEG" else {}
    return saved(halves(), kind, exif=exif, **more)


def cmyk() -> bytes:
    """A JPEG as printers want it: cyan and white."""
    image = Image.new("CMYK", (64, 32), (0, 0, 0, 0))
    image.paste((255, 0, 0, 0), (0, 0, 32, 32))
    return saved(image, "JPEG", quality=95)


def exchanged() -> bytes:
    """`halves` as a PNG of which the profile says that red is blue and blue is red."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    names = {b"rXYZ": b"bXYZ", b"bXYZ": b"rXYZ"}
    turned = re.sub(b"|".join(names), lambda found: names[found[0]], profile)
    return saved(halves(), "PNG", icc_profile=turned)


def bad_profile() -> bytes:
    """A PNG with a profile that is none."""
    return saved(halves(), "PNG", icc_profile=b"no profile" * 20)


def grey16(kind: str, top: int = 65_535) -> bytes:
    """From black to the brightest, in 16 bits."""
    image = Image.new("I;16", (256, 8))
    for x in range(256):
        image.paste(x * top // 255, (x, 0, x + 1, 8))
    return saved(image, kind)


def floats() -> bytes:
    """A TIFF of fractions, as microscopes write it."""
    return saved(Image.linear_gradient("L").convert("F").point(lambda v: v * 100 - 50), "TIFF")


def scan(pages: int, size: tuple[int, int] = (32, 44)) -> bytes:
    """A TIFF with as many pages, of which each is darker than the one before."""
    images = [Image.new("L", size, 250 - 10 * page) for page in range(pages)]
    return saved(images[0], "TIFF", save_all=True, append_images=images[1:])


def fax(pages: int = 3) -> bytes:
    """A fax in black and white, packed as fax machines do."""
    images = [Image.new("1", (64, 88), page % 2) for page in range(pages)]
    more = {"save_all": True, "append_images": images[1:], "compression": "group3"}
    return saved(images[0], "TIFF", **more)


def scan_with_preview() -> bytes:
    """A TIFF of two pages with a preview of the first between them."""
    small = Image.new("L", (8, 11), 0)
    preview = ImageFileDirectory_v2()
    preview[0x00FE] = 1
    small.encoderinfo = {"tiffinfo": preview}
    pages = [small, Image.new("L", (32, 44), 100)]
    return saved(Image.new("L", (32, 44), 200), "TIFF", save_all=True, append_images=pages)


def film(kind: str, colors: Sequence[str | tuple[int, int, int]]) -> bytes:
    """An animation of one colour after the other."""
    images = [Image.new("RGB", (40, 30), color) for color in colors]
    return saved(images[0], kind, save_all=True, append_images=images[1:], lossless=True)


def large_png(width: int, height: int) -> bytes:
    """`halves` of any size, made without so much memory."""
    half = width // 2
    packed = zlib.compressobj(1)
    row = b"\0" + bytes(LEFT) * half + bytes(RIGHT) * (width - half)
    data = packed.compress(row)
    for _ in range(height - 1):
        data += packed.compress(b"\2" + bytes(3 * width))  # as the row above
    data += packed.flush()
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", data),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def large_jpeg(width: int, height: int) -> bytes:
    """Black at the left, white at the right."""
    image = Image.new("L", (width, height), 255)
    image.paste(0, (0, 0, width // 2, height))
    return saved(image, "JPEG")


def heic() -> bytes:
    """A picture as iPhones make it, with a turn."""
    return base64.b85decode(_HEIC)


_HEIC = (
    "0000SW^{RQXk}?*00000ZE0pPXk}?*ZE0a<0005VZDn*}000000000XXk=`10000000000aA{+7000000000000000"
    "00000G-+&aV*mgE07O6l0ssL300001>;M4(00000004&o0ssI200MIW0RR9100000IsgCwIB98aW&i*H00062000$f"
    "Zf0cy000000RRAKc4ILB0000LX>Mj^0ssI300IC2MR;ju000004sdC7Z2$lO00031009SSaB^?}008D`aAR)(004Gq"
    "c4I>U18@KU0FVFx0000U@BsY%`1k+-4+CHT0RR|40Sp2E{{wIU00RJ!0009300RIXx&lC90096hLID8-Z~y=U0FVFx"
    "0{{R603M(qfd!W8<fgf}2xu@M00096AOHXZ03l)k0RRR>0l{;?i2wiq6Ju{|a&BX6cmM$a4FCp!0000KX>)L800000"
    "0000$0000$0000eV{Bn?0000$000010000W000010000000002|NsBs000020000GaA|mH000000|*ER00009X>xCL"
    "0{{R38EJ5BVE_OC000000RRC8fdT^sgoXeB02*m>Wo7^X0000001jhhb7KGk009620002VZDe6|0001kC;_ht;5j2C"
    "zyJMM@818627mu(HgHZqt%E=RsVoiu$SU;}*;rP`E-p+25qkuV!<MnhXfIof78XB}yp#`Hp;+1&4?z5M0hg!(=Z(JQ"
    "j1$r_BVUMaC@xVwkg6ORYbVO$dHHn`(2F17_WO|R!XO#mUaWm<$Psr6kcBQ!`xk%!000I>cxh$;08LE*DgXcg2mk^B"
    "5&#1L000311^@s7I{*Rz000UA001Tc0000%ZXjWDbZK*R00"
)
