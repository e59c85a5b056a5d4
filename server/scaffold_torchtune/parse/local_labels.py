"""What the labels and headings of a claude.local.md mean: the same label is one thing here and another there."""

import re
from collections.abc import Iterator
from typing import Final

from scaffold_torchtune.settings.parameters import DIRECTORIES, OF_LOCAL, PARAMETERS, Parameter, by_label, normalize
from scaffold_torchtune.system.text import close_matches

Topic = frozenset[str]
"""What a part of the document is about, as far as its headings tell: none or several of the names in `_TOPICS`."""

TOP: Final[Topic] = frozenset({"top"})
"""The document itself, above and outside its sections."""

_TOPICS: Final = {
    "nothing": "github git gitlab bitbucket example examples command commands",  # nothing there is a setting of ours
    "slurm": "slurm sbatch scheduler job jobs queue partition",
    "modules": "module modules lmod",
    "wandb": "wandb biases tracking",
    "conda": "conda mamba micromamba miniconda anaconda python virtualenv",
    "paths": "path paths directory directories folder folders storage",
    "service": "hugging huggingface hf openai anthropic google aws azure gcp slack jira asana trello notion linear zoom"
    " kaggle docker zenodo overleaf",
    "mail": "email emails mail mails notification notifications",
    "other": "hardware preferences preference style contact contacts people schedule meetings notes about editor",
    "machine": "cluster clusters hpc machine machines node nodes server servers compute",
    "defaults": "default defaults settings setting config configuration",
    "general": "environment environments env local setup general personal user my resources resource allocation",
}
_TOPIC_OF_WORD: Final = {word: topic for topic, words in _TOPICS.items() for word in words.split()}
_NOT_SLURMS: Final = frozenset({"service", "wandb", "other", "mail"})
_GENERAL: Final = frozenset({"machine", "defaults", "general"})
_LONGEST_HEADING: Final = 6

_KNOWN: Final = [(name, p.local) for name, p in (OF_LOCAL | DIRECTORIES).items() if p.local is not None]
_ANYWHERE: Final = {label: name for name, of in _KNOWN for label in of.anywhere}
_UNLESS_OF_OTHERS: Final = {label: name for name, of in _KNOWN for label in of.unless_of_others}
_SLURMS: Final = {label: name for name, of in _KNOWN for label in of.of_jobs}
_SOMEWHERE: Final[dict[str, list[tuple[str, Topic]]]] = {}
for _name, _of in _KNOWN:
    for _topics, _labels in _of.within.items():
        for _label in _labels:
            _SOMEWHERE.setdefault(_label, []).append((_name, frozenset(_topics.split())))
# Labels that nobody gives to anything but a job.
_OF_JOBS: Final = frozenset({"partition", "constraint", "gpu constraint", "time limit", "walltime", "wall time", "qos"})
_OF_MACHINES: Final = frozenset({"gpus", "mem", "cpus_per_task", "gpu_type"})
# Options of sbatch that no setting of ours stands for.
_OTHER_OPTIONS: Final = frozenset({"nodelist", "ntasks", "mem per cpu", "mem per gpu"})
_FOR_PEOPLE: Final = frozenset(
    {"note", "notes", "purpose", "description", "cluster", "username", "user", "group", "host", "hostname", "login"}
    | {"comments", "gpu types", "available gpu types"}
    | {"login node", "site", "scheduler", "documentation", "docs", "url"}
)
_PREFIXES: Final = frozenset({"default", "my", "the", "slurm", "sbatch"})
_LIKELY_MISSPELT: Final = 0.85
_SHORTEST_MISSPELT: Final = 5


def parameter(name: str) -> Parameter:
    """Return the parameter of a setting of claude.local.md; two of them are no parameter of a run."""
    return DIRECTORIES.get(name) or PARAMETERS[name]


def topic_of(title: str, above: Topic) -> Topic:
    """Return what stands below a heading, or below a bullet, is about, where what stands around it is about `above`."""
    words = normalize(title).split()
    if len(words) > _LONGEST_HEADING:
        words = []
    own = {_TOPIC_OF_WORD[word] for word in words if word in _TOPIC_OF_WORD}
    if " w b " in f" {' '.join(words)} ":
        own.add("wandb")
    if {"modules", "conda"} <= own and "python" in words:
        own.discard("modules")
    if own <= {"mail"} and "slurm" in above:  # a job's mails
        return above
    if "nothing" in own | above:
        return frozenset({"nothing"})
    if not own:
        return above
    return frozenset(own if own & _NOT_SLURMS else own | (above - TOP))


def of_the_title(topic: Topic) -> Topic:
    """Return what stands below the document's title is about, outside all sections."""
    return (topic - _GENERAL) | TOP


