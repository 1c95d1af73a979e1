"""Documents with what people put beside their text: comments, charts, equations, answers in forms,
hidden and merged parts. Those that no library at hand writes are made of their bytes."""

from __future__ import annotations

import base64
import io
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

import openpyxl
import pptx
from openpyxl.chart import BarChart, Reference
from openpyxl.comments import Comment
from pptx.chart.data import CategoryChartData
from pptx.enum.chart import XL_CHART_TYPE
from pptx.util import Inches

_OPEN_XML = "http://schemas.openxmlformats.org"
_OFFICE = f"{_OPEN_XML}/officeDocument/2006/relationships"
_PACKAGE = f"{_OPEN_XML}/package/2006"
_WORD = f"{_OPEN_XML}/wordprocessingml/2006/main"
_MATH = f"{_OPEN_XML}/officeDocument/2006/math"
_CHART = f"{_OPEN_XML}/drawingml/2006/chart"


def archive(members: Mapping[str, str | bytes]) -> bytes:
    """A zip archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in members.items():
            packed.writestr(name, data)
    return file.getvalue()


def renamed(data: bytes, old: str, new: str) -> bytes:
    """A zip archive whose members' names have `new` for `old`."""
    with zipfile.ZipFile(io.BytesIO(data)) as packed:
        return archive({name.replace(old, new): packed.read(name) for name in packed.namelist()})


def strict(data: bytes) -> bytes:
    """An Office document in the namespaces of the strict form."""
    pattern = re.compile(rb"http://schemas\.openxmlformats\.org/(\w+)/2006/(main|relationships)")
    with zipfile.ZipFile(io.BytesIO(data)) as packed:
        return archive(
            {
                name: packed.read(name)
                if name == "[Content_Types].xml"
                else pattern.sub(
                    lambda found: (
                        found[0]
                        if found[1] == b"package"
                        else b"http://purl.oclc.org/ooxml/%b/%b" % found.groups()
                    ),
                    packed.read(name),
                )
                for name in packed.namelist()
            }
        )


def word() -> bytes:
    """A Word document with a header, a footer, a comment, equations, a chart and a picture."""
    types = {
        "document": "document.main",
        "header1": "header",
        "footer1": "footer",
        "comments": "comments",
    }
    overrides = "".join(
        f'<Override PartName="/word/{name}.xml" ContentType="application/vnd.openxmlformats-'
        f'officedocument.wordprocessingml.{kind}+xml"/>'
        for name, kind in types.items()
    )
    relations = {
        "header": "header1.xml",
        "footer": "footer1.xml",
        "comments": "comments.xml",
        "chart": "charts/chart1.xml",
        "image": "media/image1.png",
    }
    marks = f'xmlns:w="{_WORD}" xmlns:m="{_MATH}"'

    def said(text: str) -> str:
        return f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>"

    def signs(text: str) -> str:
        return f"<m:r><m:t>{text}</m:t></m:r>"

    fraction = f"<m:f><m:num>{signs('a+b')}</m:num><m:den>{signs('2')}</m:den></m:f>"
    square = f"<m:sSup><m:e>{signs('x')}</m:e><m:sup>{signs('2')}</m:sup></m:sSup>"
    root = f"<m:rad><m:radPr/><m:deg/><m:e>{signs('c+1')}</m:e></m:rad>"
    return archive(
        {
            "[Content_Types].xml": f'<Types xmlns="{_PACKAGE}/content-types">'
            '<Default Extension="xml" ContentType="application/xml"/>'
            '<Default Extension="png" ContentType="image/png"/>'
            '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.'
            f'relationships+xml"/>{overrides}</Types>',
            "_rels/.rels": f'<Relationships xmlns="{_PACKAGE}/relationships"><Relationship Id="r"'
            f' Type="{_OFFICE}/officeDocument" Target="word/document.xml"/></Relationships>',
            "word/_rels/document.xml.rels": f'<Relationships xmlns="{_PACKAGE}/relationships">'
            + "".join(
                f'<Relationship Id="{kind}" Type="{_OFFICE}/{kind}" Target="{target}"/>'
                for kind, target in relations.items()
            )
            + "</Relationships>",
            "word/document.xml": f"<w:document {marks}><w:body><w:p><w:r><w:t>Solve </w:t></w:r>"
            f"<m:oMath>{signs('x=')}{fraction}{signs('+')}{square}{signs('-')}{root}</m:oMath>"
            '<w:r><w:t> now</w:t></w:r><w:r><w:commentReference w:id="7"/></w:r>'
            '<w:del w:id="1"><w:r><w:delText>gone</w:delText></w:r></w:del></w:p>'
            "</w:body></w:document>",
            "word/header1.xml": f"<w:hdr {marks}>{said('Secret plan')}</w:hdr>",
            "word/footer1.xml": f"<w:ftr {marks}>{said('Page of ACME')}</w:ftr>",
            "word/comments.xml": f'<w:comments {marks}><w:comment w:id="7" w:author="Ann"'
            f' w:initials="A">{said("Is this right?")}</w:comment></w:comments>',
            "word/charts/chart1.xml": chart("Sales", ["Q1", "Q2"], [123, 456]),
            "word/media/image1.png": b"\x89PNG",
        }
    )


