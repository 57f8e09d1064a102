"""The checks of `doctor`: credentials, Terraform, the cluster, roles, the database, the image, the log."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from launcher.doctor import least_policy
from launcher.doctor.diagnose import Check, Fact, SkippedError, WrongError
from launcher.doctor.facts import Facts
from launcher.doctor.policy_resources import PolicyResources, role_arn, secret_arn
from launcher.environment.stack import CONTAINER
from launcher.errors import AccessDeniedError, ExitCode, LauncherError, NotFoundError
from launcher.models import Identity
from launcher.task.find import find_tasks


def _credentials(facts: Facts) -> str:
    identity = facts.identity.get()
    return f"account {identity.account} as {identity.role}, {facts.subject.region}"


def _terraform(facts: Facts) -> str:
    if facts.subject.terraform is None:
        raise SkippedError("not used")
    return facts.subject.terraform()


def _permissions(facts: Facts) -> str:
    facts.signed_in()
    identity = facts.identity.get()
    role = _own_role(facts, identity)
    named = _named(facts, identity)
    try:
        missing = {action for action, _ in least_policy.lacking(named, role, facts.aws, doctor=False)}
    except AccessDeniedError as error:
        raise SkippedError(f"{identity.role} may not ask IAM (iam:SimulatePrincipalPolicy)") from error
    except NotFoundError as error:
        raise SkippedError(f"IAM does not know {role}") from error
    if wanting := missing - _spared(facts):
        give = (
            "   # as the inline policy of its permission set, which alone can change this role"
            if "/aws-reserved/sso.amazonaws.com/" in role
            else f" && aws iam put-role-policy --role-name {identity.role} --policy-name neuraknot-launcher"
            " --policy-document file://policy.json"
        )
        raise WrongError(
            f"{identity.role} may not do {', '.join(sorted(wanting))}.",
            fix=f"launcher iam-policy{facts.subject.options} > policy.json{give}",
            exit_code=ExitCode.AWS,
        )
    if missing:
        return f"{identity.role} may migrate; not, which a migration can do without: {', '.join(sorted(missing))}"
    return f"{identity.role} may do everything that the launcher needs"


def _own_role(facts: Facts, identity: Identity) -> str:
    """Return the ARN of the caller's role. SSO roles have a path, which only IAM knows: a session's ARN has none."""
    pathless = role_arn(identity, facts.subject.region)
    if pathless is None:
        raise SkippedError(f"{identity.role} is not a role, and only a role's permissions can be simulated")
    try:
        return facts.aws.role_arn(identity.role) or pathless
    except AccessDeniedError:
        return pathless


def _spared(facts: Facts) -> frozenset[str]:
    """Return actions that a migration of this stack can do without: for snapshots, and to create what exists."""
    spared = set(least_policy.SNAPSHOT_ONLY)
    made: tuple[tuple[Fact[Any], tuple[str, ...]], ...] = (
        (facts.repository, ("ecr:CreateRepository",)),
        (facts.log_group, ("logs:CreateLogGroup", "logs:PutRetentionPolicy")),
    )
    for fact, actions in made:
        try:
            spared.update(actions if fact.get() is not None else ())
        except LauncherError:  # its own check reports it; it may not exist
            continue
    return frozenset(spared)


def _named(facts: Facts, identity: Identity) -> PolicyResources:
    subject = facts.subject
    roles = []
    for which in ("execution", "task"):
        try:
            roles.append(facts.role(which))
        except SkippedError:
            continue
    if not roles:
        raise SkippedError("not known, without the task's roles")
    return PolicyResources(
        account=identity.account,
        region=subject.region,
        cluster=subject.cluster,
        service=subject.service or "*",
        family=subject.family,
        repository=subject.repository,
        log_group=subject.log_group,
        roles=tuple(roles),
        db_instance=subject.db_instance,
        secret=secret_arn(facts.secret),
    )


def _cluster(facts: Facts) -> str:
    cluster = facts.cluster.get()
    return f"{cluster['clusterName']}, ACTIVE"


def _service(facts: Facts) -> str:
    service = facts.service.get()
    return f"{service['serviceName']}, {service['runningCount']} of {service['desiredCount']} running"


def _definition(facts: Facts) -> str:
    definition = facts.definition.get()
    architecture = definition.get("runtimePlatform", {}).get("cpuArchitecture", "X86_64")
    return f"{definition['taskDefinitionArn'].rsplit('/', 1)[-1]}, {architecture}"


def _no_task(facts: Facts) -> str:
    facts.cluster.need("not asked, without the cluster")
    tasks = find_tasks(facts.aws, facts.subject.cluster, facts.subject.family, CONTAINER)
    running = [task for task in tasks.alive if not task.container_ended]
    if running:
        raise WrongError(
            f"{len(running)} of {facts.subject.family} runs: {running[0].id} ({running[0].status}).",
            fix=f"launcher logs{facts.subject.options} --follow   # or launcher stop{facts.subject.options}",
            exit_code=4,
        )
    return f"no task of {facts.subject.family} is alive"


def _role(which: str) -> Callable[[Facts], str]:
    def look(facts: Facts) -> str:
        facts.signed_in()
        name, subject = facts.role(which).rsplit("/", 1)[-1], facts.subject
        if facts.aws.role_arn(name) is None:
            given = subject.execution_role if which == "execution" else subject.task_role
            listing = f"aws iam list-roles --query 'Roles[].Arn'   # then --{which}-role ARN"
            raise WrongError(
                f"The {which} role {name} does not exist.",
                fix=listing if given or subject.apply is None else subject.apply,
                exit_code=ExitCode.NOT_STARTED,
            )
        return name

    return look


Asked = tuple[tuple[str, ...], str]
"""Actions, and the ARN of their resource."""


def _allowed(purpose: str, asked: Callable[[Facts], Asked]) -> Callable[[Facts], str]:
    """Make a check whether the execution role may do something, as simulated by IAM."""

    def look(facts: Facts) -> str:
        facts.signed_in()
        actions, target = asked(facts)
        role = facts.role("execution")
        try:
            results = facts.aws.simulate(role, actions, [target])
        except AccessDeniedError as error:
            raise SkippedError("IAM does not tell this caller (iam:SimulatePrincipalPolicy)") from error
        except NotFoundError as error:
            raise SkippedError("not asked, without the execution role") from error
        denied = [result["EvalActionName"] for result in results if result["EvalDecision"] != "allowed"]
        if denied:
            name = role.rsplit("/", 1)[-1]
            statement = {"Effect": "Allow", "Action": denied, "Resource": target}
            document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
            raise WrongError(
                f"{name} may not do {', '.join(denied)} on {target}.",
                fix=f"aws iam put-role-policy --role-name {name} --policy-name migrate-{purpose} "
                f"--policy-document '{document}'",
                exit_code=ExitCode.NOT_STARTED,
            )
        return f"may {', '.join(action.split(':')[1] for action in actions)}"

    return look


def _image(facts: Facts) -> Asked:
    return ("ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"), facts.arn(
        "ecr", f"repository/{facts.subject.repository}"
    )


def _log(facts: Facts) -> Asked:
    return ("logs:CreateLogStream", "logs:PutLogEvents"), facts.arn("logs", f"log-group:{facts.subject.log_group}:*")


def _secret(facts: Facts) -> Asked:
    reference = facts.secret
    if reference is None:
        raise SkippedError("the password is in no secret")
    arn = secret_arn(reference)
    if arn is not None:
        return ("secretsmanager:GetSecretValue",), arn
    return ("ssm:GetParameters",), reference


def _password(facts: Facts) -> str:
    found = facts.password.get()
    reference, region = found.value.reference, facts.subject.region
    if reference is None:
        return f"from {found.source}, as an override of the one run"
    arn = secret_arn(reference)
    if arn is not None:
        known = facts.aws.secret_exists(arn)
        fix = f"aws secretsmanager list-secrets --region {region}   # then --db-password-secret ARN"
    else:
        path = reference.split(":parameter", 1)[-1]
        # A name with a slash inside also begins with one; without one, the ARN does not show whether it does.
        name = path if "/" in path[1:] else path[1:]
        known = facts.aws.parameter_exists(name, path)
        fix = f"aws ssm put-parameter --region {region} --type SecureString --name {name} --value ..."
    if not known:
        raise WrongError(
            f"The secret {reference} ({found.source}) does not exist.", fix=fix, exit_code=ExitCode.NOT_STARTED
        )
    return f"{reference}, from {found.source}"


def _database(facts: Facts) -> str:
    instance, subject = facts.database.get(), facts.subject
    name, status = instance["DBInstanceIdentifier"], instance["DBInstanceStatus"]
    if status != "available":
        begin = f"aws rds start-db-instance --region {subject.region} --db-instance-identifier {name}"
        wait = f"aws rds wait db-instance-available --region {subject.region} --db-instance-identifier {name}"
        raise WrongError(
            f"{name} is {status}.",
            fix=f"{begin} && {wait}" if status == "stopped" else wait,
            exit_code=ExitCode.DATABASE_UNREACHABLE,
        )
    host = instance.get("Endpoint", {}).get("Address")
    if subject.db_host is not None and host != subject.db_host:
        raise WrongError(
            f"{name} answers at {host}, and the task would connect to {subject.db_host}.",
            fix=f"{subject.apply}   # or --db-host {host}"
            if subject.apply
            else f"launcher doctor{subject.options} --db-host {host}",
            exit_code=ExitCode.DATABASE_UNREACHABLE,
        )
    return f"{name}, PostgreSQL {instance['EngineVersion']}, available"


def _image_repository(facts: Facts) -> str:
    facts.signed_in()
    repository = facts.repository.get()
    if repository is None:
        return f"{facts.subject.repository} is not there yet; the first run makes it"
    return str(repository["repositoryUri"])


def _log_group(facts: Facts) -> str:
    facts.signed_in()
    group = facts.log_group.get()
    if group is None:
        return f"{facts.subject.log_group} is not there yet; the first run makes it"
    days = group.get("retentionInDays")
    return f"{facts.subject.log_group}, kept {f'{days} days' if days else 'for ever'}"


CHECKS: tuple[Check[Facts], ...] = (
    Check("Caller", "credentials", _credentials),
    Check("Caller", "permissions", _permissions),
    Check("Caller", "Terraform", _terraform),
    Check("ECS", "cluster", _cluster),
    Check("ECS", "service", _service),
    Check("ECS", "definition", _definition),
    Check("ECS", "no other task", _no_task),
    Check("Roles", "execution role", _role("execution")),
    Check("Roles", "task role", _role("task")),
    Check("Roles", "pulls the image", _allowed("image", _image)),
    Check("Roles", "writes the log", _allowed("log", _log)),
    Check("Roles", "reads the secret", _allowed("secret", _secret)),
    Check("Database", "instance", _database),
    Check("Database", "password", _password),
    Check("Image and log", "repository", _image_repository),
    Check("Image and log", "log group", _log_group),
)
