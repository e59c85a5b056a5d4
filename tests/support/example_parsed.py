"""The expected result of parsing the example, independent of the parser."""

from scaffold_torchtune.findings import Scalar
from scaffold_torchtune.models import Dataset, Experiment, ModelPath, Run, Setting, Source, SourceKind
from support.documents import LOCAL, MODEL, SUMMARY


def from_summary(kind: SourceKind, value: Scalar, line: int, note: str) -> Setting:
    return Setting(value=value, source=Source(kind=kind, file=SUMMARY, line=line, note=note))


def from_local(value: Scalar, line: int, note: str) -> Setting:
    return Setting(value=value, source=Source(kind=SourceKind.LOCAL, file=LOCAL, line=line, note=note))


def example_run(line: int, rank: int, lr: float, spelt: str) -> Run:
    def cell(value: Scalar, note: str) -> Setting:
        return from_summary(SourceKind.ROW, value, line, note)

    return Run(
        name=f"{MODEL}_rank{rank}_lr{spelt}",
        type="fine-tuned",
        model=MODEL,
        parameters={
            "model": cell(MODEL, "Model"),
            "lora_rank": cell(rank, "LoRA Rank"),
            "lr": cell(lr, "Learning Rate"),
            "batch_size": cell(4, "Batch Size"),
        },
        line=line,
    )


def example_experiment() -> Experiment:
    training = "Configuration > Training"
    data = "/scratch/gpfs/LAB/ada/data/capitalization/words_4L_80P_300.json"
    return Experiment(
        name="cap_4L_lora_lr_sweep",
        summary_file=SUMMARY,
        local_file=LOCAL,
        columns=("model", "lora_rank", "lr", "batch_size"),
        runs=(
            example_run(22, 8, 1e-5, "1e-5"),
            example_run(23, 8, 5e-5, "5e-5"),
            example_run(24, 16, 1e-5, "1e-5"),
            example_run(25, 16, 5e-5, "5e-5"),
            Run(
                name=f"{MODEL}_base",
                type="control",
                model=MODEL,
                parameters={"model": from_summary(SourceKind.ROW, MODEL, 26, "Model")},
                line=26,
            ),
        ),
        dataset=Dataset(
            path=from_summary(SourceKind.RESOURCES, data, 36, "Resources > Dataset > Path"),
            label="words_4L_80P_300",
            extension=".json",
            splits={"train": 240, "validation": 30, "test": 30},
        ),
        models=(
            ModelPath(
                name=MODEL,
                path=from_summary(
                    SourceKind.RESOURCES, f"/scratch/gpfs/LAB/pretrained-llms/{MODEL}", 31, "Resources > Models"
                ),
            ),
        ),
        config={
            "recipe": from_summary(SourceKind.CONFIGURATION, "lora_finetune_single_device", 45, training),
            "epochs": from_summary(SourceKind.CONFIGURATION, 2, 46, training),
            "gpus": from_summary(SourceKind.CONFIGURATION, 1, 47, training),
            "batch_size": from_summary(SourceKind.CONFIGURATION, 4, 48, training),
            "system_prompt": from_summary(SourceKind.CONFIGURATION, "Capitalize the given word", 49, training),
        },
        names=(from_summary(SourceKind.SUMMARY, "ck-out-{run_name}/epoch_{N}", 53, "Output > Naming pattern"),),
        environment={
            "scratch_dir": from_local("/scratch/gpfs/LAB/ada", 8, "HPC Environment > Scratch directory"),
            "working_dir": from_local("/home/ada/cruijff_kit", 9, "HPC Environment > Working directory"),
            "models_dir": from_local("/scratch/gpfs/LAB/pretrained-llms", 13, "Shared Resources > Models directory"),
            "account": from_local("lab", 17, "SLURM Defaults > Account"),
            "constraint": from_local("gpu80", 19, "SLURM Defaults > Constraint"),
            "time": from_local("0:59:00", 20, "SLURM Defaults > Default time"),
            "gpus": from_local(1, 21, "SLURM Defaults > Default GPUs"),
            "conda_env": from_local("cruijff", 22, "SLURM Defaults > Default conda environment"),
            "modules": from_local("anaconda3/2025.6", 27, "Module System"),
            "my_wandb_project": from_local("capitalization", 33, "Weights & Biases > Default project"),
            "output_dir_base": from_local(
                "/scratch/gpfs/LAB/ada/ck-outputs", 37, "Common Paths > Output base directory"
            ),
        },
    )


def values(experiment: Experiment) -> object:
    """Return the experiment without the places of its values."""
    dumped = experiment.model_dump(exclude={"warnings"})

    def strip(node: object) -> object:
        if isinstance(node, dict):
            return {key: strip(value) for key, value in node.items() if key not in {"line", "source"}}
        return [strip(item) for item in node] if isinstance(node, list | tuple) else node

    return strip(dumped)
