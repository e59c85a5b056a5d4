"""Free text of documents: prompts, which must arrive as they are written, and what only stands for one."""

import re
import unicodedata

from scaffold_torchtune.findings import Scalar
from scaffold_torchtune.parse.draft import Field
from scaffold_torchtune.parse.typed import Typed
from scaffold_torchtune.settings import kinds
from scaffold_torchtune.settings.kinds import NotTyped
from scaffold_torchtune.shared.text import shown

_NO_TEXT = re.compile(r"\(?(?:none|no|blank|empty|no (?:system )?prompt|no (?:system )?message)\)?\.?", re.IGNORECASE)
_STANDS_FOR_TEXT = re.compile(
    r"\(?(?:same(?: as .*)?|as above|ditto|see .*|todo|tbd|tba|default|varies|various|n/?a)\)?\.?"
    r"|[\"'〃″”]+|.*(?:\.\.\.|…)",
    re.IGNORECASE,
)
_ONE_PAIR = "text in one pair of quotes that does not hold the same quotes, with nothing but a (remark) after it"
_QUOTED = re.compile(r"""(?:"(?P<d>[^"]*)"|'(?P<s>[^']*)'|“(?P<c>[^“”]*)”)\s*(?P<remark>\([^()]*\))?""")
_QUOTES = {'"': '"', "'": "'", "“": "”"}
_CODE = re.compile(r"(?P<mark>`+)(?P<code>.*?)(?P=mark)(?P<after>.*)", re.DOTALL)


def says_none(text: str) -> bool:
    """Whether a text says in words that there is no text: `none`, `(blank)`, `no system prompt`."""
    return bool(_NO_TEXT.fullmatch(text.strip()))


def unquote(text: str) -> tuple[str, str]:
    """The text inside one pair of quotes, and a (remark) after them; other text as it is, without a remark."""
    match = _QUOTED.fullmatch(text.strip())
    if match is None:
        return text.strip(), ""
    return next(t for t in match.group("d", "s", "c") if t is not None), match["remark"] or ""


def read(field: Field) -> Typed:
    """Free text: as it is, in one pair of quotes or in one code span; a (remark) may follow either.

    What stands for a text (`same as above`, `see table`) is none: quotes or a code span make it one.
    """
    if field.exact:
        return Typed(kinds.read("text", field.text))
    written = (field.source if field.source is not None else field.full or field.text).strip()
    if span := _CODE.fullmatch(written):
        remark = span["after"].strip()
        if remark and not _is_remark(remark):
            raise NotTyped(_ONE_PAIR)
        inner, _ = unquote(span["code"])
        return Typed(_written(span["code"] if inner == span["code"].strip() else inner), remark)
    text, remark = unquote(written)
    if text != written:
        return Typed(_written(text), remark)
    if written[:1] in _QUOTES and not _STANDS_FOR_TEXT.fullmatch(written):
        raise NotTyped(_ONE_PAIR)
    if says_none(written):
        return Typed("")
    if _STANDS_FOR_TEXT.fullmatch(written):
        raise NotTyped(f"the text itself; where it really is {shown(written)}, put quotes around it")
    return Typed(_written(text))


def _is_remark(text: str) -> bool:
    return text[0] == "(" or unicodedata.category(text[0]) == "So"


def _written(text: str) -> Scalar:
    """Text of a Markdown document, in which a line break cannot be written as in a program."""
    if "\\n" in text or "\\t" in text:
        raise NotTyped(
            "text without \\n or \\t, of which nobody knows whether they stand for a line break; give the text in a"
            " fenced block below its label, or in experiment_summary.yaml"
        )
    return kinds.read("text", text)
