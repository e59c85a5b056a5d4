"""The registry of finding codes: how much each matters, what it means and what to do about it.

`make codes` writes the tables of workflows/troubleshooting.md from it. Texts are Markdown as it stands in a cell there.
"""

from enum import StrEnum
from typing import Final, NamedTuple


class Severity(StrEnum):
    """How much a finding matters: an `error` fails the run or refuses the work, a `warning` stays visible."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class Code(NamedTuple):
    """An entry of the registry; a finding may have another severity than is usual."""

    severity: Severity
    cause: str
    fix: str


_E, _W, _I = Severity.ERROR, Severity.WARNING, Severity.INFO

# fmt: off
SECTIONS: Final[dict[str, dict[str, Code]]] = {
    "Documents": {
        "document-missing": Code(_E, "`experiment_summary.md` or `claude.local.md` is not there", "name it (`--local FILE`), or write it with what the other problems name"),
        "not-a-summary": Code(_E, "the summary is a configuration of another tool (axolotl, LLaMA-Factory, TRL, ...) or of torchtune itself", "write a summary with a table of runs; the finding has the line of `new` that makes one"),
        "document-unreadable": Code(_E, "it is not a regular UTF-8 text file of at most 1 MB, or a file in `.scaffold` was changed", "save it as plain UTF-8; for a file in `.scaffold`: remove it and render again"),
        "missing-field": Code(_E, "a required field is absent", "add the line that the finding gives"),
        "invalid-value": Code(_E, "a value is not what its field must hold", "write what the finding allows"),
        "ambiguous": Code(_E, "the document says two things at once: two tables of runs, two values for one field or in one (`16 (1B models), 8 (3B models)`)", "keep one; where the value differs by run, give the table of runs a column for it"),
        "answer-differs": Code(_E, "an answer (`answers`, `--answer`) gives another value than a document plainly does; answers only fill what is missing or unclear", "leave the answer out, or correct the document first"),
        "duplicate-column": Code(_E, "two columns mean the same parameter", "keep one"),
        "malformed-table": Code(_E, "a row has too few or too many cells", "one cell for each column; a literal pipe is written `\\|`"),
        "name-from-title": Code(_I, "the title has several words: the experiment's name, below which outputs go, is made of them, `Cross-Length Generalization` becomes `cross-length_generalization`", "nothing; or a title of one word, where another name is meant"),
        "two-summaries": Code(_I, "`experiment_summary.yaml` and `experiment_summary.md` plan the same; the YAML form is used, as other tools rely on its run names", "nothing; if they plan different things, that is `ambiguous`"),
        "misspelt-field": Code(_E, "a column or field is nearly the name of a parameter, or stands where it is not read", "write the name, or move it to the place, that the finding suggests"),
        "unused-column": Code(_W, "a column is not a parameter", "nothing, unless it was meant to change the runs"),
        "blank-cell": Code(_W, "a cell of the table of runs is blank where a row above has a value: cells are not merged in Markdown, so the run gets what all runs share, or the default. As information, where that is the same value", "write the value in every row; nothing if what the finding names is meant"),
        "unused-row": Code(_W, "a row of dots, or a table that looks like runs but stands where none are read; as information, a row that is the heading of a group or a summary (`Total`, `Mean`)", "write the runs out in the table under `## All Runs`, if they are to be planned"),
        "unused-field": Code(_W, "a line of a document, or a key of the YAML form, looks like a setting and is not read as one: `QOS`, an Account below Hardware, `module load` outside Module System", "nothing, unless it was meant to change the runs or their jobs"),
        "ignored-remark": Code(_W, "something stands beside a value and is not part of it: `128 (2 x rank)`, `1 x 80GB GPU (constraint: gpu80)`", "nothing, unless it was meant to change the runs"),
        "short-time": Code(_W, "a time such as `2:00`, which SLURM reads as two minutes", "write `2:00:00` or `0:02:00`"),
        "begins-anew": Code(_W, "`requeue` without `resume_from_checkpoint`, or resuming in a run of one epoch, where torchtune saves nothing to resume from", "add `- **Resume from checkpoint:** yes` to Configuration; nothing where runs are short"),
        "runs-differ": Code(_W, "the overview says another number of fine-tuned runs than the table has", "correct the one that is wrong"),
        "levels-differ": Code(_W, "the section Variables, or a sentence that says what the runs have, names other values than they have; the runs count", "correct the one that is wrong"),
        "overridden": Code(_W, "two places give different values, and one wins: a row over Configuration, the output base directory of claude.local.md over the summary's Checkpoint directory; as information, any document over a plain template", "remove the value that is not meant"),
        "own-recipe": Code(_W, "a template names a recipe that is not torchtune's own: it must be in the job's environment, and what it reads is not known", "take `custom_recipe` out of the template, or see that the environment has it"),
        "default-used": Code(_W, "rank or learning rate is given nowhere; setup_finetune's default is used", "give it if another value is meant"),
        "unknown-model": Code(_E, "the model is not in the registry", "write one of the names that the finding lists"),
        "wrong-experiment-dir": Code(_E, "the summary names another experiment directory than its own", "correct the path, or move the summary"),
    },
    "Plan": {
        "identical-runs": Code(_E, "two rows have the same values; where the others are a grid, the finding names the combination that it lacks", "write that combination in one of the two, remove one, or add the column that tells them apart"),
        "name-collision": Code(_E, "two runs would share a directory, maybe but for case", "give distinct names, or `--names table`"),
        "unsafe-name": Code(_E, "a name has characters that a directory must not have, or is reserved", "rename what it is made of"),
        "unsupported-format": Code(_E, "the data set is neither `.json` nor `.parquet`", "convert it"),
        "missing-template": Code(_E, "the template is not where it is expected", "correct `--template`, or make one from `templates/setup_finetune_template.yaml.j2`"),
        "unsupported-setting": Code(_E, "a setting or recipe that the bundled setup_finetune cannot honour, a LoRA setting for full fine-tuning, or full fine-tuning with an external script", "leave it out; or use a script that takes the setting, the bundled one for full fine-tuning"),
        "unread-setting": Code(_W, "a setting is written, but the recipe of torchtune 0.6.1 does not read it", "leave it out, or use a recipe that reads it"),
        "setup-choice": Code(_E, "a setup_finetune.py lies in the working directory and none was chosen, or the plan names a script that this call did not", "`--setup-script bundled` (by tool: the argument or answer `setup_script`), or `--setup-script FILE`; for the server `SCAFFOLD_TORCHTUNE_SETUP_SCRIPT=FILE`"),
        "setup-script-missing": Code(_E, "the named script is not there", "correct the path"),
        "modules-missing": Code(_E, "modules are to be loaded for the setup script, and there is no `module` command here, not in a login shell either", "scaffold on a login node; or take the modules out; or activate yourself and add `--no-activate`"),
        "module-missing": Code(_E, "a module of `claude.local.md` is not there", "name one of those that the finding lists"),
        "conda-missing": Code(_E, "there is no conda, mamba or micromamba, once the modules are loaded", "name the module that brings it, set `CONDA_EXE`, or give `--venv DIR`"),
        "environment-missing": Code(_E, "the conda environment is not there, or `--venv` names no virtual environment", "name one of those that the finding lists, or make it"),
        "activation-failed": Code(_E, "a module or environment is there, and loading or activating it fails or takes longer than two minutes", "look at what it said; try it in a login shell (`bash -l`); or activate it yourself and add `--no-activate`"),
        "package-missing": Code(_E, "the setup script imports a package, mostly `cruijff_kit`, that its environment does not have", "install it there as the finding says (`pip install -e CHECKOUT`); with `--no-activate`: activate the environment"),
        "script-unasked": Code(_E, "The external setup_finetune.py was asked what it takes, and could not even start: it has an error in it, or is not for this Python.", "Correct what its last line names, which the message has; or use `--setup-script bundled`."),
        "script-writes": Code(_I, "Information: what this version of setup_finetune.py does in its own way, which the plan follows: values for which it has no option, where it puts outputs.", "Nothing; name a newer version where another value is meant."),
        "submitted-with": Code(_I, "Information: this setup_finetune.py has no option for QOS, mail, entity or the like; the line that submits the runs hands them over instead.", "Submit with that line, as the result and `scaffold.log` have it."),
        "setup-would-fail": Code(_E, "The external setup_finetune.py was tried on the first run of each kind (model, recipe, GPUs, data), in an empty directory, and failed; the message has its last line. Nothing was written.", "Correct what it names, name another version, or use `--setup-script bundled`."),
        "untaken-setting": Code(_E, "The documents plan a value that this version of setup_finetune.py has no option for, or that it would mistake.", "Plan the value that it always writes (the message has it), take the line out, name a newer version, or use `--setup-script bundled`."),
    },
    "What the runs will meet": {
        "not-seen": Code(_W, "a data set or the directory of a model does not lie where the documents say, seen from here, or cannot be looked into (Parquet without pyarrow, JSON above 64 MiB)", "correct the path if it is wrong; nothing if compute nodes see it"),
        "data-mismatch": Code(_E, "a data set does not hold what the runs read: no part `train`, no column `input`, a number where text must be, no JSON at all", "correct the file, or name its columns and type in the summary"),
        "unread-column": Code(_W, "a column called instruction, system, context, question or the like holds text that no training sees", "put its text into the column that is read, or name it as Input key; nothing if it is left out on purpose"),
        "empty-texts": Code(_W, "inputs or answers of some rows are empty, and are trained on all the same", "fill them or leave the rows out"),
        "no-labels": Code(_E, "samples have nothing left to learn from: the answer lies beyond max_seq_len, or a text is empty; an optimizer step of nothing else makes all that is trained NaN. A warning where that is not certain", "a larger Max sequence length, or leave these rows out"),
        "samples-cut": Code(_W, "samples are longer than max_seq_len, and torchtune cuts them off", "a larger Max sequence length, or shorter rows"),
        "untrained-tokens": Code(_W, "a base model is given a chat format whose special tokens it has never seen, and LoRA does not train embeddings", "use the instruct model, or text_completion_dataset"),
        "split-differs": Code(_W, "the summary says another number of samples than the file has, or asks for more training samples than there are", "correct the summary, or use the data set that it describes"),
        "no-steps": Code(_E, "a step takes more samples than there are: torchtune drops what does not fill a step, and ends well without training", "a smaller batch size or accumulation, or more data"),
        "long-warmup": Code(_W, "the warm-up takes more than half of the training steps, or all: the learning rate is below what is planned in most of them", "fewer Warmup steps (a tenth of training is usual); the default of 100 is too many for small data sets"),
        "checkpoint-mismatch": Code(_E, "a model's directory does not hold the model: files or tensors missing, shapes of another model, a tokenizer file left out, a Git LFS pointer", "correct the model's name or path, or download it again"),
        "output-not-directory": Code(_E, "outputs would go to, or below, something that lies there and is no directory: a file, a FIFO, a device", "name another output directory, or move what lies there"),
        "output-taken": Code(_E, "the output directory of a new run holds what another training left: a copied experiment, a title that is used twice", "another title or output directory, or move what is there away"),
        "output-in-checkpoint": Code(_E, "outputs would go into the directory of the base model, which torchtune refuses", "name another output directory"),
        "other-state": Code(_E, "a job that resumes would go on from the state of another plan in its output directory: torchtune takes the old learning rate and trains the missing epochs alone. As a warning, a state of which nobody knows the plan", "plan the same again, or move the output directory away; or do not resume"),
        "odd-value": Code(_W, "one run has a value that no other has, and with another one the runs are a whole grid: mostly a slip in that cell", "write the value that the finding names; nothing if it is meant"),
        "unusual-value": Code(_W, "a value far outside what is usual: lr 0.3, dropout 0.9, 3,000 epochs, rank 4096", "correct it; nothing if it is meant"),
        "seed-effect": Code(_E, "runs of full fine-tuning that differ by seed alone: torchtune's recipes draw nothing at random there, so all end with the same weights. As information, what the seed changes with LoRA", "keep one of these rows"),
        "incomplete-factorial": Code(_I, "some combinations of the values that vary are not planned, or not with all seeds", "add their rows if they were meant"),
        "confound": Code(_I, "two things change together: alpha with rank, two columns in all rows, the samples in a step", "nothing if it is meant so"),
        "estimate": Code(_I, "what the runs need: GPU memory without activations, disk, steps; each with its basis", "nothing"),
        "gpu-memory": Code(_W, "weights, gradients and optimizer states alone are more than the memory of the GPU that the constraint names; where none is named, than that of any common one", "more or larger GPUs, or a smaller model"),
        "disk-space": Code(_W, "the checkpoints of all runs are more than what is free below the output directory", "make room, or save adapter weights only"),
        "time-limit": Code(_W, "the arithmetic alone takes longer than the time limit, on the GPU that the constraint names", "more time or GPUs"),
    },
    "Access and writing": {
        "outside-roots": Code(_E, "the experiment lies under none of the roots", "the operator adds `--root DIR`"),
        "not-a-directory": Code(_E, "there is no experiment at that path", "give the directory or its summary"),
        "unsafe-path": Code(_E, "a link, or not the plain file or directory that it should be", "look at what lies there; rename it"),
        "write-failed": Code(_E, "no space, no permission", "make room or give permission, then repeat the step"),
        "busy": Code(_E, "another scaffold works on this experiment; the message names its process and machine", "wait; if that process has ended, remove `.scaffold/lock`"),
        "internal-error": Code(_E, "an error in scaffold-torchtune itself (exit status 70)", "repeat the step; if it fails again, report the file that the finding names, which has the traceback and says what to add"),
        "started-run": Code(_E, "a run that was submitted, runs, or has left something would change; its files are never touched unasked", "answer `keep` or `replace` (`--started`), or take the change back"),
        "tied-run": Code(_E, "rows of the table are equally near to a run that was scaffolded before, or one row to several: which of them keeps its directory cannot be said", "answer `directories` with `new`, or with `ROW=DIRECTORY`; or give a row the Run Name of its run"),
        "kept-run": Code(_W, "a started run stays as it was when it started, as the user said, though the documents say something else by now", "no action if intended; a value that only new runs are to have goes into a column"),
        "mixed-runs": Code(_W, "started runs that are kept have another value than all the others have: together they are not one design", "compare them with care; or replace the kept runs, or give the table a column for the value"),
        "copied-scaffold": Code(_E, "the directory is a copy of another experiment, which still is there: its state, jobs and output directories are those of the original", "scaffold the original; or give the copy another title, and move its `.scaffold` and run directories away"),
        "left-over-run": Code(_W, "a run is no longer in the table of runs, and has its `finetune.slurm`: it was started", "no action if intended; submit only by the line in the log"),
        "unknown-name": Code(_E, "no run, kept version or setting has the name that `history` or `explain` was given", "take the name that the finding suggests"),
        "history-damaged": Code(_W, "what lies in `.scaffold/history` or `.scaffold/backup` is no version as it was kept; the others are listed", "look at what lies there; remove it if nobody needs it"),
        "edited-output": Code(_E, "a file was changed by hand, or is not ours", "a value worth keeping goes into the summary; then move the file away, or (but for `skill`) repeat with `--overwrite`; render with it lets setup replace the same files"),
        "not-rendered": Code(_E, "there is no plan yet", "run `render_yaml`"),
        "plan-outdated": Code(_E, "the documents now plan something else", "run `render_yaml`, `run_setup`, `validate`"),
        "template-error": Code(_E, "the template uses a value that is not given, or is malformed", "correct the template; a Jinja2 template's name must not end in `.yaml`"),
        "render-mismatch": Code(_E, "what the template rendered does not read back as the plan", "write `{{ settings.KEY \\| yaml }}` for the value"),
        "unknown-key": Code(_E, "setup_finetune, or the tool, does not take this key or argument", "correct the name that the finding suggests"),
    },
    "Validation": {
        "nothing-checked": Code(_E, "no run was checked", "scaffold first; success over nothing is a failure"),
        "missing-file": Code(_E, "a file of the run is missing", "run `run_setup`; look at why it failed"),
        "unreadable-file": Code(_E, "a file cannot be read as what it should be", "run `run_setup` again"),
        "missing-value": Code(_E, "a planned value is absent", "check setup_finetune and the template, then run them again"),
        "value-mismatch": Code(_E, "a value differs from the plan", "likewise; do not edit by hand"),
        "setup-failed": Code(_E, "the last setup of the run failed; what lies there is older", "mend the cause that the finding names (all that the script printed is in `.scaffold/output/RUN.txt`), then run setup again"),
        "stale-output": Code(_E, "an output is left from an earlier setup, or another script made it", "run setup again"),
        "changed-output": Code(_W, "an output was changed by hand, though its values are right", "change the summary instead; setup with `--overwrite` puts it back"),
        "edit-kept": Code(_W, "a file of a run was edited while the scaffold worked on it; it was written anew, and what somebody had written there is kept under `.scaffold/backup`", "compare the two; a value worth keeping goes into the summary"),
        "changed-meanwhile": Code(_W, "something in the experiment changed while setup scripts ran there, and none of them does it when run alone", "nothing, if it was you; else look at the script"),
        "report-outdated": Code(_W, "`scaffold.html` was not renewed after the scaffold: it was edited, or cannot be written", "move it away, then make it again with `scaffold-torchtune report`"),
        "verdict-unlogged": Code(_W, "the verdict holds, but could not be logged: the disk is full, or cannot be written", "make room or give write permission, then validate again"),
        "wrong-type": Code(_E, "the content is right, the type is not: a number in quotes", "write numbers without quotes in the template"),
        "name-mismatch": Code(_E, "a warning: the name of a row says another value than is planned, or a model's directory is called as another model; an error: a directory's name says another value than its finetune.yaml", "correct the row, the path or the name"),
        "unplanned-value": Code(_E, "a value that nobody planned; as information, one that this version of the script always writes", "find out who wrote it: template, script, or a hand"),
        "default-differs": Code(_W, "an external script has another default than the plan", "give the value in the summary if it matters"),
        "wrong-recipe": Code(_E, "the recipe does not fit the number of GPUs or the plan", "correct Recipe or GPUs; `LoRA` or `full` alone fits any number of GPUs"),
        "duplicate-directive": Code(_E, "a SLURM directive is given twice", "check the script that wrote it"),
        "late-directive": Code(_E, "a directive after the first command, which SLURM ignores", "check the script that wrote it"),
        "placeholder-left": Code(_E, "a placeholder such as `<ACT>` was not replaced", "give the value, or remove the line"),
        "defaults-unchosen": Code(_I, "the settings that no document gives, with the defaults that they have", "nothing, unless another value is meant: then give it in the summary"),
        "sbatch-refused": Code(_E, "SLURM itself does not take the script: account, partition, constraint, time or resources that this cluster does not have. A warning where it will take it later", "correct the directive that the finding names where its value comes from, mostly `claude.local.md`"),
        "sbatch-unavailable": Code(_I, "`sbatch` is there, but no SLURM answers: no configuration, controller or munge", "nothing on a laptop; on a cluster, validate again on a login node"),
        "torchtune-refused": Code(_E, "torchtune itself does not take what `finetune.yaml` holds", "correct the value where it comes from, or setup_finetune and its template"),
        "lora-differs": Code(_E, "the model that torchtune builds has LoRA elsewhere, or of another size, than was asked for", "correct `lora_attn_modules` or the model; report it where neither is wrong"),
        "torchtune-missing": Code(_E, "torchtune was to be asked, and the Python named has none (a warning where nobody asked)", "`SCAFFOLD_TORCHTUNE_PYTHON=PATH` of a Python that has torchtune 0.6.1, or `--no-with-torchtune`"),
        "torchtune-unanswered": Code(_E, "the program that asks torchtune crashed, or took too long", "validate again; look at what it said, which the finding has"),
        "torchtune-unasked": Code(_I, "a component is of others than torchtune and torch, or is not built here, so torchtune was not asked", "nothing if it is meant; look at it yourself"),
        "torchtune-agrees": Code(_I, "torchtune itself takes every config; the finding has version and parameters", "nothing"),
        "unproven-setting": Code(_W, "`validate` does not know where this setting must arrive", "look at it by eye, and report it"),
    },
}
"""Every finding code, by the section of workflows/troubleshooting.md that has it."""
# fmt: on

CODES: Final = {name: code for section in SECTIONS.values() for name, code in section.items()}
"""Every finding code."""
