/* Sees every call that changes a file below one folder, and can record it, end the process at it, or make it fail.
 *
 * Loaded with LD_PRELOAD. It is not built on symbols: part of the program reaches the kernel without the C library. Instead a
 * seccomp filter turns the calls that can change files into SIGSYS, and the handler does the call, from the one place in the
 * program that the filter lets through. So nothing passes unseen: a call that could change a file in a way that is not modelled
 * here ends the process with exit code 97.
 *
 * SHIM_FOLDER  the folder, absolute and without links
 * SHIM_STATE   a file of one page, shared with the test: struct state
 * SHIM_LOG     where operations are appended to, if anywhere
 * SHIM_KILL    "before" or "after": SIGKILL at operation SHIM_AT
 * SHIM_FAULT   "eio", "enospc": operation SHIM_AT fails; "short": it writes half; "torn": it writes half, and all after it fail;
 *              "sync": the first sync from there on fails, and the system forgets what was to be synced
 * SHIM_ON      "1": with eio, enospc and short, all operations after it too
 *
 * Operations are numbered from 1 in the order in which they are done: one at a time. Numbers go on over processes that share a
 * state, SHIM_AT is counted from the start of this one.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <ucontext.h>
#include <unistd.h>

#define PATH_BYTES 1024
#define UNSEEN_EXIT 97
#define BROKEN_EXIT 98

/* What the test reads. All in the order of operations. */
struct state {
    uint64_t loaded;  /* how many processes have set it up */
    uint64_t done;    /* operations that were done, over all processes */
    uint64_t faults;  /* operations that were made to fail or to end the process */
    uint64_t unseen;  /* the number of a call that is not modelled */
    uint64_t here;    /* operations begun by this process */
};

enum kind { CREATE = 1, WRITE, TRUNCATE, SYNC, RENAME, UNLINK, MKDIR, LOST };

/* One operation in the log; the paths and the bytes follow. */
struct entry {
    uint32_t kind, path, other, unused;
    uint64_t offset, bytes;
};

struct op {
    enum kind kind;
    char path[PATH_BYTES], other[PATH_BYTES];
    uint64_t length;          /* of TRUNCATE */
    int fd;                   /* of WRITE */
    const struct iovec *parts;
    int count;
    struct iovec one;
};

static struct state *state;
static char folder[PATH_BYTES];
static size_t folder_length;
static int log_fd = -1;
static uint64_t at;
static enum { NO_KILL, BEFORE, AFTER } kill_at;
static enum { NO_FAULT, EIO_FAULT, ENOSPC_FAULT, SHORT, TORN, SYNC_FAULT } fault;
static int goes_on;
static int taken;

/* The only place from which the filter lets every call through. */
long shim_call(long number, long a, long b, long c, long d, long e, long f);
extern char shim_called[];
#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
__asm__(".text\n.globl shim_call\n.hidden shim_call\n.hidden shim_called\nshim_call:\n"
        "mov %rdi,%rax\nmov %rsi,%rdi\nmov %rdx,%rsi\nmov %rcx,%rdx\nmov %r8,%r10\nmov %r9,%r8\nmov 8(%rsp),%r9\n"
        "syscall\n.globl shim_called\nshim_called:\nret\n");
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
__asm__(".text\n.globl shim_call\n.hidden shim_call\n.hidden shim_called\nshim_call:\n"
        "mov x8,x0\nmov x0,x1\nmov x1,x2\nmov x2,x3\nmov x3,x4\nmov x4,x5\nmov x5,x6\n"
        "svc #0\n.globl shim_called\nshim_called:\nret\n");
#else
#error "this architecture is not known here"
#endif
#define CALL(n, a, b, c, d) shim_call((n), (long)(a), (long)(b), (long)(c), (long)(d), 0, 0)

static void die(const char *why, int code) {
    CALL(SYS_write, 2, "shim: ", 6, 0);
    CALL(SYS_write, 2, why, strlen(why), 0);
    CALL(SYS_write, 2, "\n", 1, 0);
    CALL(SYS_exit_group, code, 0, 0, 0);
}

