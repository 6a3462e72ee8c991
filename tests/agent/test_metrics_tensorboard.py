"""TensorBoard event files, checked against numbers that TensorBoard's own reader gave."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import pytest

from launcher.agent.line_formats import Row
from launcher.agent.tensorboard import LARGEST_SCALARS, RECORDS_A_READ, EventFile, masked_crc

TRAINING = Path(__file__).parent.parent / "fixtures" / "training"


def events(folder: str) -> Path:
    """The event file of one trainer."""
    return next((TRAINING / folder).glob("events.*"))


def series(rows: list[Row], name: str) -> list[tuple[float, float]]:
    """The (step, value) pairs of one name."""
    return [(row["step"], row[name]) for row in rows if name in row]


def record(payload: bytes) -> bytes:
    """One record of an event file."""
    head = struct.pack("<Q", len(payload))
    return head + struct.pack("<I", masked_crc(head)) + payload + struct.pack("<I", masked_crc(payload))


def scalar(step: int, value: float) -> bytes:
    """A record with one scalar, `loss`; the step below 128."""
    held = b"\x0a\x04loss\x15" + struct.pack("<f", value)
    summary = b"\x0a" + bytes([len(held)]) + held
    return record(b"\x10" + bytes([step]) + b"\x2a" + bytes([len(summary)]) + summary)


def test_checksum() -> None:
    """The masked CRC-32C of `123456789` (its CRC is e3069283, RFC 3720)."""
    crc = 0xE3069283
    assert masked_crc(b"123456789") == ((crc >> 15 | crc << 17 & 0xFFFFFFFF) + 0xA282EAD8) & 0xFFFFFFFF


def test_hugging_face_events() -> None:
    """Tags of training and evaluation, with steps."""
    rows = EventFile(events("huggingface")).read()
    assert series(rows, "eval/loss") == [
        (10, 2.541335344314575),
        (20, 2.541224718093872),
        (30, 2.541334867477417),
        (40, 2.541196823120117),
        (50, 2.5412421226501465),
        (60, 2.541133165359497),
    ]
    assert series(rows, "train/loss")[0] == (5, 2.546443462371826)
    assert series(rows, "train/grad_norm")[-1] == (60, 0.5279718041419983)
    assert len(series(rows, "train/loss")) == 12


def test_lightning_events() -> None:
    """The tags are the logged names, and the epoch comes with them."""
    rows = EventFile(events("lightning")).read()
    assert series(rows, "val_loss") == [
        (9, 0.7834334373474121),
        (19, 0.09641517698764801),
        (29, 0.013337770476937294),
        (39, 0.002090680878609419),
    ]
    assert [row["epoch"] for row in rows if "val_loss" in row] == [0, 1, 2, 3]


def test_torch_events() -> None:
    """Simple values and tensors of float and double are scalars; histograms and texts are not; NaN stays NaN."""
    rows = EventFile(events("torch")).read()
    assert series(rows, "val/loss")[1] == (10, 0.27272728085517883)
    assert series(rows, "tensor_style") == [(0, 0.0), (10, 5.0), (20, 10.0), (30, 15.0), (40, 20.0)]
    assert series(rows, "double_style")[-1] == (40, 10.0)
    assert math.isnan(rows[-1].pop("grad_norm"))
    assert rows[-1] == {"step": 50}


def test_tensorboardx_events() -> None:
    """Another writer of the same format."""
    assert series(EventFile(events("tensorboardx")).read(), "eval/loss") == [(0, 1.5), (100, 1.25), (200, 1.0)]


def test_a_file_that_grows_byte_by_byte(tmp_path: Path) -> None:
    """A torn last record waits for its rest; nothing is lost and nothing is read twice."""
    whole = events("lightning").read_bytes()
    path = tmp_path / "events.out.tfevents.1"
    path.write_bytes(b"")
    file = EventFile(path)
    values = []
    with path.open("ab", buffering=0) as writer:
        for at in range(len(whole)):
            writer.write(whole[at : at + 1])
            values += series(file.read(), "val_loss")
    assert values == series(EventFile(events("lightning")).read(), "val_loss")


def test_keras_validation_folder(tmp_path: Path) -> None:
    """Keras writes `epoch_loss` of the validation in a folder of that name."""
    (tmp_path / "validation").mkdir()
    held = b"\x0a\x0aepoch_loss\x15" + struct.pack("<f", 0.5)
    payload = b"\x10\x03\x2a" + bytes([len(held) + 2]) + b"\x0a" + bytes([len(held)]) + held
    path = tmp_path / "validation" / "events.out.tfevents.1"
    path.write_bytes(record(payload))
    assert EventFile(path).read() == [{"val_loss": 0.5, "step": 3}]


@pytest.mark.parametrize("at", [0, 9, 14, -1])
def test_damage_is_said(tmp_path: Path, at: int) -> None:
    """What is before the damage is read; the damage is an error, and nothing made up is read."""
    good, bad = scalar(1, 0.5), bytearray(scalar(2, 0.25))
    bad[at] ^= 255
    path = tmp_path / "events.out.tfevents.1"
    path.write_bytes(good + bytes(bad) + scalar(3, 0.125))
    file = EventFile(path)
    assert file.read() == [{"loss": 0.5, "step": 1}]
    with pytest.raises(ValueError, match=f"damaged at byte {len(good)}"):
        file.read()


def test_large_records_are_passed_over(tmp_path: Path) -> None:
    """A picture between two scalars is not read, whatever its size."""
    path = tmp_path / "events.out.tfevents.1"
    size = 100_000_000
    head = struct.pack("<Q", size)
    with path.open("wb") as file:
        file.write(scalar(1, 0.5) + head + struct.pack("<I", masked_crc(head)))
        file.seek(size + 4, 1)
        file.write(scalar(2, 0.25))
    assert size > LARGEST_SCALARS
    assert EventFile(path).read() == [{"loss": 0.5, "step": 1}, {"loss": 0.25, "step": 2}]


def test_a_read_is_bounded(tmp_path: Path) -> None:
    """A long file is read in bounded pieces."""
    path = tmp_path / "events.out.tfevents.1"
    path.write_bytes(b"".join(scalar(number % 128, 0.5) for number in range(2 * RECORDS_A_READ + 10)))
    file = EventFile(path)
    assert [len(file.read()) for _ in range(4)] == [RECORDS_A_READ, RECORDS_A_READ, 10, 0]
