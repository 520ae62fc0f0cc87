"""The condition builder's side of a rule: trees as flat form fields and back, and the buttons that change them.

A form shows two levels: groups joined by and/or, each holding conditions joined by and/or. Every rule that the builder
can make survives the round trip unchanged. A group nested deeper (made through the API) is shown as a sentence and kept
as it is. Field names are ``t.<setting>.<group>.<condition>.<part>``; everything in them is what a browser sent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from bots.conditions import MAX_CONDITIONS, Check, Condition, Group, Join, Operator, Tree, describe
from marketdata.indicators import INDICATORS, IndicatorSpec, Unit
from marketdata.timeframes import Timeframe

__all__ = ["ConditionDraft", "GroupDraft", "TreeDraft"]

_NAME: Final = re.compile(r"t\.(?P<setting>\w+)(?:\.(?P<group>\d{1,3}))?(?:\.(?P<place>\d{1,3}))?\.(?P<part>[a-z_]+)$")
_PARAM: Final = "p_"


@dataclass(slots=True)
class ParamDraft:
    """A parameter of a condition's indicator with what was typed."""

    name: str
    label: str
    value: str
    field_name: str


@dataclass(slots=True)
class ConditionDraft:
    """One condition as typed. ``nested`` holds a deeper group as JSON, kept untouched; ``was`` is the indicator that
    the form showed before another one was chosen.
    """

    indicator: str = "rsi"
    timeframe: str = Timeframe.M15.value
    operator: str = Operator.LT.value
    value: str = "30"
    params: dict[str, str] = field(default_factory=dict)
    output: str = ""
    negate: bool = False
    nested: str = ""
    was: str = ""
    prefix: str = ""
    error: str = ""
    check: Check | None = None
    is_new: bool = False

    @property
    def spec(self) -> IndicatorSpec | None:
        return INDICATORS.get(self.indicator)

    @property
    def now_id(self) -> str:
        """Return the id of the place that shows what the condition says now."""
        return f"now-{self.prefix.replace('.', '-')}"

    @property
    def outputs(self) -> tuple[str, ...]:
        """Return the lines to choose from; nothing where there is only one."""
        outputs = self.spec.outputs if self.spec else ()
        return outputs if len(outputs) > 1 else ()

    @property
    def is_change(self) -> bool:
        """Return whether the value is the least change in percent, which may be left out."""
        return self.operator in (Operator.INCREASING, Operator.DECREASING)

    @property
    def param_drafts(self) -> list[ParamDraft]:
        params = self.spec.params if self.spec else ()
        return [
            ParamDraft(p.name, p.label, self.params.get(p.name, f"{p.default:g}"), f"{self.prefix}.{_PARAM}{p.name}")
            for p in params
        ]

    @property
    def params_text(self) -> str:
        """Return the parameters as they stand in a label: "14" or "12, 26, 9"."""
        return ", ".join(draft.value for draft in self.param_drafts)

    @property
    def nested_text(self) -> str:
        """Return the deeper group in words."""
        try:
            return describe(Tree(items=(Group.model_validate(json.loads(self.nested)),)))
        except ValueError:
            return "a group that cannot be read"

    def settle(self) -> None:
        """Ask a signal that has just been chosen in place of another indicator for its 1, the one sensible question."""
        if self.spec is not None and self.spec.unit is Unit.SIGNAL and self.was not in ("", self.indicator):
            self.operator, self.value = Operator.EQ.value, "1"

    def to_json(self) -> dict[str, Any]:
        """Return the condition for the schema; texts that are no numbers go through, to be refused there."""
        if self.nested:
            try:
                found: dict[str, Any] = json.loads(self.nested)
            except ValueError:
                return {"indicator": "unreadable"}
            return found
        known = {param.name for param in self.spec.params} if self.spec else set(self.params)
        data: dict[str, Any] = {
            "indicator": self.indicator,
            "timeframe": self.timeframe,
            "operator": self.operator,
            "value": _number(self.value),
            "params": {name: _number(text) for name, text in self.params.items() if name in known and text.strip()},
            "negate": self.negate,
        }
        if self.output in self.outputs:
            data["output"] = self.output
        return data


@dataclass(slots=True)
class GroupDraft:
    """A group of conditions as it stands in the form."""

    join: str = Join.AND.value
    negate: bool = False
    conditions: list[ConditionDraft] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {"join": self.join, "negate": self.negate, "items": [item.to_json() for item in self.conditions]}


