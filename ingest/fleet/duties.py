"""What the group's description says about each shard: who owns it, whose standby is here. Pure."""

from ingest.fleet.members import Member, View, standby_of


class Duties:
    """Follows the views. While a shard has no owner, what was last known of it stays true."""

    def __init__(self, own: Member, shards: frozenset[int], *, standbys: int) -> None:
        self._own = own
        self._shards = shards
        self._standbys = standbys
        self._owners: dict[int, Member] = {}
        self._standby: dict[int, bool] = {}
        self._present: frozenset[Member] = frozenset()

    def observe(self, view: View) -> None:
        """Take a view."""
        self._present = frozenset(view.members)
        if not view.stable:
            return
        for shard in self._shards:
            owner = view.owners.get(shard)
            if owner is None:
                continue
            self._owners[shard] = owner
            self._standby[shard] = self._standbys > 0 and standby_of(shard, view.members, owner) == self._own

    def owner(self, shard: int) -> Member | None:
        """The latest known owner."""
        return self._owners.get(shard)

    def standby(self, shard: int) -> bool:
        """Whether this instance keeps a standby of the shard."""
        return self._standby.get(shard, False)

    def owner_gone(self, shard: int) -> bool:
        """Whether the latest known owner is not in the group any more."""
        owner = self._owners.get(shard)
        return owner is not None and owner not in self._present
