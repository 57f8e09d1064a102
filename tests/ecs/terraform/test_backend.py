"""A state is read without Terraform only where nobody was set up for another one, and its place is certain."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest

from launcher.aws.client import Aws
from launcher.errors import AwsError, ConfigurationError
from launcher.machine.process import Completed, Runner, run
from launcher.rehearsal.cloud import LocalAws
from launcher.rehearsal.terraform import write_root
from launcher.terraform.backend import programs, redirection, terraform_command
from launcher.terraform.outputs import read_outputs
from launcher.terraform.secrets import read_password
from tests.ecs.conftest import FakeClock, MakeCloud
from tests.ecs.launching import GOOD, make_stage
from tests.ecs.terraform.test_terraform import no_s3, not_installed

needs_terraform = pytest.mark.skipif(shutil.which("terraform") is None, reason="terraform is not installed")
BOTH = pytest.mark.parametrize("runner", [pytest.param(run, marks=needs_terraform), not_installed], ids=["run", "none"])
S3 = 'backend "s3" {\n bucket = "states"\n key = "k"\n region = "us-east-1"\n}'
CLOUD = 'cloud {\n organization = "o"\n workspaces {\n  name = "n"\n }\n}'
Change = Callable[[Path], None]


def local(path: str) -> str:
    return f'backend "local" {{\n path = "{path}"\n}}'


def declare(root: Path, block: str, name: str = "backend.tf") -> None:
    (root / name).write_text(f"terraform {{\n{block}\n}}\n")


def terraform(root: Path, *arguments: str) -> None:
    done = run(["terraform", f"-chdir={root}", *arguments, "-no-color"])
    assert done.exit_code == 0, done.stderr


def old_state(root: Path, name: str = "terraform.tfstate") -> None:
    """A state beside the root's files, of a database that nobody means any more."""
    write_root(root, {"rds_host": "the old one"})
    (root / "terraform.tfstate").rename(root / name)


def note(root: Path, kind: str, **config: Any) -> None:
    """What `terraform init` would have noted."""
    (root / ".terraform").mkdir(exist_ok=True)
    noted = {"version": 3, "backend": {"type": kind, "config": config, "hash": 1}}
    (root / ".terraform" / "terraform.tfstate").write_text(json.dumps(noted))


def initialised_at(first: str) -> Change:
    def change(root: Path) -> None:
        old_state(root, "one.tfstate")
        declare(root, first)
        terraform(root, "init")
        assert read_outputs(root, run, no_s3).values == {"rds_host": "the old one"}
        assert read_outputs(root, not_installed, no_s3).values == {"rds_host": "the old one"}

    return change


def then(*changes: Change) -> Change:
    def change(root: Path) -> None:
        for each in changes:
            each(root)

    return change


def declared(block: str, name: str = "backend.tf") -> Change:
    return lambda root: declare(root, block, name)


def written(name: str, text: str | bytes) -> Change:
    def change(root: Path) -> None:
        (root / name).write_bytes(text if isinstance(text, bytes) else text.encode())

    return change


def noted(kind: str, **config: Any) -> Change:
    return lambda root: note(root, kind, **config)


AFTER_INIT: dict[str, Change] = {
    "the path changed": declared(local("two.tfstate")),
    "the path changed, and something is there": then(
        lambda root: old_state(root, "two.tfstate"), declared(local("two.tfstate"))
    ),
    "the path left out": declared('backend "local" {}'),
    "the folder of workspaces changed": declared('backend "local" {\n path = "one.tfstate"\n workspace_dir = "w"\n}'),
    "no backend any more": lambda root: (root / "backend.tf").unlink(),
    "another kind": declared(S3),
    "HCP Terraform": declared(CLOUD),
    "another kind, and an old state at the usual place": then(declared(S3), old_state),
    "by an override": declared(local("two.tfstate"), "x_override.tf"),
}


@needs_terraform
@BOTH
@pytest.mark.parametrize("change", AFTER_INIT.values(), ids=AFTER_INIT.keys())
def test_a_backend_that_has_changed_since_init_is_no_reason_to_read_the_old_state(
    tmp_path: Path, runner: Runner, change: Change
) -> None:
    then(initialised_at(local("one.tfstate")), change)(tmp_path)
    with pytest.raises(ConfigurationError) as caught:
        read_outputs(tmp_path, runner, no_s3)
    assert caught.value.exit_code == 20
    assert caught.value.hint is not None
    assert f"terraform -chdir={tmp_path} init" in caught.value.hint


