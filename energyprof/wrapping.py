"""A function that is measured each time it is called, of the same kind as it was. Loads when something is decorated."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

_COROUTINE, _GENERATOR, _ASYNC_GENERATOR = 0x80, 0x20, 0x200  # code flags, see the `inspect` module


def wrapped(function: Callable[..., Any], stay: Callable[[], AbstractContextManager[Any]]) -> Any:
    """`function` inside a stay of its own, of the same kind: plain, async, generator or async generator."""
    flags = getattr(getattr(function, "__code__", None), "co_flags", 0)

    @wraps(function)
    def plain(*args: Any, **kwargs: Any) -> Any:
        with stay():
            return function(*args, **kwargs)

    @wraps(function)
    def generator(*args: Any, **kwargs: Any) -> Any:
        with stay():
            return (yield from function(*args, **kwargs))

    @wraps(function)
    async def coroutine(*args: Any, **kwargs: Any) -> Any:
        with stay():
            return await function(*args, **kwargs)

    @wraps(function)
    async def async_generator(*args: Any, **kwargs: Any) -> Any:
        with stay():
            async for item in function(*args, **kwargs):
                yield item

    if flags & _COROUTINE:
        return coroutine
    if flags & _ASYNC_GENERATOR:
        return async_generator
    return generator if flags & _GENERATOR else plain