def is_of_slurm(topic: Topic) -> bool:
    """Return whether an account or a time there is SLURM's."""
    return bool(topic & {"slurm", "top"}) or bool(topic & _GENERAL and not topic & _NOT_SLURMS)


def is_of_others(topic: Topic) -> bool:
    """Return whether an account there is certainly not SLURM's."""
    return bool(topic & {"nothing", "service", "mail", "wandb"}) and not is_of_slurm(topic)


def is_strict(topic: Topic) -> bool:
    """Return whether every label there ought to be a setting."""
    return bool(topic & {"slurm", "modules"})


def spellings(label: str) -> Iterator[str]:
    """Yield a label as the tables above have it: as it is, without `default` before it or `name` after it."""
    plain = normalize(re.sub(r"\([^()]*\)", " ", label)) or normalize(label)
    words = plain.split()
    starts = 0
    while starts < len(words) - 1 and words[starts] in _PREFIXES:
        starts += 1
    for first in range(starts + 1):
        yield " ".join(words[first:])
        if words[-1:] == ["name"] and len(words) - first > 1:
            yield " ".join(words[first:-1])


def slurms(label: str) -> str | None:
    """Return the setting of SLURM that a label names where SLURM is spoken of."""
    return next((_SLURMS[s] for s in spellings(label) if s in _SLURMS), None)


def is_label(label: str) -> bool:
    """Return whether a label names a setting anywhere."""
    known = (_ANYWHERE, _UNLESS_OF_OTHERS, _SOMEWHERE, _SLURMS)
    return any(spelling in labels for spelling in spellings(label) for labels in known)


def setting(label: str, topic: Topic) -> str | None:
    """Return the setting that a label names in a part of the document about `topic`."""
    if "nothing" in topic:
        return None
    for spelling in spellings(label):
        if spelling in _ANYWHERE:
            return _ANYWHERE[spelling]
        if spelling in _UNLESS_OF_OTHERS and not topic & {"service", "mail", "other"}:
            return _UNLESS_OF_OTHERS[spelling]
        for name, topics in _SOMEWHERE.get(spelling, ()):
            if topic & topics:
                return name
    says_so = {"slurm", "sbatch"} & set(normalize(label).split())
    return slurms(label) if says_so or is_of_slurm(topic) else None


def is_about_jobs(label: str, topic: Topic) -> bool:
    """Return whether a label shows that its section speaks of jobs, where the section's heading does not."""
    if _OF_JOBS & set(spellings(label)):
        return not topic & _NOT_SLURMS
    return "machine" in topic and slurms(label) in {"account", "time"} and not topic & _NOT_SLURMS


def may_describe_the_machine(label: str, value: str, topic: Topic) -> bool:
    """Return whether `GPUs: 8` may be what each node has: below Cluster, and without `Default` before it.

    `Memory: see the wiki` may be anything outside a section about jobs.
    """
    if _PREFIXES & set(normalize(label).split()) or "slurm" in topic or not is_of_slurm(topic):
        return False
    is_prose = slurms(label) in {"mem", "cpus_per_task"} and not any(c.isdigit() for c in value)
    return is_prose or (slurms(label) in _OF_MACHINES and "machine" in topic and not topic & {"defaults", "top"})


def is_for_people(label: str) -> bool:
    """Return whether a label is known to set nothing."""
    return normalize(label) in _FOR_PEOPLE


def is_other_option(label: str) -> bool:
    """Return whether a label is an option of sbatch that cannot be set."""
    return bool(_OTHER_OPTIONS & set(spellings(label)))


def of_the_summary(label: str) -> Parameter | None:
    """Return the hyperparameter that a label names: the summary sets those."""
    found = by_label(label)
    is_one = (
        found
        and found.column
        and found.name != "nodes"
        and (found.kind in {"int", "float", "bool"} or found.name == "system_prompt")
    )
    return found if is_one else None


def of_wandb(label: str) -> str | None:
    """Return the word with which a label below Weights & Biases switches it: `offline`, `enabled`, ..."""
    words = normalize(label).split()
    return next((word for word in words if word in {"offline", "online", "enabled", "disabled", "logging"}), None)


def nearly(label: str) -> tuple[str, str] | None:
    """Return the label that a person may have meant by one that is none, and the setting that it names."""
    known = _ANYWHERE | _SLURMS
    for spelling in spellings(label):
        likely = [one for one in known if one[0] == spelling[:1]]
        near = close_matches(spelling, likely, limit=1, cutoff=_LIKELY_MISSPELT)
        if near and len(spelling) >= _SHORTEST_MISSPELT:
            return near[0], known[near[0]]
    return None
