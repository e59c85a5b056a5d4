"""Every setting of a document reaches the plan with its value and line, in every place and under every label.

The names, labels and topics are written out here instead of being read from a table of the package, so that a name that
the table loses is noticed.
"""

from typing import Any

import pytest

from scaffold_torchtune.findings import Scalar
from scaffold_torchtune.models import Options, Setting, SourceKind
from scaffold_torchtune.parse import local, parse_experiment
from scaffold_torchtune.plan import make_plan
from scaffold_torchtune.plan.run_settings import PlanContext
from support.document_forms import YAML
from support.documents import LOCAL, MODEL, SUMMARY, local_md, parsed, planned, summary, table
from support.given_settings import BY_RUN, OF_ANY_TEMPLATE, OF_LOCAL
from support.sampling import spread
from support.templates import NAME, line_of, planned_with

OTHER_SCRIPT = "/opt/setup_finetune.py"

OF_THE_DATA = {
    "dataset_type", "training_samples", "system_prompt", "prompt", "input_key", "output_key", "train_on_input",
    "packed", "max_seq_len",
}  # fmt: skip
OF_COMPUTE = {"time", "gpus", "mem", "cpus_per_task"}

LABELS: dict[str, str] = {
    "wandb_group": "wandb group, w b group, weights biases group",
    "wandb_tags": "wandb tags, w b tags, weights biases tags",
    "wandb_mode": "wandb mode, w b mode, weights biases mode, weights and biases mode, wandb logging mode,"
    " w b logging mode",
    "dataset_type": "dataset type, data set type",
    "training_samples": "training samples, train samples, samples",
    "system_prompt": "system prompt, system message",
    "prompt": "prompt, prompt template",
    "input_key": "input key, input column",
    "output_key": "output key, output column",
    "train_on_input": "train on input, train on inputs",
    "packed": "packed, packing, sample packing",
    "max_seq_len": "max seq len, max sequence length, maximum sequence length, max seq length, sequence length",
    "lora_rank": "lora rank, rank, r",
    "lora_alpha": "lora alpha, alpha",
    "lora_attn_modules": "lora attn modules, lora attention modules, lora projections",
    "apply_lora_to_mlp": "apply lora to mlp, lora on mlp, lora to mlp, apply lora to the mlp",
    "apply_lora_to_output": "apply lora to output, lora on output, lora to output, apply lora to the output",
    "lora_dropout": "lora dropout, dropout",
    "lr": "lr, learning rate, peak lr, peak learning rate",
    "lr_scheduler": "lr scheduler, scheduler, lr schedule, learning rate schedule, learning rate scheduler",
    "num_warmup_steps": "num warmup steps, warmup steps, warm up steps, warmup, warm up",
    "weight_decay": "weight decay, wd",
    "batch_size": "batch size, batch, bs, per device batch size, batch size per device, batch size per gpu,"
    " per gpu batch size, micro batch size, per device train batch size",
    "batch_size_val": "batch size val, validation batch size",
    "epochs": "epochs, epoch, ep, num epochs, number of epochs",
    "gradient_accumulation_steps": "gradient accumulation steps, gradient accumulation, grad accumulation,"
    " accumulation steps, grad accum",
    "clip_grad_norm": "clip grad norm, gradient clipping, max grad norm",
    "max_steps_per_epoch": "max steps per epoch, maximum steps per epoch",
    "seed": "seed, random seed",
    "enable_activation_checkpointing": "enable activation checkpointing, activation checkpointing,"
    " gradient checkpointing",
    "log_every_n_steps": "log every n steps, log every",
    "run_val_every_n_steps": "run val every n steps, validation every n steps",
    "save_adapter_weights_only": "save adapter weights only, adapter weights only",
    "save_last_epoch_only": "save last epoch only",
    "epochs_to_save": "epochs to save",
    "stash_adapter_weights": "stash adapter weights",
    "resume_from_checkpoint": "resume from checkpoint, resume, resume training",
    "time": "time, time limit, default time, walltime, wall time",
    "gpus": "gpus, gpu, number of gpus, default gpus, num gpus",
    "gpu_type": "gpu type",
    "mem": "mem, memory",
    "cpus_per_task": "cpus per task, cpus",
    "qos": "qos, quality of service",
    "requeue": "requeue",
}
"""The labels that a summary accepts."""

_GENERAL = "machine defaults general"
_ANYWHERE = f"top slurm modules wandb conda paths service mail other {_GENERAL}"
_OF_SLURM = f"top slurm {_GENERAL}"
_OF_JOBS = f"top slurm modules conda paths {_GENERAL}"  # these show the topic of their section
_OF_NODES = "top slurm defaults general"  # elsewhere they may describe the machine

