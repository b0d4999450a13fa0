"""bf16 autocast on the CPU: close to float32, parameters stay float32, and bits still know no neighbours."""

from __future__ import annotations

import pytest
from lanes import lane, run, split


def test_bf16_trains_close_to_float32_and_differs_from_it() -> None:
    data = split(rows=330)
    full = run([lane(0, epochs=5, width=64)], [data])[0][-1].train_loss
    half = run([lane(0, epochs=5, width=64)], [data], precision="bf16")[0][-1].train_loss
    assert half == pytest.approx(full, rel=0.1)
    assert half != full


def test_bf16_bits_do_not_depend_on_the_number_of_lanes() -> None:
    data = split(rows=330)
    alone = run([lane(3, width=32)], [data], precision="bf16")[3]
    among = run([lane(k, width=32) for k in range(16)], [data], precision="bf16")[3]
    assert [r.train_loss.hex() for r in among] == [r.train_loss.hex() for r in alone]
