"""The facts about one syntax tree, each computed when it is first asked for and then kept."""

from __future__ import annotations

import ast
import re
from functools import cached_property

from attrs import define, field

from codegen_lsp.refactor.python.analysis.bindings import Scope, scope_of_module
from codegen_lsp.refactor.python.analysis.flow_builder import TooComplexError, flow_of
from codegen_lsp.refactor.python.analysis.flow_graph import FlowGraph

_IMPORTS = re.compile(r"^import[ \t]+(.+)$", re.MULTILINE)
_IMPORTED = re.compile(r"([\w.]+)(?:[ \t]+as[ \t]+(\w+))?")
_ASSIGNED = re.compile(r"^(\w+)[ \t]*=[^=]", re.MULTILINE)


@define(slots=False, eq=False)
class ProgramFacts:
    """The scopes and the control flow of a program, or of the part of it that was parsed."""

    tree: ast.Module
    text: str = ""
    """The whole file, if the tree has a part of it only."""
    _flows: dict[int, FlowGraph | None] = field(factory=dict)
    _scopes: dict[int, Scope] = field(factory=dict)

    @cached_property
    def module(self) -> Scope:
        """The scope of the module, which has all others in it."""
        return scope_of_module(self.tree)

    @cached_property
    def _modules(self) -> frozenset[str]:
        """Names that only `import` statements bind at the top of the whole file, judging by its lines."""
        names = [
            (alias or dotted).split(".")[0]
            for line in _IMPORTS.findall(self.text)
            for dotted, alias in _IMPORTED.findall(line.split("#")[0])
        ]
        return frozenset(names) - set(_ASSIGNED.findall(self.text))

    def scope(self, node: ast.AST) -> Scope:
        """Return the scope that a function, class, lambda, comprehension or the module opens."""
        if id(node) not in self._scopes:
            self._scopes[id(node)] = self.module.opened_by(node)
        return self._scopes[id(node)]

    def flow(self, node: ast.AST) -> FlowGraph | None:
        """Return the control flow of a function or of the module; None where it is too large."""
        if id(node) not in self._flows:
            try:
                self._flows[id(node)] = flow_of(self.scope(node), self._modules, whole=not self.text)
            except (TooComplexError, RecursionError):
                self._flows[id(node)] = None
        return self._flows[id(node)]