LOCAL_LABELS: dict[str, dict[str, str]] = {
    _ANYWHERE: {
        "conda_env": "conda env, conda environment",
        "my_wandb_project": "my wandb project, wandb project, w b project, weights biases project,"
        " weights and biases project",
        "output_dir_base": "output dir base, output base directory, output base dir, base output directory",
        "scratch_dir": "scratch dir, scratch directory",
        "working_dir": "working directory, working dir",
        "models_dir": "models directory, models dir, model directory",
        "modules": "modules",
        "wandb_entity": "wandb entity, w b entity, weights biases entity, weights and biases entity",
        "wandb_group": "wandb group, w b group",
        "wandb_tags": "wandb tags, w b tags",
        "wandb_mode": "wandb mode, w b mode, weights biases mode, weights and biases mode",
        "mail_user": "mail user",
        "mail_type": "mail type",
        "offline": "compute nodes offline, compute nodes are offline, compute nodes have no internet",
    },
    f"top slurm modules wandb conda paths {_GENERAL}": {
        "my_wandb_project": "default project",
        "output_dir_base": "outputs, output directory, output dir",
    },
    f"top slurm modules conda {_GENERAL}": {"conda_env": "conda"},
    "slurm conda": {"conda_env": "environment, env"},
    "wandb": {
        "my_wandb_project": "project",
        "wandb_entity": "entity",
        "wandb_group": "group, run group",
        "wandb_tags": "tags",
        "wandb_mode": "mode, logging mode",
    },
    _OF_SLURM: {
        "offline": "offline, offline mode",
        "account": "account",
        "constraint": "constraints",
        "time": "time, timelimit",
        "qos": "quality of service",
        "reservation": "reservation",
        "exclude": "exclude, exclude nodes, excluded nodes, nodes to exclude",
        "requeue": "requeue",
    },
    "top slurm defaults": {"nodes": "nodes, number of nodes, num nodes, node count"},
    "slurm": {
        "comment": "comment, job comment",
        "mail_user": "mail, email, e mail, mail address, email address, mail to, notify, notification email",
        "mail_type": "mail types, email type, email types, mail events, email events, email on, mail on, notify on",
    },
    _OF_JOBS: {
        "partition": "partition",
        "constraint": "constraint, gpu constraint",
        "time": "time limit, walltime, wall time",
        "qos": "qos",
    },
    _OF_NODES: {
        "gpus": "gpus, gpu, number of gpus, num gpus, gres",
        "mem": "mem, memory",
        "cpus_per_task": "cpus, cpu, cpus per task, number of cpus",
        "gpu_type": "gpu type",
    },
}
"""Every label of claude.local.md, by the topics of sections in which it is read."""

HEADINGS = {
    "top": "", "slurm": "SLURM", "modules": "Modules", "wandb": "Wandb", "conda": "Conda", "paths": "Paths",
    "service": "Slack", "mail": "Mail", "other": "Contacts", "machine": "Cluster", "defaults": "Defaults",
    "general": "Environment", "nothing": "GitHub",
}  # fmt: skip
"""A heading for each topic."""

LOCAL_TEXTS = {
    **{name: text for name, (text, _) in OF_LOCAL.items()},
    "scratch_dir": "/s",
    "working_dir": "/w",
    "nodes": "1",
}


def _labels(of: dict[str, str]) -> list[tuple[str, str]]:
    return [(name, label) for name, labels in of.items() for label in labels.split(", ")]


def _line(text: str, part: str) -> int:
    return next(number for number, line in enumerate(text.splitlines(), start=1) if part in line)


def _is(setting: Setting, value: Scalar, kind: SourceKind, file: str, line: int) -> None:
    assert (type(setting.value), setting.value) == (type(value), value)
    assert (setting.source.kind, setting.source.file, setting.source.line) == (kind, file, line)


def _in_yaml(document: str) -> Any:
    """Return the plan of a summary in YAML with a minimal claude.local.md."""
    experiment = parse_experiment((SUMMARY.replace(".md", ".yaml"), document), (LOCAL, local_md()), lambda _: True)
    context = PlanContext("/lab/sweep", "/home/ada", "/templates", lambda _: True)
    return make_plan(experiment, Options(names="table"), context)


# --- the summary


