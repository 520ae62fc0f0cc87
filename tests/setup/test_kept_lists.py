"""Lists that stand beside the code must keep up with it: documented settings, dependencies and the import contract."""

import re
import tomllib
from pathlib import Path

from tradebot.setup.prepare import ROOT

# The lowest layer, set-up, and Django's own places are no interface that an app could lean on by mistake.
NOT_ABOVE_THE_APPS = {"core", "setup", "management", "migrations", "templatetags", "__init__"}


def importlinter_contract(name: str) -> dict[str, list[str]]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return next(c for c in settings["tool"]["importlinter"]["contracts"] if c["name"] == name)


def children(folder: Path) -> set[str]:
    return {entry.stem for entry in folder.iterdir() if entry.suffix == ".py" or (entry / "__init__.py").is_file()}


def test_every_setting_is_in_the_example_environment() -> None:
    asked_for = set(re.findall(r'env[.a-z_]*\(\s*"([A-Z_]+)"', (ROOT / "tradebot/settings.py").read_text()))
    shown = set(re.findall(r"^#?([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    only_for_tests = {name for name in asked_for if name.startswith(("TEST_", "PYTEST_"))}
    assert shown - asked_for - {"DATABASE_URL"} == set()
    assert asked_for - only_for_tests - shown == set()


def test_every_dependency_says_why_it_is_there() -> None:
    explained = (ROOT / "docs/dependencies.md").read_text().lower()
    wanted = set()
    for file in ROOT.glob("requirements*.in"):
        lines = (line.strip() for line in file.read_text().splitlines())
        wanted |= {re.split(r"[\[~=<>; ]", line)[0].lower() for line in lines if line and line[0] not in "#-"}
    assert {name for name in wanted if name not in explained} == set()


def test_no_app_may_import_any_module_of_the_project_above_it() -> None:
    forbidden = set(importlinter_contract("No app knows the project around it")["forbidden_modules"])
    above = {f"tradebot.{name}" for name in children(ROOT / "tradebot") - NOT_ABOVE_THE_APPS}
    assert above - forbidden == set()


def test_every_strategy_and_named_module_is_held_pure_by_lint_and_types() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    held = set(importlinter_contract("Pure modules know no framework, network or clock")["source_modules"])
    strict = set(settings["tool"]["mypy"]["overrides"][0]["module"])
    assert {name.removesuffix(".*") for name in strict} - {"tradebot.setup"} == held
