"""What evaluating a part of an expression may do, and which evaluations may change places.

Nothing is assumed about the types of objects: an attribute may be a property and an operator may be a method of a
class, so both may run any code. Only what the text itself shows is harmless: constants, variables that have a value,
new objects of built-in types, and what is computed from these.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType

from attrs import define, field

from codegen_lsp.refactor.python.analysis.bindings import Occurrence, Scope


class Effect(IntEnum):
    """What an evaluation may do; each includes the ones before."""

    NONE = 0
    """No more than give a value, the same at any time."""
    FRESH = 1
    """Give a new object: at any time, but not the same object twice."""
    LOOKUP = 2
    """Find a method or a function, to call it. May fail."""
    READ = 3
    """Read the state of an object, or compute with it. May fail, and may run any code if a class defines it so."""
    CALL = 4
    """Run any code."""


CONSUMERS = frozenset({"all", "any", "dict", "frozenset", "list", "max", "min", "set", "sorted", "sum", "tuple"})
"""Built-in functions that have used up a generator, or made the last call of a function, when they return."""
_READERS = MappingProxyType(
    {
        **{"bool": "bool", "float": "float", "hasattr": "bool", "id": "int", "int": "int", "isinstance": "bool"},
        **{"issubclass": "bool", "len": "int", "repr": "str", "str": "str", "callable": "bool", "type": ""},
        **{"abs": "", "round": "", "ord": "int", "chr": "str", "range": "range", "slice": "slice", "bytes": "bytes"},
    }
)
"""Built-in functions that do no more than read their arguments, and the types of what they return."""
_CONSTRUCTORS = frozenset({"list", "dict", "set", "tuple", "frozenset"})
BUILTIN_NAMES = frozenset(dir(builtins))
_NUMBERS = frozenset({"int", "float", "bool", "complex"})
_IMMUTABLE = _NUMBERS | {"str", "bytes", "NoneType", "ellipsis"}
_TOTAL = (ast.Add, ast.Sub, ast.Mult, ast.BitAnd, ast.BitOr, ast.BitXor)
"""Operators on integers that can't fail."""
_DISPLAYS: Mapping[type[ast.AST], str] = {
    ast.List: "list",
    ast.ListComp: "list",
    ast.Dict: "dict",
    ast.DictComp: "dict",
    ast.Set: "set",
    ast.SetComp: "set",
    ast.Tuple: "tuple",
    ast.JoinedStr: "str",
}


def may_swap(first: Effect, second: Effect) -> bool:
    """Return whether two evaluations give the same if the second comes before the first."""
    return min(first, second) <= Effect.FRESH


