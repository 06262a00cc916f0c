"""Vectors inside numba's functions: a register's worth of channels, bars or blocks as one value, in single or double precision.

LLVM vectorises loops over memory, but keeps no block of results in registers; products and attention of a step are bound by what is
read and written between. Here a kernel says itself what stays in registers. A vector is 8 or 16 numbers wide whatever the processor has:
LLVM splits it where registers are narrower. Arrays are flat and contiguous; places are not checked.

A change here compiles no kernel anew: numba looks at the kernels' own files. Remove their cache by hand.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.typing import signature
from numba.core.typing.templates import AbstractTemplate, infer_global
from numba.extending import intrinsic, lower_builtin, models, register_model

from data.panel import FloatArray
from nas.kernels.compiling import compiled

FLOAT, INT, DOUBLE = ir.FloatType(), ir.IntType(32), ir.DoubleType()
Builder = Any


class Vector(types.Type):  # type: ignore[misc, unused-ignore]
    """So many numbers of one type as one value."""

    def __init__(self, lanes: int, number: Any = types.float32) -> None:
        self.lanes, self.number = lanes, number
        super().__init__(name=f"vector{lanes}x{number.bitwidth}")

    @property
    def code(self) -> Any:
        """As LLVM calls it."""
        return ir.VectorType(DOUBLE if self.number == types.float64 else FLOAT, self.lanes)


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):  # type: ignore[misc, unused-ignore]
    def __init__(self, manager: Any, kind: Vector) -> None:
        super().__init__(manager, kind, kind.code)


def width_of(lanes: Any) -> int:
    """Numbers of a vector, 8 for each member of the tuple that a kernel is given as its `lanes`: its type, not its value, says it."""
    return 8 * len(lanes)


def _place(context: Any, builder: Builder, array_type: Any, array: Any, index: Any) -> Any:
    """Pointer to a number of a flat array."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [index])


def _filled(builder: Builder, value: Any, lanes: int) -> Any:
    """A vector of one number."""
    kind = ir.VectorType(value.type, lanes)
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(INT, 0))
    return builder.shuffle_vector(
        one, ir.Constant(kind, ir.Undefined), ir.Constant(ir.VectorType(INT, lanes), [0] * lanes)
    )


def _constant(lanes: int, value: float) -> Any:
    return ir.Constant(ir.VectorType(FLOAT, lanes), [value] * lanes)


@intrinsic
def load(typing: Any, array: Any, index: Any, lanes: Any) -> Any:
    """array[index : index + lanes]."""
    kind = Vector(width_of(lanes), array.dtype)

    def code(context: Any, builder: Builder, found: Any, args: Any) -> Any:
        place = _place(context, builder, found.args[0], args[0], args[1])
        return builder.load(builder.bitcast(place, kind.code.as_pointer()), align=4, typ=kind.code)

    return kind(array, types.intp, lanes), code


@intrinsic
def splat(typing: Any, array: Any, index: Any, lanes: Any) -> Any:
    """array[index], in every place."""
    kind = Vector(width_of(lanes), array.dtype)

    def code(context: Any, builder: Builder, found: Any, args: Any) -> Any:
        place = _place(context, builder, found.args[0], args[0], args[1])
        return _filled(builder, builder.load(place, align=4, typ=kind.code.element), kind.lanes)

    return kind(array, types.intp, lanes), code


@intrinsic
def fill(typing: Any, value: Any, lanes: Any) -> Any:
    """A number in every place."""
    kind = Vector(width_of(lanes), types.float32 if value == types.float32 else types.float64)

    def code(context: Any, builder: Builder, found: Any, args: Any) -> Any:
        return _filled(builder, args[0], kind.lanes)

    return kind(kind.number, lanes), code


