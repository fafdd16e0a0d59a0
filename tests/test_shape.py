"""The shape of an answer: what pydantic's own schemas let through here is what pydantic takes."""

from __future__ import annotations

import json
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from tidelog.shape import misfit


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    name: Annotated[str, Field(min_length=1, max_length=5, pattern="^[a-z]+$")]
    size: Annotated[int, Field(ge=1, lt=10, multiple_of=2)] = 2


class Tree(BaseModel):
    model_config = ConfigDict(strict=True)

    colour: Literal["red", "blue"]
    inner: Inner | None = None
    many: Annotated[list[Inner], Field(min_length=1, max_length=2)] = []
    pair: tuple[bool, float] | None = None
    below: list[Tree] = []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 12) | st.sampled_from([0.5, 2.0, "red", "blue", "a", "", "A1"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["colour", "inner", "many", "pair", "below", "name", "size", "extra"]), inner, max_size=4
    ),
    max_leaves=8,
)  # fmt: skip


@settings(deadline=None)
@given(JSON)
def test_it_refuses_nothing_that_the_type_takes(value: Any) -> None:
    for kind in (Tree, Inner, list[Tree], Tree | None, dict[str, Inner]):
        adapter: TypeAdapter[Any] = TypeAdapter(kind)
        why = misfit(adapter.json_schema(), value)
        try:
            adapter.validate_json(json.dumps(value))
        except ValidationError:
            continue
        assert why is None, (kind, value, why)


@pytest.mark.parametrize(
    ("kind", "value", "why"),
    [
        (int, "3", "The answer must be a whole number."),
        (int, True, "The answer must be a whole number."),
        (bool, 1, "The answer must be true or false."),
        (Colour, "green", "The answer must be one of 'red', 'blue'."),
        (Literal["x"], "y", "The answer must be 'x'."),
        (Inner, {"name": "abc", "more": 1}, "The answer has no field 'more'."),
        (Inner, {}, "The answer lacks 'name'."),
        (Inner, {"name": "ABC"}, "The answer: 'name' must match ^[a-z]+$."),
        (Inner, {"name": "abc", "size": 11}, "The answer: 'size' must be less than 10."),
        (Inner, {"name": "abc", "size": 3}, "The answer: 'size' must be a multiple of 2."),
        (Tree, {"colour": "red", "many": []}, "The answer: 'many' must have at least 1 items."),
        (Tree, {"colour": "red", "below": [{"colour": 1}]}, "The answer: 'below': item 1: 'colour' must be text."),
        (int | None, "x", "The answer has none of the shapes that are allowed."),
        (set[int], [1, 1], "The answer must not repeat an item."),
    ],
)
def test_it_says_why(kind: Any, value: Any, why: str) -> None:
    found = misfit(TypeAdapter(kind).json_schema(), value)
    assert found == why


def test_whole_numbers_may_be_written_as_floats() -> None:
    assert misfit({"type": "integer"}, 2.0) is None
    assert misfit({"type": "integer"}, 2.5) is not None


@pytest.mark.parametrize("schema", [{}, True, {"$ref": "#/$defs/nowhere"}, {"type": "date"}, {"format": "email"}])
def test_what_it_does_not_know_it_passes_over(schema: Any) -> None:
    assert misfit(schema, "anything") is None


def test_a_schema_that_refers_to_itself_ends() -> None:
    assert misfit({"$ref": "#"}, 1) is None
    assert misfit(False, 1) == "The answer must not be there."
