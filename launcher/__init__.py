"""Run "migrate prod" as one ECS task and report its real outcome."""
