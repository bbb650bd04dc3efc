"""Single sign-on: against a real provider process, and against one that says what it should not."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from joserfc import jwt
from server.forged_provider import Forged, key
from server.site import YAML, Site, copied

from hagane.core.errors import BusyError, ConfigError
from hagane.project.config_server import OidcConfig
from hagane.server.oidc import AT_ONCE, PRE_COOKIE, Sso, check_address

HTML = {"Accept": "text/html"}


def free_port() -> int:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return door.getsockname()[1]


@pytest.fixture(scope="module")
def provider() -> Iterator[str]:
    """A provider of its own process: its URL."""
    port = free_port()
    command = [sys.executable, "-m", "oidc_provider_mock", "--port", str(port), "--require-nonce"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        url = f"http://127.0.0.1:{port}"
        try:
            for _ in range(600):
                assert process.poll() is None, "the provider did not start"
                try:
                    requests.get(url + "/jwks", timeout=2)
                    break
                except requests.ConnectionError:
                    time.sleep(0.05)
            yield url
        finally:
            process.terminate()
            process.wait(20)


@pytest.fixture
def forged() -> Iterator[Forged]:
    made = Forged()
    yield made
    made.close()


def site_for(template, folder, issuer: str, more: str = "") -> Site:
    company = copied(template, folder)
    groups = "{社員: {role: reader, clearance: internal}, 人事部: {role: builder, clearance: 'confidential:hr'}}"
    oidc = f"{{issuer: '{issuer}', client_id: hagane, groups: {groups}{more}}}"
    company.write("hagane.yaml", YAML + f"server: {{oidc: {oidc}}}\n")
    return Site(company.path)


@pytest.fixture
def real(provider: str, template, tmp_path, monkeypatch) -> Iterator[Site]:
    """A site whose people sign in at the real provider, which wants a client's secret."""
    monkeypatch.setenv("HAGANE_TEST_SSO", "a-secret-of-the-client")
    opened = site_for(template, tmp_path / "company", provider, ", client_secret: 'env:HAGANE_TEST_SSO'")
    yield opened
    opened.close()


@pytest.fixture
def lied_to(forged: Forged, template, tmp_path) -> Iterator[Site]:
    """A site whose provider is the forged one."""
    opened = site_for(template, tmp_path / "company", forged.url)
    yield opened
    opened.close()


def known(provider: str, subject: str, **claims: object) -> None:
    """Tell the real provider about someone."""
    assert requests.put(f"{provider}/users/{subject}", json=claims, timeout=10).status_code == 204


def there(client, next: str = "/") -> str:
    """Begin to sign on; the provider's address."""
    answer = client.get("/sign-in/sso", params={"next": next}, headers=HTML)
    assert answer.status_code == 303
    return answer.headers["location"]


def back(address: str, subject: str) -> str:
    """What the real provider's page does when `subject` agrees: the path and query to come back with."""
    answer = requests.post(address, data={"sub": subject}, allow_redirects=False, timeout=10)
    parts = urlsplit(answer.headers["location"])
    assert parts.path == "/sign-in/sso/back"
    return f"{parts.path}?{parts.query}"


def session_of(answer) -> str:
    return next((line for line in answer.headers.get_list("set-cookie") if line.startswith("hagane_session=")), "")


# the real one


def test_someone_of_a_mapped_group_comes_in(real: Site, provider: str):
    known(provider, "s-100", preferred_username="田中", name="田中 一郎", groups=["社員", "野球部"])
    client = real.fresh()
    answer = client.get(back(there(client, "/documents"), "s-100"), headers=HTML)
    assert (answer.status_code, answer.headers["location"]) == (303, "/documents")
    assert session_of(answer)
    page = client.get("/account", headers=HTML).text
    assert "田中 一郎" in page
    assert "internal" in page


def test_the_address_holds_pkce_state_and_nonce(real: Site):
    given = {name: values[0] for name, values in parse_qs(urlsplit(there(real.fresh())).query).items()}
    assert given["response_type"] == "code"
    assert given["code_challenge_method"] == "S256"
    assert len(given["state"]) >= 32
    assert len(given["nonce"]) >= 32
    assert given["scope"] == "openid profile email"
    assert "code_verifier" not in given


