"""Turn an experiment summary into a tree of validated, submit-ready torchtune run directories.

The modules outside the directories:

__main__.py        the command line, as `python -m scaffold_torchtune`
setup_finetune.py  the bundled setup_finetune as a command, for one run
new.py             `new`: documents of a new experiment
extend.py          `add`: more runs in the table of a summary
models.py          the frozen models that the stages exchange
request.py         one call of a tool or command, and its interruption
findings.py        findings, refusals, and functions that show foreign texts safely
finding_codes.py   the severity, cause and fix of each finding code
job_output.py      progress, losses and end of a training, read from the output of its job
job_causes.py      why a job failed: recognized texts, and the fix of each cause
"""

__version__ = "0.1.0"
