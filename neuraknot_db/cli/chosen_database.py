"""The database that a command works on."""

from __future__ import annotations

import logging

from neuraknot_db import settings
from neuraknot_db.errors import UsageError
from neuraknot_db.settings import Settings

log = logging.getLogger(__name__)


def lacks_dev(error: ModuleNotFoundError) -> bool:
    """Return whether an import failed because this is the image, which is without `dev`."""
    return (error.name or "").startswith("neuraknot_db.dev")


def chosen() -> Settings:
    """Return the database that the environment names; if it names none, start the embedded one.

    Raises:
        UsageError: none is named, and the embedded PostgreSQL is not installed.
    """
    named = settings.read()
    if named is not None:
        return named
    # Imported here: its package is an extra, and neither is in the image.
    try:
        from neuraknot_db.dev import devserver
    except ModuleNotFoundError as error:
        if not lacks_dev(error):
            raise
        raise UsageError(
            "No database is named in the environment.", hint="Set DATABASE_URL, or DB_HOST and its companions."
        ) from None
    where = devserver.start()
    log.info("no database is named in the environment: the embedded PostgreSQL in %s is used", where.host)
    return where
