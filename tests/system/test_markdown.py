import time

import pytest

from scaffold_torchtune.system import markdown
from scaffold_torchtune.system.markdown import MarkdownError, Section, read
from support.wording import absent

DOCUMENT = """\
Before.

# Title with **bold**, `code` and <!-- no --> words

First line
second line

## List
- **Bold:** value
- **Colon out**: `code` remark
- **No value**
- Plain: value
  - nested: `a`
    - deep: b
- no label
1. numbered: one

### Table
| A | B |
|---|---|
| `x` | **y** z |
| a \\| b | |

```yaml
key: value
```

    indented code

> quoted: yes
>
> | C |
> |---|
> | d |

## Second
"""


def sections() -> dict[str, Section]:
    return {section.title: section for section in read(DOCUMENT).walk()}


def test_sections_form_a_tree_with_lines() -> None:
    root = read(DOCUMENT)
    assert [(s.title, s.level, s.line) for s in root.walk()] == [
        ("", 0, 1),
        ("Title with bold, code and  words", 1, 3),
        ("List", 2, 8),
        ("Table", 3, 18),
        ("Second", 2, 36),
    ]
    assert root.paragraphs[0].plain == "Before."


def test_paragraphs_are_read_line_by_line() -> None:
    (title,) = (s for s in read(DOCUMENT).walk() if s.level == 1)
    assert [(t.plain, t.line) for t in title.paragraphs] == [("First line", 5), ("second line", 6)]


def test_a_comment_over_several_lines_does_not_shift_later_lines() -> None:
    assert [(t.plain, t.line) for t in read("a <!-- x\ny --> b\nc: d\n").paragraphs] == [("a  b", 1), ("c: d", 3)]


def test_nested_bullets_have_labels_and_values() -> None:
    bullets = list(sections()["List"].all_bullets())
    pairs = [(b.text.line, b.text.labelled()) for b in bullets]
    assert [(line, pair and pair[:3]) for line, pair in pairs] == [
        (9, ("Bold", "value", "value")),
        (10, ("Colon out", "code", "code remark")),
        (11, None),
        (12, ("Plain", "value", "value")),
        (13, ("nested", "a", "a")),
        (14, ("deep", "b", "b")),
        (15, None),
        (16, ("numbered", "one", "one")),
    ]


@pytest.mark.parametrize(
    "text",
    ["**Seed:** 7", "**Seed**: 7", "Seed: 7", "*Seed:* 7", "*Seed*: 7", "`Seed`: 7", "`Seed:` 7", "Seed = 7",
     "`Seed=7`", "**Seed** = 7", "**Seed** – 7", "**Seed** — 7", "**Seed** → 7", "**Seed** - 7", "[x] **Seed:** 7",
     "[ ] Seed: 7", "**Seed**: `7`", "`Seed`: `7`"],
)  # fmt: skip
def test_labels_and_values_in_common_notations(text: str) -> None:
    (bullet,) = read(f"- {text}\n").bullets
    pair = bullet.text.labelled()
    assert pair is not None
    assert (pair.label, pair.value) == ("Seed", "7")


@pytest.mark.parametrize("text", ["**Note** this", "*very* well", "nothing", "`code` then"])
def test_text_without_a_label(text: str) -> None:
    (bullet,) = read(f"- {text}\n").bullets
    assert bullet.text.labelled() is None


