"""NeuraKnot's PostgreSQL schema: revisions applied safely, databases adopted, verified and explained."""

__version__ = "0.1.0"
