"""Routing by content, containers, and files that mean harm."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib

import pytest
from sample_files import ENDINGS, SENTENCE, docx, msg, samples, storage, w_p, xlsx, zipped

from hagane.core.errors import MissingExtraError
from hagane.core.types import Aside, Document
from hagane.sources.detect import MEDIA, detect
from hagane.sources.files import blob_of, read

ENTITY_BOMB = (
    '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "鋼鋼鋼鋼鋼鋼鋼鋼">'
    + "".join(f'<!ENTITY {c} "{f"&{b};" * 10}">' for b, c in zip("abcdefg", "bcdefgh", strict=True))
    + "]><x>&h;</x>"
)


def reasons(found: list[Document | Aside]) -> dict[str, str]:
    return {item.name: item.reason for item in found if isinstance(item, Aside)}


def names(found: list[Document | Aside]) -> list[str]:
    return [item.name for item in found if isinstance(item, Document)]


@pytest.mark.parametrize("kind", sorted(set(MEDIA)))
def test_the_kind_is_found_by_content_under_a_lying_name(kind, tmp_path):
    """An unknown ending; only flavours of plain text may need their ending (they say so below)."""
    ending = ENDINGS.get(kind, kind) if kind in ("text", "csv", "markdown") else "dat"
    file = tmp_path / "blob"
    file.write_bytes(samples()[kind])
    assert detect(blob_of(file, path=f"資料.{ending}")).kind == kind


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        ("品名,単価\nペン,100\n紙,500\n".encode("cp932"), "csv"),
        ("# 見出し\n\n- [ ] 一つ\n\n[規程](rules.md)を見よ\n".encode(), "markdown"),
        ("ただの文である。読点、がある。\n次の行である。\n".encode(), "text"),
        ("12 月の予定、およそ\n".encode(), "text"),
    ],
)
def test_plain_text_without_an_ending_is_told_apart(data, kind, tmp_path):
    file = tmp_path / "blob"
    file.write_bytes(data)
    assert detect(blob_of(file, path="資料")).kind == kind


def test_a_workbook_called_txt_is_a_workbook(one):
    assert one("価格.txt", xlsx()).media == MEDIA["xlsx"]


def test_an_empty_file_and_a_blank_one_are_empty(everything):
    assert reasons(everything("空.txt", b"")) == {"": "empty"}
    assert reasons(everything("空.txt", b" \r\n\t\n")) == {"": "empty"}
    assert reasons(everything("空.zip", zipped({}))) == {"": "empty"}


def test_what_is_not_read_is_set_aside_as_unsupported(everything):
    noise = bytes((n * n * 31 + n * 7) % 256 for n in range(4_000))
    for name, data in {
        "音.mp3": b"ID3\x04" + noise,
        "謎.bin": noise,
        "動画.mp4": b"\0\0\0\x18ftypmp42" + noise,
    }.items():
        assert reasons(everything(name, data)) == {"": "unsupported"}, name


def test_members_of_an_archive_are_parts_by_their_path(everything):
    found = everything(
        "一式.zip", zipped({"規程/旅費.md": f"# 旅費\n\n{SENTENCE}", "価格.csv": "品名,単価\nペン,100\n"})
    )
    assert names(found) == ["規程/旅費.md", "価格.csv"]
    assert [item.media for item in found] == ["text/markdown", "text/csv"]


def test_nested_archives_name_the_whole_way(everything):
    inner = zipped({"深い.txt": SENTENCE})
    assert names(everything("外.zip", zipped({"中.zip": inner}))) == ["中.zip!/深い.txt"]


def test_nesting_ends_at_the_depth_allowed(everything):
    data = SENTENCE.encode()
    name = "底.txt"
    for level in range(5):
        data, name = zipped({name: data}), f"{level}.zip"
    found = everything("外.zip", data)
    assert names(found) == []
    assert list(reasons(found).values()) == ["too_large"]


def test_names_in_cp932_are_read(everything):
    raw = _without_utf8_flag("就業規則（表）.txt".encode("cp932"), SENTENCE.encode())
    assert names(everything("一式.zip", raw)) == ["就業規則（表）.txt"]


def _without_utf8_flag(name: bytes, data: bytes) -> bytes:
    """A stored ZIP member under a raw name, as Windows writes it in Japan."""
    head = struct.pack("<HHHHHIIIHH", 20, 0, 0, 0, 0, zlib.crc32(data), len(data), len(data), len(name), 0)
    local = b"PK\x03\x04" + head + name + data
    central = b"PK\x01\x02" + struct.pack("<H", 20) + head + struct.pack("<HHHII", 0, 0, 0, 0, 0) + name
    return local + central + b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(central), len(local), 0)


@pytest.mark.parametrize("name", ["../外.txt", "/etc/外.txt", "a/../../外.txt", "C:\\外.txt", "..\\外.txt"])
def test_a_name_that_leaves_the_archive_is_hostile(everything, name):
    found = everything("一式.zip", zipped({name: "悪意", "良い.txt": SENTENCE}))
    assert names(found) == ["良い.txt"]
    assert list(reasons(found).values()) == ["hostile"]


def test_a_zip_bomb_is_hostile_and_its_neighbours_are_read(everything):
    found = everything("爆弾.zip", zipped({"爆弾.txt": b"0" * 30_000_000, "良い.txt": SENTENCE}))
    assert reasons(found) == {"爆弾.txt": "hostile"}
    assert names(found) == ["良い.txt"]


def test_sizes_in_the_directory_are_not_believed(everything):
    """A member that claims 10 bytes and unpacks to 30 MB is found while it unpacks."""
    data = bytearray(zipped({"爆弾.txt": b"0" * 30_000_000}))
    at = data.rfind(b"PK\x01\x02")
    data[at + 24 : at + 28] = (10).to_bytes(4, "little")
    found = everything("爆弾.zip", bytes(data))
    assert names(found) == []
    assert set(reasons(found).values()) <= {"hostile", "damaged"}


def test_all_parts_share_one_budget(everything):
    big = {f"{n}.txt": bytes(((n + 1) * k * k) % 90 + 33 for k in range(200_000)) for n in range(8)}
    found = everything("大.zip", zipped(big), max_unpacked_bytes=600_000)
    assert "too_large" in reasons(found).values()
    assert len(names(found)) == 3


def test_too_many_parts_are_too_large(everything):
    found = everything("多.zip", zipped({f"{n}.txt": SENTENCE for n in range(30)}), max_parts=10)
    assert reasons(found) == {"": "too_large"}
    assert len(names(found)) == 10


def test_a_member_under_a_password_is_set_aside(everything):
    data = bytearray(zipped({"秘密.txt": SENTENCE}))
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.find(mark) + offset] |= 1
    assert reasons(everything("秘密.zip", bytes(data))) == {"秘密.txt": "encrypted"}


@pytest.mark.parametrize("size", [100, 600, -40])
def test_a_truncated_docx_is_damaged(everything, size):
    whole = docx("".join(w_p(f"第{n}条　{SENTENCE}") for n in range(200)))
    assert reasons(everything("規程.docx", whole[:size])) == {"": "damaged"}


def test_entity_bombs_are_hostile_wherever_xml_is_read(everything):
    assert reasons(everything("爆弾.xml", ENTITY_BOMB.encode())) == {"": "hostile"}
    word = zipped({"[Content_Types].xml": "<Types/>", "word/document.xml": ENTITY_BOMB})
    assert reasons(everything("爆弾.docx", word)) == {"": "hostile"}
    book = zipped({"[Content_Types].xml": "<Types/>", "xl/workbook.xml": ENTITY_BOMB})
    assert reasons(everything("爆弾.xlsx", book)) == {"": "hostile"}


def test_an_external_entity_is_refused(everything):
    text = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><x>&e;</x>'
    assert reasons(everything("外部.xml", text.encode())) == {"": "hostile"}


def test_encrypted_office_files_say_so(everything):
    data = storage({"EncryptionInfo": b"\x04\0\x04\0", "EncryptedPackage": b"\0" * 5_000})
    assert reasons(everything("秘密.xlsx", data)) == {"": "encrypted"}


def test_deep_nesting_is_refused_not_followed(everything):
    assert reasons(everything("深.json", b"[" * 100_000 + b"]" * 100_000))[""] in ("hostile", "damaged")
    assert reasons(everything("深.xml", b"<a>" * 5_000 + "鋼".encode() + b"</a>" * 5_000)) == {"": "hostile"}


def test_a_file_beyond_the_limit_is_too_large(everything):
    assert reasons(everything("大.txt", SENTENCE.encode() * 10, max_file_bytes=100)) == {"": "too_large"}
    assert reasons(everything("大.txt", SENTENCE.encode() * 10, max_chars=50)) == {"": "too_large"}


def test_attachments_of_mails_are_parts(everything):
    found = everything("件.eml", samples()["eml"])
    assert names(found) == ["", "価格.csv"]
    assert "ペン" in found[1].text
    found = everything("件.msg", msg({"別添.zip": zipped({"中.txt": SENTENCE})}))
    assert names(found) == ["", "別添.zip!/中.txt"]


def test_a_parser_of_ones_own_takes_over(tmp_path):
    class Mine:
        def read(self, blob):
            yield Aside("", "unsupported", "mine")

    file = tmp_path / "blob"
    file.write_bytes(SENTENCE.encode())
    assert list(read(blob_of(file, path="a.txt"), parsers={"text": Mine()})) == [Aside("", "unsupported", "mine")]


def test_a_missing_parser_is_our_fault_and_raises(tmp_path):
    file = tmp_path / "blob"
    file.write_bytes(SENTENCE.encode())
    with pytest.raises(MissingExtraError):
        list(read(blob_of(file, path="a.txt"), parsers={"text": "hagane_nowhere:Parser"}))


def test_a_parser_that_breaks_sets_the_file_aside_without_its_content(tmp_path):
    class Broken:
        def read(self, blob):
            raise KeyError("社外秘の本文")

    file = tmp_path / "blob"
    file.write_bytes(SENTENCE.encode())
    assert list(read(blob_of(file, path="a.txt"), parsers={"text": Broken()})) == [Aside("", "crashed", "KeyError")]


def test_temporary_parts_do_not_stay(everything, monkeypatch, tmp_path):
    spare = tmp_path / "spare"
    spare.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(spare))
    everything("一式.zip", zipped({"a.txt": SENTENCE, "b.zip": zipped({"c.txt": SENTENCE})}))
    everything("件.eml", samples()["eml"])
    assert list(spare.iterdir()) == []


def test_a_zip_whose_first_part_is_a_stored_pdf_is_a_zip(everything):
    """The sign of a PDF stands among the first bytes then, too."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as out:
        out.writestr("就業規則.pdf", samples()["pdf"])
        out.writestr("規程.txt", SENTENCE)
    assert names(everything("一式.pdf", packed.getvalue())) == ["就業規則.pdf", "規程.txt"]
