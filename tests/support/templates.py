"""Plain YAML templates as cruijff_kit's users have them, and the plans that they give."""

from typing import Any

from scaffold_torchtune.models import Experiment, Interface, Options, Plan, Setting
from scaffold_torchtune.parse import parse_experiment
from scaffold_torchtune.plan import make_plan
from scaffold_torchtune.plan.run_settings import PlanContext
from support.documents import DIRECTORY, LOCAL, SUMMARY, local_md, summary

NAME = "setup_finetune_json.yaml"
PATH = f"/lab/{NAME}"
OWN_RECIPE = "cruijff_kit.tools.torchtune.custom_recipes.lora_finetune_single_device_stable"

JSON = f"""\
# Wandb Configuration
my_wandb_project: words
my_wandb_run_name: may1-prompt-1

input_dir_base: /site/data/
input_formatting: ''
dataset_label: words_5L
dataset_ext: '.json'
system_prompt: 'Say it in capitals'

batch_size: 1
epochs: 3
lr: 3e-5
log_every_n_steps: 7
run_val_every_n_steps: 0
stash_adapter_weights: 'true'
conda_env: kit

custom_recipe: {OWN_RECIPE}
"""
"""A template of November 2025: a data set of torchtune, and the script's own recipe."""

PARQUET = JSON.replace(".json", ".parquet") + "dataset_type: instruct_dataset\n"

SILENT = {"conda_env": None, "my_wandb_project": None, "output_dir_base": None}
"""Changes that remove the values of a template from claude.local.md."""


def line_of(template: str, start: str) -> int:
    """Return the line of a template with a prefix."""
    return next(number for number, line in enumerate(template.splitlines(), start=1) if line.startswith(start))


def parsed_with(template: str, text: str | None = None, local: str | None = None) -> Experiment:
    """Return the experiment of the two documents and a template."""
    documents = (SUMMARY, text or summary()), (LOCAL, local or local_md())
    return parse_experiment(*documents, lambda _: True, (NAME, template))


def planned_with(
    template: str,
    text: str | None = None,
    local: str | None = None,
    *,
    interface: Interface | None = None,
    script: str = "bundled",
) -> Plan:
    """Return the plan of the two documents and a template."""
    context = PlanContext(DIRECTORY, "/home/ada", "/templates", lambda _: True, interface=interface)
    return make_plan(parsed_with(template, text, local), Options(template=PATH, setup_script=script), context)


def setting(plan: Plan, name: str, run: int = 0) -> Setting:
    """Return a setting of one run."""
    return plan.runs[run].settings[name]


def value(plan: Plan, name: str, run: int = 0) -> Any:
    return setting(plan, name, run).value
