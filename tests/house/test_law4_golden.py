"""Law 4: what a user can write stands in lists, so growth shows in review.

HAGANE_WRITE_GOLDEN=1 python -m pytest tests/house/test_law4_golden.py writes the lists anew.
"""

from __future__ import annotations


def test_every_key_of_the_project_file_is_listed(generate, golden):
    golden("config_keys", sorted(key.path for key in generate.config_keys()))


def test_every_command_and_option_is_listed(cli, generate, golden):
    golden("cli_options", generate.options())


def test_every_route_and_its_permission_is_listed(generate, golden):
    golden("http_routes", [f"{method} {path} {need}" for method, path, need, _, _ in generate.routes()])


def test_the_walk_reaches_keys_within_lists_and_mappings(generate):
    """A walk that stopped at the first level would keep the list short and the law blind."""
    paths = {key.path for key in generate.config_keys()}
    assert {"version", "labels.compartments", "sources[].label", "principals.NAME.clearance"} <= paths
