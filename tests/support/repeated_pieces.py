"""Pieces of text whose repetition may be slow to read, and the places of documents in which they may stand."""

from collections.abc import Callable

from support.documents import local_md, summary

PIECES = [
    "`", "``a", "` ", "*", "_", "**a ", "__a ", "[a](", "![", "<", "<a ", "<!--", "&#1;", "\\|", "| ", "- ", "> ",
    "a: ", "(", "( ", " (a", "()", "'", '"a', "“", " ", "\u00a0", "a ", ", ", "a, ", " or ", "/", "~", "=", "0", "1:",
    "✅ ", "e\u0301", "same as ", "lora ", "LoRA, ", "every 1 ", "cosine ", "- a\n", "# a\n", "a\n\n", "lr: 1\n",
    "## System prompt\na\n", "**lr:** 1\n", "| a | b |\n", "```\n", "> a\n", "  - a\n", "<br>", "x-", " => ",
]  # fmt: skip


def in_summary(text: str) -> tuple[str, str]:
    return text, local_md()


PLACES: dict[str, Callable[[str], tuple[str, str]]] = {
    "prompt": lambda text: in_summary(summary() + f"\n- **System prompt:** {text}\n"),
    "section": lambda text: in_summary(summary() + f"\n## System prompt\n\n{text}\n"),
    "label": lambda text: in_summary(summary() + f"\n- **{text}:** 1\n"),
    "title": lambda text: in_summary(summary() + f"\n## {text}\n\ntext\n"),
    "value": lambda text: in_summary(summary() + f"\n- **Method:** {text})\n- **GPUs:** {text})\n- **lr:** {text})\n"),
    "local": lambda text: (summary(), local_md() + f"\n- **Account:** {text}\n\n{text}\n"),
}
