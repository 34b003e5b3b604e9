# SPDX-License-Identifier: MIT OR Apache-2.0
"""Opens a dump in drgn and says what it could read, as one JSON object on standard output.

usage: drgn_check.py DUMP VMLINUX

Everything is tried, and what fails is named in "problems": an object or a page that drgn cannot read is missing in the dump.
"""

import json
import struct
import sys

import drgn
from drgn.helpers.linux import for_each_task, get_dmesg

SHOWN = 5


def tally(problems, what, items, read):
    """Calls `read` for each item; counts what could be read, and names some of what could not."""
    good, bad = 0, []
    items = iter(items)
    while True:
        try:
            item = next(items)
        except StopIteration:
            break
        except drgn.FaultError as error:
            problems.append(f"the list of {what} breaks off: {error}")
            break
        try:
            read(item)
            good += 1
        except drgn.FaultError as error:
            bad.append(str(error))
    if bad:
        problems.append(f"{len(bad)} of {good + len(bad)} {what} cannot be read: " + "; ".join(bad[:SHOWN]))
    return good


def slab_pfns(prog):
    """The pfns of all slab pages, by the kernel's own page array, a section at a time."""
    size = prog.type("struct page").size
    flags_at = drgn.offsetof(prog.type("struct page"), "flags")
    mapcount_at = drgn.offsetof(prog.type("struct page"), "_mapcount")
    head_at = drgn.offsetof(prog.type("struct page"), "compound_head")
    try:
        # From 6.10 on, the page's type says it; the constant is a byte from 6.12 on.
        slab_type = prog["PGTY_slab"].value_() << 24
        flag = None
    except LookupError:
        slab_type, flag = None, 1 << prog["PG_slab"].value_()
    vmemmap = prog["vmemmap_base"].value_()
    section_bits = int(next(line.split(b"=")[1] for line in prog["VMCOREINFO"].string_().splitlines()
                            if line.startswith(b"NUMBER(SECTION_SIZE_BITS)")))
    per_section = 1 << (section_bits - 12)
    for section in range((prog["max_pfn"].value_() + per_section - 1) // per_section):
        first = section * per_section
        try:
            array = prog.read(vmemmap + first * size, per_section * size)
        except drgn.FaultError:
            # A hole of the machine's memory has no page array.
            continue
        in_slab = False
        for index in range(per_section):
            at = index * size
            (head,) = struct.unpack_from("<Q", array, at + head_at)
            if not head & 1:
                if flag is None:
                    (mapcount,) = struct.unpack_from("<I", array, at + mapcount_at)
                    in_slab = mapcount == slab_type
                else:
                    (flags,) = struct.unpack_from("<Q", array, at + flags_at)
                    in_slab = flags & flag != 0
            if in_slab:
                yield first + index


def main():
    dump, vmlinux = sys.argv[1:]
    problems, said = [], {}
    prog = drgn.Program()
    prog.set_core_dump(dump)
    prog.load_debug_info([vmlinux])
    said["release"] = prog["init_uts_ns"].name.release.string_().decode()
    try:
        said["cpu"] = int(prog["panic_cpu"].counter)
        thread = prog.crashed_thread()
        said["task"] = thread.object.comm.string_().decode()
        said["pid"] = thread.tid
        said["stack"] = [frame.name for frame in thread.stack_trace()]
    except drgn.FaultError as error:
        problems.append(f"the panicking task cannot be read: {error}")

    tasks = []
    said["tasks"] = tally(problems, "tasks", for_each_task(prog), lambda task: tasks.append(task.read_()))
    said["pids"] = tally(problems, "struct pid", tasks, lambda task: task.thread_pid.read_())
    said["signals"] = tally(problems, "signal_struct", tasks, lambda task: task.signal.read_())
    said["stacks"] = tally(problems, "kernel stacks", tasks, lambda task: prog.read(task.stack.value_(), 16384))
    said["slab_pages"] = tally(problems, "slab pages", slab_pfns(prog), lambda pfn: prog.read(pfn << 12, 4096, physical=True))
    log = get_dmesg(prog).splitlines()
    said["log_lines"] = len(log)
    said["log_tail"] = [line.decode("utf-8", "replace") for line in log[-3:]]
    said["problems"] = problems
    json.dump(said, sys.stdout)


main()
