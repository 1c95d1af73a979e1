"""Files of kinds that other programs were reported to read wrongly."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import openpyxl
import pptx
import pytest
from colloquy_server.files import filetypes
from colloquy_server.files.extraction import ExtractedText, Extractor
from colloquy_server.files.extractors import mail, notebook, plain_text
from PIL import Image
from pptx.util import Inches

from tests.fakes import documents, pictures, samples
from tests.fakes import word_documents as words
from tests.integration.test_document_extraction import beside, kind_of, reworded, stored
from tests.integration.test_picture_extraction import is_like, shown


async def read(data: bytes, name: str = "file") -> ExtractedText:
    """The text of a file with this name, as the server reads it."""
    kind = await kind_of(data, name)
    with stored(data) as file:
        return await Extractor().text(
            "a", file, kind if kind in filetypes.READABLE else plain_text.TEXT
        )


async def lines(data: bytes, name: str = "file") -> list[str]:
    """The lines of a file's text that are not empty."""
    return [line for line in (await read(data, name)).beginning.splitlines() if line.strip()]


# --- Word -----------------------------------------------------------------------------------------


async def test_what_is_ticked_and_chosen_in_a_word_form_is_given() -> None:
    body = [
        words.paragraph(words.checkbox(1) + words.run(" agree")),
        words.paragraph(words.checkbox(0) + words.run(" refuse")),
        words.paragraph(
            words.field('<w:checkBox><w:checked w:val="1"/></w:checkBox>', "FORMCHECKBOX")
            + words.run(" old")
        ),
        words.paragraph(
            words.run("Colour: ")
            + words.field(
                '<w:ddList><w:result w:val="1"/><w:listEntry w:val="red"/>'
                '<w:listEntry w:val="blue"/></w:ddList>',
                "FORMDROPDOWN",
            )
        ),
    ]
    found = await lines(words.word("".join(body)))
    assert [line.replace("  ", " ") for line in found] == [
        "[x] agree", "[ ] refuse", "[x] old", "Colour: blue",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "boxed",
    [
        words.either(words.box("In a box"), words.old_box("In a box")),
        words.either(words.box("In a box"), None),
        words.either(words.box("In a box"), ""),
        words.paragraph(f"<w:r>{words.box('In a box')}</w:r>"),
    ],
    ids=["both", "newer", "empty", "bare"],
)
async def test_a_text_box_is_read_once_in_whichever_form_it_is(boxed: str) -> None:
    data = words.word(words.paragraph(words.run("before")) + boxed)
    assert await lines(data) == ["before", "In a box"]


async def test_the_numbers_of_clauses_are_those_that_word_shows() -> None:
    numbering = words.lists(
        words.level(0, "upperRoman", "Article %1."),
        words.level(1, "lowerLetter", "%2)"),
        words.level(2, "decimal", "%1.%3"),
        more='<w:num w:numId="2"><w:abstractNumId w:val="0"/><w:lvlOverride w:ilvl="0">'
        '<w:startOverride w:val="9"/></w:lvlOverride></w:num>',
    )
    body = [
        words.numbered("Price"),
        f"<w:tbl><w:tr><w:tc>{words.paragraph(words.run('cell'))}</w:tc></w:tr></w:tbl>",
        words.numbered("Quality"),
        words.numbered("one", 1),
        words.paragraph(words.run("between")),
        words.numbered("two", 1),
        words.numbered("deep", 2),
        words.numbered("Term"),
        words.numbered("again", 1),
        words.numbered("Appendix", of=2),
        words.numbered("Last", of=2),
    ]
    found = await lines(words.word("".join(body), numbering=numbering))
    assert [line for line in found if "|" not in line] == [
        "Article I. Price", "Article II. Quality", "a) one", "between", "b) two", "II.1 deep",
        "Article III. Term", "a) again", "Article IX. Appendix", "Article X. Last",
    ]  # fmt: skip


async def test_headings_keep_the_numbers_of_their_style() -> None:
    numbering = words.lists(
        words.level(0, "decimal", "%1", '<w:pStyle w:val="Heading1"/>'),
        words.level(1, "decimal", "%1.%2", '<w:pStyle w:val="Heading2"/>'),
        words.level(2, "bullet", "•"),
    )
    listed = '<w:pPr><w:numPr><w:numId w:val="1"/></w:numPr></w:pPr>'
    styles = "".join(
        f'<w:style w:type="paragraph" w:styleId="Heading{n}"><w:name w:val="heading {n}"/>{listed}'
        "</w:style>"
        for n in (1, 2)
    )
    body = [
        words.styled("Purpose", "Heading1"),
        words.styled("Scope", "Heading1"),
        words.styled("People", "Heading2"),
        words.numbered("a point", 2),
    ]
    found = await lines(words.word("".join(body), numbering=numbering, styles=styles))
    assert found == ["# 1 Purpose", "# 2 Scope", "## 2.1 People", "- a point"]


async def test_lists_of_bullets_stay_lists() -> None:
    numbering = words.lists(words.level(0, "bullet", "•"), words.level(1, "bullet", "o"))
    body = words.numbered("one") + words.numbered("below", 1) + words.numbered("two")
    assert await lines(words.word(body, numbering=numbering)) == ["* one", "  + below", "* two"]


