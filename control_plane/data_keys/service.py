"""Data keys, in the transaction that seals with them."""

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.data_keys.repository import DataKeyRepository
from control_plane.data_keys.sealed import SEALED_COLUMNS
from shared.ids import new_id
from shared.security.data_keys import DataKeyring, new_data_key
from shared.security.key_wrapping import KeyWrapping, data_keyring

FIRST_GENERATION = 1


class DataKeys:
    def __init__(self, *, session: AsyncSession, wrapping: KeyWrapping) -> None:
        self._session = session
        self._keys = DataKeyRepository(session)
        self._wrapping = wrapping

    def expect(self, owner: UUID | None) -> None:
        """Call it where `sealing` or `opening` come later, and something else is asked before: in one round trip."""
        self._keys.expect(owner)

    async def sealing(self, owner: UUID | None) -> DataKeyring:
        """What seals for an organization, or for None the platform, until the transaction ends. Its first data key is
        made when it has none.

        Raises NotFound for an organization that is deleted, SecretUnreadable, KeyServiceUnavailable.
        """
        if not (rows := await self._keys.held(owner)):
            await self.add(owner, FIRST_GENERATION)
            rows = await self._keys.held(owner)
        return await data_keyring(self._wrapping, tuple(rows))

    async def opening(self, owner: UUID | None) -> DataKeyring:
        """What opens. Raises SecretUnreadable, KeyServiceUnavailable."""
        rows = await self._keys.held(owner)
        return await data_keyring(self._wrapping, tuple(rows))

    async def add(self, owner: UUID | None, generation: int) -> None:
        """Make a key of this generation unless there is one. Raises NotFound, KeyServiceUnavailable."""
        if owner is not None:
            # Or a transaction that began before the deletion would leave a key behind it.
            await self._keys.require_living(owner)
        key_id = new_id()
        await self._keys.add(key_id, owner, generation, await self._wrapping.wrap(new_data_key(), key_id))

    async def shred(self, org_id: UUID) -> None:
        """From the commit on nothing that the organization has sealed can be opened."""
        await self._keys.remove(org_id)
        for column in SEALED_COLUMNS:
            if column.has_owner:
                await column.forget_older(self._session, org_id)
