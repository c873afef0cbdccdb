from __future__ import annotations

import resource
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.polite import no_rest
from hub.spool.segments import DATA, FORMAT, FRAME, LENGTH, REST, Segment, checksum, frame_size, scan, segment_files


def write(segment: Segment, body: bytes, seq: int = 1, version: int = 1, count: int = 1) -> None:
    """What the append path does, without its counters."""
    mapped, start = segment.open_map(), segment.end
    crc = checksum(REST.pack(seq, version, count, FORMAT), checksum(body))
    FRAME.pack_into(mapped, start, 0, crc, seq, version, count, FORMAT)
    mapped[start + FRAME.size : start + FRAME.size + len(body)] = body
    LENGTH.pack_into(mapped, start, len(body))
    segment.end += frame_size(len(body))


def segment_in(folder: Path, *, allocated: int = 64 * 1024, ordinal: int = 1, number: int = 1) -> Segment:
    segment = Segment.create(folder, number, allocated=allocated, size=2 * allocated)
    segment.activate(ordinal, 0, 0)
    return segment


@given(st.binary(max_size=20_000), st.binary(max_size=50))
@settings(max_examples=30, deadline=None)
def test_checksum_in_slices_is_crc32_of_the_whole(data: bytes, more: bytes) -> None:
    assert checksum(data) == zlib.crc32(data)
    assert checksum(more, checksum(data)) == zlib.crc32(data + more)


def test_frames_are_read_back_as_written(tmp_path: Path) -> None:
    segment = segment_in(tmp_path)
    bodies = [b"a", b"b" * 4096, b"c" * 10_001]
    for number, body in enumerate(bodies, 1):
        write(segment, body, seq=10 * number, version=number, count=number)
    segment.close()
    found = list(scan(tmp_path / "00000001.seg"))
    assert [(frame.body, frame.first_seq, frame.first_version, frame.count) for frame in found] == [
        (body, 10 * number, number, number) for number, body in enumerate(bodies, 1)
    ]


def test_a_file_cut_at_any_byte_gives_the_whole_frames_before_the_cut(tmp_path: Path) -> None:
    segment = segment_in(tmp_path)
    body, ends = b"x" * 41, []
    for _ in range(3):
        ends.append(segment.end + FRAME.size + len(body))
        write(segment, body)
    segment.close()
    path = tmp_path / "00000001.seg"
    whole = path.read_bytes()
    for cut in range(DATA, ends[-1] + 1):
        path.write_bytes(whole[:cut])
        assert len(list(scan(path))) == sum(end <= cut for end in ends)


def test_a_damaged_byte_ends_the_reading_of_its_segment(tmp_path: Path) -> None:
    segment = segment_in(tmp_path)
    ends = [DATA]
    for number in range(3):
        write(segment, b"%d" % number * 40)
        ends.append(segment.end)
    segment.close()
    path = tmp_path / "00000001.seg"
    whole = path.read_bytes()
    for place in range(DATA, ends[-1]):
        damaged = bytearray(whole)
        damaged[place] ^= 0x41
        path.write_bytes(damaged)
        frames = list(scan(path))
        hit = sum(end <= place for end in ends[1:])
        assert [frame.body for frame in frames[:hit]] == [b"%d" % number * 40 for number in range(hit)]
        assert len(frames) in (hit, 3)  # 3: padding, which nothing depends on


def test_segments_are_listed_in_the_order_of_their_use(tmp_path: Path) -> None:
    segment_in(tmp_path, ordinal=2, number=1).close()
    segment_in(tmp_path, ordinal=1, number=2).close()
    Segment.create(tmp_path, 3, allocated=4096, size=4096).close()  # never used
    (tmp_path / "00000004.seg").write_bytes(b"short")
    (tmp_path / "00000005.seg").write_bytes(b"x" * 4096)
    assert [(segment.ordinal, segment.path.name) for segment in segment_files(tmp_path)] == [
        (1, "00000002.seg"),
        (2, "00000001.seg"),
    ]


def test_a_segment_without_room_is_refused_and_leaves_no_file(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            Segment.create(tmp_path, 1, allocated=64 * 1024, size=64 * 1024)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_a_reader_reads_on_after_the_file_was_deleted(tmp_path: Path) -> None:
    segment = segment_in(tmp_path)
    write(segment, b"still here")
    source = segment.open_source()
    segment.remove(no_rest)
    assert source.read(10, DATA + FRAME.size) == b"still here"
    source.close()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OSError, match="removed"):
        segment.open_source()


def test_a_segment_in_memory_leaves_no_file_and_reads_the_same(tmp_path: Path) -> None:
    segment = Segment.create(None, 1, allocated=4096, size=8192)
    segment.activate(1, 0, 0)
    write(segment, b"in memory")
    segment.retire(no_rest)
    assert segment.open_source().read(9, DATA + FRAME.size) == b"in memory"
    segment.remove(no_rest)
    assert list(tmp_path.iterdir()) == []
