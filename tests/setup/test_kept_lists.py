"""Lists that stand beside the code must keep up with it: documented settings, dependencies and the import contract."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tradebot.runtime import launch
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


NOT_IN_CONTAINERS = {"DATA_DIR", "BIND", "PORT", "DEBUG"}
"""What the image itself decides: where it keeps files, what it listens on, and that nobody is shown its source."""
OTHER_IN_CONTAINERS = {"DATABASE_URL", "REDIS_URL", "DEMO", "LOG_FORMAT", "SECRET_KEY", "ENCRYPTION_KEYS"}
SHOWN_BY_EXAMPLE = {"CSRF_TRUSTED_ORIGINS", "EMAIL_URL", "ALLOWED_HOSTS"}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
    return found


def test_containers_are_handed_every_setting_with_the_default_of_the_example(compose: dict[str, Any]) -> None:
    rows = re.findall(r"^#?([A-Z_]+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE)
    shown = {name: value for name, value in rows if name not in NOT_IN_CONTAINERS}
    for service in ("web", "worker", "backtests", "beat", "migrate"):
        given = compose["services"][service]["environment"]
        assert set(shown) - set(given) == set(), service
        for name in set(shown) - OTHER_IN_CONTAINERS - SHOWN_BY_EXAMPLE:
            assert given[name] == f"${{{name}:-{shown[name]}}}", name


def test_simulations_in_containers_come_after_everything_else(compose: dict[str, Any]) -> None:
    """``nice`` without a number is the same niceness that ``manage.py serve`` gives its own."""
    command = compose["services"]["backtests"]["command"]
    assert command[:2] == ["nice", "celery"]
    assert command[command.index("--concurrency") + 1] == "${BACKTEST_PROCESSES:-2}"
    assert launch.NICENESS == 10
    assert {name for name, row in compose["services"].items() if "nice" in row.get("command", [])} == {"backtests"}


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
