"""What a rule is: trees of conditions on indicators, checked when they are read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from bots.conditions.plan import Branch, Leaf, Node
from marketdata.indicators import INDICATORS, IndicatorSpec, spec_of
from marketdata.timeframes import Timeframe
from tradebot.core.errors import InvalidInput

MAX_CONDITIONS: Final = 50
MAX_DEPTH: Final = 5


class Operator(StrEnum):
    """How a condition compares its indicator. This list is the only one (F42)."""

    GT = ">"
    GTE = ">="
    LT = "<"
    LTE = "<="
    EQ = "="
    NEQ = "!="
    CROSSES_ABOVE = "crosses_above"
    CROSSES_BELOW = "crosses_below"
    INCREASING = "increasing"
    DECREASING = "decreasing"

    @property
    def is_crossing(self) -> bool:
        """Return whether the operator is an event at one candle rather than a standing fact."""
        return self in (Operator.CROSSES_ABOVE, Operator.CROSSES_BELOW)

    @property
    def is_change(self) -> bool:
        """Return whether the value is an optional minimum change in percent."""
        return self in (Operator.INCREASING, Operator.DECREASING)

    @property
    def looks_back(self) -> bool:
        """Return whether the candle before is needed too."""
        return self.is_crossing or self.is_change

    @property
    def words(self) -> str:
        """Return the operator as it reads in a sentence."""
        return _OPERATOR_WORDS[self]


_OPERATOR_WORDS: Final = {
    Operator.GT: "is above",
    Operator.GTE: "is at or above",
    Operator.LT: "is below",
    Operator.LTE: "is at or below",
    Operator.EQ: "equals",
    Operator.NEQ: "differs from",
    Operator.CROSSES_ABOVE: "crosses above",
    Operator.CROSSES_BELOW: "crosses below",
    Operator.INCREASING: "is increasing",
    Operator.DECREASING: "is decreasing",
}


class Join(StrEnum):
    """How the parts of a group are joined."""

    AND = "and"
    OR = "or"


def _refused(code: str, message: str) -> PydanticCustomError:
    return PydanticCustomError(code, "{message}", {"message": message})


class Condition(BaseModel):
    """One comparison of an indicator's value at the last closed candle of a timeframe."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    indicator: str = Field(json_schema_extra={"enum": [*INDICATORS]})
    timeframe: Timeframe
    operator: Operator
    value: float | None = Field(default=None, allow_inf_nan=False)
    params: dict[str, int | float] = Field(default_factory=dict)
    output: str | None = None
    negate: bool = False

    @field_validator("indicator")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            return spec_of(name).name
        except InvalidInput as error:
            raise _refused(error.code, error.message) from error

    @field_validator("value")
    @classmethod
    def _needed(cls, value: float | None, info: ValidationInfo) -> float | None:
        operator = info.data.get("operator")
        if operator is None:
            return value
        if value is None and not operator.is_change:
            raise _refused("missing_value", f"a condition that {operator.words} something needs a value")
        if value is not None and operator.is_change and value < 0:
            raise _refused("invalid_value", f"the least change is {value:g} %, it cannot be below 0")
        return value

    @field_validator("params")
    @classmethod
    def _complete(cls, params: dict[str, int | float], info: ValidationInfo) -> dict[str, int | float]:
        spec = INDICATORS.get(info.data.get("indicator", ""))
        try:
            return dict(spec.complete(params)) if spec else params
        except InvalidInput as error:
            raise _refused(error.code, error.message) from error

    @field_validator("output")
    @classmethod
    def _line(cls, output: str | None, info: ValidationInfo) -> str | None:
        spec = INDICATORS.get(info.data.get("indicator", ""))
        if spec is None:
            return output
        if output is not None and output not in spec.outputs:
            raise _refused("unknown_output", f"{spec.label} has no line {output!r}, only {', '.join(spec.outputs)}")
        return output or spec.outputs[0]

    @property
    def spec(self) -> IndicatorSpec:
        """Return the indicator's registry entry."""
        return INDICATORS[self.indicator]

    @property
    def candles_needed(self) -> int:
        """Return how many closed candles the condition needs to have an outcome."""
        return self.spec.needs(self.params) + (1 if self.operator.looks_back else 0)

    @cached_property
    def key(self) -> str:
        """Return what two conditions share when they ask the same (negation aside). A text: its hash is kept."""
        params = ",".join(f"{name}={value!r}" for name, value in sorted(self.params.items()))
        return f"{self.timeframe}|{self.indicator}|{params}|{self.output}|{self.operator}|{self.value!r}"

    @cached_property
    def label(self) -> str:
        """Return the condition in words, such as "RSI(14) on 5m is below 30"."""
        numbers = ", ".join(f"{value:g}" for value in self.params.values())
        line = f" {self.output}" if len(self.spec.outputs) > 1 else ""
        text = f"{self.spec.label}{f'({numbers})' if numbers else ''}{line} on {self.timeframe} {self.operator.words}"
        if self.operator.is_change:
            text += f" by at least {self.value:g} %" if self.value else ""
        else:
            text += f" {self.value:g}"
        return f"not: {text}" if self.negate else text


