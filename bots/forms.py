"""The bot form: generated from the strategy's settings model, kept as typed until it is saved.

A :class:`BotDraft` is the whole form as text: read from a bot, a template or what a browser sent, changed by the form's
own buttons, and turned into the arguments of ``bots.services``. What cannot be read or is refused stays as typed, with
the reason beside the field. Fields, ranges and choices come from ``bots.strategies.forms``, so nothing is offered that
the engine does not know (F42).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from django.http import QueryDict
from django.utils.text import slugify
from pydantic import BaseModel

from bots import strategies
from bots.form_trees import TreeDraft
from bots.models import Bot, BudgetKind
from bots.strategies.forms import Choice, FieldSpec, field_specs, words
from tradebot.core.decimals import ZERO, dec, for_money, plain
from tradebot.core.errors import InvalidInput

__all__ = ["BotDraft", "CellView", "FieldView", "SectionView"]

NEW_SETTINGS: Final = "balanced"
"""The preset that an empty form starts from."""
LONGEST_NUMBER: Final = 60
LONG_CHOICE: Final = 16
MOST_STEPS: Final = 20
SHARES: Final = frozenset({"long_share_pct"})
"""Settings that say how something is divided in two: drawn as a slider beside the number."""
RARE: Final = frozenset(
    {
        "max_deals_per_pair",
        "cooldown_seconds",
        "deviation_reference",
        "safety_order_type",
        "take_profit_type",
        "take_profit_steps",
        "trailing_stop",
        "stop_timeout_seconds",
        "max_hold_hours",
    }
)
"""Settings that most bots leave as they are: behind "More" until they are changed."""
FOLDED: Final = frozenset({"Filters", "Limit orders and slippage"})
"""Sections of such settings: folded until something in them is changed."""


@dataclass(frozen=True, slots=True)
class CellView:
    """One number of a list's entry: the profit of the second step."""

    label: str
    unit: str
    value: str
    field_name: str


@dataclass(frozen=True, slots=True)
class FieldView:
    """One setting as the form draws it: what it is, what was typed, what is wrong with it."""

    spec: FieldSpec
    value: str
    error: str
    applies: bool
    tree: TreeDraft | None = None
    unit: str = ""
    chosen: tuple[str, ...] = ()
    rows: tuple[tuple[CellView, ...], ...] = ()
    total: str = ""
    is_changed: bool = False

    @property
    def choices(self) -> tuple[Choice, ...]:
        return self.spec.choices

    @property
    def options(self) -> list[tuple[Choice, bool]]:
        """Return the boxes of a field that takes several words, and whether each is ticked."""
        return [(choice, choice.value in self.chosen) for choice in self.spec.choices]

    @property
    def is_share(self) -> bool:
        return self.spec.name in SHARES

    @property
    def rest(self) -> str:
        """Return what a share leaves over, in percent."""
        try:
            return plain(Decimal(100) - dec(_cleaned(self.value)))
        except ValueError:
            return ""

    @property
    def is_rare(self) -> bool:
        return self.spec.name in RARE

    @property
    def field_name(self) -> str:
        return f"s.{self.spec.name}"

    @property
    def field_id(self) -> str:
        return f"s_{self.spec.name}"

    @property
    def error_id(self) -> str:
        return f"err-{self.spec.name}"

    @property
    def depends(self) -> str:
        """Return what has to be chosen for the field to count, for the script that hides it: ``a=x|y;b=z``."""
        wanted = (self.spec.depends_on or {}).items()
        return ";".join(f"{name}={'|'.join(values)}" for name, values in wanted)

    @property
    def is_wide(self) -> bool:
        """Return whether it needs more than one column."""
        if self.spec.kind in ("choices", "steps"):
            return True
        return self.is_share or max((len(choice.label) for choice in self.choices), default=0) > LONG_CHOICE

    @property
    def placeholder(self) -> str:
        return "off" if self.spec.optional else ""

    @property
    def range_text(self) -> str:
        """Return the allowed range in words, for the field's title."""
        if self.spec.minimum is not None and self.spec.maximum is not None:
            return f"{self.spec.minimum} to {self.spec.maximum}{f' {self.unit}' if self.unit else ''}"
        return ""


