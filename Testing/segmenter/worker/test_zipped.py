import numpy as np
import pytest

from DanteSegmenterLib.worker.protocol import ProtocolError
from DanteSegmenterLib.worker.zipped import UNZIPPED_BYTES, Unzip, Zip


@pytest.mark.parametrize("piece", [1, 1000, 1 << 20])
def test_messages_come_out_as_they_went_in_and_each_is_whole_when_it_is_flushed(piece):
    squeeze, turn_back = Zip(), Unzip()
    rng = np.random.default_rng(0)
    for message in (b"a", rng.integers(0, 9, 5000, np.uint8).tobytes(), bytes(3 * UNZIPPED_BYTES), b""):
        stream = squeeze.feed(message) + squeeze.flush()
        got = [part for n in range(0, len(stream), piece) for part in turn_back.feed(stream[n : n + piece])]
        assert b"".join(got) == message and all(len(part) <= UNZIPPED_BYTES for part in got)


def test_a_few_bytes_that_claim_to_be_many_are_unpacked_in_pieces():
    bomb = Zip()
    stream = bomb.feed(bytes(64 * UNZIPPED_BYTES)) + bomb.flush()
    parts = Unzip().feed(stream)
    assert len(stream) < UNZIPPED_BYTES // 2 and len(next(parts)) == UNZIPPED_BYTES


def test_what_is_not_squeezed_is_refused():
    with pytest.raises(ProtocolError, match="not squeezed"):
        list(Unzip().feed(b"DNTE as within a computer"))
