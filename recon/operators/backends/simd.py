"""Short vectors in compiled loops: a bundle of slices that share one weight.

Numba vectorises an inner loop but keeps its accumulators in memory. These five operations hold a bundle of
2**len(doublings) numbers in registers instead: ``doublings`` is an empty tuple for one number, ``(0,) * 6``
for 64. Only the tuple's type matters, so each width is compiled (and cached on disk) the first time it is
used.
"""

from typing import Any

import llvmlite.ir as ir
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


@register_model(Bundle)
class _BundleModel(models.PrimitiveModel):
    def __init__(self, manager: Any, bundle: Any) -> None:
        element = ir.FloatType() if bundle.dtype == types.float32 else ir.DoubleType()
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
        index = ir.IntType(32)
        scalar = context.cast(builder, args[1], signature.args[1], bundle.dtype)
        one = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, index(0))
        mask = ir.Constant(ir.VectorType(index, bundle.lanes), [0] * bundle.lanes)
        return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), mask)

    return bundle(array, number, doublings), generate


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
        vector = args[0].type
        kind = f"v{vector.count}f{32 if isinstance(vector.element, ir.FloatType) else 64}"
        function = ir.FunctionType(vector, [vector] * 3)
        return builder.call(
            cgutils.get_or_insert_function(builder.module, function, f"llvm.fmuladd.{kind}"), args
        )

    return a(a, a, a), generate
