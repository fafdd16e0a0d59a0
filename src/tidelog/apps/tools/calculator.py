"""Arithmetic, by walking a syntax tree: nothing is ever evaluated as Python, and no number grows beyond all bounds."""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable
from typing import Final

from tidelog.apps.tools import ToolFailed

MAX_CHARS: Final = 300
MAX_DIGITS: Final = 300
"""Digits of a whole number, in between as well as in the end."""
MAX_FACTORIAL: Final = 150

Number = int | float

_SPELLINGS: Final = str.maketrans({"×": "*", "÷": "/", "−": "-", "–": "-", "（": "(", "）": ")", "，": ",", "·": "*"})
_GROUPED: Final = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])")
_TOKENS: Final = re.compile(
    r"(?:\s+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.])|[a-z]+\d*(?!\w)|\*\*|//|[-+*/%(),])*", re.ASCII
)
_BINARY: Final[dict[type[ast.operator], Callable[[Number, Number], Number]]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod,
}  # fmt: skip
_UNARY: Final[dict[type[ast.unaryop], Callable[[Number], Number]]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}
_FUNCTIONS: Final[dict[str, Callable[..., Number]]] = {
    "abs": abs, "min": min, "max": max, "round": lambda x, digits=0: round(x, int(digits)) if digits else round(x),
    "sqrt": math.sqrt, "exp": math.exp, "ln": math.log, "log": math.log, "log10": math.log10, "log2": math.log2,
    "sin": math.sin, "cos": math.cos, "tan": math.tan, "floor": math.floor, "ceil": math.ceil,
    "factorial": lambda x: math.factorial(_small(x, MAX_FACTORIAL)),
}  # fmt: skip
_NAMES: Final = {"pi": math.pi, "e": math.e}
NAMES: Final = (*_FUNCTIONS, *_NAMES)


def calculate(expression: str) -> Number:
    """The value of an expression such as `2 * (3 + 4)`. `^` is a power. Raises `ToolFailed`."""
    try:
        found = _checked(_value(_tree(expression)))
    except ZeroDivisionError:
        raise ToolFailed("It divides by zero.") from None
    except (ValueError, TypeError, OverflowError) as error:
        raise ToolFailed(f"It has no value: {error}.") from None
    return found


def shown(number: Number) -> str:
    """The number as people write it: without the noise of binary fractions."""
    if isinstance(number, float) and number.is_integer() and abs(number) < 1e15:
        return str(int(number))
    return str(number) if isinstance(number, int) else f"{number:.12g}"


def _tree(expression: str) -> ast.expr:
    if len(expression) > MAX_CHARS:
        raise ToolFailed(f"The expression is longer than {MAX_CHARS} characters.")
    text = expression.translate(_SPELLINGS).replace("^", "**").strip().rstrip("=").strip()
    if not re.search(r"[a-z]", text):
        text = _GROUPED.sub(lambda found: found[0].replace(",", ""), text)
    if not text or not _TOKENS.fullmatch(text):
        raise ToolFailed("It is no arithmetic: numbers, + - * / // % ^, brackets and functions such as sqrt will do.")
    try:
        return ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ToolFailed("The expression is not complete, or its brackets do not match.") from None


def _value(node: ast.expr) -> Number:
    match node:
        case ast.Constant(value=int() | float() as number):
            return _checked(number)
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            return _power(_value(left), _value(right))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            return _checked(_BINARY[type(op)](_value(left), _value(right)))
        case ast.UnaryOp(op=sign, operand=operand) if type(sign) in _UNARY:
            return _UNARY[type(sign)](_value(operand))
        case ast.Name(id=name) if name in _NAMES:
            return _NAMES[name]
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS:
            return _checked(_FUNCTIONS[name](*map(_value, args)))
    raise ToolFailed(f"It is no arithmetic: {ast.unparse(node)[:40]}.")


def _power(left: Number, right: Number) -> Number:
    """A power whose size is known before it is computed."""
    if isinstance(left, int) and isinstance(right, int) and abs(left) > 1:
        if right * math.log10(abs(left)) > MAX_DIGITS:
            raise ToolFailed(f"The number has more than {MAX_DIGITS} digits.")
        right = max(right, -MAX_DIGITS * 10)
    found = left**right
    if isinstance(found, complex):
        raise ToolFailed("It is not a real number.")
    return _checked(found)


def _checked(number: Number) -> Number:
    if isinstance(number, int) and abs(number) >= 10**MAX_DIGITS:
        raise ToolFailed(f"The number has more than {MAX_DIGITS} digits.")
    if isinstance(number, float) and not math.isfinite(number):
        raise ToolFailed("The number is too large.")
    return number


def _small(number: Number, most: int) -> int:
    if number != int(number) or not 0 <= number <= most:
        raise ToolFailed(f"A whole number from 0 to {most} is needed.")
    return int(number)
