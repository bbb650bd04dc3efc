"""Requests made up from our own OpenAPI document, by someone of each role: no 5xx, nothing that the document does not say."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from loopback_openai import Endpoint
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from server.listening import listening
from server.site import ROLES, Site, copied

from hagane.server.openapi import describe

CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance)
STARTS_WORK = {("post", "/api/sync"), ("post", "/api/jobs")}  # a made-up source may be any folder of this machine
MODES = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)


class Served:
    """A site on a port with a token of each role, and a model behind it."""

    def __init__(self, site: Site, url: str) -> None:
        self.url = url
        self.tokens = {role: site.token(role, "confidential:hr") for role in ROLES}
        schema = schemathesis.openapi.from_dict(describe(site.app))
        self.operations = [found.ok() for found in schema.get_all_operations()]

    def ask(self, case: Any, role: str) -> None:
        headers = {"Authorization": f"Bearer {self.tokens[role]}"}
        try:
            response = case.call(base_url=self.url, headers=headers, timeout=60)
        except (requests.exceptions.InvalidHeader, requests.exceptions.InvalidURL, ValueError):
            return  # no client can send it
        case.validate_response(response, checks=CHECKS)


@pytest.fixture(scope="module")
def served(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Endpoint() as endpoint:
        folder = copied(template, tmp_path_factory.mktemp("made-up") / "company")
        yaml = folder.path / "hagane.yaml"
        yaml.write_text(yaml.read_text(encoding="utf-8") + f"models: {{模型: {{address: {endpoint.address}, model: m}}}}\n", encoding="utf-8")
        site = Site(folder.path)
        with listening(site.app) as url:
            yield Served(site, url)
        site.close()


def try_out(served: Served, operation: Any, role: str, *, n: int, modes: tuple[GenerationMode, ...] = MODES) -> None:
    """`n` requests that fit the document and `n` that do not."""
    how = settings(
        max_examples=n, database=None, deadline=None, derandomize=True, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
    )
    for mode in modes:

        @how
        @given(case=operation.as_strategy(generation_mode=mode))
        def run(case: Any) -> None:
            served.ask(case, role)

        try:
            run()
        except (schemathesis.errors.SchemathesisError, Unsatisfiable) as cause:
            if mode is GenerationMode.POSITIVE or not (isinstance(cause, Unsatisfiable) or "negat" in str(cause).lower()):
                raise  # else nothing in it can be wrong


def runs(served: Served, role: str) -> list[Any]:
    return [o for o in served.operations if role == "reader" or (o.method.lower(), o.path) not in STARTS_WORK]


def test_each_operation_answers_as_it_says(served: Served) -> None:
    """One request that fits the document for each, the roles in turn."""
    assert len(served.operations) > 30
    for at, operation in enumerate(served.operations):
        role = ROLES[at % len(ROLES)]
        if operation in runs(served, role):
            try_out(served, operation, role, n=1, modes=MODES[:1])


@pytest.mark.long
@pytest.mark.parametrize("role", ROLES)
def test_each_operation_answers_each_role_as_it_says(served: Served, role: str) -> None:
    for operation in runs(served, role):
        try_out(served, operation, role, n=int(os.environ.get("HAGANE_MADE_UP", "15")))
