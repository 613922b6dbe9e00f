/* A guest without a kernel, for tests of VMMs on machines where a stock kernel takes too long.
 *
 * It boots by PVH (QEMU, Firecracker 1.12 and later) in 32-bit protected mode, prints one line on the first serial port and
 * then serves it. Each byte it reads is echoed. A line is a command:
 *
 *   id        the boot id again: the time-stamp counter at boot, so it differs after each boot and survives a snapshot
 *   count     add one to a counter in memory and print it
 *   fill N    write to each page of N MiB
 *   flood N   print N KiB
 *   crash     triple fault
 *   reset     reset through the keyboard controller
 *
 * With `nqr.canary` on its command line it says that it booted, as an image's initrd does, and ends. With `nqr.halt` it says
 * that it is ready and halts for good: the port is polled, so each other guest takes a whole processor.
 * Ctrl-Alt-Del from the keyboard controller (Firecracker) and the ACPI power button (QEMU q35) end it.
 */

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

enum { COM1 = 0x3f8, KEYBOARD_DATA = 0x60, KEYBOARD_STATUS = 0x64, PM1_STATUS = 0x600, PM1_ENABLE = 0x602, PM1_CONTROL = 0x604 };
enum { POWER_BUTTON = 1 << 8, SLEEP_ENABLE = 1 << 13, DELETE_IN_SET_1 = 0x53, DELETE_IN_SET_2 = 0x71 };

/* PVH: Xen's note of type 18 (XEN_ELFNOTE_PHYS32_ENTRY) holds the 32-bit entry. */
__asm__(".section .note.pvh, \"a\", @note\n"
        ".align 4\n.long 4, 4, 18\n.asciz \"Xen\"\n.long entry\n"
        ".text\n.globl entry\nentry:\n"
        "cli\nmov $stack_top, %esp\npush %ebx\ncall serve\n"
        ".bss\n.align 16\n.skip 16384\nstack_top:\n.text\n");

static inline u8 in8(u16 port) { u8 value; __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port)); return value; }
static inline u16 in16(u16 port) { u16 value; __asm__ volatile("inw %1, %0" : "=a"(value) : "Nd"(port)); return value; }
static inline void out8(u16 port, u8 value) { __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port)); }
static inline void out16(u16 port, u16 value) { __asm__ volatile("outw %0, %1" : : "a"(value), "Nd"(port)); }

static u64 boot_id;
static u32 counter;
static char line[80];
static u32 length;

static void put(char one) {
    while (!(in8(COM1 + 5) & 0x20)) { }
    out8(COM1, (u8)one);
}

static void print(const char *text) {
    for (; *text; text++) put(*text);
}

static void print_hex(u64 value) {
    for (int shift = 60; shift >= 0; shift -= 4) put("0123456789abcdef"[(value >> shift) & 15]);
}

static void print_number(u32 value) {
    char digits[11];
    int at = 10;
    digits[at] = 0;
    do digits[--at] = (char)('0' + value % 10); while (value /= 10);
    print(digits + at);
}

static int is(const char *word) { /* the length of `word`, when the line begins with it */
    u32 at = 0;
    for (; word[at]; at++) if (line[at] != word[at]) return 0;
    return (int)at;
}

static u32 number(int at) {
    u32 value = 0;
    for (; line[at] >= '0' && line[at] <= '9'; at++) value = value * 10 + (u32)(line[at] - '0');
    return value;
}

static void reset(void) {
    out8(KEYBOARD_STATUS, 0xfe);
    for (;;) __asm__ volatile("hlt");
}

static void crash(void) { /* an interrupt without a table of interrupts */
    static const struct { u16 limit; u32 base; } __attribute__((packed)) none = { 0, 0 };
    __asm__ volatile("lidt %0\nint $3" : : "m"(none));
}

static void obey(void) {
    int at;
    line[length] = 0;
    length = 0;
    if (is("id")) {
        print("boot ");
        print_hex(boot_id);
    } else if (is("count")) {
        print("counter ");
        print_number(++counter);
    } else if ((at = is("fill "))) {
        u32 mib = number(at);
        for (u32 page = 0; page < mib * 256; page++) *(volatile u32 *)(0x2000000 + page * 4096) = page;
        print("filled ");
        print_number(mib);
    } else if ((at = is("flood "))) {
        for (u32 left = number(at) * 1024; left; left--) put(left % 64 ? 'x' : '\n');
        print("flooded");
    } else if ((at = is("end "))) { /* as the init of a guest that ran the process of a container */
        print("nqr-init: ended with code ");
        print_number(number(at));
        print("\r\n");
        reset();
    } else if (is("crash")) {
        crash();
    } else if (is("reset")) {
        reset();
    } else {
        print("what?");
    }
    print("\r\n");
}

static void look_at_buttons(void) {
    if (in8(KEYBOARD_STATUS) & 1) {
        u8 key = in8(KEYBOARD_DATA);
        if (key == DELETE_IN_SET_1 || key == DELETE_IN_SET_2) {
            print("ctrl-alt-del\r\n");
            reset();
        }
    }
    u16 status = in16(PM1_STATUS);
    if (status != 0xffff && (status & POWER_BUTTON)) {
        print("power button\r\n");
        out16(PM1_STATUS, POWER_BUTTON);
        out16(PM1_CONTROL, SLEEP_ENABLE);
    }
}

struct start_info { u32 magic, version, flags, modules; u64 module_list, command_line; }; /* hvm_start_info of PVH */

static int is_told(const struct start_info *info, const char *word) {
    const char *text = (const char *)(u32)info->command_line;
    if (info->magic != 0x336ec578 || !text) return 0;
    for (; *text; text++) {
        u32 at = 0;
        while (word[at] && text[at] == word[at]) at++;
        if (!word[at]) return 1;
    }
    return 0;
}

void serve(const struct start_info *info) {
    u32 low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    boot_id = (u64)high << 32 | low;
    out8(KEYBOARD_STATUS, 0x60); /* the next byte is the command byte: keyboard interrupts on */
    out8(KEYBOARD_DATA, 1);
    out16(PM1_ENABLE, POWER_BUTTON);
    if (is_told(info, "nqr.canary")) {
        print("NQR-CANARY-BOOTED\r\n");
        reset();
    }
    print("bare guest is ready, boot ");
    print_hex(boot_id);
    print("\r\n");
    while (is_told(info, "nqr.halt")) __asm__ volatile("cli\nhlt");
    for (;;) {
        if (!(in8(COM1 + 5) & 1)) {
            look_at_buttons();
            continue;
        }
        char one = (char)in8(COM1);
        if (one == '\r' || one == '\n') {
            print("\r\n");
            if (length) obey();
        } else if (length < sizeof line - 1) {
            put(one);
            line[length++] = one;
        }
    }
}