def chart(title: str, categories: list[str], values: list[int]) -> str:
    """The part of a document that is a chart of one series."""

    def points(items: list[Any]) -> str:
        return "".join(
            f'<c:pt idx="{place}"><c:v>{item}</c:v></c:pt>' for place, item in enumerate(items)
        )

    return (
        f'<c:chartSpace xmlns:c="{_CHART}" xmlns:a="{_OPEN_XML}/drawingml/2006/main"><c:chart>'
        f"<c:title><c:tx><c:rich><a:p><a:r><a:t>{title}</a:t></a:r></a:p></c:rich></c:tx></c:title>"
        "<c:plotArea><c:barChart><c:ser><c:tx><c:strRef><c:strCache>"
        f"{points(['Revenue'])}</c:strCache></c:strRef></c:tx>"
        f"<c:cat><c:strRef><c:strCache>{points(categories)}</c:strCache></c:strRef></c:cat>"
        f"<c:val><c:numRef><c:numCache>{points(values)}</c:numCache></c:numRef></c:val>"
        "</c:ser></c:barChart></c:plotArea></c:chart></c:chartSpace>"
    )


def workbook() -> bytes:
    """An Excel workbook whose cells need their formats to be understood, with a hidden sheet, a
    comment, merged cells, a formula that no program has calculated and a chart of formulas."""
    book = openpyxl.Workbook()
    sheet: Any = book.active
    sheet.title = "Data"
    sheet.append(["Day", "When", "Share", "Price", "Zip", "Weight", "Odd", "Sum"])
    sheet.append(
        [
            date(2024, 3, 1),
            datetime.fromisoformat("2024-03-01 14:30"),
            0.125,
            1234.5,
            7,
            3,
            "a|b\nc",
            "=1+1",
        ]
    )
    formats = ["yyyy-mm-dd", "yyyy-mm-dd hh:mm", "0%", '#,##0.00\\ "€"', "00000", '0 "kg"']
    for column, number_format in enumerate(formats, 1):
        sheet.cell(2, column).number_format = number_format
    sheet["D3"], sheet["D3"].number_format = 5, "[$USD] #,##0.00"
    sheet["D4"], sheet["D4"].number_format = 12_000, '#,##0.0,"K"'
    sheet["A2"].comment = Comment("Not a Monday", "Ann")
    sheet.merge_cells("A5:C5")
    sheet["A5"] = "Merged"
    columns = BarChart()
    columns.add_data(Reference(sheet, min_col=3, min_row=1, max_row=2), titles_from_data=True)
    sheet.add_chart(columns, "J1")
    secret = book.create_sheet("Secret")
    secret.append(["salary", 99_999])
    secret.sheet_state = "veryHidden"
    secret.row_dimensions[1].hidden = True
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def false_dimension() -> bytes:
    """A workbook of 5 by 4 cells that says it has one, as some programs write."""
    book = openpyxl.Workbook()
    sheet: Any = book.active
    for row in range(5):
        sheet.append([f"r{row}c{column}" for column in range(4)])
    file = io.BytesIO()
    book.save(file)
    name = "xl/worksheets/sheet1.xml"
    with zipfile.ZipFile(file) as packed:
        members = {name: packed.read(name) for name in packed.namelist()}
    members[name] = re.sub(rb'<dimension ref="[^"]*"', b'<dimension ref="A1"', members[name])
    return archive(members)


