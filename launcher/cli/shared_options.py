"""What all commands share: their options, declared once, and the errors that become messages and exit codes."""

from __future__ import annotations

import contextlib
import inspect
import shlex
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from launcher.cli import pairs, run_options
from launcher.cli.run_options import RunOptions
from launcher.environment import forms, tls
from launcher.errors import LauncherError, UsageError

# Imported where used, so that --help does not wait for what only a run needs.
if TYPE_CHECKING:
    from launcher.aws.client import Aws
    from launcher.cli.console import Console
    from launcher.cli.dependencies import Dependencies
    from launcher.environment.options import Options
    from launcher.models import Sourced

_TRUE = {"1", "true", "t", "yes", "y", "on"}
_STACK = "Stack: what Terraform gives otherwise"
_NETWORK = "Network and roles: what the running service gives otherwise"
_DATABASE = "Database: what Terraform gives otherwise"
_PANELS = (None, run_options.RESET, run_options.TASK, _STACK, _NETWORK, _DATABASE, run_options.RARE)
"""The groups of options in a command's help, from the top down."""


def _given(flag: str, variable: str, metavar: str, text: str, panel: str) -> Any:
    return typer.Option(flag, envvar=variable, metavar=metavar, help=text, rich_help_panel=panel, show_default=False)


def _flag(name: str, value: Any) -> str:
    return f"--{'no-' if value is False else ''}{name.replace('_', '-')}"


def _flags(name: str, kind: type) -> str:
    return f"{_flag(name, True)}/{_flag(name, False)}" if kind is bool else _flag(name, None)


