"""The condition builder: what it shows is what is stored, and nothing a browser sends breaks it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bots.conditions import Tree
from bots.form_trees import TreeDraft

CONDITIONS = st.builds(
    lambda indicator, timeframe, operator, value, negate: {
        "indicator": indicator,
        "timeframe": timeframe,
        "operator": operator,
        "value": value,
        "negate": negate,
    },
    st.sampled_from(["rsi", "macd", "bb_percent", "ema_cross", "volume_ratio"]),
    st.sampled_from(["1m", "15m", "1h", "1d"]),
    st.sampled_from(["<", ">=", "crosses_above", "!="]),
    st.integers(-1000, 1000).map(lambda number: number / 8),
    st.booleans(),
)
GROUPS = st.builds(
    lambda join, negate, items: {"join": join, "negate": negate, "items": items},
    st.sampled_from(["and", "or"]),
    st.booleans(),
    st.lists(CONDITIONS, min_size=1, max_size=3),
)


def posted(draft: TreeDraft) -> list[tuple[str, str]]:
    """What a browser sends for the fields that the template draws."""
    fields = [(f"t.{draft.setting}.join", draft.join)]
    for number, group in enumerate(draft.groups):
        fields.append((f"t.{draft.setting}.{number}.join", group.join))
        if group.negate:
            fields.append((f"t.{draft.setting}.{number}.negate", "on"))
        for item in group.conditions:
            if item.nested:
                fields.append((f"{item.prefix}.nested", item.nested))
                continue
            parts = [("indicator", item.indicator), ("timeframe", item.timeframe), ("operator", item.operator)]
            parts += [("value", item.value), ("output", item.output)]
            parts += [(f"p_{param.name}", param.value) for param in item.param_drafts]
            parts += [("negate", "on")] if item.negate else []
            fields += [(f"{item.prefix}.{part}", value) for part, value in parts]
    return fields


def through_the_browser(data: dict[str, Any]) -> Tree:
    draft = TreeDraft.from_tree("open_conditions", data)
    return Tree.model_validate(TreeDraft.from_fields("open_conditions", posted(draft)).to_json())


@given(st.sampled_from(["and", "or"]), st.lists(GROUPS, max_size=3))
def test_a_rule_of_groups_survives_the_browser(join: str, groups: list[dict[str, Any]]) -> None:
    stored = through_the_browser({"join": join, "items": groups})
    again = through_the_browser(stored.model_dump(mode="json"))
    assert again == stored
    if len(groups) > 1 or any(group["negate"] for group in groups):
        assert stored == Tree.model_validate({"join": join, "items": groups})


@given(st.sampled_from(["and", "or"]), st.lists(CONDITIONS, max_size=4))
def test_a_rule_without_groups_survives_the_browser_unchanged(join: str, conditions: list[dict[str, Any]]) -> None:
    tree = Tree.model_validate({"join": join if conditions else "and", "items": conditions})
    assert through_the_browser(tree.model_dump(mode="json")) == tree


def test_a_deeper_group_is_shown_as_a_sentence_and_kept() -> None:
    condition = {"indicator": "rsi", "timeframe": "5m", "operator": "<", "value": 30}
    deep = {
        "join": "or",
        "items": [{"join": "and", "items": [condition, {"join": "or", "items": [condition]}]}, condition],
    }
    draft = TreeDraft.from_tree("open_conditions", deep)
    nested = draft.groups[0].conditions[1]
    assert "RSI(14) on 5m is below 30" in nested.nested_text
    kept = through_the_browser(deep)
    assert sum(1 for _ in kept.conditions()) == 3
    assert kept.items[0] == Tree.model_validate(deep).items[0]


FIELD_NAMES = st.from_regex(r"t\.(open_conditions|x)(\.[0-9]{1,3}){0,3}\.[a-z_]{0,12}", fullmatch=True)


@given(st.lists(st.tuples(FIELD_NAMES, st.text(max_size=30)), max_size=40))
def test_nothing_a_browser_sends_breaks_the_builder(fields: list[tuple[str, str]]) -> None:
    draft = TreeDraft.from_fields("open_conditions", fields)
    draft.to_json()
    for item in draft.conditions:
        assert isinstance(item.nested_text, str)
        assert isinstance(item.params_text, str)


@pytest.mark.parametrize("act", ["add_group", "add_condition", "remove_group", "remove_condition", "dance"])
@pytest.mark.parametrize("where", [[], [0], [5], [0, 0], [0, 9], [9, 9]])
def test_a_button_that_fits_nothing_does_nothing(act: str, where: list[int]) -> None:
    draft = TreeDraft("open_conditions")
    draft.apply(act, where)
    assert len(draft.groups) == (1 if act == "add_group" else 0)


def test_an_error_stands_at_the_condition_it_speaks_of() -> None:
    condition = {"indicator": "rsi", "timeframe": "5m", "operator": "<", "value": 30}
    flat = TreeDraft.from_tree("open_conditions", {"items": [condition, condition]})
    flat.blame("items.1.value", "too low")
    assert [item.error for item in flat.conditions] == ["", "too low"]
    grouped = TreeDraft.from_tree("open_conditions", {"items": [{"items": [condition]}, {"items": [condition]}]})
    grouped.blame("items.1.items.0.value", "too low")
    assert [item.error for item in grouped.conditions] == ["", "too low"]
    grouped.blame("", "51 conditions")
    assert grouped.error == "51 conditions"