static void take(void) {
    while (__atomic_exchange_n(&taken, 1, __ATOMIC_ACQUIRE)) CALL(SYS_sched_yield, 0, 0, 0, 0);
}

static void give(void) { __atomic_store_n(&taken, 0, __ATOMIC_RELEASE); }

static void end_here(void) {
    __atomic_fetch_add(&state->faults, 1, __ATOMIC_SEQ_CST);
    CALL(SYS_kill, CALL(SYS_getpid, 0, 0, 0, 0), SIGKILL, 0, 0);
    for (;;) CALL(SYS_sched_yield, 0, 0, 0, 0);
}

/* Makes a path relative to the folder. Answers whether it is below it. */
static int below(char *path) {
    if (strncmp(path, folder, folder_length) != 0 || path[folder_length] == '\0') {
        if (strcmp(path, folder) != 0) return 0;
        path[0] = '\0';
        return 1;
    }
    if (path[folder_length] != '/') return 0;
    memmove(path, path + folder_length + 1, strlen(path + folder_length + 1) + 1);
    return 1;
}

static int path_of_link(const char *link, char *path) {
    long length = CALL(SYS_readlinkat, AT_FDCWD, link, path, PATH_BYTES - 1);
    if (length < 0) return 0;
    if (length == PATH_BYTES - 1) die("a path is too long", BROKEN_EXIT);
    path[length] = '\0';
    return 1;
}

static int path_of_fd(int fd, char *path) {
    char link[40] = "/proc/self/fd/", digits[12];
    int n = 0;
    if (fd < 0) return 0;
    do digits[n++] = (char)('0' + fd % 10); while ((fd /= 10) > 0);
    char *end = link + strlen(link);
    while (n > 0) *end++ = digits[--n];
    *end = '\0';
    return path_of_link(link, path);
}

/* The absolute path that a call names. */
static int path_at(int dir, const char *name, char *path) {
    size_t length = strlen(name), start = 0;
    if (name[0] != '/') {
        if (!(dir == AT_FDCWD ? path_of_link("/proc/self/cwd", path) : path_of_fd(dir, path))) return 0;
        start = strlen(path);
        path[start++] = '/';
    }
    while (length > 1 && name[length - 1] == '/') length--;
    if (start + length >= PATH_BYTES) die("a path is too long", BROKEN_EXIT);
    memcpy(path + start, name, length);
    path[start + length] = '\0';
    return 1;
}

static int fd_below(int fd, char *path) { return path_of_fd(fd, path) && below(path); }
static int at_below(int dir, const char *name, char *path) { return path_at(dir, name, path) && below(path); }

static uint64_t total(const struct op *op) {
    uint64_t sum = 0;
    for (int i = 0; i < op->count; i++) sum += op->parts[i].iov_len;
    return sum;
}

static void append(const void *bytes, uint64_t length) {
    const char *from = bytes;
    while (length > 0) {
        long wrote = CALL(SYS_write, log_fd, from, length, 0);
        if (wrote <= 0) die("the log cannot be written", BROKEN_EXIT);
        from += wrote;
        length -= (uint64_t)wrote;
    }
}

static void record(const struct op *op, uint64_t offset, uint64_t bytes) {
    if (log_fd < 0) return;
    struct entry entry = {op->kind, (uint32_t)strlen(op->path), (uint32_t)strlen(op->other), 0, offset, bytes};
    append(&entry, sizeof entry);
    append(op->path, entry.path);
    append(op->other, entry.other);
    for (int i = 0; op->kind == WRITE && i < op->count && bytes > 0; i++) {
        uint64_t part = op->parts[i].iov_len < bytes ? op->parts[i].iov_len : bytes;
        append(op->parts[i].iov_base, part);
        bytes -= part;
    }
}

