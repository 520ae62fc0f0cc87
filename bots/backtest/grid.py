"""Which settings a sweep tries: numeric settings by path, their values, combinations and samples. Pure.

A path names a setting, ``take_profit``, or goes into a condition tree: ``open_conditions.items.0.value``,
``open_conditions.items.0.params.period``. Values are exact: decimals as text, as the settings' JSON writes them.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from decimal import Decimal
from math import prod
from typing import Any, Final

from tradebot.core.decimals import PLACES, ZERO, dec, plain
from tradebot.core.errors import InvalidInput

__all__ = ["MOST_COMBINATIONS", "Parameter", "combinations", "numeric_paths", "parameters", "value_at", "with_values"]

MOST_COMBINATIONS: Final = 2_000
MOST_PARAMETERS: Final = 8
MOST_VALUES: Final = 200
LARGEST: Final = Decimal(10) ** 15


@dataclass(frozen=True, slots=True)
class Parameter:
    """A setting that varies, and its values in rising order as JSON values (whole numbers, or decimals as text)."""

    path: str
    values: tuple[int | str, ...]

    def to_json(self) -> dict[str, Any]:
        return {"path": self.path, "values": list(self.values)}


def parameters(given: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> tuple[Parameter, ...]:
    """Return the parameters as stated: ``{path, values}`` or ``{path, from, to, step}``.

    Raises InvalidInput (field ``parameters``) for a path that is no numeric setting, values that are no numbers, an
    empty or endless range, and two parameters with one path.
    """
    if not given:
        raise _refused("no_parameters", "Choose at least one setting to vary.")
    if len(given) > MOST_PARAMETERS:
        raise _refused("too_many_parameters", f"{len(given)} parameters; at most {MOST_PARAMETERS} can vary at once.")
    found: dict[str, Parameter] = {}
    for row in given:
        path = str(row.get("path", "")).strip()
        if path in found:
            raise _refused("twice", f"{path} is varied twice.")
        value_at(settings, path)
        numbers = _listed(path, row["values"]) if "values" in row else _range(path, row)
        values = sorted(set(numbers))
        if not values:
            raise _refused("no_values", f"{path} has no values to try.")
        if len(values) > MOST_VALUES:
            raise _refused("too_many_values", f"{path} has {len(values)} values; at most {MOST_VALUES} can be tried.")
        found[path] = Parameter(path, tuple(_json(value) for value in values))
    return tuple(found.values())


def combinations(
    chosen: Sequence[Parameter], method: str = "grid", samples: int = 0, seed: int = 1
) -> list[dict[str, int | str]]:
    """Return the combinations to try, value by path: all of them, or ``samples`` different ones drawn with ``seed``.

    Raises InvalidInput for more than :data:`MOST_COMBINATIONS`.
    """
    paths = [parameter.path for parameter in chosen]
    total = prod(len(parameter.values) for parameter in chosen)
    if method == "random":
        if not 1 <= samples <= MOST_COMBINATIONS:
            raise InvalidInput(
                "bad_samples", f"Draw between 1 and {MOST_COMBINATIONS:,} samples, not {samples:,}.", field="samples"
            )
        drawn = sorted(random.Random(seed).sample(range(total), min(samples, total)))
        return [dict(zip(paths, _nth(chosen, number), strict=True)) for number in drawn]
    if method != "grid":
        raise InvalidInput(
            "unknown_method", f"{method!r} is no way to sweep; known are grid and random.", field="method"
        )
    if total > MOST_COMBINATIONS:
        raise _refused(
            "too_many_combinations",
            f"That makes {total:,} combinations; at most {MOST_COMBINATIONS:,} are tried. Use fewer values, or draw "
            "random samples.",
            combinations=total,
        )
    return [dict(zip(paths, values, strict=True)) for values in itertools.product(*(p.values for p in chosen))]


def with_values(settings: Mapping[str, Any], values: Mapping[str, int | str | float]) -> dict[str, Any]:
    """Return a copy of the settings' JSON with these values by path. Raises InvalidInput for one that is not there."""
    changed = deepcopy(dict(settings))
    for path, value in values.items():
        before = value_at(changed, path)
        node, last = _parent(changed, path)
        # Conditions take numbers; the settings themselves take decimals as text.
        node[last] = float(value) if isinstance(before, float) and isinstance(value, str) else value
    return changed


