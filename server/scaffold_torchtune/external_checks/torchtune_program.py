"""torchtune's own check of the nodes of configs. A program that is run by path, by the user's Python.

It reads `{"mark": TEXT, "nodes": [{"part": KEY, "node": {...}}, ...]}` from stdin. Each answer is one line of
JSON after the mark, which no config knows, so that no other output can be mistaken for an answer:

    {"torchtune": VERSION, "torch": VERSION}                      it can be imported, or
    {"missing": REASON}                                           it cannot, and this is the last line
    {"node": N}                                                   torchtune accepts node N
    {"node": N, "refused": MESSAGE, "path": [KEY, ...]}           it does not, because of the value at the path
    {"node": N, "unasked": REASON}                                it is not torchtune's, or not built here
    {"node": N, "parameters": N, "lora": N, "layers": N, "attention": {MODULE: N}}    a model that was built
    {"done": N}                                                   the last line

Nodes are plain data without interpolations; OmegaConf never sees them, so no resolver can read anything. A config
cannot choose the code that runs: only components that torch or torchtune define are inspected, and only their models,
losses, optimizers and learning rate schedules are built. Models are built on the meta device, where they need no
memory.
"""

import functools
import importlib.metadata
import inspect
import json
import os
import re
import sys
from pathlib import Path
from typing import Any, Callable, Dict  # noqa: UP035 - torchtune 0.6.1 runs on Python 3.9 too

ROOTS = ("torch", "torchtune")
LONGEST = 2000
"""of a message, in characters"""

Node = Dict[str, Any]  # noqa: UP006


class Unasked(Exception):
    """The component is not defined by torchtune or torch, or is not built here."""


def isolate() -> None:
    """Prevent imports from our own package and from the working directory."""
    here = Path(__file__).resolve().parent
    sys.path[:] = [path for path in sys.path if Path(path).is_absolute() and Path(path).resolve() != here]


def located(dotpath: Any) -> Any:
    """Return the component at a dotted path, as torchtune finds it.

    Raises:
        Unasked: it is not defined by torch or torchtune.
        TypeError: it cannot be called. Other exceptions are torchtune's own for a path without a component.
    """
    from torchtune.config._utils import _get_component_from_path

    if not isinstance(dotpath, str) or dotpath.partition(".")[0] not in ROOTS:
        raise Unasked("the name is not one of torchtune or torch, so it was not imported")
    component: Any = _get_component_from_path(dotpath)
    if not callable(component):
        raise TypeError(f"{dotpath} is a {type(component).__name__}, which cannot be called")
    definition = component.func if isinstance(component, functools.partial) else component
    # a path may lead through a module to its imports, such as os
    if (getattr(definition, "__module__", None) or "").partition(".")[0] not in ROOTS:
        raise Unasked("not defined by torchtune or torch")
    return component


def model(component: Any, given: Node) -> Node:
    """Build a model on the meta device, and count its parameters."""
    import torch
    from torchtune.modules.peft import get_adapter_params, set_trainable_params

    made = inspect.signature(component).return_annotation
    if not (inspect.isclass(made) and issubclass(made, torch.nn.Module)):
        raise Unasked("not declared to return a model")
    if given.get("quantize_base") or isinstance(component, functools.partial):
        raise Unasked("quantized models are not built for this check")
    with torch.device("meta"):
        built = component(**given)
    set_trainable_params(built, get_adapter_params(built))
    attention: Dict[str, int] = {}  # noqa: UP006
    for name, module in built.named_modules():
        parent, _, own = name.rpartition(".")
        if parent.endswith(".attn") and hasattr(module, "adapter_params"):
            attention[own] = attention.get(own, 0) + 1
    return {
        "parameters": sum(p.numel() for p in built.parameters()),
        "lora": sum(p.numel() for p in built.parameters() if p.requires_grad),
        "layers": len(built.layers) if hasattr(built, "layers") else 0,
        "attention": attention,
    }


def loss(component: Any, given: Node) -> Node:
    """Make a loss."""
    import torch

    if not (inspect.isclass(component) and issubclass(component, torch.nn.Module)):
        raise Unasked("not a loss of torchtune or torch")
    component(**given)
    return {}


def optimizer(component: Any, given: Node) -> Node:
    """Make an optimizer of one parameter."""
    import torch

    if not (inspect.isclass(component) and issubclass(component, torch.optim.Optimizer)):
        raise Unasked("not an optimizer of torch")
    made: Callable[..., Any] = component
    made([torch.nn.Parameter(torch.zeros(1))], **given)
    return {}


def lr_scheduler(component: Any, given: Node) -> Node:
    """Make a learning rate schedule, with the arguments that the recipes pass to it."""
    import torch

    if not component.__module__.startswith(("torchtune.training.lr_schedulers", "torch.optim.lr_scheduler")):
        raise Unasked("not a learning rate schedule of torchtune or torch")
    stepped = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    component(stepped, num_training_steps=100, last_epoch=-1, **given)
    return {}


MADE: Dict[str, Callable[[Any, Node], Node]] = {  # noqa: UP006
    "model": model,
    "loss": loss,
    "optimizer": optimizer,
    "lr_scheduler": lr_scheduler,
}
"""Makers by key; nodes of other keys are only checked against the signature of their component."""


def refusal(error: Exception, part: str, given: Node) -> Node:
    """Return the message of torchtune or torch, and the first argument that it names."""
    message = re.sub(r"\s+", " ", str(error)).strip() or type(error).__name__
    message = re.sub(r"0x[0-9a-f]{4,}", "0x...", message)[:LONGEST]  # addresses differ each time
    named = next((word for word in re.findall(r"\w+", message) if word in given), None)
    return {"refused": message, "path": [part, named] if named else [part]}


def answer_on(part: str, node: Node) -> Node:
    """Return torchtune's answer about one node."""
    from torchtune import config
    from torchtune.config._errors import ConfigError

    given = {name: value for name, value in node.items() if name != "_component_"}
    try:
        component = located(node.get("_component_"))
    except Unasked as reason:
        return {"unasked": str(reason)}
    except Exception as error:  # noqa: BLE001 - whatever importing it raises is the answer
        return {**refusal(error, part, {}), "path": [part, "_component_"]}
    try:
        config.validate({part: node})  # the function that `tune validate` calls
        return MADE[part](component, given) if part in MADE else {}
    except Unasked as reason:
        return {"unasked": str(reason)}
    except ConfigError as found:
        return refusal(found.errors[0], part, given)
    except Exception as error:  # noqa: BLE001 - whatever making it raises is the answer
        return refusal(error, part, given)


def main() -> None:
    """Answer the questions on stdin."""
    isolate()
    asked = json.load(sys.stdin)

    def answer(**parts: Any) -> None:
        # one write, so that output of other threads cannot interrupt it
        os.write(1, ("\n" + asked["mark"] + json.dumps(parts) + "\n").encode())

    try:
        import torch
        from torchtune import config  # noqa: F401 - what it needs must be there too
    except Exception as error:  # noqa: BLE001 - whatever keeps it from being imported is the answer
        answer(missing=f"{type(error).__name__}: {error}"[:LONGEST])
        return
    answer(torchtune=importlib.metadata.version("torchtune"), torch=torch.__version__)
    for number, one in enumerate(asked["nodes"]):
        answer(node=number, **answer_on(one["part"], one["node"]))
    answer(done=len(asked["nodes"]))


if __name__ == "__main__":
    main()
