"""Models and runs on the page and the API: who sees which, what the curves hold, what is checked before it is queued."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import made_model
import pytest
from hypothesis import given
from hypothesis import strategies as st
from server.site import Site, copied

from hagane.builds.place import Log, Place
from hagane.core.errors import StateError
from hagane.core.labels import Label
from hagane.project import runs, work
from hagane.project.wire import Project
from hagane.server.curves import axis, curve

SECRET = "等級9の給与は99万円である"
PAGES = {"Accept": "text/html"}


def put_run(project: Project, name: str, label: str, *, text: str = SECRET, state: str = "stopped", n: int = 40) -> None:
    """A run with its events, as training leaves them."""
    place = Place(project.state / "runs" / name / "tune")
    node = f"s_{name}"
    project.ledger.lineage.declare(node, Label.parse(label))
    measured = {"seconds": 90.0, "tokens": 5000, "flops": 1.5e12, "kwh": 0.002, "peak_bytes": 600_000_000}
    made = {"label": label, "measured": measured} if state == "done" else None
    place.note(name=name, stage="tune", state=state, label=label, dataset_step=node, user="田中", begun_at="2026-11-24T10:00:00Z",
               settings={"steps": n}, made=made, error=None, hint=None)  # fmt: skip
    log = Log(place.events)
    for step in range(1, n + 1):
        log.write({"event": "step", "step": step, "loss": 4 / step + 1, "learning_rate": 1e-3, "tokens_per_s": 1234.5, "remaining_s": 3700 - step, "total": n})
        if step % 10 == 0:
            log.write({"event": "dev", "step": step, "loss": 4 / step + 1.1, "best": 1.2})
            log.write({"event": "sample", "step": step, "prompt": "給与は?", "text": f"{text}。{step}"})
    log.write({"event": "halved", "step": 12, "rows": 2})


@pytest.fixture(scope="module")
def site(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    opened = Site(copied(template, tmp_path_factory.mktemp("models") / "company").path)
    rows = {row.path.rpartition("/")[2]: row.id for row in opened.project.ledger.documents.list(clearance=opened.by.clearance)}
    made_model.put(opened.project, "our-llm", parents=[rows["有給休暇.md"], "d_" + "0" * 16])
    made_model.put(opened.project, "hr-llm", "confidential:hr", parents=[rows["給与レンジ.md"]], reports={"memory": {"passed": False, "sample": SECRET}}, state="blocked", why=SECRET)  # fmt: skip
    put_run(opened.project, "our-run", "internal", text="有給休暇は10日です")
    put_run(opened.project, "hr-run", "confidential:hr")
    yield opened
    opened.close()


@pytest.mark.parametrize("language", ["ja", "en"])
def test_the_pages_show_what_a_builder_may_see(site: Site, language: str) -> None:
    client = site.client("builder", "confidential:hr")
    page = client.get("/models", headers={**PAGES, "Accept-Language": language}).text
    assert all(name in page for name in ("our-llm", "hr-llm", "our-run", "hr-run"))
    assert {"ja": "公開中", "en": "Published"}[language] in page
    assert {"ja": "その後に削除された文書 1 件", "en": "Trained on 1 documents"}[language] in page
    one = client.get("/models/hr-llm", headers={**PAGES, "Accept-Language": language}).text
    assert SECRET in one
    run = client.get("/runs/hr-run", headers={**PAGES, "Accept-Language": language}).text
    assert SECRET in run
    assert "plot-dev" in run
    assert "1 h 1 min" in run, "the time that is left"
    for text in (page, one, run):
        assert " style=" not in text, "the policy allows no inline style"


def test_a_model_or_run_above_the_clearance_looks_like_one_that_is_not_there(site: Site) -> None:
    client = site.client("builder", "internal")
    for where in ("/models", "/runs", "/api/models", "/api/runs", "/v1/models"):
        told = client.get(where).text
        assert "hr-llm" not in told, where
        assert "hr-run" not in told, where
        assert SECRET not in told, where
    for path in ("/models/{}", "/api/models/{}", "/runs/{}", "/runs/{}/now", "/api/runs/{}", "/v1/models/{}"):
        for hidden in ("hr-llm", "hr-run"):
            got, missing = (client.get(path.format(name), headers={"Accept": "application/json"}) for name in (hidden, "no-llm"))
            assert got.status_code == missing.status_code == 404, path
            assert got.text.replace(hidden, "X") == missing.text.replace("no-llm", "X"), path
    for method, path in (("DELETE", "/api/models/{}"), ("POST", "/api/models/{}/export"), ("POST", "/api/runs/{}/go-on")):
        got, missing = (client.request(method, path.format(name)) for name in ("hr-llm", "no-llm"))
        assert (got.status_code, got.text.replace("hr-llm", "X")) == (missing.status_code, missing.text.replace("no-llm", "X")), path
        assert got.status_code == 404, path
    assert (site.folder / ".hagane" / "models" / "hr-llm" / "model.json").exists()


def test_a_model_above_the_clearance_answers_nobody(site: Site) -> None:
    made_model.put(site.project, "board-llm", "restricted:board")
    body = {"messages": [{"role": "user", "content": "有給休暇は?"}], "max_tokens": 4}
    told = []
    for name in ("board-llm", "no-llm"):
        client = site.program("reader", "internal")
        chat = client.post("/v1/chat/completions", json=body | {"model": name})
        response = client.post("/v1/responses", json={"model": name, "input": "有給休暇は?", "max_output_tokens": 16})
        assert chat.status_code == response.status_code == 404
        told.append((chat.text, response.text))
    assert told[0] == told[1]


def test_a_change_of_clearance_counts_at_once(site: Site) -> None:
    from hagane.project import people

    client = site.program("builder", "confidential:hr", name="異動する人")
    assert "hr-llm" in client.get("/api/models").text
    people.change_user(site.project, "異動する人", clearance="internal", by=site.by)
    assert "hr-llm" not in client.get("/api/models").text
    assert client.get("/api/models/hr-llm").status_code == 404


def test_a_made_model_is_served_with_its_label(site: Site) -> None:
    client = site.program("reader", "internal")
    assert "our-llm" in [row["id"] for row in client.get("/v1/models").json()["data"]]
    body = {"model": "our-llm", "messages": [{"role": "user", "content": "有給"}], "max_tokens": 4}
    told = client.post("/v1/chat/completions", json=body).json()
    assert told["choices"][0]["message"]["hagane"] == {"label": "internal"}


def test_a_builder_removes_a_model_on_record(site: Site) -> None:
    made_model.put(site.project, "old-llm")
    assert site.client("builder", "internal").delete("/api/models/old-llm").status_code == 204
    assert site.client("builder", "internal").get("/api/models/old-llm").status_code == 404
    assert [record["model"] for record in site.records("model.remove")] == ["old-llm"]


def test_a_train_yaml_is_checked_before_it_is_queued(site: Site) -> None:
    client = site.client("builder", "internal")
    for text, what in (
        ("name: our-llm\ntune: {data: [{file: 例.jsonl}], bases: x}\n", "train.yaml:2"), ("name: [\n", "train.yaml:"), ("version: 1\n", "name"), ("\n", "text"),
        ("name: new-llm\ntune: {base: gemma3-270m, data: [{file: ../../etc/passwd}]}\n", "outside"), ("name: hagane\npretrain: {params: 1M, data: [{documents: []}]}\n", "there already"),
    ):  # fmt: skip
        got = client.post("/api/runs/check", json={"text": text})
        assert 400 <= got.status_code < 500, (text, got.text)
        assert what in got.json()["error"]["message"], got.text
        assert ".train-" not in got.text, "the name of a file that nobody wrote"
    assert not [job for job in client.get("/api/jobs").json()["jobs"] if job["kind"] == "train"]
    assert not list(site.folder.glob(".train-*"))


def test_a_name_that_somebody_elses_hidden_run_has_is_taken(site: Site) -> None:
    """It is not said whose; another model cannot be put over it."""
    got = site.client("builder", "internal").post("/api/runs", json={"text": "name: hr-run\npretrain: {params: 1M, data: [{documents: []}]}\n"})
    assert (got.status_code, "there already" in got.json()["error"]["message"]) == (400, True)
    assert not (site.folder / "hr-run.train.yaml").exists()


def test_starting_keeps_the_text_and_queues_one_job_that_can_be_stopped(site: Site) -> None:
    client = site.client("builder", "internal")
    text = "name: new-llm  # 新しいモデル\npretrain: {params: 1M, data: [{documents: []}]}\n"
    got = client.post("/api/runs", json={"text": text})
    assert got.status_code == 202, got.text
    assert (site.folder / "new-llm.train.yaml").read_text(encoding="utf-8") == text
    job = client.get(f"/api/jobs/{got.json()['job']}").json()
    assert job["kind"] == "train"
    assert job["args"] == {"file": "new-llm.train.yaml", "stage": "all", "sha256": hashlib.sha256(text.encode()).hexdigest()}
    assert "new-llm" in client.get("/runs", headers=PAGES).text
    assert client.get("/health", headers=PAGES).status_code == 200, "the page of jobs knows the kind"
    assert client.post("/api/runs", json={"text": text}).status_code == 409
    assert client.delete(f"/api/jobs/{job['id']}").status_code == 200
    assert client.post("/api/runs", json={"text": text}).status_code == 202


def test_a_stopped_run_goes_on_from_its_file(site: Site) -> None:
    client = site.client("builder", "confidential:hr")
    assert client.post("/api/runs/our-run/go-on").status_code == 409, "it was begun from another file"
    (site.folder / "our-run.train.yaml").write_text("name: our-run\n", encoding="utf-8")
    assert client.post("/api/runs/our-run/go-on").status_code == 202


def test_the_text_of_a_run_is_shown_to_who_sees_all_its_stages(own_site: Site) -> None:
    put_run(own_site.project, "our-run", "internal")
    (own_site.folder / "our-run.train.yaml").write_text(f"name: our-run  # {SECRET}、麒麟計画\n", encoding="utf-8")
    low, high = own_site.client("builder", "internal"), own_site.client("builder", "confidential:hr")
    assert "麒麟計画" in low.get("/runs/our-run", headers=PAGES).text
    own_site.project.ledger.lineage.declare("s_prefer", Label.parse("confidential:hr"))
    Place(own_site.project.state / "runs" / "our-run" / "prefer").note(name="our-run", stage="prefer", state="stopped", label="confidential:hr", dataset_step="s_prefer")  # fmt: skip
    assert "麒麟計画" in high.get("/runs/our-run", headers=PAGES).text
    for path in ("/runs/our-run", "/runs/our-run/now", "/api/runs/our-run"):
        got = low.get(path)
        assert got.status_code == 200
        assert "麒麟計画" not in got.text, path
    assert low.post("/api/runs/our-run/go-on").status_code == 409, "nor does it go on with what it may not read"


def test_a_text_that_a_hidden_job_brought_is_hidden_too(own_site: Site) -> None:
    put_run(own_site.project, "our-run", "internal")
    text = "name: our-run  # 麒麟計画\npretrain: {params: 1M, data: [{documents: []}]}\n"
    low, high = own_site.client("builder", "internal"), own_site.client("builder", "confidential:hr")
    job = high.post("/api/runs", json={"text": text, "again": True}).json()["job"]
    for _ in range(2):  # while it waits, and when it has ended
        assert low.get("/api/runs/our-run").json()["text"] is None
        assert low.post("/api/runs/our-run/go-on").status_code in (400, 409)
        assert high.get("/api/runs/our-run").json()["text"] == text
        high.delete(f"/api/jobs/{job}")


def test_a_name_on_which_a_hidden_job_waits_is_taken_and_its_text_stays(own_site: Site) -> None:
    high, low = own_site.client("builder", "confidential:hr"), own_site.client("builder", "internal")
    text = "name: new-llm  # 人事の分\npretrain: {params: 1M, data: [{documents: []}]}\n"
    assert high.post("/api/runs", json={"text": text}).status_code == 202
    got = low.post("/api/runs", json={"text": text.replace("人事の分", "別の分")})
    assert (got.status_code, "there already" in got.json()["error"]["message"]) == (400, True)
    assert (own_site.folder / "new-llm.train.yaml").read_text(encoding="utf-8") == text


def test_a_train_yaml_that_was_changed_behind_its_job_is_not_run(own_site: Site) -> None:
    text = "name: new-llm\npretrain: {params: 1M, data: [{documents: []}]}\n"
    file = own_site.folder / "new-llm.train.yaml"
    file.write_text(text, encoding="utf-8")
    args = {"file": file.name, "sha256": hashlib.sha256(f"{text}# 別\n".encode()).hexdigest()}
    with pytest.raises(StateError, match="changed after"):
        work.KINDS["train"][0](own_site.project, args, by=own_site.by, emit=lambda event: None, stop=lambda: False)


def test_nothing_of_a_sample_is_in_the_audit_log(site: Site) -> None:
    site.client("builder", "confidential:hr").get("/runs/hr-run")
    assert SECRET not in (site.folder / ".hagane" / "audit" / "log.jsonl").read_text(encoding="utf-8")


def test_samples_with_markup_are_text(own_site: Site) -> None:
    put_run(own_site.project, "x-run", "internal", text="<img src=x onerror=alert(1)>")
    page = own_site.client("builder", "internal").get("/runs/x-run", headers=PAGES).text
    assert "<img src=x" not in page
    assert "&lt;img src=x" in page


events = st.lists(st.fixed_dictionaries({"event": st.sampled_from(["step", "dev", "半端"]), "step": st.integers(0, 5000) | st.none(), "loss": st.floats() | st.text(max_size=2) | st.none() | st.booleans()}), max_size=900)  # fmt: skip


@given(told=events)
def test_curves_hold_finite_numbers_only_and_end_with_the_newest(told: list[dict[str, Any]]) -> None:
    found = runs.curves(told)
    assert all(len(points) <= runs.N_POINTS for points in found.values())
    json.dumps(found, allow_nan=False)
    good = [e for e in told if e["event"] == "dev" and runs._is_number(e["loss"]) and runs._is_number(e["step"])]
    assert found["dev"][-1:] == [(e["step"], float(e["loss"])) for e in good[-1:]]


@given(low=st.floats(-1e6, 1e6), high=st.floats(-1e6, 1e6))
def test_the_axis_holds_all_values(low: float, high: float) -> None:
    low, high = sorted((low, high))
    bottom, top = axis(low, high)
    assert bottom < top
    assert bottom <= low + 1e-9 * abs(low) + 1e-300
    assert high <= top + 1e-9 * abs(high) + 1e-300


def test_a_curve_stays_in_its_frame() -> None:
    drawn = curve({"loss": [(n, 5 - n / 10) for n in range(1, 40)], "dev": [(20, 3.3)]}, last=80)
    assert drawn is not None
    for line in drawn["lines"]:
        for point in line["points"]:
            assert 0 <= point["x"] <= drawn["width"]
            assert drawn["head"] - 0.1 <= point["y"] <= drawn["base"] + 0.1
    assert drawn["rows"] == [{"step": 20, "loss": 3.0, "dev": 3.3}]
    assert curve({"loss": []}) is None