@pytest.mark.parametrize(("name", "label"), spread(_labels(LABELS), every=2))
def test_a_line_of_configuration_reaches_the_plan(name: str, label: str) -> None:
    text, value = BY_RUN[name]
    usual = {"Batch size": None} if name == "batch_size" else {"Epochs": None} if name == "epochs" else {}
    rows = table(["Run Name", "Model", "Type"], [["run_1", MODEL, "Fine-tuned"]])
    document = summary(table=rows, training={**usual, label: text})
    plan = planned(document, setup_script=OTHER_SCRIPT)
    _is(plan.runs[0].settings[name], value, SourceKind.CONFIGURATION, SUMMARY, _line(document, f"**{label}:**"))


@pytest.mark.parametrize(("name", "label"), spread(_labels(LABELS), every=2))
def test_a_column_reaches_the_plan(name: str, label: str) -> None:
    text, value = BY_RUN[name]
    document = summary(table=table(["Run Name", "Model", label, "Type"], [["run_1", MODEL, text, "Fine-tuned"]]))
    plan = planned(document, setup_script=OTHER_SCRIPT)
    _is(plan.runs[0].settings[name], value, SourceKind.ROW, SUMMARY, _line(document, "| run_1"))


@pytest.mark.parametrize("label", ["model", "base model"])
def test_the_column_of_models_reaches_the_plan(label: str) -> None:
    document = summary(table=table(["Run Name", label, "Type"], [["run_1", MODEL, "Fine-tuned"]]))
    found = planned(document).runs[0].settings["torchtune_model_name"]
    _is(found, MODEL, SourceKind.ROW, SUMMARY, _line(document, "| run_1"))


@pytest.mark.parametrize("label", ["dataset", "data set", "dataset path", "data", "training data"])
def test_the_column_of_data_sets_reaches_the_plan(label: str) -> None:
    rows = [["run_1", MODEL, "/sets/cities.json", "Fine-tuned"]]
    document = summary(table=table(["Run Name", "Model", label, "Type"], rows))
    run = planned(document).runs[0]
    assert run.data_path == "/sets/cities.json"
    _is(run.settings["dataset_label"], "cities", SourceKind.ROW, SUMMARY, _line(document, "| run_1"))


METHODS = [
    "recipe", "method", "fine tuning method", "finetuning method", "training method", "peft method", "peft type",
    "peft",
    "adapter type", "fine tuning type", "finetuning type", "tuning method", "training type", "fine tuning approach",
    "training approach", "fine tuning strategy", "fine tuning technique", "finetune method", "fine tune method",
    "custom recipe",
]  # fmt: skip


@pytest.mark.parametrize("label", METHODS)
def test_the_recipe_reaches_the_plan(label: str) -> None:
    rows = table(["Run Name", "Model", "Type"], [["run_1", MODEL, "Fine-tuned"]])
    document = summary(table=rows, training={label: "full"})
    found = planned(document).runs[0].settings["custom_recipe"]
    line = _line(document, f"**{label}:**")
    _is(found, "full_finetune_single_device", SourceKind.CONFIGURATION, SUMMARY, line)
    document = summary(table=table(["Run Name", "Model", label, "Type"], [["run_1", MODEL, "full", "Fine-tuned"]]))
    found = planned(document).runs[0].settings["custom_recipe"]
    _is(found, "full_finetune_single_device", SourceKind.ROW, SUMMARY, _line(document, "| run_1"))


# --- the summary in YAML


@pytest.mark.parametrize("name", BY_RUN)
def test_a_key_of_a_run_or_of_controls_reaches_the_plan(name: str) -> None:
    text, value = BY_RUN[name]
    written = f'"{text}"' if isinstance(value, str) else str(value).lower()
    file = SUMMARY.replace(".md", ".yaml")
    taken = (f"  {name}:", "  validation_during" if name == "run_val_every_n_steps" else f"  {name}:")
    lines = [line for line in YAML.splitlines() if not line.startswith(taken)]
    lines[lines.index("controls:")] = f"controls:\n  {name}: {written}"
    shared = "\n".join(lines)
    run = _in_yaml(shared).runs[0]
    if name not in {"lora_rank", "lr"}:  # each run of that document has its own value
        _is(run.settings[name], value, SourceKind.CONFIGURATION, file, _line(shared, f"  {name}: {written}"))
    own = YAML.replace("parameters: {lora_rank: 8, lr: 1e-5}", f"parameters:\n      {name}: {written}")
    own = own.replace("{lora_rank: 16, lr: 5e-5}", "{lora_rank: 16, lr: 5e-5, seed: 1}")
    run = _in_yaml(own).runs[0]
    _is(run.settings[name], value, SourceKind.ROW, file, _line(own, f"      {name}: {written}"))


