"""Random numbers: the draws that torch makes on the CPU, bit for bit.

Words come from MT19937, the 32-bit Mersenne twister (Matsumoto & Nishimura, "Mersenne Twister: a 623-dimensionally
equidistributed uniform pseudo-random number generator", ACM TOMACS 8(1), 1998), with the 2002 seeding by one integer.
How torch turns words into numbers is written above each method below.

Scope: torch's builds for x86-64 on a processor with AVX2 or AVX512 (`torch.backends.cpu.get_cpu_capability()`). There
the compiler has fused the multiplication and addition of `uniform_`; a build without fused multiply-add rounds twice
and gives other bits. Words, `rand` and `randperm` do not depend on that.
"""

import operator
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from refnet.arithmetic.fma import fma

__all__ = ["Generator", "default_generator", "manual_seed", "resolve"]

Scalar = TypeVar("Scalar", bound=np.floating[Any])

DEFAULT_SEED = 67280421310721  # the seed of a torch.Generator() that was given none
RANDPERM_LIMIT = (2**32 - 1) // 20  # from this length on, torch draws a permutation in another way
TWISTER_WORDS = 624

# The bytes of torch.Generator.get_state(). `left` counts down to the next twist, `next` is the word to be drawn next,
# and `normal` holds samples that torch.randn has made in advance and refnet only passes on.
_STATE = np.dtype(
    [
        ("initial_seed", "<u8"),
        ("left", "<i4"),
        ("seeded", "<i4"),
        ("next", "<u8"),
        ("words", "<u8", TWISTER_WORDS),
        ("normal", "u1", 40),
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
        self._normal = np.zeros(40, np.uint8)
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
        state["normal"] = self._normal
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
        self._normal = fields["normal"].copy()

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
        by_memory = array.transpose(sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis])))
        if dtype == np.float32:
            u = (self.random_raw(array.size) % 2**24) / 2.0**24
        else:
            words = self.random_raw(2 * array.size)
            u = ((words[0::2] << 32 | words[1::2]) % 2**53) / 2.0**53
        x = fma(u.astype(dtype), np.broadcast_to(width, u.shape), np.broadcast_to(low, u.shape))
        by_memory[...] = np.where(x == high, low, x).reshape(by_memory.shape)
        return array

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
            f"expected a refnet.Generator or None, got {type(generator).__module__}.{type(generator).__name__}"
        )
    return generator


def _checked(operation: str, dtype: np.dtype[Any]) -> np.dtype[Any]:
    if dtype not in (np.float32, np.float64):
        raise TypeError(f"{operation} expected dtype float32 or float64, got {dtype}")
    return dtype
