"""Whether the files of ``python`` steps have the functions that the steps name: for ``asyncroute check``.

Guarantees: nothing of a user's file is run or imported; what is told is certain: where a file might get its names from
elsewhere (``from x import *``, ``exec``, ``globals`` and the like), nothing is.
Failures: none.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator
from pathlib import Path

from asyncroute.config.locate import Positions
from asyncroute.config.model import Config
from asyncroute.config.words import Loc, did_you_mean, key_path, quote
from asyncroute.core.coercion import Python
from asyncroute.core.errors import Problem

_MOST_NAMED = 8
_HELD = " (until then its images are held)"
_ELSEWHERE = frozenset({"__getattr__", "exec", "eval", "globals", "locals", "vars", "setattr", "modules", "__dict__"})
"""What names may come from without being written."""
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


def missing_functions(config: Config) -> list[Problem]:
    """One problem for each ``python`` step whose function is not there, at the line of the step."""
    if config.path is None:
        return []
    places = list(_steps(config))
    found = [(loc, text) for loc, step in places if (text := _trouble(step)) is not None]
    if not found:
        return []
    positions = Positions(config.path.read_text("utf-8-sig"))
    return [Problem(str(config.path), key_path(loc), text + _HELD, positions.line(loc)) for loc, text in found]


def _steps(config: Config) -> Iterator[tuple[Loc, Python]]:
    for name, transform in config.transforms.items():
        for n, step in enumerate(transform.steps):
            if isinstance(spec := step.spec(), Python):
                yield ("transform", name, "steps", n, step.KIND), spec


def _trouble(step: Python) -> str | None:
    """What is wrong with the step's file, and what to do; None: nothing that is certain."""
    try:
        names = _names(step.file)
    except OSError as error:
        return f"{quote(step.file.name)} cannot be read: {(error.strerror or str(error)).lower()}"
    except SyntaxError as error:
        place = f"line {error.lineno}: " if error.lineno else ""
        return f"{quote(step.file.name)} is not Python: {place}{error.msg}: correct it"
    except (ValueError, RecursionError, MemoryError) as error:
        return f"{quote(step.file.name)} is not Python: {str(error) or 'nested too deeply'}: correct it"
    if names is None or step.function in names:
        return None
    known = [name for name, is_function in names.items() if is_function]
    others = f"; name one that it has ({', '.join(known[:_MOST_NAMED])})" if known else "; write it there"
    near = did_you_mean(step.function, known, others)
    return f"{quote(step.file.name)} defines no function {quote(step.function)}{near}"


def _names(file: Path) -> dict[str, bool] | None:
    """What the file's top level defines, and what of that are functions; None: it cannot be told.

    Raises as ``open`` and ``compile`` do.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = ast.parse(file.read_bytes(), str(file))
        compile(tree, str(file), "exec", dont_inherit=True)  # finds what the grammar alone allows; runs nothing
    every = list(ast.walk(tree))
    if any(_is_elsewhere(node) for node in every):
        return None
    found = {name: isinstance(node, ast.FunctionDef) for node in _top(tree) for name in _defined(node)}
    return found | {name: False for node in every if isinstance(node, ast.Global) for name in node.names}


def _is_elsewhere(node: ast.AST) -> bool:
    if isinstance(node, ast.ImportFrom):
        return any(alias.name == "*" for alias in node.names)
    name = getattr(node, "id", None) or getattr(node, "attr", None) or getattr(node, "name", None)
    return name in _ELSEWHERE


def _top(node: ast.AST) -> Iterator[ast.AST]:
    """Every node that stands at a module's top level, in whatever ``if`` or ``try``."""
    for child in ast.iter_child_nodes(node):
        yield child
        if not isinstance(child, _SCOPES):
            yield from _top(child)


def _defined(node: ast.AST) -> Iterator[str]:
    """The names to which this node alone gives a value."""
    if isinstance(node, ast.alias):
        yield node.asname or node.name.partition(".")[0]
    elif isinstance(node, ast.Name):
        if isinstance(node.ctx, ast.Store):
            yield node.id
    else:
        name = getattr(node, "name", None) or getattr(node, "rest", None)  # functions, classes, patterns
        if isinstance(name, str):
            yield name
