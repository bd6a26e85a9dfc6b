"""Rows that are plain text."""

from __future__ import annotations

from concordant.data.layouts.account import Place
from concordant.data.layouts.cells import Value, text_in
from concordant.data.layouts.layout import Layout
from concordant.data.types import Document


def _document(row: Value, place: Place) -> list[Document]:
    return [Document(text_in(row, "text"), place.where)]


DOCUMENTS: tuple[Layout[Document], ...] = (Layout("text", ("text",), _document),)
