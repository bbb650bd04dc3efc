"""Web pages, mails and books; BeautifulSoup and the email package as second readers."""

from __future__ import annotations

import email
import email.policy
from itertools import pairwise

import pytest
from bs4 import BeautifulSoup
from hypothesis import given
from hypothesis import strategies as st
from sample_files import SENTENCE, eml, epub, msg, zipped

from hagane.core.text import squeeze
from hagane.core.types import Aside
from hagane.sources.html import page_blocks

PAGE = f"""<!DOCTYPE html><html lang="ja"><head><title>旅費規程 | 社内</title><meta name="author" content="総務部">
<style>p{{color:red}}</style><script>var 秘密 = "読まない";</script></head><body>
<header><a href="/">社内ポータル</a></header>
<nav><ul><li><a href="/a">規程一覧</a></li><li>様式</li></ul></nav>
<main><h1>旅費規程</h1><p>この<ruby>規程<rt>きてい</rt></ruby>は、<br>社員に適用する。</p>
<ul><li>国内<ul><li>日帰り</li></ul></li><li>国外</li></ul>
<table><caption>日当</caption>
<tr><th rowspan="2">役職</th><th colspan="2">日当</th></tr><tr><th>国内</th><th>国外</th></tr>
<tr><td rowspan="2">部長<td>3,000円<td>8,000円</tr><tr><td>2,500円<td>7,000円</tr></table>
<pre>上限 = 15000
  円</pre><p>{SENTENCE}</main>
<footer>© 北斗精機</footer></body></html>"""


def test_a_page_is_told_from_its_frame(one):
    document = one("旅費.html", PAGE.encode())
    assert document.title == "旅費規程 | 社内"
    assert document.meta["author"] == "総務部"
    assert [(b.kind, b.level, b.spoken) for b in document.blocks] == [
        ("header", 0, "社内ポータル"),
        ("navigation", 0, "規程一覧"),
        ("navigation", 0, "様式"),
        ("heading", 1, "旅費規程"),
        ("paragraph", 0, "この規程は、社員に適用する。"),
        ("list_item", 0, "国内"),
        ("list_item", 1, "日帰り"),
        ("list_item", 0, "国外"),
        ("caption", 0, "日当"),
        ("row", 0, "役職、日当"),
        ("row", 0, "国内、国外"),
        ("row", 0, "役職: 部長、日当 / 国内: 3,000円、日当 / 国外: 8,000円"),
        ("row", 0, "役職: 部長、日当 / 国内: 2,500円、日当 / 国外: 7,000円"),
        ("code", 0, "上限 = 15000\n  円"),
        ("paragraph", 0, SENTENCE),
        ("footer", 0, "© 北斗精機"),
    ]


def test_beautiful_soup_finds_every_block(one):
    soup = BeautifulSoup(PAGE, "html.parser")
    for tag in soup(["script", "style"]):
        tag.decompose()
    there = squeeze(soup.get_text())
    assert all(squeeze(block.text) in there for block in one("旅費.html", PAGE.encode()).blocks)


@pytest.mark.parametrize("codec", ["utf-8", "cp932", "euc_jp", "iso2022_jp", "utf-16"])
def test_pages_in_every_encoding(one, codec):
    page = f'<html><head><meta http-equiv="Content-Type" content="text/html; charset={codec}"></head><body><p>{SENTENCE}</p></body></html>'
    assert SENTENCE in one("頁.html", page.encode(codec)).text


def test_layout_tables_are_paragraphs(one):
    page = f"<html><body><table><tr><td>左の柱</td><td><table><tr><th>項目</th><th>額</th></tr><tr><td>日当</td><td>3,000円</td></tr></table>{SENTENCE}</td></tr></table></body></html>"
    assert [(b.kind, b.spoken) for b in one("頁.html", page.encode()).blocks] == [
        ("paragraph", "左の柱"), ("row", "項目、額"), ("row", "項目: 日当、額: 3,000円"), ("paragraph", SENTENCE)
    ]  # fmt: skip


tags = st.sampled_from(
    ["<p>", "</p>", "<table>", "</table>", "<tr>", "<td rowspan=3>", "</td>", "<th>", "<ul>", "<li>", "</ul>", "<nav>", "</nav>", "<h2>",
     "</h2>", "<pre>", "</pre>", "<br>", "<ruby>", "<rt>", "</ruby>", "<script>", "</script>", "<td colspan=99999>", "<!--", "-->", "<"]
)  # fmt: skip


@given(pieces=st.lists(tags | st.sampled_from(["鋼", "旅費", " ", "\n"]), max_size=40))
def test_any_tag_soup_gives_ordered_blocks(pieces):
    blocks = page_blocks("".join(pieces))
    assert all(b.text.strip() == b.text != "" for b in blocks)
    assert all(a.place.end < b.place.start for a, b in pairwise(blocks))


