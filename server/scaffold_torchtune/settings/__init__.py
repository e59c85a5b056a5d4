"""What a parameter is: the table of parameters, their kinds, recipes and options of jobs."""
