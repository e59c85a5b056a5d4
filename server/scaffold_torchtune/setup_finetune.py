"""`python -m scaffold_torchtune.setup_finetune`: set up the run in the current directory.

Reads setup_finetune.yaml (or `--config_file`) and writes finetune.yaml and finetune.slurm there. Exit status: 0
success, 2 refused, with nothing written.
"""

import argparse
import os
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

from scaffold_torchtune.findings import Refused, refuse
from scaffold_torchtune.setup.bundled import Outputs, build
from scaffold_torchtune.system import layout
from scaffold_torchtune.system.files import NotRegular, publish, read_regular
from scaffold_torchtune.system.serialization import MAX_YAML_BYTES


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with `arguments` (default: those of the process) and return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m scaffold_torchtune.setup_finetune",
        description="Write finetune.yaml and finetune.slurm in the current directory, from setup_finetune.yaml.",
    )
    parser.add_argument("--config_file", default=layout.SETUP_YAML, help="the file to read (default: %(default)s)")
    name: str = parser.parse_args(arguments).config_file
    try:
        outputs = build(_read(name), file=name)
        _write(outputs)
    except Refused as refusal:
        for problem in refusal.problems:
            sys.stderr.write(problem.sentence() + "\n")
        return 2
    for warning in outputs.warnings:
        sys.stderr.write(f"warning: {warning.sentence()}\n")
    sys.stdout.write(f"wrote {layout.FINETUNE_YAML} and {layout.FINETUNE_SLURM}\n")
    return 0


def _read(name: str) -> str:
    """Return the text of a regular file within the size limit.

    Raises:
        Refused: it is missing, not a regular file, too large, or not UTF-8.
    """
    try:
        return read_regular(name, MAX_YAML_BYTES).decode("utf-8")
    except NotRegular as error:
        fix = "specify a regular file with `--config_file`"
        raise refuse("document-unreadable", "the file is not a regular file", file=name, fix=fix) from error
    except FileNotFoundError as error:
        fix = "use this command in the directory of a run, or specify the file with `--config_file`"
        raise refuse("document-missing", "the file does not exist", file=name, fix=fix) from error
    except UnicodeDecodeError as error:
        message, fix = "the file is not UTF-8 text", "save the file as UTF-8"
        raise refuse("document-unreadable", message, file=name, fix=fix) from error
    except OSError as error:
        message, fix = (
            f"the file cannot be read: {error.strerror}",
            f"make it a readable file of at most {MAX_YAML_BYTES} bytes, or specify another with `--config_file`",
        )
        raise refuse("document-unreadable", message, file=name, fix=fix) from error


def _write(outputs: Outputs) -> None:
    """Publish both files; finetune.slurm is the last, because it makes a run look ready.

    Raises:
        Refused: an output is a link or not a regular file, or the file system refused the write.
    """
    texts = {layout.FINETUNE_YAML: outputs.finetune_yaml, layout.FINETUNE_SLURM: outputs.finetune_slurm}
    for name in texts:
        if os.path.lexists(name) and not stat.S_ISREG(os.lstat(name).st_mode):
            message = f"{name} is a link or is not a regular file; it would be overwritten"
            raise refuse("unsafe-path", message, file=name, fix=f"move {name} elsewhere, then run the command again")
    try:
        publish({Path(name): text.encode("utf-8") for name, text in texts.items()})
    except OSError as error:
        name = str(error.filename or "")
        message = f"the file cannot be written: {error.strerror}"
        fix = "free disk space, get write permission, or move the file away, then run the command again"
        raise refuse("write-failed", message, file=name, fix=fix) from error


if __name__ == "__main__":
    sys.exit(main())
