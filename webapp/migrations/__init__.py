"""Migrations of the database, run by :func:`webapp.store.migrate`."""
