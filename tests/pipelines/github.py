"""GitHub for tests: its API with comments, issues and environments, and a runner of a workflow's own lines."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

from tests.projects import ROOT

WORKFLOWS = ROOT / ".github" / "workflows"
TOKEN = "of this job"
REPOSITORY = "tokyo/neuraknot"
PULL_REQUEST = 7


def read(path: Path) -> dict[str, Any]:
    """A workflow; YAML 1.1 takes its key `on` for true."""
    document: dict[Any, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {"on" if key is True else key: value for key, value in document.items()}


class GitHub:
    """The part of GitHub's API that sticky.py asks; it counts what is written."""

    def __init__(self) -> None:
        self.comments: list[dict[str, Any]] = []
        self.issues: list[dict[str, Any]] = []
        self.environments: dict[str, Any] = {}
        self.writes: list[str] = []

    def __enter__(self) -> Self:
        asked = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(None)

            def do_POST(self) -> None:
                self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def do_PATCH(self) -> None:
                self.do_POST()

            def _answer(self, body: Any) -> None:
                status, value = 401, {"message": "Bad credentials"}
                if self.headers["Authorization"] == f"Bearer {TOKEN}":
                    status, value = asked.answer(self.command, self.path, body)
                data = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, method: str, address: str, body: Any) -> tuple[int, Any]:
        url = urlsplit(address)
        path = unquote(url.path).removeprefix(f"/repos/{REPOSITORY}")
        if method != "GET":
            self.writes.append(f"{method} {path}")
        if body and len(body.get("body", "")) > 65_536:
            return 422, {"message": "body is too long (maximum is 65536 characters)"}
        if path.startswith("/environments/"):
            found = self.environments.get(path.rpartition("/")[2])
            return (200, found) if found is not None else (404, {"message": "Not Found"})
        if path == f"/issues/{PULL_REQUEST}/comments":
            return self._listed(url.query, self.comments, method, body)
        if path == "/issues":
            return self._listed(url.query, self.issues, method, body)
        number = int(path.rpartition("/")[2])
        items = self.comments if path.startswith("/issues/comments/") else self.issues
        items[number].update(body)
        return 200, items[number]

    def _listed(self, query: str, items: list[dict[str, Any]], method: str, body: Any) -> tuple[int, Any]:
        if method == "POST":
            items.append(made(len(items), **body))
            return 201, items[-1]
        asked = {name: values[0] for name, values in parse_qs(query).items()}
        size, page = int(asked["per_page"]), int(asked["page"])
        found = [each for each in items if each["state"] == asked.get("state", each["state"])]
        return 200, found[(page - 1) * size : page * size]


def made(number: int, *, by: str = "github-actions[bot]", **values: Any) -> dict[str, Any]:
    """A comment or an issue as the API shows it."""
    return {"id": number, "number": number, "user": {"login": by}, "state": "open", "body": None, **values}


@dataclass
class Job:
    """A job that has ended; `conclusion` is as on GitHub's page."""

    conclusion: str
    said: str = ""
    summary: str = ""
    outputs: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Runner:
    """Runs the `run:` steps of workflows as GitHub does, and leaves out each `uses:`, which would fetch something.

    `origin` is the repository, `work` where each job gets a checkout of `ref`; `values` has what each expression
    yields, and `environ` what the actions that are left out would have put into the environment.
    """

    github: GitHub
    origin: Path
    work: Path
    values: dict[str, str]
    ref: str = "main"
    environ: dict[str, str] = field(default_factory=dict)
    runs: int = 0

    def run(self, name: str) -> dict[str, Job]:
        """Run a workflow's jobs in order."""
        jobs: dict[str, Job] = {}
        self.runs += 1
        for key, job in read(WORKFLOWS / f"{name}.yml")["jobs"].items():
            needed = [jobs[job["needs"]]] if "needs" in job else []
            known = {f"needs.{job.get('needs')}.outputs.{n}": v for each in needed for n, v in each.outputs.items()}
            values = {**self.values, **known}
            wanted = all(each.conclusion == "success" for each in needed)
            if wanted and "if" in job:
                wanted = all(_is_true(part, values) for part in str(job["if"]).split(" && "))
            jobs[key] = self._job(job, values) if wanted else Job("skipped")
        return jobs

    def _job(self, job: Mapping[str, Any], values: dict[str, str]) -> Job:
        self.checkout()
        files = {name: self.work.parent / name for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
        environ = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.work.parent),
            "CI": "true",
            "GITHUB_ACTIONS": "true",
            "GITHUB_API_URL": self.github.url,
            "GITHUB_SERVER_URL": "https://github.example",
            "GITHUB_REPOSITORY": REPOSITORY,
            "GITHUB_RUN_ID": str(self.runs),
            "GITHUB_WORKSPACE": str(self.work),
            **{name: str(path) for name, path in files.items()},
            **self.environ,
            **_filled(job.get("env", {}), values),
        }
        done, values = Job("success"), dict(values)
        for number, step in enumerate(job["steps"]):
            if "run" not in step or (done.conclusion == "failure" and step.get("if") != "${{ !cancelled() }}"):
                continue
            files["GITHUB_OUTPUT"].write_text("")
            script = self.work.parent / "step.sh"
            script.write_text(step["run"])
            ended = subprocess.run(
                ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)],
                cwd=self.work,
                # As GitHub names a step without an id.
                env={
                    **environ,
                    "GITHUB_ACTION": step.get("id", f"__run_{number}"),
                    **_filled(step.get("env", {}), values),
                },
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            done.said += f"--- {step['name']}\n{ended.stdout}"
            if ended.returncode:
                done.conclusion = "failure"
            for line in files["GITHUB_OUTPUT"].read_text().splitlines():
                name, _, value = line.partition("=")
                values[f"steps.{step['id']}.outputs.{name}"] = value
        if files["GITHUB_STEP_SUMMARY"].exists():
            done.summary = files["GITHUB_STEP_SUMMARY"].read_text()
            files["GITHUB_STEP_SUMMARY"].unlink()
        done.outputs = {name: _expanded(text, values) for name, text in job.get("outputs", {}).items()}
        return done

    def checkout(self) -> None:
        """Lay `ref` out anew, as actions/checkout does."""
        for folder in (self.work, self.work.with_name("base")):
            shutil.rmtree(folder, ignore_errors=True)
        git(self.origin.parent, "clone", "--quiet", "--branch", self.ref, str(self.origin), str(self.work))
        (self.work / ".venv").symlink_to(ROOT / ".venv")


def git(folder: Path, *arguments: str) -> str:
    """Run git as somebody, whatever this machine's configuration is."""
    who = {f"GIT_{role}_{what}": "a@b.example" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environ = {"PATH": "/usr/bin:/bin", "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1", **who}
    done = subprocess.run(["git", *arguments], cwd=folder, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def _filled(environ: Mapping[str, Any], values: Mapping[str, str]) -> dict[str, str]:
    return {name: _expanded(str(text), values) for name, text in environ.items()}


def _expanded(text: str, values: Mapping[str, str]) -> str:
    """Fill the expressions in; a step that was not run has no outputs."""

    def value(found: re.Match[str]) -> str:
        name = found[1].strip()
        return values.get(name, "") if name.startswith("steps.") else values[name]

    return re.sub(r"\$\{\{(.*?)\}\}", value, text)


def _is_true(part: str, values: Mapping[str, str]) -> bool:
    name, _, literal = part.partition(" == ")
    return values[name.strip()] == literal.strip().strip("'")
