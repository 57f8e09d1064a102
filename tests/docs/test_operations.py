"""What the guide quotes of the programs: messages that they print, and outputs of Terraform that they read."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from launcher.environment import stack
from tests.docs.documents import read
from tests.projects import ROOT

GUIDE = read(ROOT / "docs" / "operations.md")
OTHER_NAMES = {"account_id"}
"""Outputs that are read as well, and stand for one that the guide names."""


def printed() -> Iterator[str]:
    """What the packages' messages are made of."""
    for package in ("launcher", "neuraknot_db"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield node.value


def test_a_message_that_the_guide_quotes_is_one_that_a_program_prints() -> None:
    quoted = {span for each in GUIDE.below("by-message") for span in each.spans}
    assert quoted
    texts = list(printed())
    assert {span for span in quoted if not any(span in text for text in texts)} == set()


def test_the_guide_names_each_output_of_terraform_that_is_read() -> None:
    named = {
        name for block in GUIDE.blocks if block.language == "hcl" for name in re.findall(r'output "(\w+)"', block.text)
    }
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "launcher" / "environment").glob("*.py"))
    read_ones = set(re.findall(r'(?:outputs\.get\(|_arn\(outputs, )"(\w+)"', sources)) | set(stack._OUTPUTS.values())
    assert named == read_ones - OTHER_NAMES
