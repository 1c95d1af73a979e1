"""What is read out of documents, each in a process of its own: with what is beside the text, and in
words what is missing."""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import pytest
from colloquy_server.files import filetypes
from colloquy_server.files.extraction import ExtractedText, Extractor, Pages, Unreadable
from colloquy_server.files.extractors import results

from tests.fakes import documents, samples


@contextmanager
def stored(data: bytes) -> Iterator[IO[bytes]]:
    """A file on disk with these bytes."""
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        yield file


async def kind_of(data: bytes, name: str = "file") -> str:
    """The type that the server takes a file for."""
    kind = filetypes.decide(data[: filetypes.HEAD], name, "")
    if kind in filetypes.CONTAINERS:
        with stored(data) as file:
            kind = (await Extractor().inspect("a", file, kind)).content_type
    return kind


async def read(data: bytes, name: str = "file") -> ExtractedText:
    """The text of a file, as the server reads it."""
    kind = await kind_of(data, name)
    with stored(data) as file:
        return await Extractor().text("a", file, kind)


async def beside(data: bytes) -> Pages:
    """What is given beside a PDF that goes to a model as it is."""
    with stored(data) as file:
        return await Extractor().pages("a", file, filetypes.PDF)


async def test_of_a_word_document_nothing_is_dropped_in_silence() -> None:
    found = await read(documents.word())
    text = found.beginning
    assert text.startswith("Header of the pages: Secret plan")
    assert "Solve x=(a+b)/2+x^2-√(c+1) now" in text
    assert "Is this right?" in text
    assert "Footer of the pages: Page of ACME" in text
    assert "Chart: Sales\n\n|  | Revenue |\n| Q1 | 123 |\n| Q2 | 456 |" in text
    assert "gone" not in text
    assert found.notes == ("left out: 1 deleted passage, 1 picture",)


async def test_a_word_document_whose_main_part_has_another_name_is_read() -> None:
    data = documents.renamed(documents.word(), "document.xml", "document2.xml")
    data = reworded(data, b"document.xml", b"document2.xml")
    assert "Solve" in (await read(data)).beginning


def reworded(data: bytes, old: bytes, new: bytes) -> bytes:
    """An archive with other words in its members."""
    with zipfile.ZipFile(io.BytesIO(data)) as packed:
        return documents.archive(
            {name: packed.read(name).replace(old, new) for name in packed.namelist()}
        )


async def test_cells_are_given_as_people_see_them() -> None:
    found = await read(documents.workbook())
    text = found.beginning
    row = "| 2024-03-01 | 2024-03-01 14:30:00 | 12.5% | 1234.50 € | 00007 | 3 kg | a\\|b<br>c |"
    assert f"{row} (no value stored: =1+1) |" in text
    assert "| USD5.00 |" in text
    assert "| 12000 |" in text  # shown as 12.0K
    assert "Merged cells: A5:C5" in text
    assert "Comment on A2: Not a Monday" in text
    assert "Chart" in text
    assert "## Secret (hidden sheet)\n\n| salary | 99999 |\n\nHidden rows, which are" in text
    assert found.notes == (
        'sheet "Data": formulas without a stored value, given as they are written: 1',
    )


ALL = "".join(
    f"| {' | '.join(f'r{row}c{column}' for column in range(4))} |\n" for row in range(5)
).strip()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(documents.false_dimension(), id="false dimension"),
        pytest.param(documents.strict(documents.false_dimension()), id="strict"),
        pytest.param(documents.renamed(documents.false_dimension(), "/", "\\"), id="backslashes"),
    ],
)
async def test_a_sheet_is_read_whole_however_it_was_written(data: bytes) -> None:
    assert (await read(data)).beginning.endswith(ALL)


async def test_a_workbook_with_styles_of_no_known_kind_is_read() -> None:
    data = reworded(documents.workbook(), b"<fill><patternFill/></fill>", b"<fill/>")
    found = await read(data)
    assert "| 2024-03-01 |" in found.beginning
    assert "## Secret (hidden sheet)" in found.beginning
    assert found.notes == (
        "given: the cells' values alone, without their formats, comments and charts",
    )


async def test_a_damaged_chart_takes_nothing_else_with_it() -> None:
    for data in (documents.word(), documents.workbook()):
        found = await read(reworded(data, b"chartSpace", b"chartSp<ce"))
        assert found.beginning
        assert "1 damaged part of kind chart" in found.notes[-1]


async def test_strict_documents_of_word_and_powerpoint_are_read() -> None:
    assert "√(c+1)" in (await read(documents.strict(documents.word()))).beginning
    assert "in a group" in (await read(documents.strict(documents.slides()))).beginning