@define
class Knowledge:
    """What the text tells about the names of a scope: which are built-in, modules, or of a built-in type."""

    scope: Scope
    assigned: dict[str, list[ast.expr | None]]
    """The values that the scope assigns to its variables; None for one of another kind."""
    modules: frozenset[str] = frozenset()
    """Names that the whole file imports as modules, of which the tree may have a part only."""
    whole: bool = False
    """The tree is that of the whole file, so that a name that it does not bind is unknown."""
    _types: dict[str, str | None] = field(factory=dict)
    _methods: frozenset[str] | None = None

    def is_builtin(self, name: str) -> bool:
        """Return whether the name means the built-in of that name."""
        if name not in BUILTIN_NAMES:
            return False
        owner = self.scope.owner(name)
        return owner is None or (owner.kind == "module" and not is_bound_in(owner, name))

    def name_effect(self, name: str) -> Effect:
        """Return what reading a variable may do, given that it has a value."""
        owner = self.scope.owner(name)
        if owner is None:
            return Effect.NONE
        if owner is self.scope and owner.kind != "module":
            return Effect.READ if is_written_inside(owner, name) else Effect.NONE
        if owner.kind == "module":
            # Other functions may give a global variable another value, and it may have none yet. A name that nothing
            # defines is taken for one that is defined elsewhere.
            known = not self.whole or name in owner.sure or name not in owner.bound
            shared = any(name in one.global_names for one in owner.within())
            return Effect.NONE if known and not shared else Effect.READ
        writes = [one for one in owner.uses(name) if one.kind in ("write", "delete")]
        return Effect.NONE if len(writes) <= 1 else Effect.READ

    def type_of(self, node: ast.expr) -> str | None:
        """Return the built-in type that an expression has whenever it has a value, or None."""
        if isinstance(node, ast.Constant):
            return type(node.value).__name__
        if (display := _DISPLAYS.get(type(node))) is not None:
            return display
        if isinstance(node, ast.Name):
            return self._type_of_name(node.id)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and self.is_builtin(node.func.id):
            return _READERS.get(node.func.id) or (node.func.id if node.func.id in _CONSTRUCTORS else None)
        if isinstance(node, ast.BinOp):
            left, right = self.type_of(node.left), self.type_of(node.right)
            if left == right == "int" and isinstance(node.op, _TOTAL):
                return "int"
            if isinstance(node.op, ast.Mult) and (left, right) == ("str", "int"):
                return "str"
            return left if left == right and left in ("str", "list") and isinstance(node.op, ast.Add) else None
        if isinstance(node, ast.Compare) and all(isinstance(one, ast.Is | ast.IsNot) for one in node.ops):
            return "bool"
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return "bool"
        return None

    def computes(self, node: ast.expr) -> Effect:
        """Return what an operator does once its operands have values."""
        if isinstance(node, ast.BinOp):
            return Effect.READ if self.type_of(node) is None else Effect.FRESH
        if isinstance(node, ast.UnaryOp):
            return Effect.NONE if self.type_of(node.operand) in _IMMUTABLE else Effect.READ
        assert isinstance(node, ast.Compare)
        if all(isinstance(one, ast.Is | ast.IsNot) for one in node.ops):
            return Effect.NONE
        types = {self.type_of(one) for one in [node.left, *node.comparators]}
        equality = all(isinstance(one, ast.Eq | ast.NotEq) for one in node.ops)
        safe = types <= _IMMUTABLE if equality else types <= {"int", "float", "bool"} or types == {"str"}
        return Effect.NONE if safe and not _has_membership(node) else Effect.READ

    def truth(self, node: ast.expr) -> Effect:
        """Return what testing the truth of a value may do."""
        return Effect.NONE if self.type_of(node) is not None else Effect.READ

    def attribute(self, node: ast.Attribute, *, called: bool) -> Effect:
        """Return what reading an attribute may do, once its object has a value."""
        kind = self.type_of(node.value)
        if kind is not None and hasattr(getattr(builtins, kind, None), node.attr):
            return Effect.NONE
        if called and isinstance(node.value, ast.Call) and _is_super(node.value) and node.attr == "__init__":
            return Effect.NONE
        if self._is_module(node) or (called and (self._is_module(node.value) or self._is_method(node))):
            return Effect.NONE
        return Effect.LOOKUP if called else Effect.READ

    def _is_module(self, node: ast.expr) -> bool:
        """Return whether an expression is a module, whose functions are taken to be there and to stay."""
        if isinstance(node, ast.Attribute):
            return node.attr == "path" and getattr(node.value, "id", "") == "os" and self._is_module(node.value)
        if not isinstance(node, ast.Name):
            return False
        owner = self.scope.owner(node.id)
        if owner is None or node.id not in owner.bound:
            return (owner is None or owner.kind == "module") and node.id in self.modules
        bound = [one.node for one in written(owner.uses(node.id))]
        return node.id in owner.modules - owner.imported and all(isinstance(one, ast.alias) for one in bound)

    def _is_method(self, node: ast.Attribute) -> bool:
        """Return whether an attribute is a method that the class around defines, which is taken to stay."""
        if self._methods is None:
            self._methods = _methods_around(self.scope)
        first = next(iter(_positional(self.scope.node)), None)
        if not isinstance(node.value, ast.Name) or node.value.id != first or node.attr not in self._methods:
            return False
        return len(written(self.scope.uses(first))) == 1

    def calls(self, node: ast.Call) -> Effect:
        """Return what a call may do, once the function and its arguments have values."""
        if not isinstance(node.func, ast.Name) or not self.is_builtin(node.func.id):
            return Effect.CALL
        name = node.func.id
        if node.keywords or any(isinstance(one, ast.Starred) for one in node.args):
            return Effect.CALL
        if name in _CONSTRUCTORS and not node.args:
            return Effect.FRESH
        if name == "super":
            return Effect.NONE if not node.args else Effect.CALL
        if name not in _READERS:
            return Effect.CALL
        known = {self.type_of(one) for one in node.args}
        harmless = (
            name == "len" and known <= {"list", "dict", "set", "tuple", "str", "bytes", "range", "frozenset"}
        ) or (name in ("str", "repr", "bool", "id", "type", "callable") and known <= _IMMUTABLE)
        return Effect.FRESH if harmless or name in ("id", "callable") else Effect.READ

    def iterates(self, node: ast.expr) -> Effect:
        """Return what going through the elements of a value may do."""
        return Effect.NONE if self.type_of(node) in {*_DISPLAYS.values(), "range", "bytes"} else Effect.CALL

    def is_consumed(self, call: ast.Call) -> bool:
        """Return whether a call is done with the functions and generators that it gets when it returns."""
        if isinstance(call.func, ast.Name):
            return call.func.id in CONSUMERS and self.is_builtin(call.func.id)
        if not isinstance(call.func, ast.Attribute):
            return False
        kind = self.type_of(call.func.value)
        return (kind == "str" and call.func.attr == "join") or (kind == "list" and call.func.attr in ("sort", "extend"))

    def _type_of_name(self, name: str) -> str | None:
        if name not in self._types:
            self._types[name] = None
            self._types[name] = self._inferred(name)
        return self._types[name]

    def _inferred(self, name: str) -> str | None:
        """Return the type of a variable of this scope if everything that it is given has the same one."""
        if name not in self.scope.bound or self.scope.kind == "module" or is_written_inside(self.scope, name):
            return None
        writes = sum(one.kind == "write" for one in self.scope.own[name])
        values = self.assigned.get(name, [])
        if len(values) != writes or name in self.scope.parameters or any(one is None for one in values):
            return None
        types = {self.type_of(one) for one in values if one is not None}
        return types.pop() if len(types) == 1 else None