/* What this operation is made to answer, or 0. Sets `half` when it is to write a part only. */
static long fault_of(struct op *op, uint64_t number, int *half) {
    if (fault == SYNC_FAULT && number >= at && op->kind == SYNC) {
        fault = NO_FAULT;
        op->kind = LOST;
        record(op, 0, 0);
        state->done++;
        __atomic_fetch_add(&state->faults, 1, __ATOMIC_SEQ_CST);
        return -EIO;
    }
    if (fault == SYNC_FAULT) return 0;
    if (fault == NO_FAULT || number < at || (number > at && !goes_on && fault != TORN)) return 0;
    int can_be_short = op->kind == WRITE && total(op) > 1;
    if (fault == SHORT || (fault == TORN && number == at && can_be_short)) {
        *half = can_be_short;
        if (can_be_short) __atomic_fetch_add(&state->faults, 1, __ATOMIC_SEQ_CST);
        return 0;
    }
    /* A full disk still lets go of files. */
    if (fault != EIO_FAULT && op->kind == UNLINK) return 0;
    __atomic_fetch_add(&state->faults, 1, __ATOMIC_SEQ_CST);
    return fault == EIO_FAULT ? -EIO : -ENOSPC;
}

/* Does one numbered operation. */
static long operate(struct op *op, long number, const long *args) {
    take();
    uint64_t mine = ++state->here;
    int half = 0;
    if (kill_at == BEFORE && mine == at) end_here();
    long result = fault_of(op, mine, &half);
    if (result == 0) {
        if (half) {
            /* The first half of the first part is a short write too. */
            uint64_t length = op->parts[0].iov_len > 1 ? op->parts[0].iov_len / 2 : op->parts[0].iov_len;
            result = number == SYS_pwrite64 || number == SYS_pwritev
                ? CALL(SYS_pwrite64, op->fd, op->parts[0].iov_base, length, args[3])
                : CALL(SYS_write, op->fd, op->parts[0].iov_base, length, 0);
        } else {
            result = shim_call(number, args[0], args[1], args[2], args[3], args[4], args[5]);
        }
        uint64_t offset = op->length, bytes = 0;
        if (op->kind == WRITE && result > 0) {
            bytes = (uint64_t)result;
            int is_placed = number == SYS_pwrite64 || number == SYS_pwritev;
            offset = is_placed ? (uint64_t)args[3] : (uint64_t)CALL(SYS_lseek, op->fd, 0, SEEK_CUR, 0) - bytes;
        }
        if (result >= 0) {
            record(op, offset, bytes);
            state->done++;
        }
    }
    if (kill_at == AFTER && mine == at) end_here();
    give();
    return result;
}

static long plain(long number, const long *args) {
    return shim_call(number, args[0], args[1], args[2], args[3], args[4], args[5]);
}

static long unseen(long number, const long *args, int fd) {
    char path[PATH_BYTES];
    if (fd >= 0 && !fd_below(fd, path)) return plain(number, args);
    state->unseen = (uint64_t)number;
    die("a call that is not modelled changes a file", UNSEEN_EXIT);
    return -ENOSYS;
}

static long open_file(long number, const long *args, int dir, const char *name, long flags) {
    struct op op = {.fd = -1};
    struct stat there;
    if (!(flags & (O_CREAT | O_TRUNC)) || !at_below(dir, name, op.path)) return plain(number, args);
    if ((flags & O_TMPFILE) == O_TMPFILE) return unseen(number, args, -1);
    long found = CALL(SYS_newfstatat, dir, name, &there, 0);
    if (found < 0) {
        op.kind = CREATE;
    } else if ((flags & O_TRUNC) && there.st_size > 0) {
        op.kind = TRUNCATE;
    } else {
        return plain(number, args);
    }
    return operate(&op, number, args);
}

static long write_parts(long number, const long *args) {
    struct op op = {.kind = WRITE, .fd = (int)args[0]};
    if (!fd_below(op.fd, op.path)) return plain(number, args);
    if (number == SYS_writev || number == SYS_pwritev) {
        op.parts = (const struct iovec *)args[1];
        op.count = (int)args[2];
    } else {
        op.one = (struct iovec){(void *)args[1], (size_t)args[2]};
        op.parts = &op.one;
        op.count = 1;
    }
    return operate(&op, number, args);
}