# Name, type and default of each; the annotation has the spelling on the command line.
_SHARED: tuple[tuple[str, Any, Any], ...] = (
    (
        "environment",
        Annotated[
            str,
            typer.Option(
                "--environment", "-e", envvar="NEURAKNOT_ENV", metavar="NAME", help="dev, prod, or another name."
            ),
        ],
        "dev",
    ),
    (
        "profile",
        Annotated[
            str | None,
            typer.Option(
                "--profile",
                metavar="NAME",
                help="The AWS profile; else AWS's own order: keys in variables, AWS_PROFILE.",
            ),
        ],
        None,
    ),
    (
        "region",
        Annotated[
            str | None,
            typer.Option(
                "--region", envvar=["AWS_REGION", "AWS_DEFAULT_REGION"], metavar="REGION", help="The AWS region."
            ),
        ],
        None,
    ),
    (
        "json",
        Annotated[bool, typer.Option("--json", envvar="NEURAKNOT_JSON", help="One JSON object on standard output.")],
        False,
    ),
    (
        "root",
        Annotated[
            Path,
            typer.Option(
                "--root",
                envvar="NEURAKNOT_ROOT",
                metavar="FOLDER",
                help="The project's root: Dockerfile.migrate, terraform/environments.",
            ),
        ],
        Path(),
    ),
    (
        "terraform_dir",
        Annotated[
            Path | None,
            _given(
                "--terraform-dir",
                "NEURAKNOT_TERRAFORM_DIR",
                "FOLDER",
                "The Terraform root, if it is elsewhere.",
                _STACK,
            ),
        ],
        None,
    ),
    (
        "project",
        Annotated[
            str, _given("--project", "NEURAKNOT_PROJECT", "NAME", "What every name begins with (neuraKnot).", _STACK)
        ],
        "neuraKnot",
    ),
)
_GIVEN: tuple[tuple[str, Any], ...] = tuple(
    (name, Annotated[kind | None, _given(_flags(name, kind), f"NEURAKNOT_{name.upper()}", metavar, text, panel)])
    for name, kind, panel, metavar, text in (
        ("account", str, _STACK, "ACCOUNT", "The AWS account that it must be."),
        ("cluster", str, _STACK, "NAME", "The ECS cluster."),
        ("service", str, _NETWORK, "NAME", "The service whose network and roles are used."),
        ("subnets", str, _NETWORK, "ID,ID", "The task's subnets, with commas."),
        ("security_groups", str, _NETWORK, "ID,ID", "The task's security groups, with commas."),
        ("public_ip", bool, _NETWORK, "", "Whether the task gets a public address."),
        ("execution_role", str, _NETWORK, "ARN", "ARN of the role that pulls the image and reads the secret."),
        ("task_role", str, _NETWORK, "ARN", "ARN of the role of the program itself."),
        ("platform", str, _NETWORK, "PLATFORM", "linux/amd64 or linux/arm64."),
        ("db_host", str, _DATABASE, "HOST", "The database's host."),
        ("db_port", int, _DATABASE, "PORT", "Its port."),
        ("db_name", str, _DATABASE, "NAME", "The database's name."),
        ("db_user", str, _DATABASE, "USER", "The database's user."),
        ("db_sslmode", str, _DATABASE, "MODE", "libpq's sslmode (require)."),
        ("db_sslrootcert", str, _DATABASE, "FILE", "The authority's certificate in the image, for verify-full."),
        (
            "db_password_secret",
            str,
            _DATABASE,
            "ARN",
            "Secrets Manager or SSM ARN of the password; else DB_PASSWORD or TF_VAR_db_password, for any user; else the"
            " secret that Terraform or RDS names, else secrets.tfvars (RDS's secret and that file for the master user"
            " only, and Terraform's for its own host only).",
        ),
        ("db_instance", str, _DATABASE, "NAME", "The RDS instance or cluster, for its secret and snapshots."),
    )
)
_SECRETS = ("DB_PASSWORD", "TF_VAR_db_password", "PGPASSWORD", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
"""Variables that must never be shown; the launcher itself does not read the last three."""

NO_STACK = frozenset({"environment", "json", "root"})
"""The options of a command that works on no stack."""
PLACE = NO_STACK | {"profile", "region", "terraform_dir", "project", "cluster"}
"""The options that say where tasks run, which is all that a command needs to look at them."""
_LISTS = {"subnets": "subnet", "security_groups": "security group"}


@dataclass(frozen=True)
class Common:
    """The input of every command.

    Attributes:
        options: the stack's options.
        dependencies: the collaborators.
        console: where all output goes.
        shown: this command line's options that any command on the same stack takes, quoted for a shell.
        run: how to run a task, for a command that does.
    """

    options: Options
    dependencies: Dependencies
    console: Console
    shown: str
    run: RunOptions = field(default_factory=RunOptions)

    def aws(self, region: str | None) -> Aws:
        """Return the clients for a region; finding their credentials may ask on the terminal."""
        aws = self.dependencies.aws(self.options.profile, region)
        aws.prompting = self.console.prompting
        return aws


def with_shared_options(
    command: Callable[..., int], *, takes: frozenset[str] | None = None, runs: bool = False
) -> Callable[..., None]:
    """Make a typer command from a function that takes a `Common` first and returns an exit code.

    It gets the shared options besides its own; its errors are shown on the console and become exit codes.

    Args:
        command: the function.
        takes: which of the shared options it has: `PLACE` or `NO_STACK`; all by default.
        runs: whether it runs a task, and so has the options for that.
    """
    signature = inspect.signature(command, eval_str=True)
    own = list(signature.parameters.values())[1:]
    keyword = inspect.Parameter.KEYWORD_ONLY
    options = (*_SHARED, *((name, kind, None) for name, kind in _GIVEN))
    taken = [each for each in options if takes is None or each[0] in takes]
    absent = {name: value for name, _, value in options if takes is not None and name not in takes}
    shared = [
        inspect.Parameter(name, keyword, annotation=kind, default=value)
        for name, kind, value in (*(run_options.OPTIONS if runs else ()), *taken)
    ]
    context = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    listed = sorted((*(parameter.replace(kind=keyword) for parameter in own), *shared), key=_order)
    parameters = [context, *listed]

    def run(context: typer.Context, **values: Any) -> None:
        from launcher.cli.dependencies import Dependencies

        dependencies = context.obj if isinstance(context.obj, Dependencies) else Dependencies()
        console = dependencies.make_console(values["json"])
        for variable in _SECRETS:
            console.redactor.hide(dependencies.environ.get(variable))
        _redact_tracebacks(console)
        try:
            with dependencies.interrupts.handled():
                by_variable = _by_variable(context, dependencies)
                values = pairs.settled(values, by_variable, console.notice)
                common = _common(context, {**absent, **values}, dependencies, console)
                if runs:
                    common = replace(common, run=run_options.read(values, by_variable))
                code = command(common, **{parameter.name: values[parameter.name] for parameter in own})
        except LauncherError as error:
            code = _said(context, console, error)
        raise typer.Exit(code)

    run.__name__ = command.__name__
    run.__doc__ = command.__doc__
    run.__signature__ = signature.replace(parameters=parameters, return_annotation=None)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _order(parameter: inspect.Parameter) -> tuple[int, bool]:
    """Return where an option stands in the help: in the order of the groups, the environment first."""
    panel = parameter.annotation.__metadata__[0].rich_help_panel
    return _PANELS.index(panel), parameter.name != "environment"


def _redact_tracebacks(console: Console) -> None:
    """Filter the tracebacks of our own bugs too."""

    def show(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
        with contextlib.suppress(OSError, ValueError):  # the reader may be gone
            sys.stderr.write(console.filtered("".join(traceback.format_exception(kind, error, trace))))

    sys.excepthook = show


def _common(context: typer.Context, values: dict[str, Any], dependencies: Dependencies, console: Console) -> Common:
    from launcher.environment.options import Options
    from launcher.models import Sourced
    from launcher.terraform.backend import redirection

    def sourced(name: str, value: Any) -> Sourced[Any]:
        source = _source(context, name, value, dependencies)
        found = Sourced(_read(name, value, source), source)
        forms.check(name, found, UsageError)
        return found

    given = {name: sourced(name, values[name]) for name, _ in _GIVEN if values[name] not in (None, "")}
    tls.check(given)
    if values["region"]:
        given["region"] = sourced("region", values["region"])
    directory = values["terraform_dir"]
    options = Options(
        environment=sourced("environment", values["environment"]).value,
        given=given,
        project=sourced("project", values["project"]).value,
        root=values["root"],
        terraform_dir=sourced("terraform_dir", directory) if directory else None,
        workspace=dependencies.environ.get("TF_WORKSPACE") or None,
        redirected=redirection(dependencies.environ),
        profile=values["profile"] or None,
    )
    console.shown, console.shown_of_place = _shown(context, values), _shown(context, values, PLACE)
    return Common(options, dependencies, console, console.shown)


def _by_variable(context: typer.Context, dependencies: Dependencies) -> dict[str, str]:
    """Return the options that a variable sets, each with the variable."""
    sources = ((name, context.get_parameter_source(name)) for name in context.params)
    found = (name for name, source in sources if source is not None and source.name == "ENVIRONMENT")
    return {name: _source(context, name, None, dependencies) for name in found}


def _shown(context: typer.Context, values: dict[str, Any], taken: frozenset[str] | None = None) -> str:
    """Return the environment and the shared options given on this command line; those from variables persist.

    `taken` has the options of the command that gets them, if those are not all.
    """
    words = ["--environment", values["environment"]]
    for name in (shared[0] for shared in (*_SHARED, *_GIVEN)):
        source = context.get_parameter_source(name)
        if source is None or source.name != "COMMANDLINE" or name in ("environment", "json"):
            continue
        if taken is not None and name not in taken:
            continue
        value = values[name]
        words += [_flag(name, value), *([] if isinstance(value, bool) else [str(value)])]
    return shlex.join(words)


def _source(context: typer.Context, name: str, value: Any, dependencies: Dependencies) -> str:
    source = context.get_parameter_source(name)
    if source is not None and source.name == "ENVIRONMENT":
        parameter = next(parameter for parameter in context.command.params if parameter.name == name)
        variables = [parameter.envvar] if isinstance(parameter.envvar, str) else list(parameter.envvar or ())
        return next((variable for variable in variables if dependencies.environ.get(variable)), variables[0])
    return _flag(name, value)


def _read(name: str, value: Any, source: str) -> Any:
    if name in _LISTS:
        items = tuple(item.strip() for item in value.split(",") if item.strip())
        if not items:
            raise UsageError(f"{source} {value!r} names no {_LISTS[name]}.", hint=f"Give {_flag(name, value)} ID,ID")
        return items
    if name == "db_password_secret":
        from launcher.environment.password import ARN_HINT, is_secret_arn

        if not is_secret_arn(value):  # not repeated: it may be the password itself
            raise UsageError(f"{source} is not the ARN of a secret or a parameter.", hint=ARN_HINT)
    return value


def failed(context: Any, error: UsageError, arguments: list[str]) -> int:
    """Report an error in a command line before its options are parsed.

    Args:
        context: the command's typer context.
        error: what is wrong.
        arguments: the command line, which may contain `--json`.

    Returns:
        The exit code.
    """
    from launcher.cli.dependencies import Dependencies

    dependencies = context.obj if isinstance(context.obj, Dependencies) else Dependencies()
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    by_variable = dependencies.environ.get("NEURAKNOT_JSON", "").lower() in _TRUE
    return _said(context, dependencies.make_console("--json" in options or by_variable), error)


def _said(context: typer.Context, console: Console, error: LauncherError) -> int:
    console.failure(error)
    if console.json and not console.answered:
        from launcher.cli.report import result_object
        from launcher.launch.execute import Launch

        console.result(result_object(Launch(), command=context.info_name or "", error=error))
    return error.exit_code
