"""Nobody gives what they do not have, every change is recorded first, and it counts at once."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from people_house import OTHER, SECRET, House, cheap_argon2
from small_company import TEXTS, YAML, Folder

from hagane.core.errors import (
    AuditError,
    HaganeError,
    LabelError,
    NotFoundError,
    RefusedError,
    StateError,
    UsageError,
)
from hagane.core.types import Principal
from hagane.project import people
from hagane.project.wire import Project

# who may change whom


def test_a_name_exists_once_over_users_and_principals(house):
    house.user("田中")
    for name in ("田中", " ＳＴＡＦＦ", "hr", "owner", "system"):
        with pytest.raises(StateError, match="taken"):
            house.user(name)


def test_a_principal_written_later_takes_the_name_and_cannot_sign_in(house):
    house.user("営業")
    cookie = house.enter("営業").cookie
    _, secret = people.create_token(house.project, "営業", name="t", scopes=["ask"], by=house.owner)
    file = house.project.folder / "hagane.yaml"
    file.write_text(file.read_text().replace("  staff:", "  営業: {clearance: internal}\n  staff:"))
    house.project.reload()
    assert people.session(house.project, cookie) is None and people.bearer(house.project, secret) is None
    assert house.refused("営業") == "principal"


def test_acting_as_a_user_on_the_command_line_has_the_clearance_that_counts(house):
    house.user("田中", "builder")
    people.create_group(house.project, "人事", clearance="confidential:hr", by=house.owner)
    people.set_groups(house.project, "田中", ["人事"], by=house.owner)
    acting = house.project.principal("田中")
    assert (str(acting.clearance), acting.roles) == ("confidential:hr", ("annotate", "ask", "build"))
    assert str(house.project.principal("staff").clearance) == "internal"
    people.change_user(house.project, "田中", state="disabled", by=house.owner)
    with pytest.raises(RefusedError, match="disabled"):
        house.project.principal("田中")
    with pytest.raises(NotFoundError):
        house.project.principal("いない人")


def test_nobody_gives_or_hands_out_what_is_above_them(house):
    """Neither a clearance, nor a group, nor a password, token or second factor of someone who sees more."""
    house.user("管理", "admin", "confidential:hr")
    house.user("上", "reader", "restricted:hr")
    house.user("下")
    people.create_group(house.project, "役員", clearance="restricted:board", by=house.owner)
    admin, p = house.by("管理"), house.project
    before = house.rows()
    for attempt in (
        lambda: people.create_user(p, "新", role="reader", clearance="restricted", by=admin),
        lambda: people.change_user(p, "下", clearance="confidential:*", by=admin),
        lambda: people.change_user(p, "管理", clearance="restricted:*", by=admin),
        lambda: people.create_group(p, "組", clearance="public:board", by=admin),
        lambda: people.set_groups(p, "管理", ["役員"], by=admin),
        lambda: people.invite(p, "上", by=admin),
        lambda: people.create_token(p, "上", name="t", scopes=["ask"], by=admin),
        lambda: people.drop_totp(p, "上", by=admin),
        lambda: people.change_user(p, "上", state="active", by=admin),
    ):
        with pytest.raises(RefusedError):
            attempt()
    assert house.rows() == before
    people.change_user(p, "上", clearance="internal", by=admin)  # taking away is free
    assert people.create_user(p, "監", role="officer", clearance="internal", by=admin).role == "officer"


@pytest.mark.parametrize("role", ["reader", "annotator", "builder", "officer"])
def test_only_admins_change_people(house, role):
    house.user("田中", role, "restricted:*")
    house.user("下")
    before, by, p = house.rows(), house.by("田中"), house.project
    for attempt in (
        lambda: people.create_user(p, "新", role="reader", clearance="public", by=by),
        lambda: people.change_user(p, "田中", role="admin", by=by),
        lambda: people.create_group(p, "組", clearance="public", by=by),
        lambda: people.invite(p, "下", by=by),
        lambda: people.tokens(p, "下", by=by),
        lambda: people.create_token(p, "下", name="t", scopes=["ask"], by=by),
        lambda: people.drop_totp(p, "下", by=by),
        lambda: people.create_token(p, "いない人", name="t", scopes=["ask"], by=by),
    ):
        with pytest.raises(RefusedError):
            attempt()
    if role != "officer":
        with pytest.raises(RefusedError):
            people.users(p, by=by)
    assert house.rows() == before


def test_a_principal_without_a_role_changes_nobody(house):
    with pytest.raises(RefusedError):
        people.create_user(house.project, "新", role="reader", clearance="public", by=house.by("staff"))


def test_a_role_taken_away_a_moment_ago_is_gone_even_for_a_principal_read_before(house):
    house.user("甲", "admin", "restricted:*")
    house.user("乙", "admin", "restricted:*")
    stale = house.by("甲")
    people.change_user(house.project, "甲", role="reader", by=house.by("乙"))
    with pytest.raises(RefusedError):
        people.change_user(house.project, "乙", role="reader", by=stale)


def test_the_last_active_admin_stays(house):
    house.user("甲", "admin", "restricted:*")
    house.user("乙", "admin", "restricted:*")
    people.change_user(house.project, "乙", state="disabled", by=house.owner)
    for change in ({"state": "disabled"}, {"role": "officer"}):
        with pytest.raises(StateError, match="last active admin"):
            people.change_user(house.project, "甲", by=house.owner, **change)
    people.change_user(house.project, "乙", state="active", by=house.owner)
    people.change_user(house.project, "甲", state="disabled", by=house.owner)


def test_a_clearance_names_only_declared_compartments(house):
    with pytest.raises(LabelError, match="not declared"):
        house.user("田中", clearance="internal:unknown")
    with pytest.raises(UsageError, match="not a role"):
        house.user("田中", role="root")


def test_a_change_counts_at_the_next_request(house):
    house.user("田中", "builder", "internal")
    people.create_group(house.project, "人事", clearance="confidential:hr", by=house.owner)
    cookie = house.enter("田中").cookie
    _, secret = people.create_token(house.project, "田中", name="t", scopes=["ask", "build"], by=house.owner)

    def now() -> list[tuple[str, list[str]]]:
        callers = [people.session(house.project, cookie), people.bearer(house.project, secret)]
        return [(str(c.principal.clearance), sorted(c.permissions)) for c in callers]

    assert now() == [("internal", ["annotate", "ask", "build"]), ("internal", ["ask", "build"])]
    people.set_groups(house.project, "田中", ["人事"], by=house.owner)
    assert [clearance for clearance, _ in now()] == ["confidential:hr"] * 2
    people.change_group(house.project, "人事", clearance="public", by=house.owner)
    assert [clearance for clearance, _ in now()] == ["internal"] * 2, "the join, never less than one's own"
    people.delete_group(house.project, "人事", by=house.owner)
    people.change_user(house.project, "田中", role="reader", clearance="public", by=house.owner)
    assert now() == [("public", ["ask"]), ("public", ["ask"])]
    people.change_user(house.project, "田中", state="disabled", by=house.owner)
    assert people.session(house.project, cookie) is None and people.bearer(house.project, secret) is None
    people.change_user(house.project, "田中", state="active", by=house.owner)
    assert people.session(house.project, cookie) is None, "a session does not come back"
    assert people.bearer(house.project, secret) is None, "nor does a token"


def test_a_change_whose_groups_are_refused_changes_nothing(house):
    """Else the role would be changed by a request that was answered with a refusal."""
    people.create_group(house.project, "人事", clearance="confidential:hr", by=house.owner)
    house.user("田中")
    house.user("部長", "admin", "internal")
    low = house.project.principal("部長")
    for groups, kind in ((["人事"], RefusedError), (["無い課"], NotFoundError)):
        before = len(house.records())
        with pytest.raises(kind):
            people.change_user(house.project, "田中", role="builder", display="別名", groups=groups, by=low)
        [account] = [one for one in people.users(house.project, by=house.owner) if one.name == "田中"]
        assert (account.role, account.groups) == ("reader", ())
        assert [act for act in [r["act"] for r in house.records()[before:]] if act.startswith("user.")] == []
    changed = people.change_user(house.project, "田中", role="builder", groups=["人事"], by=house.owner)
    assert (changed.role, changed.groups, str(changed.principal.clearance)) == ("builder", ("人事",), "confidential:hr")


def test_disabling_ends_tokens_for_good_and_on_record(house):
    house.user("田中", "builder")
    made = [people.create_token(house.project, "田中", name="検査", scopes=["ask"], by=house.owner) for _ in range(2)]
    people.revoke_token(house.project, made[0][0], by=house.owner)
    people.change_user(house.project, "田中", state="disabled", by=house.owner)
    people.change_user(house.project, "田中", state="active", by=house.owner)
    assert [people.bearer(house.project, secret) for _, secret in made] == [None, None]
    assert {token.state for token in people.tokens(house.project, "田中", by=house.owner)} == {"revoked"}
    last = [record for record in house.records() if record["act"] == "token.revoke"][-1]
    assert last["tokens"] == [made[1][0]]


# tokens


def test_a_token_has_only_its_scopes_and_cannot_make_more_of_itself(house):
    house.user("田中", "admin", "restricted:*")
    id, secret = people.create_token(house.project, "田中", name="夜間", scopes=["ask"], by=house.by("田中"))
    assert secret.startswith("hg_") and len(secret) == 46
    caller = people.bearer(house.project, secret)
    assert caller.permissions == {"ask"} and caller.csrf is None and caller.token == id
    for attempt in (
        lambda: people.create_token(house.project, "田中", name="t", scopes=["administer"], by=caller.principal),
        lambda: people.create_user(house.project, "新", role="reader", clearance="public", by=caller.principal),
        lambda: people.change_password(house.project, caller, old=SECRET, new=OTHER),
        lambda: people.enrol_totp(house.project, caller),
        lambda: people.users(house.project, by=caller.principal),
    ):
        with pytest.raises(RefusedError):
            attempt()


def test_a_token_ends_by_time_and_by_revocation(house):
    house.user("田中")
    house.user("鈴木")
    by = house.by("田中")
    _, short = people.create_token(house.project, "田中", name="短", scopes=["ask"], days=1, by=by)
    id, long = people.create_token(house.project, "田中", name="長", scopes=["ask"], by=by)
    house.ahead = timedelta(days=1, seconds=1)
    assert people.bearer(house.project, short) is None and people.bearer(house.project, long)
    with pytest.raises(NotFoundError):
        people.revoke_token(house.project, id, by=house.by("鈴木"))
    people.revoke_token(house.project, id, by=by)
    assert people.bearer(house.project, long) is None
    assert [(t.name, t.state) for t in people.tokens(house.project, "田中", by=by)] == [("長", "revoked"), ("短", "expired")]


@pytest.mark.parametrize("wrong", ["", "hg_", "hg_" + "A" * 43, "hg_" + "あ" * 43, "x" * 100_000, "hg_\ud800"])
def test_what_is_no_token_is_nobodys(house, wrong):
    assert people.bearer(house.project, wrong) is None


@pytest.mark.parametrize("given", [{"scopes": []}, {"scopes": ["everything"]}, {"days": 0}, {"days": float("nan")}, {"name": "\n"}])
def test_a_token_written_wrong_is_refused(house, given):
    house.user("田中")
    with pytest.raises(UsageError):
        people.create_token(house.project, "田中", **{"name": "t", "scopes": ["ask"]} | given, by=house.owner)


def test_a_scope_beyond_the_role_is_refused(house):
    house.user("田中")
    with pytest.raises(RefusedError, match="cannot have the scope 'build'"):
        people.create_token(house.project, "田中", name="t", scopes=["ask", "build"], by=house.owner)


def test_times_of_use_are_written_at_most_once_a_minute(house):
    house.user("田中")
    cookie = house.enter("田中").cookie
    _, secret = people.create_token(house.project, "田中", name="t", scopes=["ask"], by=house.owner)

    def written() -> tuple[Any, Any]:
        people.session(house.project, cookie), people.bearer(house.project, secret)
        return house.rows()["sessions"][0][4], house.rows()["tokens"][0][8]

    first = written()
    house.ahead = timedelta(seconds=50)
    assert written() == first
    house.ahead = timedelta(seconds=70)
    second = written()
    assert first[0] < second[0] and first[1] < second[1]


def test_a_request_does_not_wait_for_whoever_writes_the_ledger(house):
    """A long sync holds the write lock; then the time of use is left out."""
    house.user("田中")
    cookie = house.enter("田中").cookie
    house.ahead = timedelta(minutes=2)
    with house.project.ledger.accounts._db.writing():
        assert people.session(house.project, cookie) is not None
    assert house.rows()["sessions"][0][4] < house.rows()["sessions"][0][5]


# the record


def test_what_cannot_be_recorded_does_not_happen(house, monkeypatch):
    """Every verb that changes something, with a log that cannot be written: no row of people differs."""
    p = house.project
    house.user("田中", "builder", "internal")
    house.user("管理", "admin", "restricted:*")
    house.user("招待", password=None)
    people.create_group(p, "人事", clearance="confidential:hr", by=house.owner)
    signed, app_user = house.enter("田中"), house.enter("管理")
    app = house.enrol(app_user)
    house.arrive(["社員"])
    secret = people.invite(p, "招待", by=house.owner)
    id, _ = people.create_token(p, "田中", name="t", scopes=["ask"], by=house.owner)
    before = house.rows()

    def fail(*_: Any, **__: Any) -> str:
        raise AuditError("the disk is full")

    monkeypatch.setattr(p.ledger.audit, "record", fail)
    by = house.owner
    for act in (
        lambda: people.create_user(p, "新", role="reader", clearance="public", by=by),
        lambda: people.change_user(p, "田中", role="reader", by=by),
        lambda: people.change_user(p, "田中", state="disabled", by=by),
        lambda: people.create_group(p, "組", clearance="public", by=by),
        lambda: people.change_group(p, "人事", clearance="public", by=by),
        lambda: people.delete_group(p, "人事", by=by),
        lambda: people.set_groups(p, "田中", ["人事"], by=by),
        lambda: people.invite(p, "田中", by=by),
        lambda: people.accept(p, secret, OTHER),
        lambda: people.create_token(p, "田中", name="t", scopes=["ask"], by=by),
        lambda: people.revoke_token(p, id, by=by),
        lambda: people.sign_in(p, "田中", SECRET),
        lambda: people.sign_in(p, "田中", OTHER),
        lambda: people.sign_in(p, "管理", SECRET, code=app.at(house.now)),
        lambda: people.sign_out(p, signed.caller),
        lambda: people.change_password(p, signed.caller, old=SECRET, new=OTHER),
        lambda: people.enrol_totp(p, signed.caller),
        lambda: people.drop_totp(p, "管理", by=by),
        lambda: house.arrive(["人事"]),
    ):
        with pytest.raises(AuditError):
            act()
        assert house.rows() == before


def test_no_secret_is_left_in_the_ledger_or_the_log(house):
    """Cookies, tokens, links and passwords are kept as hashes; the log has ids."""
    p = house.project
    setup = people.setup_secret(p)
    secrets = [setup, SECRET, OTHER, people.set_up(p, setup, name="田中", password=SECRET).cookie]
    house.user("鈴木", password=None)
    secrets.append(people.invite(p, "鈴木", by=house.owner))
    secrets.append(people.accept(p, secrets[-1], OTHER).cookie)
    secrets += [house.enter("田中").cookie, people.create_token(p, "田中", name="t", scopes=["ask"], by=house.owner)[1]]
    reset = people.invite(p, "田中", by=house.owner)
    files = [file for file in p.state.rglob("*") if file.is_file()]
    data = {file.name: file.read_bytes() for file in files}
    assert {"ledger.db", "ledger.db-wal", "log.jsonl"} <= set(data)
    user = people.users(p, by=house.owner)[0].id
    assert any(user.encode() in held for held in data.values()), "the search would find what is there"
    for secret in (*secrets, reset):
        assert [name for name, held in data.items() if secret.encode() in held] == []
        assert secret not in repr(house.rows())


def test_records_name_acts_and_ids(house):
    signed = house.user("田中", "builder") and house.enter("田中")
    people.change_user(house.project, "田中", role="reader", clearance="public", display="田中 次郎", by=house.owner)
    people.sign_out(house.project, signed.caller)
    acts = [(r["act"], r["principal"]) for r in house.records()]
    assert acts == [("user.create", "owner"), ("session.start", "田中"), ("user.change", "owner"), ("session.end", "田中")]
    change = house.records()[2]
    assert (change["role_before"], change["role"], change["clearance_before"], change["clearance"]) == ("builder", "reader", "internal", "public")
    assert "次郎" not in json.dumps(house.records(), ensure_ascii=False)


# why


def test_explain_says_in_one_sentence_which_rule_decides(house, monkeypatch):
    house.user("田中", "reader", "internal")
    people.create_group(house.project, "人事", clearance="confidential:hr", by=house.owner)

    def why(user: str, thing: str, by: Principal = house.owner) -> str:
        return people.explain(house.project, user, thing, by=by)

    assert why("田中", "秘:hr") == (
        "田中 cannot see what is labelled confidential:hr: the level confidential is above internal and the compartment hr"
        " is missing; the clearance is internal, and no group adds to it"
    )
    people.set_groups(house.project, "田中", ["人事"], by=house.owner)
    assert why("田中", "confidential:hr") == (
        "田中 can see what is labelled confidential:hr: the own clearance is internal, and with the group 人事 it is confidential:hr"
    )
    assert "the compartments board, rd are" in why("田中", "public:board+rd")
    assert why("staff", "confidential").endswith("staff's clearance in hagane.yaml is internal")
    people.change_user(house.project, "田中", state="disabled", by=house.owner)
    assert why("田中", "public") == "田中 cannot see what is labelled public: the account is disabled"
    for attempt in (lambda: why("いない人", "public"), lambda: why("田中", "ない.md"), lambda: why("田中", "c_" + "0" * 20)):
        with pytest.raises(NotFoundError):
            attempt()
    with pytest.raises(RefusedError):
        why("田中", "public", house.by("staff"))


def test_explain_does_not_tell_of_what_the_asker_may_not_see(tmp_path, monkeypatch):
    """An officer without hr asks about an hr document: not found, as if there were none."""
    cheap_argon2(monkeypatch)
    folder = Folder(tmp_path / "company")
    folder.write("hagane.yaml", YAML)
    for name, text in TEXTS.items():
        folder.write(name, text)
    folder.sync()
    with Project.open(folder.path) as project:
        house = House(project)
        house.user("監査", "officer", "internal")
        house.user("田中")
        said = people.explain(project, "田中", "給与レンジ.md", by=house.owner)
        assert said.startswith("田中 cannot see document hr/給与レンジ.md (confidential:hr): the level confidential is above")
        with pytest.raises(NotFoundError):
            people.explain(project, "田中", "給与レンジ.md", by=house.by("監査"))
        assert "can see document rules/有給休暇.md" in people.explain(project, "田中", "有給休暇.md", by=house.by("監査"))


def test_errors_never_repeat_what_was_typed(house):
    house.user("田中")
    for attempt in (lambda: house.enter("田中", OTHER), lambda: people.accept(house.project, "x" * 43, OTHER)):
        with pytest.raises(HaganeError) as error:
            attempt()
        assert OTHER not in f"{error.value} {error.value.hint}"
