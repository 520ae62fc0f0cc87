#!/bin/sh
# Run once by the database container on an empty volume. The application gets a role of its own that owns its database
# and is neither superuser nor exempt from row-level security.
set -eu
psql --set ON_ERROR_STOP=1 --set password="$TRADEBOT_PASSWORD" --username "$POSTGRES_USER" <<'SQL'
CREATE ROLE tradebot LOGIN NOSUPERUSER NOBYPASSRLS PASSWORD :'password';
CREATE DATABASE tradebot OWNER tradebot ENCODING 'UTF8';
SQL
