"""Readers in other processes: they see deletions, labels and permissions at their next question, and never fail
because something is cleaned up meanwhile."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from small_company import YAML, Folder

from hagane.project import documents, people
from hagane.project.questions import ask, search
from hagane.project.running import Running
from hagane.project.wire import Project

PASSWORD = "正しい馬の電池ホチキス42"
READER = """
import json, sys
from pathlib import Path
from hagane.project.documents import docs
from hagane.project.questions import search
from hagane.project.wire import Project
with Project.open(Path(sys.argv[1])) as project:
    for line in sys.stdin:
        wanted = json.loads(line)
        by = project.principal(wanted["as"])
        found = [p["path"] for p in search(project, wanted["question"], by=by)["passages"]]
        print(json.dumps({"found": found, "docs": [d["path"] for d in docs(project, by=by)]}), flush=True)
"""
CLI = "import sys; from hagane.cli.main import main; sys.argv[0] = 'hagane'; main()"


class Reader:
    """A process that keeps the project open and answers questions."""

    def __init__(self, folder: Folder) -> None:
        command = [sys.executable, "-c", READER, str(folder.path)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, question: str, *, by: str = "owner") -> dict[str, Any]:
        self.process.stdin.write(json.dumps({"question": question, "as": by}) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        self.process.stdin.close()
        assert self.process.wait(60) == 0


@pytest.fixture
def reader(company: Folder) -> Iterator[Reader]:
    company.sync()
    made = Reader(company)
    made.ask("通信費")  # it is open and warm
    yield made
    made.close()


def test_a_raised_label_counts_at_the_next_question_of_another_process(company: Folder, reader: Reader) -> None:
    assert "rules/経費.txt" in reader.ask("領収書を紛失したとき", by="staff")["found"]
    with Project.open(company.path) as server, Running(server):
        documents.relabel(server, "経費.txt", "confidential", by=server.principal(), reason="社外秘")
        seen = reader.ask("領収書を紛失したとき", by="staff")
    assert "rules/経費.txt" not in seen["found"] + seen["docs"]
    assert reader.ask("領収書を紛失したとき")["found"][0] == "rules/経費.txt"


def test_an_approved_lowering_shows_at_the_next_question(company: Folder, reader: Reader) -> None:
    request = company.run(documents.relabel, "給与レンジ.md", "internal", reason="公開が決まった")["request"]
    assert reader.ask("査定Sの昇給率", by="staff")["found"].count("hr/給与レンジ.md") == 0
    company.run(documents.approve, request, by="hr")
    assert reader.ask("査定Sの昇給率", by="staff")["found"][0] == "hr/給与レンジ.md"


def test_a_deleted_document_is_gone_at_the_next_question(company: Folder, reader: Reader) -> None:
    assert reader.ask("通信費")["found"][0] == "rules/在宅勤務.md"
    (company.path / "rules/在宅勤務.md").unlink()
    company.sync(yes=True)
    seen = reader.ask("通信費")
    assert "rules/在宅勤務.md" not in seen["found"] + seen["docs"]


def test_a_new_document_is_found_at_the_next_question(company: Folder, reader: Reader) -> None:
    company.write("rules/出張.md", "# 出張\n\n出張の日当は3,000円とし、宿泊費は実費とする。\n")
    company.sync()
    assert reader.ask("出張の日当")["found"][0] == "rules/出張.md"


def test_what_another_process_takes_from_someone_is_taken_at_the_next_request(company: Folder) -> None:
    """The command line disables a user, and the server's next look at the session and the token says so."""
    company.sync()
    with Project.open(company.path) as server, Running(server):
        people.set_up(server, people.setup_secret(server), name="管理者", password=PASSWORD)
        by = server.principal()
        people.create_user(server, "山田", role="builder", clearance="internal", password=PASSWORD, by=by)
        cookie = people.sign_in(server, "山田", PASSWORD).cookie
        _, secret = people.create_token(server, "山田", name="検査", scopes=("ask",), by=by)
        assert str(people.bearer(server, secret).principal.clearance) == "internal"

        def elsewhere(*words: str) -> None:
            command = [sys.executable, "-c", CLI, "user", *words, "--project", str(company.path)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=120)
            assert done.returncode == 0, done.stderr

        elsewhere("change", "山田", "--clearance", "public")
        assert str(people.bearer(server, secret).principal.clearance) == "public"
        elsewhere("disable", "山田")
        assert people.session(server, cookie) is None
        assert people.bearer(server, secret) is None


@pytest.mark.long
@pytest.mark.parametrize("sealed", [False, True], ids=["plain", "encrypted"])
def test_questions_never_fail_while_documents_are_deleted_and_the_index_is_rewritten(
    company: Folder, tmp_path: Path, sealed: bool
) -> None:
    """Threads of the server and another process ask all the while; sync adds, changes, deletes, compacts, purges."""
    if sealed:
        key = tmp_path / "master.key"
        key.write_bytes(base64.b64encode(os.urandom(32)) + b"\n")
        key.chmod(0o600)
        company.write("hagane.yaml", YAML + f"encryption: {{key: 'file:{key}'}}\n")
    for n in range(30):
        company.write(f"rules/規程{n}.md", f"# 規程{n}\n\n第{n}条。領収書の保存は{n + 1}年とする。\n")
    company.sync()
    wrong: list[str] = []
    n_asked = 0
    other = Reader(company)
    with Project.open(company.path) as project, Running(project):
        over = threading.Event()

        def questions(verb: Any) -> None:
            nonlocal n_asked
            while not over.is_set():
                try:
                    verb(project, "領収書の保存は何年ですか", by=project.principal("staff"))
                    n_asked += 1
                except Exception as error:
                    wrong.append(f"{type(error).__name__}: {error}")

        def from_elsewhere() -> None:
            while not over.is_set():
                other.ask("領収書の保存は何年ですか", by="staff")

        threads = [threading.Thread(target=questions, args=(verb,)) for verb in (search, search, ask)]
        threads.append(threading.Thread(target=from_elsewhere))
        for thread in threads:
            thread.start()
        for round_ in range(6):
            for n in range(round_ * 4, round_ * 4 + 4):
                (company.path / f"rules/規程{n}.md").unlink()
            company.write(f"rules/規程{29 - round_}.md", f"# 規程\n\n第{round_}条。領収書の保存は{round_}年とする。改正した。\n")
            documents.sync(project, by=project.principal(), yes=True, emit=lambda event: None)
        over.set()
        for thread in threads:
            thread.join()
    other.close()
    assert wrong == []
    assert n_asked > 0


def test_a_passage_erased_between_finding_and_reading_is_left_out(company: Folder, tmp_path: Path) -> None:
    """Its row was read, then its key was deleted: the others are still an answer."""
    key = tmp_path / "master.key"
    key.write_bytes(base64.b64encode(os.urandom(32)) + b"\n")
    key.chmod(0o600)
    company.write("hagane.yaml", YAML + f"encryption: {{key: 'file:{key}'}}\n")
    company.sync()
    with Project.open(company.path) as project:
        owner = project.principal()
        gone = project.ledger.documents.find("経費.txt", clearance=owner.clearance)
        every = [_id(project, document) for _, document, *_ in project.index.ids()]
        assert len(project.index.chunks(every, clearance=owner.clearance)) == 4
        project.ledger.keys.drop([gone.id])
        kept = project.index.chunks(every, clearance=owner.clearance)
    assert len(kept) == 3 and gone.id not in {chunk.document for chunk in kept}


def _id(project: Project, document: str) -> str:
    record = project.ledger.documents.every_of([document])[document]
    return f"{record.version}:0"
