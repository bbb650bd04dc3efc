"""Small companies with and without encryption, and a life that leaves traces everywhere. Words to look for."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

from small_company import TEXTS, YAML, Folder

from hagane.core.accounts import Account
from hagane.core.labels import Clearance
from hagane.core.types import Principal
from hagane.ledger.master import create_file
from hagane.project import chat, documents, feedback, uploads
from hagane.project.questions import ask, search
from hagane.project.wire import Project

QUIET: Any = lambda event: None  # noqa: E731
ENCRYPTED = "encryption: {key: file:../project.key}\n"
QUESTION = "有給休暇は何日？"


def company(folder: Path, *, encrypted: bool, texts: dict[str, Any] = TEXTS) -> Folder:
    made = Folder(folder / "company")
    made.write("hagane.yaml", YAML + (ENCRYPTED if encrypted else ""))
    if not (folder / "project.key").exists():
        create_file(folder / "project.key")
    for name, text in texts.items():
        made.write(name, text)
    return made


def account() -> Account:
    clearance = Clearance.parse("restricted:*")
    return Account("u_1", "tanaka", "田中", "builder", clearance, Principal("tanaka", clearance))


def talk(folder: Folder, question: str, *, title: str, right: str) -> None:
    with Project.open(folder.path) as project:
        *_, turn = chat.ask(project, account(), question)
        assert isinstance(turn, dict)
        chat.rename(project, account(), turn["conversation"], title)
        feedback.give(project, account(), turn["id"], "right_answer", text=right)


SPOKEN = {
    "question": "麒麟号の質問", "title": "麒麟号の会話", "right answer": "麒麟号の正答", "reason": "麒麟号の理由", "upload": "麒麟号の持込",
    "upload name": "麒麟号の名前", "part": "麒麟号の部品", "part name": "麒麟号の部品名",
}  # fmt: skip


def zipped(name: str, text: str) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, text)
    return data.getvalue()


def live(folder: Folder) -> None:
    """Everything that leaves something behind: documents, questions, answers, feedback, uploads, labels, a change."""
    say = SPOKEN
    folder.write("rules/束.zip", zipped(f"{say['part name']}.md", f"# 部品\n\n{say['part']}は十個とする。\n"))
    folder.sync()
    for question in (QUESTION, f"{say['question']}は何日ですか"):
        folder.run(search, question)
        folder.run(ask, question)
    talk(folder, f"{say['question']}は有給休暇で何日ですか", title=say["title"], right=say["right answer"])
    folder.run(uploads.upload, f"{say['upload name']}.md", [f"# 持込\n\n{say['upload']}は十個とする。\n".encode()])
    folder.sync()
    folder.run(documents.relabel, "有給休暇.md", "public", reason=say["reason"])
    folder.write("rules/経費.txt", TEXTS["rules/経費.txt"] + "\n改訂した。\n")
    folder.sync()
