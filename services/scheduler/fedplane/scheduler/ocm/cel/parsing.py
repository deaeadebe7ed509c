"""From an expression's text to its tree.

The grammar is the language's own without byte strings, unsigned numbers, messages and optional fields: nothing that selects clusters.
Text, nesting and thereby the tree are bounded, so that neither reading nor evaluating it can exhaust the stack.
Source: the Common Expression Language's definition, section Syntax.
"""

import re
from typing import NamedTuple

from fedplane.scheduler.ocm.cel import tree
from fedplane.scheduler.ocm.cel.values import INTEGERS

__all__ = ["DEPTH_MAX", "EXPRESSION_CHARACTERS_MAX", "parse"]

EXPRESSION_CHARACTERS_MAX = 4_000
"""A page of text; selectors are a line or two."""

DEPTH_MAX = 40
"""How deep expressions may be nested, also to the left as in 1 + 2 + 3; each level takes a few of Python's thousand frames."""

TOKEN = re.compile(
    r"""(?P<space>\s+|//[^\n]*)
    |(?P<double>[0-9]+\.[0-9]+(?:[eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+|\.[0-9]+(?:[eE][+-]?[0-9]+)?)
    |(?P<int>0x[0-9a-fA-F]+|[0-9]+)
    |(?P<raw>[rR](?:\"\"\"[\s\S]*?\"\"\"|'''[\s\S]*?'''|"[^"\n]*"|'[^'\n]*'))
    |(?P<string>[bB]?(?:\"\"\"(?:[^\\]|\\.)*?\"\"\"|'''(?:[^\\]|\\.)*?'''|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'))
    |(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<sign>==|!=|<=|>=|&&|\|\||[-+*/%<>!?:.,()\[\]{}])""",
    re.VERBOSE | re.DOTALL,
)

ESCAPE = re.compile(r"\\(?:([abfnrtv\\'\"`?])|[xX]([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-3][0-7]{2})|(.?))", re.DOTALL)
ESCAPED = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}

CONSTANTS = {"true": True, "false": False, "null": None}
RESERVED = {
    "as", "break", "const", "continue", "else", "for", "function", "if", "import", "in", "let", "loop", "namespace", "package", "return",
    "var", "void", "while",
}  # fmt: skip
"""Names that nothing can have."""


class Token(NamedTuple):
    """A piece of the text, and at which character it begins, from 1."""

    kind: str
    text: str
    at: int


LEVELS = (("==", "!=", "<", "<=", ">", ">=", "in"), ("+", "-"), ("*", "/", "%"))
"""Binary signs, those that bind least first."""


def parse(text: str) -> tree.Node:
    """The tree of an expression. Raises ValueError that says what is wrong, and where."""
    if len(text) > EXPRESSION_CHARACTERS_MAX:
        raise ValueError(f"an expression may have {EXPRESSION_CHARACTERS_MAX} characters, and one has {len(text)}")
    reader = _Reader(_tokens(text))
    found = reader.expression()
    reader.expect("")
    return found


def _tokens(text: str) -> list[Token]:
    found, at = [], 0
    while at < len(text):
        match = TOKEN.match(text, at)
        if match is None:
            raise ValueError(f"{text[at]!r} at character {at + 1} has no meaning")
        kind = str(match.lastgroup)
        if kind != "space":
            found.append(Token(kind, match.group(), at + 1))
        at = match.end()
    return [*found, Token("end", "", len(text) + 1)]