def slides() -> bytes:
    """A presentation whose shapes are stored in another order than they stand in, with a group, a
    chart, a table, a speaker's note, an equation that only newer programs show, and a second slide
    that is hidden."""
    show = pptx.Presentation()
    slide: Any = show.slides.add_slide(show.slide_layouts[6])

    def box(shapes: Any, text: str, left: float, top: float) -> Any:
        shape = shapes.add_textbox(Inches(left), Inches(top), Inches(2), Inches(1))
        shape.text_frame.text = text
        return shape

    box(slide.shapes, "last", 0, 6)
    box(slide.shapes, "right", 5, 1.05)
    box(slide.shapes, "left", 0, 1.1)
    box(slide.shapes, "first", 0, 0)
    group = slide.shapes.add_group_shape()
    box(group.shapes, "in a group", 0, 2)
    new: Any = CategoryChartData
    data = new()
    data.categories = ["Q1", "Q2"]
    data.add_series("Revenue", (123, 456))
    place = (Inches(0), Inches(3), Inches(3), Inches(1))
    slide.shapes.add_chart(XL_CHART_TYPE.BAR_CLUSTERED, *place, data)
    table = slide.shapes.add_table(1, 2, Inches(0), Inches(4), Inches(3), Inches(1)).table
    table.cell(0, 0).text, table.cell(0, 1).text = "a|b", "c"
    slide.notes_slide.notes_text_frame.text = "Speak slowly"
    formula = box(slide.shapes, "Solve ", 0, 5)
    _make_equation(formula, "x^2=4")
    hidden: Any = show.slides.add_slide(show.slide_layouts[6])
    box(hidden.shapes, "not shown", 0, 0)
    hidden.element.set("show", "0")
    file = io.BytesIO()
    show.save(file)
    return file.getvalue()


def _make_equation(shape: Any, text: str) -> None:
    """Adds an equation to a shape, and has it alone in the choice of newer programs."""
    from lxml import etree

    compatible = "http://schemas.openxmlformats.org/markup-compatibility/2006"
    math = etree.fromstring(
        f'<x:m xmlns:x="http://schemas.microsoft.com/office/drawing/2010/main" xmlns:m="{_MATH}">'
        f"<m:oMath><m:r><m:t>{text}</m:t></m:r></m:oMath></x:m>"
    )
    shape.text_frame.paragraphs[0]._p.append(math)
    either = etree.fromstring(
        f'<mc:AlternateContent xmlns:mc="{compatible}"><mc:Choice Requires="a14"/>'
        "</mc:AlternateContent>"
    )
    shape.element.addprevious(either)
    either[0].append(shape.element)


def pdf_form() -> bytes:
    """A PDF form that was filled in: a text, a box that is checked and one that is not, a comment,
    and a file attached."""
    appearance = "<< /N << /Yes 9 0 R /Off 9 0 R >> >>"
    widget = "/Type /Annot /Subtype /Widget /P 3 0 R /Rect [10 10 90 30]"
    return pdf(
        [
            (
                "<< /Type /Catalog /Pages 2 0 R /AcroForm << /Fields [5 0 R 6 0 R 7 0 R] >>"
                " /Names << /EmbeddedFiles << /Names [(data.csv) 10 0 R] >> >> >>"
            ),
            "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
            (
                "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 400 200] /Contents 4 0 R"
                " /Annots [5 0 R 6 0 R 7 0 R 8 0 R] >>"
            ),
            "<< /Length 0 >>\nstream\n\nendstream",
            f"<< {widget} /FT /Tx /T (name) /TU (Your name) /V (Ann Smith) >>",
            f"<< {widget} /FT /Btn /T (married) /V /Yes /AS /Yes /AP {appearance} >>",
            f"<< {widget} /FT /Btn /T (smoker) /V /Off /AS /Off /AP {appearance} >>",
            "<< /Type /Annot /Subtype /Text /Rect [0 0 9 9] /Contents (Please check) >>",
            "<< /Type /XObject /Subtype /Form /BBox [0 0 9 9] /Length 0 >>\nstream\n\nendstream",
            "<< /Type /Filespec /F (data.csv) /UF (data.csv) /EF << /F 11 0 R >> >>",
            "<< /Type /EmbeddedFile /Length 3 >>\nstream\na,b\nendstream",
        ]
    )


