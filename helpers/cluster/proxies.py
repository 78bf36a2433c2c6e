"""The way to the API server: directly, or through the proxy that kubectl would take.

A kubeconfig's `proxy-url` comes first, then HTTPS_PROXY or HTTP_PROXY unless NO_PROXY names the
server (https://pkg.go.dev/golang.org/x/net/http/httpproxy). urllib3 takes all of them for requests;
a WebSocket gets a socket from here, so that exec and port-forward go the same way.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

import urllib3
from urllib3.util.ssltransport import SSLTransport

from helpers.errors import EnvironmentFault

SCHEMES = ("http", "https", "socks5", "socks5h")
_MOST_HEAD = 1 << 16


class ProxyRefused(OSError):
    """The proxy answered, and not with a connection."""


def proxy_for(server: str, written: object, environment: Mapping[str, str] = os.environ) -> str | None:
    """The proxy's URL for an API server; None to go directly.

    Args:
        server: the API server's URL.
        written: the kubeconfig's `proxy-url`.

    Raises:
        EnvironmentFault: the URL is none that kubectl takes either.
    """
    if written:
        return _checked(str(written), "the kubeconfig's proxy-url")
    target = urlsplit(server)
    name = "HTTPS_PROXY" if target.scheme == "https" else "HTTP_PROXY"
    found = environment.get(name) or environment.get(name.lower())
    excluded = environment.get("NO_PROXY") or environment.get("no_proxy") or ""
    if not found or _goes_directly(target, excluded):
        return None
    return _checked(found if "://" in found else f"http://{found}", name)


def _checked(url: str, where: str) -> str:
    try:
        parts = urlsplit(url)
        complete = parts.scheme in SCHEMES and parts.hostname and (parts.port is None or parts.port)
    except ValueError:
        complete = None
    if not complete:
        raise EnvironmentFault(
            f"{where} is {_shown(url)}: it is a URL that begins with http://, https:// or socks5://"
        )
    return url


def _shown(url: str) -> str:
    """A proxy's URL without the password in it."""
    return f"…@{url.rpartition('@')[2]}" if "@" in url else url


def _goes_directly(target: SplitResult, excluded: str) -> bool:
    host, port = (target.hostname or "").rstrip("."), target.port or (443 if target.scheme == "https" else 80)
    address = _address(host)
    if host == "localhost" or (address is not None and address.is_loopback):
        return True
    return any(
        _names(entry.strip().lower(), host, port, address) for entry in excluded.split(",") if entry.strip()
    )


def _names(entry: str, host: str, port: int, address: Any) -> bool:
    if entry == "*":
        return True
    if address is not None and "/" in entry:
        try:
            return address in ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return False
    name, _, wanted = (
        entry.rpartition(":") if entry.count(":") == 1 or entry.startswith("[") else (entry, "", "")
    )
    if wanted and wanted.isdigit() and int(wanted) != port:
        return False
    name = (name if wanted.isdigit() else entry).strip("[]")
    if address is not None:
        return _address(name) == address
    name = name.removeprefix("*")
    return host.endswith(name) if name.startswith(".") else host == name or host.endswith(f".{name}")


def _address(text: str) -> Any:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def pool(proxy: str | None, options: dict[str, Any]) -> urllib3.PoolManager:
    """Kept connections, directly or through the proxy."""
    if proxy is None:
        return urllib3.PoolManager(**options)
    parts = urlsplit(proxy)
    if parts.scheme.startswith("socks5"):
        from urllib3.contrib.socks import SOCKSProxyManager

        # As kubectl does, the proxy is given the name and looks it up.
        return SOCKSProxyManager(proxy.replace(f"{parts.scheme}://", "socks5h://", 1), **options)
    headers = urllib3.make_headers(proxy_basic_auth=_login(parts)) if parts.username else None
    return urllib3.ProxyManager(proxy, proxy_headers=headers, **options)


def open_socket(
    server: str,
    proxy: str | None,
    *,
    tls: ssl.SSLContext | None,
    server_name: str | None,
    timeout_s: float,
) -> Any:
    """A connected socket to the API server, with TLS where it speaks it.

    Raises:
        OSError: there is no way through.
    """
    target = urlsplit(server)
    host, port = target.hostname or "", target.port or (443 if target.scheme == "https" else 80)
    carrier = (
        _through(proxy, host, port, timeout_s) if proxy else socket.create_connection((host, port), timeout_s)
    )
    carrier.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if tls is None:
        return carrier
    try:
        if isinstance(carrier, ssl.SSLSocket):
            return SSLTransport(carrier, tls, server_name or host)
        return tls.wrap_socket(carrier, server_hostname=server_name or host)
    except OSError:
        carrier.close()
        raise


def _through(proxy: str, host: str, port: int, timeout_s: float) -> socket.socket:
    parts = urlsplit(proxy)
    near = parts.hostname or ""
    if parts.scheme.startswith("socks5"):
        import socks

        carrier = socks.socksocket(_family(near, parts.port or 1080), socket.SOCK_STREAM)
        user, word = unquote(parts.username or "") or None, unquote(parts.password or "") or None
        carrier.set_proxy(socks.SOCKS5, near, parts.port or 1080, rdns=True, username=user, password=word)
        carrier.settimeout(timeout_s)
        carrier.connect((host, port))
        return carrier
    carrier = socket.create_connection(
        (near, parts.port or (443 if parts.scheme == "https" else 80)), timeout_s
    )
    try:
        if parts.scheme == "https":
            carrier = ssl.create_default_context().wrap_socket(carrier, server_hostname=near)
        _connect(carrier, parts, host, port)
    except OSError:
        carrier.close()
        raise
    return carrier


def _family(host: str, port: int) -> int:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]


def _connect(carrier: socket.socket, proxy: SplitResult, host: str, port: int) -> None:
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"CONNECT {place} HTTP/1.1", f"Host: {place}"]
    if proxy.username:
        lines.append(
            f"Proxy-Authorization: {urllib3.make_headers(basic_auth=_login(proxy))['authorization']}"
        )
    carrier.sendall("\r\n".join([*lines, "", ""]).encode())
    head = b""
    while b"\r\n\r\n" not in head:
        # A byte at a time: what follows the head is the API server's.
        byte = carrier.recv(1)
        head += byte
        if not byte or len(head) > _MOST_HEAD:
            raise ProxyRefused(f"the proxy {proxy.hostname} ended the connection")
    status = head.split(b"\r\n", 1)[0].decode("latin-1")
    if " 200" not in status:
        raise ProxyRefused(f"the proxy {proxy.hostname} answered {status}")


def _login(parts: SplitResult) -> str:
    return f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