@dataclass(slots=True)
class TreeDraft:
    """The rule of one phase as it stands in the form."""

    setting: str
    join: str = Join.AND.value
    groups: list[GroupDraft] = field(default_factory=list)
    error: str = ""

    # Reading --------------------------------------------------------------------------------------------------------

    @classmethod
    def from_tree(cls, setting: str, data: Mapping[str, Any]) -> TreeDraft:
        """Return the draft of a stored rule. Raises ValueError for one that is not valid."""
        tree = Tree.model_validate(data)
        draft = cls(setting, tree.join.value)
        bare = [item for item in tree.items if isinstance(item, Condition)]
        if bare and len(bare) == len(tree.items):
            draft.groups = [GroupDraft(tree.join.value, False, [_condition(item) for item in bare])]
        else:
            for item in tree.items:
                if isinstance(item, Condition):
                    draft.groups.append(GroupDraft(conditions=[_condition(item)]))
                else:
                    draft.groups.append(GroupDraft(item.join.value, item.negate, [_condition(x) for x in item.items]))
        return draft.numbered()

    @classmethod
    def from_fields(cls, setting: str, fields: Iterable[tuple[str, str]]) -> TreeDraft:
        """Return the draft that a form sent. Fields that are not understood are left out."""
        draft = cls(setting)
        groups: dict[int, GroupDraft] = {}
        conditions: dict[tuple[int, int], ConditionDraft] = {}
        for name, value in fields:
            match = _NAME.match(name)
            if match is None or match["setting"] != setting:
                continue
            part = match["part"]
            if match["group"] is None:
                if part == "join":
                    draft.join = _join(value)
                continue
            number = int(match["group"])
            group = groups.setdefault(number, GroupDraft())
            if match["place"] is None:
                if part == "join":
                    group.join = _join(value)
                elif part == "negate":
                    group.negate = True
                continue
            place = conditions.setdefault((number, int(match["place"])), ConditionDraft(value=""))
            _set_part(place, part, value)
        for (number, _), condition in sorted(conditions.items(), key=lambda item: item[0])[: MAX_CONDITIONS + 1]:
            condition.settle()
            groups[number].conditions.append(condition)
        draft.groups = [groups[number] for number in sorted(groups)][: MAX_CONDITIONS + 1]
        return draft.numbered()

    def numbered(self) -> TreeDraft:
        """Give every condition the name its fields have, and return the draft."""
        for group_number, group in enumerate(self.groups):
            for place, condition in enumerate(group.conditions):
                condition.prefix = f"t.{self.setting}.{group_number}.{place}"
        return self

    # Writing --------------------------------------------------------------------------------------------------------

    @property
    def is_flat(self) -> bool:
        """Return whether the rule is one plain group, which is stored without the group around it."""
        return len(self.groups) == 1 and not self.groups[0].negate

    def to_json(self) -> dict[str, Any]:
        """Return the rule for the schema."""
        if self.is_flat:
            group = self.groups[0]
            return {"join": group.join, "items": [item.to_json() for item in group.conditions]}
        return {"join": self.join, "items": [group.to_json() for group in self.groups]}

    @property
    def conditions(self) -> Iterator[ConditionDraft]:
        for group in self.groups:
            yield from group.conditions

    @property
    def count(self) -> int:
        return sum(len(group.conditions) for group in self.groups)

    def blame(self, path: str, message: str) -> None:
        """Put an error of the schema at the condition it speaks of, or at the rule as a whole."""
        numbers = [int(part) for part in path.split(".") if part.isdecimal()]
        if self.is_flat:
            numbers.insert(0, 0)
        if len(numbers) >= 2 and numbers[0] < len(self.groups):
            group = self.groups[numbers[0]]
            if numbers[1] < len(group.conditions):
                group.conditions[numbers[1]].error = message
                return
        self.error = message

    def show(self, checks: Iterable[Check]) -> None:
        """Put the outcome of each condition beside it; ``checks`` are in reading order."""
        found = list(checks)
        for condition in self.conditions:
            if condition.nested:
                nested = Group.model_validate(json.loads(condition.nested))
                del found[: sum(1 for _ in Tree(items=(nested,)).conditions())]
            elif found:
                condition.check = found.pop(0)

    # Buttons --------------------------------------------------------------------------------------------------------

    def apply(self, act: str, where: list[int]) -> None:
        """Do what a button of the builder says; one that fits nothing does nothing."""
        if act == "add_group" and len(self.groups) < MAX_CONDITIONS:
            self.groups.append(GroupDraft(conditions=[ConditionDraft(is_new=True)]))
        elif act == "add_condition" and where and where[0] < len(self.groups) and self.count < MAX_CONDITIONS:
            self.groups[where[0]].conditions.append(ConditionDraft(is_new=True))
        elif act == "remove_group" and where and where[0] < len(self.groups):
            del self.groups[where[0]]
        elif act == "remove_condition" and len(where) == 2 and where[0] < len(self.groups):
            group = self.groups[where[0]]
            if where[1] < len(group.conditions):
                del group.conditions[where[1]]
            if not group.conditions:
                del self.groups[where[0]]
        self.numbered()


def _condition(item: Condition | Group) -> ConditionDraft:
    if isinstance(item, Group):
        return ConditionDraft(nested=json.dumps(item.model_dump(mode="json"), separators=(",", ":")))
    return ConditionDraft(
        indicator=item.indicator,
        timeframe=item.timeframe.value,
        operator=item.operator.value,
        value="" if item.value is None else f"{item.value:.12g}",
        params={name: f"{value:.12g}" for name, value in item.params.items()},
        output=item.output or "",
        negate=item.negate,
    )


def _set_part(condition: ConditionDraft, part: str, value: str) -> None:
    if part.startswith(_PARAM):
        condition.params[part.removeprefix(_PARAM)] = value[:40]
    elif part == "negate":
        condition.negate = True
    elif part in ("indicator", "timeframe", "operator", "value", "output", "was"):
        setattr(condition, part, value.strip()[:40])
    elif part == "nested":
        condition.nested = value[:20_000]


def _join(value: str) -> str:
    return Join.OR.value if value == Join.OR else Join.AND.value


def _number(text: str) -> Any:
    cleaned = text.strip().replace("\u2212", "-").replace(",", ".")
    if not cleaned:
        return None
    try:
        return float(cleaned)
    except ValueError:
        return cleaned
