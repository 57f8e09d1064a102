"""The input of the checks: what is examined, and facts from AWS, each looked up once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from launcher.aws.client import Aws
from launcher.aws.partitions import arn
from launcher.doctor.diagnose import Fact, SkippedError, WrongError
from launcher.doctor.policy_resources import parameter_names, secret_arn
from launcher.environment.rds import RdsDatabase, find_rds, other_region
from launcher.environment.service import as_deployed
from launcher.errors import LauncherError
from launcher.models import Identity, Password, Sourced

if TYPE_CHECKING:
    from mypy_boto3_ecr.type_defs import RepositoryTypeDef
    from mypy_boto3_ecs.type_defs import ClusterTypeDef, TaskDefinitionTypeDef
    from mypy_boto3_logs.type_defs import LogGroupTypeDef


@dataclass(frozen=True)
class Subject:
    """What is examined. None means not named: taken from the running service, or not examined.

    Attributes:
        environment: `dev`, `prod`, or any other name.
        region: such as `ap-northeast-1`.
        cluster, service, family, repository, log_group: names.
        subnets, security_groups, assign_public_ip: the task's network.
        platform: of the image; only a service on Linux tells it.
        execution_role, task_role: ARNs.
        db_instance: the identifier of the RDS instance or cluster.
        db_host, db_port: where the task will connect.
        identify: returns the caller's identity, or raises if the credentials are wrong.
        password: returns how the container gets the password, or raises if there is none.
        terraform: says which values Terraform gave, or raises what is wrong with them; None without Terraform.
        apply: the command that applies Terraform; None if Terraform is not used.
        options: the launcher's own options, for the proposed commands.
        options_of_place: those of them that `logs` and `stop` take.
    """

    environment: str
    region: str
    cluster: str
    service: str | None
    family: str
    repository: str
    log_group: str
    subnets: tuple[str, ...] | None = None
    security_groups: tuple[str, ...] | None = None
    assign_public_ip: bool | None = None
    platform: str | None = None
    execution_role: str | None = None
    task_role: str | None = None
    db_instance: str | None = None
    db_host: str | None = None
    db_port: int = 5432
    identify: Callable[[Aws], Identity] = lambda aws: aws.identity()
    password: Callable[[Aws], Sourced[Password]] | None = None
    terraform: Callable[[], str] | None = None
    apply: str | None = None
    options: str = ""
    options_of_place: str = ""


class NoRoleError(SkippedError):
    """The service's task definition names no such role, as on EC2, and the caller none either."""


@dataclass(frozen=True)
class Network:
    """The network that the task will run in.

    Attributes:
        subnets, security_groups: IDs.
        public_ip: whether the task gets a public IP.
    """

    subnets: tuple[str, ...]
    security_groups: tuple[str, ...]
    public_ip: bool


