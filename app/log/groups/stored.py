"""Groups from their stored records."""

from ..changes import Records
from .group import Group
from .job import InFlight


def stored_groups(records: Records, server_run: str) -> dict[str, dict[str, Group]]:
    """By topic and name. `server_run` names this run of the server: the connections of earlier runs are closed."""
    jobs: dict[tuple[str, str], dict[int, InFlight]] = {}
    for (topic, name, seq), job in records["job"].items():
        jobs.setdefault((str(topic), str(name)), {})[int(seq)] = job
    recent_dead: dict[tuple[str, str], list[int]] = {}
    for topic, name, seq in sorted(records["buried"]):
        recent_dead.setdefault((str(topic), str(name)), []).append(int(seq))
    groups: dict[str, dict[str, Group]] = {}
    for (topic, name), record in records["group"].items():
        key = str(topic), str(name)
        known = jobs.get(key, {})
        oldest_first = {seq: known[seq] for seq in sorted(known)}
        groups.setdefault(key[0], {})[key[1]] = Group.restore(
            record, oldest_first, recent_dead.get(key, ()), server_run
        )
    return groups