def xfa_form() -> bytes:
    """A PDF whose form is XFA: its page tells people to take another program."""
    answers = (
        '<xfa:datasets xmlns:xfa="http://www.xfa.org/schema/xfa-data/1.0/"><xfa:data><form1>'
        "<Surname>Smith</Surname><Empty/><Income>52000</Income></form1></xfa:data></xfa:datasets>"
    )
    drawing = "BT /F1 18 Tf 20 100 Td (Please wait) Tj ET"
    return pdf(
        [
            "<< /Type /Catalog /Pages 2 0 R /AcroForm << /Fields [] /XFA [(datasets) 6 0 R] >> >>",
            "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
            (
                "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 400 200] /Contents 4 0 R"
                " /Resources << /Font << /F1 5 0 R >> >> >>"
            ),
            f"<< /Length {len(drawing)} >>\nstream\n{drawing}\nendstream",
            "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
            f"<< /Length {len(answers)} >>\nstream\n{answers}\nendstream",
        ]
    )


def pdf(objects: list[str]) -> bytes:
    """A PDF of these objects, of which the first is its catalogue."""
    out, places = b"%PDF-1.7\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += f"{number} 0 obj\n{body}\nendobj\n".encode()
    table = "".join(f"{place:010d} 00000 n \n" for place in places)
    size = len(objects) + 1
    end = (
        f"xref\n0 {size}\n0000000000 65535 f \n{table}"
        f"trailer << /Size {size} /Root 1 0 R >>\nstartxref\n{len(out)}\n%%EOF\n"
    )
    return out + end.encode()


_ODF = "urn:oasis:names:tc:opendocument:xmlns:"
_ODF_MARKS = "".join(
    f' xmlns:{name}="{_ODF}{kind}:1.0"'
    for name, kind in {
        "office": "office",
        "text": "text",
        "table": "table",
        "draw": "drawing",
        "style": "style",
        "presentation": "presentation",
    }.items()
)


def open_document(kind: str, body: str, styles: str = "", **more: str) -> bytes:
    """An OpenDocument of this kind: text, spreadsheet or presentation."""
    return archive(
        {
            "mimetype": f"application/vnd.oasis.opendocument.{kind}",
            "content.xml": f"<office:document-content{_ODF_MARKS}"
            ' xmlns:dc="http://purl.org/dc/elements/1.1/"'
            f' xmlns:xlink="http://www.w3.org/1999/xlink">{styles}'
            f"<office:body><office:{kind}>{body}</office:{kind}></office:body>"
            "</office:document-content>",
            "styles.xml": f"<office:document-styles{_ODF_MARKS}><style:header><text:p>ACME"
            "</text:p></style:header></office:document-styles>",
            **{f"{name}/content.xml": data for name, data in more.items()},
        }
    )


def odt() -> bytes:
    """A text with a heading, a list, a table, a comment, a deleted word and an equation."""
    return open_document(
        "text",
        "<text:tracked-changes><text:deletion><text:p>deleted</text:p></text:deletion></text:tracked-changes>"
        '<text:h text:outline-level="2">Plan</text:h>'
        "<text:p>One<text:tab/>two<office:annotation><dc:creator>Ann</dc:creator><text:p>Really?"
        "</text:p></office:annotation></text:p>"
        "<text:list><text:list-item><text:p>point</text:p></text:list-item></text:list>"
        "<table:table><table:table-row><table:table-cell><text:p>a</text:p><text:p>b|c</text:p>"
        "</table:table-cell></table:table-row></table:table>"
        '<text:p><draw:frame><draw:object xlink:href="./Object1"/><draw:image/></draw:frame>'
        "<draw:frame><draw:image/></draw:frame></text:p>",
        Object1='<math xmlns="http://www.w3.org/1998/Math/MathML"><semantics><annotation>'
        "x = {a} over {b}</annotation></semantics></math>",
    )


def ods() -> bytes:
    """Sheets of which one is hidden, filled to their end with the same."""
    return open_document(
        "spreadsheet",
        '<table:table table:name="Prices"><table:table-row><table:table-cell><text:p>12.50 €'
        '</text:p></table:table-cell><table:table-cell table:number-columns-repeated="2"><text:p>'
        'x</text:p></table:table-cell><table:table-cell table:number-columns-repeated="16000"/>'
        '</table:table-row><table:table-row table:number-rows-repeated="1000000"><table:table-cell'
        "><text:p>same</text:p></table:table-cell></table:table-row></table:table>"
        '<table:table table:name="Secret" table:style-name="gone"><table:table-row>'
        "<table:table-cell><text:p>salary</text:p></table:table-cell></table:table-row>"
        "</table:table>",
        '<office:automatic-styles><style:style style:name="gone"><style:table-properties'
        ' table:display="false"/></style:style></office:automatic-styles>',
    )


