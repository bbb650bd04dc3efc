"""hagane user, group, token, access: who may come in, and what they may do and see."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from hagane.core.accounts import Account
from hagane.core.errors import UsageError

from .options import HERE, As, Json, ProjectDir, open_project, print_json, say

user = typer.Typer(help="Users: who may sign in.", no_args_is_help=True)
group = typer.Typer(help="Groups: a clearance for several users.", no_args_is_help=True)
token = typer.Typer(help="API tokens of users.", no_args_is_help=True)
access = typer.Typer(help="Why someone may see something.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The user's name or id.")]
GroupName = Annotated[str, typer.Argument(metavar="NAME", help="The group's name.")]
Role = Annotated[str, typer.Option("--role", metavar="ROLE", help="reader, annotator, builder, officer or admin.")]
Clearance = Annotated[str, typer.Option("--clearance", metavar="LABEL", help="LEVEL, LEVEL:c1+c2 or LEVEL:*.")]
Display = Annotated[str | None, typer.Option("--display", metavar="TEXT", help="The name that is shown.")]


def _shown(account: Account) -> dict[str, Any]:
    return {
        "id": account.id,
        "name": account.name,
        "display": account.display,
        "role": account.role,
        "clearance": str(account.own),
        "effective": str(account.principal.clearance),
        "groups": list(account.groups),
        "state": account.state,
        "second_factor": account.totp,
        "created_at": account.created_at,
        "seen_at": account.seen_at,
    }


def _line(account: Account) -> str:
    groups = f"  groups {', '.join(account.groups)}" if account.groups else ""
    state = "" if account.state == "active" else f"  {account.state}"
    return f"{account.name}  {account.role}  {account.principal.clearance}{groups}{state}"


def _say_one(account: Account, json: bool) -> None:
    print_json(_shown(account)) if json else print(_line(account))


@user.command("add")
def add_user(
    name: Annotated[str, typer.Argument(metavar="NAME", help="1 to 64 characters; once per project.")],
    role: Role,
    clearance: Clearance,
    display: Display = None,
    password_stdin: Annotated[bool, typer.Option("--password-stdin", help="The first line of stdin is the password.")] = False,
    project: ProjectDir = HERE,
    as_: As = None,
    json: Json = False,
) -> None:
    """Add a user. Without --password-stdin they choose a password by `hagane user link NAME`."""
    from hagane.project import people

    password = sys.stdin.readline().rstrip("\r\n") if password_stdin else None
    with open_project(project) as opened:
        by = opened.principal(as_)
        made = people.create_user(
            opened, name, role=role, clearance=clearance, password=password, display=display or "", by=by
        )
    _say_one(made, json)


@user.command("list")
def list_users(project: ProjectDir = HERE, as_: As = None, json: Json = False) -> None:
    """All users, with the clearance that counts."""
    from hagane.project import people

    with open_project(project) as opened:
        found = people.users(opened, by=opened.principal(as_))
    if json:
        print_json({"users": [_shown(account) for account in found]})
    for account in () if json else found:
        print(_line(account))


@user.command("change")
def change_user(
    name: Name,
    role: Annotated[str | None, typer.Option("--role", metavar="ROLE", help="Another role.")] = None,
    clearance: Annotated[str | None, typer.Option("--clearance", metavar="LABEL", help="Another own clearance.")] = None,
    display: Display = None,
    groups: Annotated[str | None, typer.Option("--groups", metavar="A,B", help='Exactly these groups; "" for none.')] = None,
    drop_second_factor: Annotated[bool, typer.Option("--drop-second-factor", help="For a lost telephone.")] = False,
    project: ProjectDir = HERE,
    as_: As = None,
    json: Json = False,
) -> None:
    """Change a user; it counts at their next request."""
    from hagane.project import people

    if role is clearance is display is groups is None and not drop_second_factor:
        raise UsageError("nothing to change was named", hint="--role, --clearance, --display, --groups or --drop-second-factor")
    with open_project(project) as opened:
        by = opened.principal(as_)
        names = None if groups is None else [g.strip() for g in groups.split(",") if g.strip()]
        changed = people.change_user(opened, name, role=role, clearance=clearance, display=display, groups=names, by=by)
        if drop_second_factor:
            people.drop_totp(opened, name, by=by)
    _say_one(changed, json)


@user.command()
def disable(name: Name, project: ProjectDir = HERE, as_: As = None, json: Json = False) -> None:
    """Shut a user out: sessions and tokens end at once."""
    from hagane.project import people

    with open_project(project) as opened:
        _say_one(people.change_user(opened, name, state="disabled", by=opened.principal(as_)), json)


@user.command()
def enable(name: Name, project: ProjectDir = HERE, as_: As = None, json: Json = False) -> None:
    """Let a user in again; also ends the wait after many wrong passwords."""
    from hagane.project import people

    with open_project(project) as opened:
        _say_one(people.change_user(opened, name, state="active", by=opened.principal(as_)), json)


@user.command()
def link(name: Name, project: ProjectDir = HERE, as_: As = None, json: Json = False) -> None:
    """A one-time link with which the user chooses a password, alone on stdout."""
    from hagane.project import people

    with open_project(project) as opened:
        secret = people.invite(opened, name, by=opened.principal(as_))
        address = people.link_address(opened, secret)
    print_json({"secret": secret, "link": address}) if json else print(address)


@group.command("add")
def add_group(name: GroupName, clearance: Clearance, project: ProjectDir = HERE, as_: As = None, json: Json = False) -> None:
    """Add a group. `hagane user change NAME --groups A,B` puts users into it."""
    from hagane.project import people

    with open_project(project) as opened:
        made = people.create_group(opened, name, clearance=clearance, by=opened.principal(as_))
    shown = {"name": made.name, "clearance": str(made.clearance), "members": []}
    print_json(shown) if json else print(f"{made.name}  {made.clearance}")


@group.command("list")
def list_groups(project: ProjectDir = HERE, as_: As = None, json: Json = False) -> None:
    """All groups with their members."""
    from hagane.project import people

    with open_project(project) as opened:
        found = people.groups(opened, by=opened.principal(as_))
    if json:
        rows = [{"name": g.name, "clearance": str(g.clearance), "members": list(g.members)} for g in found]
        print_json({"groups": rows})
    for g in () if json else found:
        print(f"{g.name}  {g.clearance}  {', '.join(g.members)}".rstrip())


@group.command("change")
def change_group(name: GroupName, clearance: Clearance, project: ProjectDir = HERE, as_: As = None, json: Json = False) -> None:
    """Another clearance for a group."""
    from hagane.project import people

    with open_project(project) as opened:
        people.change_group(opened, name, clearance=clearance, by=opened.principal(as_))
    print_json({"name": name, "clearance": clearance}) if json else say(f"{name} has {clearance} now")


@group.command("delete")
def delete_group(name: GroupName, project: ProjectDir = HERE, as_: As = None, json: Json = False) -> None:
    """Remove a group; its members lose its clearance at once."""
    from hagane.project import people

    with open_project(project) as opened:
        people.delete_group(opened, name, by=opened.principal(as_))
    print_json({"deleted": name}) if json else say(f"{name} is gone")


@token.command("create")
def create_token(
    name: Name,
    scope: Annotated[list[str], typer.Option("--scope", metavar="S", help="ask, annotate, build, govern or administer; may be repeated.")],
    days: Annotated[float | None, typer.Option("--days", metavar="N", help="How long it lasts (default: until revoked).")] = None,
    title: Annotated[str, typer.Option("--title", metavar="TEXT", help="What it is for.")] = "command line",
    project: ProjectDir = HERE,
    as_: As = None,
    json: Json = False,
) -> None:
    """A new API token of the user NAME, alone on stdout. It is never shown again."""
    from hagane.project import people

    with open_project(project) as opened:
        id, secret = people.create_token(opened, name, name=title, scopes=scope, days=days, by=opened.principal(as_))
    print_json({"id": id, "token": secret}) if json else print(secret)
    if not json:
        say(f"{id}: keep it now, it is not shown again")


@token.command("list")
def list_tokens(name: Name, project: ProjectDir = HERE, as_: As = None, json: Json = False) -> None:
    """A user's tokens, without their secrets."""
    from hagane.project import people

    with open_project(project) as opened:
        found = people.tokens(opened, name, by=opened.principal(as_))
    if json:
        keys = ("id", "user", "name", "state", "created_at", "expires_at", "revoked_at", "used_at")
        print_json({"tokens": [{k: getattr(t, k) for k in keys} | {"scopes": list(t.scopes)} for t in found]})
    for t in () if json else found:
        print(f"{t.id}  {t.state}  {','.join(t.scopes)}  until {t.expires_at or 'revoked'}  last used {t.used_at or 'never'}  {t.name}")


@token.command("revoke")
def revoke_token(
    id: Annotated[str, typer.Argument(metavar="ID", help="As `hagane token list` shows it.")],
    project: ProjectDir = HERE,
    as_: As = None,
    json: Json = False,
) -> None:
    """End a token at once."""
    from hagane.project import people

    with open_project(project) as opened:
        people.revoke_token(opened, id, by=opened.principal(as_))
    print_json({"revoked": id}) if json else say(f"{id} is revoked")


@access.command()
def explain(
    name: Annotated[str, typer.Argument(metavar="USER", help="A user, or a principal of hagane.yaml.")],
    thing: Annotated[str, typer.Argument(metavar="THING", help="A document (id, path or path ending), a conversation's id, or a label.")],
    project: ProjectDir = HERE,
    as_: As = None,
    json: Json = False,
) -> None:
    """Say in one sentence why USER can see THING, or cannot."""
    from hagane.project import people

    with open_project(project) as opened:
        said = people.explain(opened, name, thing, by=opened.principal(as_))
    print_json({"explanation": said}) if json else print(said)
