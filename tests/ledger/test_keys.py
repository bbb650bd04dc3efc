"""Keys: from where the master key comes, who opens what, and that a deleted key is gone."""

from __future__ import annotations

import base64
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hagane.core.errors import ConfigError, MissingExtraError, StateError, StorageError
from hagane.jobs.local import Worker
from hagane.ledger import keys as keys_of
from hagane.ledger import master
from hagane.ledger.keys import Keys

MASTER = bytes(range(1, 33))
CONTENT = "等級4の月額基本給は38万円".encode()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / ".hagane" / "keys"


def spelled(key: bytes) -> str:
    return base64.urlsafe_b64encode(key).decode()


# --- the master key


def test_a_made_key_file_is_for_its_owner_only_and_reads_back(tmp_path):
    file = tmp_path / "鍵" / "project.key"
    master.create_file(file)
    assert file.stat().st_mode & 0o777 == 0o600
    assert len(master.read_master("file:鍵/project.key", base=tmp_path)) == 32
    with pytest.raises(ConfigError, match="exists already"):
        master.create_file(file)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_file_that_others_may_read_is_refused(tmp_path, mode):
    file = tmp_path / "project.key"
    master.create_file(file)
    file.chmod(mode)
    with pytest.raises(ConfigError, match="others may read"):
        master.read_master(f"file:{file}", base=tmp_path)


