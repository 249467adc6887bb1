"""Certificates, and a PostgreSQL server that presents them."""
import pytest

from ..support.tls import Certificates, TlsServer


@pytest.fixture(scope="session")
def certificates():
    certificates = Certificates()
    yield certificates
    certificates.folder.remove()


@pytest.fixture(scope="module")
def tls_server(certificates):
    """Presents the certificate `signed`, until a test lets it present another."""
    server = TlsServer(certificates)
    server.present("signed")
    yield server
    server.stop()
