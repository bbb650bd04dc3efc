"""What a stage of train.yaml would learn, shown before anything runs: rows with their masks, counts, what is left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hagane.builds.cleaned import as_row
from hagane.builds.preview import preview
from hagane.builds.spec import Stage, TrainFile, load
from hagane.core.errors import HaganeError, RefusedError
from hagane.core.labels import Label
from hagane.core.types import Principal
from hagane.ledger.access import can_read

from . import training, training_data
from .wire import Project


def look(project: Project, file: Path, stage: str, *, by: Principal) -> dict[str, Any]:
    """{"origins": [{"name", "n_rows", "n_tokens", "bad", "shown", ...}], "label", "personal", "tokenizer": was there one}.

    Raises: RefusedError without the permission build or for what is above the clearance; NotFoundError, ConfigError,
    SourceError, StateError as training would.
    """
    training.may_build(by)
    spec = load(file)
    root = file.resolve().parent
    one = training._stage(spec, stage)
    spec = training._with_tokenizer(spec) if one == "tokenizer" else spec
    found = training_data.material(project, spec, one, root=root, by=by)
    project.ledger.audit.record("read", principal=by.name, what="training data", model=spec.name, stage=one, label=str(found.label))

    vocabulary = _vocabulary(project, spec, one, root=root, by=by)
    given: dict[str, Any] = {}
    if vocabulary is not None:
        from hagane.train.encoder import encoder_of

        given = {"encoder": encoder_of(vocabulary), "decode": vocabulary.shown}
    made = preview(
        spec, one, documents=lambda: map(as_row, training_data.rows(project, found)), root=root, default=Label.parse(project.config.labels.default),
        labels=found.labels, **given,
    )  # fmt: skip
    if not can_read(made.label, by):  # a row of a file may carry a label of its own
        raise RefusedError(f"{by.name} may not look at this data: some of it is above the clearance", hint="ask an officer")
    return made.as_json() | {"tokenizer": vocabulary is not None}


def _vocabulary(project: Project, spec: TrainFile, stage: Stage, *, root: Path, by: Principal) -> Any | None:
    """The tokenizer of the stage, where one lies in a folder already: nothing is fetched or converted for a look."""
    from importlib.util import find_spec

    if stage == "tokenizer" or find_spec("tokenizers") is None:
        return None
    from hagane.train.encoder import open_vocabulary
    from hagane.train.template import BY_ARCHITECTURE

    try:
        before = training._before(project, spec, stage, root=root, by=by)
        folder = Path(before.tokenizer or before.base)
        if not (folder / "tokenizer.json").is_file():
            return None
        family = spec.pretrain.family if spec.pretrain else ""
        template = getattr(getattr(spec, stage), "template", None) or _template_of(folder) or BY_ARCHITECTURE.get(family)
        return open_vocabulary(folder, template) if template else None
    except HaganeError:
        return None


def _template_of(folder: Path) -> str | None:
    import json

    card = folder / "hagane.json"
    if not card.is_file():
        return None
    named = json.loads(card.read_text(encoding="utf-8")).get("template")
    return str(named) if named else None
