"""The steps, composed: what the command line and the MCP server both call.

steps.py           the five steps and `scaffold`, as tools and commands call them
locate.py          the experiment, its documents, the roots that it must be under
prepare.py         steps 1, 2, 4 and 5 in memory: from documents to a plan and rendered texts
external_setup.py  the environment of an external script, and its trial
run_states.py      how far each run has come, by its jobs and what it left
job_records.py     .scaffold/jobs.json: the jobs that were submitted
changes.py         what becomes of each run; started runs are frozen
apply.py           step 5: files to write, files that a person edited
backend.py         step 6: scripts in staging directories, several at a time
publish.py         step 6: finetune.yaml and finetune.slurm published; files that a script removed, put back
validation.py      step 7: the files of all runs, and plans that are outdated
journal.py         step 8: the text of scaffold.log, each entry written once
state.py           .scaffold: the plan, read back and checked, and the records of runs
backup.py          .scaffold/backup, .scaffold/history: edited files and earlier files of runs, kept and bounded
history.py         `history`: what is kept, and two versions compared
explain.py         `explain`: where values of a run come from, arrive, and what they were
status.py          `status`: progress, losses and causes of failure of runs
diagnosis.py       unforeseen exceptions; `doctor`: is this machine ready
"""
