"""Short vectors in compiled loops: a bundle of slices that share one weight.

Numba vectorises an inner loop but keeps its accumulators in memory. These operations hold a bundle of
2**len(doublings) numbers in registers instead: ``doublings`` is an empty tuple for one number, ``(0,) * 6``
for 64. Only the tuple's type matters, so each width is compiled (and cached on disk) the first time it is
used.
"""

from typing import Any

import llvmlite.ir as ir
from llvmlite import binding
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model


class Bundle(types.Type):
    """The type of ``lanes`` numbers of one floating-point type."""

    def __init__(self, dtype: Any, lanes: int) -> None:
        self.dtype, self.lanes = dtype, lanes
        super().__init__(name=f"Bundle({dtype}, {lanes})")

    @property
    def key(self) -> tuple[Any, int]:
        """What makes two bundle types equal."""
        return self.dtype, self.lanes


_WIDE = binding.get_host_cpu_features().get("avx512f", False)
# Of all vector registers: 32 of 64, or 16 of 32.
BYTES_OF_REGISTERS = 2048 if _WIDE else 512
# Lanes that are read, changed and written at once; more at a time would leave no registers for the values added.
PIECE = 32

ELEMENTS = {types.float32: ir.FloatType(), types.float64: ir.DoubleType(), types.int32: ir.IntType(32)}


@register_model(Bundle)
class _BundleModel(models.PrimitiveModel):
    def __init__(self, manager: Any, bundle: Any) -> None:
        element = ELEMENTS[bundle.dtype]
        super().__init__(manager, bundle, ir.VectorType(element, bundle.lanes))  # type: ignore[no-untyped-call]


def _bundle(array: Any, doublings: Any) -> Bundle:
    return Bundle(array.dtype, 2 ** len(doublings))


def _address(context: Any, builder: Any, signature: Any, args: Any, vector: ir.Type) -> Any:
    data = context.make_array(signature.args[0])(context, builder, args[0]).data
    return builder.bitcast(builder.gep(data, [args[1]]), vector.as_pointer())


@intrinsic
def real(typing: Any, array: Any, number: Any) -> Any:
    """Return ``number`` in the element type of ``array``."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return context.cast(builder, args[1], signature.args[1], signature.return_type)

    return array.dtype(array, number), generate


@intrinsic
def spread(typing: Any, array: Any, number: Any, doublings: Any) -> Any:
    """Return a bundle that repeats ``number`` in the element type of ``array``."""
    bundle = _bundle(array, doublings)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = context.get_value_type(bundle)
        return _repeat(builder, context.cast(builder, args[1], signature.args[1], bundle.dtype), vector)

    return bundle(array, number, doublings), generate


@intrinsic
def two_fit(typing: Any, array: Any, doublings: Any) -> Any:
    """Tell, when the loop is compiled, whether two bundles leave registers free."""
    bytes_of_two = 2 * array.dtype.bitwidth // 8 << len(doublings)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return ir.Constant(ir.IntType(1), bytes_of_two < BYTES_OF_REGISTERS)

    return types.boolean(array, doublings), generate


@intrinsic
def load(typing: Any, array: Any, at: Any, doublings: Any) -> Any:
    """Return the bundle that starts at flat index ``at`` of a contiguous array; nothing is checked."""
    bundle = _bundle(array, doublings)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = context.get_value_type(bundle)
        return builder.load(_address(context, builder, signature, args, vector), align=4)

    return bundle(array, types.intp, doublings), generate


@intrinsic
def store(typing: Any, array: Any, at: Any, bundle: Any) -> Any:
    """Write a bundle from flat index ``at`` of a contiguous array on; nothing is checked."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[2], _address(context, builder, signature, args, args[2].type), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, bundle), generate