NOTED_S3 = noted("s3", bucket="states", key="k", region="us-east-1")
UNCERTAIN: dict[str, tuple[Change, str]] = {
    "HCP Terraform beside an old state": (declared(CLOUD), "'cloud'"),
    "the remote backend beside an old state": (
        declared('backend "remote" {\n organization = "o"\n workspaces {\n  name = "n"\n }\n}'), "'remote'",
    ),
    "another backend beside an old state": (declared('backend "gcs" {\n bucket = "b"\n}'), "'gcs'"),
    "an override file": (then(declared(local("one")), declared(local("two"), "override.tf")), "override.tf"),
    "an override file alone": (declared(local("two"), "z_override.tf"), "z_override.tf"),
    "two files": (then(declared(local("one")), declared(local("two"), "other.tf")), "backend.tf and other.tf"),
    "HCP Terraform and a backend": (then(declared(local("one")), declared(CLOUD, "cloud.tf")), "cloud.tf"),
    "a backend as JSON": (
        written("backend.tf.json", '{"terraform": {"backend": {"local": {"path": "x"}}}}'), "as JSON",
    ),
    "HCP Terraform as JSON": (written("c.tf.json", '{"terraform": [{"cloud": [{"organization": "o"}]}]}'), "as JSON"),
    "a backend in lists of JSON": (
        written("b.tf.json", '{"terraform": [[{"backend": [[{"local": {"path": "x"}}]]}]]}'), "as JSON",
    ),
    "a list of JSON around all": (written("b.tf.json", '[[{"terraform": {"backend": {"local": {}}}}]]'), "as JSON"),
    "a backend at the bottom of a well": (
        written("b.tf.json", "[" * 700 + '{"terraform": {"backend": {"local": {}}}}' + "]" * 700), "b.tf.json",
    ),
    "settings that are no object": (written("b.tf.json", '{"terraform": "x"}'), "as JSON"),
    "JSON that is no object": (written("b.tf.json", "5"), "as JSON"),
    "settings as an argument": (written("a.tf", 'terraform = "backend"'), "in a form that is not understood"),
    "JSON that can't be read": (written("a.tf.json", "[" * 100_000), "nested too deeply"),
    "a file of OpenTofu's": (written("main.tofu", ""), "OpenTofu"),
    "a file that is no text": (written("a.tf", b"# caf\xe9\n"), "not text in UTF-8"),
    "a file that is no HCL": (written("a.tf", 'terraform {\n  backend "local" {'), "not valid Terraform syntax"),
    "a file as deep as a well": (written("a.tf", "backend = " + "[" * 50_000), "not valid Terraform syntax"),
    "a file that leads nowhere": (lambda root: (root / "a.tf").symlink_to("nowhere"), "a.tf can't be read"),
    "an expression": (declared('backend "local" {\n path = var.path\n}'), "path in backend.tf is not a plain string"),
    "an interpolation": (declared('backend "local" {\n path = "${var.env}.tfstate"\n}'), "not a plain string"),
    "a number for a path": (declared('backend "local" {\n path = 5\n}'), "not a plain string"),
    "an empty path": (declared(local("")), "path in backend.tf is empty"),
    "an empty folder of workspaces": (declared('backend "local" {\n workspace_dir = ""\n}'), "workspace_dir in"),
    "an empty key": (declared(S3.replace('"k"', '""')), "key in backend.tf is empty"),
    "an empty region": (then(declared(S3.replace("us-east-1", "")), NOTED_S3), "region in backend.tf is empty"),
    "null for a path": (declared('backend "local" {\n path = null\n}'), "path in backend.tf is not a plain string"),
    "a heredoc": (declared('backend "local" {\n path = <<EOT\nx\nEOT\n}'), "path in backend.tf is not a plain string"),
    "an indented heredoc": (
        declared(S3.replace('"k"', "<<-EOT\n  k\n  EOT")), "key in backend.tf is not a plain string",
    ),
    "an endpoint since init": (
        then(declared(S3.replace("}", ' endpoints = {\n  s3 = "http://x"\n }\n}')), NOTED_S3),
        "which only Terraform follows",
    ),
    "an endpoint since init, as it was written once": (
        then(declared(S3.replace("}", ' endpoint = "x"\n}')), NOTED_S3), "which only Terraform follows",
    ),
    "an endpoint since init, as a heredoc": (
        then(declared(S3.replace("}", " endpoint = <<EOT\nx\nEOT\n}")), NOTED_S3), "which only Terraform follows",
    ),
    "an endpoint that was noted": (
        then(declared(S3), noted("s3", bucket="states", key="k", region="us-east-1", endpoints={"s3": "x"})),
        "which only Terraform follows",
    ),
    "a bucket elsewhere": (declared(S3.replace("}", ' endpoints = {\n  s3 = "http://x"\n }\n}')),
        "sets endpoints, which"),
    "a bucket elsewhere, as it was written once": (declared(S3.replace("}", ' endpoint = "x"\n}')),
        "sets endpoint, which"),
    **{
        f"{name} of the backend's own": (
            declared(S3.replace("}", f" {name} {value}\n}}")), f"its S3 backend sets {name}, which only Terraform",
        )
        for name, value in {
            "assume_role": '= { role_arn = "arn:aws:iam::1:role/state" }',
            "assume_role ": '{\n  role_arn = "arn:aws:iam::1:role/state"\n }',
            "assume_role_with_web_identity": "{\n  role_arn = var.role\n }",
            "role_arn": '= "arn:aws:iam::1:role/state"',
            "profile": '= "states"',
            "shared_credentials_files": '= ["x"]',
            "access_key": "= var.key",
            "sse_customer_key": '= "x"',
            "something_new": "= true",
        }.items()
        for name in [name.strip()]
    },
    "a role of the backend's own, noted": (
        then(declared('backend "s3" {}'), noted("s3", bucket="b", key="k", region="r", assume_role={"role_arn": "a"})),
        "its S3 backend sets assume_role, which",
    ),
    "half of a backend": (declared('backend "s3" {\n bucket = "b"\n}'), "names no bucket or key"),
    "set up, but not its backend": (
        then(declared(S3), lambda root: (root / ".terraform").mkdir()), "was initialised without",
    ),
    "an s3 of before, noted": (then(declared(local("one")), noted("s3", bucket="b", key="k")), "with the backend 's3'"),
    "noted, and nothing said": (noted("s3", bucket="b", key="k"), "its files name none"),
    "another key": (then(declared(S3), noted("s3", bucket="states", key="old", region="us-east-1")), "key was 'old'"),
    "another bucket": (then(declared(S3), noted("s3", bucket="old", key="k", region="us-east-1")), "bucket was 'old'"),
    "a local path of -backend-config's": (
        then(declared('backend "local" {}'), noted("local", path="x")), "path was 'x' then only",
    ),
    "a note as deep as a well": (
        then(noted("s3"), written(".terraform/terraform.tfstate", '{"backend":' * 50_000)), "nested too deeply",
    ),
    "a note that is a list": (then(noted("s3"), written(".terraform/terraform.tfstate", "[]")), "something else"),
    "a note of another form": (
        then(noted("s3"), written(".terraform/terraform.tfstate", '{"backend": {"type": ["s3"]}}')), "something else",
    ),
    "a list for a bucket": (then(declared('backend "s3" {}'), noted("s3", bucket=["b"])), "not a plain string"),
    "a note with a key twice": (
        then(noted("s3"), written(".terraform/terraform.tfstate", '{"backend": {}, "backend": {"type": "s3"}}')),
        "not valid JSON",
    ),
    "a workspace that leads elsewhere": (
        then(noted("local"), declared('backend "local" {}'), written(".terraform/environment", "../../prod")),
        "no name of a workspace",
    ),
    "a workspace that is no text": (
        then(noted("local"), declared('backend "local" {}'), written(".terraform/environment", b"\xff")), "UTF-8",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("change", "words"), UNCERTAIN.values(), ids=UNCERTAIN.keys())
def test_without_terraform_what_is_not_certain_is_not_read(tmp_path: Path, change: Change, words: str) -> None:
    old_state(tmp_path)
    change(tmp_path)
    with pytest.raises(ConfigurationError) as caught:
        read_outputs(tmp_path, not_installed, no_s3)
    assert words in caught.value.message
    assert caught.value.exit_code == 20
    assert caught.value.hint


@needs_terraform
@pytest.mark.parametrize(
    "change",
    [
        declared(CLOUD),
        declared('backend "remote" {\n organization = "o"\n workspaces {\n  name = "n"\n }\n}'),
        then(declared(S3), lambda root: (root / ".terraform").mkdir()),
        then(declared(local("one")), noted("s3", bucket="b", key="k", region="us-east-1")),
    ],
    ids=["HCP Terraform", "remote", "set up, but not its backend", "from s3 back to local"],
)
def test_nor_is_it_where_terraform_refuses(tmp_path: Path, change: Change) -> None:
    old_state(tmp_path)
    change(tmp_path)
    with pytest.raises(ConfigurationError) as caught:
        read_outputs(tmp_path, run, no_s3)
    assert "terraform" in (caught.value.hint or "")


@pytest.mark.parametrize("variable", ["TF_DATA_DIR", "TF_CLI_ARGS_output", "TF_CLI_ARGS"])
def test_a_variable_that_leads_terraform_elsewhere_leaves_it_to_terraform(tmp_path: Path, variable: str) -> None:
    old_state(tmp_path)
    with pytest.raises(ConfigurationError, match=f"With {variable} set"):
        read_outputs(tmp_path, not_installed, no_s3, redirected=variable)


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({"TF_DATA_DIR": "x"}, "TF_DATA_DIR"),
        ({"TF_CLI_ARGS_output": "-state=other.tfstate"}, "TF_CLI_ARGS_output"),
        ({"TF_CLI_ARGS_init": "-backend-config=path=x"}, "TF_CLI_ARGS_init"),
        ({"TF_CLI_ARGS": "-no-color", "TF_DATA_DIR": "", "TF_WORKSPACE": "blue"}, None),
    ],
)
def test_which_variables_those_are(environ: dict[str, str], name: str | None) -> None:
    assert redirection(environ) == name


