"""A Markdown table."""


def row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def table(head: tuple[str, ...], *rows: tuple[str, ...]) -> str:
    return "\n".join([row(*head), "|" + "---|" * len(head), *(row(*cells) for cells in rows)])
