"""Fingerprints of contents: the same however the file is read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import xxhash

from semid import manifests
from semid.errors import SemidError
from semid.manifests import differences, digest, manifest_for, note_files, refuse_foreign


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


PLAN = {
    "command": "probe",
    "inputs": {"ids a": "1", "ids b": "2"},
    "settings": {"seeds": 3, "network": {"epochs": 1, "width": 8}},
}


@pytest.mark.parametrize(
    ("inputs", "network", "expected"),
    [
        ({"ids a": "1"}, {}, ["the input 'ids b' was given then and is not now"]),
        (
            {"ids a": "3", "ids b": "2", "ids c": "4"},
            {},
            [
                "the input 'ids a' has other contents now",
                "the input 'ids c' is given now and was not then",
            ],
        ),
        (
            PLAN["inputs"],
            {"epochs": 2, "width": 4},
            ["settings.network.epochs: 1 there, 2 now", "settings.network.width: 8 there, 4 now"],
        ),
        (PLAN["inputs"], {}, []),
    ],
)
def test_all_differences_of_plans(inputs, network, expected) -> None:
    network = PLAN["settings"]["network"] | network
    settings = PLAN["settings"] | {"network": network}
    assert differences(PLAN, PLAN | {"inputs": inputs, "settings": settings}) == expected


def test_an_output_of_another_plan_says_three_differences(tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.mkdir()
    note_files(output, manifest_for(PLAN))
    settings = {"seeds": 1, "network": {"epochs": 2, "width": 4}}
    other = PLAN | {"inputs": {"ids a": "1"}, "settings": settings}
    expected = (
        "out exists and belongs to other settings (the input 'ids b' was given then and is not "
        "now; settings.seeds: 3 there, 1 now; settings.network.epochs: 1 there, 2 now; and 1 more)"
    )
    with pytest.raises(SemidError, match=re.escape(expected)):
        refuse_foreign(output, other, overwrite=False)
