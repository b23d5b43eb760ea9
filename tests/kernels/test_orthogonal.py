"""Orthonormal columns by reflections, against LAPACK's."""

import ctypes
import hashlib

import numpy as np
import pytest


@pytest.fixture
def orthogonal(cores):
    function = cores[0].library.orthogonal
    function.argtypes = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64]

    def orthogonal(a):
        q = a.copy()
        assert function(q.ctypes.data, *a.shape) == 1
        return q

    return orthogonal


SHAPES = [(1, 1), (2, 1), (5, 3), (8, 8), (9, 9), (40, 17), (64, 64), (300, 30), (130, 129), (3, 0)]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_columns_are_those_of_lapack_with_no_negative_diagonal(orthogonal, shape):
    a = np.random.default_rng(shape).normal(size=shape)
    q, r = np.linalg.qr(a)
    q *= np.where(np.diag(r) < 0, -1.0, 1.0)
    found = orthogonal(a)
    np.testing.assert_allclose(found, q, atol=1e-12)
    np.testing.assert_allclose(found.T @ found, np.eye(shape[1]), atol=1e-14)
    assert (np.diag(found.T @ a) > 0).all()


def test_columns_do_not_depend_on_those_after_them(orthogonal):
    a = np.random.default_rng(0).normal(size=(50, 30))
    whole = orthogonal(a)
    for columns in (1, 7, 8, 29):
        assert orthogonal(a[:, :columns].copy()).tobytes() == whole[:, :columns].tobytes()


@pytest.mark.parametrize("a", [np.zeros((6, 3)), np.ones((6, 3)), np.eye(9, 4), -np.eye(9, 4)])
def test_matrices_without_full_rank_give_orthonormal_columns_too(orthogonal, a):
    q = orthogonal(a)
    np.testing.assert_allclose(q.T @ q, np.eye(a.shape[1]), atol=1e-14)
    np.testing.assert_allclose(q @ (q.T @ a), a, atol=1e-14)


def test_the_bits_are_known(orthogonal):
    """They are the same on every processor: nothing but + - x / and sqrt is used."""
    a = (np.arange(1200.0).reshape(40, 30) * 7919 % 1009) / 1009 - 0.5
    assert hashlib.sha256(orthogonal(a).tobytes()).hexdigest()[:16] == "29120891ee83728f"
