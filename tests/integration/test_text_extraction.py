"""What is read out of plain texts, mails and Rich Text, each in a process of its own."""

from __future__ import annotations

import tempfile

import pytest
from colloquy_server.files import filetypes
from colloquy_server.files.extraction import ExtractedText, Extractor
from colloquy_server.files.extractors import plain_text
from colloquy_server.files.extractors.old_office import MSG, OLE
from colloquy_server.files.extractors.results import Notes

from tests.fakes import mails, samples


async def read(data: bytes, name: str) -> ExtractedText:
    """What a model is given of a file with this name."""
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        kind = filetypes.decide(data[: filetypes.HEAD], name, "")
        if kind == OLE:
            kind = (await Extractor().inspect("a", file, kind)).content_type
        is_document = kind in filetypes.READABLE
        assert is_document or kind.startswith("text/")
        return await Extractor().text("a", file, kind if is_document else plain_text.TEXT)


# --- encodings ------------------------------------------------------------------------------------

GUESSED = [
    ("café", "cp1252"),
    ("item;price\r\nTea;3,50 €\r\n", "cp1252"),
    ("Ça va très bien, “merci” — à bientôt", "cp1252"),
    ("これは日本語のテキストです。会議は三時から。", "cp932"),
    ("请把发票寄给我们,谢谢。", "gb18030"),
    ("請把發票寄給我們,謝謝。", "big5"),
    ("송장을 보내 주세요. 감사합니다.", "euc_kr"),
    ("Привет", "cp1251"),
    ("Пришлите, пожалуйста, счёт. Спасибо.", "koi8-r"),
    ("Proszę o przesłanie faktury, dziękuję bardzo", "cp1250"),
    ("Lütfen faturay\u0131 gönderin, teşekkürler", "cp1254"),
    ("Παρακαλώ στείλτε το τιμολόγιο", "cp1253"),
    ("אנא שלחו את החשבונית", "cp1255"),
    ("يرجى إرسال الفاتورة", "cp1256"),
]


@pytest.mark.parametrize(("text", "encoding"), GUESSED, ids=lambda value: value[:8])
async def test_a_text_that_does_not_say_its_encoding_is_read_and_called_a_guess(
    text: str, encoding: str
) -> None:
    found = await read(text.encode(encoding), "a.txt")
    assert found.beginning == text.strip()
    (note,) = found.notes
    assert note.startswith("its encoding is a guess: ")


KNOWN = [
    pytest.param("Zoë 🙂 日本".encode(encoding), "Zoë 🙂 日本", id=encoding)
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32")
]
KNOWN += [
    pytest.param(f"name;city\nZoë;{city}\n".encode(encoding), f"name;city\nZoë;{city}", id=encoding)
    for encoding in ("utf-16-le", "utf-16-be")
    for city in ("Köln",)
]
KNOWN += [
    pytest.param("日本語のテキスト\n三時 から 1 2\n".encode("utf-16-le"),
                 "日本語のテキスト\n三時 から 1 2", id="utf-16 in Japanese"),
    pytest.param("三時から".encode("iso2022_jp"), "三時から", id="iso-2022-jp"),
    pytest.param('<?xml version="1.0" encoding="koi8-r"?><a>Привет</a>'.encode("koi8-r"),
                 '<?xml version="1.0" encoding="koi8-r"?><a>Привет</a>', id="declared"),
    pytest.param(b"progress 10%\b\b\b20%\ndone\n", "progress 10%\b\b\b20%\ndone", id="backspaces"),
    pytest.param(b"DOS text\r\nend\r\n\x1a", "DOS text\r\nend", id="end of file of DOS"),
    pytest.param(b"boot\n\0\0\0\0crash " + b"x" * 20, "boot\ncrash " + "x" * 20, id="zeros"),
    pytest.param(b"\x1b$? cost", "\x1b$? cost", id="like iso-2022-jp"),
    pytest.param(b"\x1b[31mred\x1b[0m \a beep", "\x1b[31mred\x1b[0m \a beep", id="terminal"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "text"), KNOWN)
async def test_a_text_whose_encoding_is_certain_is_no_guess(data: bytes, text: str) -> None:
    found = await read(data, "a.txt")
    assert (found.beginning, found.notes) == (text, ())


async def test_a_damaged_text_in_unicode_stays_in_unicode_and_says_so() -> None:
    text = "Grüße aus München, schöne Grüße"
    found = await read(text.encode() + b"\xff", "a.txt")
    assert found.beginning == text + "\ufffd"
    assert found.notes == ("not valid in UTF-8, and given as \ufffd: 1 characters",)


async def test_a_page_that_does_not_say_its_encoding_is_guessed_as_a_text() -> None:
    page = "<html><body><p>Привет, это русский текст.</p>"
    found = await read(page.encode("cp1251"), "a.html")
    assert found.beginning == "Привет, это русский текст."
    assert found.notes == ("its encoding is a guess: Windows-1251",)
    says = page.replace("<body>", '<head><meta charset="koi8-r"></head><body>').encode("koi8-r")
    assert await read(says, "a.html") == ExtractedText(found.beginning, "", found.length)


@pytest.mark.parametrize(
    "data",
    [
        samples.noise(40), samples.noise(20_000), b"\0\1\0\2", b".snd" + bytes(9), b"\0",
        b"\1\2\3\4abc", bytes(range(256)), "日本".encode("utf-16-le") + b"\0\1",
        b"ab\0\0\0\1\0\5cd",
    ],
)  # fmt: skip
def test_what_is_no_text_is_not_taken_for_one(data: bytes) -> None:
    assert filetypes.decide(data, "a.txt", "") == filetypes.OCTETS