async def test_characters_with_a_reading_above_them_are_given_with_it() -> None:
    ruby = f"<w:ruby><w:rt>{words.run('とうきょう')}</w:rt><w:rubyBase>{words.run('東京')}"
    data = words.word(
        words.paragraph(f"<w:r>{ruby}</w:rubyBase></w:ruby></w:r>{words.run('へ行く')}")
    )
    assert await lines(data) == ["東京 (とうきょう)へ行く"]


async def test_the_words_for_a_picture_in_a_word_document_are_given() -> None:
    data = words.word(words.paragraph(words.run("see ") + words.picture("A dog on a beach")))
    data = reworded(
        data,
        b"</Relationships>",
        b'<Relationship Id="picture" Type="http://schemas.openxmlformats.org/officeDocument/2006/'
        b'relationships/image" Target="a.png"/></Relationships>',
    )
    assert await lines(data) == ["see [picture: A dog on a beach]"]


# --- pages and saved pages ------------------------------------------------------------------------


async def test_a_page_gives_what_its_fields_hold_and_its_pictures_stand_for() -> None:
    page = (
        "<!doctype html><title>Order</title><p>Sales <img src=a.png alt='up 5%'><img alt=''></p>"
        "<p>Name<input value=Ann>of<input type=hidden value=secret></p>"
        "<p><input type=checkbox checked>paid <input type=radio> open</p>"
        "<p><select><option>red<option selected>blue</select></p>"
        f"<p><a href='data:text/plain;base64,{'QUJD' * 500}'>file</a></p>"
    )
    found = [" ".join(line.split()) for line in await lines(page.encode(), "a.html")]
    assert found == [
        "Order", "Sales [picture: up 5%]", "Name Ann of", "[x] paid [ ] open",
        "[ ] red [x] blue", "file",
    ]  # fmt: skip


SAVED = (
    b'MIME-Version: 1.0\r\nContent-Type: multipart/related;\r\n\ttype="text/html"; boundary=B\r\n'
    b"\r\n--B\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding:"
    b" quoted-printable\r\n\r\n<html><body><p>Gr=C3=BC=C3=9Fe</p></body></html>\r\n"
    b"--B\r\nContent-Type: text/css\r\nContent-Location: a.css\r\n\r\np { color: red }\r\n"
    b"--B\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    + base64.encodebytes(samples.png())
    + b"\r\n--B--\r\n"
)


@pytest.mark.parametrize("name", ["page.mht", "Page.MHTML", "From a wiki.doc"])
@pytest.mark.parametrize("mark", [b"", b'type="text/html"; '], ids=["bare", "of html"])
async def test_a_page_that_was_saved_as_one_file_is_read_as_a_page(name: str, mark: bytes) -> None:
    data = SAVED.replace(b'type="text/html"; ', mark)
    assert await kind_of(data, name) == mail.MHTML
    assert await read(data, name) == ExtractedText("Grüße", "", 5, ("left out: 1 picture",))


def test_a_text_about_saved_pages_is_a_text() -> None:
    for data in (b"How to:\n" + SAVED, b"Content-Type: multipart/related is what they say\n"):
        assert filetypes.decide(data, "a.mht", "") == "text/plain"


# --- notebooks and texts with files in them -------------------------------------------------------


def book(*cells: dict[str, Any]) -> bytes:
    """A notebook."""
    return json.dumps({"cells": cells, "nbformat": 4, "metadata": {}}).encode()


async def test_a_notebook_is_given_as_its_cells_and_what_came_out_of_them() -> None:
    data = book(
        {"cell_type": "markdown", "source": ["# Plan\n", "text"]},
        {
            "cell_type": "code",
            "source": "print(1)",
            "outputs": [
                {"output_type": "stream", "text": ["1\n", "2\n"]},
                {
                    "output_type": "display_data",
                    "data": {"image/png": "iVBOR" * 2_000, "text/plain": ["<Figure>"]},
                },
                {"output_type": "error", "traceback": ["\x1b[31mValueError\x1b[0m: bad"]},
            ],
        },
    )
    assert await kind_of(data, "a.ipynb") == notebook.IPYNB
    found = await read(data, "a.ipynb")
    assert found.notes == ("left out: 1 picture",)
    assert [line for line in found.beginning.splitlines() if line.strip("`")] == [
        "# Plan", "text", "print(1)", "Output:", "1", "2", "Output:", "<Figure>", "Output:",
        "ValueError: bad",
    ]  # fmt: skip


@pytest.mark.parametrize("data", [b'{"cells": [', b"[1]", b'{"cells": [1]}', b'{"a": "b"}'])
async def test_what_only_has_the_name_of_a_notebook_is_a_text(data: bytes) -> None:
    assert (await read(data, "a.ipynb")).beginning == data.decode()