def test_folders_links_to_nothing_and_missing_files_are_no_keys(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("missing", "link", "."):
        with pytest.raises(ConfigError):
            master.read_master(f"file:{name}", base=tmp_path)


@pytest.mark.parametrize(
    "text",
    ["", "ひらけごま", "correct horse battery staple", spelled(b"passphrase in 32 characters, hm!"), spelled(bytes(32)), spelled(MASTER[:31]),
     spelled(MASTER + b"x"), "A" * 5000],
)  # fmt: skip
def test_a_passphrase_or_a_key_of_another_length_is_refused(tmp_path, monkeypatch, text):
    monkeypatch.setenv("HAGANE_TEST_KEY", text)
    with pytest.raises(ConfigError) as caught:
        master.read_master("env:HAGANE_TEST_KEY", base=tmp_path)
    assert not text or text not in f"{caught.value} {caught.value.hint}"


def test_a_key_comes_from_a_variable_or_the_keyring(tmp_path, monkeypatch):
    monkeypatch.setenv("HAGANE_TEST_KEY", spelled(MASTER).rstrip("="))
    assert master.read_master("env:HAGANE_TEST_KEY", base=tmp_path) == MASTER
    keyring = pytest.importorskip("keyring")
    held = {("hagane", "会社"): spelled(MASTER)}
    monkeypatch.setattr(keyring, "get_password", lambda service, name: held.get((service, name)))
    assert master.read_master("keyring:会社", base=tmp_path) == MASTER
    with pytest.raises(ConfigError, match="holds no"):
        master.read_master("keyring:他社", base=tmp_path)

    def locked(service: str, name: str) -> str:
        raise RuntimeError(f"the backend talks: {spelled(MASTER)}")

    monkeypatch.setattr(keyring, "get_password", locked)
    with pytest.raises(ConfigError) as caught:
        master.read_master("keyring:会社", base=tmp_path)
    assert spelled(MASTER) not in str(caught.value)


def test_without_the_keyring_package_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(MissingExtraError, match="keyring"):
        master.read_master("keyring:会社", base=tmp_path)


@pytest.mark.parametrize("where", ["", "file:", "passphrase:x", spelled(MASTER), "/etc/key"])
def test_a_key_written_in_the_open_is_refused_and_not_repeated(tmp_path, where):
    with pytest.raises(ConfigError) as caught:
        master.read_master(where, base=tmp_path)
    assert len(where) < 9 or where not in f"{caught.value} {caught.value.hint}"


# --- the hierarchy


def test_keys_open_again_with_the_same_master_key_only(folder):
    with_these = Keys.create(folder, MASTER)
    sealed = with_these.cipher_for("d_1").seal(CONTENT, aad=b"text")
    tokens, name = with_these.token_key(), with_these.blob_name("ab" * 32)
    with_these.close()
    again = Keys.open(folder, MASTER)
    assert again.cipher_for("d_1").open(sealed, aad=b"text") == CONTENT
    assert (again.token_key(), again.blob_name("ab" * 32)) == (tokens, name)
    with pytest.raises(ConfigError, match="not the key of this project"):
        Keys.open(folder, bytes(reversed(MASTER)))


def test_two_projects_under_one_master_key_share_no_key(tmp_path):
    one, other = (Keys.create(tmp_path / name / "keys", MASTER) for name in ("一", "二"))
    assert one.token_key() != other.token_key() and one.blob_name("ab" * 32) != other.blob_name("ab" * 32)
    sealed = one.cipher_for("d_1").seal(CONTENT, aad=b"text")
    other.make(["d_1"])
    with pytest.raises(StorageError):
        other.cipher_for("d_1").open(sealed, aad=b"text")


@pytest.mark.parametrize("damage", ["missing", "cut", "flipped", "not json", "newer"])
def test_a_missing_or_damaged_file_of_keys_says_so(folder, damage):
    Keys.create(folder, MASTER).close()
    file = folder / keys_of.FILE
    tree = json.loads(file.read_text())
    if damage == "missing":
        file.unlink()
    elif damage == "cut":
        file.write_bytes(file.read_bytes()[:60])
    elif damage == "flipped":
        [id] = tree["sealed"]
        data = bytearray(base64.b64decode(tree["sealed"][id]))
        data[40] ^= 1
        file.write_text(json.dumps(tree | {"sealed": {id: base64.b64encode(data).decode()}}))
    elif damage == "not json":
        file.write_bytes("鍵".encode())
    else:
        file.write_text(json.dumps(tree | {"version": 2}))
    with pytest.raises(StateError if damage == "newer" else StorageError) as caught:
        Keys.open(folder, MASTER)
    assert caught.value.hint


def test_a_deleted_key_is_in_no_byte_and_opens_nothing(folder):
    keys = Keys.create(folder, MASTER)
    sealed = keys.cipher_for("d_秘").seal(CONTENT, aad=b"text")
    keys.make([f"d_{n}" for n in range(200)])
    wrapped = keys._store.get(["d_秘"])["d_秘"]
    files = lambda: b"".join(file.read_bytes() for file in folder.iterdir())  # noqa: E731
    assert wrapped in files()
    keys.drop(["d_秘"])
    keys.purge()
    assert wrapped not in files() and wrapped[12:44] not in files() and "d_秘".encode() not in files()
    for here in (keys, Keys.open(folder, MASTER)):
        with pytest.raises(StorageError, match="erased"):
            here.cipher_for("d_秘").open(sealed, aad=b"text")
    keys.make(["d_秘"])
    with pytest.raises(StorageError):  # a new key of the same name is another key
        keys.cipher_for("d_秘").open(sealed, aad=b"text")


def test_another_process_sees_deleted_and_new_keys(folder):
    here = Keys.create(folder, MASTER)
    there = Keys.open(folder, MASTER)
    old = here.cipher_for("d_1").seal(CONTENT, aad=b"")
    assert there.cipher_for("d_1").open(old, aad=b"") == CONTENT
    there.drop(["d_1"])
    new = there.cipher_for("d_1").seal(CONTENT, aad=b"")
    assert here.cipher_for("d_1").open(new, aad=b"") == CONTENT
    assert there.cipher_for("d_1").open(here.cipher_for("d_1").seal(CONTENT, aad=b""), aad=b"") == CONTENT


def test_rotation_lets_the_new_master_key_open_and_the_old_one_nothing(folder):
    keys = Keys.create(folder, MASTER)
    sealed = keys.cipher_for("d_1").seal(CONTENT, aad=b"")
    new = bytes(reversed(MASTER))
    keys.add_master(new)
    for either in (MASTER, new):  # killed here, hagane.yaml may name the old or the new one
        assert Keys.open(folder, either).cipher_for("d_1").open(sealed, aad=b"") == CONTENT
    keys.only_master(new)
    with pytest.raises(ConfigError):
        Keys.open(folder, MASTER)
    assert Keys.open(folder, new).cipher_for("d_1").open(sealed, aad=b"") == CONTENT


def test_a_new_project_key_opens_the_same_and_the_old_one_opens_no_wrapped_key(folder):
    keys = Keys.create(folder, MASTER)
    other = Keys.open(folder, MASTER)
    sealed = {f"d_{n}": keys.cipher_for(f"d_{n}").seal(CONTENT, aad=b"") for n in range(50)}
    [(old_id, old_key)] = keys._given.project.items()
    keys.rotate_project_key()
    [(new_id, new_key)] = keys._given.project.items()
    assert (old_id, old_key) != (new_id, new_key)
    for reader in (keys, other, Keys.open(folder, MASTER)):  # `other` runs on through it
        assert all(reader.cipher_for(name).open(data, aad=b"") == CONTENT for name, data in sealed.items())
    assert all(wrapped[:4].hex() == new_id for wrapped in keys._store.get(list(sealed)).values())


class Killed(BaseException):
    pass


@pytest.mark.parametrize("at", range(4))
def test_a_rotation_killed_anywhere_is_ended_by_the_next(folder, monkeypatch, at):
    keys = Keys.create(folder, MASTER)
    sealed = {f"d_{n}": keys.cipher_for(f"d_{n}").seal(CONTENT, aad=b"") for n in range(9)}
    calls = 0

    def maybe(work):
        def wrapped(*given, **named):
            nonlocal calls
            if calls == at:
                raise Killed
            calls += 1
            return work(*given, **named)

        return wrapped

    monkeypatch.setattr(keys_of, "_write", maybe(keys_of._write))
    monkeypatch.setattr(keys._store, "rewrap", maybe(keys._store.rewrap))
    monkeypatch.setattr(keys._store, "purge", maybe(keys._store.purge))
    with pytest.raises(Killed):
        keys.rotate_project_key()
    monkeypatch.undo()
    again = Keys.open(folder, MASTER)
    assert all(again.cipher_for(name).open(data, aad=b"") == CONTENT for name, data in sealed.items())
    again.rotate_project_key()
    last = Keys.open(folder, MASTER)
    assert len(last._given.project) == 1
    assert all(last.cipher_for(name).open(data, aad=b"") == CONTENT for name, data in sealed.items())


# --- nothing of a key gets out


def test_no_key_appears_in_a_repr_an_error_or_a_log(folder, caplog):
    caplog.set_level(logging.DEBUG)
    keys = Keys.create(folder, MASTER)
    data = bytearray(keys.cipher_for("d_1").seal(CONTENT, aad=b""))
    data[-1] ^= 1
    with pytest.raises(StorageError) as caught:
        keys.cipher_for("d_1").open(bytes(data), aad=b"")
    said = f"{keys!r} {keys._given!r} {caught.value!r} {caught.value.hint} {caplog.text}"
    secret = [MASTER, keys._given.names, *keys._given.project.values(), keys.token_key()]
    for key in secret:
        assert repr(key)[2:-1] not in said and key.hex() not in said and spelled(key) not in said


def test_a_worker_gets_the_keys_over_its_pipe_and_nowhere_else(folder):
    keys = Keys.create(folder, MASTER)
    sealed = keys.cipher_for("d_1").seal(CONTENT, aad=b"")
    sent = keys.for_workers()
    with Worker("tests.ledger.key_worker:Opens", init=sent, env={"PYTHONPATH": os.pathsep.join([".", *sys.path])}) as worker:
        assert worker.ask({"name": "d_1", "data": sealed}) == {"data": CONTENT}
        process = Path(f"/proc/{worker.pid}")
        seen = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        made = worker.ask({"name": "d_2", "seal": CONTENT})
    assert sent["given"].encode() not in seen and MASTER not in seen and spelled(MASTER).encode() not in seen
    assert keys.cipher_for("d_2").open(made["data"], aad=b"") == CONTENT


def test_two_processes_that_make_a_project_at_once_get_the_same_keys(folder, tmp_path):
    code = (
        "import sys; from pathlib import Path; from hagane.ledger.keys import Keys\n"
        "try: keys = Keys.create(Path(sys.argv[1]), bytes(range(1, 33)))\n"
        "except Exception: keys = Keys.open(Path(sys.argv[1]), bytes(range(1, 33)))\n"
        "print(keys.token_key().hex())"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = {process.communicate(timeout=60)[0].strip() for process in running}
    assert said == {Keys.open(folder, MASTER).token_key().hex()}


def test_new_keys_are_never_made_over_those_of_documents(folder):
    """project.json lost, documents.db still there: a backup of the first brings everything back."""
    keys = Keys.create(folder, MASTER)
    sealed = keys.cipher_for("d_1").seal(CONTENT, aad=b"")
    held = (folder / keys_of.FILE).read_bytes()
    (folder / keys_of.FILE).unlink()
    with pytest.raises(StorageError, match="missing"):
        Keys.create(folder, bytes(reversed(MASTER)))
    (folder / keys_of.FILE).write_bytes(held)
    assert Keys.open(folder, MASTER).cipher_for("d_1").open(sealed, aad=b"") == CONTENT


# --- whose folder it is


@pytest.mark.parametrize("first", ["keys", "store", "lock", "ledger", "audit", "database"])
def test_whatever_comes_first_makes_the_state_folder_for_its_owner_only(tmp_path: Path, folder: Path, first: str) -> None:
    """Copies of all documents come to lie in .hagane; another account of the machine sees not even their names."""
    from hagane.ledger.audit import AuditLog
    from hagane.ledger.db import Database
    from hagane.ledger.key_store import KeyStore
    from hagane.ledger.ledger import Ledger
    from hagane.ledger.lock import Writer

    def lock() -> None:
        with Writer(folder.parent / "lock").alone():
            pass

    make = {
        "keys": lambda: Keys.create(folder, MASTER).close(), "store": lambda: KeyStore(folder / "documents.db").close(), "lock": lock,
        "ledger": lambda: Ledger.open(tmp_path).close(), "audit": lambda: AuditLog(folder.parent / "audit").record("list", principal="人事部"),
        "database": lambda: Database.open(folder.parent / "ledger.db").close(),
    }  # fmt: skip
    before = os.umask(0o022)
    try:
        make[first]()
        Keys.create(folder, MASTER, state=keys_of.ON).close() if not Keys.exist(folder) else None
        Ledger.open(tmp_path, keys=Keys.open(folder, MASTER) if first not in ("ledger", "database") else None).close()
    finally:
        os.umask(before)
    for made in (folder.parent, folder):
        assert made.stat().st_mode & 0o777 == 0o700, made
    for file in folder.parent.glob("ledger.db*"):
        assert file.stat().st_mode & 0o777 == 0o600, file
