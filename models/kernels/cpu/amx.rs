use std::arch::asm;
use std::arch::x86_64::__cpuid_count;
use std::sync::LazyLock;

use super::entry::Entry;
use super::tile::Tile;

/// Rows of weights that are multiplied at a time: two registers of tiles.
pub(super) const OUTPUTS: usize = 2 * ROWS;

/// Rows of a register of tiles, and entries of each row.
const ROWS: usize = 16;

/// Bytes of a row.
const ROW: usize = 64;

/// Whether the CPU multiplies tiles of bf16, and the system lets this process.
pub(super) fn is_usable() -> bool {
    static IS_USABLE: LazyLock<bool> = LazyLock::new(|| {
        // Bits of the CPU's features: AMX-BF16, AMX-TILE.
        let tiles = 1 << 22 | 1 << 24;
        __cpuid_count(7, 0).edx & tiles == tiles && are_permitted()
    });
    *IS_USABLE
}

/// Asks for tiles, which Linux gives on demand: they take 8 KiB of each thread's state.
#[cfg(target_os = "linux")]
fn are_permitted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    // SAFETY: the call takes two numbers, and changes nothing but what this process may do, and how small a stack for its
    // signals may be from now on; where one is too small for tiles, it is refused.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn are_permitted() -> bool {
    false
}

/// What `ldtilecfg` reads: palette 1, and all eight registers of full size.
#[repr(C, align(64))]
struct Config {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

static CONFIG: Config = {
    let (mut row_bytes, mut rows) = ([0; 16], [0; 16]);
    let mut i = 0;
    while i < 8 {
        (row_bytes[i], rows[i]) = (ROW as u16, ROWS as u8);
        i += 1;
    }
    Config { palette: 1, start_row: 0, reserved: [0; 14], row_bytes, rows }
};

/// Adds the products of [`OUTPUTS`] rows of weights and one or two groups of columns to their sums: as a register of
/// inputs wants it, each row of a group has the pairs of 16 columns.
///
/// # Safety
/// [`is_usable`], entries are pairs, `depth` is a multiple of 16, a group has 16 columns, and the pointers of `tile` point
/// to as many entries as its fields say; nothing else refers to the sums.
pub(super) unsafe fn tile<E: Entry>(tile: Tile<E>) {
    let Tile { weights, weights_stride, depth, x, group, width, sums, sums_stride } = tile;
    debug_assert!(depth.is_multiple_of(ROWS), "whole tiles of {depth} entries");
    let steps = depth / ROWS;
    if steps == 0 {
        return;
    }
    // SAFETY: all that is read and written lies where the caller says; registers are given back as they were, unused.
    unsafe {
        let (lower, lower_sums) = (weights.add(ROWS * weights_stride), sums.add(ROWS * sums_stride));
        // Adds the products along the depth: what is loaded before, what each step does, and what is stored at the end.
        macro_rules! multiply {
            ([$($load:literal)*] [$($step:literal)*] [$($store:literal)*] $($operand:tt)*) => {
                asm!(
                    "ldtilecfg [{config}]",
                    $($load,)*
                    "2:",
                    $($step,)*
                    "add {x}, 1024",
                    "add {weights}, 64",
                    "add {lower}, 64",
                    "dec {steps}",
                    "jnz 2b",
                    $($store,)*
                    "tilerelease",
                    config = in(reg) &CONFIG,
                    sums = in(reg) sums,
                    lower_sums = in(reg) lower_sums,
                    sums_stride = in(reg) sums_stride * size_of::<f32>(),
                    x = inout(reg) x => _,
                    row = in(reg) ROW,
                    weights = inout(reg) weights => _,
                    lower = inout(reg) lower => _,
                    weights_stride = in(reg) weights_stride * size_of::<E>(),
                    steps = inout(reg) steps => _,
                    $($operand)*
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack),
                )
            };
        }
        if width == 1 {
            multiply!(
                ["tileloadd tmm0, [{sums} + {sums_stride}]"
                 "tileloadd tmm2, [{lower_sums} + {sums_stride}]"]
                ["tileloadd tmm6, [{x} + {row}]"
                 "tileloadd tmm4, [{weights} + {weights_stride}]"
                 "tdpbf16ps tmm0, tmm4, tmm6"
                 "tileloadd tmm5, [{lower} + {weights_stride}]"
                 "tdpbf16ps tmm2, tmm5, tmm6"]
                ["tilestored [{sums} + {sums_stride}], tmm0"
                 "tilestored [{lower_sums} + {sums_stride}], tmm2"]
            );
        } else {
            multiply!(
                ["tileloadd tmm0, [{sums} + {sums_stride}]"
                 "tileloadd tmm1, [{sums} + {sums_stride} + 64]"
                 "tileloadd tmm2, [{lower_sums} + {sums_stride}]"
                 "tileloadd tmm3, [{lower_sums} + {sums_stride} + 64]"]
                ["tileloadd tmm6, [{x} + {row}]"
                 "tileloadd tmm4, [{weights} + {weights_stride}]"
                 "tdpbf16ps tmm0, tmm4, tmm6"
                 "tileloadd tmm7, [{next_x} + {row}]"
                 "tdpbf16ps tmm1, tmm4, tmm7"
                 "tileloadd tmm5, [{lower} + {weights_stride}]"
                 "tdpbf16ps tmm2, tmm5, tmm6"
                 "tdpbf16ps tmm3, tmm5, tmm7"
                 "add {next_x}, 1024"]
                ["tilestored [{sums} + {sums_stride}], tmm0"
                 "tilestored [{sums} + {sums_stride} + 64], tmm1"
                 "tilestored [{lower_sums} + {sums_stride}], tmm2"
                 "tilestored [{lower_sums} + {sums_stride} + 64], tmm3"]
                next_x = inout(reg) x.add(group) => _,
            );
        }
    }
}
