"""Turns "migrate prod" into one ECS task, and tells the truth about how it went."""
