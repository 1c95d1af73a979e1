"""PDF documents: the text of their pages, what people wrote into them, and the files inside."""

from __future__ import annotations

import ctypes
import math
import re
import time
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from colloquy_server.files.extractors import xml
from colloquy_server.files.extractors.results import READING_SECONDS, Notes, Pages, Problem

_NAMES_SHOWN = 20
"""Attached files that are named one by one."""

_MAX_ANSWERS = 100_000
"""Characters of answers and comments that are given beside the pages themselves."""

_HYPHENS = re.compile("[\x02\ufffe]")
"""What PDFium makes of a hyphen at the end of a line, which may be of the word or of the line."""

_ANGLES = 200
"""Characters of a page whose directions are looked at."""

_UPRIGHT = 0.7
"""Sine of an angle, from which on a line runs up or down rather than across."""

_MAX_PACKET = 16 << 20
"""Bytes of the answers of an XFA form."""

_DATASETS = "{http://www.xfa.org/schema/xfa-data/1.0/}data"


def read(file: BinaryIO, notes: Notes) -> Iterator[str]:
    """The text of a document, page by page, each with the answers and comments on it."""
    document = _opened(file)
    document.init_forms()
    _name_attachments(document, notes)
    yield _xfa_answers(document, notes)
    without_text = 0
    for number in range(len(document)):
        page = document[number]
        text = _text(page)
        without_text += not text.strip()
        yield text + "\n\n"
        written = _written_on(page, document)
        if written:
            yield written + "\n"
        page.close()
    if without_text:
        notes.say(
            f"pages without any text, as scans and pictures are: {without_text:,} of"
            f" {len(document):,}"
        )


