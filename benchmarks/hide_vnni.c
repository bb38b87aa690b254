/* Hides instruction sets of an x86-64 processor from the programs of a process: an LD_PRELOAD library for Linux.
 *
 *     gcc -O1 -shared -fPIC -o hide_vnni.so hide_vnni.c
 *     HIDE=vnni LD_PRELOAD=./hide_vnni.so PROGRAM       VNNI and AMX; AVX-512 stays
 *     HIDE=avx512 LD_PRELOAD=./hide_vnni.so PROGRAM     AVX-512 too: a processor of the Haswell kind
 *
 * The CPUID instruction is made to fault (arch_prctl(2), ARCH_CPUID: processors with "cpuid_fault" in /proc/cpuinfo), and
 * the handler answers with the bits taken out. Numerical libraries then choose the kernels that they choose on processors
 * without these instructions, and the kernels run at this processor's own speed. Threads and children inherit it. Where
 * the processor cannot do so the program ends with exit code 3, so that nothing is measured under a false name.
 *
 * Bits: Intel SDM, volume 2, CPUID, leaf 7.
 */
#define _GNU_SOURCE
#include <cpuid.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define SET_CPUID 0x1012
#define BIT(n) (1u << (n))

static int hides_avx512;

static void answer(int signal_number, siginfo_t *info, void *context) {
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    const unsigned char *code = (const unsigned char *)registers[REG_RIP];
    unsigned leaf = registers[REG_RAX], part = registers[REG_RCX], a, b, c, d;
    (void)info;
    if (code[0] != 0x0f || code[1] != 0xa2) { /* a real fault: let it happen again, without us */
        signal(signal_number, SIG_DFL);
        return;
    }
    syscall(SYS_arch_prctl, SET_CPUID, 1);
    __cpuid_count(leaf, part, a, b, c, d);
    syscall(SYS_arch_prctl, SET_CPUID, 0);
    if (leaf == 7 && part == 0) {
        c &= ~BIT(11);                         /* AVX512-VNNI */
        d &= ~(BIT(22) | BIT(24) | BIT(25));   /* AMX */
        if (hides_avx512) {
            b &= ~(BIT(16) | BIT(17) | BIT(21) | BIT(26) | BIT(27) | BIT(28) | BIT(30) | BIT(31));
            c &= ~(BIT(1) | BIT(6) | BIT(12) | BIT(14));
            d &= ~(BIT(2) | BIT(3) | BIT(8) | BIT(23));
        }
    }
    if (leaf == 7 && part == 1) {
        a &= ~(BIT(4) | BIT(5));               /* AVX-VNNI, AVX512-BF16 */
        d &= ~(BIT(4) | BIT(5) | BIT(10) | BIT(19)); /* AVX-VNNI-INT8, AVX-NE-CONVERT, AVX-VNNI-INT16, AVX10 */
    }
    registers[REG_RAX] = a;
    registers[REG_RBX] = b;
    registers[REG_RCX] = c;
    registers[REG_RDX] = d;
    registers[REG_RIP] += 2;
}

__attribute__((constructor)) static void hide(void) {
    const char *what = getenv("HIDE");
    struct sigaction action;
    if (!what)
        return;
    hides_avx512 = !strcmp(what, "avx512");
    memset(&action, 0, sizeof action);
    action.sa_sigaction = answer;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    sigaction(SIGSEGV, &action, NULL);
    if (syscall(SYS_arch_prctl, SET_CPUID, 0)) {
        fputs("hide_vnni: this processor or kernel cannot make CPUID fault\n", stderr);
        _exit(3);
    }
}