@pytest.mark.parametrize(
    ("text", "below", "exact"),
    [
        ("- **P:**\n\n  ```\n  a *b*\n  c\n  ```\n", "a *b*\nc", True),
        ("- **P:**\n  > a *b*\n", "a *b*", False),
        ("- **P:**\n  - a *b*\n", "a *b*", False),
        ("- **P:**\n\n  a *b*\n", "a *b*", False),
        ("**P:**\n\n```\na\n```\n", "a", True),
        ("**P:**\n\n> a\n", "a", False),
        ("**P:**\n\n- a\n", "a", False),
        ("- **P:**\n  - a\n  - b\n", "", False),
        ("**P:**\n\n- q: a\n", "", False),
        ('**P:**\n\n- "q: a"\n', '"q: a"', False),
        ("**P:**\n\n## Q\n", "", False),
    ],
)
def test_content_below_a_label_without_a_value_is_its_value(text: str, below: str, exact: bool) -> None:
    root = read(text)
    found = root.bullets[0].text if text.startswith("-") else root.paragraphs[0]
    pair = found.labelled()
    assert pair is not None
    assert (pair.label, pair.value, pair.exact) == ("P", below, exact)


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("**P:** a *b* and __c__ `d` [e](/f) \\*g", "a *b* and __c__ `d` [e](/f) *g"),
        ("P: a *b*", "a *b*"),
        ("**P:** **all**", "all"),
        ("**P:** <https://x.org>", "https://x.org"),
    ],
)
def test_the_source_of_a_value_keeps_the_marks(text: str, source: str) -> None:
    (bullet,) = read(f"- {text}\n").bullets
    pair = bullet.text.labelled()
    assert pair is not None
    assert pair.source == source


def test_a_code_span_is_the_value_only_if_it_stands_alone_at_the_start() -> None:
    def value(text: str) -> str | None:
        pair = read(f"- **Key:** {text}\n").bullets[0].text.labelled()
        return pair and pair.value

    assert value("`a` then") == "a"
    assert value("see `a`") == "see a"
    assert value("`a`, `b`") == "a, b"
    assert value("") == ""


def test_underscores_in_a_path_are_not_emphasis() -> None:
    texts = [t.plain for t in read("/a/_b_/c\n__x__.json\n_word_ and __word__\n/_a/b_/c\n").paragraphs]
    assert texts == ["/a/_b_/c", "__x__.json", "word and word", "/_a/b_/c"]


def test_a_table_has_its_cells_and_lines() -> None:
    first, quoted = sections()["Table"].tables
    assert (first.line, [cell.plain for cell in first.header]) == (19, ["A", "B"])
    assert [(row.line, [cell.plain for cell in row.cells]) for row in first.rows] == [
        (21, ["x", "y z"]),
        (22, ["a | b", ""]),
    ]
    assert first.rows[0].cells[0].code == "x"
    assert [[cell.plain for cell in row.cells] for row in quoted.rows] == [["d"]]


def test_rows_keep_their_number_of_cells() -> None:
    (table,) = read("| a | b |\n|---|---|\n| 1 |\n| 1 | 2 | 3 |\n1 | 2\n").tables
    assert [[cell.plain for cell in row.cells] for row in table.rows] == [["1"], ["1", "2", "3"], ["1", "2"]]


def test_fences_keep_their_text_unparsed() -> None:
    fences = sections()["Table"].fences
    assert [(f.language, f.content, f.line) for f in fences] == [
        ("yaml", "key: value\n", 24),
        ("", "indented code\n", 27),
    ]
    assert [t.plain for t in sections()["Table"].paragraphs] == ["quoted: yes"]


@pytest.mark.parametrize("space", ["\u00a0", "\u2007", "\u202f"])
def test_unusual_spaces_around_marks_are_spaces_and_those_in_texts_are_kept(space: str) -> None:
    root = read(f"#{space}a{space}b\n\n-{space}one\n{space * 2}-{space}two\n3.{space}three\n")
    (section,) = root.sections
    assert section.title == f"a{space}b"
    assert [b.text.plain for b in section.all_bullets()] == ["one", "two", "three"]
    assert section.bullets[0].children[0].text.line == 4


@pytest.mark.parametrize(
    "deep",
    ["*a **b " * 100 + " d* c**" * 100, "\n".join("  " * i + "- a" for i in range(60)), "> " * 60 + "x"],
)
def test_too_deep_nesting_is_refused_with_its_line(deep: str) -> None:
    with pytest.raises(MarkdownError) as caught:
        read(f"# a\n\n{deep}\n")
    assert (caught.value.line or 0) >= 3
    assert absent(caught.value.message, 50) == []


