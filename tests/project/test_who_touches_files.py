"""What CONTRIBUTING.md says of who opens and writes files, lists directories and starts processes."""

import ast
import functools
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "server" / "scaffold_torchtune"

OPENS = {"open", "fdopen", "read_text", "read_bytes", "write_text", "write_bytes"}
OURS = {f"system/{name}.py" for name in ("files", "locking", "processes", "supervisor", "own_process")}
SHIPPED = {
    "torchtune_facts/facts.py",
    "torchtune_facts/model_registry.py",
    "mcp_server/resources.py",
    "cli/dispatch.py",
}
LISTS = {"scandir", "listdir", "iterdir", "glob", "rglob"}
MAKES = {"mkdir", "makedirs"}


@functools.cache
def modules() -> dict[str, list[ast.AST]]:
    """The nodes of each module by its path in the package."""
    paths = {path.relative_to(PACKAGE).as_posix(): path for path in PACKAGE.rglob("*.py")}
    return {name: list(ast.walk(ast.parse(path.read_text()))) for name, path in paths.items()}


def callers(names: set[str]) -> set[str]:
    """The modules that call something of these names, whatever it belongs to, but those whose task it is."""
    return {
        module
        for module, nodes in modules().items()
        for node in nodes
        if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in names
    } - OURS


def test_files_of_experiments_are_opened_in_one_module() -> None:
    # of an external script on trial, setup_finetune.yaml is written into a temporary directory
    # and the report of what nobody foresaw, where the experiment is not ours to write to
    in_temporary = {"pipeline/external_setup.py", "pipeline/internal_error.py"}
    assert callers(OPENS) - SHIPPED == {"cli/skill.py", *in_temporary}


def test_directories_are_listed_and_made_where_it_is_said() -> None:
    assert callers(LISTS) - SHIPPED <= {"pipeline/backend.py", "preflight/disk.py", "cli/skill.py"}
    assert callers(MAKES) == {"new/__init__.py", "cli/dispatch.py", "cli/skill.py"}


def test_processes_are_started_in_one_module() -> None:
    starts = {
        module
        for module, nodes in modules().items()
        for node in nodes
        if isinstance(node, ast.Import) and {"subprocess", "multiprocessing"} & {name.name for name in node.names}
    }
    assert starts == {"system/processes.py"}
    assert callers({"system", "popen", "execv", "execve", "execvp", "fork", "posix_spawn"}) == set()
