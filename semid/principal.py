"""Principal components of a sample of rows, in torch."""

from __future__ import annotations

from torch import Tensor, linalg, nn


def principal_components(centred_nd: Tensor, count: int) -> Tensor:
    """Return the first principal components ``(count, d)``; zeros beyond d."""
    covariance_dd = centred_nd.T.double() @ centred_nd.double()
    _, vectors_dd = linalg.eigh(covariance_dd)
    components_zd = vectors_dd.flip(1)[:, :count].T.to(centred_nd.dtype)
    # Eigenvectors come with either sign; fix it so that machines agree.
    peak_z = components_zd.gather(1, components_zd.abs().argmax(1, keepdim=True))
    components_zd = components_zd * peak_z.sign()
    return nn.functional.pad(components_zd, (0, 0, 0, count - len(components_zd)))
