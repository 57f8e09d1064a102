"""A double of AWS on this machine: what `launcher rehearse` and the tests run against, over real HTTP.

stage        all of it for one rehearsal: the local AWS with a stack, and containers
cloud        the local AWS: server, stack and ECS
server       moto behind a door of our own, which lets through, refuses, or answers itself; api has a call's values
stack        the resources that the launcher meets; with network, roles, terraform (a root whose state names them)
ecs          ECS's task calls as Fargate answers them; task is one task's life, fargate what ECS refuses,
             obstacles what keeps a task from starting, program what runs in its container
iam          policy simulation, and a caller who may do only what policies say; with policy and permissions
awslogs      a container's lines on their way to CloudWatch Logs; delivery is how fast they travel
containers   a real engine and a real registry, in Fargate's and ECR's place; docker stands for the `docker` program
database     an embedded PostgreSQL, in RDS's place
failures     the ways in which one-off ECS tasks go wrong, each with a name; plays is how each is played

moto has no Fargate: what a task does from RunTask to STOPPED, and what IAM answers, is made here after AWS's
documentation. Nothing of the launcher knows whether it talks to AWS or to this.
"""