@dataclass(frozen=True, slots=True)
class SectionView:
    """A card of the form."""

    title: str
    anchor: str
    fields: tuple[FieldView, ...]

    @property
    def error_count(self) -> int:
        return sum(1 for view in self.fields if view.error or (view.tree is not None and view.tree.error))

    @property
    def is_rules(self) -> bool:
        return all(view.tree is not None for view in self.fields)

    @property
    def applies(self) -> bool:
        """Return whether anything in it has an effect."""
        return any(view.applies or view.error for view in self.fields)

    @property
    def basic(self) -> tuple[FieldView, ...]:
        return tuple(view for view in self.fields if not view.is_rare)

    @property
    def rare(self) -> tuple[FieldView, ...]:
        return tuple(view for view in self.fields if view.is_rare)

    @property
    def rare_names(self) -> str:
        return ", ".join(view.spec.label.lower() for view in self.rare)

    @property
    def rare_open(self) -> bool:
        return any(view.is_changed or view.error for view in self.rare)

    @property
    def is_folded(self) -> bool:
        return self.title in FOLDED

    @property
    def is_open(self) -> bool:
        return any(view.is_changed or view.error for view in self.fields)

    @property
    def summary(self) -> str:
        """Return what is set in a folded section, or what could be."""
        changed = [view.spec.label.lower() for view in self.fields if view.is_changed]
        return f"set: {', '.join(changed)}" if changed else "nothing set"


