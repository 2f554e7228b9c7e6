"""Which key a request is placed by, read from its path (or, for the body form of a completion, from its body)."""

import re

import msgspec

_PLACED_BY_PATH = re.compile(r"^/api/orgs/[^/]+/(?:orchestrators|central-points|runs|conversations)/([^/]+)")
_ORGANIZATION = re.compile(r"^/api/orgs/([^/]+)/")


class _BodyForm(msgspec.Struct):
    instance_id: str = ""


_body_form = msgspec.json.Decoder(_BodyForm)


def affinity_key(path: str, body: bytes) -> str:
    """The instance id where the request names one; else the central point, the run, the conversation or the
    organization.

    A body that cannot be read is not refused here: the worker does that, in the words of the contract.
    """
    if found := _PLACED_BY_PATH.match(path):
        return found[1]
    if body:
        try:
            if instance_id := _body_form.decode(body).instance_id:
                return instance_id
        except msgspec.MsgspecError:
            pass
    organization = _ORGANIZATION.match(path)
    return organization[1] if organization else path
