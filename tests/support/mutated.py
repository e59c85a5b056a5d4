"""Documents with a few changes, like those of a careless editor."""

from hypothesis import strategies as st

JUNK = st.text(alphabet=st.sampled_from(list("|-#*`:<>!()[]{}$&\"'\\/ \t\n\u00a0éx10.,_~=+×⁻⁵")), max_size=60)


@st.composite
def mutated(draw: st.DrawFn, text: str) -> str:
    """Return the text with a few lines deleted, doubled, swapped, replaced or changed within."""
    lines = text.split("\n")
    for _ in range(draw(st.integers(1, 6))):
        i, j = draw(st.integers(0, len(lines) - 1)), draw(st.integers(0, len(lines) - 1))
        match draw(st.sampled_from(["delete", "double", "swap", "insert", "replace", "within"])):
            case "delete" if len(lines) > 1:
                del lines[i]
            case "double":
                lines.insert(j, lines[i])
            case "swap":
                lines[i], lines[j] = lines[j], lines[i]
            case "insert":
                lines.insert(i, draw(JUNK))
            case "replace":
                lines[i] = draw(JUNK)
            case _:
                at = draw(st.integers(0, len(lines[i])))
                lines[i] = lines[i][:at] + draw(JUNK) + lines[i][at + draw(st.integers(0, 3)) :]
    return "\n".join(lines)