static long on_fd(long number, const long *args, enum kind kind, uint64_t length) {
    struct op op = {.kind = kind, .fd = (int)args[0], .length = length};
    return fd_below(op.fd, op.path) ? operate(&op, number, args) : plain(number, args);
}

static long on_path(long number, const long *args, enum kind kind, int dir, const char *name) {
    struct op op = {.kind = kind, .fd = -1};
    return at_below(dir, name, op.path) ? operate(&op, number, args) : plain(number, args);
}

static long rename_path(long number, const long *args, int from, const char *name, int to, const char *other) {
    struct op op = {.kind = RENAME, .fd = -1};
    int is_from = at_below(from, name, op.path), is_to = at_below(to, other, op.other);
    if (!is_from && !is_to) return plain(number, args);
    if (is_from != is_to || (number == SYS_renameat2 && args[4] != 0)) return unseen(number, args, -1);
    return operate(&op, number, args);
}

static long dispatch(long number, const long *a) {
    switch (number) {
    case SYS_write: case SYS_pwrite64: case SYS_writev: case SYS_pwritev: return write_parts(number, a);
    case SYS_openat: return open_file(number, a, (int)a[0], (const char *)a[1], a[2]);
    case SYS_ftruncate: return on_fd(number, a, TRUNCATE, (uint64_t)a[1]);
    case SYS_fsync: case SYS_fdatasync: return on_fd(number, a, SYNC, 0);
    case SYS_renameat2:
#ifdef SYS_renameat
    case SYS_renameat:
#endif
        return rename_path(number, a, (int)a[0], (const char *)a[1], (int)a[2], (const char *)a[3]);
    case SYS_unlinkat: return on_path(number, a, UNLINK, (int)a[0], (const char *)a[1]);
    case SYS_mkdirat: return on_path(number, a, MKDIR, (int)a[0], (const char *)a[1]);
#ifdef SYS_open
    case SYS_open: return open_file(number, a, AT_FDCWD, (const char *)a[0], a[1]);
    case SYS_creat: return open_file(number, a, AT_FDCWD, (const char *)a[0], O_CREAT | O_TRUNC);
    case SYS_rename: return rename_path(number, a, AT_FDCWD, (const char *)a[0], AT_FDCWD, (const char *)a[1]);
    case SYS_unlink: case SYS_rmdir: return on_path(number, a, UNLINK, AT_FDCWD, (const char *)a[0]);
    case SYS_mkdir: return on_path(number, a, MKDIR, AT_FDCWD, (const char *)a[0]);
    case SYS_link: case SYS_symlink:
#endif
    case SYS_linkat: case SYS_symlinkat: case SYS_truncate: case SYS_openat2: case SYS_io_uring_setup: case SYS_sync:
        return unseen(number, a, -1);
    case SYS_mmap: return unseen(number, a, (int)a[4]);
    case SYS_copy_file_range: case SYS_splice: return unseen(number, a, (int)a[2]);
    case SYS_sendfile: case SYS_fallocate: case SYS_sync_file_range: case SYS_syncfs: case SYS_pwritev2:
        return unseen(number, a, (int)a[0]);
    default: die("an unexpected call is trapped", BROKEN_EXIT); return -ENOSYS;
    }
}

static void trapped(int signal, siginfo_t *info, void *context) {
    (void)signal;
    ucontext_t *user = context;
#if defined(__x86_64__)
    greg_t *r = user->uc_mcontext.gregs;
    long args[6] = {r[REG_RDI], r[REG_RSI], r[REG_RDX], r[REG_R10], r[REG_R8], r[REG_R9]};
    r[REG_RAX] = dispatch(info->si_syscall, args);
#else
    unsigned long long *r = user->uc_mcontext.regs;
    long args[6] = {(long)r[0], (long)r[1], (long)r[2], (long)r[3], (long)r[4], (long)r[5]};
    r[0] = (unsigned long long)dispatch(info->si_syscall, args);
#endif
}

