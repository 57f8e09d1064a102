"""NeuraKnot's PostgreSQL schema: revisions applied safely, taken over, verified and explained."""

__version__ = "0.1.0"
