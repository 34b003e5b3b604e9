// SPDX-License-Identifier: MIT OR Apache-2.0
// Crashes the kernel that loads it, in the way that its parameter `way` names. Debian's kernels have no LKDTM.
#include <linux/bug.h>
#include <linux/delay.h>
#include <linux/interrupt.h>
#include <linux/irq_work.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/panic.h>
#include <linux/preempt.h>
#include <linux/sched.h>
#include <linux/string.h>
#include <linux/timer.h>

static char *way = "";
module_param(way, charp, 0);

static void write_through_null(void)
{
	int *nowhere = NULL;

	OPTIMIZER_HIDE_VAR(nowhere);
	*(volatile int *)(nowhere + 4) = 1;
}

static void in_an_interrupt(struct irq_work *work)
{
	panic("crasher: in an interrupt, %d", !!in_hardirq());
}

static void in_a_timer(struct timer_list *timer)
{
	panic("crasher: in a timer, %d", !!in_serving_softirq());
}

static struct irq_work interrupt = IRQ_WORK_INIT_HARD(in_an_interrupt);
static DEFINE_TIMER(timer, in_a_timer);

/* Each call takes half a KiB; the guard page comes after 16 KiB. What is read behind the call keeps it from being a loop. */
static noinline int fill_the_stack(int depth)
{
	volatile char room[512];

	room[depth % 512] = (char)depth;
	if (depth < 0)
		return 0;
	return fill_the_stack(depth + 1) + room[(depth + 1) % 512];
}

static int never_wakes(void *unused)
{
	set_current_state(TASK_UNINTERRUPTIBLE);
	schedule();
	return 0;
}

static int __init crasher_init(void)
{
	if (!strcmp(way, "panic")) {
		panic("crasher: in a module");
	} else if (!strcmp(way, "null")) {
		write_through_null();
	} else if (!strcmp(way, "bug")) {
		BUG();
	} else if (!strcmp(way, "interrupt")) {
		irq_work_queue(&interrupt);
		mdelay(1000);
	} else if (!strcmp(way, "timer")) {
		mod_timer(&timer, jiffies + 2);
		msleep(1000);
	} else if (!strcmp(way, "stack")) {
		return fill_the_stack(0) & 1;
	} else if (!strcmp(way, "double")) {
		/* The fault's own frame has no place to go to. */
		asm volatile("xorl %%esp, %%esp\n\tpush %%rax" ::: "memory");
	} else if (!strcmp(way, "spin")) {
		preempt_disable();
		for (;;)
			cpu_relax();
	} else if (!strcmp(way, "hang")) {
		kthread_run(never_wakes, NULL, "crasher");
	} else {
		return -EINVAL;
	}
	return 0;
}
module_init(crasher_init);

MODULE_DESCRIPTION("Crashes the kernel");
MODULE_LICENSE("Dual MIT/GPL");
