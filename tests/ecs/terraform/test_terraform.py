"""Terraform's outputs, from the real program and from state files, whatever stands in the way."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import boto3
import pytest

from launcher.aws.client import Aws
from launcher.errors import AwsError, ConfigurationError, ProgramNotFoundError
from launcher.machine.process import Completed, run
from launcher.rehearsal.cloud import LocalAws
from launcher.rehearsal.terraform import write_root
from launcher.terraform.backend import S3State
from launcher.terraform.outputs import Outputs, read_outputs
from launcher.terraform.secrets import read_password

OUTPUTS = {"rds_host": "db.example", "rds_port": 5432, "private_subnet_ids": ["a", "b"], "nothing": None, "empty": ""}
needs_terraform = pytest.mark.skipif(shutil.which("terraform") is None, reason="terraform is not installed")


def not_installed(arguments: Sequence[str], **_: Any) -> Completed:
    raise ProgramNotFoundError(arguments[0])


def printing(stdout: str, stderr: str = "", exit_code: int = 0) -> Any:
    return lambda arguments, **_: Completed(tuple(arguments), exit_code, stdout, stderr)


def no_s3(region: str | None) -> Any:
    raise AssertionError("S3 is not to be asked")


@needs_terraform
def test_the_real_program_and_its_state_file_agree(tmp_path: Path) -> None:
    write_root(tmp_path, OUTPUTS)
    asked = read_outputs(tmp_path, run, no_s3)
    read = read_outputs(tmp_path, not_installed, no_s3)
    assert asked.origin == "terraform output"
    assert read.origin == str(tmp_path / "terraform.tfstate")
    # The program leaves out what is null.
    assert {**asked.values, "nothing": None} == read.values == OUTPUTS


@needs_terraform
def test_the_real_program_with_a_state_that_it_itself_wrote(tmp_path: Path) -> None:
    (tmp_path / "main.tf").write_text('output "greeting" {\n  value = "hello"\n}\n')
    assert run(["terraform", f"-chdir={tmp_path}", "apply", "-auto-approve"]).exit_code == 0
    assert read_outputs(tmp_path, run, no_s3).values == {"greeting": "hello"}
    assert read_outputs(tmp_path, not_installed, no_s3).values == {"greeting": "hello"}


@needs_terraform
def test_a_root_that_was_never_initialised_is_read_from_its_backend(tmp_path: Path, cloud: LocalAws) -> None:
    write_root(tmp_path, OUTPUTS)
    state = (tmp_path / "terraform.tfstate").read_bytes()
    (tmp_path / "terraform.tfstate").unlink()
    (tmp_path / "backend.tf").write_text(
        'terraform {\n  backend "s3" {\n    bucket = "states"\n    key = "dev/terraform.tfstate"\n'
        '    region = "us-east-1"\n  }\n}\n'
    )
    s3 = boto3.client("s3", region_name="us-east-1")
    s3.create_bucket(Bucket="states")
    s3.put_object(Bucket="states", Key="dev/terraform.tfstate", Body=state)
    found = read_outputs(tmp_path, run, lambda region: Aws(region=region, attempts=1))
    assert found.values == OUTPUTS
    assert found.origin == "s3://states/dev/terraform.tfstate"


@pytest.mark.parametrize("workspace", ["default", "blue"])
def test_a_state_in_s3_without_the_program(tmp_path: Path, cloud: LocalAws, workspace: str) -> None:
    state = json.dumps({"version": 4, "outputs": {"rds_host": {"value": "db", "type": "string"}}}).encode()
    (tmp_path / "main.tf").write_text('terraform {\n  backend "s3" {}\n}\n')
    noted = tmp_path / ".terraform"
    noted.mkdir()
    config = {"bucket": f"states-{workspace}", "key": "k", "region": "us-east-1", "workspace_key_prefix": None}
    (noted / "terraform.tfstate").write_text(json.dumps({"version": 3, "backend": {"type": "s3", "config": config}}))
    (noted / "environment").write_text(workspace)
    s3 = boto3.client("s3", region_name="us-east-1")
    s3.create_bucket(Bucket=f"states-{workspace}")
    s3.put_object(Bucket=f"states-{workspace}", Key="k" if workspace == "default" else "env:/blue/k", Body=state)
    found = read_outputs(tmp_path, not_installed, lambda region: Aws(region=region, attempts=1))
    assert found.values == {"rds_host": "db"}
    assert found.state == S3State("states-" + workspace, "k" if workspace == "default" else "env:/blue/k")


@needs_terraform
def test_a_workspace_named_by_a_variable_is_read_by_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_WORKSPACE", "blue")
    write_root(tmp_path, {"rds_host": "default's"})
    write_root(tmp_path / "other", {"rds_host": "blue's"})
    (tmp_path / "terraform.tfstate.d" / "blue").mkdir(parents=True)
    state = tmp_path / "terraform.tfstate.d" / "blue" / "terraform.tfstate"
    (tmp_path / "other" / "terraform.tfstate").rename(state)
    for runner in (run, not_installed):
        assert read_outputs(tmp_path, runner, no_s3, workspace="blue").values == {"rds_host": "blue's"}


GOOD = json.dumps({"rds_host": {"sensitive": False, "type": "string", "value": "db"}}, indent=2)


@pytest.mark.parametrize(
    "printed",
    [
        GOOD,
        f"[command]/usr/local/bin/terraform-bin output -json\n{GOOD}\n\n::debug::Terraform exited with code 0.\n",
        f"Warning: {{deprecated}}\n{{ not json\n{GOOD}",
        f'{{"level": "warn"}}\n{GOOD}',
        f"{{}}\n{GOOD}",
        f"\x1b[0m\x1b[1m{GOOD}\x1b[0m",
    ],
    ids=["clean", "GitHub's wrapper", "warnings with braces", "another object", "an empty object", "colours"],
)
def test_outputs_are_found_among_what_wrappers_print(tmp_path: Path, printed: str) -> None:
    assert read_outputs(tmp_path, printing(printed), no_s3).values == {"rds_host": "db"}


NESTED = {"rds_host": {"value": "a replica's"}}
REPLICAS = {"replicas": {"value": [NESTED]}}
UNREADABLE = {
    "NUL": {"rds_host": {"value": "db"}, "junk": {"value": "a\0b"}, **REPLICAS},
    "half a character": {"junk": {"value": "\ud800"}, **REPLICAS},
    "NUL behind it": {**REPLICAS, "zone": {"value": "\0"}},
}
PRINTED = {
    **{name: json.dumps(outputs, indent=2) for name, outputs in UNREADABLE.items()},
    "a key twice": f'{{\n  "rds_host": {{}},\n  "rds_host":\n  {json.dumps(NESTED)}\n}}',
    "no number": f'{{\n  "x": {{"value": NaN}},\n  "y":\n    {json.dumps(NESTED)}\n}}',
    "cut off": json.dumps(REPLICAS, indent=2)[:-2],
    "behind a wrapper's empty one": "{}\n" + json.dumps(UNREADABLE["NUL"], indent=2),
}


@pytest.mark.parametrize("printed", PRINTED.values(), ids=PRINTED.keys())
def test_an_object_within_outputs_that_can_t_be_read_is_never_taken_for_them(tmp_path: Path, printed: str) -> None:
    with pytest.raises(ConfigurationError, match="can't be read: it is not valid JSON") as caught:
        read_outputs(tmp_path, printing(printed), no_s3)
    assert (caught.value.exit_code, "output -json" in (caught.value.hint or "")) == (20, True)


@needs_terraform
def test_nor_by_the_real_program(tmp_path: Path) -> None:
    write_root(tmp_path, {"junk": "a\0b", "rds_host": "db"})
    state = json.loads((tmp_path / "terraform.tfstate").read_text())
    kind = ["tuple", [["object", {"rds_host": ["object", {"value": "string"}]}]]]
    state["outputs"]["replicas"] = {"value": [NESTED], "type": kind}
    (tmp_path / "terraform.tfstate").write_text(json.dumps(state))
    with pytest.raises(ConfigurationError, match="can't be read: it is not valid JSON"):
        read_outputs(tmp_path, run, no_s3)


@pytest.mark.parametrize(
    ("runner", "words"),
    [
        (printing("{}"), "no state, or a state without outputs"),
        (printing("hello"), "no JSON object"),
        (printing("", "Error: Error acquiring the state lock\n\nConditionalCheckFailed", 1), "is locked"),
        (printing("", "Error: Unsupported Terraform Core version", 1), "`terraform output` failed"),
        (not_installed, "no state file"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, runner: Any, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        read_outputs(tmp_path, runner, no_s3)
    assert caught.value.hint
    assert caught.value.exit_code == 20


@pytest.mark.parametrize(
    "stderr",
    [
        "Error: No valid credential sources found\n\nPlease see https://www.terraform.io/docs/backends/types/s3.html",
        "Error: error configuring S3 Backend: no valid credential sources for S3 Backend found.",
        "Error: Failed to load state: ExpiredToken: The provided token has expired.\n\tstatus code: 400",
        "Error: operation error STS: GetCallerIdentity, api error InvalidClientTokenId: The security token is invalid",
        "Error: S3: GetObject, StatusCode: 400, api error InvalidToken: The provided token is malformed or not valid.",
        "Error: operation error DynamoDB: GetItem, api error UnrecognizedClientException: The token is not known.",
        "Error: failed to get shared config profile, nobody",
        "Error: the SSO session has expired or is invalid",
        "Error: Failed to load state: operation error S3: GetObject, StatusCode: 403, api error AccessDenied",
    ],
)
def test_what_aws_does_not_let_terraform_do_is_no_fault_of_the_configuration(tmp_path: Path, stderr: str) -> None:
    with pytest.raises(AwsError, match="Terraform") as caught:
        read_outputs(tmp_path, printing("", stderr, 1), no_s3)
    assert caught.value.exit_code == 21
    assert caught.value.hint


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("rds_host", 5, "a number"),
        ("rds_host", True, "a boolean"),
        ("ecs_cluster_name", ["x"], "a list"),
        ("private_subnet_ids", "subnet-1", "a string"),
        ("rds_port", [5432], "a list"),
        ("aws_region", {"name": "x"}, "an object"),
    ],
)
def test_an_output_of_another_type_is_named(name: str, value: Any, kind: str) -> None:
    with pytest.raises(ConfigurationError, match=f"output {name} can't be {kind}"):
        Outputs({name: value}, "terraform output", Path("x")).get(name)


def test_another_backend_needs_the_program(tmp_path: Path) -> None:
    (tmp_path / "main.tf").write_text('terraform {\n  backend "gcs" {\n    bucket = "b"\n  }\n}\n')
    with pytest.raises(ConfigurationError, match="'gcs', which only `terraform` itself can read"):
        read_outputs(tmp_path, not_installed, no_s3)


@pytest.mark.parametrize(
    "password",
    [
        *("plain", "100%", "a%b%%c", "$", "${x}", "%{y}", "$${", "%%{", 'quo"ted', "back\\slash", "tab\tnew\nline"),
        *("日本", "a#b//c/*d*/", "'", " "),
    ],
)
def test_any_password_is_read_from_tfvars(tmp_path: Path, password: str) -> None:
    write_root(tmp_path, {}, password)
    with (tmp_path / "secrets.tfvars").open("a", encoding="utf-8") as file:
        file.write('# a comment\nother = ["x", 5]\n')
    found = read_password(tmp_path)
    assert found is not None
    assert found.value.reveal() == password
    assert password not in repr(found) or password in "*' "


@pytest.mark.parametrize(
    "value",
    [
        *("<<EOT\nsecret\nEOT", "<<-EOT\n  secret\n  EOT", "<<EOT\nEOT", "(<<EOT\nsecret\nEOT\n)"),
        *("var.secret", "secret", 'trimspace("secret")', '("secret")', '"${var.secret}"', "null", "5"),
    ],
)
def test_a_password_is_a_string_in_quotes_and_nothing_else(tmp_path: Path, value: str) -> None:
    (tmp_path / "secrets.tfvars").write_text(f"db_password = {value}\n")
    with pytest.raises(ConfigurationError, match="is not a string in double quotes"):
        read_password(tmp_path)


def test_a_file_that_cannot_be_parsed_is_never_quoted(tmp_path: Path) -> None:
    (tmp_path / "secrets.tfvars").write_text('db_password = "geheimnis\n')
    with pytest.raises(ConfigurationError) as caught:
        read_password(tmp_path)
    assert "geheimnis" not in f"{caught.value} {caught.value.hint} {caught.value.details} {caught.value.__cause__}"
