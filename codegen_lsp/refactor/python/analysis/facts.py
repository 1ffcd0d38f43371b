"""The facts about one syntax tree, each computed when it is first asked for and then kept."""

from __future__ import annotations

import ast
from functools import cached_property

from attrs import define, field

from codegen_lsp.refactor.python.analysis.bindings import Scope, scope_of_module
from codegen_lsp.refactor.python.analysis.flow_builder import TooComplexError, flow_of
from codegen_lsp.refactor.python.analysis.flow_graph import FlowGraph


@define(slots=False, eq=False)
class ProgramFacts:
    """The scopes and the control flow of a program, or of the part of it that was parsed."""

    tree: ast.Module
    modules: frozenset[str] = frozenset()
    """Names that the whole file imports as modules, if the tree has a part of it only."""
    _flows: dict[int, FlowGraph | None] = field(factory=dict)

    @cached_property
    def module(self) -> Scope:
        """The scope of the module, which has all others in it."""
        return scope_of_module(self.tree)

    @cached_property
    def _scopes(self) -> dict[int, Scope]:
        return {id(scope.node): scope for scope in self.module.within() if scope.kind != "types"}

    def scope(self, node: ast.AST) -> Scope:
        """Return the scope that a function, class, lambda, comprehension or the module opens."""
        return self._scopes[id(node)]

    def flow(self, node: ast.AST) -> FlowGraph | None:
        """Return the control flow of a function or of the module; None where it is too large."""
        if id(node) not in self._flows:
            try:
                self._flows[id(node)] = flow_of(self.scope(node), self.modules)
            except (TooComplexError, RecursionError):
                self._flows[id(node)] = None
        return self._flows[id(node)]
