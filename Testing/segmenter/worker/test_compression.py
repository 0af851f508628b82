import numpy as np
import pytest

from DanteSegmenterLib.worker.compression import DECOMPRESSED_BYTES, Compressor, Decompressor
from DanteSegmenterLib.worker.protocol import ProtocolError


@pytest.mark.parametrize("piece", [1, 1000, 1 << 20])
def test_messages_round_trip_and_are_complete_after_a_flush(piece):
    compressor, decompressor = Compressor(), Decompressor()
    rng = np.random.default_rng(0)
    for message in (b"a", rng.integers(0, 9, 5000, np.uint8).tobytes(), bytes(3 * DECOMPRESSED_BYTES), b""):
        stream = compressor.feed(message) + compressor.flush()
        got = [part for n in range(0, len(stream), piece) for part in decompressor.feed(stream[n : n + piece])]
        assert b"".join(got) == message and all(len(part) <= DECOMPRESSED_BYTES for part in got)


def test_decompression_bomb_is_unpacked_in_pieces():
    bomb = Compressor()
    stream = bomb.feed(bytes(64 * DECOMPRESSED_BYTES)) + bomb.flush()
    parts = Decompressor().feed(stream)
    assert len(stream) < DECOMPRESSED_BYTES // 2 and len(next(parts)) == DECOMPRESSED_BYTES


def test_uncompressed_data_are_refused():
    with pytest.raises(ProtocolError, match="no compressed stream"):
        list(Decompressor().feed(b"DNTE as within a computer"))
