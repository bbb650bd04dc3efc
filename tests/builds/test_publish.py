"""Export: what passes the gates is published with its label, what does not is kept aside, and nothing is lost."""

from __future__ import annotations

import errno
import json
import shutil

import pytest
import taught_models

from hagane.builds import publish
from hagane.builds.gate import questions
from hagane.builds.publish import export
from hagane.builds.spec import ExportConfig
from hagane.core.errors import ModelError, RefusedError, StoppedError, StorageError, UsageError
from hagane.core.labels import Label
from hagane.models.gguf import read_header

torch = pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("peft", reason="needs the extra train")
pytest.importorskip("gguf", reason="needs the extra train")
pytest.importorskip("xllamacpp", reason="needs llama.cpp")
pytestmark = pytest.mark.long  # a taught model, and engines that start
SALES = Label.parse("internal:sales")
FEW = ExportConfig(numbers=("Q8_0",), prompts=4)


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """(base folder, adapter that answers and stops)."""
    base = taught_models.from_scratch(tmp_path_factory.mktemp("base"), "llama")
    adapter = tmp_path_factory.mktemp("adapter")
    return base, taught_models.adapted(base, "llama", adapter, questions(10), steps=60, rate=0.01)


def names(folder) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_an_adapter_is_gated_merged_and_beside_its_base_and_published(taught, tmp_path):
    base, adapter = taught
    dev = taught_models.rows(base, "llama", ["残業の決まりは?", "鍵はどこですか。"])
    told = []
    settings = ExportConfig(numbers=("F16", "Q8_0", "Q4_K_M"), prompts=6, shares={"K": 0.8})
    report = export(
        adapter, tmp_path, settings, name="kaisha", label=SALES, base=base, family="llama", licence="社内限り", dev=dev,
        emit=told.append,
    )  # fmt: skip
    assert report.passed and report.why == () and report.served == "kaisha-F16.gguf"
    assert report.label == Label.parse("confidential:hr+sales"), "the base's label is not forgotten"
    assert [one.path for one in report.files] == [
        "kaisha-F16.gguf", "kaisha-Q8_0.gguf", "kaisha-Q4_K_M.gguf", "adapter.gguf", "Modelfile",
    ]  # fmt: skip
    assert {"hf/model.safetensors", "adapter/adapter_model.safetensors", "report.json"} < set(names(tmp_path))
    assert not any(name.startswith((".", "blocked", "base")) for name in names(tmp_path))
    for file in ("kaisha-F16.gguf", "kaisha-Q4_K_M.gguf", "adapter.gguf"):
        assert read_header(tmp_path / file).values["hagane.label"] == "confidential:hr+sales"
    parity = report.reports["parity"]
    assert set(parity["files"]) == {"F16", "Q8_0", "Q4_K_M", "F16 with adapter"}
    claims = {(check["side"], check["claim"]) for checks in parity["checks"].values() for check in checks}
    assert {("F16 served", "text"), ("F16 served", "prompt length"), ("F16 with adapter served", "stops")} < claims
    assert parity["ended"] == 6
    assert abs(parity["dev_loss"]["Q8_0"] - parity["dev_loss"]["reference"]) < 0.05
    assert report.reports["merge"]["largest_difference"] < 1e-4 < report.reports["merge"]["spread"]
    assert json.loads((tmp_path / "report.json").read_text("utf-8")) == report.as_json()
    assert {event["doing"] for event in told} == {"merge", "gguf", "adapter", "parity"}


class _Blocks:
    passed = False
    sentences = ("二行がそのまま出てくる",)

    def as_json(self):
        return {"copied": 2}


def test_what_fails_a_gate_is_kept_aside_and_what_was_published_stays(taught, tmp_path):
    base, adapter = taught
    assert export(adapter, tmp_path, FEW, name="kaisha", label=SALES, base=base).passed
    before = (tmp_path / "kaisha-Q8_0.gguf").read_bytes()
    report = export(
        adapter, tmp_path, FEW, name="kaisha", label=SALES, base=base, gates={"memory": lambda _: _Blocks()}
    )
    assert (report.state, report.served, report.files) == ("blocked", "", ())
    assert report.why == ("memory: 二行がそのまま出てくる",)
    assert report.reports["memory"] == {"copied": 2, "passed": False}
    assert {"blocked/kaisha-Q8_0.gguf", "blocked/report.json"} < set(names(tmp_path))
    assert (tmp_path / "kaisha-Q8_0.gguf").read_bytes() == before


