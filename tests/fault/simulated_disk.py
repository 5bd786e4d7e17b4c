"""A disk in memory that loses what was not synced: the log's directory for power-loss tests.

Every file has two images: what a running process reads, and what is on the platter. ``fdatasync``
copies the blocks written since the last one. ``power_loss`` keeps any subset of the unsynced 4 KiB
blocks, one of them torn in the middle; ``kill`` keeps all of them, but still unsynced. All chance
comes from one seeded generator. ``quota`` bounds the allocated bytes; ``fail_next`` injects errors.
"""

import errno
import random

BLOCK = 4096


class PowerLoss(Exception):
    """Raised by the operation at which the simulated power fails."""


class _Image:
    def __init__(self) -> None:
        self.volatile = bytearray()
        self.durable = bytearray()
        self.dirty: set[int] = set()


class SimulatedFile:
    def __init__(self, disk: "SimulatedDisk", name: str, image: _Image) -> None:
        self._disk = disk
        self.name = name
        self._image = image
        self._incarnation = disk.incarnation

    def _check(self, operation: str) -> None:
        assert self._incarnation == self._disk.incarnation, "file used after the crash"
        self._disk.on_operation(operation)

    def pwrite(self, data: bytes, offset: int) -> None:
        image = self._image
        assert offset + len(data) <= len(image.volatile), "write outside of preallocated space"
        image.volatile[offset : offset + len(data)] = data
        image.dirty.update(range(offset // BLOCK, (offset + len(data) + BLOCK - 1) // BLOCK))
        # The power fails in the middle of the operation: what was written is in flight already.
        self._check("pwrite")

    def read(self, offset: int, length: int) -> bytes:
        self._check("read")
        return bytes(self._image.volatile[offset : offset + length])

    def fdatasync(self) -> None:
        self._check("fdatasync")
        image = self._image
        image.durable.extend(bytes(len(image.volatile) - len(image.durable)))
        for block in image.dirty:
            part = slice(block * BLOCK, (block + 1) * BLOCK)
            image.durable[part] = image.volatile[part]
        image.dirty.clear()
        self._disk.sync_count += 1

    def fallocate(self, offset: int, length: int) -> None:
        self._check("fallocate")
        grow = offset + length - len(self._image.volatile)
        if grow > 0:
            if self._disk.free_bytes() < grow:
                raise OSError(errno.ENOSPC, "no space left on device")
            self._image.volatile.extend(bytes(grow))

    def truncate(self, length: int) -> None:
        del self._image.volatile[length:]
        del self._image.durable[length:]

    def size(self) -> int:
        return len(self._image.volatile)

    def close(self) -> None:
        pass


class SimulatedDisk:
    """Implements ``LogDirectory``."""

    path = "/simulated"

    def __init__(self, seed: int, quota: int = 1 << 30) -> None:
        self.random = random.Random(seed)
        self.quota = quota
        self.incarnation = 0
        self.sync_count = 0
        self.operations_left = -1
        self.fail_next: dict[str, int] = {}
        self.files: dict[str, _Image] = {}
        self._durable_names: dict[str, _Image] = {}

    def names(self) -> list[str]:
        return sorted(self.files)

    def open(self, name: str, *, create: bool) -> SimulatedFile:
        if create:
            assert name not in self.files
            self.files[name] = _Image()
        return SimulatedFile(self, name, self.files[name])

    def remove(self, name: str) -> None:
        self.on_operation("remove")
        del self.files[name]

    def sync(self) -> None:
        self.on_operation("sync")
        self._durable_names = dict(self.files)

    def free_bytes(self) -> int:
        return self.quota - sum(len(image.volatile) for image in self.files.values())

    def salt(self) -> int:
        return self.random.getrandbits(64)

    def on_operation(self, operation: str) -> None:
        """Fail as told: a planned error number, or the power."""
        if operation in self.fail_next:
            raise OSError(self.fail_next.pop(operation), f"injected failure of {operation}")
        if self.operations_left > 0:
            self.operations_left -= 1
            if self.operations_left == 0:
                raise PowerLoss

    def kill(self) -> None:
        """The process dies; the page cache lives on."""
        self.incarnation += 1
        self.operations_left = -1

    def power_loss(self) -> None:
        """Only what was synced is sure; of the rest any blocks, and any names, survive."""
        self.incarnation += 1
        self.operations_left = -1
        chance = self.random
        survivors = dict(self._durable_names)
        for name, image in self.files.items():
            if name not in survivors and chance.random() < 0.5:
                survivors[name] = image
        for name in list(survivors):
            if name not in self.files and chance.random() < 0.5:
                del survivors[name]
        keep_share = chance.choice((0.0, 0.1, 0.5, 0.9, 1.0))
        for image in survivors.values():
            self._lose_blocks(image, keep_share)
        self.files = survivors
        self._durable_names = dict(survivors)

    def _lose_blocks(self, image: _Image, keep_share: float) -> None:
        chance = self.random
        if chance.random() < 0.5 or image.dirty:
            image.durable.extend(bytes(len(image.volatile) - len(image.durable)))
        dirty = sorted(image.dirty)
        torn = chance.choice(dirty) if dirty else -1
        for block in dirty:
            part = slice(block * BLOCK, (block + 1) * BLOCK)
            if block == torn:
                cut = block * BLOCK + chance.randrange(0, BLOCK, 512)
                image.durable[block * BLOCK : cut] = image.volatile[block * BLOCK : cut]
            elif chance.random() < keep_share:
                image.durable[part] = image.volatile[part]
        image.dirty.clear()
        image.volatile = bytearray(image.durable)
