"""The doctor names what is broken, and is content with what is merely absent."""

import pytest

from detach import doctor, kernels, ops


def test_a_healthy_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_simulator", lambda: iter([(True, "simulator: left out")]))
    lines: list[str] = []
    assert doctor.examine(lines.append) == 0
    assert all(line.startswith("ok ") for line in lines)
    assert any("percentile on cpu" in line for line in lines)
    assert any("contrastive loss on cpu" in line for line in lines)


def test_a_kernel_that_errs_is_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_simulator", lambda: iter(()))
    monkeypatch.setattr(kernels, "self_test", lambda: 40.0)
    lines: list[str] = []
    assert doctor.examine(lines.append) == 4
    assert [line for line in lines if line.startswith("BAD")] == [
        "BAD percentile against NumPy in float64: 40 ulp off"
    ]


def test_a_loss_that_errs_is_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_simulator", lambda: iter(()))
    right = ops.weighted_contrastive_loss
    monkeypatch.setattr(ops, "weighted_contrastive_loss", lambda *parts: 1.001 * right(*parts))
    lines: list[str] = []
    assert doctor.examine(lines.append) == 4
    bad = [line for line in lines if line.startswith("BAD")]
    assert len(bad) == 1
    assert "contrastive loss on cpu" in bad[0]
    assert bad[0].endswith("1.0e-03 from the equations")


def test_a_forced_backend_that_cannot_run_is_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_simulator", lambda: iter(()))
    monkeypatch.setenv("DETACH_BACKEND", "cuda")
    lines: list[str] = []
    assert doctor.examine(lines.append) == 4
    assert any("DETACH_BACKEND=cuda cannot serve" in line for line in lines)