def test_an_empty_document_is_an_empty_section() -> None:
    assert read("") == Section("", 0, 1)


def test_empty_headings_bullets_and_rules_have_no_content() -> None:
    root = read("#\n-\n\n---\n")
    assert [s.title for s in root.walk()] == ["", ""]
    assert [b.text.plain for s in root.walk() for b in s.bullets] == [""]


def test_any_line_endings_and_a_byte_order_mark_give_the_same_tree() -> None:
    assert read("\ufeff" + DOCUMENT.replace("\n", "\r\n")) == read(DOCUMENT)


@pytest.mark.parametrize("text", ["a" * (markdown.MAX_CHARACTERS + 1), "\\\\|" * 400_000, "a\n" * 300_000])
def test_a_document_that_is_too_large_is_refused(text: str) -> None:
    with pytest.raises(MarkdownError) as caught:
        read(text)
    assert absent(caught.value.message, markdown.MAX_CHARACTERS) == []


@pytest.mark.parametrize("text", ["[" * 20_000, "![a\n" * 20_000, "\n\n".join(["[a"] * 20_000)])
def test_too_many_unclosed_brackets_are_refused(text: str) -> None:
    with pytest.raises(MarkdownError) as caught:
        read(f"# a\n\n{text}\n")
    assert caught.value.line == 3
    assert absent(caught.value.message, markdown.MAX_BRACKETS) == []


@pytest.mark.parametrize(
    ("text", "active"),
    [
        ("~~Seed: 1~~", ""), ("~~**Seed:** 1~~", ""), ("**Seed:** ~~1~~ 42", "Seed: 42"),
        ("**Seed:** 42 ~~1~~", "Seed: 42"), ("**~~Seed: 1~~** Epochs: 3", "Epochs: 3"),
        ("<del>Seed: 1</del>", ""), ("<s>`a`: 1</s> `b`: 2", "b: 2"), ("**<del>a** b</del>: 3", ": 3"),
        ("Say ~~it~~ now", "Say now"), ("~~a~~ ~~b~~ c", "c"), ("<del>a <s>b</s></del> c", "c"),
        ('Prompt: "Say ~~it~~"', 'Prompt: "Say ~~it~~"'), ('Prompt: ~~"Say"~~ "Go"', 'Prompt: "Go"'),
        ("`~~a~~`: 1", "~~a~~: 1"), ("~~a", "~~a"), ("~/a and ~/b", "~/a and ~/b"),
    ],
)  # fmt: skip
def test_struck_out_text_is_dropped_unless_it_is_quoted(text: str, active: str) -> None:
    assert read(f"- {text}\n").bullets[0].text.plain == active
    assert [line.plain for line in read(text).paragraphs] == [active]


@pytest.mark.parametrize(
    ("text", "active"),
    [
        ("Prompt: 'Use ~~x~~ marks'", "Prompt: 'Use ~~x~~ marks'"), ("«~~x~~ marks»", "«~~x~~ marks»"),
        ("A: « Use ~~x~~ »", "A: « Use ~~x~~ »"), ("「~~x~~」", "「~~x~~」"), ("„Use ~~x~~“", "„Use ~~x~~“"),
        ("„a“ and „~~x~~“", "„a“ and „~~x~~“"), ("‘Don’t ~~x~~’", "‘Don’t ~~x~~’"), ("“a ~~x~~”", "“a ~~x~~”"),
        ("'a' ~~x~~ 'b'", "'a' 'b'"), ("“a” ~~x~~ “b”", "“a” “b”"), ("Don't ~~x~~ that's", "Don't that's"),
        ('Screen: 13" ~~x~~ 14"', 'Screen: 13" 14"'), ('("~~x~~")', '("~~x~~")'), ('"Say "~~x~~""', '"Say "~~x~~""'),
        ('"a ~~x~~ b" (remark)', '"a ~~x~~ b" (remark)'), ('`"` ~~x~~ `"`', '" "'), ('\\"a ~~x~~ b\\"', '"a b"'),
        ("the runs' ~~x~~ and 'y'", "the runs' and 'y'"), ('“13" ~~x~~”', '“13" ~~x~~”'),
    ],
)  # fmt: skip
def test_struck_out_marks_in_quotes_of_any_kind_are_kept(text: str, active: str) -> None:
    assert read(f"- {text}\n").bullets[0].text.plain == active
    assert [line.plain for line in read(text).paragraphs] == [active]


