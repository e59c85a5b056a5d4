"""A stand-in for the Python that has torchtune: a program with answers that a test defines, without torchtune."""

import sys
from pathlib import Path

import pytest

START = """\
#!{python}
import json, os, sys, time, pathlib
folder = pathlib.Path({folder!r})
with (folder / "calls").open("a") as file:
    file.write(json.dumps([sys.argv[1:], os.getcwd()]) + "\\n")
asked = json.load(sys.stdin)
(folder / "asked").write_text(json.dumps(asked))

def say(**parts):
    print(asked["mark"] + json.dumps(parts), flush=True)

def hello(version="0.6.1"):
    say(torchtune=version, torch="2.13.0")

def built(node, **changes):
    modules = dict(q_proj=16, v_proj=16, output_proj=16)
    return dict(parameters=10**9, lora=663552 * node["lora_rank"], layers=16, attention=modules) | changes

def agree(model=None, **others):
    for number, one in enumerate(asked["nodes"]):
        said = built(one["node"], **(model or {{}})) if one["part"] == "model" else {{}}
        say(node=number, **others.get(one["part"], said))
    say(done=len(asked["nodes"]))

"""


def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> Path:
    """Create the stand-in and name it to scaffold-torchtune; it records its calls and its input in `folder`."""
    folder.mkdir(exist_ok=True)
    file = folder / "python-stand-in"
    file.write_text(START.format(python=sys.executable, folder=str(folder)) + body + "\n")
    file.chmod(0o755)
    monkeypatch.setenv("SCAFFOLD_TORCHTUNE_PYTHON", str(file))
    return file
