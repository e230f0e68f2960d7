"""The NumPy functions that layers, losses and optimizers may be written with.

Each has a rule in every arithmetic (see `array_like`). One test reads the code and holds it to this list, another asks
every arithmetic for it.
Left out because they broke or misled in one of the arithmetics: `var`, `logaddexp`, `isnan`, `isfinite`; `maximum` and
`max`, whose gradients at a tie NumPy does not define (`special.maximum` and `special.amax` have torch's); integer-array
indexing (`special.gather` has an adjoint). People's own expressions may use more: see `parity.notation`.
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
    "absolute",
    "sin",
    "cos",
    "expm1",
    "power",
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
    "cumsum",
    "lib.stride_tricks.sliding_window_view",
)

# Primitives of `special` that every arithmetic answers in its own way.
SPECIALS = (
    "lift",
    "shift",
    "largest",
    "sigmoid",
    "log_sigmoid",
    "erf",
    "erfc",
    "erf_derivative",
    "maximum",
    "amax",
    "amax_weights",
    "gather",
    "scatter",
)

# Of what is done in several steps, which arithmetics follow that do not take it as one function.
FOLLOWED = ("sigmoids", "total")

# Of a counter of steps, which is a plain array in every arithmetic but those that hold one for each run or record it.
OF_COUNTERS = ("one_minus_power", "of_counter")

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
