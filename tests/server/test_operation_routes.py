"""Probes, metrics and jobs: right when all is well, plain when it is not, and silent about content."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from fastapi import Request
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from server.site import URL, Site, copied

from hagane.core.errors import StorageError
from hagane.project.questions import ask, search
from hagane.project.work import Worker
from hagane.server.operation_routes import is_from_here

QUESTION = "有給休暇は何日付与されますか"


def local(site: Site, **headers: str) -> TestClient:
    """A program on this machine."""
    return TestClient(site.app, base_url=URL, headers=headers, client=("127.0.0.1", 40_000))


def sample(text: str, name: str, **labels: str) -> float:
    """The sum of a metric's samples that have these labels."""
    found = [s for family in text_string_to_metric_families(text) for s in family.samples if s.name == name]
    return sum(s.value for s in found if all(s.labels.get(k) == v for k, v in labels.items()))


def test_probes_are_open_and_say_nothing_else(own_site: Site) -> None:
    assert own_site.nobody().get("/healthz").json() == {"status": "ok"}
    got = own_site.nobody().get("/readyz")
    assert (got.status_code, got.json()) == (200, {"status": "ready", "reasons": []})


@pytest.mark.parametrize("what", ["ledger", "audit", "disk", "index"])
def test_what_is_broken_is_named_by_one_word(own_site: Site, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No path, no message: the probe is open to everyone."""

    def broken(*_: object) -> None:
        raise StorageError("/srv/人事/ledger.db: the disk is full")

    project = own_site.project
    if what == "ledger":
        monkeypatch.setattr(project.ledger.queue, "counts", broken)
    elif what == "audit":
        (project.state / "audit" / "head.json").write_text("壊れた")
    elif what == "disk":
        full = os.statvfs_result([4096, 4096, 1000, 10, 10, 0, 0, 0, 0, 255])
        monkeypatch.setattr(os, "statvfs", lambda _: full)
    else:
        monkeypatch.setattr(project.index, "count", broken)
    got = own_site.nobody().get("/readyz")
    assert (got.status_code, got.json()) == (503, {"status": "not ready", "reasons": [what]})
    assert own_site.nobody().get("/healthz").status_code == 200


def test_metrics_count_requests_questions_and_the_index(own_site: Site) -> None:
    client = local(own_site)
    before = client.get("/metrics").text
    own_site.nobody().get("/healthz")
    own_site.nobody().get("/nowhere/人事部")
    ask(own_site.project, QUESTION, by=own_site.by)
    ask(own_site.project, "社長の靴のサイズは？", by=own_site.by)
    search(own_site.project, QUESTION, by=own_site.by)
    after = client.get("/metrics").text

    def more(name: str, **labels: str) -> float:
        return sample(after, name, **labels) - sample(before, name, **labels)

    assert more("hagane_requests_total", route="/healthz", status="200") == 1
    assert more("hagane_requests_total", route="none", status="404") == 1
    assert more("hagane_request_seconds_count", route="/healthz") == 1
    assert more("hagane_verbs_total", what="ask", end="done") == 2
    assert more("hagane_verbs_total", what="search") == 1
    assert more("hagane_abstentions_total") == 1
    assert sample(after, "hagane_index_passages") == own_site.project.index.count()[0] > 0
    assert sample(after, "hagane_index_complete", by="vectors") == 1
    assert sample(after, "hagane_jobs", state="waiting") == 0
    assert sample(after, "process_resident_memory_bytes") > 0


def test_metrics_hold_no_content_and_no_names(own_site: Site) -> None:
    """Documents, questions, people, addresses: nothing that is not plain ASCII numbers and our own words."""
    reader = own_site.client("reader", "internal", name="山田")
    reader.get("/documents/経費.txt")
    reader.get("/api/経費?q=給与")
    ask(own_site.project, QUESTION, by=own_site.by)
    text = local(own_site).get("/metrics").text
    assert re.fullmatch(r"[\x00-\x7f]*", text)
    for word in ("yamada", "owner", "staff", "hr", "rules"):
        assert not re.search(rf'"{word}"', text), word


@pytest.mark.parametrize("header", ["X-Forwarded-For", "X-Forwarded-Port", "X-Forwarded-Server", "Forwarded", "Via", "X-Real-IP"])
def test_a_proxy_on_this_machine_is_not_this_machine(own_site: Site, header: str) -> None:
    """Whoever stands behind it would read the numbers otherwise."""
    assert local(own_site).get("/metrics").status_code == 200
    assert local(own_site, **{header: "203.0.113.9"}).get("/metrics").status_code == 401


def test_a_proxy_that_adds_no_header_speaks_an_older_http(own_site: Site) -> None:
    """nginx with a bare proxy_pass names us and says nothing of the client; it speaks HTTP/1.0."""
    scope = {"type": "http", "app": own_site.app, "client": ("127.0.0.1", 40_000), "method": "GET", "path": "/metrics", "scheme": "http",
             "query_string": b"", "headers": [(b"host", b"127.0.0.1:8750"), (b"connection", b"close")]}  # fmt: skip
    assert is_from_here(Request(scope | {"http_version": "1.1"}))
    assert not is_from_here(Request(scope | {"http_version": "1.0"}))
    assert not is_from_here(Request(scope | {"http_version": "1.1", "headers": [(b"host", "社内.example".encode())]}))


@pytest.mark.parametrize("told", ["trusted_proxies: [127.0.0.1]", "url: https://llm.example.co.jp"])
def test_where_hagane_yaml_tells_of_a_proxy_nobody_is_local(template: Path, tmp_path: Path, told: str) -> None:
    folder = copied(template, tmp_path / "company")
    yaml = folder.path / "hagane.yaml"
    yaml.write_text(yaml.read_text(encoding="utf-8") + f"server: {{{told}}}\n", encoding="utf-8")
    site = Site(folder.path)
    try:
        assert local(site).get("/metrics").status_code == 401
        token = site.token("admin", "restricted:*", scopes=("administer",))
        assert local(site, Authorization=f"Bearer {token}").get("/metrics").status_code == 200
    finally:
        site.close()


def test_from_elsewhere_only_administrators_read_metrics(own_site: Site) -> None:
    assert own_site.nobody().get("/metrics").status_code == 401
    assert own_site.program("officer", "restricted:*").get("/metrics").status_code == 403
    assert own_site.program("admin", "restricted:*", scopes=("ask",)).get("/metrics").status_code == 403
    assert own_site.program("admin", "restricted:*", scopes=("administer",)).get("/metrics").status_code == 200


def test_jobs_are_made_shown_and_cancelled_within_the_clearance(own_site: Site) -> None:
    builder, admin = own_site.client("builder", "internal"), own_site.client("admin", "restricted:*")
    mine = builder.post("/api/jobs", json={"kind": "sync"})
    assert mine.status_code == 202 and mine.json()["state"] == "waiting"
    secret = admin.post("/api/jobs", json={"words_only": True}).json()
    assert secret["args"] == {"words_only": True}
    assert [job["id"] for job in builder.get("/api/jobs").json()["jobs"]] == [mine.json()["id"]]
    for verb in (builder.get, builder.delete):
        hidden, missing = verb(f"/api/jobs/{secret['id']}"), verb("/api/jobs/j_none")
        assert (hidden.status_code, missing.status_code) == (404, 404)
        assert hidden.text.replace(secret["id"], "ID") == missing.text.replace("j_none", "ID")
    assert builder.delete(f"/api/jobs/{mine.json()['id']}").json()["state"] == "cancelled"
    assert builder.delete(f"/api/jobs/{mine.json()['id']}").status_code == 409
    assert builder.post("/api/jobs", json={"kind": "settle"}).status_code in (400, 422)
    assert own_site.client("reader", "restricted:*").get("/api/jobs").status_code == 403


def test_a_job_runs_as_its_user_and_a_disabled_users_job_does_not(own_site: Site) -> None:
    from hagane.project import people

    builder = own_site.client("builder", "internal")
    done = builder.post("/api/jobs", json={}).json()
    worker = Worker(own_site.project)
    worker.start()
    try:
        for _ in range(1500):
            state = builder.get(f"/api/jobs/{done['id']}").json()
            if state["state"] not in ("waiting", "running"):
                break
            worker._ending.wait(0.02)
        assert state["state"] == "done", state
        assert "給与" not in str(state)
    finally:
        assert worker.stop(30)
    waits = builder.post("/api/jobs", json={}).json()["id"]
    people.change_user(own_site.project, own_site.user("builder", "internal"), state="disabled", by=own_site.by)
    again = Worker(own_site.project)
    again.start()
    try:
        admin = own_site.project.principal("owner")
        for _ in range(1500):
            found = own_site.project.ledger.queue.get(waits, clearance=admin.clearance)
            if found.state not in ("waiting", "running"):
                break
            again._ending.wait(0.02)
    finally:
        assert again.stop(30)
    assert found.state == "failed" and "disabled" in found.error