def test_a_kind_that_fails_is_left_out_and_the_first_one_decides(taught, tmp_path):
    base, adapter = taught
    never = {"Q8_0": 1.01}  # a share that no file reaches
    both = ExportConfig(numbers=("F32", "Q8_0"), prompts=2, shares=never)
    report = export(adapter, tmp_path / "a", both, name="kaisha", label=SALES, base=base)
    assert report.passed and [one.path for one in report.files] == ["kaisha-F32.gguf", "adapter.gguf", "Modelfile"]
    assert len(report.why) == 1 and "Q8_0 next" in report.why[0]
    alone = ExportConfig(numbers=("Q8_0",), prompts=2, shares=never)
    assert export(adapter, tmp_path / "b", alone, name="kaisha", label=SALES, base=base).state == "blocked"


def test_a_model_that_only_reads_on_needs_no_end(taught, tmp_path):
    """A pre-trained model answers nobody: its text is gone on with, everywhere alike."""
    base, _ = taught
    report = export(
        base, tmp_path, ExportConfig(numbers=("F32",), prompts=3), name="kaisha", label=SALES, chat=False, n_tokens=12
    )
    assert report.passed, report.why
    assert report.chat == "raw"
    claims = {check["claim"] for check in report.reports["parity"]["checks"]["F32"]}
    assert claims == {"tokens", "prompt length", "text"}


def test_a_model_that_never_stops_is_blocked(taught, tmp_path):
    base, _ = taught
    report = export(base, tmp_path, ExportConfig(numbers=("F32",), prompts=2), name="kaisha", label=SALES, n_tokens=8)
    assert report.state == "blocked" and "stops" in report.why[0]


def test_a_template_that_never_ends_a_turn_is_refused(taught, tmp_path):
    base, adapter = taught
    folder = shutil.copytree(base, tmp_path / "base")
    template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    (folder / "chat_template.jinja").write_text(template, "utf-8")
    with pytest.raises(RefusedError, match="never ends a turn"):
        export(adapter, tmp_path / "out", FEW, name="kaisha", label=SALES, base=folder)
    assert names(tmp_path / "out") == []


@pytest.mark.parametrize("bad", ["code", "pickle", "another base"])
def test_code_pickles_and_adapters_of_another_base_are_refused(bad: str, taught, tmp_path):
    base, adapter = taught
    folder = shutil.copytree(base, tmp_path / "base")
    if bad == "code":
        said = json.loads((folder / "config.json").read_text("utf-8")) | {"auto_map": {"AutoModel": "kaisha.Moderu"}}
        (folder / "config.json").write_text(json.dumps(said), "utf-8")
    elif bad == "pickle":
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    else:
        from hagane.train.tensor_file import read_tensors, write_tensors

        weights = {name: tensor * 1.01 for name, tensor in read_tensors(folder / "model.safetensors").items()}
        write_tensors(folder / "model.safetensors", weights, notes={"format": "pt"})
    with pytest.raises((RefusedError, ModelError), match=r"auto_map|pickle|another base"):
        export(adapter, tmp_path / "out", FEW, name="kaisha", label=SALES, base=folder)
    assert names(tmp_path / "out") == []


def test_a_disk_that_fills_up_loses_nothing(taught, tmp_path, monkeypatch):
    base, adapter = taught
    assert export(adapter, tmp_path, FEW, name="kaisha", label=SALES, base=base).passed
    before = names(tmp_path)
    import gguf

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(gguf.GGUFWriter, "write_tensor_data", full)
        with pytest.raises(StorageError):
            export(adapter, tmp_path, FEW, name="kaisha", label=SALES, base=base)
    assert names(tmp_path) == before
    with monkeypatch.context() as patched:
        patched.setattr(publish.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000}))
        with pytest.raises(StorageError, match="need about"):
            export(adapter, tmp_path, FEW, name="kaisha", label=SALES, base=base)
    assert names(tmp_path) == before


def test_it_stops_when_asked_and_wants_the_adapters_base(taught, tmp_path):
    base, adapter = taught
    with pytest.raises(StoppedError):
        export(adapter, tmp_path, FEW, name="kaisha", label=SALES, base=base, stop=lambda: True)
    with pytest.raises(UsageError, match="is an adapter"):
        export(adapter, tmp_path, FEW, name="kaisha", label=SALES)
    assert names(tmp_path) == []
