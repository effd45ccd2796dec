"""Every Triton kernel compiled to machine code for a Hopper GPU, on a machine that need not have one."""

import re
import subprocess
from pathlib import Path

import pytest

triton = pytest.importorskip("triton", reason="triton is not installed")
compiler = pytest.importorskip("triton.compiler")
triton_kernels = pytest.importorskip("recon.operators.backends.triton_gpu.kernels")
cone_kernels = pytest.importorskip("recon.operators.backends.triton_gpu.cone_kernels")
slices = pytest.importorskip("recon.operators.backends.triton_gpu.slices")

HOPPER = pytest.importorskip("triton.backends.compiler").GPUTarget("cuda", 90, 32)
SINGLE, DOUBLE = triton.language.float32, triton.language.float64
REAL = {"fp32": SINGLE, "bf16": SINGLE, "fp64": DOUBLE}
TABLE = {"offset": "*i64", "slope": "*i64", "step": "*fp64", "first": "*i32", "stop": "*i32"}
GUIDES = {"lines": "*fp32", "reach": "*fp32", "source": "*fp64", "row_reach": "*fp32"}
CONE = {"heights": "*fp64", "dz": "*fp64", "target": "*fp32"}
# A kernel may keep this many bytes per thread outside registers.
LARGEST_SPILL = 0


def machine_code(kernel, given, result, *, storage, **constants):
    """Compile a kernel and return its PTX, its machine code and the bytes of local memory per thread."""
    real = "fp64" if storage == "fp64" else "fp32"
    types = {**TABLE, **GUIDES, **CONE, given: f"*{storage}", result: f"*{real}"}
    constants = {"REAL": REAL[storage], **constants}
    signature = {n: "constexpr" if n in constants else types.get(n, "i32") for n in kernel.arg_names}
    aligned = {(n,): [["tt.divisibility", 16]] for n, name in enumerate(kernel.arg_names) if name in types}
    source = compiler.ASTSource(kernel, signature, constexprs=constants, attrs=aligned)
    compiled = triton.compile(source, target=HOPPER, options={"num_warps": 4})
    return compiled.asm["ptx"], compiled.asm["cubin"]


def local_memory(cubin: bytes, folder: Path) -> int:
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    if not tool.exists():
        pytest.skip("this triton ships no cuobjdump")
    (folder / "kernel.cubin").write_bytes(cubin)
    run = [str(tool), "--dump-resource-usage", str(folder / "kernel.cubin")]
    told = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    stack, local = re.search(r"STACK:(\d+).*?LOCAL:(\d+)", told).groups()
    return int(stack) + int(local)


def blocks(count):
    found = slices.BLOCKS[count]
    return found, {"SLICES": found.lanes, "PARTS": found.parts}


@pytest.mark.parametrize(("storage", "count"), [("fp32", 64), ("fp32", 1), ("bf16", 64), ("fp64", 16)])
def test_the_forward_projection_compiles_for_hopper(storage, count, tmp_path):
    found, bundle = blocks(count)
    constants = {"COLUMNS": found.columns, **bundle}
    ptx, cubin = machine_code(triton_kernels.forward, "image", "sinogram", storage=storage, **constants)
    check(ptx, cubin, tmp_path)


@pytest.mark.parametrize(
    ("storage", "count", "curved", "cut", "fading"),
    [
        ("fp32", 64, False, False, False),
        ("fp32", 64, True, True, True),
        ("fp32", 1, False, False, False),
        ("bf16", 64, True, True, False),
        ("fp64", 1, False, True, False),
    ],
)
def test_the_adjoint_compiles_for_hopper(storage, count, curved, cut, fading, tmp_path):
    found, bundle = blocks(count)
    constants = {"HEIGHT": found.tile[0], "WIDTH": found.tile[1], **bundle}
    constants |= {"CURVED": curved, "CUT": cut, "FADING": fading}
    ptx, cubin = machine_code(triton_kernels.adjoint, "sinogram", "image", storage=storage, **constants)
    check(ptx, cubin, tmp_path)


@pytest.mark.parametrize(
    ("name", "constants"),
    [
        ("forward", {"COLUMNS": 4, "ROWS": 64}),
        ("weighed", {"COLUMNS": 4, "ROWS": 64}),
        ("adjoint", {"HEIGHT": 4, "WIDTH": 4, "SLICES": 64, "CURVED": True, "CUT": True}),
    ],
)
def test_the_cone_kernels_compile_for_hopper(name, constants, tmp_path):
    given, result = ("image", "sinogram") if name == "forward" else ("sinogram", "image")
    kernel = getattr(cone_kernels, name)
    check(*machine_code(kernel, given, result, storage="fp32", **constants), tmp_path)


def check(ptx, cubin, folder):
    assert ".target sm_90" in ptx
    assert "atom" not in ptx
    assert local_memory(cubin, folder) <= LARGEST_SPILL
