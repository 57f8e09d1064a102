"""`plan --markdown` and `lint --markdown`: tables for GitHub, in which nobody's text is markup."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from markdown_it import MarkdownIt

from neuraknot_db.database.markdown import code, table, text
from tests.db.conftest import Database, Project
from tests.db.migrate.test_second_connections import Project as _  # noqa: F401
