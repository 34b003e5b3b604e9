// SPDX-License-Identifier: MIT OR Apache-2.0
// Stands in the way of a capture: a module that does not load, or one that makes /proc/vmcore fail. The parameter `way`
// says how, `from` and `to` which bytes of the vmcore.
#include <linux/fs.h>
#include <linux/kprobes.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/panic.h>
#include <linux/sched.h>
#include <linux/string.h>
#include <linux/uio.h>

static char *way = "";
module_param(way, charp, 0);
static unsigned long from;
module_param(from, ulong, 0);
static unsigned long to;
module_param(to, ulong, 0);

/* Returns to the caller of the function that it stands in for, with what is in the register. */
static noinline notrace void nothing(void)
{
	asm volatile("");
}

/* Has the function that was to be called return this at once. */
static int answer(struct pt_regs *regs, long value)
{
	regs->ax = value;
	regs->ip = (unsigned long)nothing;
	return 1;
}

static int is_hit(unsigned long begin, unsigned long end)
{
	return begin < to && end > from;
}

/* Behind `from` there is nothing; or the bytes between cannot be read. */
static int before_read(struct kprobe *probe, struct pt_regs *regs)
{
	struct kiocb *iocb = (struct kiocb *)regs->di;
	struct iov_iter *iter = (struct iov_iter *)regs->si;
	unsigned long begin = iocb->ki_pos;

	if (!is_hit(begin, begin + iov_iter_count(iter)))
		return 0;
	return answer(regs, strcmp(way, "short") ? -EIO : 0);
}

static int before_mmap(struct kprobe *probe, struct pt_regs *regs)
{
	struct vm_area_struct *area = (struct vm_area_struct *)regs->si;
	unsigned long begin = area->vm_pgoff << PAGE_SHIFT;

	if (!is_hit(begin, begin + (area->vm_end - area->vm_start)))
		return 0;
	return answer(regs, -EIO);
}

static struct kprobe read_probe = {
	.symbol_name = "read_vmcore",
	.pre_handler = before_read,
};

static struct kprobe mmap_probe = {
	.symbol_name = "mmap_vmcore",
	.pre_handler = before_mmap,
};

static int __init obstacle_init(void)
{
	int error;

	if (!strcmp(way, "refuse"))
		return -EIO;
	if (!strcmp(way, "panic"))
		panic("obstacle: in the capture kernel");
	if (!strcmp(way, "hang")) {
		for (;;) {
			set_current_state(TASK_UNINTERRUPTIBLE);
			schedule();
		}
	}
	error = register_kprobe(&read_probe);
	if (!error)
		error = register_kprobe(&mmap_probe);
	pr_info("obstacle: %s from %lu to %lu: %d\n", way, from, to, error);
	return error;
}
module_init(obstacle_init);

MODULE_DESCRIPTION("Stands in the way of a capture");
MODULE_LICENSE("Dual MIT/GPL");