def test_a_mails_headers_are_blocks_and_meta(one, everything):
    mail = everything("件.eml", eml())[0]
    assert mail.title == "旅費の件"
    assert mail.meta["date"] == "2026-03-03T10:00:00+09:00"
    assert mail.meta["from"] == "総務部 <somu@example.co.jp>"
    assert [b.spoken for b in mail.blocks] == [
        "件名: 旅費の件", "差出人: 総務部 <somu@example.co.jp>", "宛先: 全社員 <all@example.co.jp>", "日付: 2026年3月3日 10:00",
        "各位", SENTENCE, "以上",
    ]  # fmt: skip


def test_the_email_package_finds_every_block(everything):
    mail = everything("件.eml", eml())[0]
    again = email.message_from_bytes(eml(), policy=email.policy.default)
    there = squeeze("".join(str(v) for v in again.values()) + again.get_body(("plain",)).get_content())
    assert all(squeeze(block.text) in there for block in mail.blocks)


@pytest.mark.parametrize(
    "head",
    [
        b"Subject: =?ISO-2022-JP?B?GyRCTjlIcSRON28bKEI=?=",
        "Subject: 旅費の件".encode(),
        "Subject: 旅費の件".encode("cp932"),
        b"Subject: =?utf-8?B?5peF6LK7?=\n =?utf-8?B?44Gu5Lu2?=",
        b"Subject: =?iso-8859-1?B?" + __import__("base64").b64encode("旅費の件".encode()) + b"?=",
    ],
)
def test_subjects_however_they_are_written(one, head):
    data = head + b"\nFrom: a@example.co.jp\nTo: b@example.co.jp\n\n" + "本文である。".encode("cp932")
    document = one("件.eml", data)
    assert document.title == "旅費の件"
    assert document.blocks[-1].text == "本文である。"


def test_the_page_is_read_when_there_is_no_plain_text(one):
    data = f"From: a@example.co.jp\nSubject: x\nMIME-Version: 1.0\nContent-Type: text/html; charset=utf-8\n\n<p>{SENTENCE}</p>".encode()
    assert one("件.eml", data).blocks[-1].text == SENTENCE


def test_mails_that_hide_their_content_are_encrypted(everything):
    data = b'From: a@example.co.jp\nSubject: x\nMIME-Version: 1.0\nContent-Type: application/pkcs7-mime; name="smime.p7m"\nContent-Transfer-Encoding: base64\n\nAAAA'
    assert everything("件.eml", data) == [Aside("", "encrypted", "the mail is encrypted")]


def test_winmail_is_set_aside_by_name(everything):
    data = (
        b'From: a@example.co.jp\nSubject: x\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="b"\n\n--b\nContent-Type: text/plain\n\nhello'
        b'\n--b\nContent-Type: application/ms-tnef; name="winmail.dat"\nContent-Transfer-Encoding: base64\n\nAAAA\n--b--'
    )
    assert everything("件.eml", data)[1].reason == "unsupported"


def test_an_attachments_name_cannot_lead_elsewhere(everything):
    data = eml().replace(b"filename", b'filename="../../etc/passwd"; x')
    assert [item.name for item in everything("件.eml", data)][1] == "passwd"


def test_outlook_messages_read_like_mails(everything):
    mail, part = everything("件.msg", msg({"覚書.txt": SENTENCE.encode().ljust(4096)}))
    assert [b.spoken for b in mail.blocks][:3] == [
        "件名: 旅費の件",
        "差出人: 総務部 <somu@example.co.jp>",
        "宛先: 全社員",
    ]
    assert mail.blocks[-1].text == SENTENCE
    assert mail.meta["date"].startswith("2026-02-25T")
    assert (part.name, part.text.strip()) == ("覚書.txt", SENTENCE)


def test_a_book_follows_its_spine(one):
    book = one("読本.epub", epub())
    assert (book.title, book.meta["author"]) == ("社内読本", "総務部")
    assert [b.spoken for b in book.blocks] == ["第一章 総務", "総務部の仕事である。", "第二章 旅費", SENTENCE]


def test_a_book_under_rights_management_is_encrypted(everything):
    locked = '<encryption><EncryptedData><EncryptionMethod Algorithm="http://www.w3.org/2001/04/xmlenc#aes128-cbc"/></EncryptedData></encryption>'
    data = zipped(
        {
            "mimetype": "application/epub+zip",
            "META-INF/encryption.xml": locked,
            "META-INF/container.xml": "<container/>",
        }
    )
    assert everything("読本.epub", data)[0].reason == "encrypted"