def test_a_text_that_is_cut_in_a_character_is_still_a_text() -> None:
    for encoding in ("utf-8", "utf-16-le"):
        head = ("\b" * (encoding == "utf-8") + "日本 🙂 a b" * 3_000).encode(encoding)
        for size in range(100, 112):
            assert filetypes.decide(head[:size], "a.txt", "") == "text/plain"


def test_a_guess_takes_no_longer_for_a_longer_text() -> None:
    text = "これは日本語のテキストです。" * 100_000
    notes = Notes()
    assert plain_text.decode(text.encode("cp932"), notes) == text
    assert len(notes.all()) == 1


# --- mail -----------------------------------------------------------------------------------------


async def test_a_mail_is_read_as_people_see_it() -> None:
    found = await read(mails.eml(), "question.eml")
    text = found.beginning
    assert text.startswith(
        "Subject: Réunion lundi 🙂\nFrom: Zoë <zoe@example.com>\nTo: bob@example.com\n"
        "Date: Mon, 06 Jul 2026 10:00:00 +0200\n\nRendez-vous à 15h."
    )
    assert text.count("Rendez-vous") == 1
    assert 'Attachment "été.csv" (text/csv, ' in text
    assert "number,square\n0,0\n" in text
    assert "Attached mail:\n\nSubject: Erste Frage\nFrom: Bob <bob@example.com>\n\nWann?" in text
    assert "X-Trace" not in text
    (note,) = found.notes
    assert note.startswith('attachment not given: "plan.pdf" (application/pdf, ')


async def test_a_mail_of_html_is_read_whatever_its_encoding_is_called() -> None:
    found = await read(mails.html_eml(), "a.eml")
    assert found.beginning == (
        "Subject: Café\nFrom: a@example.com\n\nUn **café** pour Zoë"
    )  # fmt: skip
    assert found.notes == ("its encoding is a guess: Windows-1252",)


@pytest.mark.parametrize(
    "data",
    [
        b"From: a\nSubject: b\nTo: <\"\xff@\nDate: never\nContent-Type: multipart/mixed\n\nText",
        b"From: a\nSubject: =?utf-8?Q?\xff?=\nContent-Type: text/plain; charset=\"\n\nText",
        b"From: =?x?=@:;<\nSubject: b\nContent-Transfer-Encoding: base64\n\nText",
    ],
)  # fmt: skip
async def test_a_mail_that_keeps_no_rules_is_read_nevertheless(data: bytes) -> None:
    assert "Subject: " in (await read(data, "a.eml")).beginning


async def test_a_mail_that_is_all_a_file_names_it() -> None:
    data = b"From: a\nSubject: b\nContent-Type: application/pdf; name=x.pdf\n\n%PDF-1.4"
    found = await read(data, "a.eml")
    assert 'Attachment "x.pdf" (application/pdf, 8 bytes): not given here' in found.beginning
    assert found.notes == ('attachment not given: "x.pdf" (application/pdf, 8 bytes)',)


def test_what_only_has_the_name_of_a_mail_is_a_text() -> None:
    for data in (b"Dear all,\n\nhello", b"Note: one\n\nFrom: x\nDate: y\n", b"key: value\n"):
        assert filetypes.decide(data, "a.eml", "") == "text/plain"
    assert filetypes.decide(mails.eml()[:200], "a.eml", "") == "message/rfc822"


async def test_a_mail_that_outlook_has_saved_is_read() -> None:
    data = mails.msg()
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        assert (await Extractor().inspect("a", file, OLE)).content_type == MSG
    found = await read(data, "a.msg")
    assert found.beginning.startswith(
        'Subject: Réunion lundi\nFrom: "Zoë" <zoe@example.com>\n\nÀ 15h.\n\nAttachment "table.csv"'
    )
    assert "number,square" in found.beginning
    (note,) = found.notes
    assert note.startswith('attachment not given: "plan.png"')


async def test_a_header_of_outlook_that_keeps_no_rule_is_given_as_it_is() -> None:
    found = await read(mails.msg(subject="=?utf-8?b?A?="), "a.msg")
    assert found.beginning.startswith("Subject: =?utf-8?b?A?=\n")


# --- Rich Text ------------------------------------------------------------------------------------

RTF = (
    rb"{\rtf1\ansi\ansicpg1251{\fonttbl{\f0 Arial;}}{\header Secret\par}{\footer Page}"
    rb"\f0 \'cf\'f0\'e8\'e2\'e5\'f2, {\b caf\u233?} \u-10179?\u-8638?.\par"
    rb"Sum{\footnote Net of tax} {\*\annotation Sure?}"
    rb"{\*\shppict{\pict\pngblip " + b"89504e470d0a" * 100 + rb"}}"
    rb"{\nonshppict{\pict\wmetafile8 " + b"0a0b" * 100 + rb"}}\par End}"
)


async def test_rich_text_is_read_as_text() -> None:
    found = await read(RTF, "a.rtf")
    text = found.beginning
    assert "Привет, café 🙂." in text
    for part in ("Header: Secret", "Footer: Page", "Footnote: Net of tax", "Comment: Sure?"):
        assert part in text
    assert text.endswith("End")
    assert "89504e" not in text
    assert "\\" not in text
    assert found.notes == ("left out: 1 picture",)


async def test_rich_text_is_known_by_its_beginning() -> None:
    assert (await read(RTF, "a.doc")).beginning.endswith("End")
    assert filetypes.decide(rb"{\rtf1\ansi x}", "a.txt", "") == "application/rtf"


async def test_a_long_text_of_an_encoding_that_is_a_guess_keeps_its_end() -> None:
    text = "Пришлите счёт. " * 40_000 + "Конец."
    found = await read(text.encode("cp1251"), "a.txt")
    assert found.length == len(text)
    assert found.end.endswith("Конец.")
    assert found.beginning == text[:300_000]
