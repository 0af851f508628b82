import errno

import pytest

from DanteSegmenterLib.errors import lacks_memory, sentence_of

NO_MEMORY = [
    MemoryError(),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    ImportError("libtorch_cpu.so: failed to map segment from shared object"),
    ImportError("libopenblas.so: cannot allocate memory in static TLS block"),
]


@pytest.mark.parametrize("error", NO_MEMORY, ids=str)
def test_out_of_memory_is_recognised_from_any_source(error):
    assert lacks_memory(error) and "not enough memory" in sentence_of(error)


@pytest.mark.parametrize("error", [ImportError("No module named 'x'"), OSError(errno.ENOSPC, "full"), ValueError()])
def test_other_errors_are_not_taken_for_out_of_memory(error):
    assert not lacks_memory(error) and "memory" not in sentence_of(error)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "/a"), "No such file or directory: '/a'"),
        (ValueError("too deep"), "ValueError: too deep"),
    ],
    ids=str,
)
def test_error_of_another_process_is_shown_without_traceback(error, expected):
    whole = 'Caught it in a process.\nOriginal Traceback (most recent call last):\n  File "x.py", line 3, in f\n'
    assert sentence_of(type(error)(f"{whole}{type(error).__name__}: {error}\n")).strip() == expected
