"""What a project's documents become for training: under their labels, sealed where the project is, gone when they are gone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from canaries import find
from encrypted_company import company
from small_company import TEXTS, Folder
from small_data import ENCODER, to_text

from hagane.builds.data import Prepared, prepare
from hagane.builds.spec import TrainFile
from hagane.builds.trace import trace
from hagane.core.errors import ErasedError, NotFoundError, StorageError
from hagane.core.labels import Label
from hagane.core.types import Principal
from hagane.project import datasets, documents, keys, training_data
from hagane.project.wire import Project
from hagane.train.words import Row

QUIET: Any = lambda event: None  # noqa: E731
SPEC = TrainFile.model_validate({
    "name": "kaisha", "split": {"dev": 0},
    "pretrain": {"params": "2M", "data": [{"documents": []}], "training": {"tokens": 64, "rows": 2}},
})  # fmt: skip


def rows_of(project: Project, by: Principal, spec: TrainFile = SPEC) -> list[Row]:
    found = training_data.material(project, spec, "pretrain", root=project.folder, by=by)
    return [Row(Label.parse(r["label"]), r["source"], r["line"], text=r["text"]) for r in training_data.rows(project, found)]


def prepared(project: Project, by: str | None = None, **more: Any) -> Prepared:
    rows = rows_of(project, project.principal(by) if by != "staff" else project.principal("staff"))
    return prepare(
        SPEC, "pretrain", documents=lambda: rows, folder=project.state / "datasets", encoder=ENCODER, root=project.folder,
        default=Label(), sealer=datasets.sealer_of(project), **more,
    )  # fmt: skip


def learnt(made: Prepared) -> str:
    found = ""
    for step in range(made.feed.n_steps):
        batch = made.feed.batch(step)
        found += "".join(to_text(ids[owners >= 0].tolist()) for ids, owners in zip(batch.ids_BT, batch.documents_BT, strict=True))
    return found


@pytest.fixture(params=[False, True], ids=["plain", "encrypted"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    made = company(tmp_path, encrypted=request.param)
    made.sync()
    return made


@pytest.fixture
def project(folder: Folder) -> Iterator[Project]:
    with Project.open(folder.path) as opened:
        yield opened


def test_only_documents_within_the_clearance_are_learnt_and_the_set_carries_their_labels(project: Project):
    for name, word in (("staff", "年次有給休暇"), ("hr", "査定S")):
        made = prepared(project, name)
        assert word in learnt(made)
        assert ("査定S" in learnt(made)) == (name == "hr")
        assert str(made.label) == {"staff": "internal", "hr": "confidential:hr"}[name]
        assert len(made.parents) == made.n_documents == {"staff": 3, "hr": 4}[name]


def test_the_text_is_what_is_searched_in_order(project: Project):
    rows = {row.text for row in rows_of(project, project.principal())}
    assert any(text and text.index("有給休暇") < text.index("年次有給休暇は") for text in rows if text and "年次" in text)
    assert all("下書き" not in (text or "") for text in rows)


def test_a_copy_is_learnt_once_and_under_the_lower_label(folder: Folder):
    folder.write("hr/写し.md", TEXTS["rules/有給休暇.md"])
    folder.sync()
    with Project.open(folder.path) as project:
        held = [row for row in rows_of(project, project.principal()) if "年次有給休暇" in (row.text or "")]
        assert [str(row.label) for row in held] == ["internal"]


def test_a_copy_is_learnt_when_its_twin_lies_in_a_source_that_is_not_chosen(folder: Folder):
    folder.write("hr/写し.md", TEXTS["rules/有給休暇.md"])
    folder.sync()
    spec = TrainFile.model_validate(SPEC.model_dump(exclude_none=True) | {"pretrain": {"params": "2M", "data": [{"documents": ["hr"]}]}})
    with Project.open(folder.path) as project:
        held = [row for row in rows_of(project, project.principal(), spec) if "年次有給休暇" in (row.text or "")]
        assert [str(row.label) for row in held] == ["confidential:hr"]


def test_nothing_of_a_set_can_be_read_on_the_disk_of_an_encrypted_project(project: Project):
    """The tokens of this test are letters of four bytes: an open shard holds the text as UTF-32."""
    made = prepared(project)
    sealed = project.keys is not None
    text = "".join(chr(n) for n in made.feed.batch(0).ids_BT[0][:12] if n < 0x110000 - 3)
    files = [file.read_bytes() for file in made.folder.rglob("*") if file.is_file()]
    assert len(files) >= 8
    assert any(text[:6].encode("utf-32-le") in data for data in files) == (not sealed)
    assert any(any(places) for places in find(made.folder, made.parents).values()) == (not sealed)
    assert learnt(prepared(project)) == learnt(made), "and it opens again"
    again = trace(made.folder, T=64, seed=0, rows=2, sealer=datasets.sealer_of(project))
    assert again.documents(0, 0) == made.feed.documents(0, 0)


def test_a_set_goes_with_a_document_that_it_holds_and_stays_when_others_go(folder: Folder):
    with Project.open(folder.path) as project:
        all_, some = prepared(project), prepared(project, "staff")
        assert all_.folder != some.folder
    (folder.path / "hr/給与レンジ.md").unlink()
    folder.sync(yes=True)
    assert not all_.folder.exists() and some.folder.exists()
    with Project.open(folder.path) as project:
        if project.keys is not None:
            assert project.keys.names("dataset:") == [f"dataset:{some.dataset_id}"]
            with pytest.raises((ErasedError, NotFoundError)):
                trace(all_.folder, T=64, seed=0, rows=2, sealer=datasets.sealer_of(project))
        assert learnt(prepared(project, "staff")) == learnt(some)


def test_a_set_that_was_begun_goes_too(folder: Folder):
    with Project.open(folder.path) as project, pytest.raises(KeyboardInterrupt):
        prepared(project, stop=_interrupting(6))
    left = list((folder.path / ".hagane/datasets").iterdir())
    assert len(left) == 1 and not (left[0] / "dataset.json").exists()
    (folder.path / "hr/給与レンジ.md").unlink()
    folder.sync(yes=True)
    assert not left[0].exists()


def _interrupting(n: int) -> Any:
    asked = iter(range(n))

    def stop() -> bool:
        if next(asked, None) is None:
            raise KeyboardInterrupt
        return False

    return stop


def test_turning_encryption_on_leaves_no_set_in_the_open(tmp_path: Path):
    folder = company(tmp_path, encrypted=False)
    folder.sync()
    with Project.open(folder.path) as project:
        made = prepared(project)
        before = learnt(made)
        keys.turn_on(project, "file:../project.key", by=project.principal(), emit=QUIET)
    assert not made.folder.exists()
    with Project.open(folder.path) as project:
        again = prepared(project)
        assert learnt(again) == before
        head = (again.folder / "dataset.json").read_bytes()
        assert head.startswith(b"HGD1") and "確".encode() not in head
        keys.turn_off(project, by=project.principal(), emit=QUIET)
    assert not again.folder.exists()


def test_a_set_whose_key_was_lost_is_made_anew(tmp_path: Path):
    folder = company(tmp_path, encrypted=True)
    folder.sync()
    with Project.open(folder.path) as project:
        made = prepared(project)
        project.keys.drop([f"dataset:{made.dataset_id}"])
        with pytest.raises(StorageError):
            trace(made.folder, T=64, seed=0, rows=2, sealer=datasets.sealer_of(project)).batch(0)
        assert learnt(prepared(project)) == learnt(made)


def test_a_deep_rotation_of_the_keys_leaves_sets_readable(tmp_path: Path):
    folder = company(tmp_path, encrypted=True)
    folder.sync()
    with Project.open(folder.path) as project:
        made = prepared(project)
        keys.rotate(project, None, by=project.principal(), deep=True)
    with Project.open(folder.path) as project:
        assert learnt(prepared(project)) == learnt(made)
        assert documents.docs(project, by=project.principal())
