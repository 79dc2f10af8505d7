"""HTML as values: text is escaped unless it is `Html`, and every element is closed."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

# HTML forbids control characters and lone surrogates; a reader should still see that they were.
_CONTROLS = {code: 0x2400 + code for code in range(32) if code not in (9, 10)} | {127: 0x2421}
_FORBIDDEN = re.compile("[\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff\x80-\x9f]")
_VOID = frozenset({"br", "hr", "meta", "wbr"})

Attribute = str | int | float | bool | None


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


Child = str | int | Iterable["Child"] | None


def escape(text: object) -> Html:
    """`text` as HTML that shows it and does nothing else, also inside an attribute."""
    plain = _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", str(text)).translate(_CONTROLS)
    return Html(html.escape(plain, quote=True))


def join(*children: Child) -> Html:
    """Children one after the other; text is escaped, None is left out."""
    return Html("".join(_flat(children)))


def _flat(children: Iterable[Child]) -> Iterable[str]:
    for child in children:
        if child is None:
            continue
        if isinstance(child, Html):
            yield child
        elif isinstance(child, str | int):
            yield escape(child)
        else:
            yield from _flat(child)


def tag(name: str, /, *children: Child, **attributes: Attribute) -> Html:
    """One element. `class_` and `for_` lose their underscore, other underscores become hyphens.

    Attributes that are None or False are left out; True gives one without a value.
    """
    words = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in _VOID:
        return Html(f"<{name}{words}>")
    return Html(f"<{name}{words}>{join(*children)}</{name}>")


def _attribute(key: str, value: Attribute) -> str:
    if value is None or value is False:
        return ""
    key = key.rstrip("_").replace("_", "-")
    if value is True:
        return f" {key}"
    shown = f"{value:.6g}" if isinstance(value, float) else value
    return f' {key}="{escape(shown)}"'


def link(text: Child, address: str, **attributes: Attribute) -> Html:
    """A link, or only its text where the address is neither of this page nor of the web."""
    if re.match(r"(https?://|#)", address):
        return tag("a", text, href=address, **attributes)
    return tag("span", text, **attributes)


def anchor(stage: str) -> str:
    """The id of a stage's section."""
    return "stage-" + re.sub(r"[^A-Za-z0-9_-]", "-", stage)