@intrinsic
def store(typing: Any, array: Any, index: Any, value: Any) -> Any:
    """array[index : index + lanes] = value."""

    def code(context: Any, builder: Builder, found: Any, args: Any) -> Any:
        place = _place(context, builder, found.args[0], args[0], args[1])
        builder.store(args[2], builder.bitcast(place, args[2].type.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), code


def _binary(make: Callable[[Builder, Any, Any], Any]) -> Any:
    """An intrinsic of two vectors of one width."""

    def between(typing: Any, a: Any, b: Any) -> Any:
        def code(context: Any, builder: Builder, found: Any, args: Any) -> Any:
            return make(builder, *args)

        return a(a, b), code

    return intrinsic(between)


def _greater(builder: Builder, a: Any, b: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


def _smaller(builder: Builder, a: Any, b: Any) -> Any:
    return builder.select(builder.fcmp_ordered("<", a, b), a, b)


maximum, minimum = _binary(_greater), _binary(_smaller)  # the second where one is not a number


class _Between(AbstractTemplate):  # type: ignore[misc, unused-ignore]
    """a + b and the like, of vectors of one width."""

    def generic(self, args: Any, kws: Any) -> Any:
        if len(args) == 2 and isinstance(args[0], Vector) and args[0] == args[1]:
            return signature(args[0], *args)
        return None


def _flags(vector: Any) -> tuple[str, ...]:
    """In single precision products may be joined with sums where the processor can; double precision gives the same bits on all."""
    return ("contract",) if vector.type.element == FLOAT else ()


for _sign, _make in {
    operator.add: lambda builder, a, b: builder.fadd(a, b, flags=_flags(a)),
    operator.sub: lambda builder, a, b: builder.fsub(a, b, flags=_flags(a)),
    operator.mul: lambda builder, a, b: builder.fmul(a, b, flags=_flags(a)),
    operator.iadd: lambda builder, a, b: builder.fadd(a, b, flags=_flags(a)),
    operator.isub: lambda builder, a, b: builder.fsub(a, b, flags=_flags(a)),
    operator.truediv: lambda builder, a, b: builder.fdiv(a, b),
}.items():
    infer_global(_sign)(type(f"_{_sign.__name__}", (_Between,), {"key": _sign}))
    lower_builtin(_sign, Vector, Vector)(lambda context, builder, kind, args, make=_make: make(builder, *args))


@intrinsic
def total(typing: Any, value: Any) -> Any:
    """Sum of all places, halves added to halves."""
    lanes = value.lanes

    def code(context: Any, builder: Builder, found: Any, args: Any) -> Any:
        vector, width = args[0], lanes
        nothing = ir.Constant(vector.type, ir.Undefined)
        while width > 1:
            width //= 2
            order = [width + k if k < width else 0 for k in range(lanes)]
            moved = builder.shuffle_vector(vector, nothing, ir.Constant(ir.VectorType(INT, lanes), order))
            vector = builder.fadd(vector, moved)
        return builder.extract_element(vector, ir.Constant(INT, 0))

    return value.number(value), code


@intrinsic
def where_positive(typing: Any, test: Any, value: Any, other: Any) -> Any:
    """value where test > 0, other elsewhere."""

    def code(context: Any, builder: Builder, found: Any, args: Any) -> Any:
        positive = builder.fcmp_ordered(">", args[0], ir.Constant(args[0].type, [0.0] * test.lanes))
        return builder.select(positive, args[1], args[2])

    return value(test, value, other), code


@intrinsic
def root(typing: Any, value: Any) -> Any:
    """Square roots, exactly rounded."""

    def code(context: Any, builder: Builder, found: Any, args: Any) -> Any:
        kind, bits = args[0].type, value.number.bitwidth
        name = f"llvm.sqrt.v{value.lanes}f{bits}"
        return builder.call(cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind]), name), args)

    return value(value), code


@intrinsic
def fetch(typing: Any, array: Any, index: Any) -> Any:
    """Ask for the line of the cache that holds array[index]; a place that does not exist does no harm."""

    def code(context: Any, builder: Builder, found: Any, args: Any) -> Any:
        byte = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, INT, INT, INT])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        place = builder.bitcast(_place(context, builder, found.args[0], args[0], args[1]), byte)
        builder.call(function, [place, *(ir.Constant(INT, k) for k in (0, 3, 1))])
        return context.get_dummy_value()

    return types.void(array, types.intp), code


@intrinsic
def moved_up(typing: Any, value: Any, first: Any) -> Any:
    """Every number one place further, `first` in the first; the last falls out."""

    def code(context: Any, builder: Builder, found: Any, args: Any) -> Any:
        vector, count = args[0], value.lanes
        order = ir.Constant(ir.VectorType(INT, count), [0, *range(count - 1)])
        return builder.insert_element(builder.shuffle_vector(vector, vector, order), args[1], ir.Constant(INT, 0))

    return value(value, value.number), code


