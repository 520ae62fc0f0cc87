"""Everything on one machine with one command: what ``manage.py serve`` starts, watches and stops."""