async def test_slides_are_read_in_the_order_of_position() -> None:
    found = await read(documents.slides())
    pieces = ["## Slide 1", "first", "left", "right", "in a group", "| Q1 | 123 |", "| Q2 | 456 |"]
    pieces += ["| a\\|b | c |", "Solve x^2=4", "last", "Speaker's notes: Speak slowly"]
    pieces += ["## Slide 2 (hidden)", "not shown"]
    places = [found.beginning.find(piece) for piece in pieces]
    assert places == sorted(places)
    assert -1 not in places


async def test_a_show_is_a_presentation() -> None:
    data = reworded(
        documents.slides(), b"presentationml.presentation.main", b"presentationml.slideshow.main"
    )
    assert "in a group" in (await read(data)).beginning


FORM = ("Field Your name: Ann Smith", "Field married: checked", "Field smoker: not checked",
        "Comment: Please check")  # fmt: skip


async def test_a_form_in_pdf_has_its_answers() -> None:
    found = await read(documents.pdf_form())
    for line in FORM:
        assert line in found.beginning
    assert found.notes == (
        "left out: 1 attached inside it (data.csv)",
        "pages without any text, as scans and pictures are: 1 of 1",
    )
    pages = await beside(documents.pdf_form())
    assert pages.count == 1
    assert pages.text.splitlines() == list(FORM)
    assert pages.notes == ("left out: 1 attached inside it (data.csv)",)


async def test_an_xfa_form_has_its_answers() -> None:
    answers = "Field Surname: Smith\nField Income: 52000"
    assert answers in (await read(documents.xfa_form())).beginning
    assert (await beside(documents.xfa_form())).text == answers


@pytest.mark.parametrize("junk", [b"\r\n\r\n", b"\x00\x01mailed by x\r\n", b"<!-- -->\n" * 50])
async def test_a_pdf_may_begin_after_other_bytes(junk: bytes) -> None:
    data = junk + samples.pdf("Dear reader")
    assert await kind_of(data) == filetypes.PDF
    assert "Dear reader" in (await read(data)).beginning


async def test_a_text_about_pdf_is_a_text() -> None:
    assert await kind_of(b"A PDF begins so:\n%PDF-1.7\nand goes on.", "a.md") == "text/markdown"


async def test_an_open_document_is_read_with_its_comments_and_equations() -> None:
    found = await read(documents.odt())
    text = found.beginning
    assert text.startswith("Header of the pages: ACME\n\n## Plan\n\nOne\ttwo\n")
    assert "Comment by Ann: Really?" in text
    assert "- point" in text
    assert "| a<br>b\\|c |" in text
    assert "Equation: x = {a} over {b}" in text
    assert "deleted" not in text
    assert found.notes == ("left out: 1 deleted passage, 1 picture",)


async def test_a_table_in_a_cell_is_given_once_after_the_one_around_it() -> None:
    def table(content: str) -> str:
        return (
            f"<table:table><table:table-row><table:table-cell>{content}</table:table-cell>"
            "</table:table-row></table:table>"
        )

    item = "<text:list><text:list-item><text:p>item</text:p></text:list-item></text:list>"
    data = documents.open_document("text", table(f"<text:p>outer</text:p>{item}{table(item)}"))
    text = (await read(data)).beginning
    assert text.endswith("| outer<br>item |\n\n| item |")
    box = "<draw:frame><draw:text-box><text:p>{}</text:p></draw:text-box></draw:frame>"
    for inside in (table, "<text:p>{}</text:p>".format):
        data = documents.open_document("text", inside(box.format(box.format("deep"))))
        assert (await read(data)).beginning.count("deep") == 1


async def test_the_sheets_of_an_open_document_are_read() -> None:
    text = (await read(documents.ods())).beginning
    assert "## Prices\n\n| 12.50 € | x | x |\n| same | (1,000,000 times)\n" in text
    assert "## Secret (hidden sheet)\n\n| salary |" in text


async def test_the_chapters_of_a_book_are_read_in_their_order() -> None:
    found = await read(documents.epub())
    assert found.beginning == "# One\n\nIt began.\n\nThe end."
    assert found.notes == ("left out: 1 picture",)


