from __future__ import annotations

import contextlib
import io
import json
import time
import zipfile
from email.message import EmailMessage

import openpyxl  # type: ignore[import-untyped]  # it has no types
import pytest

from anabranch_ingestion.adapters.parsing import formats as f
from anabranch_ingestion.adapters.parsing.archives import ArchiveLimits
from anabranch_ingestion.adapters.parsing.reading import ReadLimits, is_simple, read
from anabranch_ingestion.application.ports import Body
from anabranch_ingestion.domain.refusals import Reason, Refused
from anabranch_ingestion.domain.text import BlockKind, Extracted

LIMITS = ReadLimits()


def made(data: bytes | str, filename: str = "", content_type: str = "") -> Extracted:
    if isinstance(data, str):
        return read(Body(text=data, filename=filename, content_type=content_type), LIMITS)
    return read(Body(data=data, filename=filename, content_type=content_type), LIMITS)


def shown(document: Extracted) -> list[tuple[str, str]]:
    return [(b.kind.value + (str(b.level) if b.level else ""), document.text[b.start : b.end]) for b in document.blocks]


def refusal(data: bytes | str, filename: str = "", limits: ReadLimits = LIMITS) -> Reason:
    body = Body(text=data, filename=filename) if isinstance(data, str) else Body(data=data, filename=filename)
    with pytest.raises(Refused) as refused:
        read(body, limits)
    assert str(refused.value)
    return refused.value.why


def zipped(members: dict[str, bytes | str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
PACKAGE = "http://schemas.openxmlformats.org/package/2006"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"


def docx(body: str) -> bytes:
    types = (
        f'<Types xmlns="{PACKAGE}/content-types"><Default Extension="rels" '
        'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Override PartName="/word/document.xml" ContentType="{f.DOCX}.main+xml"/></Types>'
    )
    relations = (
        f'<Relationships xmlns="{PACKAGE}/relationships">'
        f'<Relationship Id="r1" Type="{OFFICE}" Target="word/document.xml"/></Relationships>'
    )
    document = f'<w:document xmlns:w="{W}"><w:body>{body}</w:body></w:document>'
    return zipped({"[Content_Types].xml": types, "_rels/.rels": relations, "word/document.xml": document})


def pdf(*pages: str) -> bytes:
    """A PDF a person could have typed: one font, one line of text a `\\n` of each page, headings in 24 points."""
    objects = [b"<< /Type /Catalog /Pages 2 0 R >>", b"", b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"]
    kids = []
    for page in pages:
        lines = []
        y = 760
        for line in page.split("\n"):
            size = 24 if line.startswith("# ") else 11
            y -= size + (14 if not line else 3)
            escaped = line.removeprefix("# ").replace("(", "\\(").replace(")", "\\)")
            lines.append(f"BT /F1 {size} Tf 72 {y} Td ({escaped}) Tj ET")
        stream = "\n".join(lines).encode("latin-1")
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream))
        number = len(objects)
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents %d 0 R "
            b"/Resources << /Font << /F1 3 0 R >> >> >>" % number
        )
        kids.append(b"%d 0 R" % len(objects))
    objects[1] = b"<< /Type /Pages /Kids [%s] /Count %d >>" % (b" ".join(kids), len(kids))
    out = io.BytesIO(b"%PDF-1.4\n")
    out.seek(0, io.SEEK_END)
    places = []
    for number, one in enumerate(objects, start=1):
        places.append(out.tell())
        out.write(b"%d 0 obj\n%s\nendobj\n" % (number, one))
    start = out.tell()
    out.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1))
    for place in places:
        out.write(b"%010d 00000 n \n" % place)
    out.write(b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, start))
    return out.getvalue()


def test_plain_text_stays_as_it_is() -> None:
    text = "First  line\nsecond line.\n\n\n  Another paragraph. "
    document = made(text)
    assert document.text == text
    assert [kind for kind, _ in shown(document)] == ["prose", "prose"]


