"""Texts from outside, as every database takes them."""


def clean(text: str, length: int) -> str:
    """The text without what Postgres can't store, cut to a length."""
    return text.replace("\0", "").encode(errors="replace").decode()[:length]