@dataclass
class Facts:
    """The facts for the checks; each is looked up once, and only if a check needs it."""

    subject: Subject
    aws_for: Callable[[str], Aws]
    aws: Aws = field(init=False)
    identity: Fact[Identity] = field(init=False)
    cluster: Fact[ClusterTypeDef] = field(init=False)
    service: Fact[Mapping[str, Any]] = field(init=False)
    definition: Fact[TaskDefinitionTypeDef] = field(init=False)
    network: Fact[Network] = field(init=False)
    database: Fact[RdsDatabase] = field(init=False)
    password: Fact[Sourced[Password]] = field(init=False)
    secret_entry: Fact[Mapping[str, Any] | None] = field(init=False)
    repository: Fact[RepositoryTypeDef | None] = field(init=False)
    log_group: Fact[LogGroupTypeDef | None] = field(init=False)

    def __post_init__(self) -> None:
        """Define the lookups; AWS is not called yet."""
        self.aws = self.aws_for(self.subject.region)
        self.identity = Fact(lambda: self.subject.identify(self.aws))
        self.cluster = Fact(self._cluster)
        self.service = Fact(self._service)
        self.definition = Fact(self._definition)
        self.network = Fact(self._network)
        self.database = Fact(self._database)
        self.password = Fact(self._password)
        self.secret_entry = Fact(self._secret_entry)
        self.repository = Fact(lambda: self.aws.repository(self.subject.repository))
        self.log_group = Fact(lambda: self.aws.log_group(self.subject.log_group))

    def signed_in(self) -> None:
        """Raise SkippedError if the credentials do not work."""
        self.identity.need("not asked, without credentials")

    def role(self, which: str) -> str:
        """Return the ARN of the `execution` or the `task` role.

        Raises:
            NoRoleError: there is none.
            SkippedError: it is not known.
        """
        given = self.subject.execution_role if which == "execution" else self.subject.task_role
        if given is not None:
            return given
        definition = self.definition.need("not known, since the service's task definition can't be read")
        role = definition.get("executionRoleArn") if which == "execution" else definition.get("taskRoleArn")
        if role is None:
            raise NoRoleError(f"the service's task definition names no {which} role")
        return role

    def _cluster(self) -> ClusterTypeDef:
        self.signed_in()
        name, region = self.subject.cluster, self.subject.region
        cluster = self.aws.cluster(name)
        if cluster is None or cluster.get("status") != "ACTIVE":
            state = "is not there" if cluster is None else f"is {cluster.get('status')}"
            raise WrongError(
                f"The cluster {name} {state} in {self.identity.get().account}, {region}.",
                fix=f"aws ecs list-clusters --region {region}   # then --cluster NAME, --profile or --region",
            )
        return cluster

    def _service(self) -> Mapping[str, Any]:
        if self.subject.service is None:
            raise SkippedError("no service is named; network and roles are given as options")
        self.cluster.need("not asked, without the cluster")
        name, cluster, region = self.subject.service, self.subject.cluster, self.subject.region
        service = self.aws.service(cluster, name)
        if service is None or service.get("status") != "ACTIVE":
            state = "is not there" if service is None else f"is {service.get('status')}"
            raise WrongError(
                f"The service {name} {state} in {cluster}.",
                fix=f"aws ecs list-services --region {region} --cluster {cluster}   # then --service NAME",
            )
        return as_deployed(service)

    def _definition(self) -> TaskDefinitionTypeDef:
        service = self.service.need("not asked, without the service")
        name = service["taskDefinition"]
        definition = self.aws.task_definition(name)
        if definition is None:
            raise WrongError(
                f"The task definition {name}, which the service runs, is not there.",
                fix=f"aws ecs describe-services --region {self.subject.region} --cluster {self.subject.cluster} "
                f"--services {self.subject.service}",
            )
        return definition

    def _network(self) -> Network:
        subject = self.subject
        if subject.subnets is not None and subject.security_groups is not None:
            return Network(subject.subnets, subject.security_groups, subject.assign_public_ip or False)
        service = self.service.need("not known, without the service")
        config = service.get("networkConfiguration", {}).get("awsvpcConfiguration")
        if config is None:
            raise WrongError(
                f"The service {subject.service} has no network of its own (it is not awsvpc).",
                fix=f"launcher doctor{subject.options} --subnets subnet-... --security-groups sg-...",
            )
        public = config.get("assignPublicIp") == "ENABLED"
        return Network(
            subject.subnets or tuple(config["subnets"]),
            subject.security_groups or tuple(config.get("securityGroups", ())),
            public if subject.assign_public_ip is None else subject.assign_public_ip,
        )

    def arn(self, service: str, resource: str) -> str:
        """Return the ARN of a resource in this account and region.

        Raises:
            SkippedError: the account is not known.
        """
        account = self.identity.need("not asked, without credentials").account
        return arn(service, self.subject.region, account, resource)

    @property
    def secret(self) -> str | None:
        """The password's reference in the form of `valueFrom`; None if it is not in a secret, or not known."""
        try:
            return self.password.get().value.reference
        except (LauncherError, SkippedError):
            return None

    def _password(self) -> Sourced[Password]:
        if self.subject.password is None:
            raise SkippedError("not looked for")
        self.signed_in()
        return self.subject.password(self.aws)

    def _secret_entry(self) -> Mapping[str, Any] | None:
        """Return what its region says of the password's secret or parameter, not its value; None if there is none."""
        reference = self.password.get().value.reference
        if reference is None:
            raise SkippedError("the password is in no secret")
        region, account = reference.split(":")[3:5]
        if account != self.identity.get().account:
            raise SkippedError(f"{reference} is of another account, {account}, where it can't be looked at")
        aws = self.aws if region == self.subject.region else self.aws_for(region)
        arn = secret_arn(reference)
        found = aws.parameter(*parameter_names(reference)) if arn is None else aws.secret(arn)
        return None if found is None else dict(found)

    def _database(self) -> RdsDatabase:
        self.signed_in()
        name, region = self.subject.db_instance, self.subject.region
        if name is None:
            raise SkippedError("the host names no instance or cluster of RDS, and the caller none (--db-instance)")
        if there := other_region(self.subject.db_host, region):
            raise SkippedError(f"{self.subject.db_host} is in {there}, and only {region} is looked at (--region)")
        found = find_rds(self.aws, name, self.subject.db_host)
        if found is None:
            raise WrongError(
                f"There is no RDS instance or cluster {name} in {region}.",
                fix=f"aws rds describe-db-instances --region {region} --query "
                "'DBInstances[].[DBInstanceIdentifier,DBClusterIdentifier,Endpoint.Address]'",
            )
        return found
