"""Word documents of a few elements, as programs write them that no library here makes."""

from __future__ import annotations

from tests.fakes import documents

_MARKS = (
    'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
    ' xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"'
    ' xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"'
    ' xmlns:wps="http://schemas.microsoft.com/office/word/2010/wordprocessingShape"'
    ' xmlns:wp="http://schemas.openxmlformats.org/drawingml/2006/wordprocessingDrawing"'
    ' xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main"'
    ' xmlns:pic="http://schemas.openxmlformats.org/drawingml/2006/picture"'
    ' xmlns:v="urn:schemas-microsoft-com:vml"'
    ' xmlns:w14="http://schemas.microsoft.com/office/word/2010/wordml"'
)
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_MAIN = "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"


def word(body: str, **parts: str) -> bytes:
    """A document with this body; `parts` are what is in its numbering or styles."""
    relations = "".join(
        f'<Relationship Id="{name}" Type="{_OFFICE}/{name}" Target="{name}.xml"/>' for name in parts
    )
    return documents.archive(
        {
            "[Content_Types].xml": f'<Types xmlns="{_PACKAGE}/content-types"><Default'
            ' Extension="rels" ContentType='
            '"application/vnd.openxmlformats-package.relationships+xml"/><Default'
            ' Extension="xml" ContentType="application/xml"/>'
            f'<Override PartName="/word/document.xml" ContentType="{_MAIN}"/></Types>',
            "_rels/.rels": f'<Relationships xmlns="{_PACKAGE}/relationships"><Relationship Id="d"'
            f' Type="{_OFFICE}/officeDocument" Target="word/document.xml"/></Relationships>',
            "word/_rels/document.xml.rels": f'<Relationships xmlns="{_PACKAGE}/relationships">'
            f"{relations}</Relationships>",
            "word/document.xml": f"<w:document {_MARKS}><w:body>{body}</w:body></w:document>",
            **{
                f"word/{name}.xml": f"<w:{name} {_MARKS}>{content}</w:{name}>"
                for name, content in parts.items()
            },
        }
    )


def run(text: str) -> str:
    """A piece of text."""
    return f'<w:r><w:t xml:space="preserve">{text}</w:t></w:r>'


def paragraph(content: str, properties: str = "") -> str:
    """A paragraph of runs."""
    return f"<w:p><w:pPr>{properties}</w:pPr>{content}</w:p>"


def numbered(text: str, level: int = 0, of: int = 1) -> str:
    """A paragraph in a list."""
    numbers = f'<w:numPr><w:ilvl w:val="{level}"/><w:numId w:val="{of}"/></w:numPr>'
    return paragraph(run(text), numbers)


def styled(text: str, style: str) -> str:
    """A paragraph of a style."""
    return paragraph(run(text), f'<w:pStyle w:val="{style}"/>')


def level(place: int, kind: str, text: str, more: str = "") -> str:
    """A level of a list: how its paragraphs are numbered."""
    return (
        f'<w:lvl w:ilvl="{place}"><w:start w:val="1"/><w:numFmt w:val="{kind}"/>{more}'
        f'<w:lvlText w:val="{text}"/></w:lvl>'
    )


def lists(*levels: str, more: str = "") -> str:
    """A numbering whose list 1 has these levels."""
    return (
        f'<w:abstractNum w:abstractNumId="0">{"".join(levels)}</w:abstractNum>'
        f'<w:num w:numId="1"><w:abstractNumId w:val="0"/></w:num>{more}'
    )


def box(text: str) -> str:
    """A text box in the form of newer programs."""
    return (
        "<w:drawing><wps:wsp><wps:txbx><w:txbxContent>"
        f"{paragraph(run(text))}</w:txbxContent></wps:txbx></wps:wsp></w:drawing>"
    )


def old_box(text: str) -> str:
    """A text box in the form of older programs."""
    return (
        "<w:pict><v:shape><v:textbox><w:txbxContent>"
        f"{paragraph(run(text))}</w:txbxContent></v:textbox></v:shape></w:pict>"
    )


def either(newer: str, older: str | None) -> str:
    """A paragraph with something in the form of newer programs and of older ones."""
    fallback = "" if older is None else f"<mc:Fallback>{older}</mc:Fallback>"
    return paragraph(
        f'<w:r><mc:AlternateContent><mc:Choice Requires="wps">{newer}</mc:Choice>{fallback}'
        "</mc:AlternateContent></w:r>"
    )


def picture(said: str) -> str:
    """A picture that is kept elsewhere, and what is said to stand for it."""
    return (
        f'<w:r><w:drawing><wp:inline><wp:docPr id="1" name="P" descr="{said}"/><a:graphic>'
        '<a:graphicData><pic:pic><pic:blipFill><a:blip r:link="picture"/></pic:blipFill></pic:pic>'
        "</a:graphicData></a:graphic></wp:inline></w:drawing></w:r>"
    )


def field(data: str, instruction: str) -> str:
    """A field of a form as old templates have them."""
    return (
        f'<w:r><w:fldChar w:fldCharType="begin"><w:ffData>{data}</w:ffData></w:fldChar></w:r>'
        f"<w:r><w:instrText> {instruction} </w:instrText></w:r>"
        '<w:r><w:fldChar w:fldCharType="end"/></w:r>'
    )


def checkbox(checked: int) -> str:
    """A checkbox as new templates have them."""
    return (
        f'<w:sdt><w:sdtPr><w14:checkbox><w14:checked w14:val="{checked}"/></w14:checkbox>'
        f"</w:sdtPr><w:sdtContent>{run('☒' if checked else '☐')}</w:sdtContent></w:sdt>"
    )