@needs_terraform
def test_a_folder_of_its_own_for_what_init_notes_is_no_root_that_was_never_initialised(
    make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = make_stage(make_cloud(script=GOOD), clock, tmp_path)
    monkeypatch.setenv("TF_DATA_DIR", str(tmp_path / "data"))
    (stage.terraform / "terraform.tfstate").rename(stage.terraform / "one.tfstate")
    declare(stage.terraform, local("one.tfstate"))
    terraform(stage.terraform, "init")
    assert stage.launch("ecs-migrate", "--dry-run").code == 0
    (stage.terraform / "two.tfstate").write_bytes((stage.terraform / "one.tfstate").read_bytes())
    declare(stage.terraform, local("two.tfstate"))
    assert stage.launch("ecs-migrate", "--reset").code == 20


@needs_terraform
def test_a_reset_does_not_reach_the_database_of_before(make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path) -> None:
    stage = make_stage(make_cloud(script=GOOD), clock, tmp_path)
    (stage.terraform / "terraform.tfstate").rename(stage.terraform / "one.tfstate")
    declare(stage.terraform, local("one.tfstate"))
    terraform(stage.terraform, "init")
    assert stage.launch("ecs-migrate", "--dry-run").code == 0
    declare(stage.terraform, local("two.tfstate"))
    outcome = stage.launch("ecs-migrate", "--reset")
    assert outcome.code == 20
    assert "RunTask" not in stage.actions
    assert "Backend configuration block has changed" in outcome.err
    assert f"Hint: Initialise it: terraform -chdir={stage.terraform} init" in outcome.err


@needs_terraform
@BOTH
@pytest.mark.parametrize("by", ["selected", "variable"])
def test_a_workspace_s_state_is_at_one_place_whatever_the_path_is(
    tmp_path: Path, runner: Runner, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    initialised_at(local("one.tfstate"))(tmp_path)
    (tmp_path / "main.tf").write_text('output "rds_host" {\n  value = "blue"\n}\n')
    terraform(tmp_path, "workspace", "new", "blue")
    terraform(tmp_path, "apply", "-auto-approve")
    if by == "variable":
        (tmp_path / ".terraform" / "environment").write_text("default")
        monkeypatch.setenv("TF_WORKSPACE", "blue")
    assert read_outputs(tmp_path, runner, no_s3, workspace=os.environ.get("TF_WORKSPACE")).values == {
        "rds_host": "blue"
    }


@needs_terraform
def test_what_backend_config_gave_is_known_to_terraform_alone(tmp_path: Path) -> None:
    old_state(tmp_path, "elsewhere.tfstate")
    declare(tmp_path, 'backend "local" {}')
    terraform(tmp_path, "init", "-backend-config=path=elsewhere.tfstate")
    assert read_outputs(tmp_path, run, no_s3).values == {"rds_host": "the old one"}


@pytest.mark.slow
def test_a_key_of_backend_config_s_is_read_from_the_note(tmp_path: Path, cloud: LocalAws) -> None:
    old_state(tmp_path)
    declare(tmp_path, 'backend "s3" {\n bucket = "partial"\n}')
    note(
        tmp_path,
        "s3",
        bucket="partial",
        key="k",
        region="us-east-1",
        encrypt=True,
        kms_key_id="k",
        dynamodb_table="t",
        use_lockfile=True,
        skip_s3_checksum=False,
        endpoints=None,
        profile="",
        assume_role={"role_arn": None},
        shared_config_files=[],
        use_path_style=False,
    )
    s3 = boto3.client("s3", region_name="us-east-1")
    s3.create_bucket(Bucket="partial")
    state = {"version": 4, "outputs": {"rds_host": {"value": "the new one", "type": "string"}}}
    s3.put_object(Bucket="partial", Key="k", Body=json.dumps(state).encode())
    found = read_outputs(tmp_path, not_installed, lambda region: Aws(region=region, attempts=1))
    assert found.values == {"rds_host": "the new one"}


def only_tofu(arguments: Sequence[str], **how: Any) -> Completed:
    """OpenTofu, without Terraform: its program takes the same arguments, and prints the same."""
    if arguments[0] != "tofu":
        return not_installed(arguments)
    done = run(["terraform", *arguments[1:]], **how)
    return replace(done, arguments=tuple(arguments))


@needs_terraform
def test_tofu_does_where_there_is_no_terraform(tmp_path: Path) -> None:
    old_state(tmp_path)
    assert read_outputs(tmp_path, only_tofu, no_s3).origin == "tofu output"
    assert read_outputs(tmp_path, run, no_s3).origin == "terraform output"


@needs_terraform
@pytest.mark.parametrize("name", ["main.tofu", "backend.tofu.json"])
def test_a_root_for_opentofu_is_not_read_by_terraform(tmp_path: Path, name: str) -> None:
    old_state(tmp_path)
    (tmp_path / name).write_text("{}" if name.endswith("json") else "")
    assert read_outputs(tmp_path, only_tofu, no_s3).origin == "tofu output"
    with pytest.raises(ConfigurationError, match=r"is written for OpenTofu\. The program tofu is not") as caught:
        read_outputs(tmp_path, run_terraform_only, no_s3)
    assert "Install OpenTofu" in (caught.value.hint or "")


@needs_terraform
def test_a_block_that_only_opentofu_knows_is_told_as_such(tmp_path: Path) -> None:
    declare(tmp_path, 'encryption {\n key_provider "pbkdf2" "k" {\n passphrase = "hidden by design"\n }\n}', "main.tf")
    with pytest.raises(ConfigurationError, match="is written for OpenTofu") as caught:
        read_outputs(tmp_path, run, no_s3)
    assert "Install OpenTofu" in (caught.value.hint or "")


def test_a_root_that_opentofu_initialised_is_read_by_tofu_first(tmp_path: Path) -> None:
    lock = 'provider "registry.opentofu.org/hashicorp/aws" {\n  version = "5.0.0"\n}\n'
    (tmp_path / ".terraform.lock.hcl").write_text(lock)
    assert programs(tmp_path) == ("tofu", "terraform")
    assert terraform_command(tmp_path, "init").split()[1:] == [f"-chdir={tmp_path}", "init"]


def run_terraform_only(arguments: Sequence[str], **how: Any) -> Completed:
    return not_installed(arguments) if arguments[0] == "tofu" else run(arguments, **how)


@BOTH
def test_a_state_that_opentofu_encrypted_is_named_as_such(tmp_path: Path, runner: Runner) -> None:
    encrypted = {"serial": 1, "lineage": "x", "meta": {"key_provider.pbkdf2.k": "e30="}, "encrypted_data": "AA=="}
    (tmp_path / "terraform.tfstate").write_text(json.dumps({**encrypted, "encryption_version": "v0"}))
    with pytest.raises(ConfigurationError, match="is encrypted, as OpenTofu does it") as caught:
        read_outputs(tmp_path, runner, no_s3)
    assert caught.value.exit_code == 20


REMOTE = 'remote_state {\n backend = "s3"\n config = {\n  bucket = "b"\n }\n}'
TERRAGRUNTS: dict[str, Change] = {
    "beside nothing": written("terragrunt.hcl", REMOTE),
    "beside an old state": then(old_state, written("terragrunt.hcl", REMOTE)),
    "beside a lock": then(written("terragrunt.hcl", REMOTE), written(".terraform.tfstate.lock.info", "{}")),
    "beside an old state, as JSON": then(old_state, written("terragrunt.hcl.json", '{"remote_state": {}}')),
    "from another's file": then(old_state, written("terragrunt.hcl", 'include "root" {\n path = "../root.hcl"\n}')),
    "with a source": then(old_state, written("terragrunt.hcl", 'terraform {\n source = "../../modules/all"\n}')),
    "that can't be read": then(old_state, written("terragrunt.hcl", "inputs = {")),
    "with what init noted before": then(
        lambda root: old_state(root, "x.tfstate"),
        declared(local("x.tfstate")),
        noted("local", path="x.tfstate"),
        written("terragrunt.hcl", REMOTE),
    ),
}


@BOTH
@pytest.mark.parametrize("change", TERRAGRUNTS.values(), ids=TERRAGRUNTS.keys())
def test_a_root_of_terragrunt_s_is_not_read_by_anybody_else(tmp_path: Path, runner: Runner, change: Change) -> None:
    change(tmp_path)
    with pytest.raises(ConfigurationError, match="is written for Terragrunt") as caught:
        read_outputs(tmp_path, runner, no_s3)
    assert caught.value.hint == "Give the values as options: launcher ecs-migrate --help"


@needs_terraform
def test_a_backend_of_terraform_s_own_is_read_where_terragrunt_only_gives_inputs(tmp_path: Path) -> None:
    initialised_at(local("one.tfstate"))(tmp_path)
    (tmp_path / "terragrunt.hcl").write_text('locals {\n a = get_env("A", "b")\n}\ninputs = {\n name = local.a\n}\n')
    for runner in (run, not_installed):
        assert read_outputs(tmp_path, runner, no_s3).values == {"rds_host": "the old one"}


@pytest.mark.parametrize(
    "change",
    [
        written("terragrunt.hcl", 'inputs = {}\nerrors {\n retry "x" {}\n}\nterragrunt_version_constraint = ">= 1"'),
        written("terragrunt.hcl", ""),
        written("terragrunt.hcl.json", '{"inputs": {"a": 1}}'),
    ],
)
def test_so_is_the_one_that_terraform_has_without_being_told(tmp_path: Path, change: Change) -> None:
    old_state(tmp_path)
    change(tmp_path)
    assert read_outputs(tmp_path, not_installed, no_s3).values == {"rds_host": "the old one"}


@pytest.mark.parametrize("made", [False, True])
def test_a_bucket_that_is_not_there_is_not_told_as_a_state_that_is_not(
    tmp_path: Path, cloud: LocalAws, made: bool
) -> None:
    assert cloud
    bucket = "without-a-state" if made else "not-there"
    declare(tmp_path, S3.replace("states", bucket))
    if made:
        boto3.client("s3", region_name="us-east-1").create_bucket(Bucket=bucket)
    error = ConfigurationError if made else AwsError
    with pytest.raises(error, match="There is no Terraform state" if made else "s3:GetObject: The specified bucket"):
        read_outputs(tmp_path, not_installed, lambda region: Aws(region=region, attempts=1))


@pytest.mark.parametrize(
    "text", ['{"terraform": [[{"required_version": "1"}], null]}', "[]", '[{"locals": [{"backend": "x"}]}]']
)
def test_json_that_names_no_backend_is_no_doubt(tmp_path: Path, text: str) -> None:
    old_state(tmp_path)
    (tmp_path / "a.tf.json").write_text(text)
    assert read_outputs(tmp_path, not_installed, no_s3).values == {"rds_host": "the old one"}


@BOTH
@pytest.mark.parametrize("block", ['backend "local" {}', S3], ids=["local", "s3"])
@pytest.mark.parametrize("workspace", ["../../other", "..", "a/b", "blue\n", "a b", "\udcff"])
def test_a_variable_that_holds_no_name_of_a_workspace_leads_nowhere(
    tmp_path: Path, runner: Runner, workspace: str, block: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "a" / "root"
    write_root(root, {"rds_host": "its own"})
    write_root(tmp_path / "other", {"rds_host": "another root's"})
    (root / "terraform.tfstate.d").mkdir()
    declare(root, block)
    with pytest.raises(ConfigurationError, match="TF_WORKSPACE holds no name of a workspace") as caught:
        read_outputs(root, runner, no_s3, workspace=workspace)
    assert (caught.value.exit_code, "env -u TF_WORKSPACE terraform" in (caught.value.hint or "")) == (20, True)


LOCKED: dict[str, tuple[Change, str, str | None]] = {
    "at the usual place": (old_state, ".terraform.tfstate.lock.info", None),
    "at another path": (
        then(lambda root: old_state(root, "x.tfstate"), declared(local("x.tfstate"))), ".x.tfstate.lock.info", None,
    ),
    "at another path, noted": (
        then(declared(local("x.tfstate")), noted("local", path="x.tfstate")), ".x.tfstate.lock.info", None,
    ),
    "a workspace's": (old_state, "terraform.tfstate.d/blue/.terraform.tfstate.lock.info", "blue"),
    "a workspace's elsewhere": (
        declared('backend "local" {\n workspace_dir = "w"\n}'), "w/blue/.terraform.tfstate.lock.info", "blue",
    ),
}  # fmt: skip


@BOTH
@pytest.mark.parametrize(("change", "lock", "workspace"), LOCKED.values(), ids=LOCKED.keys())
def test_a_state_is_locked_by_the_file_beside_it(
    tmp_path: Path, runner: Runner, change: Change, lock: str, workspace: str | None
) -> None:
    change(tmp_path)
    (tmp_path / lock).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / lock).write_text('{"ID": "b7f3", "Who": "alice", "Created": "2025"}')
    with pytest.raises(ConfigurationError, match="is locked by alice since 2025") as caught:
        read_outputs(tmp_path, runner, no_s3, workspace=workspace)
    assert (caught.value.hint or "").endswith(f"remove the stale lock: rm {tmp_path / lock}")


def test_a_lock_beside_another_state_is_none_of_this_one_s(tmp_path: Path) -> None:
    old_state(tmp_path, "x.tfstate")
    then(declared(local("x.tfstate")), noted("local", path="x.tfstate"))(tmp_path)
    (tmp_path / ".terraform.tfstate.lock.info").write_text("{}")
    assert read_outputs(tmp_path, not_installed, no_s3).values == {"rds_host": "the old one"}


def test_files_that_terraform_does_not_look_at_are_not_looked_at(tmp_path: Path) -> None:
    old_state(tmp_path)
    (tmp_path / ".#main.tf").symlink_to("nobody@nowhere.1")
    (tmp_path / "folder.tf").mkdir()
    (tmp_path / "notes.md").write_text('backend "s3" {')
    (tmp_path / "logs.tf").write_text('resource "aws_cloudwatch_log_group" "x" {\n  name = "x"\n}\n')
    assert read_outputs(tmp_path, not_installed, no_s3).values == {"rds_host": "the old one"}


STATES: dict[str, bytes] = {
    "as deep as a well": b'{"version": 4, "x": ' + b"[" * 100_000,
    "deep and closed": b"[" * 50_000 + b"]" * 50_000,
    "a list": b"[]",
    "null": b"null",
    "empty": b"",
    "no text": b"\xff\xfe",
    "outputs that are a list": b'{"version": 4, "outputs": []}',
    "an output that is a string": b'{"version": 4, "outputs": {"a": "b"}}',
    "outputs twice": b'{"version": 4, "outputs": {}, "outputs": {"rds_host": {"value": "b"}}}',
    "half a character": b'{"version": 4, "outputs": {"rds_host": {"value": "\\ud800"}}}',
    "half a character in a list": b'{"version": 4, "outputs": {"rds_host": {"value": ["\\udfff"]}}}',
    "NUL": b'{"version": 4, "outputs": {"rds_host": {"value": "a\\u0000b"}}}',
    "a number of 5,000 digits": b'{"version": 4, "outputs": {"rds_port": {"value": 1' + b"0" * 5000 + b"}}}",
    "no number": b'{"version": 4, "outputs": {"rds_port": {"value": NaN}}}',
    "version 3": b'{"version": 3, "modules": [], "outputs": {"a": {"value": "b"}}}',
    "version true": b'{"version": true, "outputs": {"a": {"value": "b"}}}',
}


@pytest.mark.parametrize("content", STATES.values(), ids=STATES.keys())
def test_whatever_a_state_holds_it_is_a_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "terraform.tfstate").write_bytes(content)
    with pytest.raises(ConfigurationError, match="is no Terraform state of version 4") as caught:
        read_outputs(tmp_path, not_installed, no_s3)
    assert caught.value.hint


def test_a_state_that_is_a_folder_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "terraform.tfstate").mkdir()
    with pytest.raises(ConfigurationError, match="can be read: Is a directory"):
        read_outputs(tmp_path, not_installed, no_s3)