def test_markdown_becomes_blocks_without_markup() -> None:
    text = (
        "---\ntitle: Front\n---\n# One #\n\nSome *text* with [a link](http://x/y_(z)) and `co_de*`.\n\n"
        "Setext\n------\n- item **one**\n- [x] item two\n  goes on\n\n1. first\n\n```py\ndef f():\n    pass\n```\n\n"
        "| a | b |\n|---|:-:|\n| 1 | x\\|y |\n\n> quoted\n> words\n\n"
        "<!-- hidden\n\nnote -->\n\n![alt](i.png) 5 * 3 * 2 &amp; _so_\n\n"
        "    indented\n    code\n\n<div>\n<p>Raw <b>HTML</b></p></div>\n\n[ref]: http://x\n"
    )
    document = made(text, "a.md")
    assert document.title == "Front"
    assert shown(document) == [
        ("heading1", "One"),
        ("prose", "Some text with a link and co_de*."),
        ("heading2", "Setext"),
        ("item", "- item one"),
        ("item", "- item two\ngoes on"),
        ("item", "1. first"),
        ("code", "def f():\n    pass"),
        ("table", "a | b\n1 | x|y"),
        ("prose", "quoted\nwords"),
        ("prose", "alt 5 * 3 * 2 & so"),
        ("code", "indented\ncode"),
        ("prose", "Raw HTML"),
    ]


def test_restructured_text_becomes_blocks_without_markup() -> None:
    text = (
        "PEP: 8\nTitle: Style\nAuthor: A <a@x>,\n        B\nStatus: Active\n\n"
        "Intro\n=====\n\nSee :pep:`20` and ``code``, *so* `a\nlink <http://x>`_.\n\n"
        "Sub\n---\n\nExample::\n\n    x = 1\n      y\n\n.. note:: Take care\n   of this.\n\n"
        ".. code-block:: python\n   :linenos:\n\n   print(1)\n\n.. comment\n   hidden\n\n- one\n- two\n  more\n\n"
        "=====  =====\nA      B\n=====  =====\n1      2\n=====  =====\n\n"
        "+---+---+\n| a | b |\n+===+===+\n| 1 | 2 |\n+---+---+\n"
    )
    document = made(text, "pep.rst")
    assert document.title == "PEP 8: Style"
    assert shown(document) == [
        ("item", "PEP: 8"),
        ("item", "Title: Style"),
        ("item", "Author: A <a@x>, B"),
        ("item", "Status: Active"),
        ("heading1", "Intro"),
        ("prose", "See PEP 20 and code, so a\nlink."),
        ("heading2", "Sub"),
        ("prose", "Example:"),
        ("code", "x = 1\n  y"),
        ("prose", "Take care"),
        ("prose", "of this."),
        ("code", "print(1)"),
        ("item", "- one"),
        ("item", "- two\nmore"),
        ("table", "A | B\n1 | 2"),
        ("table", "a | b\n1 | 2"),
    ]


def test_html_becomes_what_a_reader_of_the_page_sees() -> None:
    page = (
        "<!doctype html><html><head><title>The  title</title><style>p{}</style></head><body><nav>Menu</nav>"
        "<h1>Head <em>line</em></h1><p>Some <b>bold</b>\n text<br>next</p><script>alert(1)</script>"
        "<p style='display: none'>hidden</p><ol start=3><li>three<ul><li>inner</li></ul></li><li><p>four</p></li></ol>"
        "<pre>a\n  b</pre><table><tr><th>k</th><th>v</th></tr><tr><td>x<br>y</td><td>1</td></tr></table>"
        "<table><tr><td><h2>Laid out</h2></td></tr></table>loose</body></html>"
    )
    document = made(page)
    assert document.title == "The title"
    assert shown(document) == [
        ("heading1", "Head line"),
        ("prose", "Some bold text\nnext"),
        ("item", "3. three"),
        ("item", "- inner"),
        ("item", "4. four"),
        ("code", "a\n  b"),
        ("table", "k | v\nx y | 1"),
        ("heading2", "Laid out"),
        ("prose", "loose"),
    ]


def test_asciidoc_keeps_its_headings() -> None:
    document = made("= Title\n\n== Part\n\nSome words.\n\n----\ncode\n----\n", "a.adoc")
    assert document.content_type == f.ASCIIDOC
    assert "Some words." in document.text
    assert any(b.kind is BlockKind.HEADING and document.text[b.start : b.end] == "Part" for b in document.blocks)


