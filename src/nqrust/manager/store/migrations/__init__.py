"""Alembic migrations, part of the package: there is no alembic.ini on an installed host."""
