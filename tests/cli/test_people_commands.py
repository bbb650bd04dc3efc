"""hagane user, group, token, access as a person and as a script meet them."""

from __future__ import annotations

import pytest
from command import Said, runner
from people_house import SECRET, cheap_argon2
from small_company import YAML, Folder

from hagane.project import people
from hagane.project.wire import Project


@pytest.fixture
def hagane(tmp_path, monkeypatch, capsys):
    """Run `hagane WORDS` in this process, in a project without documents."""
    cheap_argon2(monkeypatch)
    Folder(tmp_path).write("hagane.yaml", YAML)
    monkeypatch.chdir(tmp_path)

    return runner(monkeypatch, capsys)


def add(hagane, name: str = "田中", role: str = "builder", clearance: str = "confidential:hr") -> Said:
    return hagane("user", "add", name, "--role", role, "--clearance", clearance, "--password-stdin", "--json", stdin=SECRET + "\n")


def test_without_a_browser_a_user_and_a_token_are_two_commands(hagane, tmp_path):
    """The token stands alone on stdout, so that a script can keep it."""
    made = add(hagane)
    assert (made.code, made.json["name"], made.json["role"], made.json["effective"]) == (0, "田中", "builder", "confidential:hr")
    token = hagane("token", "create", "田中", "--scope", "ask", "--days", "30")
    assert token.code == 0 and token.out.strip().startswith("hg_") and len(token.out.strip().splitlines()) == 1
    with Project.open(tmp_path) as project:
        caller = people.bearer(project, token.out.strip())
        assert caller.account.name == "田中" and caller.permissions == {"ask"}
        assert people.sign_in(project, "田中", SECRET).caller.account.name == "田中"
    assert SECRET not in made.out + made.err


def test_a_token_is_listed_without_its_secret_and_revoked(hagane, tmp_path):
    add(hagane)
    made = hagane("token", "create", "田中", "--scope", "ask", "--scope", "build", "--title", "夜間", "--json").json
    [listed] = hagane("token", "list", "田中", "--json").json["tokens"]
    assert (listed["id"], listed["name"], listed["scopes"], listed["state"]) == (made["id"], "夜間", ["ask", "build"], "active")
    assert made["token"] not in hagane("token", "list", "田中").out
    assert hagane("token", "revoke", made["id"], "--json").json == {"revoked": made["id"]}
    with Project.open(tmp_path) as project:
        assert people.bearer(project, made["token"]) is None


def test_a_user_without_a_password_comes_by_a_link(hagane, tmp_path):
    assert hagane("user", "add", "鈴木", "--role", "reader", "--clearance", "社内").code == 0
    link = hagane("user", "link", "鈴木").out.strip()
    assert link.startswith("http://127.0.0.1:8750/welcome#")
    with Project.open(tmp_path) as project:
        assert people.accept(project, link.partition("#")[2], SECRET).caller.account.name == "鈴木"


def test_groups_change_what_a_user_sees(hagane):
    add(hagane, clearance="internal")
    assert hagane("group", "add", "人事", "--clearance", "confidential:hr").out.strip() == "人事  confidential:hr"
    assert hagane("user", "change", "田中", "--groups", "人事", "--json").json["effective"] == "confidential:hr"
    assert hagane("group", "list", "--json").json["groups"] == [{"name": "人事", "clearance": "confidential:hr", "members": ["田中"]}]
    assert hagane("access", "explain", "田中", "confidential:hr").out.strip() == (
        "田中 can see what is labelled confidential:hr: the own clearance is internal, and with the group 人事 it is confidential:hr"
    )
    hagane("group", "change", "人事", "--clearance", "internal:hr")
    assert "cannot see" in hagane("access", "explain", "田中", "confidential:hr", "--json").json["explanation"]
    assert hagane("group", "delete", "人事").code == 0
    assert hagane("user", "list", "--json").json["users"][0]["groups"] == []


def test_a_disabled_user_is_nobody_on_the_command_line_either(hagane):
    add(hagane, role="admin")
    add(hagane, "管理", role="admin", clearance="restricted:*")
    assert hagane("user", "list", "--as", "管理").code == 0
    assert hagane("user", "disable", "田中", "--as", "管理").out.strip() == "田中  admin  confidential:hr  disabled"
    refused = hagane("user", "list", "--as", "田中")
    assert (refused.code, refused.out) == (1, "") and "disabled" in refused.err
    assert hagane("user", "disable", "管理").code == 1, "the last admin"
    assert hagane("user", "enable", "田中", "--json").json["state"] == "active"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("user", "add", "新", "--role", "root", "--clearance", "internal"), 2, "roles are reader"),
        (("user", "add", "新", "--role", "reader", "--clearance", "最高"), 1, "level '最高' is not one of"),
        (("user", "add", "staff", "--role", "reader", "--clearance", "internal"), 1, "taken"),
        (("user", "add", "新", "--role", "reader", "--clearance", "internal", "--password-stdin"), 2, "0 characters"),
        (("user", "add", "新", "--role", "reader", "--clearance", "internal", "--as", "staff"), 1, "may not do that"),
        (("user", "change", "田中"), 2, "nothing to change"),
        (("user", "change", "田仲", "--role", "reader"), 1, "no user '田仲'"),
        (("token", "create", "田中", "--scope", "everything"), 2, "scopes are ask"),
        (("token", "create", "田中", "--scope", "administer"), 1, "possible here: ask, annotate, build"),
        (("access", "explain", "田中", "public", "--as", "田中"), 1, "may not do that"),
    ],
)
def test_what_is_written_wrong_or_refused_says_what_would_be_right(hagane, words, code, said):
    add(hagane)
    got = hagane(*words)
    assert (got.code, got.out) == (code, "") and said in got.err and "Traceback" not in got.err