def value_at(settings: Mapping[str, Any], path: str) -> Any:
    """Return the value at a path. Raises InvalidInput (field ``parameters``) where there is no number."""
    try:
        node, last = _parent(settings, path)
        value = node[last]
    except (KeyError, IndexError, TypeError, ValueError):
        raise _refused("unknown_path", f"There is no setting {path!r}.") from None
    # An optional number may be empty at present; whether it takes one is for the schema to say.
    if value is not None and _number(value) is None:
        raise _refused("not_a_number", f"{path} is {value!r}, which is no number.")
    return value


def numeric_paths(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return every numeric value of the settings' JSON by its path, condition trees included."""
    found: dict[str, Any] = {}
    _collect(settings, "", found)
    return found


def _collect(node: Any, path: str, found: dict[str, Any]) -> None:
    if isinstance(node, Mapping):
        for name, inner in node.items():
            _collect(inner, f"{path}.{name}" if path else str(name), found)
    elif isinstance(node, list | tuple):
        for index, inner in enumerate(node):
            _collect(inner, f"{path}.{index}", found)
    elif _number(node) is not None:
        found[path] = node


def _parent(settings: Any, path: str) -> tuple[Any, Any]:
    *steps, last = path.split(".")
    node = settings
    for step in steps:
        node = node[_step(node, step)]
    return node, _step(node, last)


def _step(node: Any, step: str) -> Any:
    if isinstance(node, list | tuple):
        index = int(step)
        if index < 0:
            raise IndexError(step)
        return index
    return step


def _nth(chosen: Sequence[Parameter], number: int) -> list[int | str]:
    """Return the combination with this number, the last parameter varying fastest."""
    values: list[int | str] = []
    for parameter in reversed(chosen):
        number, index = divmod(number, len(parameter.values))
        values.append(parameter.values[index])
    return values[::-1]


def _listed(path: str, values: Any) -> list[Decimal]:
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise _refused("no_values", f"{path} needs a list of values.")
    if len(values) > 10 * MOST_VALUES:
        raise _refused("too_many_values", f"{path} has {len(values)} values; at most {MOST_VALUES} can be tried.")
    return [_decimal(path, value) for value in values]


def _range(path: str, row: Mapping[str, Any]) -> list[Decimal]:
    try:
        first, last, step = (_decimal(path, row[name]) for name in ("from", "to", "step"))
    except KeyError as error:
        raise _refused("no_values", f"{path} needs values, or from, to and step.") from error
    if step <= ZERO or last < first:
        raise _refused("bad_range", f"{path} runs from {plain(first)} to {plain(last)} in steps of {plain(step)}.")
    count = int((last - first) / step) + 1
    if count > MOST_VALUES:
        raise _refused("too_many_values", f"{path} has {count} values; at most {MOST_VALUES} can be tried.")
    return [first + step * index for index in range(count)]


def _decimal(path: str, value: Any) -> Decimal:
    number = _number(value)
    if number is None:
        raise _refused("not_a_number", f"{path}: {value!r} is no number.")
    if abs(number) >= LARGEST or number.as_tuple().exponent < -PLACES:  # type: ignore[operator]
        raise _refused("out_of_range", f"{path}: {value} has more digits than a setting takes.")
    return number


def _number(value: Any) -> Decimal | None:
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, float):
        value = repr(value)
    if not isinstance(value, int | str | Decimal):
        return None
    try:
        return dec(value)
    except ValueError:
        return None


def _json(value: Decimal) -> int | str:
    return int(value) if value == value.to_integral_value() else plain(value)


def _refused(code: str, message: str, **detail: Any) -> InvalidInput:
    return InvalidInput(code, message, field="parameters", **detail)