@intrinsic
def fma(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """Return a * b + c for three bundles."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _fma(builder, *args)

    return a(a, a, a), generate


@intrinsic
def add_scaled(typing: Any, array: Any, at: Any, weight: Any, bundle: Any) -> Any:
    """Add ``weight`` times a bundle to the numbers from flat index ``at`` of a contiguous array on."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = min(bundle.lanes, PIECE)
        vector = ir.VectorType(ELEMENTS[bundle.dtype], lanes)
        data = context.make_array(array)(context, builder, args[0]).data
        weights = _repeat(builder, context.cast(builder, args[2], weight, bundle.dtype), vector)
        for first in range(0, bundle.lanes, lanes):
            index = builder.add(args[1], ir.Constant(args[1].type, first))
            address = builder.bitcast(builder.gep(data, [index]), vector.as_pointer())
            piece = _picked(builder, args[3], range(first, first + lanes))
            builder.store(_fma(builder, weights, piece, builder.load(address, align=4)), address, align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, weight, bundle), generate


@intrinsic
def fused(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """Return a * b + c for three float64 numbers, rounded once on every machine."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        double = ir.DoubleType()
        cast = [context.cast(builder, x, t, types.float64) for x, t in zip(args, signature.args, strict=True)]
        function = ir.FunctionType(double, [double] * 3)
        return builder.call(cgutils.get_or_insert_function(builder.module, function, "llvm.fma.f64"), cast)

    return types.float64(a, b, c), generate


@intrinsic
def ramp(typing: Any, start: Any, slope: Any, first: Any, doublings: Any) -> Any:
    """Return start + slope * n for n = first, first + 1, ... in float64, rounded once."""
    bundle = Bundle(types.float64, 2 ** len(doublings))

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = context.get_value_type(bundle)
        origin, step, number = (
            _repeat(builder, context.cast(builder, value, kind, types.float64), vector)
            for value, kind in zip(args[:3], signature.args[:3], strict=True)
        )
        numbers = builder.fadd(number, ir.Constant(vector, [float(k) for k in range(bundle.lanes)]))
        function = ir.FunctionType(vector, [vector] * 3)
        name = f"llvm.fma.v{bundle.lanes}f64"
        module = cgutils.get_or_insert_function(builder.module, function, name)
        return builder.call(module, [step, numbers, origin])

    return bundle(start, slope, first, doublings), generate


@intrinsic
def whole(typing: Any, bundle: Any) -> Any:
    """Return the whole part of a bundle of numbers that are not negative, as integers."""
    integers = Bundle(types.int32, bundle.lanes)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fptosi(args[0], context.get_value_type(integers))

    return integers(bundle), generate


@intrinsic
def remainder(typing: Any, array: Any, bundle: Any, integers: Any) -> Any:
    """Return what a bundle of float64 exceeds a bundle of integers by, in the element type of ``array``."""
    narrow = Bundle(array.dtype, bundle.lanes)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        difference = builder.fsub(args[1], builder.sitofp(args[2], args[1].type))
        target = context.get_value_type(narrow)
        return difference if target == difference.type else builder.fptrunc(difference, target)

    return narrow(array, bundle, integers), generate


@intrinsic
def between(typing: Any, array: Any, at: Any, integers: Any, fraction: Any) -> Any:
    """Return (1 - f) x[k] + f x[k + 1] for the numbers x that start at flat index ``at`` of an array."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes, index = integers.lanes, ir.IntType(32)
        number = context.get_value_type(array.dtype)
        pair = ir.VectorType(number, 2)
        data = builder.gep(context.make_array(array)(context, builder, args[0]).data, [args[1]])
        pairs = []
        for lane in range(lanes):
            where = builder.zext(builder.extract_element(args[2], index(lane)), ir.IntType(64))
            pairs.append(
                builder.load(builder.bitcast(builder.gep(data, [where]), pair.as_pointer()), align=4)
            )
        while len(pairs) > 1:
            pairs = [_joined(builder, a, b) for a, b in zip(pairs[::2], pairs[1::2], strict=True)]
        near, far = (_picked(builder, pairs[0], range(k, 2 * lanes, 2)) for k in (0, 1))
        return builder.fadd(near, builder.fmul(args[3], builder.fsub(far, near)))

    return fraction(array, types.intp, integers, fraction), generate


@intrinsic
def shares(typing: Any, bundle: Any, fraction: Any) -> Any:
    """Return the bundle of twice the width (1 - f) x, f x, (1 - f) x, f x, ..."""
    both = Bundle(bundle.dtype, 2 * bundle.lanes)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        far = builder.fmul(args[0], args[1])
        near, lanes = builder.fsub(args[0], far), bundle.lanes
        return _picked(
            builder, _joined(builder, near, far), [k + lanes * o for k in range(lanes) for o in (0, 1)]
        )

    return both(bundle, fraction), generate


def _fma(builder: Any, a: Any, b: Any, c: Any) -> Any:
    vector = a.type
    kind = f"v{vector.count}f{32 if isinstance(vector.element, ir.FloatType) else 64}"
    function = ir.FunctionType(vector, [vector] * 3)
    return builder.call(
        cgutils.get_or_insert_function(builder.module, function, f"llvm.fmuladd.{kind}"), [a, b, c]
    )


def _repeat(builder: Any, scalar: Any, vector: ir.Type) -> Any:
    index = ir.IntType(32)
    single = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, index(0))
    mask = ir.Constant(ir.VectorType(index, vector.count), [0] * vector.count)
    return builder.shuffle_vector(single, ir.Constant(vector, ir.Undefined), mask)


def _joined(builder: Any, a: Any, b: Any) -> Any:
    mask = ir.Constant(ir.VectorType(ir.IntType(32), 2 * a.type.count), list(range(2 * a.type.count)))
    return builder.shuffle_vector(a, b, mask)


def _picked(builder: Any, vector: Any, lanes: Any) -> Any:
    numbers = list(lanes)
    mask = ir.Constant(ir.VectorType(ir.IntType(32), len(numbers)), numbers)
    return builder.shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), mask)


@intrinsic
def add(typing: Any, a: Any, b: Any) -> Any:
    """Return a + b for two bundles."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fadd(args[0], args[1])

    return a(a, b), generate


@intrinsic
def multiply(typing: Any, a: Any, b: Any) -> Any:
    """Return a * b for two bundles."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fmul(args[0], args[1])

    return a(a, b), generate


@intrinsic
def add_pairs(typing: Any, array: Any, at: Any, stride: Any, integers: Any, pairs: Any) -> Any:
    """Add the n-th pair of ``pairs`` to x[k_n] and x[k_n + 1], in order.

    x starts at flat index ``at`` of an array, ``stride`` further on for every next n modulo 4: neighbours that meet in
    the same numbers would wait for each other.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        index, pair = ir.IntType(32), ir.VectorType(context.get_value_type(array.dtype), 2)
        data = context.make_array(array)(context, builder, args[0]).data
        starts = [args[1]]
        for _ in range(3):
            starts.append(builder.add(starts[-1], args[2]))
        for lane in range(integers.lanes):
            where = builder.zext(builder.extract_element(args[3], index(lane)), ir.IntType(64))
            where = builder.add(where, starts[lane % 4])
            address = builder.bitcast(builder.gep(data, [where]), pair.as_pointer())
            shares_of_lane = _picked(builder, args[4], (2 * lane, 2 * lane + 1))
            builder.store(builder.fadd(builder.load(address, align=4), shares_of_lane), address, align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, integers, pairs), generate