@pytest.mark.parametrize("name", ["a.md", "a.svg"])
async def test_a_picture_in_base64_within_a_text_is_left_out_and_counted(name: str) -> None:
    text = f'before <image href="data:image/png;base64,{"iVBOR" * 2_000}"/> after'
    found = await read(f"{text}\n{text}".encode(), name)
    short = 'before <image href="data:image/png;base64,…"/> after'
    assert found.beginning == f"{short}\n{short}"
    assert found.notes == ("left out: 2 files in base64",)
    assert plain_text.has_files(text)
    assert not plain_text.has_files("data:image/png;base64,iVBOR")


# --- links ----------------------------------------------------------------------------------------


async def test_the_links_of_a_sheet_are_given() -> None:
    workbook = openpyxl.Workbook()
    sheet = workbook.active
    assert sheet is not None
    sheet["A1"] = "Manual"
    sheet["A1"].hyperlink = "https://m.example/doc?x=1&y=2"
    out = io.BytesIO()
    workbook.save(out)
    assert (await lines(out.getvalue()))[-1] == "Link on A1: https://m.example/doc?x=1&y=2"


async def test_the_links_and_the_words_for_pictures_on_a_slide_are_given() -> None:
    presentation = pptx.Presentation()
    slide = presentation.slides.add_slide(presentation.slide_layouts[6])
    text = slide.shapes.add_textbox(0, Inches(2), Inches(1), Inches(1)).text_frame
    text.text = "See "
    run = text.paragraphs[0].add_run()
    run.text = "this"
    run.hyperlink.address = "https://p.example/a"
    picture = slide.shapes.add_picture(io.BytesIO(samples.png()), 0, 0)
    picture._element.nvPicPr.cNvPr.set("descr", "A map\nof Rome")
    out = io.BytesIO()
    presentation.save(out)
    assert (await lines(out.getvalue()))[1:] == [
        "[picture: A map of Rome]", "See [this](https://p.example/a)",
    ]  # fmt: skip


_BOX = "/MediaBox [0 0 612 792] /Contents 4 0 R"


def page(*texts: str, more: str = "", upward: bool = False) -> bytes:
    """A PDF of one page with these lines, which may run up the page."""
    drawing = "".join(
        f"BT /F1 12 Tf 0 1 -1 0 {100 + 14 * number} 72 Tm ({text}) Tj ET\n"
        if upward
        else f"BT /F1 12 Tf 1 0 0 1 72 {700 - 14 * number} Tm ({text}) Tj ET\n"
        for number, text in enumerate(texts)
    )
    return documents.pdf(
        [
            "<< /Type /Catalog /Pages 2 0 R >>",
            "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
            f"<< /Type /Page /Parent 2 0 R {_BOX} /Resources << /Font << /F1 5 0 R >> >> {more} >>",
            f"<< /Length {len(drawing)} >>\nstream\n{drawing}\nendstream",
            "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        ]
    )


async def test_the_links_of_a_pdf_are_given_also_beside_its_pages() -> None:
    link = "<< /Type /Annot /Subtype /Link /Rect [72 698 200 712] /A << /S {} >> >>"
    outside = link.format("/URI /URI (https://l.example/manual)")
    inside = link.format("/GoTo /D [3 0 R /Fit]")
    data = page("Read the manual", more=f"/Annots [{outside} {inside}]")
    told = "Link on Read the manual: https://l.example/manual"
    assert await lines(data) == ["Read the manual", told]
    assert (await beside(data)).text == told


async def test_a_hyphen_at_the_end_of_a_line_stays() -> None:
    assert await lines(page("of a long-", "term plan")) == ["of a long-", "term plan"]


@pytest.mark.parametrize("turn", [0, 90])
async def test_the_lines_of_a_turned_page_stay_apart(turn: int) -> None:
    texts = ["Service Building 1010A", "Second line here", "Third row of it"]
    assert await lines(page(*texts, more=f"/Rotate {turn}", upward=True)) == texts


async def test_the_links_of_an_open_document_are_given() -> None:
    link = 'xmlns:xlink="http://www.w3.org/1999/xlink" xlink:href='
    data = documents.open_document(
        "text",
        f'<text:p>See <text:a {link}"https://o.example/a">this</text:a> and'
        f' <text:a {link}"#top">that</text:a></text:p>',
    )
    assert "See [this](https://o.example/a) and that" in await lines(data)


# --- pictures -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ink", "beneath", "paper"),
    [
        ((0, 0, 0), (0, 0, 0), (255, 255, 255)),
        ((200, 0, 0), (0, 90, 200), (255, 255, 255)),
        ((255, 255, 255), (255, 255, 255), (48, 48, 48)),
    ],
    ids=["black", "noise", "white"],
)
@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
async def test_what_is_drawn_on_a_clear_ground_can_be_seen(
    kind: str, ink: tuple[int, int, int], beneath: tuple[int, int, int], paper: tuple[int, int, int]
) -> None:
    image = Image.new("RGBA", (64, 64), (*beneath, 0))
    image.paste((*ink, 255), (16, 16, 48, 48))
    made = await shown(pictures.saved(image, kind, lossless=True))
    assert made.mode == "RGB"
    assert is_like(made.getpixel((4, 4)), paper)
    assert is_like(made.getpixel((32, 32)), ink)
