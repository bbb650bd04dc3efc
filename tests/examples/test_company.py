"""The demo's documents are what examples/README.md says they are."""

from __future__ import annotations

import email
import json
import re
import unicodedata
import zipfile
from email import policy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
COMPANY = EXAMPLES / "company"
QUESTIONS = [json.loads(line) for line in (EXAMPLES / "questions.jsonl").read_text(encoding="utf-8").splitlines()]


def members(path: Path) -> set[str]:
    """Names inside a ZIP or attached to a mail."""
    if path.suffix == ".zip":
        return set(zipfile.ZipFile(path).namelist())
    mail = email.message_from_bytes(path.read_bytes(), policy=policy.default)
    return {part.get_filename() for part in mail.iter_attachments()}


def test_every_gold_path_exists_in_the_company_folder():
    for case in QUESTIONS:
        for gold in case["gold_paths"]:
            assert unicodedata.is_normalized("NFC", gold)
            outer, _, inner = gold.partition("!/")
            assert (COMPANY / outer).is_file(), case["id"]
            assert not inner or inner in members(COMPANY / outer), case["id"]


def test_expected_answers_hold_what_they_must_contain():
    for case in QUESTIONS:
        assert all(any(way in case["answer"] for way in entry.split("|")) for entry in case["must_contain"]), case["id"]


def test_unanswerable_questions_name_no_document_and_say_why():
    without = [case for case in QUESTIONS if not case["answerable"]]
    assert len(without) >= 8
    assert all(case["gold_paths"] == [] and case["answer"] == "" and case["why"] for case in without)


def test_ids_and_questions_are_unique():
    assert len({case["id"] for case in QUESTIONS}) == len({case["question"] for case in QUESTIONS}) == len(QUESTIONS)


def test_questions_about_hr_documents_carry_their_label():
    for case in QUESTIONS:
        about_hr = any(gold.startswith("hr/") for gold in case["gold_paths"])
        assert (case.get("label") == "confidential:hr") is about_hr, case["id"]


def test_hr_facts_stand_in_no_document_that_staff_may_read():
    """Otherwise the demo's proof that staff does not see them would prove nothing."""
    texts = [p.read_bytes().decode("utf-8", "ignore") for p in COMPANY.rglob("*.md") if "hr" not in p.parts]
    texts += [p.read_text(encoding="utf-8") for p in (EXAMPLES / "source").iterdir() if "給与レンジ" not in p.name]
    for secret in ("362,000", "455,000", "408,000", "出勤停止", "早期退職", "86,400"):
        assert not any(secret in text for text in texts), secret


@pytest.mark.parametrize(("path", "encoding", "words"), [
    ("rules/文書管理規程.txt", "cp932", "溶解処理"),
    ("rules/育児介護FAQ.csv", "cp932", "産後パパ育休"),
    ("sales/地区別担当.tsv", "euc_jp", "翌々月5日払い"),
])
def test_legacy_files_really_are_in_the_legacy_encoding(path, encoding, words):
    raw = (COMPANY / path).read_bytes()
    assert words in raw.decode(encoding)
    with pytest.raises(UnicodeDecodeError):
        raw.decode("utf-8")


@pytest.mark.parametrize("name", ["年末年始の休業と出荷について.eml", "社用車の予約方法の変更.eml"])
def test_mails_are_seven_bit_iso_2022_jp(name):
    raw = (COMPANY / "minutes" / name).read_bytes()
    mail = email.message_from_bytes(raw, policy=policy.default)
    assert raw.isascii()
    assert b"\x1b$B" in raw
    assert mail.get_body().get_content_charset() == "iso-2022-jp"
    assert "総務担当" in mail.get_body().get_content()


def test_scanned_notice_has_no_text_and_stays_small():
    pdfium = pytest.importorskip("pypdfium2")
    path = COMPANY / "notices" / "停電のお知らせ.pdf"
    with pdfium.PdfDocument(path) as scan:
        assert len(scan) == 1
        assert scan[0].get_textpage().get_text_range() == ""
    assert path.stat().st_size < 300_000


def test_price_list_answers_only_through_its_merged_cells():
    """The row of the upper model says neither its family nor the customer the price is for."""
    openpyxl = pytest.importorskip("openpyxl")
    page = openpyxl.load_workbook(COMPANY / "sales" / "価格表_2026.xlsx")["標準価格"]
    assert {"A6:A8", "F4:G4", "H6:H8"} <= {str(area) for area in page.merged_cells.ranges}
    assert (page["A8"].value, page["B8"].value, page["F8"].value, page["H8"].value) == (None, "AL-300", 196000, None)
    assert page["A6"].value.startswith("アルファ系列")
    assert page["F4"].value.startswith("法人価格")
    assert page["H6"].value == 18000


def test_every_file_of_the_company_has_a_caption_in_the_readme():
    captions = set(re.findall(r"^\| `([^`]+)`", (EXAMPLES / "README.md").read_text(encoding="utf-8"), re.MULTILINE))
    files = {p.relative_to(COMPANY).as_posix() for p in COMPANY.rglob("*") if p.is_file()}
    assert {unicodedata.normalize("NFC", name) for name in files} == captions