def test_pdf_has_pages_paragraphs_and_headings() -> None:
    first = "# Report\nThe first paragraph goes over\ntwo lines of text here.\n\nThe second paragraph."
    document = made(pdf(first, "Next page (two)."))
    assert shown(document) == [
        ("heading1", "Report"),
        ("prose", "The first paragraph goes over\ntwo lines of text here."),
        ("prose", "The second paragraph."),
        ("prose", "Next page (two)."),
    ]
    assert [block.page for block in document.blocks] == [1, 1, 1, 2]


def test_a_pdf_without_text_says_what_to_do() -> None:
    with pytest.raises(Refused, match="text recognition") as refused:
        made(pdf(""))
    assert refused.value.why is Reason.NO_TEXT


def test_docx_is_read_with_its_structure() -> None:
    body = (
        '<w:p><w:pPr><w:pStyle w:val="Heading1"/></w:pPr><w:r><w:t>Head</w:t></w:r></w:p>'
        "<w:p><w:r><w:t>Some words.</w:t></w:r></w:p>"
        "<w:tbl><w:tr><w:tc><w:p><w:r><w:t>a</w:t></w:r></w:p></w:tc><w:tc><w:p><w:r><w:t>b</w:t></w:r></w:p></w:tc></w:tr>"
        "<w:tr><w:tc><w:p><w:r><w:t>1</w:t></w:r></w:p></w:tc><w:tc><w:p><w:r><w:t>2</w:t></w:r></w:p></w:tc></w:tr></w:tbl>"
    )
    document = made(docx(body), "misnamed.pdf", "application/pdf")
    assert document.content_type == f.DOCX
    assert ("prose", "Some words.") in shown(document)
    assert ("table", "a | b\n1 | 2") in shown(document)


def test_xlsx_is_a_table_a_sheet() -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.title = "Prices"
    for row in (["what", "cost"], ["tea", 3], ["milk", 1.5]):
        sheet.append(row)
    buffer = io.BytesIO()
    book.save(buffer)
    document = made(buffer.getvalue())
    assert ("table", "what | cost\ntea | 3\nmilk | 1.5") in shown(document)
    assert any(text == "Prices" for kind, text in shown(document) if kind.startswith("heading"))


def test_odp_leaves_the_placeholders_of_its_master_out() -> None:
    names = (
        'xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0" '
        'xmlns:draw="urn:oasis:names:tc:opendocument:xmlns:drawing:1.0" '
        'xmlns:presentation="urn:oasis:names:tc:opendocument:xmlns:presentation:1.0" '
        'xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0"'
    )
    content = (
        f"<office:document-content {names}><office:body><office:presentation><draw:page>"
        '<draw:frame presentation:class="title"><draw:text-box><text:p>A slide</text:p></draw:text-box></draw:frame>'
        "<draw:frame><draw:text-box><text:list><text:list-item><text:p>point</text:p></text:list-item></text:list>"
        "</draw:text-box></draw:frame></draw:page></office:presentation></office:body></office:document-content>"
    )
    document = made(zipped({"mimetype": f.ODP, "content.xml": content, "styles.xml": "<x>Click to edit</x>"}))
    assert shown(document) == [("heading2", "A slide"), ("item", "- point")]


def test_csv_json_and_json_lines_become_rows_and_fields() -> None:
    assert shown(made("a;b\n1;2\n", "x.csv")) == [("table", "a | b\n1 | 2")]
    assert shown(made("a\tb\n1\t2\n", "x.tsv")) == [("table", "a | b\n1 | 2")]
    document = made(json.dumps({"title": "T", "tags": ["x", "y"], "deep": {"n": 1, "none": None}}))
    assert (document.title, document.text) == ("T", "title: T\ntags: x, y\ndeep.n: 1")
    document = made('{"name": "one", "n": 1}\n{"name": "two", "n": 2}\n', "x.jsonl")
    assert [text for kind, text in shown(document) if kind == "heading2"] == ["one", "two"]


