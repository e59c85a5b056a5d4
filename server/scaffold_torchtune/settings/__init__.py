"""Parameters: the table of parameters, their kinds, and settings that are refused by name."""
