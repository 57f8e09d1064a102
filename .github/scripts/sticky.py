"""Keep one comment on a pull request, or one open issue: its text is replaced, and no second one is added.

sticky.py comment PULL_REQUEST SECTION=FILE ...   these sections, instead of the same ones and all after them
sticky.py issue TITLE FILE                        open it, or replace its text
sticky.py close TITLE                             close it, if it is open
sticky.py reviewed ENVIRONMENT                    print true if jobs in that environment wait for a reviewer
sticky.py text FILE                               print it as it would be posted: for the job's summary

FILE is Markdown, or plain text if its name ends with .txt. GITHUB_TOKEN, GITHUB_API_URL, GITHUB_SERVER_URL,
GITHUB_REPOSITORY and GITHUB_RUN_ID are as in a workflow. Exit code 1, with GitHub's words, if it refuses.
"""

from __future__ import annotations

import html
import json
import os
import sys
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import Request, urlopen

AUTHOR = "github-actions[bot]"
"""Who writes with a workflow's own token: another's text with our mark in it is not ours."""

MARK = "<!-- neuraknot: "
"""How the text of each of ours begins, and each section."""

LONGEST = 30_000
"""Characters of a section: GitHub takes 65,536 for all."""


def main(command: str, *arguments: str) -> None:
    """Run one of the commands."""
    if command == "comment":
        _comment(int(arguments[0]), dict(each.split("=", 1) for each in arguments[1:]))
    elif command == "issue":
        _issue(arguments[0], _text(arguments[1]))
    elif command == "close":
        _issue(arguments[0], None)
    elif command == "reviewed":
        print("true" if _reviewed(arguments[0]) else "false")
    elif command == "text":
        print(_text(arguments[0]))
    else:
        sys.exit(__doc__)


def _comment(pull_request: int, files: dict[str, str]) -> None:
    own = (each for each in _pages(f"/issues/{pull_request}/comments") if _is_ours(each, MARK))
    found = next(own, None)
    before = (found or {}).get("body", "").partition(_mark(next(iter(files))))[0]
    body = before + "\n\n".join(f"{_mark(section)}\n{_text(file)}" for section, file in files.items()) + "\n\n"
    if found:
        _api("PATCH", f"/issues/comments/{found['id']}", {"body": body})
    else:
        _api("POST", f"/issues/{pull_request}/comments", {"body": body})


def _issue(title: str, text: str | None) -> None:
    ours = (each for each in _pages("/issues?state=open") if _is_ours(each, _mark(title)))
    found = next((each for each in ours if "pull_request" not in each), None)
    if text is not None:
        values = {"title": title, "body": f"{_mark(title)}\n{text}"}
        _api(*(("PATCH", f"/issues/{found['number']}") if found else ("POST", "/issues")), values)
    elif found:
        _api("PATCH", f"/issues/{found['number']}", {"state": "closed", "state_reason": "completed"})


def _reviewed(environment: str) -> bool:
    try:
        found = _api("GET", f"/environments/{quote(environment, safe='')}")
    except HTTPError as error:
        if error.code != 404:  # GitHub's answer where there is none
            raise
        return False
    return any(rule["type"] == "required_reviewers" for rule in found.get("protection_rules", ()))


def _mark(name: str) -> str:
    return f"{MARK}{name} -->"


def _is_ours(item: dict[str, Any], mark: str) -> bool:
    author = item["user"] or {}  # null for one who has left GitHub
    return author.get("login") == AUTHOR and (item["body"] or "").startswith(mark)


def _text(file: str) -> str:
    server, repository, run = (os.environ[f"GITHUB_{name}"] for name in ("SERVER_URL", "REPOSITORY", "RUN_ID"))
    is_plain, written = file.endswith(".txt"), Path(file).read_text(encoding="utf-8").strip()
    text = whole = html.escape(written, quote=False) if is_plain else written
    if len(whole) > LONGEST:
        text = whole[:LONGEST].rpartition("\n")[0] or whole[:LONGEST]
    left_out = "" if text == whole else "The rest is left out here. "
    if is_plain:
        text = f"<pre>{text}</pre>"  # where nothing is markup, and nobody is notified
    return f"{text}\n\n{left_out}[The run]({server}/{repository}/actions/runs/{run})"


def _pages(path: str) -> Iterator[dict[str, Any]]:
    for page in range(1, 1000):
        found = _api("GET", f"{path}{'&' if '?' in path else '?'}per_page=100&page={page}")
        yield from found
        if len(found) < 100:
            return


def _api(method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    address = f"{os.environ['GITHUB_API_URL']}/repos/{os.environ['GITHUB_REPOSITORY']}{path}"
    headers = {"Authorization": f"Bearer {os.environ.get('GITHUB_TOKEN', '')}", "Accept": "application/vnd.github+json"}
    request = Request(address, json.dumps(body).encode() if body else None, headers, method=method)
    with urlopen(request, timeout=30) as answer:
        return json.load(answer)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:])
    except (URLError, TimeoutError, ConnectionError, HTTPException, json.JSONDecodeError) as error:
        words = error.read().decode(errors="replace") if isinstance(error, HTTPError) else ""
        sys.exit(f"Error: GitHub's API refused this or did not answer: {error}. {words}".rstrip())
