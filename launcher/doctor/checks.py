"""The checks of `doctor`: credentials, Terraform, the cluster, roles, the database, the image, the log."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from launcher.aws.client import Decision
from launcher.aws.partitions import arn, service_host
from launcher.doctor import least_policy
from launcher.doctor.diagnose import Check, Fact, SkippedError, WrongError
from launcher.doctor.facts import Facts, NoRoleError
from launcher.doctor.policy_resources import PolicyResources, RdsNames, parameter_names, role_arn, secret_arn
from launcher.environment.service import platform_of
from launcher.environment.stack import CONTAINER
from launcher.errors import AccessDeniedError, AwsError, ExitCode, LauncherError, NotFoundError
from launcher.models import Identity
from launcher.task.find import find_tasks
from launcher.task.log_group import LOG_DAYS


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
        found = least_policy.lacking(named, role, facts.aws, doctor=False)
    except AccessDeniedError as error:
        raise SkippedError(f"{identity.role} may not ask IAM (iam:SimulatePrincipalPolicy)") from error
    except NotFoundError as error:
        raise SkippedError(f"IAM does not know {role}") from error
    denied = [decision for decision in found if decision.allowed is False]
    missing = {decision.action for decision in denied}
    if wanting := missing - _spared(facts):
        give = (
            "   # as the inline policy of its permission set, which alone can change this role"
            if "/aws-reserved/sso.amazonaws.com/" in role
            else f" && aws iam put-role-policy --role-name {identity.role} --policy-name neuraknot-launcher"
            " --policy-document file://policy.json"
        )
        raise WrongError(
            f"{identity.role} may not do {', '.join(sorted(wanting))}.",
            fix=_fix(
                [decision for decision in denied if decision.action in wanting],
                f"launcher iam-policy{facts.subject.options} > policy.json{give}",
            ),
            exit_code=ExitCode.AWS,
        )
    if unclear := [decision for decision in found if decision.allowed is None and decision.action not in missing]:
        raise SkippedError(_untold(identity.role, unclear))
    if missing:
        return f"{identity.role} may migrate; not, which a migration can do without: {', '.join(sorted(missing))}"
    return f"{identity.role} may do everything that the launcher needs"


def _fix(denied: Sequence[Decision], giving: str) -> str:
    """Return what helps against each denial: the command that gives permissions only where these are missing."""
    told = [f"# {remedy}" for remedy in least_policy.remedies(denied)]
    return "   ".join([giving, *told] if any(decision.remedy is None for decision in denied) else told)


def _untold(role: str, unclear: Sequence[Decision]) -> str:
    keys = sorted({key for decision in unclear for key in decision.lacks})
    actions = sorted({decision.action for decision in unclear})
    return f"IAM can't tell whether {role} may do {', '.join(actions)} without knowing {', '.join(keys)}"


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
        environment=subject.environment,
        account=identity.account,
        region=subject.region,
        cluster=subject.cluster,
        service=subject.service or "*",
        family=subject.family,
        repository=subject.repository,
        log_group=subject.log_group,
        roles=tuple(roles),
        rds=_rds(facts),
        secret=secret_arn(facts.secret) or facts.secret,
    )


def _rds(facts: Facts) -> RdsNames:
    name, host = facts.subject.db_instance, facts.subject.db_host
    try:
        # A cluster's instances are only looked at for the command that restores a snapshot.
        return RdsNames.of(name, host, replace(facts.database.get(), members=()))
    except AccessDeniedError:
        return RdsNames.of(name, host)
    except (LauncherError, SkippedError):  # its own check reports it; which permissions it takes is not known
        return RdsNames()


def _cluster(facts: Facts) -> str:
    cluster = facts.cluster.get()
    return f"{cluster['clusterName']}, ACTIVE"


def _service(facts: Facts) -> str:
    service = facts.service.get()
    return f"{service['serviceName']}, {service['runningCount']} of {service['desiredCount']} running"


def _definition(facts: Facts) -> str:
    definition = facts.definition.get()
    platform = facts.subject.platform or platform_of(definition)
    return f"{definition['taskDefinitionArn'].rsplit('/', 1)[-1]}, {platform}"


def _no_task(facts: Facts) -> str:
    facts.cluster.need("not asked, without the cluster")
    tasks = find_tasks(facts.aws, facts.subject.cluster, facts.subject.family, CONTAINER)
    running = [task for task in tasks.alive if not task.container_ended]
    if running:
        options = facts.subject.options_of_place
        raise WrongError(
            f"{len(running)} of {facts.subject.family} runs: {running[0].id} ({running[0].status}).",
            fix=f"launcher logs{options} --follow   # or launcher stop{options}",
            exit_code=4,
        )
    return f"no task of {facts.subject.family} is alive"


def _role(which: str) -> Callable[[Facts], str]:
    def look(facts: Facts) -> str:
        facts.signed_in()
        subject = facts.subject
        try:
            name = facts.role(which).rsplit("/", 1)[-1]
        except NoRoleError as error:
            if which == "task":  # only needed by programs that call AWS
                raise
            fix = f"launcher doctor{subject.options} --execution-role ARN   # aws iam list-roles --query 'Roles[].Arn'"
            raise WrongError(f"Fargate needs one: {error}.", fix=fix) from error
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


Asked = tuple[tuple[str, ...], str, Mapping[str, str]]
"""Actions, the ARN of their resource, and the condition keys of the call."""


def _allowed(purpose: str, asked: Callable[[Facts], Iterable[Asked]]) -> Callable[[Facts], str]:
    """Make a check whether the execution role may do something, as simulated by IAM."""

    def look(facts: Facts) -> str:
        facts.signed_in()
        may = list[str]()
        for actions, target, context in asked(facts):
            role = facts.role("execution")
            name = role.rsplit("/", 1)[-1]
            try:
                results = facts.aws.simulate(role, actions, [target], context)
            except AccessDeniedError as error:
                raise SkippedError("IAM does not tell this caller (iam:SimulatePrincipalPolicy)") from error
            except NotFoundError as error:
                raise SkippedError("not asked, without the execution role") from error
            if denied := [decision for decision in results if decision.allowed is False]:
                missing = [decision.action for decision in denied if decision.remedy is None]
                if missing and target.split(":")[2] == "kms":  # unlike other resources, a key mostly has such a policy
                    raise SkippedError(
                        f"{name} has no right to {missing[0]} on {target}, unless that key's own policy gives it"
                    )
                statement = {"Effect": "Allow", "Action": missing, "Resource": target}
                document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
                raise WrongError(
                    f"{name} may not do {', '.join(decision.action for decision in denied)} on {target}.",
                    fix=_fix(
                        denied,
                        f"aws iam put-role-policy --role-name {name} --policy-name migrate-{purpose} "
                        f"--policy-document '{document}'",
                    ),
                    exit_code=ExitCode.NOT_STARTED,
                )
            if unclear := [decision for decision in results if decision.allowed is None]:
                raise SkippedError(_untold(name, unclear))
            may += [action.split(":")[1] for action in actions]
        return f"may {', '.join(may)}"

    return look


def _image(facts: Facts) -> Iterator[Asked]:
    actions = ("ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer")
    yield actions, facts.arn("ecr", f"repository/{facts.subject.repository}"), {}


def _log(facts: Facts) -> Iterator[Asked]:
    actions = ("logs:CreateLogStream", "logs:PutLogEvents")
    yield actions, facts.arn("logs", f"log-group:{facts.subject.log_group}:*"), {}


def _secret(facts: Facts) -> Iterator[Asked]:
    reference = facts.secret
    if reference is None:
        raise SkippedError("the password is in no secret")
    secret = secret_arn(reference)
    yield ("ssm:GetParameters" if secret is None else "secretsmanager:GetSecretValue",), secret or reference, {}
    entry = facts.secret_entry.get() or {}
    key = str(entry.get("KmsKeyId") or entry.get("KeyId") or "alias/aws/")
    if "alias/aws/" in key:  # AWS's own keys decrypt for whoever may read the secret
        return
    if "alias/" in key:
        raise SkippedError(f"whether it may decrypt with {key} is not known: IAM knows a key by its ID")
    _, _, service, region, account, *_ = reference.split(":")
    context = {"kms:ViaService": service_host(region, service)}
    yield ("kms:Decrypt",), key if key.startswith("arn:") else arn("kms", region, account, f"key/{key}"), context


def _password(facts: Facts) -> str:
    found = facts.password.get()
    reference = found.value.reference
    if reference is None:
        return f"from {found.source}, as an override of the one run"
    entry, region, secret = facts.secret_entry.get(), reference.split(":")[3], secret_arn(reference)
    if entry is not None and entry.get("DeletedDate"):
        raise WrongError(
            f"The secret {reference} ({found.source}) is to be deleted, and nobody can read it.",
            fix=f"aws secretsmanager restore-secret --region {region} --secret-id '{secret}'",
            exit_code=ExitCode.NOT_STARTED,
        )
    if entry is None:
        put = f"aws ssm put-parameter --region {region} --type SecureString --name {parameter_names(reference)[0]}"
        raise WrongError(
            f"The secret {reference} ({found.source}) does not exist.",
            fix=f"aws secretsmanager list-secrets --region {region}   # then --db-password-secret ARN"
            if secret
            else f"{put} --value ...",
            exit_code=ExitCode.NOT_STARTED,
        )
    return f"{reference}, from {found.source}"


def _database(facts: Facts) -> str:
    database, subject = facts.database.get(), facts.subject
    if "postgres" not in database.engine:
        raise WrongError(
            f"{database.name} is {database.engine}, not PostgreSQL.",
            fix=f"launcher doctor{subject.options} --db-instance NAME --db-host HOST",
            exit_code=ExitCode.DATABASE_UNREACHABLE,
        )
    host = subject.db_host
    if host is not None and database.hosts and not database.is_at(host):
        raise WrongError(
            f"{database.name} answers at {database.hosts[0]}, and the task would connect to {host}.",
            fix=f"{subject.apply}   # or --db-host {database.hosts[0]}"
            if subject.apply
            else f"launcher doctor{subject.options} --db-host {database.hosts[0]}",
            exit_code=ExitCode.DATABASE_UNREACHABLE,
        )
    if database.source is not None:
        raise WrongError(
            f"{database.name} is a read replica of {database.source}: a migration writes.",
            fix=f"launcher doctor{subject.options} --db-host HOST   # of {database.source}",
            exit_code=ExitCode.DATABASE_UNREACHABLE,
        )
    if database.service == "unknown":
        raise SkippedError(f"{database.name} is {database.status}: whether it answers then is not known")
    if database.service != "serving":
        raise WrongError(
            f"{database.name} is {database.status}"
            + (", and may not answer for a while." if database.service == "disturbed" else "."),
            fix=database.remedy(subject.region),
            exit_code=0 if database.service == "disturbed" else ExitCode.DATABASE_UNREACHABLE,
        )
    kind = "" if database.kind == "instance" else f", a cluster of {len(database.members)}"
    return f"{database.name}{kind}, PostgreSQL {database.version}, {database.status}"


def _image_repository(facts: Facts) -> str:
    facts.signed_in()
    repository = facts.repository.get()
    if repository is None:
        return f"{facts.subject.repository} is not there yet; the first run makes it"
    name, frequency = facts.subject.repository, facts.aws.scan_frequency(facts.subject.repository)
    if frequency is None:
        raise SkippedError(f"{repository['repositoryUri']}; ECR does not say whether it scans pushed images")
    if frequency == "MANUAL":
        own = repository.get("imageScanningConfiguration", {}).get("scanOnPush")
        raise WrongError(
            f"Images pushed to {name} are scanned by its own setting only, which AWS deprecates: the registry has no"
            " rule about it."
            if own
            else f"Images pushed to {name} are not scanned: the registry has no rule about it.",
            fix=_scanning(facts, name),
            exit_code=0,
        )
    return f"{repository['repositoryUri']}, {frequency.lower().replace('_', ' ')}"


def _scanning(facts: Facts, repository: str) -> str:
    """Return the command that has pushed images scanned; it replaces all rules, so it repeats those of others."""
    region = facts.subject.region
    try:
        found = facts.aws.registry_scanning()
    except AwsError:  # the finding stands without them
        look = f"aws ecr get-registry-scanning-configuration --region {region}"
        return f"{look}   # then put-registry-scanning-configuration, with these rules and one for {repository}"
    rules = {rule["scanFrequency"]: [*rule["repositoryFilters"]] for rule in found.get("rules", [])}
    rules.setdefault("SCAN_ON_PUSH", []).append({"filter": repository, "filterType": "WILDCARD"})
    told = [{"scanFrequency": frequency, "repositoryFilters": filters} for frequency, filters in rules.items()]
    return (
        f"aws ecr put-registry-scanning-configuration --region {region} "
        f"--scan-type {found.get('scanType', 'BASIC')} --rules '{json.dumps(told)}'"
    )


def _log_group(facts: Facts) -> str:
    facts.signed_in()
    group = facts.log_group.get()
    if group is None:
        return f"{facts.subject.log_group} is not there yet; the first run makes it"
    name, days = facts.subject.log_group, group.get("retentionInDays")
    if (kind := group.get("logGroupClass", "STANDARD")) != "STANDARD":
        raise SkippedError(
            f"{name} is of the class {kind}, which can't be changed: whether its lines can be read is not known"
        )
    if not days:
        raise WrongError(
            f"{name} is kept for ever, and grows with each run.",
            fix=f"aws logs put-retention-policy --region {facts.subject.region} --log-group-name {name} "
            f"--retention-in-days {LOG_DAYS}",
            exit_code=0,
        )
    return f"{name}, kept {days} days"


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
