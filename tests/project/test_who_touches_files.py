"""The rules of CONTRIBUTING.md for opening and writing files, listing directories and starting processes."""

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
"""The methods of pathlib raise for a name that is too long, a loop of links, or an inaccessible directory."""
LISTS = {"scandir", "listdir", "iterdir", "glob", "rglob"}
MAKES = {"mkdir", "makedirs"}


@functools.cache
def modules() -> dict[str, list[ast.AST]]:
    """Return the nodes of each module by its path in the package."""
    paths = {path.relative_to(PACKAGE).as_posix(): path for path in PACKAGE.rglob("*.py")}
    return {name: list(ast.walk(ast.parse(path.read_text()))) for name, path in paths.items()}


def callers(names: set[str]) -> set[str]:
    """Return the modules that call a function of one of these names on any object, except those whose task it is."""
    return {
        module
        for module, nodes in modules().items()
        for node in nodes
        if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in names
    } - OURS


def test_files_of_experiments_are_opened_in_one_module() -> None:
    # setup_finetune.yaml for a trial of an external script is written into a temporary directory, as are rendered
    # texts, and the report of an unexpected error if the experiment is not writable; SHIPPED has cli/dispatch.py,
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
        "mcp_server/__init__.py",  # its own output
    }
    # a model in its own file, whose size the reader limits; shipped files; the output of a bundled program
    assert callers({"model_validate_json"}) <= {"torchtune_facts/facts.py", "external_checks/ask_torchtune.py"}
    assert callers({"safe_open", "load_file", "read_table", "read_json_auto"}) == set()
    parquet = {module for module, nodes in modules().items() for node in nodes
               if isinstance(node, ast.Attribute) and node.attr == "ParquetFile"}  # fmt: skip
    assert parquet == {"preflight/data_files.py"}


def test_paths_are_examined_by_functions_that_raise_nothing() -> None:
    looks = {
        (module, node.func.attr)
        for module, nodes in modules().items()
        for node in nodes
        # `path.is_file()`: the package's own functions are called by their bare name, with the path
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LOOKS
    }
    # an entry of a listed directory; files that ship with the package; the skill's own directory
    listed = {"preflight/disk.py", "pipeline/backend.py"}
    allowed = {*listed, "system/files.py", "system/layout.py", "cli/dispatch.py"}
    assert {module for module, _ in looks} - allowed <= {
        "external_checks/torchtune_program.py",  # which runs in another Python
        "system/supervisor.py",  # a separate program
        "setup/external.py",  # realpath, which raises nothing
        "plan/checks.py",  # a function that is passed to it
        "system/serialization.py",  # resolves a tag
    }


def test_directories_are_listed_and_created_in_few_modules() -> None:
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
