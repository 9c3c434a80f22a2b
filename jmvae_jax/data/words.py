"""Words that errors share."""

from collections.abc import Sequence


def one_line(error: BaseException) -> str:
    """The first line of what an error says, or its kind."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def some(names: Sequence[str], limit: int = 3) -> str:
    """The first few of many names, and how many there are."""
    few = ", ".join(names[:limit])
    return few if len(names) <= limit else f"{few} and {len(names) - limit} more"
