"""Text that others wrote, made safe to show: a training's output must not move the reader's cursor."""

from __future__ import annotations


def plain(text: object, *, lines: bool = False) -> str:
    r"""The text with everything that does not print written as an escape, such as `\x1b`.

    That covers control characters, marks that turn the reading direction, and halves of characters. With `lines`,
    line ends stay; without, they are escaped too.
    """
    return "".join(
        char if char.isprintable() or (lines and char == "\n") else char.encode("unicode_escape").decode("ascii")
        for char in str(text)
    )
