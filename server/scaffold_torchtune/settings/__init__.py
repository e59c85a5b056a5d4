"""What a parameter is: one table of all of them, one reader of their kinds, recipes, and options of a job."""