class _Reader:
    """Reads tokens from left to right; a method for each rule of the grammar, those that bind least first."""

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._next = 0
        self._nested = 0

    def expression(self) -> tree.Node:
        self._nested += 1
        self._bounded(self._nested)
        condition = self._joined("||")
        if self._taken("?"):
            one = self._joined("||")
            self.expect(":")
            other = self.expression()
            condition = tree.Choice(condition, one, other, self._depth(condition, one, other))
        self._nested -= 1
        return condition

    def expect(self, text: str) -> None:
        if not self._taken(text):
            raise self._wrong(f"{text!r} is expected" if text else "the expression has ended before")

    def _joined(self, sign: str) -> tree.Node:
        def item() -> tree.Node:
            return self._joined("&&") if sign == "||" else self._binary(0)

        items = [item()]
        while self._taken(sign):
            items.append(item())
        return items[0] if len(items) == 1 else tree.Joined(sign, tuple(items), self._depth(*items))

    def _binary(self, level: int) -> tree.Node:
        if level == len(LEVELS):
            return self._unary()
        left = self._binary(level + 1)
        while (token := self._tokens[self._next]).text in LEVELS[level] and token.kind in {"sign", "name"}:
            self._next += 1
            right = self._binary(level + 1)
            left = tree.Binary(token.text, left, right, self._depth(left, right))
        return left

    def _unary(self) -> tree.Node:
        signs = []
        while (sign := self._tokens[self._next].text) in {"!", "-"} and self._tokens[self._next].kind == "sign":
            self._next += 1
            signs.append(sign)
        negative = bool(signs) and signs[-1] == "-" and self._tokens[self._next].kind in {"int", "double"}
        node = self._member(negative)
        for sign in reversed(signs[:-1] if negative else signs):
            node = tree.Unary(sign, node, self._depth(node))
        return node

    def _member(self, negative: bool) -> tree.Node:
        node = self._primary(negative)
        while True:
            if self._taken("."):
                token = self._tokens[self._next]
                if token.text == "?":
                    raise self._wrong("optional fields (.?) are not supported; guard with has()")
                name = self._name()
                if self._taken("("):
                    arguments = self._list(")")
                    node = tree.Call(name, node, arguments, self._depth(node, *arguments))
                else:
                    node = tree.Select(node, name, self._depth(node))
            elif self._taken("["):
                if self._tokens[self._next].text == "?":
                    raise self._wrong("optional keys ([?) are not supported; guard with in")
                key = self.expression()
                self.expect("]")
                node = tree.Index(node, key, self._depth(node, key))
            else:
                return node

    def _primary(self, negative: bool) -> tree.Node:
        token = self._tokens[self._next]
        if token.kind in {"int", "double", "string", "raw"}:
            self._next += 1
            return self._literal(token, negative)
        if token.kind == "name" and token.text in CONSTANTS:
            self._next += 1
            return tree.Literal(CONSTANTS[token.text])
        if token.kind == "name":
            name = self._name()
            if not self._taken("("):
                return tree.Name(name)
            arguments = self._list(")")
            return tree.Call(name, None, arguments, self._depth(*arguments))
        if self._taken("("):
            inner = self.expression()
            self.expect(")")
            return inner
        if self._taken("["):
            items = self._list("]")
            return tree.ListOf(items, self._depth(*items))
        if self._taken("{"):
            return self._map()
        raise self._wrong("a value is expected")

    def _map(self) -> tree.Node:
        entries: list[tuple[tree.Node, tree.Node]] = []
        while not self._taken("}"):
            key = self.expression()
            self.expect(":")
            entries.append((key, self.expression()))
            if not self._taken(","):
                self.expect("}")
                break
        return tree.MapOf(tuple(entries), self._depth(*(node for entry in entries for node in entry)))

    def _list(self, end: str) -> tuple[tree.Node, ...]:
        items: list[tree.Node] = []
        while not self._taken(end):
            items.append(self.expression())
            if not self._taken(","):
                self.expect(end)
                break
        return tuple(items)

    def _literal(self, token: Token, negative: bool) -> tree.Node:
        if token.kind == "double":
            return tree.Literal(-float(token.text) if negative else float(token.text))
        if token.kind == "int":
            number = int(token.text, 16 if token.text.startswith("0x") else 10) * (-1 if negative else 1)
            if number not in INTEGERS:
                raise ValueError(f"{token.text} at character {token.at} is no 64-bit integer")
            if self._tokens[self._next].text in {"u", "U"} and self._tokens[self._next].at == token.at + len(token.text):
                raise self._wrong("unsigned numbers are not supported")
            return tree.Literal(number)
        if token.text[0] in "bB":
            raise ValueError(f"byte strings are not supported, and there is one at character {token.at}")
        raw = token.text[0] in "rR"
        quoted = token.text[1:] if raw else token.text
        inner = quoted[3:-3] if quoted.startswith(('"""', "'''")) else quoted[1:-1]
        return tree.Literal(inner if raw else ESCAPE.sub(lambda match: _unescaped(match, token), inner))

    def _name(self) -> str:
        token = self._tokens[self._next]
        if token.kind != "name" or token.text in RESERVED:
            raise self._wrong("a name is expected")
        self._next += 1
        return token.text

    def _taken(self, text: str) -> bool:
        token = self._tokens[self._next]
        if token.text != text or token.kind not in {"sign", "end"}:
            return False
        self._next += token.kind == "sign"
        return True

    def _depth(self, *nodes: tree.Node) -> int:
        return self._bounded(1 + max((node.depth for node in nodes), default=0))

    def _bounded(self, depth: int) -> int:
        if depth > DEPTH_MAX:
            raise self._wrong(f"expressions may be nested {DEPTH_MAX} deep")
        return depth

    def _wrong(self, said: str) -> ValueError:
        token = self._tokens[self._next]
        return ValueError(f"{said} at {f'{token.text!r}, character {token.at}' if token.text else 'its end'}")


def _unescaped(match: re.Match[str], token: Token) -> str:
    plain, *codes, octal, unknown = match.groups()
    if plain is not None:
        return ESCAPED.get(plain, plain)
    if unknown is not None:
        raise ValueError(f"{match.group()!r} in the string at character {token.at} is no escape")
    code = int(octal, 8) if octal else int(next(code for code in codes if code), 16)
    if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
        raise ValueError(f"{match.group()!r} in the string at character {token.at} is no character")
    return chr(code)
