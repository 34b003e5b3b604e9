# SPDX-License-Identifier: MIT OR Apache-2.0
"""Reads pages of a dump, each by itself, and says what came: a JSON list on standard output.

usage: drgn_pages.py DUMP [PFN...]

For each pfn the CRC-32 of its page, or null where the reader says that it has none. Only for pages whose data the file has:
libkdumpfile maps the file, and can die of one whose data is behind its end.
"""

import json
import sys
import zlib

import drgn

PAGE = 4096


def crc(prog, pfn):
    try:
        return zlib.crc32(prog.read(pfn * PAGE, PAGE, physical=True))
    except drgn.FaultError:
        return None


def main():
    prog = drgn.Program()
    prog.set_core_dump(sys.argv[1])
    json.dump([crc(prog, int(pfn)) for pfn in sys.argv[2:]], sys.stdout)


main()
