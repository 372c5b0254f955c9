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


def load(text: str) -> Any:
    """The content of a YAML text. Raises YAMLError for whatever is wrong, also for a key that appears twice."""
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
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))

    def float_of(self, node: yaml.ScalarNode) -> float:
        """A decimal number, `.inf`, `-.inf` or `.nan`."""
        text = str(self.construct_scalar(node))
        if not _FLOAT.fullmatch(text):
            raise yaml.constructor.ConstructorError(None, None, f"no number: {text!r}", node.start_mark)
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


_Loader.yaml_implicit_resolvers = {}  # none of version 1.1
for _name, _pattern in _SCHEMA.items():
    _Loader.add_implicit_resolver(f"{_TAG}{_name}", re.compile(rf"(?:{_pattern.pattern})\Z"), None)
_Loader.add_constructor(f"{_TAG}int", _Loader.int_of)
_Loader.add_constructor(f"{_TAG}float", _Loader.float_of)


class _Dumper(yaml.SafeDumper):
    """Quotes what version 1.1 takes for no text, and what 1.2 does."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    plain = any(pattern.fullmatch(text) for pattern in _SCHEMA.values())
    style = "|" if "\n" in text else "'" if plain else None
    return dumper.represent_scalar(f"{_TAG}str", text, style=style)


_Dumper.add_representer(str, _text)
