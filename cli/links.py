"""Links to join a timer: `<address of the page>/#join=<invitation>`. Pure."""

import re

from cli.access import Access
from cli.errors import ExitCode, Problem

_MARK = "#join="
_INVITATION = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+", re.ASCII)  # three parts in base64url, as all JSON Web Tokens have


def link_of(access: Access, invitation: str) -> str:
    """The link that hands an invitation on."""
    return f"{access.url}/{_MARK}{invitation}"


def invitation_of(link: str, access: Access) -> str:
    """The invitation in a link, which may also come by itself.

    Raises Problem, also for a link of another system: whoever makes links could have our token sent anywhere else.
    """
    place, mark, invitation = link.strip().rpartition(_MARK)
    if not _INVITATION.fullmatch(invitation):
        raise Problem(
            f"“{link}” is no link to join a timer.",
            hint=f"One looks like {link_of(access, 'eyJ…')}, and `bubble invite TIMER` makes one.",
            code=ExitCode.USAGE,
        )
    if mark and place and not access.is_at(place):
        raise Problem(
            f"The link is one of {place.rstrip('/')}, and you are at {access.url}.",
            hint="If you trust that one, say so with --url: it gets your token then.",
            code=ExitCode.USAGE,
        )
    return invitation
