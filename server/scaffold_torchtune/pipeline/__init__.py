"""The steps, composed, as the command line and the MCP server call them.

steps.py       the five steps and `scaffold`, as tools and commands call them
locate.py      the experiment, its documents, the roots that it must be under
prepare.py     steps 1, 2, 4 and 5 in memory: from documents to a plan and rendered texts
run_states.py  the state of each run, from its jobs and its results; .scaffold/jobs.json
changes.py     a plan compared with the scaffolded runs; started runs are frozen
apply.py       step 5: files to write, files that a person edited, runs that are no longer in the table
backend.py     step 6: scripts in staging directories, several at a time; their environment, and their trial
publish.py     step 6: finetune.yaml and finetune.slurm published; files that a script removed, restored
validation.py  step 7: the files of all runs, and outdated plans
journal.py     step 8: the text of scaffold.log, each entry written once
state.py       .scaffold: the plan, read back and checked, and the records of runs
backup.py      .scaffold/backup, .scaffold/history: edited files and earlier files of runs, kept and bounded
history.py     `history`: the kept versions, and two versions compared
explain.py     `explain`: the sources, the places and the earlier values of a run's settings
submit.py      `submit`: jobs and arrays with their files, each recorded before it may start
reporting.py   `status`: progress, losses, causes of failure; `report`: a page, a text or a table of the runs
diagnosis.py   unexpected errors; `doctor`: checks whether this machine is ready
"""