@dataclass(slots=True)
class BotDraft:
    """The form's content. ``settings`` holds texts by setting, ``trees`` the rules, ``errors`` messages by field;
    ``chosen`` the words of settings that take several, ``steps`` the entries of lists, each with its texts by part.
    """

    strategy: str = "indicator_dca"
    name: str = ""
    account_id: str = ""
    symbols: list[str] = field(default_factory=list)
    budget_kind: str = BudgetKind.PERCENT.value
    budget_pct: str = "25"
    budget_fixed: str = ""
    split_budget: bool = True
    settings: dict[str, str] = field(default_factory=dict)
    trees: dict[str, TreeDraft] = field(default_factory=dict)
    chosen: dict[str, list[str]] = field(default_factory=dict)
    steps: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    wanted_pair: str = ""
    shown: str = ""
    errors: dict[str, str] = field(default_factory=dict)

    # Reading --------------------------------------------------------------------------------------------------------

    @classmethod
    def from_settings(cls, strategy: str, settings: Mapping[str, Any]) -> BotDraft:
        """Return a draft with these settings, completed by the strategy's defaults."""
        found = strategies.get_strategy(strategy)
        complete = found.settings_from_json(settings).to_json()
        draft = cls(strategy=strategy)
        for spec in field_specs(found.settings_model):
            value = complete.get(spec.name)
            if spec.kind == "conditions":
                draft.trees[spec.name] = TreeDraft.from_tree(spec.name, value or {})
            elif spec.kind == "choices":
                draft.chosen[spec.name] = [str(word) for word in value or ()]
            elif spec.kind == "steps":
                draft.steps[spec.name] = [{name: _text(part) for name, part in row.items()} for row in value or ()]
            else:
                draft.settings[spec.name] = _text(value)
        return draft

    @classmethod
    def empty(cls) -> BotDraft:
        """Return the draft of a new bot: the usual preset."""
        presets = strategies.get_strategy(cls().strategy).presets
        preset = next((preset for preset in presets if preset.name == NEW_SETTINGS), presets[0])
        return cls.from_settings(cls().strategy, preset.settings.to_json())  # type: ignore[attr-defined]

    @classmethod
    def from_bot(cls, bot: Bot, symbols: list[str]) -> BotDraft:
        """Return the draft of a bot as it is."""
        draft = cls.from_settings(bot.strategy, bot.settings)
        draft.name, draft.account_id, draft.symbols = bot.name, str(bot.account_id or ""), symbols
        draft.budget_kind, draft.split_budget = str(bot.budget_kind), bot.split_budget
        draft.budget_pct, draft.budget_fixed = (
            plain(bot.budget_pct),
            plain(bot.budget_fixed) if bot.budget_fixed else "",
        )
        return draft

    @classmethod
    def from_post(cls, data: QueryDict) -> BotDraft:
        """Return the draft that a browser sent. Raises InvalidInput for an unknown strategy."""
        draft = cls(strategy=data.get("strategy", "indicator_dca"))
        model = strategies.get_strategy(draft.strategy).settings_model
        draft.name = data.get("name", "")[:200]
        draft.account_id = data.get("account", "")[:20]
        draft.symbols = list(dict.fromkeys(symbol.strip().upper()[:40] for symbol in data.getlist("symbols") if symbol))
        draft.budget_kind = data.get("budget_kind", BudgetKind.PERCENT.value)
        draft.budget_pct = data.get("budget_pct", "")[:LONGEST_NUMBER]
        draft.budget_fixed = data.get("budget_fixed", "")[:LONGEST_NUMBER]
        draft.split_budget = "split_budget" in data
        draft.wanted_pair = data.get("wanted_pair", "").strip().upper()[:40]
        draft.shown = data.get("shown", "")[:40]
        fields = [(name, str(value)) for name, value in data.items()]
        for spec in field_specs(model):
            if spec.kind == "conditions":
                draft.trees[spec.name] = TreeDraft.from_fields(spec.name, fields)
            elif spec.kind == "choices":
                draft.chosen[spec.name] = [word[:40] for word in data.getlist(f"s.{spec.name}")][:MOST_STEPS]
            elif spec.kind == "steps":
                draft.steps[spec.name] = _steps_of(spec, data)
            elif spec.kind == "boolean":
                draft.settings[spec.name] = "" if data.get(f"s.{spec.name}", "") in ("", "false") else "true"
            else:
                draft.settings[spec.name] = data.get(f"s.{spec.name}", "").strip()[:200]
        return draft

    # Buttons --------------------------------------------------------------------------------------------------------

    def apply(self, action: str) -> None:
        """Do what one of the form's own buttons says: ``add_condition:open_conditions:0``, ``remove_pair:ETH-BTC`` …"""
        act, *where = action.split(":")
        if act == "remove_pair" and where:
            self.symbols = [symbol for symbol in self.symbols if symbol != where[0]]
        elif act == "add_pair" and where and where[0] not in self.symbols:
            self.symbols.append(where[0][:40])
        elif where and where[0] in self.trees:
            self.trees[where[0]].apply(act, [int(number) for number in where[1:] if number.isdecimal()][:2])

    # Checking -------------------------------------------------------------------------------------------------------

    @property
    def model(self) -> type[BaseModel]:
        return strategies.get_strategy(self.strategy).settings_model

    def parsed(self) -> Any:
        """Return the settings validated, or None after writing what is wrong into :attr:`errors` and the rules."""
        data: dict[str, Any] = {}
        unread = False
        for spec in field_specs(self.model):
            if spec.kind == "conditions":
                data[spec.name] = self.trees[spec.name].to_json()
                continue
            if spec.kind == "choices":
                data[spec.name] = self.chosen.get(spec.name, [])
                continue
            try:
                if spec.kind == "steps":
                    data[spec.name] = _steps_value(spec, self.steps.get(spec.name, []))
                else:
                    data[spec.name] = _value(spec, self.settings.get(spec.name, ""))
            except ValueError as error:
                self.errors.setdefault(spec.name, str(error))
                unread = True
        try:
            found = strategies.get_strategy(self.strategy).settings_from_json(data)
        except InvalidInput as refusal:
            self.blame(refusal)
            return None
        return None if unread else found

    def blame(self, refusal: InvalidInput) -> None:
        """Write the errors of a refusal beside the fields they speak of."""
        specs = {spec.name: spec for spec in field_specs(self.model)}
        for error in refusal.detail.get("errors", [{"field": refusal.field or "", "message": refusal.message}]):
            name, _, path = str(error["field"]).partition(".")
            message = _worded(error, specs.get(name), path)
            if name in self.trees:
                self.trees[name].blame(path, message)
                self.errors.setdefault(name, message)
            else:
                self.errors.setdefault(name or "form", message)

    def budget(self) -> tuple[Decimal, Decimal] | None:
        """Return (percent, fixed amount) as numbers, or None after writing what is wrong into :attr:`errors`."""
        found = []
        for name, text in (("budget_pct", self.budget_pct), ("budget_fixed", self.budget_fixed)):
            used = name == ("budget_pct" if self.budget_kind == BudgetKind.PERCENT else "budget_fixed")
            try:
                found.append(dec(_cleaned(text)) if text.strip() else Decimal(0))
            except ValueError:
                if used:
                    self.errors.setdefault(name, "Enter a number.")
                    return None
                found.append(Decimal(0))
        return found[0], found[1]

    def arguments(self, parsed: Any) -> dict[str, Any]:
        """Return the arguments that ``create_bot`` and ``update_bot`` share. The budget is a number already."""
        pct, fixed = self.budget() or (Decimal(0), Decimal(0))
        return {
            "name": self.name,
            "settings": parsed.to_json(),
            "symbols": self.symbols,
            "budget_kind": self.budget_kind,
            "budget_pct": pct,
            "budget_fixed": fixed,
            "split_budget": self.split_budget,
        }

    # Drawing --------------------------------------------------------------------------------------------------------

    def sections(self, quote: str = "") -> list[SectionView]:
        """Return the cards of the form: the first of the schema, then the rules, then the others, folded ones last."""
        grouped: dict[str, list[FieldView]] = {}
        for spec in field_specs(self.model):
            grouped.setdefault(spec.section, []).append(self._view(spec, quote))
        views = [SectionView(title, f"sec-{slugify(title)}", tuple(f)) for title, f in grouped.items()]
        plain_ones = [view for view in views if not view.is_rules and not view.is_folded]
        rules = [view for view in views if view.is_rules]
        return [*plain_ones[:1], *rules, *plain_ones[1:], *(view for view in views if view.is_folded)]

    def _applies(self, spec: FieldSpec) -> bool:
        """Return whether the setting has an effect, as far as the other ones say."""
        return all(self.settings.get(name) in values for name, values in (spec.depends_on or {}).items())

    def _view(self, spec: FieldSpec, quote: str) -> FieldView:
        tree = self.trees.get(spec.name)
        steps = self.steps.get(spec.name, [])
        filled = [row for row in steps if any(row.values())]
        value, chosen = self.settings.get(spec.name, ""), tuple(self.chosen.get(spec.name, ()))
        return FieldView(
            spec=spec,
            value=value,
            error=self.errors.get(spec.name, ""),
            applies=self._applies(spec) or bool(tree and tree.groups) or bool(filled),
            tree=tree,
            unit=self._unit(spec, quote),
            chosen=chosen,
            rows=tuple(_step_rows(spec, steps)) if spec.kind == "steps" else (),
            total=shares_of(filled) if spec.kind == "steps" else "",
            is_changed=bool(chosen or filled) if spec.kind in ("choices", "steps") else value != _text(spec.default),
        )

    def _unit(self, spec: FieldSpec, quote: str) -> str:
        """Return the unit of a size, which depends on what the size is chosen to mean."""
        kinds = {
            "base_order_size": ("base_order_type", "% of deal"),
            "safety_order_size": ("safety_order_type", "% of base"),
        }
        if spec.name == "min_volume_24h":
            return quote
        if spec.name in kinds:
            kind, percent = kinds[spec.name]
            return quote if self.settings.get(kind) == "fixed" else percent
        return spec.unit


