"""Small rewrites with libcst that keep the meaning, and the formatting of all other code."""

from __future__ import annotations

import ast
from contextlib import suppress

import libcst as cst
from libcst import matchers as m
from libcst.metadata import MetadataWrapper, PositionProvider

_LEAVING = m.Return() | m.Raise() | m.Continue() | m.Break()


class _Within(cst.CSTTransformer):
    """A rewrite of nodes within a set of lines."""

    METADATA_DEPENDENCIES = (PositionProvider,)

    def __init__(self, lines: frozenset[int]) -> None:
        super().__init__()
        self._lines = lines

    def inside(self, node: cst.CSTNode) -> bool:
        """Return whether the whole node lies within the lines."""
        place = self.get_metadata(PositionProvider, node)
        return all(number in self._lines for number in range(place.start.line, place.end.line + 1))


class FlipNegatedIf(_Within):
    """`if not x: a` `else: b` becomes `if x: b` `else: a`."""

    def leave_If(self, original_node: cst.If, updated_node: cst.If) -> cst.If:  # noqa: N802
        other = updated_node.orelse
        test = updated_node.test
        if not self.inside(original_node) or not isinstance(other, cst.Else) or other.leading_lines:
            return updated_node
        if not isinstance(test, cst.UnaryOperation) or not isinstance(test.operator, cst.Not):
            return updated_node
        inner = test.expression
        if test.lpar:
            return updated_node
        return updated_node.with_changes(test=inner, body=other.body, orelse=other.with_changes(body=updated_node.body))


class DropElseAfterLeaving(_Within):
    """`else` after a block that always leaves needs no indentation: its lines follow the `if`."""

    def leave_IndentedBlock(  # noqa: N802
        self, original_node: cst.IndentedBlock, updated_node: cst.IndentedBlock
    ) -> cst.IndentedBlock:
        return updated_node.with_changes(body=self._flattened(original_node.body, updated_node.body))

    def leave_Module(self, original_node: cst.Module, updated_node: cst.Module) -> cst.Module:  # noqa: N802
        return updated_node.with_changes(body=self._flattened(original_node.body, updated_node.body))

    def _flattened(self, original: object, updated: object) -> list[cst.BaseStatement]:
        result: list[cst.BaseStatement] = []
        for old, new in zip(original, updated, strict=True):  # type: ignore[call-overload]
            if isinstance(new, cst.If) and self.inside(old) and isinstance(new.orelse, cst.Else) and _leaves(new.body):
                other = new.orelse
                if (
                    isinstance(other.body, cst.IndentedBlock)
                    and not other.body.footer
                    and not m.matches(other.body.header, m.TrailingWhitespace(comment=m.Comment()))
                ):
                    first, *rest = other.body.body
                    # Comments above and below the `else` keep their place.
                    lead = [*other.leading_lines, *getattr(first, "leading_lines", ())]
                    result += [new.with_changes(orelse=None), first.with_changes(leading_lines=lead), *rest]
                    continue
            result.append(new)
        return result


class ChainComparison(_Within):
    """`a < b and b < c` becomes `a < b < c`, `b` being a name."""

    def leave_BooleanOperation(  # noqa: N802
        self, original_node: cst.BooleanOperation, updated_node: cst.BooleanOperation
    ) -> cst.BaseExpression:
        left, right = updated_node.left, updated_node.right
        if not self.inside(original_node) or not isinstance(updated_node.operator, cst.And):
            return updated_node
        if not isinstance(left, cst.Comparison) or not isinstance(right, cst.Comparison) or left.lpar or right.lpar:
            return updated_node
        middle = left.comparisons[-1].comparator
        if not isinstance(middle, cst.Name) or not middle.deep_equals(right.left) or middle.lpar:
            return updated_node
        ordering = m.LessThan() | m.LessThanEqual() | m.GreaterThan() | m.GreaterThanEqual()
        if not all(m.matches(one.operator, ordering) for one in [*left.comparisons, *right.comparisons]):
            return updated_node
        return left.with_changes(
            comparisons=[*left.comparisons, *right.comparisons], lpar=updated_node.lpar, rpar=updated_node.rpar
        )


class OrInsteadOfConditional(_Within):
    """`x if x else y` becomes `x or y`, `x` being a name."""

    def leave_IfExp(self, original_node: cst.IfExp, updated_node: cst.IfExp) -> cst.BaseExpression:  # noqa: N802
        test, other = updated_node.test, updated_node.orelse
        if not self.inside(original_node) or not isinstance(test, cst.Name) or not test.deep_equals(updated_node.body):
            return updated_node
        if isinstance(other, cst.IfExp | cst.Lambda | cst.NamedExpr | cst.Yield) and not other.lpar:
            return updated_node
        return cst.BooleanOperation(test, cst.Or(), other, lpar=updated_node.lpar, rpar=updated_node.rpar)


CODEMODS: tuple[tuple[type[_Within], type[ast.AST], str], ...] = (
    (DropElseAfterLeaving, ast.If, "Drop the else after a block that leaves"),
    (FlipNegatedIf, ast.If, "Turn the negated condition round"),
    (ChainComparison, ast.BoolOp, "Chain the comparisons"),
    (OrInsteadOfConditional, ast.IfExp, "Use or instead of a conditional expression"),
)
"""Each rewrite with the nodes that it rewrites and its description."""


def rewritten(text: str, tree: ast.Module, lines: frozenset[int]) -> list[tuple[str, str]]:
    """Return the text after each rewrite of the nodes within the lines, and its description.

    Leave out those that libcst can't make. It is slow at parsing and at finding positions, so both are done once, and
    only where there is a node to rewrite.
    """
    present = {type(node) for node in ast.walk(tree) if getattr(node, "lineno", None) in lines}
    apt = [(codemod, label) for codemod, rewrites, label in CODEMODS if rewrites in present]
    if not apt:
        return []
    try:
        wrapper = MetadataWrapper(cst.parse_module(text), unsafe_skip_copy=True)
    except (cst.ParserSyntaxError, RecursionError):
        return []
    results = []
    for codemod, label in apt:
        with suppress(cst.CSTValidationError, RecursionError):
            results.append((wrapper.visit(codemod(lines)).code, label))
    return results


def _leaves(body: cst.BaseSuite) -> bool:
    if not isinstance(body, cst.IndentedBlock) or not body.body:
        return False
    last = body.body[-1]
    return isinstance(last, cst.SimpleStatementLine) and m.matches(last.body[-1], _LEAVING)
