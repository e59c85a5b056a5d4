"""Checks of base models on disk against what the runs will ask of them."""

from collections.abc import Iterator, Mapping, Sequence

from scaffold_torchtune.findings import Finding
from scaffold_torchtune.models import CheckpointState, DiskState, Plan
from scaffold_torchtune.preflight.run_groups import Subject, at, concerning, grouped
from scaffold_torchtune.system.text import escape, few, shown
from scaffold_torchtune.torchtune_facts.facts import ModelFacts, load

_FEW = 3  # files or tensors
_CONFIG = "config.json"


def checkpoint_findings(plan: Plan, disk: DiskState, listed: Mapping[str, Sequence[str]]) -> Iterator[Finding]:
    """Yield what stands against each base model's directory."""
    models = grouped(plan.runs, lambda run: (str(run.checkpoint_dir), run.text("torchtune_model_name")))
    for (directory, model), runs in models.items():
        found = disk.checkpoints.get(directory)
        if found is None:
            continue
        who = concerning(runs, plan)
        failure = f"torchtune could not load {model} for {who} from {shown(directory)}"
        place = at(runs[0], "model_checkpoint", "models_dir")
        about = Subject(model, "models_dir", place, "checkpoint-mismatch", failure)
        if found.absent:
            what = f"the model directory {shown(directory)} of {who} cannot be seen from here"
            yield about.not_seen(what, unchecked="files", near=found.near)
        elif found.problem:
            yield about.mismatch(f"it {found.problem}", fix="correct the model's path in the summary")
        elif found.snapshots:
            what = "it is an entry of Hugging Face's cache, and each state of the model lies in snapshots below it"
            fix = f"write the path of one: {escape(directory)}/snapshots/{found.snapshots[0]}"
            yield about.mismatch(what, expected=found.snapshots[0], fix=fix)
        else:
            facts = load().model(model)
            yield from _config(about, found, facts)
            yield from _weights(about, found, facts, listed.get(directory))
            yield from _tokenizer(about, found, facts) if facts else ()


def _config(about: Subject, found: CheckpointState, facts: ModelFacts | None) -> Iterator[Finding]:
    """The checkpointer reads config.json for the shapes of attention (FullModelHFCheckpointer.load_checkpoint)."""
    if found.config is None:
        what = f"{_CONFIG} is not a JSON object" if _CONFIG in found.files else f"{_CONFIG} is not there"
        yield about.mismatch(what, expected=_CONFIG, fix="download the whole model repository again")
        return
    missing = [key for key in ("num_attention_heads", "num_key_value_heads", "hidden_size") if key not in found.config]
    if missing:
        what = f"{_CONFIG} has no {', '.join(missing)}"
        yield about.mismatch(what, expected=", ".join(missing), fix=f"use the {_CONFIG} of the model repository")
    shapes = dict(facts.tensors()) if facts else {}
    width = shapes.get("model.embed_tokens.weight", (0, 0))[1]
    actual = found.config.get("hidden_size")
    if width and actual not in {None, width}:
        message = f"{_CONFIG} has the hidden_size {actual}, which is another model's; {about.name} has {width}"
        fix = "correct the model's name or its path in the summary"
        yield about.mismatch(message, expected=str(width), actual=str(actual), fix=fix)


def _weights(
    about: Subject, found: CheckpointState, facts: ModelFacts | None, listed: Sequence[str] | None
) -> Iterator[Finding]:
    """The files that will be loaded, and their tensors against those that torchtune's builder makes.

    Of files in torch's own format (`.bin`) only whether they are there is known.
    """
    names = list(listed or found.weights or found.tensors or ["model.safetensors"])
    missing = [name for name in names if name not in found.files]
    if missing:
        yield _missing(about, found, names, missing)
        return
    loaded = {name: found.tensors[name] for name in names if name in found.tensors}
    broken = {name: each.problem for name, each in loaded.items() if each.problem}
    for name, problem in broken.items():
        yield about.mismatch(f"{name} {problem}", actual=name, fix=f"download {name} again")
    shapes = {name: shape for each in loaded.values() for name, shape in each.shapes.items()}
    if facts is not None and not broken and len(loaded) == len(names):
        yield from _shapes(about, shapes, facts)
    yield from _index(about, found)


def _missing(about: Subject, found: CheckpointState, names: Sequence[str], missing: Sequence[str]) -> Finding:
    """Weights that are not there: the directory is another than is meant, or holds something else than a model."""
    message, actual = f"{_few(missing)} is not there", _few(list(found.tensors)) or "no .safetensors file"
    fix = "download the whole model repository again, or correct the model's name or path in the summary"
    if found.weights:
        message = f"{message}, and the model lies there in {_few(found.weights)}"
        fix = "plan the runs again, so that the files that are there are named"
    elif any(name.startswith("adapter_model.") for name in found.files):
        message = f"{message}: it holds an adapter, without the model that it belongs to"
        fix = (
            "train its run without `Adapter weights only`, or merge the adapter into the model, and name that directory"
        )
    return about.mismatch(message, expected=_few(names), actual=actual, fix=fix)


def _shapes(about: Subject, shapes: Mapping[str, tuple[int, ...]], facts: ModelFacts) -> Iterator[Finding]:
    needed = dict(facts.tensors())
    fix = "correct the model's name or its path in the summary, or download the model again"
    missing = [name for name in needed if name not in shapes]
    if missing:
        message = f"{len(missing)} of the {len(needed)} tensors of {about.name} are missing: {_few(missing)}"
        yield about.mismatch(message, expected=_few(missing), fix=fix)
    for name in [n for n in needed if n in shapes and shapes[n] != needed[n]][:1]:
        message = f"{name} has the shape {_shape(shapes[name])}, but in {about.name} it has {_shape(needed[name])}"
        yield about.mismatch(message, expected=_shape(needed[name]), actual=_shape(shapes[name]), fix=fix)
    spare = sorted(shapes.keys() - needed.keys() - set(facts.skipped_tensors()))
    if spare:
        what = f"its files hold {len(spare)} tensor(s) that torchtune does not know in {about.name}: {_few(spare)}"
        yield about.mismatch(what, actual=_few(spare), fix=f"{fix}, or take them out of the files")


def _index(about: Subject, found: CheckpointState) -> Iterator[Finding]:
    """The index names files that are there, with the tensors in them that it says."""
    absent = sorted({file for file in (found.index or {}).values() if file not in found.files})
    if absent:
        what = f"model.safetensors.index.json names {_few(absent)}, which is not there"
        yield about.mismatch(what, expected=_few(absent), fix="download the missing files")
        return
    for tensor, file in (found.index or {}).items():
        seen = found.tensors.get(file)
        if seen is not None and not seen.problem and tensor not in seen.shapes:
            what = f"model.safetensors.index.json says that {file} holds {tensor}, which it does not"
            yield about.mismatch(what, expected=tensor, fix=f"download {file} and the index again")
            return


def _tokenizer(about: Subject, found: CheckpointState, facts: ModelFacts) -> Iterator[Finding]:
    for name in facts.tokenizer_files.values():
        size = found.files.get(name)
        if size is None or size == 0:
            what = f"the tokenizer's file {name} is {'not there' if size is None else 'empty'}"
            fix = f"download {name} of the model repository (original/ is left out by some downloads)"
            yield about.mismatch(what, expected=name, fix=fix)


def _few(names: Sequence[str]) -> str:
    return few(names, _FEW, more=" and {} more")


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(str(n) for n in shape)
