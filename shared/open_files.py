"""How many files, and so how many connections, this process may have open."""

import resource

from shared.logging import get_logger

ENOUGH = 16_384
"""Some thousand streams and as many connections to models, with room to spare."""

log = get_logger(__name__)


def allow_open_files() -> int:
    """Raise the soft limit to the hard one, and say so when even that is little. The limit that now holds.

    The soft limit is 1024 nearly everywhere, for the sake of programs that still use `select`.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = ENOUGH if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
        except (OSError, ValueError) as error:
            log.warning("open_files_limit_not_raised", limit=soft, wanted=wanted, reason=str(error))
    if soft != resource.RLIM_INFINITY and soft < ENOUGH:
        log.warning(
            "open_files_limit_low",
            limit=soft,
            enough=ENOUGH,
            advice="raise the hard limit (ulimit -Hn, LimitNOFILE=, nofile): each stream needs one, its model another",
        )
    return soft
