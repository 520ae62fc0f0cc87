"""``manage.py rewrite_migrations``: each table whole in its own step. Until the first release only.

``makemigrations`` adds foreign keys, indexes and constraints to a table after it has made it. Every such step makes
Django build all the models again, and SQLite copy the table: that took the larger half of a first start. Here they are
folded into the step that creates the table. What points at an app that itself needs this one's tables (bots and deals
point at each other) stays apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any, Final

from django.apps import apps
from django.core.management import BaseCommand, call_command
from django.db.migrations import operations as kinds
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.writer import MigrationWriter

APPS: Final = ("core", "accounts", "notifications", "marketdata", "positions", "bots")
"""Each may point at those before it; ``bots`` alone is pointed at from before (by ``positions``)."""
LATER: Final = {"bots": frozenset({"positions"})}


class Command(BaseCommand):
    help = "Write the project's migrations anew, each table whole in its own step. Until the first release only."

    def handle(self, *args: Any, **options: Any) -> None:
        for app in APPS:
            for path in Path(apps.get_app_config(app).path, "migrations").glob("0*.py"):
                path.unlink()
        call_command("makemigrations", *APPS, verbosity=0)
        written = MigrationLoader(None).disk_migrations
        for app in APPS:
            _fold(app, [migration for (label, _), migration in sorted(written.items()) if label == app])
            self.stdout.write(f"{app}: written")


def _fold(app: str, migrations: list[Any]) -> None:
    """Move what can be moved into the steps that create the tables of ``app``, and write its migrations."""
    steps = [step for migration in migrations for step in migration.operations]
    tables = {step.name.lower(): step for step in steps if isinstance(step, kinds.CreateModel)}
    kept: list[Any] = []
    apart: dict[str, set[str]] = {name: set() for name in tables}
    for step in steps:
        if isinstance(step, kinds.CreateModel):
            continue
        name = step.model_name.lower()
        if isinstance(step, kinds.AddField):
            if _app_of(step.field) in LATER.get(app, ()):
                apart[name].add(step.name)
                kept.append(step)
            else:
                tables[name].fields.append((step.name, step.field))
            continue
        option, what = ("indexes", step.index) if isinstance(step, kinds.AddIndex) else ("constraints", step.constraint)
        if apart[name] & set(re.findall(r"\w+", repr(what.deconstruct()))):
            kept.append(step)
        else:
            tables[name].options.setdefault(option, []).append(what)
    needs = {name: {one for one in _own(app, table) if one != name} for name, table in tables.items()}
    first, *rest = migrations
    first.operations = [tables[name] for name in TopologicalSorter(needs).static_order()]
    pointed_at = {_app_of(field) for table in tables.values() for _, field in table.fields} - {app, ""}
    first.dependencies += [(one, "0001_initial") for one in sorted(pointed_at & set(APPS))]
    if rest:
        rest[0].operations = kept
    for migration in migrations:
        migration.dependencies = list(dict.fromkeys(map(_unbound, migration.dependencies)))
        writer = MigrationWriter(migration)
        Path(writer.path).write_text(writer.as_string())


def _target(field: Any) -> str:
    """Return what a field points at, as ``app.model``; empty when it points at nothing."""
    to = getattr(getattr(field, "remote_field", None), "model", "")
    return to.lower() if isinstance(to, str) else str(to._meta.label_lower)


def _app_of(field: Any) -> str:
    return _target(field).partition(".")[0]


def _own(app: str, table: Any) -> Iterable[str]:
    """Return the tables of the same app that have to be there first."""
    for _, field in table.fields:
        if _app_of(field) == app:
            yield _target(field).partition(".")[2]


def _unbound(dependency: Any) -> tuple[str, str]:
    """Return a dependency as the writer takes it: the one on the people's table by the name of its setting."""
    return ("__setting__", "AUTH_USER_MODEL") if hasattr(dependency, "setting") else tuple(dependency)