def test_several_groups_give_the_strongest(real: Site, provider: str):
    known(provider, "s-200", preferred_username="人事 花子", groups=["人事部", "社員"])
    client = real.fresh()
    client.get(back(there(client), "s-200"))
    assert "confidential:hr" in client.get("/account", headers=HTML).text


def test_someone_without_a_mapped_group_stays_out(real: Site, provider: str):
    known(provider, "s-300", preferred_username="外部", groups=["取引先"])
    client = real.fresh()
    answer = client.get(back(there(client), "s-300"), headers=HTML)
    assert answer.status_code == 401
    assert not session_of(answer)
    assert real.records("session.refused")[-1]["reason"] == "no_group"


def test_a_lost_group_counts_at_the_next_sign_on(real: Site, provider: str):
    known(provider, "s-400", preferred_username="異動", groups=["人事部"])
    client = real.fresh()
    client.get(back(there(client), "s-400"))
    known(provider, "s-400", preferred_username="異動", groups=["社員"])
    client = real.fresh()
    client.get(back(there(client), "s-400"))
    page = client.get("/account", headers=HTML).text
    assert "confidential:hr" not in page
    assert "internal" in page


def test_a_state_serves_once(real: Site, provider: str):
    known(provider, "s-500", preferred_username="再生", groups=["社員"])
    client = real.fresh()
    way = back(there(client), "s-500")
    cookie = client.cookies[PRE_COOKIE]
    assert session_of(client.get(way, headers=HTML))
    again = real.fresh(Cookie=f"{PRE_COOKIE}={cookie}").get(way, headers=HTML)
    assert again.status_code == 401
    assert not session_of(again)


def test_another_browser_cannot_use_what_one_began(real: Site, provider: str):
    """Else someone could be signed in as somebody else by a link."""
    known(provider, "s-600", preferred_username="犯人", groups=["社員"])
    way = back(there(real.fresh()), "s-600")
    for victim in (real.fresh(), real.fresh(Cookie=f"{PRE_COOKIE}=" + "a" * 43)):
        answer = victim.get(way, headers=HTML)
        assert answer.status_code == 401
        assert not session_of(answer)


def test_someone_who_declines_comes_back_to_the_sign_in_page(real: Site):
    client = real.fresh()
    answer = requests.post(there(client), data={"action": "deny"}, allow_redirects=False, timeout=10)
    parts = urlsplit(answer.headers["location"])
    state = parse_qs(parts.query).get("state", [""])[0]
    page = client.get("/sign-in/sso/back", params={"error": "access_denied", "state": state}, headers=HTML)
    assert page.status_code == 401
    assert "もう一度" in page.text


def test_the_way_on_stays_on_this_site(real: Site, provider: str):
    known(provider, "s-700", preferred_username="転送", groups=["社員"])
    client = real.fresh()
    answer = client.get(back(there(client, "https://evil.example/"), "s-700"))
    assert answer.headers["location"] == "/"


def test_a_code_of_the_real_provider_needs_our_verifier(real: Site, provider: str):
    """A made-up code is refused by the provider, and says nothing here."""
    client = real.fresh()
    state = parse_qs(urlsplit(there(client)).query)["state"][0]
    answer = client.get("/sign-in/sso/back", params={"code": "でっちあげ", "state": state}, headers=HTML)
    assert answer.status_code == 401
    assert not session_of(answer)


# the forged one


def come_back(site: Site, forged: Forged):
    """A whole sign-on at the forged provider."""
    client = site.fresh()
    given = parse_qs(urlsplit(there(client)).query)
    forged.nonce = given["nonce"][0]
    return client.get("/sign-in/sso/back", params={"code": "c", "state": given["state"][0]}, headers=HTML)


def test_the_forged_provider_is_believed_while_it_says_nothing_wrong(lied_to: Site, forged: Forged):
    """Else the refusals below would prove nothing."""
    assert session_of(come_back(lied_to, forged))
    assert forged.asked[0]["code_verifier"]
    assert forged.asked[0]["redirect_uri"] == "http://localhost/sign-in/sso/back"


