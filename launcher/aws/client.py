"""The only module that imports boto3: each call is a method, each refusal becomes one of the launcher's errors."""

from __future__ import annotations

import base64
import getpass
import os
import shlex
import textwrap
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

import boto3
import botocore.credentials
import botocore.session
from botocore import exceptions as botocore_errors
from botocore.config import Config
from botocore.parsers import ResponseParserError

from launcher.aws.answers import checked, unreadable
from launcher.aws.refusals import advice, failure_text, refusal
from launcher.aws.sign_in import remedy
from launcher.errors import AwsError, CredentialsError, NotFoundError, TransientAwsError
from launcher.machine.redaction import without_secrets
from launcher.models import Identity, Secret

if TYPE_CHECKING:
    from mypy_boto3_ec2.client import EC2Client
    from mypy_boto3_ec2.type_defs import (
        RouteTableTypeDef,
        SecurityGroupTypeDef,
        SubnetTypeDef,
        VpcEndpointTypeDef,
    )
    from mypy_boto3_ecr.client import ECRClient
    from mypy_boto3_ecr.type_defs import RegistryScanningConfigurationTypeDef, RepositoryTypeDef
    from mypy_boto3_ecs.client import ECSClient
    from mypy_boto3_ecs.type_defs import (
        ClusterTypeDef,
        FailureTypeDef,
        ServiceTypeDef,
        TaskDefinitionTypeDef,
        TaskTypeDef,
    )
    from mypy_boto3_iam.client import IAMClient
    from mypy_boto3_iam.type_defs import EvaluationResultTypeDef
    from mypy_boto3_logs.client import CloudWatchLogsClient
    from mypy_boto3_logs.type_defs import LogGroupTypeDef, OutputLogEventTypeDef
    from mypy_boto3_rds.client import RDSClient
    from mypy_boto3_rds.type_defs import (
        DBClusterSnapshotTypeDef,
        DBClusterTypeDef,
        DBInstanceTypeDef,
        DBSnapshotTypeDef,
    )
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_secretsmanager.client import SecretsManagerClient
    from mypy_boto3_secretsmanager.type_defs import DescribeSecretResponseTypeDef
    from mypy_boto3_ssm.client import SSMClient
    from mypy_boto3_ssm.type_defs import ParameterMetadataTypeDef
    from mypy_boto3_sts.client import STSClient

_REASON = 500  # characters of what a program says that was to give credentials
_assumed: dict[str, Any] = {}
"""The roles assumed by this process: an MFA code is valid once, and there are clients for several regions."""

# How a simulation tells who denies an action whatever the policies of the role say; in AWS's words for a refusal.
_DENIERS = (
    ("service control policy", "OrganizationsDecisionDetail", "AllowedByOrganizations"),
    ("permissions boundary", "PermissionsBoundaryDecisionDetail", "AllowedByPermissionsBoundary"),
)
_PAGES = 1000  # of one list: 100,000 tasks in an hour
P = TypeVar("P", bound=Mapping[str, Any])
T = TypeVar("T")


@dataclass(frozen=True)
class RegistryLogin:
    """What `docker login` needs for ECR; valid for twelve hours.

    Attributes:
        username: always `AWS`.
        password: for standard input only.
        host: the registry, without a scheme.
    """

    username: str
    password: Secret
    host: str


@dataclass(frozen=True)
class LogPage:
    """One response of GetLogEvents.

    Attributes:
        events: in the stream's order; `timestamp` in milliseconds.
        token: for the next call; it repeats once there is nothing more.
    """

    events: tuple[OutputLogEventTypeDef, ...]
    token: str


@dataclass(frozen=True)
class Decision:
    """IAM's decision about one action on one resource.

    Attributes:
        action, resource: the IAM action, and an ARN or `*`.
        allowed: whether it is allowed; None if IAM can't tell, since it was not given all condition keys.
        lacks: the condition keys that policies ask for, and IAM was not given.
        remedy: what to do if something else than a missing permission denies it; else None.
    """

    action: str
    resource: str
    allowed: bool | None
    lacks: tuple[str, ...] = ()
    remedy: str | None = None


