"""Who may sign in, what they may give to others, and what is left of their secrets: nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from argon2 import PasswordHasher
from hypothesis import given
from hypothesis import strategies as st

from hagane.core.accounts import PERMISSIONS, ROLES
from hagane.core.errors import BusyError, RefusedError, UsageError
from hagane.core.labels import Clearance, Label, Level, join_clearances
from hagane.ledger import passwords, totp
from hagane.ledger.accounts import Actor, check_grant, check_role, folded_name
from hagane.ledger.throttle import ALLOWED, WINDOW, Throttle, delay

COMPARTMENTS = st.frozensets(st.sampled_from(["hr", "board", "rd"]))
LABELS = st.builds(Label, st.sampled_from(Level), COMPARTMENTS)
CLEARANCES = st.one_of(
    st.builds(Clearance, st.sampled_from(Level), COMPARTMENTS),
    st.builds(Clearance, st.sampled_from(Level), st.just(frozenset()), st.just(True)),
)
NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)


@given(CLEARANCES, CLEARANCES)
def test_within_means_that_no_label_is_seen_by_one_alone(a: Clearance, b: Clearance):
    """Against the definition, over all labels of three compartments and one that nobody was given by name."""
    names = ["hr", "board", "rd", "other"]
    sets = [frozenset(n for i, n in enumerate(names) if bits >> i & 1) for bits in range(16)]
    labels = [Label(level, names) for level in Level for names in sets]
    assert a.within(b) == all(label.flows_to(b) for label in labels if label.flows_to(a))


@given(CLEARANCES, CLEARANCES, CLEARANCES)
def test_a_joined_clearance_is_the_least_that_sees_what_each_sees(a: Clearance, b: Clearance, c: Clearance):
    both = join_clearances(a, b)
    assert a.within(both) and b.within(both)
    assert not (a.within(c) and b.within(c)) or both.within(c)


@given(CLEARANCES, CLEARANCES, CLEARANCES)
def test_nobody_gives_what_they_do_not_have(mine: Clearance, given: Clearance, before: Clearance):
    """Allowed exactly when the receiver then sees nothing that neither they saw before nor the giver sees."""
    actor = Actor("田中", frozenset(PERMISSIONS), mine)
    allowed = given.within(mine) or given.within(before)
    if allowed:
        check_grant(actor, given, before=before)
    else:
        with pytest.raises(RefusedError, match="above what 田中 may see"):
            check_grant(actor, given, before=before)


@pytest.mark.parametrize("role", ROLES)
def test_an_admin_names_every_role_and_others_only_what_they_have(role):
    check_role(Actor("管理", ROLES["admin"], Clearance.parse("internal")), role)
    narrowed = Actor("管理", frozenset({"administer"}), Clearance.parse("internal"))
    with pytest.raises(RefusedError, match="may not make someone"):
        check_role(narrowed, role)


@pytest.mark.parametrize(
    ("written", "kept"), [("  Ｔａｎａｋａ ", "tanaka"), ("田中　太郎", "田中 太郎"), ("ｶﾅ", "カナ"), ("STRASSE", "strasse"), ("straße", "strasse")]
)
def test_a_name_is_folded_so_that_it_exists_once(written, kept):
    assert folded_name(written) == kept


@pytest.mark.parametrize("bad", ["", " ", "-x", "a/b", "a\\b", "田" * 65, "a\nb", "a\u202eb", "a\u200bb", "u_" + "0" * 16, "\x00"])
def test_a_name_that_could_deceive_is_refused(bad):
    with pytest.raises(UsageError):
        folded_name(bad)


@pytest.mark.parametrize(
    "poor",
    [
        "short-one-1",
        "password1234",
        "Ｐassword１２３４",
        "aaaaaaaaaaaa",
        "abcabcabcabcabc",
        "123456789012",
        "qwertyuiopqwertyuiop",
        "tanaka-tanaka-1",
        "Hagane-hagane-hagane",
        "パスワードパスワード",
        "x" * 1025,
    ],
)
def test_a_password_that_guessers_try_first_is_refused(poor):
    with pytest.raises(UsageError) as refused:
        passwords.check(poor, name="tanaka")
    assert poor not in str(refused.value)


@pytest.mark.parametrize("good", ["春はあけぼの やうやう白く", "correct-horse-41", "tanaka has 3 brown cats", "x7" * 6 + "-Q!"])
def test_length_is_enough_and_no_rule_asks_for_signs(good):
    passwords.check(good, name="tanaka")


def test_the_hash_is_argon2id_with_the_costs_of_rfc_9106():
    made = passwords.hash_of("春はあけぼの やうやう白く")
    assert made.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert passwords.matches(made, "春はあけぼの　やうやう白く"), "a full-width blank is the same key (NFKC)"
    assert not passwords.matches(made, "春はあけぼの")
    assert not passwords.matches(None, "春はあけぼの")
    assert not passwords.matches("not a hash", "春はあけぼの")
    assert not passwords.is_outdated(made) and passwords.is_outdated(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash("x"))


def test_a_flood_is_told_to_come_again_instead_of_eating_memory(monkeypatch):
    """64 MiB a computation: two at once, a few waiting."""
    for _ in range(passwords._QUEUE):
        assert passwords._queue.acquire(blocking=False)
    try:
        with pytest.raises(BusyError):
            passwords.hash_of("春はあけぼの やうやう白く")
    finally:
        for _ in range(passwords._QUEUE):
            passwords._queue.release()


def test_codes_are_those_of_rfc_6238_and_count_once():
    """Appendix B of the RFC: its SHA-1 secret and times, the last six of its eight digits."""
    secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
    for seconds, digits in ((59, "287082"), (1111111109, "081804"), (1234567890, "005924"), (20000000000, "353130")):
        at = datetime.fromtimestamp(seconds, UTC)
        step = totp.step_of(secret, digits, at, used=0)
        assert step == seconds // 30
        assert totp.step_of(secret, digits, at, used=step) is None
        assert totp.step_of(secret, f" {digits[:3]} {digits[3:]}", at + timedelta(seconds=30), used=0) == step
        assert totp.step_of(secret, digits, at + timedelta(seconds=60), used=0) is None
    assert totp.step_of(secret, "２８７０８２", datetime.fromtimestamp(59, UTC), used=0) == 1, "typed with a Japanese keyboard"
    assert totp.step_of(secret, "", NOW, used=0) is None


def test_waits_grow_and_end():
    waits = [delay(n).total_seconds() for n in range(9, 18)]
    assert waits == [0, 30, 60, 120, 240, 480, 900, 900, 900]


def test_an_address_is_stopped_for_a_while_and_ipv6_by_its_network():
    throttle = Throttle()
    for n in range(ALLOWED):
        throttle.wrong(f"2001:db8:1:2::{n}", None, NOW)
    assert throttle.closed("2001:db8:1:2:ffff::1", NOW)
    assert not throttle.closed("2001:db8:1:3::1", NOW)
    assert not throttle.closed("2001:db8:1:2::1", NOW + WINDOW)
    assert not throttle.closed("", NOW)


def test_an_address_that_is_known_is_forgotten_after_many_wrong_tries():
    throttle = Throttle()
    throttle.right("10.0.0.1", "u_1", NOW)
    assert throttle.knows("10.0.0.1", "u_1", NOW) and not throttle.knows("10.0.0.1", "u_2", NOW)
    for _ in range(10):
        throttle.wrong("10.0.0.1", "u_1", NOW)
    assert not throttle.knows("10.0.0.1", "u_1", NOW)
    assert throttle.knows("10.0.0.1", "u_1", NOW + delay(10))