def epub(**more: str) -> bytes:
    """A book of two chapters, stored in another order than they are read in."""
    return archive(
        {
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": "<container><rootfiles><rootfile full-path='b/c.opf'/>"
            "</rootfiles></container>",
            "b/c.opf": "<package><manifest><item id='x' href='2.xhtml'/><item id='y' href='1.xhtml'"
            "/><item id='p' href='p.png' media-type='image/png'/></manifest><spine>"
            "<itemref idref='y'/><itemref idref='x'/></spine></package>",
            "b/2.xhtml": "<html><head><title>T</title></head><body><p>The end.</p></body></html>",
            "b/1.xhtml": "<html><body><h1>One</h1><p>It began.</p></body></html>",
            **more,
        }
    )


def compound(stream: str) -> bytes:
    """A file of Microsoft's older container with one stream: what it is called tells the type."""
    header = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(16)
    header += struct.pack("<HHHHH", 0x3E, 3, 0xFFFE, 9, 6) + bytes(6)
    header += struct.pack("<IIIIIiIiI", 0, 1, 1, 0, 4_096, -2, 0, -2, 0)
    header += struct.pack("<109i", 0, *[-1] * 108)
    chains = struct.pack("<128i", -3, -2, *range(3, 10), -2, *[-1] * 118)

    def entry(name: str, kind: int, child: int, start: int, size: int) -> bytes:
        written = name.encode("utf-16-le")
        return (
            written.ljust(64, b"\0")
            + struct.pack("<HBBiii", len(written) + 2, kind, 1, -1, -1, child)
            + bytes(36)
            + struct.pack("<iQ", start, size)
        )

    folder = entry("Root Entry", 5, 1, -2, 0) + entry(stream, 2, -1, 2, 4_096) + bytes(256)
    return header + chains + folder + bytes(4_096)


def xls() -> bytes:
    """A workbook as Excel wrote them before 2007, with a hidden sheet."""
    return zlib.decompress(base64.b85decode(_XLS))


_XLS = (
    "c-rk)O=uHQ5dPlgKeqWZ6<VQ$fVI~4AYQz*+e)>k#A*-zAn3MPP#RNNd$1x}tvL#UC&f#p9=ue&_=6r4JoF$`^dJaA"
    "qeoAIf`>Niyvd6swL$|LNZD_B^JZt}?VEiw?`QYzVsvTtQCk74&<7Wab^zWAnV=FV-$X!q+m>v(_EWJPG!z1U3Z&PA"
    "=gn_?GKMnV1!#Eaenk}cOyxMvB0Z5a6LrL1_Q4R+hhE{P+|zJ}N(im&SB&Wx)6GmDu<Z+`{Vci8w3lp`#4#-D>8?F0"
    "kB?|c)`f@)JmEGUS+WZ)Sde*q`GzRjdN5#}HnI(-Xm>YZ4iwTMGiO@zK8$+^0!IlwsZ`J4;1c2#?m7Ih6TtWKyndN*"
    "<n@&cko;%0-1ir`pMtnrep7P;)38qpnap`?LeecYE*!{a@|5EX9+?<kjF@AVIk}8ZNWCg)<BUmZGIGkW%!}t;z(6iX"
    "i@-S}Ygki3x#IH*5vf`snt9$d5zQdXe3WNTgdAMH|Lt9BbXY&Zl4;%*N_)pP=_qVmku9ikh&38Y&H`P`?__$FpSqR#"
    "Hl}e(ZK^wlTNJZ@hHb8~wuAcF&3LbGui!h0&woAmv_1bt-$DHRP~k#+{)0Y?B<*DxYA>%Dbc=3r`<BEry<7{m%6wwl"
    "`p1gn*COf-Y_&m#u_EUfA<DFLCr3vpd%^EoZ7<kfKG8*EBG_I9SHGkMdF_kg?rRNwS`3eQ!1^op<$6R({HBc>C9!6d"
    "WZv<pVy#hi;J|?c2M!!K*mw}?1nyE_1RiyE^r`<kD^!ZkZ;}m*Lztjzl0GT-AxE`^shaX<3p}FyEV0fu<^P2ehpBf9"
    ";}~T>#%s=BI{S;t_gQzt$iJIHwf0}E#n1oT|1Ts200{"
)
