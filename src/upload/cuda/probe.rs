//! What of CUDA there is, asked so that nothing panics where something is missing.

use std::path::PathBuf;

use cudarc::driver::result::{self, device};
use cudarc::{driver, nvrtc};

use super::failed;
use crate::error::{Error, Result};

/// A CUDA device.
#[derive(Debug, Clone)]
pub(crate) struct Gpu {
    pub(crate) name: String,
    /// Bytes of its memory.
    pub(crate) memory: u64,
}

/// What compiles kernels.
#[derive(Debug, Clone)]
pub(crate) struct Toolkit {
    /// Major and minor version of libnvrtc.
    pub(crate) nvrtc: (i32, i32),
    /// Where its headers lie.
    pub(crate) headers: PathBuf,
}

/// The devices that the driver knows.
pub(crate) fn gpus() -> Result<Vec<Gpu>> {
    // SAFETY: looks for a library and calls nothing in it.
    if !unsafe { driver::sys::is_culib_present() } {
        return Err(missing("the NVIDIA driver (libcuda)", "install it, or run with --device cpu"));
    }
    result::init().map_err(failed)?;
    let gpu = |ordinal| {
        let device = device::get(ordinal).map_err(failed)?;
        // SAFETY: the device is valid.
        let memory = unsafe { device::total_mem(device) }.map_err(failed)? as u64;
        Ok(Gpu { name: device::get_name(device).map_err(failed)?, memory })
    };
    (0..device::get_count().map_err(failed)?).map(gpu).collect()
}

/// Major and minor version of the newest CUDA that the driver knows; asked only where `gpus` has found it.
pub(crate) fn driver_version() -> Option<(i32, i32)> {
    let mut version = 0;
    // SAFETY: the driver is present; it writes one number.
    unsafe { driver::sys::cuDriverGetVersion(&raw mut version) }.result().ok()?;
    Some((version / 1000, version % 1000 / 10))
}

/// libnvrtc and the headers that kernels are compiled with.
pub(crate) fn toolkit() -> Result<Toolkit> {
    // SAFETY: looks for a library and calls nothing in it.
    if !unsafe { nvrtc::sys::is_culib_present() } {
        return Err(missing("libnvrtc", "install the CUDA toolkit, or add its lib64 to LD_LIBRARY_PATH"));
    }
    let headers = cubecl::cuda::install::cuda_path().map(|path| path.join("include"));
    let Some(headers) = headers.filter(|path| path.join("cuda_runtime.h").is_file()) else {
        let next = "install them (package cuda-cudart-dev), and set CUDA_PATH to the directory that holds include/";
        return Err(missing("CUDA's headers (include/cuda_runtime.h)", next));
    };
    let mut version = (0, 0);
    // SAFETY: the library is present; it writes two numbers.
    unsafe { nvrtc::sys::nvrtcVersion(&raw mut version.0, &raw mut version.1) };
    Ok(Toolkit { nvrtc: version, headers })
}

/// Whether device `index` can compute.
pub(super) fn check(index: usize) -> Result<()> {
    let gpus = gpus()?;
    match gpus.len() {
        0 => return Err(missing("a CUDA device", "run with --device cpu")),
        count if index >= count => {
            let found = format!("cuda:{index}");
            return Err(Error::Name { what: "device", found, expected: format!("cuda:0 to cuda:{}", count - 1) });
        }
        _ => {}
    }
    toolkit().map(drop)
}

fn missing(what: &'static str, next: &'static str) -> Error {
    Error::NoCuda { what, next }
}
