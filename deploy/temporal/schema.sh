#!/bin/sh
# Makes Temporal's databases in PostgreSQL, or brings them up to the version of this temporal-sql-tool; says where by SQL_HOST,
# SQL_PORT, SQL_USER and SQL_PLUGIN. Every step may be repeated. schema.sh PASSWORD_FILE
set -eu
SQL_PASSWORD=$(cat "${1:?usage: schema.sh PASSWORD_FILE}")
export SQL_PASSWORD
for database in temporal/temporal temporal_visibility/visibility; do
  name=${database%/*}
  temporal-sql-tool --db "$name" create
  temporal-sql-tool --db "$name" setup-schema -v 0.0
  temporal-sql-tool --db "$name" update-schema --schema-name "postgresql/v12/${database#*/}"
done
