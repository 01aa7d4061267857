"""Numbers as they lie in memory: bfloat16 is the upper half of a float32, and numpy has no name for it."""

from __future__ import annotations

from functools import cache
from typing import Any

from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import types
from numba.core import cgutils as untyped_cgutils
from numba.extending import intrinsic

cgutils: Any = untyped_cgutils
HALF_BITS = 16
WORD = ir.IntType(32)


class BFloat16(ir.Type):  # type: ignore[misc]
    """LLVM's name of the type, which llvmlite does not have."""

    def _to_string(self) -> str:
        return "bfloat"


@cache
def converts_to_bfloat16() -> bool:
    """Whether the processor has an instruction that rounds to bfloat16; LLVM's way without is a slow one."""
    found: bool = get_host_cpu_features().get("avx512bf16", False)
    return found


def _bits_of(typing_context: Any, number: Any) -> Any:
    """The 32 bits of a float32, as an int32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], WORD)

    return types.int32(types.float32), generate


def _from_bits(typing_context: Any, bits: Any) -> Any:
    """The float32 that 32 bits stand for."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), generate


def _widened(typing_context: Any, stored: Any) -> Any:
    """A stored number ready for arithmetic: a bfloat16, which is kept as uint16, becomes a float32."""
    if stored != types.uint16:
        return stored(stored), lambda context, builder, signature, arguments: arguments[0]

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word = builder.shl(builder.zext(arguments[0], WORD), ir.Constant(WORD, HALF_BITS))
        return builder.bitcast(word, ir.FloatType())

    return types.float32(types.uint16), generate


def _narrowed(typing_context: Any, number: Any, array: Any) -> Any:
    """A number as an array stores it: for an array of uint16 the nearest bfloat16, ties to even."""
    kept = array.dtype
    if kept != types.uint16:
        return number(number, array), lambda context, builder, signature, arguments: arguments[0]

    def convert(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(builder.fptrunc(arguments[0], BFloat16()), ir.IntType(HALF_BITS))

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word = builder.bitcast(arguments[0], WORD)
        lowest = builder.and_(builder.lshr(word, ir.Constant(WORD, HALF_BITS)), ir.Constant(WORD, 1))
        half = builder.add(lowest, ir.Constant(WORD, 0x7FFF))
        upper = builder.lshr(builder.add(word, half), ir.Constant(WORD, HALF_BITS))
        return builder.trunc(upper, ir.IntType(HALF_BITS))

    return types.uint16(types.float32, array), convert if converts_to_bfloat16() else generate


def _prefetch(typing_context: Any, table: Any, row: Any, column: Any) -> Any:
    """Fetch the place of a number in a table ``(n, m)`` into the cache, ahead of its use."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = signature.args[0]
        array = context.make_array(kind)(context, builder, arguments[0])
        indices = [
            context.cast(builder, argument, given, types.intp)
            for argument, given in zip(arguments[1:], signature.args[1:], strict=True)
        ]
        place = cgutils.get_item_pointer(context, builder, kind, array, indices)
        byte = ir.IntType(8).as_pointer()
        shape = ir.FunctionType(ir.VoidType(), [byte, WORD, WORD, WORD])
        fetch = cgutils.get_or_insert_function(builder.module, shape, "llvm.prefetch.p0i8")
        to_be_read, keep, data = (ir.Constant(WORD, number) for number in (0, 3, 1))
        builder.call(fetch, [builder.bitcast(place, byte), to_be_read, keep, data])
        return context.get_dummy_value()

    return types.void(table, row, column), generate


def _prefer_wide_vectors(typing_context: Any) -> Any:
    """Let the loops of the function that calls this use the widest vectors of the processor."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        # Text that is no keyword is an attribute of LLVM all the same; llvmlite's own `add` knows keywords.
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.void(), generate


bits_of: Any = intrinsic(_bits_of)
from_bits: Any = intrinsic(_from_bits)
widened: Any = intrinsic(_widened)
narrowed: Any = intrinsic(_narrowed)
prefetch: Any = intrinsic(_prefetch)
prefer_wide_vectors: Any = intrinsic(_prefer_wide_vectors)