def test_xml_is_read_by_structure_and_its_entities_are_never_expanded() -> None:
    document = made(
        '<?xml version="1.0" encoding="latin-1"?><doc><title>T</title><sec><title>S</title>'
        "<p>Some <i>words</i>\n more &amp; &nbsp;x</p>"
        "<table><row><entry>a</entry><entry>b</entry></row></table></sec></doc>"
    )
    assert document.title == "T"
    assert shown(document) == [
        ("heading1", "T"),
        ("heading2", "S"),
        ("prose", "Some words more & x"),
        ("table", "a | b"),
    ]
    laughs = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><x>&b;</x>'
    assert refusal(laughs) is Reason.UNPARSEABLE
    fetched = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]><x>&f;</x>'
    assert refusal(fetched) is Reason.UNPARSEABLE
    assert refusal("<?xml version='1.0'?><a>" + "<b>" * 600 + "deep") is Reason.UNPARSEABLE


def test_mail_is_read_with_its_headers_and_best_part() -> None:
    message = EmailMessage()
    message["Subject"], message["From"], message["To"] = "Lunch", "a@x.org", "b@x.org"
    message["Date"] = "Mon, 01 Jan 2024 10:00:00 +0000"
    message.set_content("Shall we eat?\n\nAt noon.\n")
    message.add_alternative("<p>Shall we <b>eat</b>?</p>", subtype="html")
    message.add_attachment(b"\x89PNG", maintype="image", subtype="png", filename="cat.png")
    document = made(message.as_bytes())
    assert document.content_type == f.EML
    assert document.title == "Lunch"
    texts = [text for _, text in shown(document)]
    assert texts[:3] == ["Lunch", "From: a@x.org", "To: b@x.org"]
    assert texts[-3:] == ["Shall we eat?", "At noon.", "Attachment: cat.png"]
    box = b"From a@x.org Mon Jan  1 10:00:00 2024\n" + message.as_bytes() + b"\n"
    document = made(box * 2)
    assert document.content_type == f.MBOX
    assert [text for kind, text in shown(document) if kind == "heading1"] == ["Lunch", "Lunch"]


def test_subtitles_lose_their_times_and_keep_their_speakers() -> None:
    text = (
        "WEBVTT - Talk\n\n1\n00:00:01.000 --> 00:00:02.000\n<v Ann>Hello <i>you</i>\n\n"
        "00:03.000 --> 00:04.000\n<v Bob>Hi\n"
    )
    document = made(text)
    assert [text for _, text in shown(document)] == ["Ann: Hello you", "Bob: Hi"]


def test_rtf_is_read() -> None:
    assert made(rb"{\rtf1\ansi Hello \b bold\b0  world.\par Second.}").text.startswith("Hello bold")


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("Grüße".encode(), "Grüße"),
        ("\ufeffGrüße".encode(), "Grüße"),
        ("Grüße an alle".encode("utf-16"), "Grüße an alle"),
        ("Gruesse an alle".encode("utf-16-le"), "Gruesse an alle"),
        ("Grüße an alle, schöne Tage".encode("latin-1"), "Grüße an alle, schöne Tage"),
        ('<html><meta charset="windows-1251"><p>Привет, мир</p>'.encode("windows-1251"), "Привет, мир"),
    ],
)
def test_bytes_are_decoded_whatever_wrote_them(data: bytes, text: str) -> None:
    assert made(data).text == text


@pytest.mark.parametrize(
    ("text", "filename", "content_type", "kind"),
    [
        ("# Title\n\n- a [link](http://x)", "", "", f.MARKDOWN),
        ("# Title", "notes.txt", "", f.TEXT),
        ("# Title", "a.md", "text/plain", f.MARKDOWN),
        ("just words", "", "application/pdf", f.TEXT),
        ("just words", "a.json", "", f.TEXT),
        ("<html><p>x</p></html>", "a.txt", "text/plain", f.HTML),
        ("Title\n=====\n\n.. note:: x\n", "", "", f.RST),
        ('{"a": 1}', "", "", f.JSON),
        ("a,b\n1,2", "", "text/csv; charset=utf-8", f.CSV),
        ("a,b\n1,2", "", "", f.TEXT),
    ],
)
def test_hints_decide_only_what_bytes_leave_open(text: str, filename: str, content_type: str, kind: str) -> None:
    assert made(text, filename, content_type).content_type == kind


