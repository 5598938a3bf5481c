"""Whether the Hugging Face hub can be reached, asked before its client, which retries for half a minute."""


def is_offline() -> bool:
    """Whether the user has told the hub's client to stay offline (HF_HUB_OFFLINE)."""
    from huggingface_hub import constants

    return constants.HF_HUB_OFFLINE


def reaches_hub() -> bool:
    """Whether the hub's name can be looked up, or a proxy may do so; False where the user is offline."""
    import socket
    from urllib.parse import urlparse
    from urllib.request import getproxies

    from huggingface_hub import constants

    if is_offline():
        return False
    if getproxies():
        return True  # Behind a proxy names need not resolve here.
    try:
        socket.getaddrinfo(urlparse(constants.ENDPOINT).hostname, 443)
    except OSError:
        return False
    return True