@pytest.mark.parametrize(
    "setting", ['profile = "p"', 'assume_role = {\n  role_arn = "arn:x"\n }', 'endpoints = {\n  s3 = "http://x"\n }']
)
def test_what_needs_terraform_says_that_it_is_not_installed(tmp_path: Path, setting: str) -> None:
    declare(tmp_path, S3.replace("}", f" {setting}\n}}"))
    with pytest.raises(ConfigurationError, match="The program terraform is not installed") as caught:
        read_outputs(tmp_path, not_installed, no_s3)
    assert "which only Terraform follows" in caught.value.message
    assert caught.value.hint == f"Install Terraform 1.x, and run: terraform -chdir={tmp_path} init"


@pytest.mark.parametrize(
    ("setting", "tofus"),
    [
        *((f"bucket = {it}", True) for it in ("local.b", "var.b", '"${var.env}-states"', 'join("-", ["a", "b"])')),
        ('bucket = "b"\n key = "${path.module}/k"', True),
        ('bucket = "b"\n key = "${terraform.workspace}/k"', True),
        ('bucket = "b"\n assume_role = {\n  role_arn = local.role\n }', True),
        ('assume_role = {\n  role_arn = "x"\n }\n bucket = local.b', True),
        ('bucket = "var.b"', False),
        ('bucket = "b" # not local.b (yet)', False),
        ('bucket = "b"\n /*\n key = local.k\n */', False),
        ("bucket = <<EOT\nb\nEOT", False),
    ],
)
def test_a_backend_that_only_opentofu_evaluates_is_for_tofu(tmp_path: Path, setting: str, tofus: bool) -> None:
    declare(tmp_path, f'backend "s3" {{\n {setting}\n}}', "main.tf")
    with (tmp_path / "main.tf").open("a") as file:
        file.write('locals {\n  b = upper(var.b)\n}\noutput "x" {\n  value = local.b\n}\n')
    assert programs(tmp_path) == (("tofu",) if tofus else ("terraform", "tofu"))
    if tofus:
        with pytest.raises(ConfigurationError, match=r"is written for OpenTofu\. The program tofu is not") as caught:
            read_outputs(tmp_path, run_terraform_only, no_s3)
        assert caught.value.hint == f"Install OpenTofu, and run: tofu -chdir={tmp_path} init"


@BOTH
def test_a_byte_order_mark_before_a_file_of_terraform_s_is_no_wrong_syntax(tmp_path: Path, runner: Runner) -> None:
    old_state(tmp_path, "one.tfstate")
    (tmp_path / "backend.tf").write_text(f"\ufeffterraform {{\n{local('one.tfstate')}\n}}\n", encoding="utf-8")
    assert read_outputs(tmp_path, runner, no_s3).values == {"rds_host": "the old one"}
    (tmp_path / "secrets.tfvars").write_text('\ufeffdb_password = "x y"\n', encoding="utf-8")
    password = read_password(tmp_path)
    assert password is not None
    assert password.value.reveal() == "x y"