#define LOW(field) (offsetof(struct seccomp_data, field))
#define ALLOW BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
#define TRAP BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP)
#define LOAD(offset) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (offset))
/* Traps one call, by its number in the accumulator. */
#define ON(number) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (number), 0, 1), TRAP
/* Traps one call when an argument has one of these bits. */
#define ON_BITS(number, arg, bits) \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (number), 0, 4), LOAD(LOW(args[arg])), \
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, (bits), 0, 1), TRAP, ALLOW

static void filter(void) {
    uint64_t from = (uint64_t)(uintptr_t)shim_called;
    struct sock_filter program[] = {
        LOAD(LOW(instruction_pointer)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)from, 0, 3),
        LOAD(LOW(instruction_pointer) + 4),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(from >> 32), 0, 1),
        ALLOW,
        LOAD(LOW(nr)),
        /* A shared map that can be written to. */
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 0, 8),
        LOAD(LOW(args[2])),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, PROT_WRITE, 0, 5),
        LOAD(LOW(args[3])),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, MAP_ANONYMOUS, 3, 0),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, MAP_SHARED, 0, 2),
        TRAP,
        ALLOW,
        ALLOW,
        ON_BITS(SYS_openat, 2, O_CREAT | O_TRUNC),
#ifdef SYS_open
        ON_BITS(SYS_open, 1, O_CREAT | O_TRUNC),
        ON(SYS_creat), ON(SYS_rename), ON(SYS_unlink), ON(SYS_rmdir), ON(SYS_mkdir), ON(SYS_link), ON(SYS_symlink),
#endif
#ifdef SYS_renameat
        ON(SYS_renameat),
#endif
        ON(SYS_write), ON(SYS_pwrite64), ON(SYS_writev), ON(SYS_pwritev), ON(SYS_pwritev2), ON(SYS_openat2),
        ON(SYS_ftruncate), ON(SYS_truncate), ON(SYS_fallocate), ON(SYS_fsync), ON(SYS_fdatasync), ON(SYS_sync),
        ON(SYS_syncfs), ON(SYS_sync_file_range), ON(SYS_renameat2), ON(SYS_unlinkat), ON(SYS_mkdirat), ON(SYS_linkat),
        ON(SYS_symlinkat), ON(SYS_copy_file_range), ON(SYS_sendfile), ON(SYS_splice), ON(SYS_io_uring_setup),
        ALLOW,
    };
    struct sock_fprog all = {sizeof program / sizeof program[0], program};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &all) != 0)
        die("this system allows no seccomp filter", BROKEN_EXIT);
}

static const char *given(const char *name) {
    const char *value = getenv(name);
    return value ? value : "";
}

__attribute__((constructor)) static void set_up(void) {
    const char *of = given("SHIM_FOLDER"), *log = given("SHIM_LOG"), *kill = given("SHIM_KILL"), *how = given("SHIM_FAULT");
    folder_length = strlen(of);
    if (folder_length == 0 || folder_length >= PATH_BYTES) die("SHIM_FOLDER names no folder", BROKEN_EXIT);
    strcpy(folder, of);
    int fd = open(given("SHIM_STATE"), O_RDWR | O_CLOEXEC);
    state = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd < 0 || state == MAP_FAILED) die("SHIM_STATE cannot be mapped", BROKEN_EXIT);
    close(fd);
    if (*log && (log_fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644)) < 0)
        die("SHIM_LOG cannot be opened", BROKEN_EXIT);
    at = strtoull(given("SHIM_AT"), NULL, 10);
    kill_at = !strcmp(kill, "before") ? BEFORE : !strcmp(kill, "after") ? AFTER : NO_KILL;
    fault = !strcmp(how, "eio") ? EIO_FAULT : !strcmp(how, "enospc") ? ENOSPC_FAULT
        : !strcmp(how, "short") ? SHORT : !strcmp(how, "torn") ? TORN
        : !strcmp(how, "sync") ? SYNC_FAULT : NO_FAULT;
    goes_on = *given("SHIM_ON") == '1';
    state->here = 0;
    state->loaded++;
    struct sigaction action = {.sa_sigaction = trapped, .sa_flags = SA_SIGINFO};
    sigfillset(&action.sa_mask);
    sigaction(SIGSYS, &action, NULL);
    filter();
}
