"""The steps, composed: what the command line and the MCP server both call.

steps.py           the five steps and `scaffold`, as tools and commands call them
locate.py          the experiment, its documents, the roots that it must be under
prepare.py         steps 1, 2, 4 and 5 in memory: from documents to a plan and rendered texts
external_setup.py  the environment of an external script, and its trial
changes.py         how far runs have come, what becomes of each; started runs are frozen
apply.py           step 5: files to write, files that a person edited
backend.py         step 6: scripts in staging directories, several at a time
publish.py         step 6: finetune.yaml and finetune.slurm published; files that a script removed, put back
validation.py      step 7: the files of all runs, and plans that are outdated
scaffold_log.py    step 8: each entry written once
state.py           .scaffold: the plan, the records of runs
plan_file.py       plan.json, read and checked
backup.py          .scaffold/backup, .scaffold/history: edited files and earlier files of runs, kept and bounded
history.py         `history`: what is kept, and two versions compared
explain.py         `explain`: where values of a run come from, arrive, and what they were
status.py          `status`: how runs are doing
reporting.py       `report`: a page, a text or a table of the runs; the page renewed
internal_error.py  unforeseen exceptions
doctor.py          `doctor`: is this machine ready
"""
