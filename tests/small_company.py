"""Small projects of Japanese texts, with the shipped fake embedder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hagane.project import documents
from hagane.project.wire import Project

YAML = """\
# 会社の規程
version: 1
labels: {default: internal, compartments: [hr, board]}
sources:
  - {name: rules, path: rules/, label: internal}   # 全員
  - {name: hr, path: hr/, label: "confidential:hr", exclude: ["drafts/**"]}
principals:
  owner: {clearance: "restricted:*"}
  staff: {clearance: internal}
  hr: {clearance: "confidential:hr"}
embedder: {name: fake}
parse: {workers: 1}
"""

TEXTS = {
    "rules/有給休暇.md": "# 有給休暇\n\n年次有給休暇は、入社から6か月後に10日を付与する。申請は3日前までに上長へ行う。\n",
    "rules/経費.txt": "経費の精算\n\n立替経費は30日以内に申請する。領収書を紛失したときは、支払証明書を提出する。\n",
    "rules/在宅勤務.md": "# 在宅勤務\n\n在宅勤務は週3日までとする。通信費として月額5,000円を支給する。\n",
    "hr/給与レンジ.md": "# 等級別給与レンジ\n\n等級4の月額基本給は38万円から46万円とする。査定Sの昇給率は5.5%である。\n",
    "hr/drafts/案.md": "# 案\n\nこれは下書きであり、取り込まれない。\n",
}


class Folder:
    """A project folder with verbs that open and close it, as the command line does."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, name: str, text: str | bytes) -> Path:
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return file

    def run(self, verb: Callable[..., Any], *given: Any, by: str | None = None, **named: Any) -> Any:
        with Project.open(self.path) as project:
            return verb(project, *given, by=project.principal(by), **named)

    def sync(self, **named: Any) -> Any:
        return self.run(documents.sync, emit=lambda event: None, **named)

    def docs(self, by: str | None = None) -> dict[str, dict[str, Any]]:
        return {row["path"]: row for row in self.run(documents.docs, by=by)}

    def found(self, question: str, by: str | None = None) -> list[str]:
        """Paths that a search gives, best first."""
        from hagane.project.questions import search

        return [p["path"] for p in self.run(search, question, by=by)["passages"]]

    def state(self) -> dict[str, Any]:
        """Everything that two runs over the same files must agree on."""
        with Project.open(self.path) as project:
            rows = project.ledger.documents.every_unfiltered()
            documents = [(r.id, r.path, r.state, r.version, r.n_chunks, str(r.label), r.duplicate_of) for r in rows]
            chunks = sorted(project.index.ids())
        return json.loads(json.dumps({"documents": documents, "chunks": chunks}))


def company_in(folder: Path, *, yaml: str = YAML, synced: bool = False) -> Folder:
    """The small company in `folder`."""
    company = Folder(folder)
    company.write("hagane.yaml", yaml)
    for name, text in TEXTS.items():
        company.write(name, text)
    if synced:
        company.sync()
    return company
