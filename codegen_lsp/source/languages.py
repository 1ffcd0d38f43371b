"""What completion knows about programming languages, as a table: how comments, strings and blocks look in text.

The six languages that CodeGen was trained on are on by default; the others are here so that a user can turn them on. A
language that is turned on without being in the table is treated as text whose blocks show by indentation and braces.
"""

from __future__ import annotations

from pathlib import PurePath

from attrs import frozen


@frozen
class Language:
    """How one language's source looks."""

    name: str
    """For a person."""
    line_comment: str | None
    """What opens a comment that ends with the line."""
    block_comment: tuple[str, str] | None
    """What opens and closes a comment that may span lines."""
    quotes: tuple[str, ...]
    """String delimiters, longer ones first."""
    long_quotes: frozenset[str]
    """Those of `quotes` whose strings may span lines."""
    braces: bool
    """Whether blocks are closed by `}`; else they end where the indentation does."""
    indent: str = "    "
    """One level of indentation in a file that has none to copy."""
    top_level: tuple[str, ...] = ()
    """How a line begins that starts another definition at the outermost level."""


def _braces(name: str, *, indent: str = "    ", top_level: tuple[str, ...] = (), long_quote: str = "") -> Language:
    quotes = ('"', "'", long_quote) if long_quote else ('"', "'")
    return Language(name, "//", ("/*", "*/"), quotes, frozenset({long_quote} - {""}), True, indent, top_level)


_PYTHON = Language(
    "Python",
    "#",
    None,
    ('"""', "'''", '"', "'"),
    frozenset({'"""', "'''"}),
    False,
    top_level=("def ", "class ", "async def ", "@", "if __name__"),
)
_JAVASCRIPT = _braces(
    "JavaScript",
    indent="  ",
    top_level=("function ", "class ", "export ", "async function "),
    long_quote="`",
)
_TYPESCRIPT = _braces(
    "TypeScript",
    indent="  ",
    top_level=("function ", "class ", "export ", "async function ", "interface ", "type "),
    long_quote="`",
)

GENERIC = Language("text", None, None, ('"',), frozenset(), True)
"""For a language that a user turned on and that is not in the table."""

LANGUAGES: dict[str, Language] = {
    "python": _PYTHON,
    "c": _braces("C", top_level=("#include ", "#define ", "static ", "typedef ")),
    "cpp": _braces("C++", top_level=("#include ", "#define ", "static ", "typedef ", "template", "namespace ")),
    "go": _braces("Go", indent="\t", top_level=("func ", "type ", "var ", "const "), long_quote="`"),
    "java": _braces("Java", top_level=("import ", "public class ", "class ", "interface ")),
    "javascript": _JAVASCRIPT,
    "javascriptreact": _JAVASCRIPT,
    "typescript": _TYPESCRIPT,
    "typescriptreact": _TYPESCRIPT,
    "csharp": _braces("C#"),
    "cuda-cpp": _braces("CUDA C++"),
    "objective-c": _braces("Objective-C"),
    "kotlin": _braces("Kotlin"),
    "scala": _braces("Scala", indent="  "),
    "swift": _braces("Swift"),
    "rust": Language("Rust", "//", ("/*", "*/"), ('"',), frozenset({'"'}), True),
    "php": _braces("PHP"),
    "ruby": Language("Ruby", "#", None, ('"', "'"), frozenset(), False, "  "),
    "lua": Language("Lua", "--", None, ('"', "'"), frozenset(), False, "  "),
    "r": Language("R", "#", None, ('"', "'"), frozenset(), True, "  "),
    "julia": Language("Julia", "#", None, ('"""', '"'), frozenset({'"""'}), False),
    "perl": Language("Perl", "#", None, ('"', "'"), frozenset(), True),
    "shellscript": Language("Shell", "#", None, ('"', "'"), frozenset({'"', "'"}), False, "  "),
}
"""By LSP language identifier."""

DEFAULT_LANGUAGES = frozenset({"python", "c", "cpp", "go", "java", "javascript", "javascriptreact"})
"""Identifiers of the languages CodeGen was trained on."""

EVERY_LANGUAGE = "*"
"""In a set of identifiers: all of them."""

IDENTIFIER_OF_SUFFIX = {
    ".py": "python",
    ".pyi": "python",
    ".c": "c",
    ".h": "c",
    ".cc": "cpp",
    ".cpp": "cpp",
    ".cxx": "cpp",
    ".hh": "cpp",
    ".hpp": "cpp",
    ".go": "go",
    ".java": "java",
    ".js": "javascript",
    ".cjs": "javascript",
    ".mjs": "javascript",
    ".jsx": "javascriptreact",
    ".ts": "typescript",
    ".tsx": "typescriptreact",
    ".rs": "rust",
    ".rb": "ruby",
    ".php": "php",
    ".lua": "lua",
    ".sh": "shellscript",
}
"""LSP language identifiers by file name extension, for files that no editor has identified."""


def language_of(identifier: str) -> Language:
    """The language with this LSP identifier; `GENERIC` when the table has none."""
    return LANGUAGES.get(identifier, GENERIC)


def identifier_of(path: PurePath) -> str:
    """Return the LSP language identifier that a file's extension suggests; `plaintext` for an unknown one."""
    return IDENTIFIER_OF_SUFFIX.get(path.suffix.lower(), "plaintext")