@pytest.mark.parametrize(
    ("text", "inner"),
    [("~~ a b ~~", "a b"), (" ~a~ ", "a"),
     ("<DEL>a</del>", "a"), ("<s>a</del>", None), ("~~a~~ b", None), ("~/a", None)],
)  # fmt: skip
def test_a_text_that_is_struck_out_as_a_whole_has_an_inner_text(text: str, inner: str | None) -> None:
    assert markdown.struck_text(text) == inner
    assert (markdown.STRUCK.fullmatch(text.strip()) is not None) == (inner is not None and "~a~" not in text.split())


@pytest.mark.parametrize(
    ("lines", "active"),
    [
        ('Screen: 13"\n~~Seed: 1~~ 2 "', ['Screen: 13"', '2 "']),
        ('Screen: "13\n~~Seed: 1~~ "a"', ['Screen: "13', '"a"']),
        ('Prompt: "Use\n~~x~~ and 13" and\n~~y~~ marks" (remark)', None),
        ("'Use\n~~x~~ marks'", None),
        ('a "Use\n~~x~~ marks"', ['a "Use', 'marks"']),
    ],
)
def test_quotes_end_with_their_line_unless_the_whole_value_is_in_quotes(lines: str, active: list[str] | None) -> None:
    expected = lines.split("\n") if active is None else active
    assert [line.plain for line in read(lines).paragraphs] == expected
    assert read(f"- {lines}\n").bullets[0].text.plain == "\n".join(expected)


@pytest.mark.long
@pytest.mark.parametrize("piece", ["“~~a~~", '"a ~~b~~ ', "'", "~~x~~ (", '"\n~~a~~', "”“", " ", "„"])
def test_quotes_around_marks_are_found_in_linear_time(piece: str) -> None:
    began = time.thread_time()
    read(piece * (300_000 // len(piece)) + "~~x~~")
    assert time.thread_time() - began < 60  # quadratic: many minutes


def test_a_section_has_its_struck_out_lines_in_full() -> None:
    section = read("- ~~**Seed:** 1~~\n\n~~Rank: 2\nEpochs:~~ 3\nLR: 4\n\n| a | b |\n|---|---|\n| c | ~~d~~ e |\n")
    expected = [("Seed: 1", 1), ("Rank: 2", 3), ("Epochs: 3", 4), ("c: d e", 9)]
    assert [(text.plain, text.line) for text in section.struck] == expected
    assert [(text.plain, text.line) for text in section.paragraphs] == [("", 3), ("3", 4), ("LR: 4", 5)]
    (row,) = section.tables[0].rows
    assert ([cell.plain for cell in row.cells], [cell.plain for cell in row.active]) == (["c", "~~d~~ e"], ["c", "e"])


@pytest.mark.parametrize("colon", markdown.COLONS)
def test_a_colon_of_other_keyboards_ends_a_label(colon: str) -> None:
    for line in (f"Seed{colon}42", f"**Seed{colon}** 42", f"**Seed**{colon} `42`", f"`Seed`{colon} 42"):
        pair = read(f"- {line}").bullets[0].text.labelled()
        assert pair is not None
        assert (pair.label, pair.value) == ("Seed", "42")
