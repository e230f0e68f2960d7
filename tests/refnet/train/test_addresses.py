"""Where arrays begin."""

import numpy as np
import pytest

from refnet.train import addresses


class Derived(np.ndarray):
    pass


def arrays():
    whole = np.arange(24.0).reshape(4, 6)
    read_only = whole.copy()
    read_only.flags.writeable = False
    yield from (whole, whole[1:], whole[::-1, ::-2], whole.T[2], whole[3, 5:].reshape(()), whole[:, :0])
    yield from (np.array(3, np.float32), np.broadcast_to(whole[0], (3, 6)), read_only[2])
    yield from (whole.view(Derived), np.frombuffer(b"abcdefgh", np.uint8)[3:])


@pytest.mark.parametrize("way", [addresses.address_of, addresses.by_interface])
def test_an_array_begins_where_its_first_element_lies(way):
    for array in arrays():
        assert way(array) == array.ctypes.data