WRONG = {
    "nonce": lambda c: c | {"nonce": "別のもの"},
    "no nonce": lambda c: {k: v for k, v in c.items() if k != "nonce"},
    "audience": lambda c: c | {"aud": "another-client"},
    "audience list": lambda c: c | {"aud": ["another-client"]},
    "audience beside ours": lambda c: c | {"aud": ["hagane", "another-client"]},
    "party": lambda c: c | {"azp": "another-client"},
    "issuer": lambda c: c | {"iss": "https://evil.example"},
    "expired": lambda c: c | {"exp": int(time.time()) - 61},
    "no expiry": lambda c: {k: v for k, v in c.items() if k != "exp"},
    "from the future": lambda c: c | {"iat": int(time.time()) + 120},
    "not yet": lambda c: c | {"nbf": int(time.time()) + 120},
    "no subject": lambda c: {k: v for k, v in c.items() if k != "sub"},
    "empty subject": lambda c: c | {"sub": ""},
    "subject a number": lambda c: c | {"sub": 7},
    "groups a mapping": lambda c: c | {"groups": {"社員": True}},
    "no groups": lambda c: c | {"groups": []},
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_claim_lets_nobody_in(lied_to: Site, forged: Forged, what: str):
    forged.claims = WRONG[what]
    answer = come_back(lied_to, forged)
    assert answer.status_code == 401
    assert not session_of(answer)
    assert lied_to.records("session.refused")


@pytest.mark.parametrize("seconds", [-50, 50])
def test_a_clock_may_differ_by_a_minute(lied_to: Site, forged: Forged, seconds: int):
    now = int(time.time())
    forged.claims = lambda c: c | {"iat": now + max(seconds, 0), "exp": now + (300 if seconds > 0 else seconds)}
    assert session_of(come_back(lied_to, forged))


@pytest.mark.parametrize("way", ["unsigned", "by_public_key_as_secret", "other_key", "cut", "text"])
def test_a_token_that_the_provider_did_not_sign_lets_nobody_in(lied_to: Site, forged: Forged, way: str):
    good = forged.signed
    ways = {
        "unsigned": forged.unsigned,
        "by_public_key_as_secret": forged.by_public_key_as_secret,
        "other_key": _by_another,
        "cut": lambda claims: good(claims)[:-8],
        "text": lambda claims: "これはトークンではない",
    }
    forged.sign = ways[way]
    answer = come_back(lied_to, forged)
    assert answer.status_code == 401
    assert not session_of(answer)


def _by_another(claims) -> str:
    return jwt.encode({"alg": "RS256", "kid": "k1"}, dict(claims), key("k2"))


def test_a_new_key_of_the_provider_is_learned(lied_to: Site, forged: Forged):
    assert session_of(come_back(lied_to, forged))
    forged.key = key("k2")
    forged.shown = [forged.key]
    assert session_of(come_back(lied_to, forged))


def test_a_provider_that_goes_by_another_name_is_not_believed(lied_to: Site, forged: Forged):
    forged.answers["/.well-known/openid-configuration"] = {
        "issuer": "https://evil.example", "authorization_endpoint": forged.url + "/authorize", "token_endpoint": forged.url + "/token", "jwks_uri": forged.url + "/keys",
    }  # fmt: skip
    answer = lied_to.fresh().get("/sign-in/sso", headers={"Accept": "application/json"})
    assert answer.status_code == 502


@pytest.mark.parametrize("name", ["authorization_endpoint", "token_endpoint", "jwks_uri", "userinfo_endpoint"])
def test_a_provider_cannot_send_us_elsewhere_in_the_clear(lied_to: Site, forged: Forged, name: str):
    places = {"authorization_endpoint": "/authorize", "token_endpoint": "/token", "jwks_uri": "/keys"}
    told = {"issuer": forged.url} | {at: forged.url + place for at, place in places.items()} | {name: "http://192.0.2.1/x"}
    forged.answers["/.well-known/openid-configuration"] = told
    assert lied_to.fresh().get("/sign-in/sso").status_code in (400, 502)


@pytest.mark.parametrize("path", ["/.well-known/openid-configuration", "/keys", "/token"])
def test_redirects_of_the_provider_are_not_followed(lied_to: Site, forged: Forged, path: str):
    forged.answers[path] = forged.url + "/trap"
    client = lied_to.fresh()
    first = client.get("/sign-in/sso")
    if first.status_code == 303:
        given = parse_qs(urlsplit(first.headers["location"]).query)
        forged.nonce = given["nonce"][0]
        answer = client.get("/sign-in/sso/back", params={"code": "c", "state": given["state"][0]}, headers=HTML)
        assert not session_of(answer)
    assert "/trap" not in forged.paths


def test_userinfo_about_someone_else_is_not_believed(lied_to: Site, forged: Forged):
    """Groups may come from there, but only about the one who signed on."""
    places = {"authorization_endpoint": "/authorize", "token_endpoint": "/token", "jwks_uri": "/keys", "userinfo_endpoint": "/userinfo"}
    forged.answers["/.well-known/openid-configuration"] = {"issuer": forged.url} | {k: forged.url + v for k, v in places.items()}
    forged.claims = lambda c: {k: v for k, v in c.items() if k != "groups"}
    forged.answers["/userinfo"] = {"sub": "s2", "groups": ["社員"]}
    assert not session_of(come_back(lied_to, forged))
    forged.answers["/userinfo"] = {"sub": "s1", "groups": ["社員"]}
    assert session_of(come_back(lied_to, forged))


def test_a_provider_that_is_down_is_said_and_keeps_passwords_working(lied_to: Site, forged: Forged):
    forged.close()
    answer = lied_to.fresh().get("/sign-in/sso", headers={"Accept": "application/json"})
    assert answer.status_code == 502
    assert answer.json()["error"]["code"] == "sso_unreachable"
    assert lied_to.fresh().get("/sign-in", headers=HTML).status_code == 200


def test_without_a_provider_there_is_no_single_sign_on(site: Site):
    assert site.nobody().get("/sign-in/sso").status_code == 404
    assert "sso" not in site.nobody().get("/sign-in", headers=HTML).text


def test_a_sign_on_that_took_too_long_is_over(forged: Forged):
    now = [1_000.0]
    sso = Sso(OidcConfig(issuer=forged.url, client_id="hagane"), clock=lambda: now[0])
    address, binding = sso.begin(back="http://localhost/sign-in/sso/back", next="/")
    state = parse_qs(urlsplit(address).query)["state"][0]
    now[0] += 601
    with pytest.raises(Exception, match="not accepted"):
        sso.finish(state=state, code="c", denied=False, binding=binding)
    assert forged.asked == []


def test_a_hanging_provider_takes_few_threads(forged: Forged):
    """Anyone may knock; who waits for the provider holds a thread."""
    sso = Sso(OidcConfig(issuer=forged.url, client_id="hagane"))
    with contextlib.ExitStack() as held:
        for _ in range(AT_ONCE):
            held.enter_context(sso._turn())
        with pytest.raises(BusyError):
            sso.begin(back="http://localhost/sign-in/sso/back", next="/")
    assert sso.begin(back="http://localhost/sign-in/sso/back", next="/")


@pytest.mark.parametrize("issuer", ["https://login.example.co.jp/realm", "http://127.0.0.1:9400", "http://localhost", "http://[::1]:1"])
def test_good_issuers(issuer: str):
    check_address(issuer, what="issuer")


@pytest.mark.parametrize("issuer", ["http://login.example.co.jp", "ftp://127.0.0.1", "login.example.co.jp", "", "https://", "https://u:p@x.example", "http://localhost.evil.example"])
def test_bad_issuers(issuer: str):
    with pytest.raises(ConfigError):
        Sso(OidcConfig(issuer=issuer, client_id="hagane"))


def test_a_secret_that_is_not_set_is_said_at_once(monkeypatch):
    monkeypatch.delenv("HAGANE_TEST_SSO", raising=False)
    with pytest.raises(ConfigError, match="HAGANE_TEST_SSO"):
        Sso(OidcConfig(issuer="https://login.example.co.jp", client_id="hagane", client_secret="env:HAGANE_TEST_SSO"))
