"""Word documents."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from colloquy_server.files.extractors import markup
from colloquy_server.files.extractors.results import Notes


def read(file: BinaryIO, notes: Notes) -> Iterator[str]:
    """The text of a document."""
    import mammoth
    from bs4 import BeautifulSoup

    skip_pictures = mammoth.images.img_element(lambda _image: {})
    html = mammoth.convert_to_html(file, convert_image=skip_pictures).value
    yield markup.markdown(BeautifulSoup(html, "html.parser"))
