"""CRC-32 as in zlib (IEEE 802.3), by the processor's carry-less multiplication."""

from isal.isal_zlib import crc32

__all__ = ["crc32"]
