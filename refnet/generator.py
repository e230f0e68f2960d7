"""Random numbers: the draws that torch makes on the CPU, bit for bit.

Words come from MT19937, the 32-bit Mersenne twister (Matsumoto & Nishimura, "Mersenne Twister: a 623-dimensionally
equidistributed uniform pseudo-random number generator", ACM TOMACS 8(1), 1998), with the 2002 seeding by one integer.
How torch turns words into numbers is written above each method below.

Scope: torch's builds for x86-64 on a processor with AVX2 or AVX512 (`torch.backends.cpu.get_cpu_capability()`). There
the compiler has fused the multiplication and addition of `uniform_` and `normal_`; a build without fused multiply-add
rounds twice and gives other bits. Words, `rand`, `randint`, `randperm` and `bernoulli` do not depend on that.

Logarithms, sines and cosines of float64 are those of the C library, as in torch, so that normals and exponentials have
torch's bits where both stand on one library. Float32 normals, 16 or more at a time, are made with polynomials, as in
torch (`refnet.arithmetic.cephes`).
"""

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from refnet.arithmetic import cephes
from refnet.arithmetic.fma import fma

__all__ = ["Generator", "default_generator", "manual_seed", "resolve"]

Scalar = TypeVar("Scalar", bound=np.floating[Any])

DEFAULT_SEED = 67280421310721  # the seed of a torch.Generator() that was given none
RANDPERM_LIMIT = (2**32 - 1) // 20  # from this length on, torch draws a permutation in another way
TWISTER_WORDS = 624

# The bytes of torch.Generator.get_state(). `left` counts down to the next twist, `next` is the word to be drawn next,
# and `normal_y` holds the second of a pair of normals, if `normal_is_valid`. The other fields are torch's of old.
_STATE = np.dtype(
    [
        ("initial_seed", "<u8"),
        ("left", "<i4"),
        ("seeded", "<i4"),
        ("next", "<u8"),
        ("words", "<u8", TWISTER_WORDS),
        ("normal_x", "<f8"),
        ("normal_y", "<f8"),
        ("normal_rho", "<f8"),
        ("normal_is_valid", "<i4"),
        ("padding", "u1", 12),
    ]
)


