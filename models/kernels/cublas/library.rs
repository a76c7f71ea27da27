use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use cudarc::cublaslt::{result, sys};

use super::turns::Turns;

/// Bytes that a product may use beside its operands.
pub(in super::super) const WORKSPACE: usize = 32 << 20;

/// A product's sizes in cuBLASLt's words, which count columns: `d [m, n] = aᵀ [m, k] · b [k, n]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Shape {
    pub(super) dtype: sys::cudaDataType,
    pub(super) m: u64,
    pub(super) n: u64,
    pub(super) k: u64,
    /// From a column of `d` to the next.
    pub(super) width: u64,
    pub(super) bias: bool,
}

/// cuBLASLt on one device.
pub(super) struct Library {
    pub(super) handle: sys::cublasLtHandle_t,
    pub(super) turns: Turns,
    /// What the library has said suits a shape best.
    pub(super) algorithms: HashMap<Shape, sys::cublasLtMatmulAlgo_t>,
}

// SAFETY: the handles may be used from any thread in whose context they were made, one thread at a time.
unsafe impl Send for Library {}

impl Library {
    /// The one of a device; `None` where the system has no cuBLASLt.
    pub(super) fn of(device: usize) -> Option<Arc<Mutex<Self>>> {
        type Devices = Mutex<HashMap<usize, Option<Arc<Mutex<Library>>>>>;
        static DEVICES: OnceLock<Devices> = OnceLock::new();
        let mut devices = DEVICES.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
        devices.entry(device).or_insert_with(|| Self::open(device).map(|library| Arc::new(Mutex::new(library)))).clone()
    }

    fn open(device: usize) -> Option<Self> {
        // SAFETY: loading the library runs its initialisers and nothing else.
        if !unsafe { sys::is_culib_present() } {
            return None;
        }
        // It leaves the device's context current, for the handle.
        let turns = Turns::new(device)?;
        // A version that lacks a function panics where it is first called.
        let handle = std::panic::catch_unwind(result::create_handle).ok()?.ok()?;
        Some(Self { handle, turns, algorithms: HashMap::new() })
    }
}