def knowledge_of(scope: Scope, modules: frozenset[str] = frozenset(), *, whole: bool = False) -> Knowledge:
    """Return what the text tells about the names of a function or module.

    Args:
        scope: the function or module.
        modules: names that the whole file imports as modules.
        whole: the scope is in the tree of the whole file.
    """
    assigned: dict[str, list[ast.expr | None]] = {}
    stack: list[ast.AST] = list(getattr(scope.node, "body", [])) if not isinstance(scope.node, ast.Lambda) else []
    while stack:
        node = stack.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    assigned.setdefault(target.id, []).append(node.value)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            assigned.setdefault(node.target.id, []).append(node.value)
        elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            value = ast.BinOp(ast.Name(node.target.id, ast.Load()), node.op, node.value)
            assigned.setdefault(node.target.id, []).append(value)
        stack += [one for one in ast.iter_child_nodes(node) if not isinstance(one, ast.expr)]
    return Knowledge(scope, assigned, modules, whole)


def _methods_around(scope: Scope) -> frozenset[str]:
    """Return the methods of the class that a method is in, but those that objects of the class may have replaced."""
    owner = scope.parent
    if owner is None or owner.kind != "class" or getattr(scope.node, "decorator_list", None):
        return frozenset()
    methods = {
        name
        for name, uses in owner.own.items()
        for binding in [written(uses)]
        if len(binding) == 1
        and isinstance(node := binding[0].node, ast.FunctionDef | ast.AsyncFunctionDef)
        and not node.decorator_list
    }
    replaced = {
        node.attr
        for node in ast.walk(owner.node)
        if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load)
    }
    looked_up = {"__getattribute__", "__setattr__"} & owner.own.keys()
    return frozenset() if looked_up else frozenset(methods - replaced)


def _positional(node: ast.AST) -> list[str]:
    arguments = getattr(node, "args", None)
    return (
        [one.arg for one in [*arguments.posonlyargs, *arguments.args]] if isinstance(arguments, ast.arguments) else []
    )


def is_written_inside(scope: Scope, name: str) -> bool:
    """Return whether a function or class inside a scope gives a variable of the scope another value."""
    return any(one.kind in ("write", "delete") for one in scope.inner_uses(name))


def is_bound_in(module: Scope, name: str) -> bool:
    """Return whether a module binds a name, itself or by `global` in a function, or may by `import *`."""
    return (
        name in module.bound
        or module.has_star_import
        or any(name in one.global_names for one in module.within() if one is not module)
    )


def is_known(module: Scope, name: str) -> bool:
    """Return whether a name that is not local has a value: the module always binds it, or it is built-in."""
    return name in module.sure or (name in BUILTIN_NAMES and name not in module.bound) or module.has_star_import


def written(occurrences: list[Occurrence]) -> list[Occurrence]:
    """Return those occurrences that give a variable a value or take it away."""
    return [one for one in occurrences if one.kind in ("write", "delete")]


def _has_membership(node: ast.Compare) -> bool:
    return any(isinstance(one, ast.In | ast.NotIn) for one in node.ops)


def _is_super(node: ast.Call) -> bool:
    return isinstance(node.func, ast.Name) and node.func.id == "super" and not node.args