def _steps_of(spec: FieldSpec, data: QueryDict) -> list[dict[str, str]]:
    """Return the entries of a list as a browser sent them, empty ones too: they keep their place while one types."""
    found = []
    for number in range(min(spec.max_items or MOST_STEPS, MOST_STEPS)):
        names = {part.name: f"s.{spec.name}.{number}.{part.name}" for part in spec.parts}
        found.append({name: data.get(field_name, "").strip()[:LONGEST_NUMBER] for name, field_name in names.items()})
    return found


def _step_rows(spec: FieldSpec, steps: list[dict[str, str]]) -> Iterable[tuple[CellView, ...]]:
    for number in range(min(spec.max_items or MOST_STEPS, MOST_STEPS)):
        row = steps[number] if number < len(steps) else {}
        yield tuple(
            CellView(part.label, part.unit, row.get(part.name, ""), f"s.{spec.name}.{number}.{part.name}")
            for part in spec.parts
        )


def shares_of(steps: Iterable[Mapping[str, str]]) -> str:
    """Return what the shares of the steps add up to, in percent; empty while there is none or one is no number."""
    found = [row.get("share_pct", "") for row in steps]
    try:
        with for_money():
            return plain(sum((dec(_cleaned(text)) for text in found if text), ZERO)) if any(found) else ""
    except ValueError:
        return ""


