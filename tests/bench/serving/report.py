"""Tables for people, and the same for programs."""
import json
import statistics


def table(title, head, rows, note=""):
    """Left column text, the others right-aligned."""
    cells = [[str(c) for c in row] for row in [head, *rows]]
    width = [max(len(row[i]) if i < len(row) else 0 for row in cells) for i in range(len(head))]
    lines = ["", title]
    for number, row in enumerate(cells):
        text = "  ".join(c.ljust(width[i]) if i == 0 else c.rjust(width[i]) for i, c in enumerate(row))
        lines.append("  " + text.rstrip())
        if number == 0:
            lines.append("  " + "-" * (sum(width) + 2 * len(width) - 2))
    if note:
        lines.append("  " + note.replace("\n", "\n  "))
    print("\n".join(lines), flush=True)


def median(values):
    return statistics.median(values) if values else float("nan")


def spread(values):
    """The median, with the lowest and the highest where there are several."""
    if len(values) < 2:
        return f"{median(values):,.0f}"
    return f"{median(values):,.0f} ({min(values):,.0f}..{max(values):,.0f})"


def micro(us):
    return f"{us / 1000:,.2f} ms" if us >= 1000 else f"{us:,.1f} us"


class Results(dict):
    """row -> figures, for --json."""

    def save(self, path):
        with open(path, "w") as file:
            json.dump(self, file, indent=1)
            file.write("\n")
