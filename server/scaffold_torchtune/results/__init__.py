"""Results of tools and commands, and their shortened form for agents."""
