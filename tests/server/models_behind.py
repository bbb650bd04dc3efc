"""A site on a port with chat models behind it: one that repeats, one that is slow, one that calls a tool."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from loopback_openai import Endpoint
from server.listening import listening
from server.site import Site
from small_company import Folder

from hagane.core.types import ChatRequest, Delta, ToolCall, Usage
from hagane.models.fake import FakeChat

TOOL = {
    "type": "function",
    "function": {"name": "weather", "description": "町の天気", "parameters": {"type": "object", "properties": {"町": {"type": "string"}}}},
}


class Clerk:
    """Says the last message again."""

    def chat(self, request: ChatRequest) -> Iterator[Delta]:
        yield from FakeChat(lambda r: "承りました：" + r.messages[-1].text).chat(request)


class Caller:
    """Calls a tool."""

    def chat(self, request: ChatRequest) -> Iterator[Delta]:
        yield Delta(calls=(ToolCall(0, "call_1", "weather"),))
        yield Delta(calls=(ToolCall(0, arguments='{"町":'),))
        yield Delta(calls=(ToolCall(0, arguments='"奈良"}'),))
        yield Delta(usage=Usage(7, 5), finish="tool_calls")


def with_models(folder: Folder, **addresses: str) -> Folder:
    """`folder` whose hagane.yaml names a model per address."""
    lines = "".join(f"  {name}: {{address: {address}, model: 模型}}\n" for name, address in addresses.items())
    yaml = folder.path / "hagane.yaml"
    yaml.write_text(yaml.read_text(encoding="utf-8") + f"models:\n{lines}", encoding="utf-8")
    return folder


@contextlib.contextmanager
def served(folder: Folder) -> Iterator[Any]:
    """`folder` served: .url, .site, and the endpoints .clerk, .slow and .caller, models of the same names."""
    with Endpoint(Clerk()) as clerk, Endpoint(FakeChat("長い話です。" * 40), slow_s=0.02) as slow, Endpoint(Caller()) as caller:
        with_models(folder, clerk=clerk.address, slow=slow.address, caller=caller.address)
        site = Site(folder.path)
        with listening(site.app) as url:
            yield SimpleNamespace(url=url, site=site, clerk=clerk, slow=slow, caller=caller)
        site.close()
