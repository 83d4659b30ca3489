"""Fingerprints of contents: the same however the file is read."""

from __future__ import annotations

from pathlib import Path

import pytest
import xxhash

from semid import manifests
from semid.manifests import digest


@pytest.mark.parametrize("size", [0, 1, 4_095, 4_096, 4_097, 3 * 4_096, 50_000])
def test_pieces_make_the_digest_of_the_whole(
    tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = bytes(number * number % 251 for number in range(size))
    (tmp_path / "a.bin").write_bytes(content)
    expected = xxhash.xxh3_128(content).hexdigest()
    assert digest(tmp_path / "a.bin") == expected
    monkeypatch.setattr(manifests, "_READ_BYTES", 4_096)
    assert digest(tmp_path / "a.bin") == expected


def test_a_folder_is_its_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "b").write_bytes(b"2")
    before = digest(tmp_path)
    (tmp_path / "b").rename(tmp_path / "c")
    assert digest(tmp_path) != before
    (tmp_path / "c").rename(tmp_path / "b")
    assert digest(tmp_path) == before