class Aws:
    """The part of AWS's API that the launcher uses, for one profile and one region.

    Every method may raise `AwsError` or a subclass. Clients are made on first use and are thread-safe.
    `AWS_ENDPOINT_URL` replaces AWS with a local one, as in every AWS program.

    Attributes:
        profile: as the caller names it; without one the credentials are found in AWS's own order.
        region: the region; None for AWS's default.
        prompting: entered while credentials are found, as that may ask on the terminal; yields whether it can.
    """

    def __init__(
        self, *, profile: str | None = None, region: str | None = None, attempts: int = 6, timeout: float = 20.0
    ) -> None:
        """`attempts` is the total number of tries of a throttled or lost call; `timeout` is in seconds per try."""
        self.profile = profile
        self.region = region
        self.prompting: Callable[[], AbstractContextManager[bool]] = lambda: nullcontext(False)
        config = Config(
            retries={"mode": "adaptive", "total_max_attempts": attempts},
            connect_timeout=min(5.0, timeout),
            read_timeout=timeout,
            user_agent_extra="neuraknot-launcher",
        )
        self._config, self._once = config, config.merge(Config(retries={"total_max_attempts": 1}))
        self._session: boto3.Session | None = None
        self._clients: dict[str, Any] = {}
        self._lock = threading.Lock()

    # Identity

    def identity(self) -> Identity:
        """Return the credentials' account and role or user (sts:GetCallerIdentity)."""
        with self._translated("sts:GetCallerIdentity"):
            answer = self._sts.get_caller_identity()
            return Identity(account=answer["Account"], arn=answer["Arn"])

    # ECS

    def cluster(self, name: str) -> ClusterTypeDef | None:
        """Return the cluster, even if it is INACTIVE; None if there never was one."""
        with self._translated("ecs:DescribeClusters"):
            answer = self._ecs.describe_clusters(clusters=[name])
            return self._one("ecs:DescribeClusters", answer["clusters"], answer.get("failures", []))

    def service(self, cluster: str, name: str) -> ServiceTypeDef | None:
        """Return the service, even if it is INACTIVE; None if there is none.

        Raises:
            NotFoundError: the cluster does not exist.
        """
        with self._translated("ecs:DescribeServices"):
            answer = self._ecs.describe_services(cluster=cluster, services=[name])
            return self._one("ecs:DescribeServices", answer["services"], answer.get("failures", []))

    def task_definition(self, name: str) -> TaskDefinitionTypeDef | None:
        """Return a task definition by ARN, `family:revision`, or family (the latest active one); None if absent."""
        with self._translated("ecs:DescribeTaskDefinition"):
            try:
                return self._ecs.describe_task_definition(taskDefinition=name)["taskDefinition"]
            except botocore_errors.ClientError as error:
                if _code(error) == "ClientException" and "describe task definition" in str(error):
                    return None
                raise

    def register_task_definition(self, definition: Mapping[str, Any]) -> TaskDefinitionTypeDef:
        """Register a new revision."""
        with self._translated("ecs:RegisterTaskDefinition"):
            return self._ecs.register_task_definition(**definition)["taskDefinition"]

    def run_task(self, request: Mapping[str, Any]) -> tuple[list[TaskTypeDef], list[FailureTypeDef]]:
        """Start a task; AWS reports a refusal as an error or, with HTTP 200, in the list of failures.

        It is tried only once, regardless of `attempts`, so that no lost response goes unnoticed: see
        `task.start.start_task`. A task in the response is not a full description: if it is over, a retry with its
        clientToken returns only the ARN and two states.
        """
        with self._translated("ecs:RunTask"):
            answer = self._ecs_once.run_task(**request)
            return answer["tasks"], answer["failures"]

    def task_arns(self, cluster: str, family: str, *, stopped: bool) -> list[str]:
        """Return the ARNs of a family's tasks by desired status, not by actual status: see `task.find.find_tasks`.

        They include tasks that stopped in about the last hour.
        """
        wanted: Literal["RUNNING", "STOPPED"] = "STOPPED" if stopped else "RUNNING"
        with self._translated("ecs:ListTasks"):
            pages = self._ecs.get_paginator("list_tasks").paginate(cluster=cluster, family=family, desiredStatus=wanted)
            return [arn for page in _pages(pages) for arn in page["taskArns"]]

    def tasks(self, cluster: str, arns: Sequence[str]) -> list[TaskTypeDef]:
        """Describe tasks; those that ECS does not know are left out."""
        found = list["TaskTypeDef"]()
        for first in range(0, len(arns), 100):
            with self._translated("ecs:DescribeTasks"):
                answer = self._ecs.describe_tasks(cluster=cluster, tasks=list(arns[first : first + 100]))
                found += self._described("ecs:DescribeTasks", answer["tasks"], answer["failures"])
        return found

    def stop_task(self, cluster: str, arn: str, reason: str) -> None:
        """Send SIGTERM, and SIGKILL after the container's stopTimeout (30 s)."""
        with self._translated("ecs:StopTask"):
            self._ecs.stop_task(cluster=cluster, task=arn, reason=reason)

    # ECR

    def repository(self, name: str) -> RepositoryTypeDef | None:
        """Return the repository; None if there is none."""
        try:
            with self._translated("ecr:DescribeRepositories"):
                return self._ecr.describe_repositories(repositoryNames=[name])["repositories"][0]
        except NotFoundError:
            return None

    def create_repository(self, name: str) -> RepositoryTypeDef | None:
        """Create a repository that scans pushed images; None if it already exists."""
        with self._translated("ecr:CreateRepository"):
            try:
                return self._ecr.create_repository(
                    repositoryName=name, imageScanningConfiguration={"scanOnPush": True}
                )["repository"]
            except botocore_errors.ClientError as error:
                if _code(error) != "RepositoryAlreadyExistsException":
                    raise
                return None

    def image_digest(self, repository: str, *, tag: str | None = None, digest: str | None = None) -> str | None:
        """Return the digest of the image with this tag or digest; None if there is no such image or repository."""
        wanted: Any = {"imageTag": tag} if digest is None else {"imageDigest": digest}
        try:
            with self._translated("ecr:DescribeImages"):
                images = self._ecr.describe_images(repositoryName=repository, imageIds=[wanted])["imageDetails"]
                return images[0]["imageDigest"] if images else None
        except NotFoundError:
            return None

    def scan_frequency(self, repository: str) -> str | None:
        """Return when ECR scans the images of a repository: `MANUAL` is never by itself; None if it does not say."""
        with self._translated("ecr:BatchGetRepositoryScanningConfiguration"):
            answer = self._ecr.batch_get_repository_scanning_configuration(repositoryNames=[repository])
            found = answer.get("scanningConfigurations", [])
        return found[0].get("scanFrequency") if found else None

    def registry_scanning(self) -> RegistryScanningConfigurationTypeDef:
        """Return the scan type and the rules of the registry, which decide for all its repositories."""
        with self._translated("ecr:GetRegistryScanningConfiguration"):
            return self._ecr.get_registry_scanning_configuration()["scanningConfiguration"]

    def registry_login(self) -> RegistryLogin:
        """Get a new password for the account's registry."""
        with self._translated("ecr:GetAuthorizationToken"):
            data = self._ecr.get_authorization_token()["authorizationData"][0]
            username, _, password = base64.b64decode(data["authorizationToken"]).decode().partition(":")
            return RegistryLogin(username, Secret(password), data["proxyEndpoint"].split("://", 1)[-1])

    # CloudWatch Logs

    def log_group(self, name: str) -> LogGroupTypeDef | None:
        """Return the log group; None if there is none."""
        with self._translated("logs:DescribeLogGroups"):
            pages = self._logs.get_paginator("describe_log_groups").paginate(logGroupNamePrefix=name)
            groups = (group for page in _pages(pages) for group in page["logGroups"])
            return next((group for group in groups if group["logGroupName"] == name), None)

    def create_log_group(self, name: str) -> bool:
        """Create a log group without a retention limit; False if it already exists."""
        with self._translated("logs:CreateLogGroup"):
            try:
                self._logs.create_log_group(logGroupName=name)
            except botocore_errors.ClientError as error:
                if _code(error) != "ResourceAlreadyExistsException":
                    raise
                return False
        return True

    def put_retention(self, name: str, *, days: int) -> None:
        """Set a log group's retention in days."""
        with self._translated("logs:PutRetentionPolicy"):
            self._logs.put_retention_policy(logGroupName=name, retentionInDays=days)

    def log_events(self, group: str, stream: str, token: str | None = None) -> LogPage | None:
        """Return a page of a stream, from its head or from `token` on; None while the stream does not exist."""
        position: Any = {"startFromHead": True} if token is None else {"startFromHead": True, "nextToken": token}
        try:
            with self._translated("logs:GetLogEvents"):
                answer = self._logs.get_log_events(logGroupName=group, logStreamName=stream, **position)
                return LogPage(tuple(answer["events"]), answer["nextForwardToken"])
        except NotFoundError:
            return None

    # RDS

    def db_instance(self, identifier: str) -> DBInstanceTypeDef | None:
        """Return the database instance; None if there is none."""
        try:
            with self._translated("rds:DescribeDBInstances"):
                return self._rds.describe_db_instances(DBInstanceIdentifier=identifier)["DBInstances"][0]
        except NotFoundError:
            return None

    def db_cluster(self, identifier: str) -> DBClusterTypeDef | None:
        """Return the database cluster; None if there is none."""
        try:
            with self._translated("rds:DescribeDBClusters"):
                return self._rds.describe_db_clusters(DBClusterIdentifier=identifier)["DBClusters"][0]
        except NotFoundError:
            return None

    def create_db_snapshot(self, instance: str, snapshot: str, tags: Mapping[str, str]) -> None:
        """Start creating a snapshot."""
        with self._translated("rds:CreateDBSnapshot"):
            self._rds.create_db_snapshot(
                DBInstanceIdentifier=instance,
                DBSnapshotIdentifier=snapshot,
                Tags=[{"Key": key, "Value": value} for key, value in tags.items()],
            )

    def db_snapshot(self, snapshot: str) -> DBSnapshotTypeDef | None:
        """Return the snapshot; None if there is none."""
        try:
            with self._translated("rds:DescribeDBSnapshots"):
                found = self._rds.describe_db_snapshots(DBSnapshotIdentifier=snapshot)["DBSnapshots"]
        except NotFoundError:
            return None
        return found[0] if found else None

    def create_db_cluster_snapshot(self, cluster: str, snapshot: str, tags: Mapping[str, str]) -> None:
        """Start creating a snapshot of a cluster."""
        with self._translated("rds:CreateDBClusterSnapshot"):
            self._rds.create_db_cluster_snapshot(
                DBClusterIdentifier=cluster,
                DBClusterSnapshotIdentifier=snapshot,
                Tags=[{"Key": key, "Value": value} for key, value in tags.items()],
            )

    def db_cluster_snapshot(self, snapshot: str) -> DBClusterSnapshotTypeDef | None:
        """Return the snapshot of a cluster; None if there is none."""
        try:
            with self._translated("rds:DescribeDBClusterSnapshots"):
                found = self._rds.describe_db_cluster_snapshots(DBClusterSnapshotIdentifier=snapshot)[
                    "DBClusterSnapshots"
                ]
        except NotFoundError:
            return None
        return found[0] if found else None

    # S3

    def read_object(self, bucket: str, key: str) -> bytes | None:
        """Return an object's content; None if there is no such object."""
        try:
            with self._translated("s3:GetObject"):
                return self._s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        except NotFoundError:
            return None

    def object_key(self, bucket: str, key: str) -> str | None:
        """Return the ARN of the KMS key that encrypts an object; None if S3's own key does."""
        with self._translated("s3:GetObject"):
            return self._s3.head_object(Bucket=bucket, Key=key).get("SSEKMSKeyId")

    # For `doctor`

    def simulate(
        self, role: str, actions: Sequence[str], resources: Sequence[str], context: Mapping[str, str] | None = None
    ) -> list[Decision]:
        """Return IAM's decision for a role's ARN, for each action on each of the resources.

        `context` has the condition keys that the real call would have, such as `ecs:cluster`.
        """
        entries: Any = [
            {"ContextKeyName": key, "ContextKeyType": "string", "ContextKeyValues": [value]}
            for key, value in (context or {}).items()
        ]
        with self._translated("iam:SimulatePrincipalPolicy"):
            pages = self._iam.get_paginator("simulate_principal_policy").paginate(
                PolicySourceArn=role, ActionNames=list(actions), ResourceArns=list(resources), ContextEntries=entries
            )
            results = (result for page in _pages(pages) for result in page["EvaluationResults"])
            return [decision for result in results for decision in _decisions(result)]

    def role_arn(self, name: str) -> str | None:
        """Return the ARN of the role with this name, including its path; None if there is none."""
        try:
            with self._translated("iam:GetRole"):
                return self._iam.get_role(RoleName=name)["Role"]["Arn"]
        except NotFoundError:
            return None

    def subnets(self, ids: Sequence[str]) -> list[SubnetTypeDef]:
        """Return the subnets with these IDs."""
        with self._translated("ec2:DescribeSubnets"):
            pages = self._ec2.get_paginator("describe_subnets").paginate(SubnetIds=list(ids))
            return [subnet for page in _pages(pages) for subnet in page["Subnets"]]

    def security_groups(self, ids: Sequence[str]) -> list[SecurityGroupTypeDef]:
        """Return the security groups with these IDs."""
        with self._translated("ec2:DescribeSecurityGroups"):
            pages = self._ec2.get_paginator("describe_security_groups").paginate(GroupIds=list(ids))
            return [group for page in _pages(pages) for group in page["SecurityGroups"]]

    def route_tables(self, vpc: str) -> list[RouteTableTypeDef]:
        """Return all route tables of a VPC."""
        with self._translated("ec2:DescribeRouteTables"):
            pages = self._ec2.get_paginator("describe_route_tables").paginate(
                Filters=[{"Name": "vpc-id", "Values": [vpc]}]
            )
            return [table for page in _pages(pages) for table in page["RouteTables"]]

    def vpc_endpoints(self, vpc: str) -> list[VpcEndpointTypeDef]:
        """Return all endpoints of a VPC."""
        with self._translated("ec2:DescribeVpcEndpoints"):
            pages = self._ec2.get_paginator("describe_vpc_endpoints").paginate(
                Filters=[{"Name": "vpc-id", "Values": [vpc]}]
            )
            return [endpoint for page in _pages(pages) for endpoint in page["VpcEndpoints"]]

    def secret(self, arn: str) -> DescribeSecretResponseTypeDef | None:
        """Return Secrets Manager's description of a secret, not its value; None if there is none."""
        try:
            with self._translated("secretsmanager:DescribeSecret"):
                return self._secretsmanager.describe_secret(SecretId=arn)
        except NotFoundError:
            return None

    def parameter(self, *names: str) -> ParameterMetadataTypeDef | None:
        """Return SSM's description of the parameter with one of these names, not its value; None if there is none."""
        with self._translated("ssm:DescribeParameters"):
            pages = self._ssm.get_paginator("describe_parameters").paginate(
                ParameterFilters=[{"Key": "Name", "Option": "Equals", "Values": sorted(set(names))}]
            )
            return next((found for page in _pages(pages) for found in page["Parameters"]), None)

    # What ECS describes, or why it does not

    def _one(self, action: str, found: list[T], failures: Sequence[FailureTypeDef]) -> T | None:
        """Return the only one that was asked for; None if there is none."""
        if not found and not failures:
            raise unreadable(action, "it has neither what was asked for nor a failure")
        return next(iter(self._described(action, found, failures)), None)

    def _described(self, action: str, found: list[T], failures: Sequence[FailureTypeDef]) -> list[T]:
        """Return what was found; only the failure MISSING says that there is none, any other one is a refusal."""
        for failure in failures:
            if (reason := failure.get("reason", "")) != "MISSING":
                raise refusal(action, reason, failure_text(failure), 200, sign_in=remedy(self.profile))
        return found

    # Clients, each made once: making one is slow and not thread-safe.

    @property
    def _sts(self) -> STSClient:
        return cast("STSClient", self._client("sts"))

    @property
    def _ecs(self) -> ECSClient:
        return cast("ECSClient", self._client("ecs"))

    @property
    def _ecs_once(self) -> ECSClient:
        return cast("ECSClient", self._client("ecs", self._once))

    @property
    def _ecr(self) -> ECRClient:
        return cast("ECRClient", self._client("ecr"))

    @property
    def _logs(self) -> CloudWatchLogsClient:
        return cast("CloudWatchLogsClient", self._client("logs"))

    @property
    def _rds(self) -> RDSClient:
        return cast("RDSClient", self._client("rds"))

    @property
    def _s3(self) -> S3Client:
        return cast("S3Client", self._client("s3"))

    @property
    def _iam(self) -> IAMClient:
        return cast("IAMClient", self._client("iam"))

    @property
    def _ec2(self) -> EC2Client:
        return cast("EC2Client", self._client("ec2"))

    @property
    def _secretsmanager(self) -> SecretsManagerClient:
        return cast("SecretsManagerClient", self._client("secretsmanager"))

    @property
    def _ssm(self) -> SSMClient:
        return cast("SSMClient", self._client("ssm"))

    def _client(self, service: Any, config: Config | None = None) -> Any:
        name = service if config is None else f"{service}, by another configuration"
        with self._lock:
            if name not in self._clients:
                if self._session is None:
                    self._session = self._signed_in()
                try:
                    client = self._session.client(service, config=config or self._config)
                except ValueError as error:
                    raise _not_made(service, error) from error
                # Before botocore's own handlers for the service, which convert strings.
                prefix = client.meta.service_model.service_id.hyphenize()
                client.meta.events.register_first(f"after-call.{prefix}", _check)
                self._clients[name] = client
            return self._clients[name]

    def _signed_in(self) -> boto3.Session:
        """Return a session with its credentials, found by now: that may start a program, or ask for an MFA code."""
        core = botocore.session.get_session()
        if self.profile:
            core.set_config_variable("profile", self.profile)
        session = boto3.Session(botocore_session=core, region_name=self.region)
        roles = core.get_component("credential_provider").get_provider("assume-role")
        roles.cache, roles._prompter = _assumed, self._mfa_code
        with self.prompting():
            credentials = session.get_credentials()
            if credentials is not None:
                credentials.get_frozen_credentials()
        return session

    def _mfa_code(self, question: str) -> str:
        with self.prompting() as can_ask:
            if not can_ask:
                raise CredentialsError(
                    "The AWS profile wants an MFA code, and there is no terminal to ask on.",
                    hint=remedy(self.profile, asks=False),
                )
            try:
                return getpass.getpass(question)
            except EOFError:
                raise CredentialsError("No MFA code was given.", hint="Run the same command again.") from None

    # Errors, in one place

    @contextmanager
    def _translated(self, action: str) -> Iterator[None]:
        try:
            yield
        except botocore_errors.ClientError as error:
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            message = str(error.response.get("Error", {}).get("Message", "")).strip()
            raise refusal(action, _code(error), message, status, sign_in=remedy(self.profile)) from error
        except botocore_errors.NoCredentialsError as error:
            raise CredentialsError(
                "There are no AWS credentials.", hint=remedy(self.profile, error), action=action
            ) from error
        except (
            botocore_errors.ConfigParseError,
            botocore_errors.CredentialRetrievalError,
            botocore_errors.InvalidConfigError,
            botocore_errors.LoginError,
            botocore_errors.PartialCredentialsError,
        ) as error:
            said = without_secrets(" ".join(str(error)[: 10 * _REASON].split()))
            reason = textwrap.shorten(said, _REASON, placeholder=" ...").rstrip(". ")
            reason += " it does not say why" if reason.endswith(":") else ""
            raise CredentialsError(
                f"The AWS credentials can't be had: {reason}.", hint=remedy(self.profile, error), action=action
            ) from error
        except botocore_errors.ProfileNotFound as error:
            name = error.kwargs["profile"]
            if not name:
                variable = next(each for each in ("AWS_DEFAULT_PROFILE", "AWS_PROFILE") if each in os.environ)
                raise CredentialsError(
                    f"{variable} is set, but empty, which AWS takes for the name of a profile.",
                    hint=f"Unset it: unset {variable}",
                    action=action,
                ) from error
            raise CredentialsError(
                f"There is no AWS profile named {shlex.quote(name)}.",
                hint=remedy(self.profile, error),
                action=action,
            ) from error
        except (
            botocore_errors.RefreshWithMFAUnsupportedError,
            botocore_errors.SSOError,
            botocore_errors.TokenRetrievalError,
        ) as error:
            raise CredentialsError(
                "The AWS sign-in has expired, or there was none.",
                hint=remedy(self.profile, error),
                action=action,
                code="ExpiredToken",
            ) from error
        # botocore has two families of network errors: a connection that failed is not an HTTPClientError.
        except (botocore_errors.HTTPClientError, botocore_errors.ConnectionError) as error:
            raise TransientAwsError(
                f"AWS does not answer {action}: {error}",
                hint="Check the network, the proxy (HTTPS_PROXY) and the region (--region); then run the same command"
                " again.",
                action=action,
            ) from error
        except botocore_errors.PaginationError as error:
            raise unreadable(action, "its pages have no end") from error
        except botocore_errors.BotoCoreError as error:
            raise _not_made(action, error) from error
        except OSError as error:  # no network error, which botocore wraps
            raise CredentialsError(
                f"The AWS credentials can't be read: {error}.", hint=remedy(self.profile, error), action=action
            ) from error
        except (ResponseParserError, RuntimeError, LookupError, TypeError, ValueError, AttributeError) as error:
            # Not AWS's response: a proxy's page, or JSON that can't be parsed.
            if isinstance(error, ResponseParserError) or not _of_credentials(error):
                raise unreadable(action, type(error).__name__) from error
            why = f"are not in the form that AWS describes ({type(error).__name__})"
            if type(error) is RuntimeError:  # botocore has just renewed them
                why = "have expired, even those that were given anew"
            raise CredentialsError(
                f"The AWS credentials {why}.", hint=remedy(self.profile, error), action=action
            ) from error


