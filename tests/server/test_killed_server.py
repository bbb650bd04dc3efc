"""`kill -9` under load: what was acknowledged is there, what was answered is on record, and it is back by itself."""

from __future__ import annotations

import hashlib
import itertools
import random
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
from server.site import Site, serving

from hagane.ledger.audit import digest, records
from hagane.project.audit import verify
from hagane.project.wire import Project

pytestmark = pytest.mark.long

KILLS = 5
CLIENTS = 3  # of each kind


@dataclass
class Load:
    """What clients were told, by those who were told it."""

    headers: dict[str, str]
    url: str = ""
    over: threading.Event = field(default_factory=threading.Event)
    uploaded: dict[str, str] = field(default_factory=dict)  # name -> sha256, for each 201
    answered: set[str] = field(default_factory=set)  # questions whose answer came whole
    jobs: set[str] = field(default_factory=set)  # ids, for each 202
    wrong: list[str] = field(default_factory=list)
    _names: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def _next(self) -> int:
        with self._lock:
            return next(self._names)

    def upload(self) -> None:
        n = self._next()
        data = f"# 届け出{n}\n\n届け出番号は{n * 7919}である。担当は総務部とする。\n".encode() * (1 + n % 40)
        done = requests.post(f"{self.url}/api/uploads", params={"name": f"届け出{n}.md"}, data=data, headers=self.headers, timeout=30)
        if done.status_code == 201:
            self.uploaded[f"届け出{n}.md"] = hashlib.sha256(data).hexdigest()
        else:
            self.wrong.append(f"upload {done.status_code} {done.text[:200]}")

    def ask(self) -> None:
        question = f"届け出{self._next()}の有給休暇は何日付与されますか"
        body = {"model": "hagane", "messages": [{"role": "user", "content": question}]}
        done = requests.post(f"{self.url}/v1/chat/completions", json=body, headers=self.headers, timeout=30)
        if done.status_code == 200 and done.json()["choices"]:
            self.answered.add(question)
        else:
            self.wrong.append(f"ask {done.status_code} {done.text[:200]}")

    def sync(self) -> None:
        done = requests.post(f"{self.url}/api/jobs", json={"kind": "sync"}, headers=self.headers, timeout=30)
        if done.status_code == 202:
            self.jobs.add(done.json()["id"])
        else:
            self.wrong.append(f"sync {done.status_code} {done.text[:200]}")
        time.sleep(0.3)

    def run(self, act: Any) -> None:
        while not self.over.is_set():
            try:
                act()
            except (requests.RequestException, ValueError):  # the server is dead, or died in mid-answer
                time.sleep(0.05)


def ready_after(url: str, started: float) -> float:
    """Seconds from `started` until the server says that it is ready."""
    for _ in range(1200):
        try:
            if requests.get(f"{url}/readyz", timeout=10).status_code == 200:
                return time.monotonic() - started
        except requests.RequestException:
            pass
        time.sleep(0.05)
    raise AssertionError("it did not come back")


def killed(folder: Path, load: Load, seconds: float) -> float:
    """Serve under load, and kill it so many seconds after it began to answer; how long it took to be ready."""
    before = len(load.answered)
    started = time.monotonic()
    with serving(folder) as (url, process):
        took = ready_after(url, started)
        load.url = url
        for _ in range(1200):
            if len(load.answered) > before:
                break
            time.sleep(0.05)
        time.sleep(seconds)
        process.kill()
        process.wait(30)
    return took


def test_nothing_acknowledged_is_lost_when_the_server_is_killed(own_site: Site, record_property) -> None:
    token = own_site.token("builder", "internal")
    site_folder = own_site.folder
    own_site.close()
    load = Load({"Authorization": f"Bearer {token}"})
    rng = random.Random(20261124)
    with ExitStack() as stack:
        threads = [threading.Thread(target=load.run, args=(act,), daemon=True) for act in (load.upload, load.ask) for _ in range(CLIENTS)]
        threads.append(threading.Thread(target=load.run, args=(load.sync,), daemon=True))
        for thread in threads:
            thread.start()
        stack.callback(load.over.set)
        took = [killed(site_folder, load, rng.uniform(0.2, 4.0)) for _ in range(KILLS)]
    for thread in threads:
        thread.join(60)
    record_property("ready_s", [round(seconds, 1) for seconds in took])
    print(f"ready after {[round(s, 1) for s in took]} s; {len(load.uploaded)} uploads, {len(load.answered)} answers, {len(load.jobs)} jobs")
    assert load.wrong == []
    assert len(load.uploaded) >= KILLS and len(load.answered) >= KILLS and load.jobs

    with serving(site_folder) as (url, _):
        ready_after(url, time.monotonic())
        for _ in range(1500):  # the jobs go on by themselves
            jobs = {job["id"]: job["state"] for job in requests.get(f"{url}/api/jobs", headers=load.headers, timeout=30).json()["jobs"]}
            if not {"waiting", "running"} & set(jobs.values()):
                break
            time.sleep(0.1)
        assert {jobs[id] for id in load.jobs} == {"done"}, jobs
        last = requests.post(f"{url}/api/jobs", json={}, headers=load.headers, timeout=30).json()["id"]
        for _ in range(1500):
            state = requests.get(f"{url}/api/jobs/{last}", headers=load.headers, timeout=30).json()["state"]
            if state not in ("waiting", "running"):
                break
            time.sleep(0.1)
        assert state == "done"

    with Project.open(site_folder) as project:
        kept = {row["path"].rpartition("/")[2]: row for row in _uploads(project)}
        lost = [name for name, sha256 in load.uploaded.items() if name not in kept or kept[name]["sha256"] != sha256]
        assert lost == []
        for name, sha256 in load.uploaded.items():
            assert hashlib.sha256(project.ledger.blobs.open(sha256)).hexdigest() == sha256, name
        states = {row.path.rpartition("/")[2]: row.state for row in project.ledger.documents.every_unfiltered()}
        assert [name for name in load.uploaded if states.get(name) not in ("in", "duplicate")] == []
        report = verify(project, expect=None)
        assert report["ok"], report
        asked = {record.get("asked") for record in records(project.state / "audit")}
        assert [question for question in load.answered if digest(question) not in asked] == []
        assert project.ledger.marks.unsettled() == []


def _uploads(project: Project) -> list[dict[str, Any]]:
    from hagane.project.uploads import uploads

    return uploads(project, by=project.principal())
