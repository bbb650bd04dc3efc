"""The command line as a person and as a script meet it: exit codes, stdout, stderr."""

from __future__ import annotations

import io
import json
import os
import unicodedata
from pathlib import Path

import pytest
from command import Said, runner
from small_company import TEXTS, YAML, Folder

from hagane.core.config import read_yaml


@pytest.fixture
def hagane(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run `hagane WORDS` in this process."""

    return runner(monkeypatch, capsys)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """An empty current folder with two folders of documents, no project yet."""
    folder = Folder(tmp_path)
    for name, text in TEXTS.items():
        folder.write(name, text)
    monkeypatch.chdir(tmp_path)
    return folder


def fake(folder: Folder) -> None:
    """Let the project use the shipped fake embedder and one parser process."""
    file = folder.path / "hagane.yaml"
    file.write_text(file.read_text().replace("compartments: []", "compartments: [hr]") + "embedder: {name: fake}\nparse: {workers: 1}\n")


def test_init_works_beside_files_and_refuses_a_project(hagane, here: Folder) -> None:
    assert hagane("init").code == 0
    assert (here.path / "rules/経費.txt").exists()
    again = hagane("init")
    assert again.code == 1
    assert "hagane.yaml" in again.err
    assert "hint:" in again.err


def test_add_keeps_comments_and_the_same_path_changes_nothing(hagane, here: Folder) -> None:
    hagane("init")
    fake(here)
    first = hagane("add", "rules", "--json", "--progress", "none")
    assert sorted(first.json["added"]) == ["rules/在宅勤務.md", "rules/有給休暇.md", "rules/経費.txt"]
    text = (here.path / "hagane.yaml").read_text()
    assert "# public < internal < confidential < restricted" in text
    again = hagane("add", "rules/", "--json", "--progress", "none")
    assert (again.json["added"], again.json["unchanged"]) == ([], 3)
    assert (here.path / "hagane.yaml").read_text() == text


def test_add_with_another_label_relabels(hagane, here: Folder) -> None:
    hagane("init")
    fake(here)
    hagane("add", "rules", "--progress", "none")
    hagane("add", "rules", "--label", "confidential:hr", "--progress", "none")
    labels = {row["label"] for row in hagane("docs", "--json").json["documents"]}
    assert labels == {"confidential:hr"}
    assert hagane("docs", "--as", "staff", "--json").json == {"documents": []}


def test_undeclared_compartment_is_refused(hagane, here: Folder) -> None:
    hagane("init")
    refused = hagane("add", "rules", "--label", "confidential:nowhere")
    assert refused.code == 1
    assert "nowhere" in refused.err


@pytest.mark.parametrize(
    ("words", "code", "hint"),
    [
        (("docs",), 1, "hagane init"),
        (("nonsense",), 2, ""),
        (("search",), 2, ""),
        (("add", "無い.md"), 1, "hagane init"),
        (("ask", "質問", "--answerer", "nobody"), 1, "hagane init"),
    ],
)
def test_wrong_use_and_refusals(hagane, here: Folder, words: tuple[str, ...], code: int, hint: str) -> None:
    said = hagane(*words)
    assert said.code == code
    assert said.out == ""
    assert hint in said.err
    assert "Traceback" not in said.err


def test_unknown_key_is_refused_with_file_and_line(hagane, here: Folder) -> None:
    here.write("hagane.yaml", "version: 1\nsources: []\nretrive: {n: 3}\n")
    said = hagane("docs")
    assert said.code == 1
    assert "hagane.yaml:3" in said.err
    assert "retrieve" in said.err


def test_unknown_principal_is_refused(hagane, here: Folder) -> None:
    hagane("init")
    said = hagane("docs", "--as", "stuff")
    assert said.code == 1
    assert "staff" in said.err


@pytest.fixture
def company(here: Folder, hagane) -> Folder:
    here.write("hagane.yaml", YAML)
    assert hagane("sync", "--progress", "none").code == 0
    return here


def test_ask_prints_one_object_with_citations(hagane, company: Folder) -> None:
    said = hagane("ask", "在宅勤務の通信費は月額いくら支給される？", "--json", "--as", "staff").json
    assert set(said) == {
        "answer", "abstained", "why", "confidence", "label", "citations", "nearest", "index", "model", "usage", "timings_s",
    }  # fmt: skip
    assert not said["abstained"]
    assert "5,000円" in said["answer"]
    assert "[1]" in said["answer"]
    citation = said["citations"][0]
    assert set(citation) == {"n", "document", "path", "version", "label", "place", "quote"}
    assert set(citation["place"]) == {"page", "box", "cell", "start", "end", "start_s", "end_s"}
    assert citation["path"] == "rules/在宅勤務.md"
    shown = hagane("show", citation["document"], "--version", citation["version"], "--json").json
    place = citation["place"]
    assert shown["text"][place["start"] : place["end"]] == citation["quote"]


def test_abstaining_is_exit_0_and_shows_the_nearest(hagane, company: Folder) -> None:
    said = hagane("ask", "社長の靴のサイズは何センチですか？", "--json", "--as", "staff")
    assert said.code == 0
    assert said.json["abstained"]
    assert said.json["citations"] == []


def test_secret_document_never_answers_staff(hagane, company: Folder) -> None:
    question = "査定Sの昇給率は何％？"
    assert "5.5%" in hagane("ask", question, "--json", "--as", "hr").json["answer"]
    staff = hagane("ask", question, "--json", "--as", "staff")
    assert "5.5" not in staff.out
    assert "給与レンジ" not in staff.out + staff.err


def test_search_tells_scores_and_why(hagane, company: Folder) -> None:
    found = hagane("search", "領収書をなくした", "--json").json["passages"]
    assert found[0]["path"] == "rules/経費.txt"
    assert found[0]["why"]["words"] >= 1
    assert found[0]["score"] > 0


def test_label_flow_on_the_command_line(hagane, company: Folder) -> None:
    assert hagane("label", "経費.txt", "confidential:hr", "--reason", "人事の情報").code == 0
    asked = hagane("label", "経費.txt", "internal", "--reason", "除いた", "--json").json
    assert hagane("label", "approve", asked["request"]).code == 1
    assert asked["request"] in hagane("label", "list").out
    assert hagane("label", "approve", asked["request"], "--as", "hr").code == 0
    assert hagane("label", "経費.txt", "internal").code == 2


def test_audit_log_is_good_until_a_byte_flips(hagane, company: Folder) -> None:
    hagane("ask", "在宅勤務は週何日まで？", "--json")
    report = hagane("audit", "verify", "--json").json
    assert report["ok"]
    assert hagane("audit", "verify", "--expect", report["head"]).code == 0
    log = company.path / ".hagane/audit/log.jsonl"
    data = bytearray(log.read_bytes())
    assert "在宅勤務".encode() not in data
    data[len(data) // 2] ^= 1
    log.write_bytes(data)
    assert hagane("audit", "verify").code == 1


def test_history_makes_a_follow_up_understood(hagane, company: Folder) -> None:
    company.write("hagane.yaml", YAML.replace("fake", "none"))  # the fake one's cosines mean nothing
    turns = [{"question": "在宅勤務は週何日まで？", "answer": "週3日まで", "label": "internal"}]
    company.write("turns.json", json.dumps(turns, ensure_ascii=False))
    said = hagane("ask", "通信費は？", "--history", "turns.json", "--json", "--as", "staff").json
    assert "5,000円" in said["answer"]
    turns[0]["label"] = "confidential:hr"
    company.write("turns.json", json.dumps(turns, ensure_ascii=False))
    assert hagane("ask", "通信費は？", "--history", "turns.json", "--as", "staff").code == 1


def test_eval_prints_the_named_metrics(hagane, company: Folder) -> None:
    company.write(
        "questions.jsonl",
        '{"question": "在宅勤務は週何日までできる？", "gold_paths": ["rules/在宅勤務.md"], "answer": "週3日", "must_contain": ["3日"]}\n'
        '{"question": "社長の好きな食べ物は？", "answerable": false}\n',
    )
    report = hagane("eval", "answers", "questions.jsonl", "--json", "--progress", "none").json
    assert list(report["metrics"]) == [
        "recall@1", "recall@5", "recall@10", "mrr@10", "ndcg@10", "exact", "f1", "must_contain", "citation_precision",
        "citation_recall", "abstention_auroc", "kept", "rejected", "latency_p50_s", "latency_p95_s",
    ]  # fmt: skip
    assert report["metrics"]["recall@1"]["value"] == 1.0
    assert report["metrics"]["must_contain"]["value"] == 1.0
    assert report["cases"][0]["rank"] == 1
    only = hagane("eval", "retrieval", "questions.jsonl", "--json", "--progress", "none").json
    assert only["metrics"]["exact"] is None


def test_incomplete_index_is_not_measured(hagane, here: Folder) -> None:
    here.write("hagane.yaml", YAML)
    hagane("sync", "--words-only", "--progress", "none")
    here.write("questions.jsonl", '{"question": "在宅勤務", "gold_paths": ["rules/在宅勤務.md"]}\n')
    assert hagane("eval", "retrieval", "questions.jsonl").code == 1
    assert hagane("eval", "retrieval", "questions.jsonl", "--allow-incomplete", "--json").code == 0


def test_strict_sync_fails_when_something_was_set_aside(hagane, company: Folder) -> None:
    company.write("rules/空.txt", "")
    assert hagane("sync", "--strict", "--progress", "none").code == 1
    assert hagane("sync", "--progress", "none").code == 0


def test_missing_path_and_wrong_label_are_failures_and_wrong_words_wrong_use(hagane, here: Folder) -> None:
    """Refused or failed 1, wrong use 2."""
    hagane("init")
    missing = hagane("add", "無いフォルダ")
    assert (missing.code, "無いフォルダ" in missing.err) == (1, True)
    assert hagane("add", "rules", "--label", "とても秘密").code == 1
    assert hagane("add", "rules", "--labbel", "internal").code == 2


def test_init_writes_someone_who_can_approve(hagane, here: Folder) -> None:
    """A lowering needs a second principal; the least project has one."""
    hagane("init")
    fake(here)
    hagane("add", "rules", "--label", "confidential", "--progress", "none")
    asked = hagane("label", "経費.txt", "internal", "--reason", "公開済み", "--json").json
    assert hagane("label", "approve", asked["request"], "--as", "officer").code == 0
    assert "rules/経費.txt" in hagane("docs", "--as", "staff").out


def test_add_says_how_many_were_relabelled(hagane, here: Folder) -> None:
    hagane("init")
    fake(here)
    hagane("add", "rules", "--progress", "none")
    assert "3 relabelled" in hagane("add", "rules", "--label", "confidential:hr", "--progress", "none").out


def test_abstention_is_a_sentence_in_the_language_of_the_question(hagane, company: Folder) -> None:
    japanese = hagane("ask", "社長の靴のサイズは何センチですか？", "--as", "staff")
    assert "見当たりません。" in japanese.out
    assert "low_confidence" not in japanese.out + japanese.err
    english = hagane("ask", "What is the capital of Mongolia?", "--as", "staff")
    assert "The documents do not say." in english.out
    assert (japanese.code, english.code) == (0, 0)


def test_show_of_a_mistyped_path_names_the_nearest_within_the_clearance(hagane, company: Folder) -> None:
    said = hagane("show", "在宅勤勉.md", "--as", "staff")
    assert said.code == 1
    assert "rules/在宅勤務.md" in said.err
    assert "給与" not in hagane("show", "給与レンズ.md", "--as", "staff").err.replace("給与レンズ", "")
    assert "hr/給与レンジ.md" in hagane("show", "給与レンズ.md", "--as", "hr").err


def test_search_names_places_as_places(hagane, company: Folder) -> None:
    assert "(words #1, vectors #" in hagane("search", "領収書を紛失").out


def test_listing_documents_is_recorded(hagane, company: Folder) -> None:
    hagane("docs", "--as", "staff")
    last = json.loads((company.path / ".hagane/audit/log.jsonl").read_text().splitlines()[-1])
    assert (last["act"], last["principal"]) == ("list", "staff")


def test_state_folder_is_for_its_owner_only(hagane, company: Folder) -> None:
    """Copies of all documents lie there, whatever their label."""
    assert (company.path / ".hagane").stat().st_mode & 0o777 == 0o700


def test_ask_without_a_terminal_and_without_input_says_nothing(hagane, company: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert hagane("ask") == Said(0, "", "")


def test_pull_of_a_model_that_a_package_brings_is_done_already(hagane, here: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is fetched; with another checksum it is refused as before."""
    from hagane.models import catalog

    info = next(i for i in catalog.known() if i.name == "gemma3-270m")
    monkeypatch.setattr(catalog, "available", lambda: [catalog.Listed(info, "packaged")])
    said = hagane("models", "pull", "gemma3-270m", "--progress", "none")
    assert said.code == 0
    assert "already" in said.err
    assert hagane("models", "pull", "gemma3-270m", "--sha256", "0" * 64, "--progress", "none").code == 2


def test_embedder_elsewhere_is_refused_before_anything_is_sent(hagane, here: Folder) -> None:
    """Labels are not compared with destinations yet."""
    here.write("hagane.yaml", YAML.replace("{name: fake}", '{name: openai, options: {address: "http://192.0.2.1/v1", model: 埋め込み}}'))
    said = hagane("sync", "--progress", "none")
    assert said.code == 1
    assert "192.0.2.1" in said.err
    assert "localhost" in said.err


def test_unknown_kind_of_progress_is_wrong_use_and_writes_nothing(hagane, here: Folder) -> None:
    hagane("init")
    before = (here.path / "hagane.yaml").read_text()
    for words in (("add", "rules"), ("sync",), ("eval", "retrieval", "質問.jsonl"), ("models", "pull", "gemma3-270m")):
        said = hagane(*words, "--progress", "plan")
        assert (said.code, "'plain'" in said.err) == (2, True)
    assert (here.path / "hagane.yaml").read_text() == before


def test_unknown_answerer_is_wrong_use(hagane, company: Folder) -> None:
    said = hagane("ask", "通信費は？", "--answerer", "extrakt")
    assert (said.code, "'extract'" in said.err) == (2, True)
    company.write("questions.jsonl", '{"question": "在宅勤務", "gold_paths": ["rules/在宅勤務.md"]}\n')
    assert hagane("eval", "answers", "questions.jsonl", "--answerer", "extrakt").code == 2


def test_question_that_is_no_text_is_wrong_use(hagane, company: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    for verb in ("ask", "search"):
        said = hagane(verb, "通信費\udcff")
        assert (said.code, "UTF-8" in said.err) == (2, True)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xff\n"), encoding="utf-8"))
    assert hagane("ask").code == 2


def test_ctrl_c_says_that_work_is_kept(hagane, here: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    from hagane.project import documents

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    hagane("init")
    monkeypatch.setattr(documents, "sync", interrupted)
    said = hagane("sync")
    assert (said.code, "what was done is kept" in said.err) == (130, True)


def test_approve_without_an_id_names_the_id(hagane, company: Folder) -> None:
    said = hagane("label", "approve", "--as", "hr")
    assert said.code == 2
    assert "ID" in said.err.splitlines()[0]


def test_audit_is_verified_as_someone(hagane, company: Folder) -> None:
    assert hagane("audit", "verify", "--as", "staff").code == 0
    assert hagane("audit", "verify", "--as", "誰か").code == 1


def paths_in(folder: Folder) -> list[str]:
    return [source["path"] for source in read_yaml(folder.path / "hagane.yaml")["sources"]]


def test_one_folder_written_in_several_ways_is_one_source(hagane, here: Folder) -> None:
    hagane("init")
    fake(here)
    assert hagane("add", "rules", "rules/", "./rules", str(here.path / "rules"), "--label", "public", "--progress", "none").code == 0
    assert paths_in(here) == ["rules/"]


def test_the_project_folder_itself_is_written_relative(hagane, here: Folder) -> None:
    hagane("init")
    fake(here)
    assert hagane("add", ".", "--progress", "none").code == 0
    assert paths_in(here) == ["./"]
    assert "rules/経費.txt" in hagane("docs").out


def test_source_path_is_written_as_it_is_on_disk(hagane, here: Folder) -> None:
    """macOS writes names decomposed; a folded path would name no folder elsewhere."""
    apart = unicodedata.normalize("NFD", "ガイド")
    here.write(f"{apart}/申請.txt", "申請は総務部に出す。")
    hagane("init")
    fake(here)
    assert hagane("add", apart, "--json", "--progress", "none").json["added"] == ["ガイド/申請.txt"]
    assert paths_in(here) == [f"{apart}/"]
    assert hagane("sync", "--json", "--progress", "none").json["unchanged"] == 1


def test_folder_name_that_is_not_utf8_is_refused_before_anything_is_written(hagane, here: Folder) -> None:
    odd = os.fsdecode("資料".encode("cp932"))
    try:
        (here.path / odd).mkdir()
    except (OSError, UnicodeError):
        pytest.skip("this file system takes UTF-8 names only")
    hagane("init")
    before = (here.path / "hagane.yaml").read_text()
    said = hagane("add", "rules", odd)
    assert (said.code, "hint:" in said.err) == (1, True)
    assert (here.path / "hagane.yaml").read_text() == before


def test_key_left_empty_means_its_default_and_an_unknown_one_is_refused(hagane, here: Folder) -> None:
    here.write("hagane.yaml", "version: 1\nsources:\nprincipals:\n  owner: {clearance: restricted:*}\nparse:\n  workers:\n")
    assert hagane("sync", "--progress", "none").code == 0
    here.write("hagane.yaml", "version: 1\nsuorces:\n")
    assert "hagane.yaml:2" in hagane("sync").err
    here.write("hagane.yaml", "version: 1\nprincipals:\n  総務:\n")
    assert "hagane.yaml:3" in hagane("sync").err


@pytest.mark.parametrize(("text", "where"), [("version: 1\n# 人事\x07\n", "hagane.yaml:2: "), ("[" * 20_000, "hagane.yaml is not YAML")])
def test_damaged_project_file_is_named(hagane, here: Folder, text: str, where: str) -> None:
    here.write("hagane.yaml", text)
    said = hagane("docs")
    assert (said.code, where in said.err) == (1, True)