def _pages(pages: Iterable[P]) -> Iterator[P]:
    """Yield a list's pages, which may be empty; botocore's paginators know what each API calls its tokens.

    Raises:
        PaginationError: there is no end to them, or what leads to the next one is missing.
    """
    for number, page in enumerate(pages):
        if number == _PAGES or (page.get("IsTruncated") and not page.get("Marker")):
            raise botocore_errors.PaginationError(message=f"page {number} is not the last one")
        yield page


def _decisions(result: EvaluationResultTypeDef) -> Iterator[Decision]:
    """Yield the decision for each resource; the result itself sums them up, and is all there is for `*`."""
    for each in result.get("ResourceSpecificResults", []):
        yield _decision({**result, **each}, each["EvalResourceDecision"])
    if not result.get("ResourceSpecificResults"):
        yield _decision(result, result["EvalDecision"])


def _decision(result: Mapping[str, Any], decision: str) -> Decision:
    """Return the decision about one resource, by a result that holds all that is told of it and of its action."""
    lacks = tuple(result.get("MissingContextValues", ()))
    denier = next((words for words, detail, by in _DENIERS if result.get(detail, {}).get(by) is False), "")
    allowed = True if decision == "allowed" else None if lacks and not denier else False
    denier = denier or ("explicit deny" if decision == "explicitDeny" else "")
    return Decision(result["EvalActionName"], result.get("EvalResourceName", "*"), allowed, lacks, advice(denier))


def _not_made(what: str, error: Exception) -> AwsError:
    return AwsError(
        f"The call {what} can't be made: {error}",
        hint="Check the profile and the region (--profile, --region), and what AWS_* variables are set.",
        action=what,
    )


def _check(*, http_response: Any, parsed: dict[str, Any], model: Any, **_: Any) -> None:
    """Validate a response; called by botocore before it returns the response to the caller."""
    if http_response.status_code < 300 and model.output_shape is not None:
        parsed.update(checked(f"{model.service_model.service_name}:{model.name}", parsed, model.output_shape))


def _of_credentials(error: Exception) -> bool:
    """Whether botocore was finding or renewing credentials; only the way that an error took tells it."""
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(frame.f_globals.get("__name__") == botocore.credentials.__name__ for frame in frames)


def _code(error: botocore_errors.ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))
