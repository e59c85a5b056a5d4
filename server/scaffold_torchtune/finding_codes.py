"""The registry of finding codes: severity, cause and fix of each.

`make codes` generates the tables of workflows/troubleshooting.md from it; causes and fixes are the Markdown of its cells.
"""

from enum import StrEnum
from typing import Final, NamedTuple


class Severity(StrEnum):
    """The severity of a finding: an `error` fails the run or rejects the plan, a `warning` needs attention, an `info` does not."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class Code(NamedTuple):
    """An entry of the registry; `severity` is the default, which a finding may override."""

    severity: Severity
    cause: str
    fix: str


_E, _W, _I = Severity.ERROR, Severity.WARNING, Severity.INFO

# fmt: off
SECTIONS: Final[dict[str, dict[str, Code]]] = {
    "Documents": {
        "document-missing": Code(_E, "`experiment_summary.md` or `claude.local.md` is missing", "specify the file (`--local FILE`), or create it with the values that the other problems request"),
        "not-a-summary": Code(_E, "the summary is a configuration file of a different tool (axolotl, LLaMA-Factory, TRL, ...) or of torchtune itself", "write a summary with a table of runs; the finding has a `scaffold-torchtune new` command that creates one"),
        "document-unreadable": Code(_E, "the document is not a regular UTF-8 text file of at most 1 MB, or a file in `.scaffold` has been edited", "save the document as plain UTF-8; if a file in `.scaffold` is reported, delete it and run `render_yaml` again"),
        "missing-field": Code(_E, "a required field is missing", "add the line that the finding shows"),
        "invalid-value": Code(_E, "a value is not valid for its field", "use a value that the finding allows"),
        "ambiguous": Code(_E, "the document can be read in two ways: two tables of runs, two values for one field, or two values in one (`16 (1B models), 8 (3B models)`)", "keep one of them; if the value differs between runs, add a column for it to the table of runs"),
        "answer-differs": Code(_E, "an answer (`answers`, `--answer`) contradicts a value that a document clearly states; answers only fill in what is missing or unclear", "omit the answer, or correct the document first"),
        "duplicate-column": Code(_E, "two columns name the same parameter", "keep one of them"),
        "malformed-table": Code(_E, "a row has too few or too many cells", "write one cell for each column; escape a literal pipe as `\\|`"),
        "name-from-title": Code(_I, "the title has several words, so the name of the experiment, which is also the name of its output directory, is derived from them: `Cross-Length Generalization` becomes `cross-length_generalization`", "no action if the name is acceptable; for a different name, use a title of one word"),
        "two-summaries": Code(_I, "`experiment_summary.yaml` and `experiment_summary.md` describe the same plan; the YAML file is used, because other tools rely on its run names", "no action needed; if the two describe different plans, `ambiguous` is reported instead"),
        "misspelt-field": Code(_E, "the name of a column or field is almost that of a parameter, or the field is in a section where it is not read", "use the name that the finding suggests, or move the line to the section that it suggests"),
        "unused-column": Code(_W, "a column does not name a parameter", "no action, unless the column should change the runs"),
        "blank-cell": Code(_W, "a cell of the table of runs is blank, and a row above it has a value. Markdown does not merge cells, so the run uses the value that all runs share, or the default. It is an info if that is the same value", "fill in the cell in every row; no action if the value that the finding states is intended"),
        "unused-row": Code(_W, "a row of dots, or a table that looks like a table of runs outside the sections where runs are read. It is an info for the heading of a group or a summary row (`Total`, `Mean`)", "if the runs should be planned, write them out in the table under `## All Runs`"),
        "unused-field": Code(_W, "a line of a document, or a key of `experiment_summary.yaml`, looks like a setting but is not read as one: `QOS`, an Account below Hardware, `module load` outside Module System, other commands in it", "no action, unless the line should change the runs or their jobs"),
        "ignored-remark": Code(_W, "text next to a value is ignored: `128 (2 x rank)`, `1 x 80GB GPU (constraint: gpu80)`", "no action, unless the text should change the runs"),
        "short-time": Code(_W, "a time such as `2:00`, which SLURM reads as two minutes", "write `2:00:00` for two hours or `0:02:00` for two minutes"),
        "begins-anew": Code(_W, "`requeue` is set without `resume_from_checkpoint`, or `resume_from_checkpoint` is set for a run of one epoch, for which torchtune saves no state", "add `- **Resume from checkpoint:** yes` to Configuration; no action for short runs"),
        "full-grid": Code(_W, "the summary has levels under Variables but no table of runs, so all combinations of the levels are planned. If it mentions controls or excluded combinations, the table is required instead", "no action if intended; otherwise add the table that the finding shows, and edit it"),
        "runs-differ": Code(_W, "the number of fine-tuned runs in the overview differs from the table", "correct the number or the table; the table is used"),
        "levels-differ": Code(_W, "the section Variables, or a sentence about the runs or the data set, states values that the runs do not have; the values of the runs are used", "correct the text or the table"),
        "overridden": Code(_W, "two places set different values, and one overrides the other: a row overrides Configuration, and the output base directory of `claude.local.md` overrides the Checkpoint directory of the summary. It is an info if a document overrides a plain template, or Configuration a default for the resources of jobs", "remove the value that is not intended"),
        "own-recipe": Code(_W, "a template specifies a recipe that is not one of torchtune's: the environment of the job must provide it, and it is unknown which settings it reads", "remove `custom_recipe` from the template, or make sure that the environment has the recipe"),
        "default-used": Code(_W, "no document sets the rank or the learning rate, so the default of setup_finetune is used", "set the value if a different one is intended"),
        "unknown-model": Code(_E, "the model is not in the registry", "use one of the names that the finding lists"),
        "wrong-experiment-dir": Code(_E, "the experiment directory in the summary is not the directory that contains the summary", "correct the path, or move the summary to that directory"),
    },
    "Plan": {
        "identical-runs": Code(_E, "two rows have the same values; if the other rows form a grid, the finding names the missing combination", "change one of the two rows to the missing combination, remove one of them, or add a column that distinguishes them"),
        "name-collision": Code(_E, "two runs would share a directory, or their names differ only in case", "choose distinct names, or use `--names table`"),
        "unsafe-name": Code(_E, "a name contains characters that a directory name must not have, or is reserved", "rename the run, model or data set from which the name is built"),
        "naming-differs": Code(_W, "the summary states a pattern or an example for the names of run directories or outputs (`- **Naming pattern:** ...`), but the planned names differ. It is an info if they differ only because `{run_name}` may mean the Run Name or the run directory", "write the pattern that the finding suggests, or use `--names table` if the names should be the Run Names; no action if the planned names are intended"),
        "unsupported-format": Code(_E, "the file of the data set is neither `.json` nor `.parquet`", "convert the file"),
        "missing-template": Code(_E, "the template was not found", "correct `--template`, or create a template from `templates/setup_finetune_template.yaml.j2`"),
        "unsupported-setting": Code(_E, "the bundled setup_finetune does not support a setting or recipe, a LoRA setting is used with full fine-tuning, or full fine-tuning is planned with an external script", "remove the setting, or use a script that supports it; for full fine-tuning, use the bundled script"),
        "unread-setting": Code(_W, "a setting is planned, but the recipe of torchtune 0.6.1 does not read it", "remove the setting, or use a recipe that reads it"),
        "setup-choice": Code(_E, "the working directory contains a setup_finetune.py but no script was chosen, or the plan uses a different script than this call", "use `--setup-script bundled` (for tools, the argument or answer `setup_script`), or `--setup-script FILE`; for the server, `SCAFFOLD_TORCHTUNE_SETUP_SCRIPT=FILE`"),
        "setup-script-missing": Code(_E, "the setup script is missing", "correct the path"),
        "modules-missing": Code(_E, "the setup script needs modules, but this machine has no `module` command, not even in a login shell", "run the scaffold on a login node, remove the modules, or activate the environment yourself and add `--no-activate`"),
        "module-missing": Code(_E, "a module of `claude.local.md` is not installed", "use one of the modules that the finding lists"),
        "conda-missing": Code(_E, "conda, mamba and micromamba were not found, even after the modules were loaded", "add the module that provides conda, set `CONDA_EXE`, or use `--venv DIR`"),
        "environment-missing": Code(_E, "the conda environment does not exist, or the directory of `--venv` is not a virtual environment", "use one of the environments that the finding lists, or create it"),
        "activation-failed": Code(_E, "an installed module cannot be loaded, an existing environment cannot be activated, or this takes longer than two minutes", "read the output in the finding and try the activation in a login shell (`bash -l`), or activate the environment yourself and add `--no-activate`"),
        "package-missing": Code(_E, "the setup script imports a package, usually `cruijff_kit`, that is not installed in its environment", "install the package in that environment as the finding describes (`pip install -e CHECKOUT`); with `--no-activate`, activate the environment first"),
        "script-unasked": Code(_E, "the external setup_finetune.py fails before it reads its arguments: it contains an error, or needs a different version of Python", "fix the cause, which the message quotes from the last line of output; or use `--setup-script bundled`"),
        "script-writes": Code(_I, "this version of setup_finetune.py sets some values itself and has no option for them, or has its own location of outputs; the plan uses these values and that location", "no action needed; if a different value is intended, use a newer version of the script"),
        "submitted-with": Code(_I, "this setup_finetune.py has no option for some settings (QOS, mail, entity, ...), so the submit line passes them to sbatch", "submit with that line, which is in the result and in `scaffold.log`"),
        "setup-would-fail": Code(_E, "a trial run of the external setup_finetune.py in an empty directory failed. One run of each kind (model, recipe, GPUs, data) is tried; the message quotes the last line of output. Nothing was written", "fix the cause that the message quotes, use a different version of the script, or use `--setup-script bundled`"),
        "untaken-setting": Code(_E, "the documents set a value for which this version of setup_finetune.py has no option, or which it would misread", "use the value that the script always writes (see the message), remove the line, use a newer version of the script, or use `--setup-script bundled`"),
    },
    "Preflight": {
        "not-seen": Code(_W, "a data set or the directory of a model was not found on this machine, or cannot be read (Parquet without pyarrow, JSON above 64 MiB)", "correct the path if it is wrong; no action if it exists on the compute nodes"),
        "data-mismatch": Code(_E, "a data set does not contain what the runs read: the split `train` or the column `input` is missing, the column has a number instead of text, or the file is not JSON", "correct the file, or specify its columns and type in the summary"),
        "unread-column": Code(_W, "a column whose name is instruction, system, context, question or similar contains text that is not used for training", "move the text of the column into a column that is read, or set Input key to the column; no action if it should not be used"),
        "empty-texts": Code(_W, "some rows have an empty input or answer, but are used for training anyway", "fill in the texts, or remove the rows"),
        "no-labels": Code(_E, "some samples have no token to learn from: the answer begins after max_seq_len, or a text is empty. An optimizer step that contains only such samples turns all trained weights into NaN. It is a warning if this is not certain", "increase Max sequence length, or remove these rows"),
        "samples-cut": Code(_W, "some samples are longer than max_seq_len, so torchtune truncates them", "increase Max sequence length, or shorten the rows"),
        "untrained-tokens": Code(_W, "a base model is trained on a chat format with special tokens on which it was never trained, and LoRA does not train embeddings", "use the instruct model, or the Dataset type text_completion_dataset"),
        "split-differs": Code(_W, "the number of samples in the summary differs from that in the file, or the summary requests more training samples than the file has", "correct the summary, or use the data set that it describes"),
        "no-steps": Code(_E, "one optimizer step needs more samples than the data set has: torchtune drops an incomplete step, so the run would train for 0 optimizer steps and still exit without an error", "reduce the batch size or the gradient accumulation, or use more data"),
        "long-warmup": Code(_W, "the warm-up covers more than half of the optimizer steps, or all of them: in most steps, the learning rate is below the planned value", "reduce Warmup steps (a tenth of all steps is usual); the default of 100 is too high for small data sets"),
        "checkpoint-mismatch": Code(_E, "the directory of a model does not contain that model: files or tensors are missing, shapes are those of a different model, a tokenizer file is missing, or a file is a Git LFS pointer", "correct the model's name or path, or download the model again"),
        "output-not-directory": Code(_E, "the output path, or a part of it, exists and is not a directory: a file, a FIFO, a device", "choose a different output directory, or move the file away"),
        "output-taken": Code(_E, "the output directory of a new run contains the results of a different training run: the experiment was copied, its title is used twice, or the run cannot resume from its earlier results any longer", "choose a different title or output directory, or move the results away"),
        "output-in-checkpoint": Code(_E, "outputs would be written to the directory of the base model; torchtune rejects this", "choose a different output directory"),
        "other-state": Code(_E, "a job would resume from a state in its output directory that belongs to a different plan: torchtune would keep the old learning rate and train only the missing epochs. It is a warning if it is unknown which plan the state belongs to", "restore the earlier plan, move the output directory away, or do not resume"),
        "odd-value": Code(_W, "one run has a value that no other run has, and with a different value the runs would be a full grid: usually, the cell contains a typo", "use the value that the finding suggests; no action if the present value is intended"),
        "unusual-value": Code(_W, "a value is far outside the usual range: lr 0.3, dropout 0.9, 3,000 epochs, rank 4096", "correct the value; no action if it is intended"),
        "seed-effect": Code(_E, "runs of full fine-tuning differ only in their seed, which has no effect in these recipes of torchtune, so all of them end with the same weights. With LoRA, an info describes the effect of the seed", "keep one of these rows"),
        "incomplete-factorial": Code(_I, "some combinations of the varying values are not planned, or not with every seed", "no action if intended; otherwise add rows for them"),
        "confound": Code(_I, "two settings change together: alpha with rank, two columns in all rows, the samples per optimizer step", "no action if intended; otherwise vary them independently"),
        "estimate": Code(_I, "an estimate of what the runs need: GPU memory without activations, disk space, optimizer steps; each with its basis", "no action needed"),
        "gpu-memory": Code(_W, "weights, gradients and optimizer states alone exceed the memory of the GPUs that the GPU type or constraint selects or, if neither is set, of any common GPU", "use more or larger GPUs, or a smaller model"),
        "node-memory": Code(_W, "the memory that jobs request on their node is too little for the copies of the weights that torchtune makes to save them", "request the memory that the finding states, or save adapter weights only"),
        "disk-space": Code(_W, "the checkpoints of all runs need more disk space than is free in the output directory", "free disk space or, for LoRA, add `- **Save adapter weights only:** yes` to Configuration"),
        "time-limit": Code(_W, "on the GPUs that the GPU type or constraint selects, computation alone takes longer than the time limit; or the table of runs estimates a longer time", "increase the time limit or the number of GPUs"),
    },
    "Access and writing": {
        "outside-roots": Code(_E, "the experiment is not under any of the allowed root directories", "ask the person who starts the server to add a root: `--root DIR`"),
        "not-a-directory": Code(_E, "the path is not an experiment directory", "specify the experiment directory or its summary"),
        "unsafe-path": Code(_E, "a path is a link, or is not a regular file or directory as expected. It is a warning if the path of the experiment contains `%` or a backslash, which SLURM interprets in the names of logs", "look at the path, and move or rename the file or directory"),
        "write-failed": Code(_E, "writing failed: the disk is full, or write permission is missing. It is a warning if a job would not be allowed to write its outputs", "free disk space or grant write permission, then repeat the step"),
        "busy": Code(_E, "another scaffold of this experiment is running; the message states its process and machine", "wait; if that process has ended, delete `.scaffold/lock`"),
        "internal-error": Code(_E, "an error in scaffold-torchtune itself (exit status 70)", "repeat the step; if it fails again, report the file that the finding names: it contains the traceback, and lists the information to add"),
        "started-run": Code(_E, "the plan would change a run that was submitted, is running, or has results; its files are never changed without permission", "answer `keep` or `replace` (`--started`), or undo the change"),
        "tied-run": Code(_E, "several rows of the table match one existing run equally well, or one row matches several runs, so it is unclear which row keeps the directory", "answer `directories` with `new` or `ROW=DIRECTORY`, or write the Run Name of the existing run in its row"),
        "kept-run": Code(_W, "at the user's request, a started run keeps the files that it had when it started, although the documents now state different values", "no action if intended; for a value that only new runs should have, add a column to the table"),
        "mixed-runs": Code(_W, "a value of the started runs that are kept differs from that of all other runs, so the runs no longer form a single design", "take this into account when you compare the runs, replace the kept runs, or add a column for the value to the table"),
        "copied-scaffold": Code(_E, "the directory is a copy of another experiment that still exists: its state, jobs and output directories belong to the original", "scaffold the original; or choose a different title for the copy, and move its `.scaffold` and run directories away"),
        "left-over-run": Code(_W, "a run is no longer in the table of runs but still has its `finetune.slurm`, because it was started", "no action if intended; submit only with the line in the log"),
        "unknown-name": Code(_E, "no run, kept version or setting has the name that was passed to `history` or `explain`", "use the name that the finding suggests"),
        "history-damaged": Code(_W, "an entry of `.scaffold/history` or `.scaffold/backup` is not a complete version; the others are listed", "look at the entry, and delete it if it is not needed"),
        "edited-output": Code(_E, "a file has been edited since it was generated, or was not generated by this tool", "move values worth keeping into the summary; then move the file away or, except for `skill`, repeat with `--overwrite` (if `render_yaml` was allowed to overwrite, `run_setup` needs no permission of its own)"),
        "not-rendered": Code(_E, "no plan has been frozen yet", "run `render_yaml`"),
        "plan-outdated": Code(_E, "the documents have changed since the plan was frozen", "run `render_yaml`, `run_setup`, `validate`"),
        "template-error": Code(_E, "the template is malformed, or uses a value that is not defined", "correct the template; the name of a Jinja2 template must not end in `.yaml`"),
        "render-mismatch": Code(_E, "the rendered template, read back, differs from the plan", "write `{{ settings.KEY \\| yaml }}` for the value"),
        "unknown-key": Code(_E, "setup_finetune, or the tool, has no such key or argument", "use the name that the finding suggests"),
    },
    "Validation": {
        "nothing-checked": Code(_E, "not every run was checked, or the plan has no runs", "scaffold first; a validation of zero runs never passes"),
        "missing-file": Code(_E, "a file of the run is missing", "run `run_setup`; if it fails, its finding states the reason"),
        "unreadable-file": Code(_E, "a file cannot be parsed", "run `run_setup` again"),
        "missing-value": Code(_E, "a planned value is missing from a file", "do not edit this file; instead, check setup_finetune and the template, then run `render_yaml` and `run_setup` again"),
        "value-mismatch": Code(_E, "a value differs from the plan", "do not edit this file; instead, check setup_finetune and the template, then run `render_yaml` and `run_setup` again"),
        "setup-failed": Code(_E, "the last setup of the run failed, so its files are from an earlier setup", "fix the cause that the finding states (the full output of the script is in `.scaffold/output/RUN.txt`), then run `run_setup` again"),
        "stale-output": Code(_E, "a file is left from an earlier setup, or a different script generated it", "run `run_setup` again"),
        "changed-output": Code(_W, "a file has been edited since it was generated. Planned values that differ are errors of their own; values that the plan does not have, such as a default amount of memory, are not compared", "change the summary instead; `run_setup` with `--overwrite` restores the file, and for `setup_finetune.yaml`, `scaffold` with `--overwrite`"),
        "edit-kept": Code(_W, "a file of a run was edited while the scaffold was working on it, and was generated again; the edited version is saved in `.scaffold/backup`", "compare the two versions, and move values worth keeping into the summary"),
        "changed-meanwhile": Code(_W, "a file of the experiment changed while setup scripts were running, and none of the scripts changes it when run alone", "no action if you changed the file; otherwise check the script"),
        "report-outdated": Code(_W, "`scaffold.html` was not renewed after the scaffold, because it was edited or is not writable", "move the file away, then create it again with `scaffold-torchtune report`"),
        "verdict-unlogged": Code(_W, "the verdict is valid but could not be logged: the disk is full or not writable", "free disk space or grant write permission, then run `validate` again"),
        "wrong-type": Code(_E, "the value is as planned but its type is not: a number in quotes", "write numbers without quotes in the template"),
        "name-mismatch": Code(_E, "a warning if a value in the name of a row differs from the plan, or if the directory of a model has the name of a different model; an error if a value in the name of a run directory differs from its `finetune.yaml`", "correct the row, the path or the name"),
        "unplanned-value": Code(_E, "a file has a value that is not in the plan. It is an info if this version of the script always writes it", "find out whether the template, the script or a person wrote the value"),
        "default-differs": Code(_W, "the default of an external script differs from the plan", "set the value in the summary if it matters"),
        "wrong-recipe": Code(_E, "the recipe does not fit the number of GPUs or the plan", "correct Recipe or GPUs; `LoRA` and `full` fit any number of GPUs"),
        "duplicate-directive": Code(_E, "a SLURM directive is set twice", "check the script that wrote it"),
        "late-directive": Code(_E, "a directive comes after the first command, where SLURM ignores it", "check the script that wrote it"),
        "placeholder-left": Code(_E, "a placeholder such as `<ACT>` was not replaced", "set the value, or remove the line"),
        "defaults-unchosen": Code(_I, "these settings are in no document, so their defaults are used", "no action if the defaults are intended; otherwise set the intended values in the summary"),
        "sbatch-refused": Code(_E, "sbatch rejected the script: this cluster does not have its account, partition, constraint, time or resources. It is a warning if sbatch might accept the script later", "correct the directive that the finding names in the document that sets it, usually `claude.local.md`"),
        "sbatch-unavailable": Code(_I, "`sbatch` is installed but SLURM does not respond: its configuration, controller or munge is missing", "no action on a laptop; on a cluster, run `validate` again on a login node"),
        "torchtune-refused": Code(_E, "torchtune rejected `finetune.yaml`", "correct the value in the document that sets it, or correct setup_finetune and its template"),
        "lora-differs": Code(_E, "in the model that torchtune builds, LoRA is not in the planned layers or does not have the planned size", "correct `lora_attn_modules` or the model; if neither is wrong, report the finding"),
        "torchtune-missing": Code(_E, "the check with torchtune was requested, but the specified Python has no torchtune. It is a warning if the check was not requested", "set `SCAFFOLD_TORCHTUNE_PYTHON=PATH` to a Python with torchtune 0.6.1, or use `--no-with-torchtune`"),
        "torchtune-unanswered": Code(_E, "the check with torchtune crashed or timed out", "run `validate` again; the finding has the last output of the check"),
        "torchtune-unasked": Code(_I, "a component was not checked with torchtune, because it belongs to a package other than torchtune and torch, or cannot be built for the check", "check the component yourself"),
        "torchtune-agrees": Code(_I, "torchtune accepted every config; the finding states its version and the number of parameters", "no action needed"),
        "unproven-setting": Code(_W, "`validate` does not know where this setting belongs in the files", "check the setting yourself, and report the finding"),
    },
    "Running jobs": {
        "job-gpu-memory": Code(_E, "GPU memory is too small for the run; the finding states batch size, sequence length and GPU memory", "lower the batch size and raise gradient accumulation, which keeps the effective batch size; use activation checkpointing, a shorter max_seq_len, or larger or more GPUs"),
        "job-node-memory": Code(_E, "the job needed more memory than it requested", "raise Memory; the finding suggests twice the requested memory"),
        "job-time-limit": Code(_E, "the time limit was reached before all steps were trained; the finding states the time per step and for all steps", "use the Time limit that the finding suggests, or resume"),
        "job-no-space": Code(_E, "the disk is full or the quota is used up in a directory that the job writes to: outputs, caches, the temporary directory", "free disk space, choose a different output directory, or save adapter weights only"),
        "job-not-writable": Code(_E, "the job cannot write to its output directory: no permission, a read-only file system, or a file with the same name", "grant write permission, or choose a different output directory"),
        "job-environment": Code(_E, "a module, environment, command or package is missing on the node that ran the job", "correct the modules or the environment in `claude.local.md`, or install what is missing"),
        "job-gpu-unusable": Code(_E, "torch cannot use the GPU of the job: there is no GPU, the driver is too old, the architecture is not supported, or the GPU is defective", "request different GPUs, or install a torch version that fits the driver; report a defect to the operators of the cluster"),
        "job-nccl": Code(_E, "the processes of a job on several GPUs lost their connection, without another error", "find the process that ended first, then submit the run again"),
        "job-data": Code(_E, "the data set is missing, or does not fit the settings of the run", "correct the file, its path, or the names of its columns"),
        "job-checkpoint": Code(_E, "the base model or its tokenizer is missing or truncated, or is a different model", "correct the path, or download the model again"),
        "job-config": Code(_E, "torchtune rejects a setting of `finetune.yaml`", "run `validate --with-torchtune`, which names the setting, and correct it"),
        "job-network": Code(_E, "the job needs network access, which compute nodes often lack, for example for a data set or model of the Hugging Face Hub", "use paths on a disk that the nodes mount"),
        "job-wandb": Code(_E, "Weights & Biases rejected the run or could not be reached, and W&B mode is online", "run `wandb login` on the cluster, or set W&B mode to offline"),
        "job-nan-loss": Code(_E, "the loss is NaN or infinite from some step to the end, so the training is unusable from that step on, even if the job is running or has completed", "correct samples without an answer, a learning rate that is too high or a warm-up that is too short; then scaffold and submit again"),
        "job-preempted": Code(_W, "SLURM preempted the job for a job of higher priority", "submit the run again; `Resume from checkpoint` allows long runs to continue"),
        "job-node-failure": Code(_W, "the node failed, or did not start the job", "submit the run again"),
        "job-cancelled": Code(_W, "the job was cancelled", "no action if intended; otherwise submit the run again"),
        "job-failed": Code(_E, "the job failed for an unknown reason; the finding states its state, exit status and last lines", "check the output of the job"),
        "epochs-missing": Code(_E, "SLURM reports that the job completed, but fewer epochs were saved than planned, because the script continued after an error", "check the output of the job"),
    },
    "Submitting": {
        "not-confirmed": Code(_E, "there is no terminal on which `submit` can ask for confirmation", "use `--yes`; to see only the proposal, use `--dry-run`"),
        "submit-unavailable": Code(_E, "a program of SLURM that `submit` needs is not on PATH, or SLURM was switched off", "run `submit` on a login node of the cluster"),
        "queue-unknown": Code(_E, "`squeue` does not answer, so it is unknown which runs have jobs; nothing was submitted", "run `submit` again once `squeue` answers"),
        "submit-refused": Code(_E, "sbatch rejected an array or a job; jobs that were submitted before it remain submitted", "correct the option that the message names, then run `submit` again to submit the remaining runs"),
        "submit-unanswered": Code(_E, "sbatch did not answer, or printed no job ID, so it is unknown whether the job exists; if it does, it is on hold and does not start", "run `submit` again: it first looks for the job"),
        "still-held": Code(_E, "a job was submitted and recorded, but is still on hold because it could not be released", "run `submit` again, or `scontrol release` with the ID that the finding states"),
        "runs-changed": Code(_E, "runs were submitted or changed while `submit` was waiting for confirmation", "run `submit` again, and check the new proposal"),
        "outcome-unseen": Code(_W, "runs have no job in the queue, and it is unknown whether they failed, because there is no accounting or their output directory is on a different machine; `--failed` skips them", "check their results; to submit one of them again, use `--failed --only RUN`"),
        "variable-ignored": Code(_W, "a variable that sbatch reads as an option is set; `submit` does not pass it on, because runs must not depend on the environment of the user who submits them", "set the value in `claude.local.md`, then scaffold again; no action if it is not needed"),
    },
}
"""Every finding code, by section of workflows/troubleshooting.md."""
# fmt: on

CODES: Final = {name: code for section in SECTIONS.values() for name, code in section.items()}
"""Every finding code."""
