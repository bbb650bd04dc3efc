"""Signing in and out at the page: set-up link, password, second factor, invitation, own tokens."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pyotp
import pytest
from server.site import ADMIN, PASSWORD, URL, Site
from small_company import Folder

from hagane.project import people
from hagane.project.wire import Project
from hagane.server.app import create_app

HTML = {"Accept": "text/html"}
NEW = "新しい長い合い言葉は傘と電柱"


@pytest.fixture
def unstaffed(folder: Folder) -> Iterator[Site]:
    """A site that nobody can sign in to yet."""
    opened = Site(folder.path)
    yield opened
    opened.close()


def cookie_of(answer) -> str:
    """The Set-Cookie line of the session, "" without one."""
    return next((line for line in answer.headers.get_list("set-cookie") if line.startswith("hagane_session=")), "")


def sign_in(site: Site, name: str = ADMIN, password: str = PASSWORD, **more: str):
    return site.nobody().post("/sign-in", data={"name": name, "password": password, **more}, headers=HTML)


# first start


def test_the_set_up_link_makes_the_first_administrator_once(unstaffed: Site):
    secret = people.setup_secret(unstaffed.project)
    form = {"secret": secret, "name": "総務 花子", "password": PASSWORD, "again": PASSWORD}
    answer = unstaffed.nobody().post("/set-up", data=form, headers=HTML)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert cookie_of(answer)
    again = unstaffed.nobody().post("/set-up", data={**form, "name": "二人目"}, headers=HTML)
    assert again.status_code == 404
    assert not cookie_of(again)
    assert "二人目" not in [account.name for account in people.users(unstaffed.project, by=unstaffed.signed("総務 花子").caller.principal)]


def test_without_the_secret_nobody_is_set_up(unstaffed: Site):
    people.setup_secret(unstaffed.project)
    form = {"secret": "当てずっぽう", "name": "侵入者", "password": PASSWORD, "again": PASSWORD}
    answer = unstaffed.nobody().post("/set-up", data=form, headers=HTML)
    assert answer.status_code == 404
    assert "期限が切れたか" in answer.text


def test_two_different_passwords_are_said_and_the_name_is_kept(unstaffed: Site):
    form = {"secret": people.setup_secret(unstaffed.project), "name": "総務 花子", "password": PASSWORD, "again": PASSWORD + "!"}
    answer = unstaffed.nobody().post("/set-up", data=form, headers=HTML)
    assert answer.status_code == 400
    assert "一致しません" in answer.text
    assert "総務 花子" in answer.text
    assert PASSWORD not in answer.text


def test_the_pages_take_their_secret_from_the_fragment(unstaffed: Site):
    """No address of ours takes it in a query: it would land in logs and histories."""
    for page in ("/set-up", "/welcome"):
        html = unstaffed.nobody().get(page + "?secret=X1Y2Z3", headers=HTML).text
        assert 'value="X1Y2Z3"' not in html
        assert "doors.js" in html


# passwords


def test_a_right_password_opens_a_session(site: Site):
    answer = sign_in(site)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    line = cookie_of(answer).lower()
    assert "httponly" in line
    assert "samesite=lax" in line
    assert "path=/" in line
    assert "secure" not in line.replace("hagane_session", "")  # plain http on loopback


def test_the_cookie_is_secure_when_people_come_by_https(own_site: Site):
    client = own_site.fresh()
    client.base_url = "https://localhost"
    answer = client.post("/sign-in", data={"name": ADMIN, "password": PASSWORD})
    assert "; secure" in cookie_of(answer).lower()
    assert "max-age" in answer.headers["strict-transport-security"]


@pytest.mark.parametrize(("name", "password"), [("山田", "違う合い言葉です"), ("いない人", PASSWORD), ("owner", PASSWORD)])
def test_a_wrong_name_and_a_wrong_password_look_the_same(own_site: Site, name: str, password: str):
    """Also a principal of hagane.yaml, which cannot sign in."""
    own_site.user("reader", name="山田", password=PASSWORD)
    answer = sign_in(own_site, name, password)
    assert answer.status_code == 401
    assert not cookie_of(answer)
    said = answer.text.replace(name, "X")
    assert said == sign_in(own_site, "別の誰か", "別の合い言葉です").text.replace("別の誰か", "X")


def test_a_script_is_answered_in_json_in_the_readers_language(site: Site):
    headers = {"Accept": "application/json", "Accept-Language": "ja"}
    answer = site.nobody().post("/sign-in", data={"name": ADMIN, "password": "違う合い言葉です"}, headers=headers)
    assert answer.status_code == 401
    assert "パスワード" in answer.json()["error"]["message"]
    good = site.nobody().post("/sign-in", data={"name": ADMIN, "password": PASSWORD, "next": "/documents"}, headers=headers)
    assert good.json() == {"to": "/documents"}


@pytest.mark.parametrize("next", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)", "http:evil", "/%0d%0aSet-Cookie: a=b"])
def test_signing_in_leads_to_this_site_only(site: Site, next: str):
    answer = sign_in(site, next=next)
    where = answer.headers["location"]
    assert where.startswith("/")
    assert not where.startswith(("//", "/\\"))
    assert "\r" not in where
    page = site.nobody().get("/sign-in", params={"next": next}, headers=HTML)
    assert re.search(r'name="next" value="([^"]*)"', page.text)[1] in ("/", where)


def test_a_session_from_before_is_not_carried_over(own_site: Site):
    """Session fixation: the cookie is new at each sign-in, and the old session ends."""
    own_site.user("reader", name="山田", password=PASSWORD)
    planted = own_site.signed("山田").cookie
    client = own_site.fresh()
    client.cookies.set("hagane_session", planted, domain="localhost.local")
    answer = client.post("/sign-in", data={"name": "山田", "password": PASSWORD})
    assert answer.status_code == 303
    assert planted not in cookie_of(answer)
    assert people.session(own_site.project, planted) is None


def test_a_made_up_cookie_is_nobody_and_is_not_taken_over(site: Site):
    client = site.fresh()
    client.cookies.set("hagane_session", "A" * 43, domain="localhost.local")
    assert client.get("/account").status_code == 401
    assert "A" * 43 not in cookie_of(client.post("/sign-in", data={"name": ADMIN, "password": PASSWORD}))


def test_signing_out_ends_the_session(own_site: Site):
    client = own_site.client("reader")
    cookie = own_site.signed("reader-internal").cookie
    assert client.get("/account", headers=HTML).status_code == 200
    answer = client.post("/sign-out")
    assert answer.headers["location"] == "/sign-in"
    assert people.session(own_site.project, cookie) is None


def test_a_password_is_changed_and_other_sessions_end(own_site: Site):
    own_site.user("reader", name="山田", password=PASSWORD)
    other = people.sign_in(own_site.project, "山田", PASSWORD).cookie
    client = own_site.client("reader", name="山田")
    wrong = client.post("/password", data={"old": "違う合い言葉です", "password": NEW, "again": NEW}, headers=HTML)
    assert wrong.status_code == 401
    poor = client.post("/password", data={"old": PASSWORD, "password": "短い", "again": "短い"}, headers=HTML)
    assert poor.status_code == 400
    assert client.post("/password", data={"old": PASSWORD, "password": NEW, "again": NEW}).status_code == 303
    assert people.session(own_site.project, other) is None
    assert sign_in(own_site, "山田").status_code == 401
    assert sign_in(own_site, "山田", NEW).status_code == 303


def test_an_invitation_works_once(own_site: Site):
    own_site.user("reader", name="山田")
    secret = people.invite(own_site.project, "山田", by=own_site.by)
    form = {"secret": secret, "password": NEW, "again": NEW}
    assert cookie_of(own_site.nobody().post("/welcome", data=form, headers=HTML))
    again = own_site.nobody().post("/welcome", data=form, headers=HTML)
    assert again.status_code == 404
    assert not cookie_of(again)


# second factor


def test_a_second_factor_is_enrolled_asked_for_and_dropped(own_site: Site):
    own_site.user("reader", name="山田", password=PASSWORD)
    client = own_site.client("reader", name="山田")
    page = client.post("/account/totp").text
    key = re.search(r"<code>([A-Z2-7]{16,})</code>", page)[1]
    assert "data:image/svg+xml" in page
    assert client.post("/account/totp/confirm", data={"code": "000000"}).status_code == 401
    code = pyotp.TOTP(key)
    assert client.post("/account/totp/confirm", data={"code": code.now()}).status_code == 303

    asked = sign_in(own_site, "山田")
    assert asked.status_code == 401
    assert not cookie_of(asked)
    assert "認証アプリ" in asked.text
    own_site.project.ledger.sessions.clock = _later(30)
    assert sign_in(own_site, "山田", code="000000").status_code == 401
    import datetime

    good = code.at(datetime.datetime.now() + datetime.timedelta(seconds=30))
    assert cookie_of(sign_in(own_site, "山田", code=good))
    assert not cookie_of(sign_in(own_site, "山田", code=good)), "no code counts twice"


def _later(seconds: int):
    from datetime import UTC, datetime, timedelta

    return lambda: datetime.now(UTC) + timedelta(seconds=seconds)


# one's own account


def test_a_token_is_shown_once_and_can_be_revoked(own_site: Site):
    client = own_site.client("builder")
    made = client.post("/account/tokens", data={"name": "夜間バッチ", "scopes": ["ask", "build"], "days": "30"}, headers=HTML)
    secret = re.search(r'value="(hg_[^"]+)"', made.text)[1]
    assert "no-store" in made.headers["cache-control"]
    page = client.get("/account", headers=HTML)
    assert "夜間バッチ" in page.text
    assert secret not in page.text
    program = own_site.fresh(Authorization=f"Bearer {secret}")
    assert program.get("/openapi.json").status_code == 200
    id = re.search(r"/account/tokens/([^/]+)/revoke", page.text)[1]
    assert client.post(f"/account/tokens/{id}/revoke").status_code == 303
    assert program.get("/openapi.json").status_code == 401


@pytest.mark.parametrize(("field", "value"), [("days", "三十"), ("days", "nan"), ("days", "-1"), ("scopes", "administer"), ("scopes", "all"), ("name", "")])
def test_a_token_that_cannot_be_is_refused_on_the_page(site: Site, field: str, value: str):
    answer = site.client("reader").post("/account/tokens", data={"name": "検査", "scopes": "ask", "days": "30"} | {field: value}, headers=HTML)
    assert 400 <= answer.status_code < 404
    assert "hg_" not in answer.text


def test_a_token_cannot_make_another_or_change_the_account(site: Site):
    """What it may do was written down when it was made."""
    program = site.program("reader")
    for path, form in (
        ("/account/tokens", {"name": "子", "scopes": "ask"}),
        ("/account/totp", {}),
        ("/password", {"old": PASSWORD, "password": NEW, "again": NEW}),
        ("/sign-out", {}),
    ):
        answer = program.post(path, data=form)
        assert answer.status_code == 403, path
    assert program.get("/account").status_code == 403


def test_a_foreign_token_cannot_be_revoked(own_site: Site):
    secret = own_site.token("builder")
    theirs = people.bearer(own_site.project, secret).token
    answer = own_site.client("reader").post(f"/account/tokens/{theirs}/revoke")
    missing = own_site.client("reader").post("/account/tokens/t_0000000000000000/revoke")
    assert answer.status_code == missing.status_code == 404
    assert answer.json()["error"]["message"].replace(theirs, "X") == missing.json()["error"]["message"].replace("t_0000000000000000", "X")
    assert people.bearer(own_site.project, secret) is not None


@pytest.mark.parametrize("language", ["ja", "en"])
@pytest.mark.parametrize("path", ["/sign-in", "/set-up", "/welcome", "/password", "/account"])
def test_every_page_speaks_both_languages(site: Site, path: str, language: str):
    client = site.client("reader") if path in ("/password", "/account") else site.nobody()
    html = client.get(path, headers={**HTML, "Cookie": client_cookies(client, language)}).text
    assert f'<html lang="{language}"' in html
    assert bool(re.search(r"<h1>[^<]*[぀-ヿ一-鿿]", html)) is (language == "ja")


def client_cookies(client, language: str) -> str:
    session = client.cookies.get("hagane_session")
    return f"hagane_language={language}" + (f"; hagane_session={session}" if session else "")


def test_the_app_opens_over_any_project(folder: Folder):
    """A project without users starts, too: that is what the set-up link is for."""
    with Project.open(folder.path) as project:
        assert create_app(project).title == "Hagane"
    assert URL.startswith("http://localhost")
