"""A local AWS: moto's server, filled with this project's stack, and with an ECS that runs tasks for real."""
