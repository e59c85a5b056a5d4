"""Parameters of a run.

parameters.py   the table of parameters: labels, kind, bounds, default, order, question, sbatch option
kinds.py        the kinds of values: the form of each, and which values are refused
unsupported.py  settings that are refused by name
"""
