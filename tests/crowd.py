"""A few hundred small Japanese files of mixed formats, the same for the same seed, and what a year does to them."""

from __future__ import annotations

import io
import random
import zipfile

from small_company import Folder

YAML = """\
version: 1
labels: {default: internal, compartments: [hr]}
sources:
  - {name: rules, path: rules/}
  - {name: hr, path: hr/, label: "confidential:hr"}
principals:
  owner: {clearance: "restricted:*"}
  staff: {clearance: internal}
embedder: {name: fake}
parse: {workers: 2}
versions: {keep: 1}
index: {analyzer: ngram}
"""

_PLACES = ("札幌", "仙台", "金沢", "名古屋", "大阪", "高松", "博多", "那覇")
_THINGS = ("会議室", "社用車", "名刺", "保養所", "作業服", "健康診断", "防災用品", "貸出端末")
_ACTS = ("予約", "更新", "返却", "点検", "申請", "廃棄", "棚卸", "引継ぎ")

WORDS = ("札幌", "防災用品", "棚卸", "申請", "責任者", "第7号", "担当")


def text_of(number: int, chance: random.Random) -> str:
    place, thing, act = chance.choice(_PLACES), chance.choice(_THINGS), chance.choice(_ACTS)
    return (
        f"{place}支店における{thing}の{act}について定める。{thing}の{act}は毎月{chance.randint(1, 28)}日までに行う。\n"
        f"責任者は{place}支店の総務{number}係とし、費用は{chance.randint(1, 90) * 1000:,}円を上限とする。\n"
    )


def content_of(number: int, chance: random.Random) -> tuple[str, bytes]:
    """(ending, bytes) of file `number`."""
    text = text_of(number, chance)
    title = f"通達第{number}号"
    kind = number % 6
    if kind == 0:
        return "md", f"# {title}\n\n{text}".encode()
    if kind == 1:
        return "txt", f"{title}\n\n{text}".encode("cp932")
    if kind == 2:
        rows = "".join(f"{number}-{n},{chance.choice(_THINGS)},{chance.randint(1, 99)}\n" for n in range(3))
        return "csv", f"番号,品名,数量\n{rows}".encode()
    if kind == 3:
        page = f"<html><head><title>{title}</title></head><body><h1>{title}</h1><p>{text}</p></body></html>"
        return "html", page.encode()
    if kind == 4:
        data = io.BytesIO()
        with zipfile.ZipFile(data, "w") as archive:
            for n in range(2):
                entry = zipfile.ZipInfo(f"別紙{n}.md")  # fixed time: the same bytes for the same seed
                archive.writestr(entry, f"# {title} 別紙{n}\n\n{text_of(number * 10 + n, chance)}")
        return "zip", data.getvalue()
    return "md", f"# 写し\n\n{text_of(0, random.Random(number % 4))}".encode()  # copies of each other


def build(folder: Folder, n: int) -> None:
    """`n` files in two sources, a tenth of them in `hr`, and one that cannot be read."""
    folder.write("hagane.yaml", YAML)
    folder.write("rules/壊れた.pdf", b"%PDF-1.7\nnothing")
    folder.write("hr/名簿.md", "# 名簿\n\n人事部の名簿である。担当は人事課とする。\n")
    chance = random.Random(7)
    for number in range(n):
        ending, data = content_of(number, chance)
        where = "hr" if number % 10 == 0 else f"rules/{number % 3}課"
        folder.write(f"{where}/通達{number:03}.{ending}", data)


def age(folder: Folder, *, seed: int) -> None:
    """A sixth of the files changed, a sixth renamed, a sixth deleted, as many new ones."""
    chance = random.Random(seed)
    files = sorted(file for name in ("rules", "hr") for file in (folder.path / name).rglob("通達*"))
    chance.shuffle(files)
    part = len(files) // 6
    for number, file in enumerate(sorted(files[:part])):
        ending = file.suffix[1:]
        if ending == "zip":
            data = io.BytesIO()
            with zipfile.ZipFile(data, "w") as archive:
                archive.writestr(zipfile.ZipInfo("別紙0.md"), f"# 改定\n\n{text_of(900 + number, chance)}")
            file.write_bytes(data.getvalue())
        else:
            file.write_bytes(f"改定 {number}\n\n{text_of(900 + number, chance)}".encode())
    for file in sorted(files[part : 2 * part]):
        file.rename(file.with_name("移動" + file.name))
    for file in sorted(files[2 * part : 3 * part]):
        file.unlink()
    for number in range(part):
        folder.write(f"rules/新設/新規{number:03}.md", f"# 新規 {number}\n\n{text_of(700 + number, chance)}")
