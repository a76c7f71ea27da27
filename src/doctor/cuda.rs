use super::{Finding, Mark};
use crate::error::human;
use crate::upload::{Gpu, Toolkit, driver_version, gpus, toolkit};

/// Major and minor version of CUDA.
type Version = (i32, i32);

/// The driver and its devices, and what compiles kernels for them.
pub(super) fn findings() -> Vec<Finding> {
    let (mut findings, driver) = match gpus() {
        Ok(gpus) => {
            let driver = driver_version();
            (driver_and_devices(driver, &gpus), driver)
        }
        Err(error) => (vec![Finding::missing("CUDA driver", &error)], None),
    };
    findings.push(match toolkit() {
        Ok(toolkit) => kernels(&toolkit, driver),
        Err(error) => Finding::missing("CUDA kernels", &error),
    });
    findings
}

fn driver_and_devices(driver: Option<Version>, gpus: &[Gpu]) -> Vec<Finding> {
    let found = driver.map_or("of an unknown version".to_owned(), |(major, minor)| format!("for CUDA {major}.{minor}"));
    let driver = Finding::ok("CUDA driver", found);
    if gpus.is_empty() {
        let found = format!("{}, without a device", driver.found);
        return vec![Finding { mark: Mark::Missing, found, ..driver }.next("check it with nvidia-smi")];
    }
    let device =
        |(i, gpu): (usize, &Gpu)| Finding::ok(format!("cuda:{i}"), format!("{}, {}", gpu.name, human(gpu.memory)));
    std::iter::once(driver).chain(gpus.iter().enumerate().map(device)).collect()
}

/// Kernels are compiled to PTX, which a driver older than their compiler may refuse.
fn kernels(toolkit: &Toolkit, driver: Option<Version>) -> Finding {
    let (major, minor) = toolkit.nvrtc;
    let found = format!("libnvrtc {major}.{minor}, headers in {}", toolkit.headers.display());
    match driver.filter(|driver| toolkit.nvrtc > *driver) {
        Some((major, minor)) => Finding::note("CUDA kernels", format!("{found}: newer than the driver, may not load"))
            .next(format!("update the driver, or install the toolkit of CUDA {major}.{minor}")),
        None => Finding::ok("CUDA kernels", found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compiler_newer_than_the_driver_is_noted() {
        let toolkit = Toolkit { nvrtc: (12, 9), headers: "/usr/local/cuda/include".into() };
        assert_eq!(kernels(&toolkit, Some((12, 8))).mark, Mark::Note);
        assert_eq!(kernels(&toolkit, Some((13, 0))).mark, Mark::Ok);
        assert_eq!(kernels(&toolkit, None).mark, Mark::Ok);
    }
}
