"""Excerpts of what others have written: users, servers and agents say as much as they like, and a fact or a line has only so much room.

JSON can also smuggle in half characters (lone surrogates), which no fact can carry.
"""

__all__ = ["excerpt"]


def excerpt(text: str, characters_max: int) -> str:
    """The text, or its beginning and an ellipsis; what cannot be written in UTF-8 is a question mark."""
    text = text.encode(errors="replace").decode()
    return text if len(text) <= characters_max else text[: characters_max - 1] + "…"
