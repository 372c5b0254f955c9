"""YAML as people write it today: the core schema of YAML 1.2, read strictly, and written so that both versions agree.

PyYAML follows YAML 1.1, where 1:2 is the number 62, `no` is false, 010 is eight, and 1e-3 is text.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_SCHEMA = {  # YAML 1.2.2, section 10.3.2; `<<`, of version 1.1, merges mappings as before
    "bool": re.compile(r"true|True|TRUE|false|False|FALSE"),
    "int": _INT,
    "float": _FLOAT,
    "null": re.compile(r"~|null|Null|NULL|"),
    "merge": re.compile(r"<<"),
}
_TAG = "tag:yaml.org,2002:"
# What no text by a person or by `dump` comes near. Aliases take no memory here, but whatever walks, checks or prints
# the value afterwards meets each of them in full: ten lines of ten aliases each are 10,000,000,000 values.
MOST_LEVELS = 100
MOST_ALIASED = 100_000
LEAST, MOST = -(2**63), 2**63 - 1
_MOST_DIGITS = 100  # of a number with zeros before it


def load(text: str) -> Any:
    """The content of a YAML text. Raises YAMLError for whatever is wrong, also for a key that appears twice.

    And for what only an attack or a slip holds: nesting over MOST_LEVELS, whole numbers of more than 64 bits, a value
    within itself, and aliases that stand for more than MOST_ALIASED values.
    """
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    except yaml.YAMLError:
        raise
    # Odd documents raise many kinds: KeyError for `!!bool maybe`, RecursionError for a thousand brackets.
    except Exception as error:
        raise yaml.YAMLError(f"{type(error).__name__}: {error}") from error
    finally:
        loader.dispose()


def dump(value: Any) -> str:
    """A YAML text with the keys in their order and multi-line texts as blocks, which `load` reads as it was.

    Texts that either version of YAML would take for something else are quoted.
    """
    return str(yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True))


class _Loader(yaml.SafeLoader):
    _level = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Refuse what is nested too deep, before Python's own limit does."""
        if self._level >= MOST_LEVELS:
            raise _refused(f"nested deeper than {MOST_LEVELS} levels", self.peek_event())  # type: ignore[no-untyped-call]
        self._level += 1
        try:
            node: yaml.Node | None = super().compose_node(parent, index)
        finally:
            self._level -= 1
        if self._level == 0 and node is not None:
            _check_aliases(node)
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Refuse a key that appears twice: the second would silently replace the first."""
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == f"{_TAG}merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, (str, int)) and key in seen:
                where = key_node.start_mark.line + 1
                raise yaml.YAMLError(f"line {where}: {key!r} appears twice; keep one of them")
            if isinstance(key, (str, int)):
                seen.add(key)
        return super().construct_mapping(node, deep)

    def int_of(self, node: yaml.ScalarNode) -> int:
        """Decimal whatever it begins with, 0o octal and 0x hexadecimal."""
        text = str(self.construct_scalar(node))
        if not _INT.fullmatch(text):
            raise yaml.constructor.ConstructorError(None, None, f"no whole number: {text!r}", node.start_mark)
        number = int(text, {"0o": 8, "0x": 16}.get(text[:2], 10)) if len(text) <= _MOST_DIGITS else None
        if number is None or not LEAST <= number <= MOST:
            raise _refused("a whole number of more than 64 bits", node)
        return number

    def float_of(self, node: yaml.ScalarNode) -> float:
        """A decimal number, `.inf`, `-.inf` or `.nan`."""
        text = str(self.construct_scalar(node))
        if not _FLOAT.fullmatch(text):
            raise yaml.constructor.ConstructorError(None, None, f"no number: {text!r}", node.start_mark)
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


def _refused(what: str, at: Any) -> yaml.YAMLError:
    """An error that says where, on one line."""
    return yaml.YAMLError(f"line {at.start_mark.line + 1}: {what}")


def _check_aliases(root: yaml.Node) -> None:
    """Refuse aliases that stand for more than MOST_ALIASED values in all, and one within what it stands for."""
    values: dict[int, int] = {}  # by node, itself and all below; 0 while it is being counted
    aliased = 0

    def count(node: yaml.Node) -> int:
        nonlocal aliased
        if id(node) in values:
            found = values[id(node)]
            if not found:
                raise _refused("a value that contains itself", node)
            aliased += found
            if aliased > MOST_ALIASED:
                raise _refused(f"aliases of this value stand for more than {MOST_ALIASED} values in all", node)
            return found
        values[id(node)] = 0
        inner = getattr(node, "value", ())
        below = 0
        if isinstance(node, yaml.MappingNode):
            below = sum(count(key) + count(value) for key, value in inner)
        elif isinstance(node, yaml.SequenceNode):
            below = sum(map(count, inner))
        values[id(node)] = 1 + below
        return 1 + below

    count(root)


_Loader.yaml_implicit_resolvers = {}  # none of version 1.1
for _name, _pattern in _SCHEMA.items():
    _Loader.add_implicit_resolver(f"{_TAG}{_name}", re.compile(rf"(?:{_pattern.pattern})\Z"), None)
_Loader.add_constructor(f"{_TAG}int", _Loader.int_of)
_Loader.add_constructor(f"{_TAG}float", _Loader.float_of)


class _Dumper(yaml.SafeDumper):
    """Quotes what version 1.1 takes for no text, and what 1.2 does."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    if any(mark in text for mark in "\x85\u2028\u2029"):  # YAML's readers take them for line breaks unless escaped
        return dumper.represent_scalar(f"{_TAG}str", text, style='"')
    plain = any(pattern.fullmatch(text) for pattern in _SCHEMA.values())
    style = "|" if "\n" in text else "'" if plain else None
    return dumper.represent_scalar(f"{_TAG}str", text, style=style)


_Dumper.add_representer(str, _text)
