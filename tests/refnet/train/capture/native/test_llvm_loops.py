"""Which operations have a formula of their own."""

import numpy as np

from refnet.train.capture.native import llvm_loops


def test_formulas_are_of_operands_of_one_kind():
    f8, f4, i8, b1 = (np.dtype(name) for name in ("f8", "f4", "i8", "b1"))
    assert llvm_loops.formula(np.add, [f8, f8], f8)
    assert llvm_loops.formula(np.equal, [i8, i8], b1)
    assert llvm_loops.formula(np.logical_and, [b1, b1], b1)
    for ufunc, args, out in (
        (np.add, [f8, f4], f8),
        (np.add, [i8, i8], i8),
        (np.add, [f8, f8], f4),
        (np.exp, [f8], f8),
        (np.logical_and, [f8, f8], b1),
        (np.add, [f8.newbyteorder(), f8.newbyteorder()], f8.newbyteorder()),
    ):
        assert llvm_loops.formula(ufunc, args, out) is None
