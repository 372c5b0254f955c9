"""XML as defusedxml reads it: files that declare entities or refer to other files are refused with one line."""

from __future__ import annotations

from typing import Any
from xml.etree.ElementTree import ParseError

import defusedxml.ElementTree
from defusedxml import DefusedXmlException, EntitiesForbidden

from gannet.netem.formats.base import FormatError
from gannet.netem.links.yaml_files import printable, short

LARGEST_BYTES = 2**26
_DEEPEST = 50


def read_xml(text: str) -> Any:
    """The root element, its tags without namespaces. Raises FormatError."""
    if len(text) > LARGEST_BYTES:
        raise FormatError(f"{len(text):,} bytes of XML, and {LARGEST_BYTES:,} at most: leave out nodes")
    try:
        root = defusedxml.ElementTree.fromstring(text.encode())  # bytes: a text may not declare its encoding
    except EntitiesForbidden as error:
        raise FormatError(
            f"declares an XML entity ({short(error.name)}), by which small files become endless: replace it by its "
            "text"
        ) from None
    except DefusedXmlException as error:
        raise FormatError(f"refers to what is outside of the file: {type(error).__name__}") from None
    except (ParseError, ValueError, LookupError, RecursionError, UnicodeError) as error:
        raise FormatError(f"not XML: {printable(error)[:200]}") from None
    stack = [(root, 1)]
    while stack:
        element, depth = stack.pop()
        if depth > _DEEPEST:
            raise FormatError(f"XML that is nested deeper than {_DEEPEST} levels")
        if isinstance(element.tag, str):
            element.tag = element.tag.rpartition("}")[2]
        stack += [(child, depth + 1) for child in element]
    return root


def needed(element: Any, name: str) -> str:
    """An attribute that must be there. Raises FormatError."""
    value = element.get(name)
    if value is None:
        known = ", ".join(f"{key}={short(item)}" for key, item in list(element.attrib.items())[:4]) or "no attribute"
        raise FormatError(f"<{element.tag}> with {known}: {name} is missing")
    return str(value)