@pytest.mark.parametrize(
    "data",
    [
        b"\x89PNG\r\n\x1a\n1234",
        b"\x1f\x8b\x08\x00abc",
        b"\x7fELF\x02",
        b"GIF89a..",
        zipped({"a.txt": "x"}),
        b"\x00\x01\x02" * 50,
    ],
)
def test_what_is_no_document_is_refused_by_name(data: bytes) -> None:
    assert refusal(data, "report.pdf") is Reason.UNSUPPORTED_FORMAT


def test_a_container_that_claims_too_much_is_refused_before_it_is_unpacked() -> None:
    bomb = zipped({"word/document.xml": b"\x00" * (20 << 20)})
    assert refusal(bomb) is Reason.TOO_LARGE
    many = zipped({f"word/{n}": "" for n in range(60)})
    assert refusal(many, limits=ReadLimits(archive=ArchiveLimits(members=50))) is Reason.TOO_LARGE
    assert refusal(docx("<w:p/>")[:300]) is Reason.UNPARSEABLE


def test_a_container_with_a_password_is_encrypted() -> None:
    data = bytearray(docx("<w:p/>"))
    for place in (data.find(b"PK\x03\x04") + 6, data.find(b"PK\x01\x02") + 8):
        data[place] |= 1
    assert refusal(bytes(data)) is Reason.ENCRYPTED
    ole = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\x00" * 512 + "EncryptedPackage".encode("utf-16-le") + b"\x00" * 512
    assert refusal(ole) is Reason.ENCRYPTED


def test_a_text_over_its_limit_is_refused() -> None:
    limits = ReadLimits(text_bytes=1_000)
    assert refusal("words " * 300, limits=limits) is Reason.TOO_LARGE
    assert refusal("# T\n\n" + "words\n\n" * 300, "a.md", limits=limits) is Reason.TOO_LARGE


@pytest.mark.parametrize(
    ("text", "filename"),
    [
        ("[" * 30_000, "a.md"),
        ("**a " * 8_000, "a.md"),
        ("<!--" * 8_000, "a.md"),
        ("`a" * 15_000, "a.md"),
        ("[a](" * 8_000, "a.md"),
        ("| - " * 8_000 + "\n" + "|-" * 15_000, "a.md"),
        ("> " * 15_000, "a.md"),
        ("_a" * 15_000, "a.md"),
        ("&lt;" * 8_000, "a.md"),
        ("`a <" * 8_000, "a.rst"),
        (":a:`" * 8_000, "a.rst"),
        (".. note::\n   " * 2_500, "a.rst"),
        ("".join("   " * n + ".. note::\n" for n in range(140)), "a.rst"),
        ("- " * 15_000, "a.rst"),
        ("|a" * 15_000, "a.rst"),
        ('"' * 30_000, "a.csv"),
        ("\n\n" * 15_000 + "x", "a.txt"),
        ("WEBVTT\n\n" + "<v a" * 8_000, "a.vtt"),
    ],
)
def test_what_is_read_in_place_takes_time_in_proportion_to_its_length(text: str, filename: str) -> None:
    body = Body(text=text[:32_768], filename=filename)
    assert is_simple(body, 32_768) is not None
    began = time.process_time()
    with contextlib.suppress(Refused, RecursionError):
        read(body, LIMITS)
    assert time.process_time() - began < 0.5


def test_only_short_texts_for_our_own_readers_are_read_in_place() -> None:
    assert is_simple(Body(text="words"), 100) == "words"
    assert is_simple(Body(data=b"# T", filename="a.md"), 100) == "# T"
    assert is_simple(Body(text="x" * 101), 100) is None
    for data in (b"<html><p>x</p></html>", b"%PDF-1.4", b"\xff\xfea\x00", b'{"a": 1}', b"<?xml version='1.0'?><a/>"):
        assert is_simple(Body(data=data), 100) is None
    assert is_simple(Body(text="a\n\n<table><tr><td>x</table>", filename="a.md"), 100) is None
