"""The NumPy functions that layers, losses and optimizers may be written with.

Each has a rule in every arithmetic (see `array_like`). One test reads the code and holds it to this list, another asks
every arithmetic for it.
Left out because they broke or misled in one of the arithmetics: `var`, `logaddexp`, `maximum` (its gradient at a tie),
`abs` (likewise), `isnan`, `isfinite`, `max` (see `special.shift`), integer-array indexing.
"""

UFUNCS = (
    "add",
    "subtract",
    "multiply",
    "divide",
    "negative",
    "matmul",
    "exp",
    "log",
    "log1p",
    "sqrt",
    "tanh",
    "greater",
    "greater_equal",
    "less",
    "less_equal",
    "equal",
    "not_equal",
)

FUNCTIONS = (
    "where",
    "sum",
    "expand_dims",
    "reshape",
    "broadcast_to",
    "concatenate",
    "pad",
    "einsum",
    "lib.stride_tricks.sliding_window_view",
)

# Primitives of `special` that every arithmetic answers in its own way.
SPECIALS = ("lift", "shift", "largest", "sigmoid", "log_sigmoid")

# Of what is done in several steps, which arithmetics follow that do not take it as one function.
FOLLOWED = ("sigmoids", "total")

# Of a counter of steps, which is a plain array in every arithmetic but those that hold one for each run or record it.
OF_COUNTERS = ("one_minus_power",)

# On plain integer and boolean arrays (class indices, masks) and for constants only; these never see another arithmetic.
PLAIN = (
    "arange",
    "asarray",
    "zeros",
    "ones",
    "empty",
    "ndim",
    "shape",
    "logical_and",
    "logical_or",
    "logical_not",
    "bitwise_and",
    "bitwise_or",
    "invert",
)

# Attributes and methods of arrays: `.mT` and not `.T`, negative axes only.
METHODS = ("shape", "ndim", "size", "dtype", "mT", "sum", "reshape", "copy")