class Generator:
    """torch's CPU generator: the same seed gives the same draws, in the same order, as `torch.Generator`.

    `Generator(seed)` is `torch.Generator().manual_seed(seed)`; `Generator()` is `torch.Generator()`, whose seed is
    67280421310721. Shapes and dtypes are those of the arrays asked for; only float32 and float64 are drawn.
    """

    def __init__(self, seed: int | None = None) -> None:
        # (seeded twice, because without a seed it would ask the operating system for one, which takes its time)
        self._twister = np.random.MT19937(0)
        self._seeding = np.random.RandomState(self._twister)
        self.manual_seed(DEFAULT_SEED if seed is None else seed)

    def manual_seed(self, seed: int) -> "Generator":
        """Start again from `seed` and return this generator.

        As in torch, a negative seed means `2**64 + seed`, and only the low 32 bits reach the twister: seeds 5 and
        `2**32 + 5` draw the same numbers, though `initial_seed` tells them apart.

        Raises TypeError unless `seed` is an integer (a bool is not), ValueError outside [-2**63, 2**64).
        """
        if isinstance(seed, bool) or not hasattr(seed, "__index__"):
            raise TypeError(f"manual_seed expected an integer, got {type(seed).__name__} {seed!r}")
        seed = operator.index(seed)
        if not -(2**63) <= seed < 2**64:
            raise ValueError(f"manual_seed expected a seed from -2**63 to 2**64 - 1, got {seed}")
        self._initial_seed = seed % 2**64
        self._seeding.seed(seed % 2**32)
        self._drawn = False
        self._reserve: float | None = None
        return self

    def initial_seed(self) -> int:
        """The seed last given, in [0, 2**64)."""
        return self._initial_seed

    def get_state(self) -> NDArray[np.uint8]:
        """The whole state as an array (5056,) of uint8: the very bytes of `torch.Generator.get_state()`.

        `torch_generator.set_state(torch.from_numpy(g.get_state()))` makes torch go on from here.
        """
        twister = self._twister.state["state"]
        state = np.zeros(1, _STATE)
        state["initial_seed"] = self._initial_seed
        # Between two twists torch keeps left + next = 625; only a generator that never drew stands at next = 0.
        state["left"] = TWISTER_WORDS + 1 - twister["pos"]
        state["next"] = twister["pos"] if self._drawn else 0
        state["seeded"] = 1
        state["words"] = twister["key"]
        if self._reserve is not None:
            state["normal_y"], state["normal_is_valid"] = self._reserve, 1
        return state.view(np.uint8)

    def set_state(self, state: NDArray[np.uint8]) -> None:
        """Go on from a state (5056,) of uint8 that `get_state`, refnet's or torch's, has returned.

        Raises ValueError for another shape or dtype, and for bytes that are no such state.
        """
        if not (isinstance(state, np.ndarray) and state.dtype == np.uint8 and state.shape == (_STATE.itemsize,)):
            got = f"{state.dtype} {state.shape}" if isinstance(state, np.ndarray) else type(state).__name__
            raise ValueError(f"set_state expected an array uint8 ({_STATE.itemsize},), got {got}")
        fields = np.ascontiguousarray(state).view(_STATE)[0]
        words, left, following = fields["words"], int(fields["left"]), int(fields["next"])
        fresh = left == 1 and following == 0
        drawn = 1 <= left <= TWISTER_WORDS and left + following == TWISTER_WORDS + 1
        if fields["seeded"] != 1 or not (fresh or drawn) or words.max() >= 2**32:
            raise ValueError(
                "set_state expected the state of a seeded MT19937 (left + next = 625, 32-bit words), "
                f"got seeded={fields['seeded']}, left={left}, next={following}, largest word {words.max()}"
            )
        self._initial_seed = int(fields["initial_seed"])
        self._twister.state = {
            "bit_generator": "MT19937",
            "state": {"key": words.astype(np.uint32), "pos": TWISTER_WORDS + 1 - left},
        }
        self._drawn = drawn
        self._reserve = float(fields["normal_y"]) if fields["normal_is_valid"] else None

    def clone(self) -> "Generator":
        """Another generator in the same state; the two draw the same numbers, each for itself."""
        twin = Generator()
        twin.set_state(self.get_state())
        return twin

    def __reduce__(self) -> Any:
        """A copy, or a pickled one, goes on from the same state for itself; that of the default generator is the
        default generator, so that a copied network still draws after `manual_seed`.
        """
        return "default_generator" if self is default_generator else (_in_state, (self.get_state(),))

    def random_raw(self, n: int) -> NDArray[np.uint64]:
        """The next `n` words of the twister, (n,), each in [0, 2**32). Raises ValueError if `n` is negative."""
        if n < 0:
            raise ValueError(f"random_raw expected n >= 0, got {n}")
        self._drawn = self._drawn or n > 0
        words: NDArray[np.uint64] = self._twister.random_raw(n)
        return words

    def rand(self, *size: int | Sequence[int], dtype: DTypeLike = np.float64) -> NDArray[Any]:
        """Uniform draws from [0, 1) of shape `size`, given as `rand(2, 3)` or `rand((2, 3))`.

        float32: u = (word mod 2**24) / 2**24, one word each; float64: u = ((hi 2**32 + lo) mod 2**53) / 2**53, the two
        words drawn high half first. Raises TypeError for another dtype.
        """
        shape: Any = size[0] if len(size) == 1 else size
        return self.uniform_(np.empty(shape, _checked("rand", np.dtype(dtype))))

    def uniform_(self, array: NDArray[Scalar], from_: float = 0.0, to: float = 1.0) -> NDArray[Scalar]:
        """Fill `array`, of any shape, with uniform draws from [from_, to), and return it.

        x = fma(u, to - from_, from_), and where that rounds to `to`, x = from_. Here u is as in `rand`, `from_` and
        `to` are rounded to the array's dtype first, and difference and fused multiply-add are rounded once in that
        dtype. An array that is not contiguous is filled in the order of its memory, as torch does: an F-ordered matrix
        column by column.

        Raises TypeError unless the dtype is float32 or float64; ValueError unless `from_ <= to`, both and their
        difference finite in that dtype.
        """
        dtype, from_, to = _checked("uniform_", array.dtype), float(from_), float(to)
        largest = float(np.finfo(dtype).max)
        if not -largest <= from_ <= to <= largest:
            raise ValueError(f"uniform_ expected from_ <= to, both finite in {dtype}, got from_={from_}, to={to}")
        if to - from_ > largest:
            raise ValueError(f"uniform_ expected to - from_ to be finite in {dtype}, got from_={from_}, to={to}")
        low, high = dtype.type(from_), dtype.type(to)
        width = high - low
        u = self._uniform(array.size, dtype)
        x = _scaled(u, width, low)
        return _fill(array, np.where(x == high, low, x))

    def _uniform(self, n: int, dtype: DTypeLike = np.float64) -> NDArray[Any]:
        """The u of `rand`, (n,)."""
        if dtype == np.float32:
            return ((self.random_raw(n) % 2**24) / 2.0**24).astype(np.float32)
        return (self._random64(n) % 2**53) / 2.0**53

    def _random64(self, n: int) -> NDArray[np.uint64]:
        words = self.random_raw(2 * n)
        pairs: NDArray[np.uint64] = words[0::2] << np.uint64(32) | words[1::2]
        return pairs

    def randn(self, *size: int | Sequence[int], dtype: DTypeLike = np.float64) -> NDArray[Any]:
        """Draws from N(0, 1) of shape `size`, given as `randn(2, 3)` or `randn((2, 3))`; see `normal_`."""
        shape: Any = size[0] if len(size) == 1 else size
        return self.normal_(np.empty(shape, _checked("randn", np.dtype(dtype))))

    def normal_(self, array: NDArray[Scalar], mean: float = 0.0, std: float = 1.0) -> NDArray[Scalar]:
        """Fill `array`, of any shape, with draws from N(mean, std^2), and return it.

        G. E. P. Box and M. E. Muller, "A note on the generation of random normal deviates", Annals of Mathematical
        Statistics 29, 1958: from u and v of U[0, 1) come z = sqrt(-2 log(1 - u)) times cos(2 pi v) and times
        sin(2 pi v). Then x = fma(z, std, mean).

        As in torch, 16 elements at a time are pairs, the first 8 as u with the other 8 as v; where their number is no
        multiple of 16, the last 16 are drawn anew. This goes in the array's dtype. Fewer than 16 elements, or an array
        that is not contiguous, are drawn in float64, in the order of memory, v before u; of the last pair the second
        is kept for the next such call.

        Raises TypeError unless the dtype is float32 or float64; ValueError unless `std >= 0`.
        """
        dtype, n = _checked("normal_", array.dtype), array.size
        if not std >= 0:
            raise ValueError(f"normal_ expected std >= 0, got {std}")
        if n < 16 or not array.flags.c_contiguous:
            return _fill(array, _scaled(self._normals(n), std, mean))
        u = self._uniform(n, dtype)
        blocks = u[: n - n % 16].reshape(-1, 2, 8)
        z = _box_muller(blocks[:, 0], blocks[:, 1]).transpose(1, 0, 2).reshape(-1)
        if n % 16:
            last = self._uniform(16, dtype).reshape(2, 8)
            z = np.concatenate([z[: n - 16], _box_muller(*last).reshape(-1)])
        return _fill(array, _scaled(z, dtype.type(std), dtype.type(mean)))

    def _normals(self, n: int) -> NDArray[np.float64]:
        """Draws from N(0, 1), (n,), pair by pair."""
        kept = [] if self._reserve is None or n == 0 else [self._reserve]
        if n > 0:
            self._reserve = None
        v, u = self._uniform((n - len(kept) + 1) // 2 * 2).reshape(-1, 2).T
        z = np.concatenate([np.array(kept), _box_muller(u, v, accurate=True).T.reshape(-1)])
        if len(z) > n:
            self._reserve = float(z[n])
        return z[:n]

    def exponential_(self, array: NDArray[Scalar], lambd: float = 1.0) -> NDArray[Scalar]:
        """Fill `array`, of any shape, with draws x = -1 / lambd log(1 - u), u of U[0, 1) in float64, and return it.

        Raises TypeError unless the dtype is float32 or float64; ValueError unless `lambd > 0`.
        """
        _checked("exponential_", array.dtype)
        if not lambd > 0:
            raise ValueError(f"exponential_ expected lambd > 0, got {lambd}")
        return _fill(array, -1.0 / lambd * _by_libm(math.log1p, -self._uniform(array.size)))

    def bernoulli_(self, array: NDArray[Any], p: float | NDArray[Any] = 0.5) -> NDArray[Any]:
        """Fill `array`, of any shape and dtype, with 1 where u < p and 0 elsewhere, and return it.

        A number p is compared with u of U[0, 1) in float64, an array p, of `array`'s shape, with u of its own dtype,
        float32 or float64.

        Raises TypeError for another dtype of p; ValueError for another shape, or unless 0 <= p <= 1.
        """
        if not isinstance(p, np.ndarray):
            if not 0 <= p <= 1:
                raise ValueError(f"bernoulli_ expected 0 <= p <= 1, got {p}")
            return _fill(array, self._uniform(array.size) < p)
        dtype = _checked("bernoulli_", p.dtype)
        if p.shape != array.shape:
            raise ValueError(f"bernoulli_ expected p of shape {array.shape}, got {p.shape}")
        if not ((p >= 0) & (p <= 1)).all():
            raise ValueError("bernoulli_ expected 0 <= p <= 1, got a p outside")
        drawn = _fill(np.empty_like(array, np.dtype(dtype)), self._uniform(array.size, dtype))
        array[...] = drawn < p
        return array

    def bernoulli(self, input: NDArray[Scalar]) -> NDArray[Scalar]:
        """1 with the probability that `input` holds, else 0, in its shape and dtype; see `bernoulli_`."""
        return self.bernoulli_(np.empty_like(input), input)

    def randint(self, low: int, high: int, size: int | Sequence[int]) -> NDArray[np.int64]:
        """Integers from low to high - 1 of shape `size`: low + word mod (high - low), one word each; from
        high - low = 2**28 on two words, high half first.

        Raises ValueError unless -2**63 <= low < high <= 2**63 - 1.
        """
        if not -(2**63) <= low < high < 2**63:
            raise ValueError(f"randint expected -2**63 <= low < high < 2**63, got low={low}, high={high}")
        array = np.empty(size, np.int64)
        words = self.random_raw(array.size) if high - low < 2**28 else self._random64(array.size)
        # Modulo 2**64, in which the sum of two's complements is right whatever the signs.
        array[...] = (words % np.uint64(high - low) + np.uint64(low % 2**64)).view(np.int64).reshape(array.shape)
        return array

    def multinomial(self, input: NDArray[Any], num_samples: int, replacement: bool = False) -> NDArray[np.int64]:
        """Indices drawn with probabilities in proportion to the weights `input` (k,) or, row by row, (n, k).

        With replacement: for each draw u of U[0, 1) in float64 the first index at which the running sum of the
        weights, divided by their total, is not below u. Without, or for one sample: the indices of the largest
        `num_samples` of weight / e, largest first, e drawn by `exponential_`.

        Raises:
            TypeError: the weights' dtype is neither float32 nor float64.
            ValueError: another number of axes; a weight that is negative or not finite; weights that are all 0;
                `num_samples` below 1, or, without replacement, above k.
        """
        dtype, W = _checked("multinomial", input.dtype), np.atleast_2d(input)
        k = W.shape[-1]
        if input.ndim not in (1, 2) or k == 0:
            raise ValueError(f"multinomial expected weights (k,) or (n, k), k > 0, got shape {input.shape}")
        if num_samples < 1 or not (replacement or num_samples <= k):
            raise ValueError(
                f"multinomial expected num_samples from 1{'' if replacement else f' to {k}'}, got {num_samples}"
            )
        if not (np.isfinite(W).all() and (W >= 0).all() and (W.sum(-1) > 0).all()):
            raise ValueError("multinomial expected finite weights of at least 0 with a sum above 0, got others")
        if replacement and num_samples > 1:
            sums = np.cumsum(W, axis=-1, dtype=dtype)
            sums = sums / sums[:, -1:]
            sums[:, -1] = 1
            u = self._uniform(len(W) * num_samples).reshape(-1, num_samples)
            drawn = [np.searchsorted(row.astype(np.float64), own) for row, own in zip(sums, u, strict=True)]
            indices = np.array(drawn, np.int64).reshape(-1, num_samples)
        else:
            q = W / self.exponential_(np.empty(W.shape, dtype))
            indices = np.argsort(-q, axis=-1, kind="stable")[:, :num_samples].astype(np.int64)
        return indices[0] if input.ndim == 1 else indices

    def randperm(self, n: int) -> NDArray[np.int64]:
        """A permutation of 0 ... n-1, (n,) of int64, by Fisher and Yates; draws n - 1 words.

        For i = 0 ... n-2, in turn: p[i] and p[i + word mod (n - i)] change places.

        Raises ValueError if `n` is negative, or at least (2**32 - 1) // 20: from there on torch takes two words
        per element and fills the permutation from the inside out, which refnet does not have.
        """
        if not 0 <= n < RANDPERM_LIMIT:
            raise ValueError(
                f"randperm expected 0 <= n < {RANDPERM_LIMIT} (torch permutes more in another way), got {n}"
            )
        swaps = max(n - 1, 0)
        choices = np.arange(n, n - swaps, -1, dtype=np.uint64)
        partners = np.arange(swaps) + (self.random_raw(swaps) % choices).astype(np.int64)
        # A list, because each swap depends on the last, and NumPy's scalars are slower one by one.
        p = list(range(n))
        for i, j in enumerate(partners.tolist()):
            p[i], p[j] = p[j], p[i]
        return np.array(p, dtype=np.int64)


def _in_state(state: NDArray[np.uint8]) -> Generator:
    generator = Generator()
    generator.set_state(state)
    return generator


default_generator = Generator()
"""What draws when no generator is given. Its seed is that of `torch.Generator()`, so that a process can be repeated;
torch's own default generator gets a seed from the operating system. After `manual_seed` in both, they agree."""


def manual_seed(seed: int) -> Generator:
    """Seed `default_generator` and return it, as `torch.manual_seed` does. Raises as `Generator.manual_seed`."""
    return default_generator.manual_seed(seed)


def resolve(generator: Generator | None) -> Generator:
    """`generator`, or `default_generator` for None. Raises TypeError for anything else."""
    if generator is None:
        return default_generator
    if not isinstance(generator, Generator):
        raise TypeError(
            "generator: expected a refnet.Generator or None, such as refnet.Generator(0), got "
            f"{type(generator).__module__}.{type(generator).__name__}"
        )
    return generator


def _box_muller(u: NDArray[Any], v: NDArray[Any], *, accurate: bool = False) -> NDArray[Any]:
    """Pairs of normals (2, *); `accurate` near u = 0, where 1 - u loses bits."""
    if u.dtype == np.float32:
        radius = np.sqrt(-2 * cephes.log(1 - u))
        sine, cosine = cephes.sin_and_cos(np.float32(2 * math.pi) * v)
        return np.stack([radius * cosine, radius * sine])
    radius = np.sqrt(-2 * (_by_libm(math.log1p, -u) if accurate else _by_libm(math.log, 1 - u)))
    angle = 2 * math.pi * v
    return np.stack([radius * _by_libm(math.cos, angle), radius * _by_libm(math.sin, angle)])


def _by_libm(function: Callable[[float], float], array: NDArray[np.float64]) -> NDArray[np.float64]:
    """A function of the C library on every element. NumPy's own differ from it in last bits on some processors."""
    return np.array(list(map(function, array.ravel().tolist())), np.float64).reshape(array.shape)


def _scaled(z: NDArray[Any], factor: Any, summand: Any) -> NDArray[Any]:
    """fma(z, factor, summand) for every element of z."""
    factor, summand = z.dtype.type(factor), z.dtype.type(summand)
    return fma(z, np.broadcast_to(factor, z.shape), np.broadcast_to(summand, z.shape))


def _fill(array: NDArray[Any], values: NDArray[Any]) -> NDArray[Any]:
    """Write values (n,) into `array` in the order of its memory."""
    by_memory = array.transpose(sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis])))
    by_memory[...] = values.reshape(by_memory.shape)
    return array


def _checked(operation: str, dtype: np.dtype[Any]) -> np.dtype[Any]:
    if dtype not in (np.float32, np.float64):
        raise TypeError(f"{operation} expected dtype float32 or float64, got {dtype}")
    return dtype