@pytest.mark.parametrize("name", sorted(OF_THE_DATA | OF_COMPUTE | {"prompt in a run", "system_prompt in a run"}))
def test_a_key_of_the_data_or_of_compute_reaches_the_plan(name: str) -> None:
    name, of_run, _ = name.partition(" in a run")
    text, value = BY_RUN[name]
    written = f'"{text}"' if isinstance(value, str) else str(value).lower()
    document = "\n".join(line for line in YAML.splitlines() if not line.startswith(f"  {name}:"))
    kind = SourceKind.ROW
    if of_run:
        document = document.replace("type: fine-tuned", f"type: fine-tuned\n    {name}: {written}", 1)
    elif name in OF_COMPUTE:
        document = document.replace("type: fine-tuned", f"type: fine-tuned\n    compute:\n      {name}: {written}", 1)
    else:
        document = document.replace("/data/words.json", f"/data/words.json\n    {name}: {written}", 1)
        kind = SourceKind.CONFIGURATION
    found = _in_yaml(document).runs[0].settings[name]
    _is(found, value, kind, SUMMARY.replace(".md", ".yaml"), _line(document, f" {name}: {written}"))


def test_the_project_of_a_summary_in_yaml_reaches_the_plan() -> None:
    document = f"{YAML}output:\n  wandb_project: cities\n"
    found = _in_yaml(document).runs[0].settings["my_wandb_project"]
    _is(found, "cities", SourceKind.CONFIGURATION, SUMMARY.replace(".md", ".yaml"), _line(document, "wandb_project"))


# --- claude.local.md


@pytest.mark.parametrize("name", OF_LOCAL)
def test_a_line_of_claude_local_md_reaches_the_plan(name: str) -> None:
    text, value = OF_LOCAL[name]
    document = local_md(**{name: None}) + f"\n## SLURM\n\n- {name}: {text}\n"
    plan = planned(summary(models={} if name == "models_dir" else None), document)
    _is(plan.runs[0].settings[name], value, SourceKind.LOCAL, LOCAL, _line(document, f"- {name}:"))


@pytest.mark.parametrize("topic", HEADINGS)
def test_every_label_of_claude_local_md_is_read_in_sections_on_its_topics(topic: str) -> None:
    for topics, labels in LOCAL_LABELS.items():
        for name, label in _labels(labels):
            heading = f"## {HEADINGS[topic]}\n\n" if HEADINGS[topic] else ""
            found = local.read_local(f"# Local\n\n{heading}- {label}: {LOCAL_TEXTS[name]}\n", LOCAL)
            read = {setting: field.text for setting, field in found.settings.items()}
            expected = {name: LOCAL_TEXTS[name]} if topic in topics.split() else {}
            if topic == "wandb" and label.startswith("offline"):  # there it states how runs are logged
                expected = {"wandb_mode": "offline"}
            assert read == expected, label


def test_the_directories_of_claude_local_md_are_kept() -> None:
    experiment = parsed(local=local_md(scratch_dir="/s", working_dir="/w"))
    assert {n: experiment.environment[n].value for n in ("scratch_dir", "working_dir")} == {
        "scratch_dir": "/s",
        "working_dir": "/w",
    }


# --- a plain template


@pytest.mark.parametrize("name", OF_ANY_TEMPLATE)
def test_a_key_of_a_plain_template_reaches_the_plan(name: str) -> None:
    text, value = OF_ANY_TEMPLATE[name]
    written = f"'{text}'" if isinstance(value, str) else str(value).lower()
    template = f"{name}: {written}\n"
    rows = table(["Run Name", "Model", "Type"], [["run_1", MODEL, "Fine-tuned"]])
    silent: dict[str, str | None] = {}
    if name in {"my_wandb_project", "output_dir_base", "conda_env"}:
        silent[name] = None
    required: dict[str, dict[str, str | None]] = {"epochs": {"Epochs": None}, "batch_size": {"Batch size": None}}
    usual = required.get(name)
    models: dict[str, str] | None = {} if name == "models_dir" else None
    local_text = local_md(**{"conda_env": None} if name == "venv" else silent)
    document = summary(table=rows, training=usual, models=models)
    plan = planned_with(template, document, local_text, script=OTHER_SCRIPT)
    _is(plan.runs[0].settings[name], value, SourceKind.TEMPLATE, NAME, line_of(template, name))
