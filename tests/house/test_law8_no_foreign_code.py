"""Law 8: nothing that is read is run. No pickle, no eval, no code from model folders; headers checked first."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest
from source_tree import called, dotted, exceptions, files, imported, shown, tree_of

MODULES = {
    "pickle", "cPickle", "_pickle", "pickletools", "dill", "cloudpickle", "joblib", "marshal", "shelve", "copyreg",
    "multiprocessing", "code", "codeop", "hickle", "jsonpickle",
}  # fmt: skip
CALLS = {"eval", "exec", "compile", "builtins.eval", "builtins.exec", "execfile"}
NAMES = {"__reduce__", "__reduce_ex__", "__setstate__", "ProcessPoolExecutor", "trust_remote_code", "auto_map"}


def unsafe(tree: ast.AST, path=None) -> Iterator[tuple[int, str]]:
    """(line, what) of everything in `tree` that could run foreign code."""
    for line, module in imported(tree, path):
        if module.partition(".")[0] in MODULES or module == "concurrent.futures.process":
            yield line, module
    for line, name, call in called(tree):
        if name in CALLS:
            yield line, name
        yield from ((line, word) for word in _loose(name, call))
    for node in ast.walk(tree):
        yield from ((node.lineno, word) for word in _words(node) if word in NAMES)


def _loose(name: str, call: ast.Call) -> Iterator[str]:
    """Loaders that unpickle unless told otherwise."""
    given = {keyword.arg: getattr(keyword.value, "value", None) for keyword in call.keywords}
    if given.get("allow_pickle", False) is not False:
        yield "allow_pickle"
    if name == "torch.load" and given.get("weights_only") is not True:
        yield "torch.load"
    if given.get("typ") == "unsafe" or name in ("yaml.load", "yaml.unsafe_load"):
        yield "yaml"
    if given.get("shell", False) is not False or name in ("os.system", "os.popen"):
        yield "shell"


def _words(node: ast.AST) -> Iterator[str]:
    """Names that a node speaks; `trust_remote_code=False` and docstrings speak none."""
    if isinstance(node, ast.keyword) and node.arg and getattr(node.value, "value", None) is not False:
        yield node.arg
    elif isinstance(node, ast.Name):
        yield node.id
    elif isinstance(node, ast.Attribute):
        yield node.attr
    elif isinstance(node, ast.FunctionDef):
        yield node.name
    elif isinstance(node, ast.alias):
        yield node.name.rpartition(".")[2]
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value


def test_nothing_runs_what_it_reads():
    found = {(shown(path), name): line for path in files() for line, name in unsafe(tree_of(path), path)}
    listed = {(entry["file"], entry["name"]): entry for entry in exceptions("unsafe")}
    assert [f"{file}:{found[file, name]} {name}" for file, name in sorted(set(found) - set(listed))] == []
    assert set(listed) - set(found) == set(), "no longer needed: take it off exceptions.toml"
    assert all(entry["reason"] and entry["since"] for entry in listed.values())


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("def f():\n    import pickle", "pickle"),
        ("from multiprocessing import Pool", "multiprocessing"),
        ("x = eval('日本' + 語)", "eval"),
        ("np.load(file, allow_pickle=True)", "allow_pickle"),
        ("torch.load(file)", "torch.load"),
        ("AutoModel.from_pretrained(folder, trust_remote_code=True)", "trust_remote_code"),
        ("class A:\n    def __reduce__(self): ...", "__reduce__"),
        ("from concurrent.futures import ProcessPoolExecutor", "ProcessPoolExecutor"),
        ("if config.get('auto_map'): load()", "auto_map"),
        ("subprocess.run(f'cp {a}', shell=True)", "shell"),
    ],
)
def test_the_reader_sees_each_of_them(source: str, what: str):
    from source_tree import PACKAGE

    assert what in {name for _, name in unsafe(ast.parse(source), PACKAGE / "models" / "made_up.py")}


def test_what_is_harmless_passes():
    from source_tree import PACKAGE

    source = (
        "model.eval()\nre.compile('規程')\nload(folder, trust_remote_code=False)\nnp.load(file, allow_pickle=False)"
    )
    assert list(unsafe(ast.parse(source), PACKAGE / "models" / "made_up.py")) == []


# native loaders and the modules whose check must run before them
LOADERS = {"xllamacpp": "gguf", "safetensors": "safetensors_header"}


@pytest.mark.parametrize("loader", sorted(LOADERS))
def test_native_loaders_see_checked_headers_only(loader: str):
    """A file that hands weights to `loader` calls a function of the header reader beside it."""
    for path in files():
        tree = tree_of(path)
        if not any(module.partition(".")[0] == loader for _, module in imported(tree, path)):
            continue
        names = {
            alias.asname or alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and (node.module or "").rpartition(".")[2] == LOADERS[loader]
            for alias in node.names
        }
        names |= (
            {LOADERS[loader]}
            if any(
                m in (f"hagane.models.{LOADERS[loader]}", f"hagane.core.{LOADERS[loader]}")
                for _, m in imported(tree, path)
            )
            else set()
        )
        used = {name.partition(".")[0] for _, name, _ in called(tree)}
        assert names & used, f"{shown(path)} loads with {loader} but never calls {LOADERS[loader]}"


def test_dotted_names_are_read_whole():
    assert dotted(ast.parse("a.b.c", mode="eval").body) == "a.b.c"
