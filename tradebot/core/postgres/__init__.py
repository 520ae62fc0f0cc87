"""PostgreSQL as a second line behind the guard: the database itself knows who acts (docs/threat-model.md)."""