def _node_kind(node: Any) -> str:
    is_group = "items" in node or "join" in node if isinstance(node, Mapping) else isinstance(node, Group)
    return "group" if is_group else "condition"


Item = Annotated[
    Annotated["Group", Tag("group")] | Annotated[Condition, Tag("condition")],
    Discriminator(_node_kind),
]


class Group(BaseModel):
    """Conditions and groups joined by AND or OR, possibly negated. A group without any is false."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    join: Join = Join.AND
    items: tuple[Item, ...] = ()
    negate: bool = False


class Tree(BaseModel):
    """The rule of one phase. An empty tree restricts nothing: open at once, add by price, close by profit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    join: Join = Join.AND
    items: tuple[Item, ...] = ()

    @model_validator(mode="after")
    def _bounded(self) -> Tree:
        count = sum(1 for _ in self.conditions())
        if count > MAX_CONDITIONS:
            raise _refused("too_many_conditions", f"{count} conditions; at most {MAX_CONDITIONS} are allowed")
        depth = _depth(self)
        if depth > MAX_DEPTH:
            raise _refused("too_deep", f"groups are nested {depth} deep; at most {MAX_DEPTH} are allowed")
        return self

    @property
    def is_empty(self) -> bool:
        """Return whether there is no condition and no group at all."""
        return not self.items

    @cached_property
    def crossing_timeframes(self) -> tuple[Timeframe, ...]:
        """Return the timeframes on which a crossing has to be judged once."""
        crossings = (condition.timeframe for condition in self.conditions() if condition.operator.is_crossing)
        return tuple(dict.fromkeys(crossings))

    @cached_property
    def key(self) -> str:
        """Return what two trees share when they are equal."""
        return self.model_dump_json()

    @cached_property
    def plan(self) -> Node:
        """Return the tree as the evaluation walks it."""
        return _node(self, "")

    def conditions(self) -> Iterator[Condition]:
        """Yield every condition, groups included, in reading order."""
        return _conditions(self)


Group.model_rebuild()
Tree.model_rebuild()


def _conditions(node: Tree | Group) -> Iterator[Condition]:
    for item in node.items:
        if isinstance(item, Condition):
            yield item
        else:
            yield from _conditions(item)


def _depth(node: Tree | Group) -> int:
    return 1 + max((_depth(item) for item in node.items if isinstance(item, Group)), default=0)


def _node(item: Tree | Group | Condition, path: str) -> Node:
    if isinstance(item, Condition):
        return Leaf(item, path, item.operator.is_crossing, item.negate)
    parts = tuple(
        _node(part, f"{path}.{number}" if path else str(number)) for number, part in enumerate(item.items, start=1)
    )
    negate = isinstance(item, Group) and item.negate
    return parts[0] if len(parts) == 1 and not negate else Branch(parts, item.join is Join.AND, negate)