def _steps_value(spec: FieldSpec, steps: Iterable[Mapping[str, str]]) -> list[dict[str, Any]]:
    """Return the entries that were filled in, as the schema takes them. Raises ValueError with a sentence."""
    found = []
    for number, row in enumerate(steps, 1):
        if not any(row.values()):
            continue
        entry = {}
        for part in spec.parts:
            try:
                entry[part.name] = _value(part, row.get(part.name, ""))
            except ValueError as error:
                raise ValueError(f"Step {number}, {part.label.lower()}: {error}") from None
        found.append(entry)
    return found


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else ""
    return str(value)


def _cleaned(text: str) -> str:
    """Return a typed number without spaces and with a decimal point."""
    return "".join(text.split()).replace("\u2212", "-").replace(",", ".")


def _value(spec: FieldSpec, text: str) -> Any:
    """Return the text as the schema takes it. Raises ValueError with a sentence for the person."""
    if spec.kind == "boolean":
        return text == "true"
    if not text.strip():
        if spec.optional:
            return None
        raise ValueError("Enter a number." if spec.kind in ("decimal", "integer") else "Choose one.")
    if spec.kind == "integer":
        cleaned = _cleaned(text)
        if not cleaned.removeprefix("-").isdecimal():
            raise ValueError("Enter a whole number.")
        return int(cleaned[:30])
    if spec.kind == "decimal":
        try:
            return plain(dec(_cleaned(text)))
        except ValueError:
            raise ValueError("Enter a number.") from None
    return text


_BOUNDS: Final = {"less_than_equal", "greater_than_equal", "greater_than", "less_than"}


def _worded(error: Mapping[str, Any], spec: FieldSpec | None, path: str = "") -> str:
    """Return a schema's complaint in the form's words, with the limits. ``path`` leads to an entry of a list."""
    number, _, name = path.partition(".")
    part = next((part for part in (spec.parts if spec else ()) if part.name == name), None)
    if part is not None and number.isdecimal():
        return f"Step {int(number) + 1}, {part.label.lower()}: {_worded(error, part)}"
    message = str(error["message"])
    if spec is not None and error.get("code") in _BOUNDS:
        unit = f" {spec.unit}" if spec.unit else ""
        if spec.minimum is not None and spec.maximum is not None:
            return f"Allowed are {spec.minimum} to {spec.maximum}{unit}."
        if spec.maximum is not None:
            return f"Allowed is more than 0, up to {spec.maximum}{unit}."
    if spec is not None and error.get("code") == "enum":
        return f"Choose one of {', '.join(words(choice.value) for choice in spec.choices)}."
    return message[:1].upper() + message[1:] + ("" if message.endswith(".") else ".")
