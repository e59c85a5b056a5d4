"""What CONTRIBUTING.md says of who opens and writes files, lists directories and starts processes."""

import ast
import functools
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "server" / "scaffold_torchtune"

OPENS = {"open", "fdopen", "read_text", "read_bytes", "write_text", "write_bytes"}
OURS = {f"system/{name}.py" for name in ("files", "locking", "processes", "supervisor")}
SHIPPED = {
    "torchtune_facts/facts.py",
    "torchtune_facts/__init__.py",
    "mcp_server/calls.py",
    "cli/dispatch.py",
}
RENDERS = "system/templating.py"
LOADS = {"safe_load", "from_string", "FileSystemLoader", "construct_object"}
LOOKS = {"is_file", "is_dir", "exists", "samefile", "resolve", "realpath", "isfile", "isdir"}
"""Those of pathlib raise for a name that is too long, a loop of links, a directory that may not be looked into."""
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
    # of an external script on trial, setup_finetune.yaml is written into a temporary directory, as are rendered texts,
    # and the report of what nobody foresaw, where the experiment is not ours to write to; SHIPPED has cli/dispatch.py,
    # which writes skills and the demo
    in_temporary = {"pipeline/backend.py", "pipeline/diagnosis.py", RENDERS}
    assert callers(OPENS) - SHIPPED == in_temporary


def test_yaml_and_templates_are_read_in_one_module_each() -> None:
    assert callers(LOADS) == {"system/serialization.py"}
    assert callers({"ImmutableSandboxedEnvironment", "SandboxedEnvironment"}) == {"system/templating.py"}


def test_json_is_read_in_one_module() -> None:
    reads = {
        module
        for module, nodes in modules().items()
        for node in nodes
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and (node.value.id, node.attr) in {("json", "load"), ("json", "loads"), ("json", "JSONDecoder")}
    }
    assert reads == {
        "system/serialization.py",
        "external_checks/torchtune_program.py",
        "mcp_server/__init__.py",  # what it has just written
    }
    # a model reads its own file, whose size is bounded by who reads it; what ships; what a program of ours answers
    assert callers({"model_validate_json"}) <= {"torchtune_facts/facts.py", "external_checks/ask_torchtune.py"}
    assert callers({"safe_open", "load_file", "read_table", "read_json_auto"}) == set()
    parquet = {module for module, nodes in modules().items() for node in nodes
               if isinstance(node, ast.Attribute) and node.attr == "ParquetFile"}  # fmt: skip
    assert parquet == {"preflight/data_files.py"}


def test_paths_are_looked_at_by_functions_that_raise_nothing() -> None:
    looks = {
        (module, node.func.attr)
        for module, nodes in modules().items()
        for node in nodes
        # `path.is_file()`: ours are called by their bare name, with the path
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LOOKS
    }
    # an entry of a directory that was listed; what ships with the package; the skill's own directory
    listed = {"preflight/disk.py", "pipeline/backend.py"}
    allowed = {*listed, "system/files.py", "system/layout.py", "cli/dispatch.py"}
    assert {module for module, _ in looks} - allowed <= {
        "external_checks/torchtune_program.py",  # which runs in another Python
        "system/supervisor.py",  # a program of its own
        "setup/external.py",  # realpath, which raises nothing
        "plan/checks.py",  # a function that it is given
        "system/serialization.py",  # resolves a tag
    }


def test_directories_are_listed_and_made_where_it_is_said() -> None:
    assert callers(LISTS) - SHIPPED <= {"pipeline/backend.py", "preflight/disk.py"}
    assert callers(MAKES) == {"new.py", "cli/dispatch.py"}


def test_processes_are_started_in_one_module() -> None:
    starts = {
        module
        for module, nodes in modules().items()
        for node in nodes
        if isinstance(node, ast.Import) and {"subprocess", "multiprocessing"} & {name.name for name in node.names}
    }
    assert starts == {"system/processes.py"}
    assert callers({"system", "popen", "execv", "execve", "execvp", "fork", "posix_spawn"}) == set()