def _text(page: Any) -> str:
    """The text of a page. PDFium joins lines that run up or down the page where it is asked for
    what is within the page's edges: of those it is asked for all."""
    import pypdfium2.raw as pdfium

    textpage = page.get_textpage()
    size = textpage.count_chars()
    sample = range(0, size, max(1, size // _ANGLES))
    is_turned = any(
        abs(math.sin(pdfium.FPDFText_GetCharAngle(textpage, place))) > _UPRIGHT for place in sample
    )
    text = textpage.get_text_range() if is_turned else textpage.get_text_bounded()
    return _HYPHENS.sub("-\n", text)


def pages(file: BinaryIO) -> Pages:
    """How many pages it has, and what is written on them that models do not see: answers in a form
    and comments. Raises Problem when it cannot be read."""
    document = _opened(file)
    notes = Notes()
    document.init_forms()
    document[0].close()
    _name_attachments(document, notes)
    texts = [_xfa_answers(document, notes)]
    size = len(texts[0])
    for number in range(len(document)):
        page = document[number]
        texts.append(_written_on(page, document))
        page.close()
        size += len(texts[-1])
        if time.process_time() > READING_SECONDS:
            notes.say(
                f"answers and comments after page {number + 1:,} were not read: it takes long"
            )
            break
        if size > _MAX_ANSWERS:
            notes.say(f"of answers and comments the first {_MAX_ANSWERS:,} characters are given")
            break
    text = "".join(texts).replace("\x00", "")[:_MAX_ANSWERS].strip()
    return Pages(len(document), text, notes.all())


def _opened(file: BinaryIO) -> Any:
    """The document. Raises Problem when it cannot be opened."""
    import pypdfium2

    try:
        document = pypdfium2.PdfDocument(file)
    except pypdfium2.PdfiumError as error:
        is_locked = error.err_code == pypdfium2.raw.FPDF_ERR_PASSWORD
        raise Problem("it needs a password" if is_locked else "it is damaged") from None
    if len(document) == 0:
        raise Problem("there are no pages in it")
    return document


def _name_attachments(document: Any, notes: Notes) -> None:
    count = document.count_attachments()
    if count < 1:
        return
    names = [document.get_attachment(n).get_name() for n in range(min(count, _NAMES_SHOWN))]
    more = ", …" if count > _NAMES_SHOWN else ""
    notes.say(f"left out: {count:,} attached inside it ({', '.join(names)}{more})")


def _written_on(page: Any, document: Any) -> str:
    """The fields of a form on a page with their answers, comments and links, one a line."""
    import pypdfium2.raw as pdfium

    unwritten = (pdfium.FPDF_ANNOT_WIDGET, pdfium.FPDF_ANNOT_POPUP)
    lines = []
    for number in range(pdfium.FPDFPage_GetAnnotCount(page)):
        annotation = pdfium.FPDFPage_GetAnnot(page, number)
        if not annotation:
            continue
        kind = pdfium.FPDFAnnot_GetSubtype(annotation)
        if kind == pdfium.FPDF_ANNOT_WIDGET and document.formenv:
            lines.append(_answer(document.formenv, annotation))
        elif kind == pdfium.FPDF_ANNOT_LINK:
            lines.append(_link(page, document, annotation))
        elif kind not in unwritten:
            text = _string(pdfium.FPDFAnnot_GetStringValue, annotation, b"Contents")
            lines.append(f"Comment: {text}" if text.strip() else "")
        pdfium.FPDFPage_CloseAnnot(annotation)
    return "".join(f"{line}\n" for line in lines if line)


def _link(page: Any, document: Any, annotation: Any) -> str:
    """Where a link leads outside of the document, and its text; nothing for one within it."""
    import pypdfium2.raw as pdfium

    action = pdfium.FPDFLink_GetAction(pdfium.FPDFAnnot_GetLink(annotation))
    size = pdfium.FPDFAction_GetURIPath(document, action, None, 0) if action else 0
    if size <= 1:  # the zero at the end alone
        return ""
    buffer = ctypes.create_string_buffer(size)
    pdfium.FPDFAction_GetURIPath(document, action, buffer, size)
    address = buffer.raw[: size - 1].decode(errors="replace")
    box = pdfium.FS_RECTF()
    if not pdfium.FPDFAnnot_GetRect(annotation, box):
        return f"Link: {address}"
    text = page.get_textpage().get_text_bounded(box.left, box.bottom, box.right, box.top)
    said = " ".join(_HYPHENS.sub("-", text).split())
    return f"Link: {address}" if said in ("", address) else f"Link on {said}: {address}"


def _answer(form: Any, field: Any) -> str:
    """A field with its answer; nothing for a button, and for a choice that was not taken."""
    import pypdfium2.raw as pdfium

    kind = pdfium.FPDFAnnot_GetFormFieldType(form, field)
    name = _string(pdfium.FPDFAnnot_GetFormFieldAlternateName, form, field) or _string(
        pdfium.FPDFAnnot_GetFormFieldName, form, field
    )
    if kind == pdfium.FPDF_FORMFIELD_CHECKBOX:
        is_checked = pdfium.FPDFAnnot_IsChecked(form, field)
        return f"Field {name}: {'checked' if is_checked else 'not checked'}"
    if kind == pdfium.FPDF_FORMFIELD_RADIOBUTTON:
        if not pdfium.FPDFAnnot_IsChecked(form, field):
            return ""
        return f"Field {name}: {_string(pdfium.FPDFAnnot_GetFormFieldExportValue, form, field)}"
    if kind == pdfium.FPDF_FORMFIELD_LISTBOX:
        labels = [
            _string(pdfium.FPDFAnnot_GetOptionLabel, form, field, option)
            for option in range(min(pdfium.FPDFAnnot_GetOptionCount(form, field), 1_000))
            if pdfium.FPDFAnnot_IsOptionSelected(form, field, option)
        ]
        return f"Field {name}: {', '.join(labels) or 'empty'}"
    if kind in (pdfium.FPDF_FORMFIELD_TEXTFIELD, pdfium.FPDF_FORMFIELD_COMBOBOX):
        value = _string(pdfium.FPDFAnnot_GetFormFieldValue, form, field)
        return f"Field {name}: {value.strip() or 'empty'}"
    if kind == pdfium.FPDF_FORMFIELD_SIGNATURE:
        return f"Field {name}: a signature"
    return ""


def _string(function: Callable[..., int], *arguments: Any) -> str:
    """What one of PDFium's functions writes, which is called twice: for its size first."""
    import pypdfium2.raw as pdfium

    size = function(*arguments, None, 0)
    if size <= 2:  # the zero at the end alone
        return ""
    buffer = ctypes.create_string_buffer(size)
    function(*arguments, ctypes.cast(buffer, ctypes.POINTER(pdfium.FPDF_WCHAR)), size)
    return buffer.raw[: size - 2].decode("utf-16-le", errors="replace")


def _xfa_answers(document: Any, notes: Notes) -> str:
    """What was filled into an XFA form, whose pages hold nothing but a word that they cannot be
    shown; with the names of the fields."""
    import pypdfium2.raw as pdfium
    from lxml import etree

    lines = []
    for number in range(pdfium.FPDF_GetXFAPacketCount(document)):
        data = _packet(document, number, notes)
        if b"xfa-data" not in data:
            continue
        try:
            root = xml.parsed(data)
        except etree.XMLSyntaxError:
            continue
        for answers in root.iter(_DATASETS):
            lines += [
                f"Field {etree.QName(leaf).localname}: {leaf.text.strip()}\n"
                for leaf in answers.iter(etree.Element)
                if not len(leaf) and leaf.text and leaf.text.strip()
            ]
    return f"{''.join(lines)}\n" if lines else ""


def _packet(document: Any, number: int, notes: Notes) -> bytes:
    """A part of an XFA form; nothing when it is too large."""
    import pypdfium2.raw as pdfium

    size = ctypes.c_ulong()
    if not pdfium.FPDF_GetXFAPacketContent(document, number, None, 0, size):
        return b""
    if size.value > _MAX_PACKET:
        notes.left_out("part of its XFA form that is too large")
    if not 0 < size.value <= _MAX_PACKET:
        return b""
    buffer = ctypes.create_string_buffer(size.value)
    pdfium.FPDF_GetXFAPacketContent(document, number, buffer, size.value, size)
    return buffer.raw
