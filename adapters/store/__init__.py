"""Our records in SQL: SQLite on one machine, PostgreSQL for several."""
