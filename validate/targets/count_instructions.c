/* Counts the guest instructions that were executed, and writes the count so far whenever the guest closes file
 * descriptor 0x5EED (validate/runner/session.py, `mark`). One line of decimal digits per mark.
 *
 *     qemu-aarch64 -plugin libcount.so,counts=COUNTS ...        (or qemu-x86_64)
 *
 * Distributions ship no header for QEMU's plug-in interface, so what is used of version 1 is declared here
 * (https://www.qemu.org/docs/master/devel/tcg-plugins.html). Counting is by translation block, added up by code that
 * QEMU puts into the block: the same program gives the same count. The sum is not atomic: one guest thread only.
 */
#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
#define MARK_DESCRIPTOR 0x5EED
#define AARCH64_CLOSE 57 /* numbers of the system call in the guest's kernel */
#define X86_64_CLOSE 3

typedef uint64_t qemu_plugin_id_t;
typedef struct {
    const char *target_name; /* "aarch64", "x86_64"; what follows in QEMU's structure is not read */
} info_t;
struct qemu_plugin_tb;
enum qemu_plugin_op { QEMU_PLUGIN_INLINE_ADD_U64 };
typedef void (*translated_t)(qemu_plugin_id_t, struct qemu_plugin_tb *);
typedef void (*syscall_t)(qemu_plugin_id_t, unsigned int, int64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t,
                          uint64_t, uint64_t, uint64_t);

extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
extern void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, enum qemu_plugin_op, void *, uint64_t);
extern void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, translated_t);
extern void qemu_plugin_register_vcpu_syscall_cb(qemu_plugin_id_t, syscall_t);

EXPORT int qemu_plugin_version = 1;

static uint64_t executed;
static FILE *counts;
static int64_t close_number;

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *block)
{
    (void)id;
    qemu_plugin_register_vcpu_tb_exec_inline(block, QEMU_PLUGIN_INLINE_ADD_U64, &executed,
                                             qemu_plugin_tb_n_insns(block));
}

static void called(qemu_plugin_id_t id, unsigned int cpu, int64_t number, uint64_t a1, uint64_t a2, uint64_t a3,
                   uint64_t a4, uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8)
{
    (void)id, (void)cpu, (void)a2, (void)a3, (void)a4, (void)a5, (void)a6, (void)a7, (void)a8;
    if (number == close_number && a1 == MARK_DESCRIPTOR) {
        fprintf(counts, "%" PRIu64 "\n", executed);
        fflush(counts);
    }
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const info_t *info, int argc, char **argv)
{
    if (argc != 1 || strncmp(argv[0], "counts=", 7) != 0)
        return 1;
    counts = fopen(argv[0] + 7, "w");
    if (counts == NULL)
        return 1;
    close_number = strcmp(info->target_name, "x86_64") == 0 ? X86_64_CLOSE : AARCH64_CLOSE;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_vcpu_syscall_cb(id, called);
    return 0;
}