async def test_an_old_workbook_is_read() -> None:
    found = await read(documents.xls())
    assert "| Name | Share\\|x |\n| Ann | 0.125 | 2024-03-01 |" in found.beginning
    assert "## Secret (hidden sheet)" in found.beginning
    assert "without their formats" in found.notes[0]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (documents.compound("EncryptedPackage"), "it needs a password"),
        (documents.compound("Other"), "files of this type cannot be read here"),
        (
            documents.archive(
                {
                    "mimetype": "application/vnd.oasis.opendocument.text",
                    "META-INF/manifest.xml": "<manifest:encryption-data/>",
                    "content.xml": b"\x01\x02",
                }
            ),
            "it needs a password",
        ),
        (documents.epub(**{"META-INF/rights.xml": "<rights/>"}), "its text is locked by its shop"),
    ],
)
async def test_what_is_locked_is_named_by_a_reason_about_the_file(data: bytes, why: str) -> None:
    with pytest.raises(Unreadable, match=why):
        await read(data)


@pytest.mark.parametrize(
    ("stream", "kind"),
    [
        ("WordDocument", "application/msword"),
        ("Workbook", "application/vnd.ms-excel"),
        ("PowerPoint Document", "application/vnd.ms-powerpoint"),
        ("__properties_version1.0", "application/vnd.ms-outlook"),
    ],
)
async def test_old_office_files_are_told_apart_by_what_is_in_them(stream: str, kind: str) -> None:
    assert await kind_of(documents.compound(stream)) == kind


async def test_a_cell_of_a_page_stays_in_its_column_and_on_its_line() -> None:
    page = (
        "<html><table><tr><th rowspan=2>a|b</th><td colspan=2>c</td></tr><tr><td><p>d</p><p>e</p>"
        "</td><td>f</td></tr></table>"
    )
    text = (await read(page.encode(), "a.html")).beginning
    assert "| a\\|b | c | |" in text
    assert "|  | d<br>e | f |" in text


async def test_the_pages_of_an_open_presentation_are_read() -> None:
    data = documents.open_document(
        "presentation",
        '<draw:page draw:name="One"><draw:frame><draw:text-box><text:p>Hello</text:p>'
        "</draw:text-box></draw:frame><presentation:notes><text:p>Slowly</text:p>"
        "</presentation:notes></draw:page>",
    )
    text = (await read(data)).beginning
    assert "## Slide One\n\nHello" in text
    assert "Speaker's notes: Slowly" in text


async def test_of_a_long_text_the_end_is_given_too() -> None:
    rows = "".join(f"<p>{number:07d}</p>" for number in range(60_000))
    found = await read(f"<html>{rows}".encode(), "a.html")
    whole = "\n\n".join(f"{number:07d}" for number in range(60_000))
    assert whole.startswith(found.beginning)
    assert len(found.beginning) == 300_000
    assert found.end.strip().endswith("0059999")
    assert len(found.end) == 100_000
    assert abs(found.length - len(whole)) < 5


def test_what_takes_long_is_given_as_far_as_it_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "READING_SECONDS", 0)
    found = results.gather(iter(["One. ", "Two."]), results.Notes())
    assert (found.beginning, found.end) == ("One.", "")
    assert found.notes == ("what follows the first 5 characters was not read: it takes long",)


def test_notes_are_few_short_and_on_one_line() -> None:
    notes = results.Notes()
    for number in range(30):
        notes.say(f'name {number}\r\n\x00"): forged{"x" * 1_000}')
    notes.left_out("chart", 3)
    notes.left_out("comment")
    *said, more, left_out = notes.all()
    assert len(said) == 20
    assert all(len(note) == 300 and note.isprintable() for note in said)
    assert more == "and 10 more such notes"
    assert left_out == "left out: 3 charts, 1 comment"


def bomb(entities: int) -> str:
    """A text whose entities are made of each other, to ten to the power of their number."""
    names = "".join(
        f'<!ENTITY e{n} "{f"&e{n - 1};" * 10 if n else "boom"}">' for n in range(entities)
    )
    return f"<!DOCTYPE d [{names}]><d>&e{entities - 1};</d>"


@pytest.mark.timeout(360)
async def test_what_is_made_to_do_harm_is_contained() -> None:
    laughs = documents.archive(
        {"mimetype": "application/vnd.oasis.opendocument.text", "content.xml": bomb(12)}
    )
    deep = documents.open_document("text", "<text:p>" * 20_000 + "</text:p>" * 20_000)
    outside = '<!DOCTYPE d [<!ENTITY e SYSTEM "file:///etc/passwd">]><d>&e;</d>'
    spy = documents.archive(
        {"mimetype": "application/vnd.oasis.opendocument.text", "content.xml": outside}
    )
    for data in (laughs, deep, spy, documents.ods()[:-100]):
        with pytest.raises(Unreadable):
            await read(data)
