"""A double of AWS on this machine: `launcher rehearse` and the tests run against it, over real HTTP.

stage        all of it for one rehearsal: the local AWS with a stack, and containers
cloud        the local AWS: server, stack and ECS
server       our server in front of moto: forwards, refuses, or answers a call itself; api has a call's values
stack        the resources that the launcher uses; with network, roles, terraform (a root whose state names them)
ecs          ECS's task calls as Fargate answers them; task is one task's lifecycle, fargate what ECS refuses,
             obstacles what keeps a task from starting, program what runs in its container
iam          policy simulation, and policies enforced for the caller; with policy and permissions
ecr, rds     what moto lacks of the two: archived images, members of clusters
listing      the lists that AWS sends in pages
awslogs      puts a container's lines into CloudWatch Logs; delivery is how fast they arrive
engine       a real Docker engine and registry instead of Fargate and ECR; stand_in_docker replaces the program `docker`
database     an embedded PostgreSQL instead of RDS
failures     the ways in which one-off ECS tasks fail, each with a name; plays is how each is played

moto has no Fargate: a task's lifecycle from RunTask to STOPPED, and IAM's decisions, are simulated here according to
AWS's documentation. The launcher's own code can't tell whether it talks to AWS or to this.
"""
