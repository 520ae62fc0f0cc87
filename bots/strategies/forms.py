"""From a settings model to what a form or an API description needs: one list of fields, generated. Pure.

A settings model declares each field once, with label, help, unit and section beside its type, default and range.
Pages, validation messages, help texts and the schema are made from that, so none of them can offer what the engine
does not know (F42).
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any, Literal, Self, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError

from bots.conditions import Tree
from tradebot.core.decimals import plain
from tradebot.core.errors import InvalidInput

FieldKind = Literal["decimal", "integer", "choice", "choices", "boolean", "conditions", "steps", "text"]
"""``choices`` is a list of words out of ``FieldSpec.choices``, ``steps`` a list of objects with ``FieldSpec.parts``."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One word a choice field takes, and how it reads."""

    value: str
    label: str


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """One setting as a form shows it.

    ``default``, ``minimum`` and ``maximum`` are plain values (decimals as text). ``optional`` fields may be left empty,
    which means off. ``depends_on`` names other fields with the values for which this one has an effect ("true" for a
    switch that is on). ``parts`` are the fields of each entry of a list, ``max_items`` how many entries it may have.
    """

    name: str
    label: str
    help: str
    unit: str
    section: str
    kind: FieldKind
    optional: bool
    default: Any
    minimum: str | None = None
    maximum: str | None = None
    choices: tuple[Choice, ...] = ()
    depends_on: Mapping[str, tuple[str, ...]] | None = None
    parts: tuple[FieldSpec, ...] = ()
    max_items: int | None = None


class SettingsModel(BaseModel):
    """The base of every strategy's settings: immutable, strict about names, JSON with decimals as text."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Return validated settings.

        Raises InvalidInput (``invalid_settings``): ``field`` names the first setting at fault, ``detail["errors"]``
        lists all as {field, message}.
        """
        try:
            return cls.model_validate(dict(data))
        except ValidationError as error:
            raise refusal(error) from error

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values that :meth:`from_json` reads back to an equal object."""
        return self.model_dump(mode="json")


def refusal(error: ValidationError) -> InvalidInput:
    """Return pydantic's complaint as InvalidInput, each error with the dotted name of its field."""
    errors = []
    for entry in error.errors(include_url=False):
        # "condition" and "group" are the names of a union's arms, not fields.
        path = ".".join(str(part) for part in entry["loc"] if part not in ("condition", "group"))
        path = entry.get("ctx", {}).get("field", path)
        message = "this setting is not known" if entry["type"] == "extra_forbidden" else entry["msg"]
        errors.append({"field": path, "code": entry["type"], "message": message})
    first = errors[0]
    return InvalidInput(
        "invalid_settings", f"{first['field']}: {first['message']}", field=first["field"].split(".")[0], errors=errors
    )


def field_specs(model: type[BaseModel]) -> list[FieldSpec]:
    """Return the model's fields in order, as a form shows them."""
    return [_field_spec(name, model) for name in model.model_fields]


def sections(model: type[BaseModel]) -> dict[str, list[FieldSpec]]:
    """Return the model's fields grouped by section, both in the order of declaration."""
    grouped: dict[str, list[FieldSpec]] = {}
    for spec in field_specs(model):
        grouped.setdefault(spec.section, []).append(spec)
    return grouped


def words(value: str) -> str:
    """Return a stored word as it reads: ``base_order`` becomes "base order"."""
    return value.replace("_", " ")


def _field_spec(name: str, model: type[BaseModel]) -> FieldSpec:
    info = model.model_fields[name]
    extra: dict[str, Any] = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    annotation, optional = _without_none(info.annotation)
    bounds: dict[str, str] = {}
    max_items: int | None = None
    for constraint in info.metadata:
        max_items = getattr(constraint, "max_length", max_items)
        for key, bound in (("minimum", getattr(constraint, "ge", None)), ("maximum", getattr(constraint, "le", None))):
            if bound is not None:
                bounds[key] = plain(Decimal(str(bound)))
    entry = get_args(annotation)[0] if get_origin(annotation) is tuple else None
    kind, choices = _kind(entry or annotation, extra.get("choice_labels", {}))
    parts: tuple[FieldSpec, ...] = ()
    if entry is not None and kind == "choice":
        kind = "choices"
    elif entry is not None:
        kind, parts = "steps", tuple(field_specs(entry))
    default = None if info.is_required() else info.get_default(call_default_factory=True)
    if isinstance(default, Decimal):
        default = plain(default)
    elif isinstance(default, BaseModel):
        default = default.model_dump(mode="json")
    elif isinstance(default, tuple):
        default = [item.model_dump(mode="json") if isinstance(item, BaseModel) else str(item) for item in default]
    return FieldSpec(
        name=name,
        label=extra.get("label", words(name)),
        help=extra.get("help", ""),
        unit=extra.get("unit", ""),
        section=extra.get("section", ""),
        kind=kind,
        optional=optional,
        default=str(default) if isinstance(default, StrEnum) else default,
        minimum=bounds.get("minimum"),
        maximum=bounds.get("maximum"),
        choices=choices,
        depends_on={key: tuple(values) for key, values in extra.get("depends_on", {}).items()} or None,
        parts=parts,
        max_items=max_items,
    )


def _without_none(annotation: Any) -> tuple[Any, bool]:
    if get_origin(annotation) in (Union, types.UnionType):
        parts = [part for part in get_args(annotation) if part is not type(None)]
        return _without_annotated(parts[0]), len(parts) < len(get_args(annotation))
    return _without_annotated(annotation), False


def _without_annotated(annotation: Any) -> Any:
    return get_args(annotation)[0] if hasattr(annotation, "__metadata__") else annotation


def _kind(annotation: Any, labels: Mapping[str, str]) -> tuple[FieldKind, tuple[Choice, ...]]:
    if get_origin(annotation) is Literal:
        return "choice", tuple(Choice(str(word), labels.get(str(word), words(word))) for word in get_args(annotation))
    if isinstance(annotation, type):
        if issubclass(annotation, StrEnum):
            return "choice", tuple(Choice(str(word), labels.get(str(word), words(word))) for word in annotation)
        kinds: tuple[tuple[type, FieldKind], ...] = (
            (bool, "boolean"),
            (int, "integer"),
            (Decimal, "decimal"),
            (Tree, "conditions"),
        )
        for kind_type, kind in kinds:
            if issubclass(annotation, kind_type):
                return kind, ()
    return "text", ()