@intrinsic
def highest(typing: Any, value: Any) -> Any:
    """The last number."""

    def code(context: Any, builder: Builder, found: Any, args: Any) -> Any:
        return builder.extract_element(args[0], ir.Constant(INT, value.lanes - 1))

    return value.number(value), code


@intrinsic
def exponential(typing: Any, value: Any) -> Any:
    """e^x to 2 units in the last place (Cephes, expf); 0 below -87, where single precision ends."""
    lanes = value.lanes

    def code(context: Any, builder: Builder, found: Any, args: Any) -> Any:
        x, ints = args[0], ir.VectorType(INT, lanes)

        def number(v: float) -> Any:
            return _constant(lanes, v)

        def whole(v: int) -> Any:
            return ir.Constant(ints, [v] * lanes)

        def fused(a: Any, b: Any, c: Any) -> Any:
            return builder.fadd(builder.fmul(a, b, flags=("contract",)), c, flags=("contract",))

        x = builder.select(builder.fcmp_ordered(">", x, number(88.0)), number(88.0), x)
        # adding 1.5 * 2^23 rounds to a whole number, which then stands in the last bits
        magic = builder.fadd(builder.fmul(x, number(1.44269504)), number(12582912.0))
        count = builder.fsub(magic, number(12582912.0))
        power = builder.bitcast(
            builder.shl(builder.add(builder.bitcast(magic, ints), whole(127 - 0x4B400000)), whole(23)), x.type
        )
        rest = fused(count, number(-0.693359375), x)
        rest = fused(count, number(2.12194440e-4), rest)
        out = number(1.9875691500e-4)
        for coefficient in (1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1):
            out = fused(out, rest, number(coefficient))
        out = fused(out, builder.fmul(rest, rest), builder.fadd(rest, number(1.0)))
        small = builder.fcmp_ordered("<", args[0], number(-87.0))
        return builder.select(small, number(0.0), builder.fmul(out, power))

    return value(value), code


@intrinsic
def transpose(typing: Any, source: Any, start: Any, step: Any, target: Any, to: Any, width: Any, lanes: Any) -> Any:
    """target[to + i * width + u] = source[start + u * step + i] for i and u below `lanes`: a square turned over in registers."""
    n = width_of(lanes)

    def code(context: Any, builder: Builder, found: Any, args: Any) -> Any:
        kind = Vector(n, source.dtype).code

        def pointer(which: int, base: Any, k: int, by: Any) -> Any:
            index = builder.add(base, builder.mul(by, ir.Constant(by.type, k)))
            return builder.bitcast(_place(context, builder, found.args[which], args[which], index), kind.as_pointer())

        rows = [builder.load(pointer(0, args[1], k, args[2]), align=4, typ=kind) for k in range(n)]
        half = n // 2
        while half:
            turned = list(rows)
            for k in range(n):
                if k & half:
                    continue
                low = [j if not j & half else n + j - half for j in range(n)]
                high = [j + half if not j & half else n + j for j in range(n)]
                for at, order in ((k, low), (k + half, high)):
                    turned[at] = builder.shuffle_vector(
                        rows[k], rows[k + half], ir.Constant(ir.VectorType(INT, n), order)
                    )
            rows = turned
            half //= 2
        for k in range(n):
            builder.store(rows[k], pointer(3, args[4], k, args[5]), align=4)
        return context.get_dummy_value()

    return types.void(source, types.intp, types.intp, target, types.intp, types.intp, lanes), code


@intrinsic
def kept_apart(typing: Any) -> Any:
    """The function that calls this is not copied into its callers, which would be compiled for many times as long."""

    def code(context: Any, builder: Builder, found: Any, args: Any) -> Any:
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return types.void(), code


@compiled
def aligned(count: int) -> FloatArray:
    """So many zeros that begin where a line of the cache begins: a vector then never lies in two."""
    out = np.zeros(count + 8)
    begin = (8 - (out.ctypes.data >> 3) % 8) % 8
    return out[begin : begin + count]
